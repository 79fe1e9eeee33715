/* reduce.c - reductions over the middle axis of (outer, n, inner), softmax and its kin.
 *
 * Sums are taken in fixed blocks: inside a block with vector lanes, across blocks in
 * double and in order. The cut depends on the sizes only, so the bits do not depend
 * on the number of threads. */
#include <math.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"
#include "kernel/cpu/vmath.h"

enum { BLOCK = 1024, SERIAL = 1 << 15, STRIP = 64, PARTS = 1024 };

/* --- a dense run of n values to one number --- */

/* Lanes by hand: the error and the bits are those of LANES short sums, whatever the compiler makes of it. */
enum { LANES = 32 };

static double add_lanes(const real *lane, int64_t rest, const real *x, bool squared) {
  double s = 0;
  for (int l = 0; l < LANES; l++) s += (double)lane[l];
  for (int64_t i = 0; i < rest; i++) s += squared ? (double)x[i] * (double)x[i] : (double)x[i];
  return s;
}

static double block_sum(int64_t n, const real *x) {
  real lane[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += x[i + l];
  return add_lanes(lane, n - i, x + i, false);
}

static double block_sumsq(int64_t n, const real *x) {
  real lane[LANES] = {0};
  int64_t i = 0;
  for (; i + LANES <= n; i += LANES)
    for (int l = 0; l < LANES; l++) lane[l] += x[i + l] * x[i + l];
  return add_lanes(lane, n - i, x + i, true);
}

static double block_max(int64_t n, const real *x) {
  real m = x[0];
  for (int64_t i = 1; i < n; i++) m = x[i] > m || x[i] != x[i] ? x[i] : m;
  return m;
}

static double block_min(int64_t n, const real *x) {
  real m = x[0];
  for (int64_t i = 1; i < n; i++) m = x[i] < m || x[i] != x[i] ? x[i] : m;
  return m;
}

static double block_prod(int64_t n, const real *x) {
  double p = 1;
  for (int64_t i = 0; i < n; i++) p *= (double)x[i];
  return p;
}

static double block_of(Reduce op, int64_t n, const real *x) {
  switch (op) {
    case R_SUM: return block_sum(n, x);
    case R_SUMSQ: return block_sumsq(n, x);
    case R_MAX: return block_max(n, x);
    case R_MIN: return block_min(n, x);
    default: return block_prod(n, x);
  }
}

static double join(Reduce op, double a, double b) {
  switch (op) {
    case R_MAX: return b > a || b != b ? b : a;
    case R_MIN: return b < a || b != b ? b : a;
    case R_PROD: return a * b;
    default: return a + b;
  }
}

static double run_of(Reduce op, int64_t n, const real *x) {
  if (n == 0) return op == R_PROD ? 1 : op == R_MAX ? -INFINITY : op == R_MIN ? INFINITY : 0;
  double r = block_of(op, n < BLOCK ? n : BLOCK, x);
  for (int64_t i = BLOCK; i < n; i += BLOCK) r = join(op, r, block_of(op, n - i < BLOCK ? n - i : BLOCK, x + i));
  return r;
}

/* A long run, cut into at most PARTS pieces that threads share; pieces are joined in order. */
static double long_run(Reduce op, int64_t n, const real *x) {
  if (n == 0) return run_of(op, 0, x);
  int64_t piece = (n + PARTS - 1) / PARTS;
  piece = (piece + 4 * BLOCK - 1) / (4 * BLOCK) * (4 * BLOCK);
  int64_t pieces = (n + piece - 1) / piece;
  double part[PARTS];
#pragma omp parallel for schedule(static) if (n > SERIAL)
  for (int64_t i = 0; i < pieces; i++) part[i] = run_of(op, n - i * piece < piece ? n - i * piece : piece, x + i * piece);
  double r = part[0];
  for (int64_t i = 1; i < pieces; i++) r = join(op, r, part[i]);
  return r;
}

static int64_t index_of(Reduce op, int64_t n, int64_t step, const real *x) {
  int64_t best = 0;
  for (int64_t i = 1; i < n; i++) {
    real a = x[i * step], b = x[best * step];
    if (b != b) break; /* the first NaN wins, as in max */
    if (a != a || (op == R_ARGMAX ? a > b : a < b)) best = i;
  }
  return best;
}

/* --- the general case: strips of the inner axis, each summed down n in double --- */

static void strip(Reduce op, int64_t n, int64_t inner, int64_t width, const real *x, real *y) {
  double a[STRIP];
  for (int64_t j = 0; j < width; j++) a[j] = op == R_PROD ? 1 : op == R_MAX ? -INFINITY : op == R_MIN ? INFINITY : 0;
  for (int64_t i = 0; i < n; i++, x += inner) {
    switch (op) {
      case R_SUM:
        for (int64_t j = 0; j < width; j++) a[j] += (double)x[j];
        break;
      case R_SUMSQ:
        for (int64_t j = 0; j < width; j++) a[j] += (double)x[j] * (double)x[j];
        break;
      default:
        for (int64_t j = 0; j < width; j++) a[j] = join(op, a[j], x[j]);
    }
  }
  for (int64_t j = 0; j < width; j++) y[j] = (real)a[j];
}

void K(reduce)(Reduce op, int64_t outer, int64_t n, int64_t inner, const void *x_, void *y_) {
  const real *x = x_;
  real *y = y_;
  bool parallel = outer * n * inner > SERIAL;
  if (op == R_ARGMAX || op == R_ARGMIN) {
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t i = 0; i < outer * inner; i++) y[i] = (real)index_of(op, n, inner, x + i / inner * n * inner + i % inner);
  } else if (inner == 1 && outer < 8) {
    for (int64_t i = 0; i < outer; i++) y[i] = (real)long_run(op, n, x + i * n);
  } else if (inner == 1) {
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t i = 0; i < outer; i++) y[i] = (real)run_of(op, n, x + i * n);
  } else {
    int64_t strips = (inner + STRIP - 1) / STRIP;
#pragma omp parallel for schedule(static) if (parallel)
    for (int64_t i = 0; i < outer * strips; i++) {
      int64_t from = i % strips * STRIP, row = i / strips;
      strip(op, n, inner, inner - from < STRIP ? inner - from : STRIP, x + row * n * inner + from, y + row * inner + from);
    }
  }
}

void K(cumsum)(int64_t outer, int64_t n, int64_t inner, const void *x_, void *y_, bool reverse) {
  const real *x = x_;
  real *y = y_;
#pragma omp parallel for schedule(static) if (outer * n * inner > SERIAL)
  for (int64_t c = 0; c < outer * inner; c++) {
    int64_t at = c / inner * n * inner + c % inner;
    double s = 0;
    for (int64_t i = 0; i < n; i++) {
      int64_t k = at + (reverse ? n - 1 - i : i) * inner;
      s += (double)x[k];
      y[k] = (real)s;
    }
  }
}

double K(dot)(int64_t n, const void *x_, const void *y_) {
  const real *x = x_, *y = y_;
  int64_t piece = ((n + PARTS - 1) / PARTS + BLOCK - 1) / BLOCK * BLOCK;
  int64_t pieces = piece ? (n + piece - 1) / piece : 0;
  double part[PARTS], total = 0;
#pragma omp parallel for schedule(static) if (n > SERIAL)
  for (int64_t i = 0; i < pieces; i++) {
    int64_t end = (i + 1) * piece < n ? (i + 1) * piece : n;
    double s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t j = i * piece; j < end; j++) s += (double)x[j] * (double)y[j];
    part[i] = s;
  }
  for (int64_t i = 0; i < pieces; i++) total += part[i];
  return total;
}

bool K(all_finite)(int64_t n, const void *x_) {
  const real *x = x_;
  int bad = 0;
#pragma omp parallel for schedule(static) reduction(| : bad) if (n > SERIAL)
  for (int64_t i = 0; i < n; i++) bad |= !(x[i] - x[i] == 0);
  return !bad;
}

/* --- rows of n --- */

static real row_max(int64_t n, const real *x) {
  real m = x[0];
#pragma omp simd reduction(max : m)
  for (int64_t i = 0; i < n; i++) m = x[i] > m ? x[i] : m;
  return m;
}

/* sum of exp(x - shift), a block of BLOCK at a time */
static double row_expsum(int64_t n, const real *x, real shift) {
  double total = 0;
  for (int64_t from = 0; from < n; from += BLOCK) {
    int64_t end = from + BLOCK < n ? from + BLOCK : n;
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = from; i < end; i++) s += real_exp(x[i] - shift);
    total += (double)s;
  }
  return total;
}

void K(logsumexp)(int64_t rows, int64_t n, const void *x_, void *y_) {
  const real *x = x_;
  real *y = y_;
#pragma omp parallel for schedule(static) if (rows * n > SERIAL / 4)
  for (int64_t r = 0; r < rows; r++) {
    real m = row_max(n, x + r * n);
    if (!(m - m == 0)) m = m > 0 ? m : 0; /* all -inf: log 0; +inf stays */
    y[r] = (real)((double)m + log(row_expsum(n, x + r * n, m)));
  }
}

void K(softmax)(int64_t rows, int64_t n, const void *x_, void *y_) {
  const real *x = x_;
  real *y = y_;
#pragma omp parallel for schedule(static) if (rows * n > SERIAL / 4)
  for (int64_t r = 0; r < rows; r++) {
    const real *a = x + r * n;
    real *b = y + r * n, m = row_max(n, a), f = (real)(1 / row_expsum(n, a, m));
#pragma omp simd
    for (int64_t i = 0; i < n; i++) b[i] = real_exp(a[i] - m) * f;
  }
}

void K(softmax_backward)(int64_t rows, int64_t n, const void *y_, const void *dy_, void *dx_) {
  const real *y = y_, *dy = dy_;
  real *dx = dx_;
#pragma omp parallel for schedule(static) if (rows * n > SERIAL)
  for (int64_t r = 0; r < rows; r++) {
    const real *p = y + r * n, *g = dy + r * n;
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int64_t i = 0; i < n; i++) s += p[i] * g[i];
#pragma omp simd
    for (int64_t i = 0; i < n; i++) dx[r * n + i] = p[i] * (g[i] - s);
  }
}

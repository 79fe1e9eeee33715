/* loss.c - softmax and cross-entropy in one, so that no second array of logits exists.
 *
 * The forward pass keeps one number a row, the log-sum-exp; the backward pass makes
 * the probabilities from it again, and may write over the logits. Rows with a negative
 * target do not count. The mean is summed in double, in row order. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/vmath.h"

enum { CHUNK = 512 }; /* columns that stay in the first-level cache between their maximum and their sum */

static real chunk_max(int64_t n, const real *x) {
  real m = x[0];
#pragma omp simd reduction(max : m)
  for (int64_t j = 0; j < n; j++) m = x[j] > m ? x[j] : m;
  return m;
}

/* sum of e^(x - m) */
static real chunk_sum(int64_t n, const real *x, real m) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) sum += real_exp(x[j] - m);
  return sum;
}

/* One pass over memory: the sum so far is scaled down whenever a chunk brings a larger maximum. */
static real row_logsumexp(int64_t n, const real *x) {
  real m = -INFINITY, sum = 0;
  for (int64_t c = 0; c < n; c += CHUNK) {
    int64_t width = n - c < CHUNK ? n - c : CHUNK;
    real top = chunk_max(width, x + c);
    if (top > m) sum *= real_exp(m - top), m = top;
    sum += chunk_sum(width, x + c, m == -INFINITY ? 0 : m); /* a chunk of -inf alone adds nothing */
  }
  return m == -INFINITY ? (sum == 0 ? m : sum) : m + real_log(sum); /* all -inf, or NaN */
}

double K(cross_entropy)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, void *lse_, int64_t *counted) {
  const real *x = logits;
  real *lse = lse_;
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) lse[i] = row_logsumexp(n, x + i * n);
  double total = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < rows; i++) {
    if (targets[i] < 0) continue;
    total += (double)lse[i] - (double)x[i * n + targets[i]];
    count++;
  }
  *counted = count;
  return count ? total / (double)count : 0;
}

void K(cross_entropy_backward)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse_, double scale_,
                               void *dlogits) {
  const real *logit = logits, *lse = lse_;
  const real scale = (real)scale_;
  real *dlogit = dlogits;
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) {
    const real *x = logit + i * n, z = lse[i];
    real *dx = dlogit + i * n;
    const real factor = targets[i] < 0 ? 0 : scale;
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dx[j] = factor * real_exp(x[j] - z);
    if (targets[i] < 0) for (int64_t j = 0; j < n; j++) dx[j] = 0; /* also where the logits are not finite */
    else dx[targets[i]] -= scale;
  }
}

/* The probabilities p of a row to out, which may be x; returns sum p dl. Never inlined, so that all who call it get the same bits. */
static __attribute__((noinline)) real row_probabilities(int64_t n, const real *x, real z, const real *dl, real *out) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) {
    real p = real_exp(x[j] - z);
    out[j] = p;
    sum += dl ? p * dl[j] : 0;
  }
  return sum;
}

/* One row of the tangent. The probabilities wait in out between the two loops. */
static void row_tangent(int64_t n, const real *x, real z, int32_t target, const real *dl, real scale, real dscale, real *out) {
  const real sum = row_probabilities(n, x, z, dl, out);
  if (dl) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) out[j] *= scale * (dl[j] - sum) + dscale;
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) out[j] *= dscale;
  }
  out[target] -= dscale;
}

void K(cross_entropy_backward_tangent)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse_,
                                       const void *dl_, double scale, double dscale, void *out_) {
  const real *logit = logits, *lse = lse_, *dl = dl_;
  real *out = out_;
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) {
    real *o = out + i * n;
    if (targets[i] < 0) for (int64_t j = 0; j < n; j++) o[j] = 0;
    else row_tangent(n, logit + i * n, lse[i], targets[i], dl ? dl + i * n : NULL, (real)scale, (real)dscale, o);
  }
}

/* A row of both: the probabilities wait where the gradient goes, which may be the logits' own place; the tangent takes that of dl. */
static void row_pair(int64_t n, const real *x, real z, int32_t target, real *dl, real scale, real dscale, real *dx) {
  const real sum = row_probabilities(n, x, z, dl, dx);
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    dl[j] = dx[j] * (scale * (dl[j] - sum) + dscale);
    dx[j] *= scale;
  }
  dl[target] -= dscale;
  dx[target] -= scale;
}

void K(cross_entropy_pair)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse_, double scale, double dscale,
                           void *dlogits, void *dl_) {
  const real *lse = lse_, *logit = logits;
  real *dlogit = dlogits, *dl = dl_;
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) {
    real *dx = dlogit + i * n, *d = dl + i * n;
    if (targets[i] < 0) for (int64_t j = 0; j < n; j++) dx[j] = d[j] = 0;
    else row_pair(n, logit + i * n, lse[i], targets[i], d, (real)scale, (real)dscale, dx);
  }
}

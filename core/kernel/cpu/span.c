/* span.c - a vector against a list of vectors: inner products with all of them, and the sum of multiples of them.
 *
 * What Gram-Schmidt needs (curvature/basis.lua). As products of a flat matrix and a vector these are far below
 * the rate of memory, which is the limit here: each vector is read once. The cut into parts depends on the
 * length alone and parts are added in order, so the bits do not depend on the number of threads. */
#include "kernel/cpu/cpu.h"

enum { PARTS = 1024, BATCH = 16, LENGTH = 1024, SERIAL = 1 << 15 };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Four sums at a time over [from, to): x is read once for all, and the sums do not wait for each other. */
static void four_sums(int64_t from, int64_t to, const real *const q[4], const real *x, double *sum) {
  const real *a = q[0], *b = q[1], *c = q[2], *d = q[3];
  double s = 0, t = 0, u = 0, v = 0;
#pragma omp simd reduction(+ : s, t, u, v)
  for (int64_t i = from; i < to; i++) {
    const double y = (double)x[i];
    s += (double)a[i] * y, t += (double)b[i] * y, u += (double)c[i] * y, v += (double)d[i] * y;
  }
  sum[0] = s, sum[1] = t, sum[2] = u, sum[3] = v;
}

/* The last vectors of a list: what is missing to four is the last one again. */
static void pick_four(int64_t count, const void *const *q, const real *four[4]) {
  for (int64_t k = 0; k < 4; k++) four[k] = q[least(k, count - 1)];
}

/* At most BATCH vectors. */
static void products_of(int64_t count, int64_t n, const void *const *q, const real *x, double *c) {
  const int64_t part = ((n + PARTS - 1) / PARTS + LENGTH - 1) / LENGTH * LENGTH, parts = part ? (n + part - 1) / part : 0;
  double sums[PARTS][BATCH];
#pragma omp parallel for schedule(static) if (n > SERIAL)
  for (int64_t p = 0; p < parts; p++)
    for (int64_t k = 0; k < count; k += 4) {
      const real *four[4];
      pick_four(count - k, q + k, four);
      four_sums(p * part, least(n, (p + 1) * part), four, x, sums[p] + k);
    }
  for (int64_t k = 0; k < count; k++) c[k] = 0;
  for (int64_t p = 0; p < parts; p++)
    for (int64_t k = 0; k < count; k++) c[k] += sums[p][k];
}

void K(inner_products)(int64_t count, int64_t n, const void *const *q, const void *x, double *c) {
  for (int64_t k = 0; k < count; k += BATCH) products_of(least(BATCH, count - k), n, q + k, x, c + k);
}

/* sum += c[0] q[0] + ... over m elements from `at`, four vectors a pass */
static void add_four(int64_t at, int64_t m, const real *const q[4], const double c[4], double *sum) {
  const real *a = q[0] + at, *b = q[1] + at, *d = q[2] + at, *e = q[3] + at;
  const double c0 = c[0], c1 = c[1], c2 = c[2], c3 = c[3];
#pragma omp simd
  for (int64_t i = 0; i < m; i++) sum[i] += (c0 * (double)a[i] + c1 * (double)b[i]) + (c2 * (double)d[i] + c3 * (double)e[i]);
}

/* Elements [at, at + m) of x, m at most LENGTH: summed in double and rounded once. */
static void combine_part(int64_t count, int64_t at, int64_t m, const void *const *q, const double *c, real *x) {
  double sum[LENGTH];
  for (int64_t i = 0; i < m; i++) sum[i] = (double)x[at + i];
  for (int64_t k = 0; k < count; k += 4) {
    const real *four[4];
    double by[4] = {0};
    pick_four(count - k, q + k, four);
    for (int64_t j = 0; j < least(4, count - k); j++) by[j] = c[k + j];
    add_four(at, m, four, by, sum);
  }
  for (int64_t i = 0; i < m; i++) x[at + i] = (real)sum[i];
}

void K(combine)(int64_t count, int64_t n, const void *const *q, const double *c, void *x) {
#pragma omp parallel for schedule(static) if (n > SERIAL)
  for (int64_t at = 0; at < n; at += LENGTH) combine_part(count, at, least(LENGTH, n - at), q, c, x);
}

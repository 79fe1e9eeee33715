/* scan.c - the linear recurrence along time, y_t = a_t y_{t-1} + b_t, and the same backwards,
 * y_t = a_{t+1} y_{t+1} + b_t. Each column is a chain; what is parallel are the columns, taken
 * in slabs that stay in cache from one time to the next. */
#include "kernel/cpu/cpu.h"

enum { SLAB = 512 };

/* One slab of width columns; rows lie `stride` elements apart. */
static void chain(int64_t n, int64_t width, int64_t stride, const real *a, const real *b, real *y, bool backward) {
  for (int64_t i = 0; i < n; i++) {
    int64_t t = backward ? n - 1 - i : i, from = backward ? t + 1 : t - 1, factor = backward ? t + 1 : t;
    const real *bt = b + t * stride;
    real *yt = y + t * stride;
    if (i == 0) {
      for (int64_t c = 0; c < width; c++) yt[c] = bt[c];
      continue;
    }
    const real *af = a + factor * stride, *before = y + from * stride;
#pragma omp simd
    for (int64_t c = 0; c < width; c++) yt[c] = af[c] * before[c] + bt[c];
  }
}

void K(scan)(int64_t outer, int64_t n, int64_t inner, const void *a_, const void *b_, void *y_, bool backward) {
  const real *a = a_, *b = b_;
  real *y = y_;
#pragma omp parallel for collapse(2) if (outer * n * inner > PARALLEL_GRAIN)
  for (int64_t o = 0; o < outer; o++)
    for (int64_t c = 0; c < inner; c += SLAB) {
      int64_t at = o * n * inner + c;
      chain(n, inner - c < SLAB ? inner - c : SLAB, inner, a + at, b + at, y + at, backward);
    }
}

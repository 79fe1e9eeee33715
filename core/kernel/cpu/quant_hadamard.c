/* quant_hadamard.c - fast Hadamard transform of blocks of each row.
 * A block of odd * 2^k values is seen as (odd, 2^k): butterflies along the second axis, then the
 * small dense matrix along the first. Scaled by 1/sqrt(block), so that the transform is orthogonal. */
#include <string.h>

#include "kernel/cpu/quant.h"

enum { LARGEST = 512, STRIP = 16 };

static void butterflies(int64_t n, real *x) {
  for (int64_t h = 1; h < n; h *= 2)
    for (int64_t i = 0; i < n; i += 2 * h)
      for (int64_t j = i; j < i + h; j++) {
        real a = x[j], b = x[j + h];
        x[j] = a + b;
        x[j + h] = a - b;
      }
}

/* y[a'] = sum_a x[a] base[a][a'] along the first axis of (m, n); transposed: base[a'][a]. */
static void mix(int64_t m, int64_t n, const int8_t *base, bool transpose, real *x) {
  real y[LARGEST][STRIP];
  for (int64_t from = 0; from < n; from += STRIP) {
    int64_t width = n - from < STRIP ? n - from : STRIP;
    memset(y, 0, (size_t)m * sizeof *y);
    for (int64_t a = 0; a < m; a++)
      for (int64_t b = 0; b < m; b++) {
        real sign = (real)(transpose ? base[b * m + a] : base[a * m + b]);
        for (int64_t j = 0; j < width; j++) y[b][j] += sign * x[a * n + from + j];
      }
    for (int64_t b = 0; b < m; b++)
      for (int64_t j = 0; j < width; j++) x[b * n + from + j] = y[b][j];
  }
}

/* The same for n = 1, where a strip would hold a single value: vectors run along the matrix. */
static void mix_one(int64_t m, const int8_t *base, bool transpose, real *x) {
  real y[LARGEST] = {0};
  for (int64_t a = 0; a < m; a++) {
    const int8_t *row = base + a * m;
    if (transpose) {
      real sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t b = 0; b < m; b++) sum += (real)row[b] * x[b];
      y[a] = sum;
    } else {
      real value = x[a];
#pragma omp simd
      for (int64_t b = 0; b < m; b++) y[b] += (real)row[b] * value;
    }
  }
  memcpy(x, y, (size_t)m * sizeof *y);
}

void K(quant_hadamard)(int64_t rows, int64_t cols, int64_t block, int64_t odd, const int8_t *base, bool transpose, const void *x, void *y) {
  int64_t blocks = block ? cols / block : 0, n = block / odd;
  real scale = 1 / real_sqrt((real)block);
#pragma omp parallel for schedule(static) if (rows * cols > PARALLEL_GRAIN / 4)
  for (int64_t k = 0; k < rows * blocks; k++) {
    const real *from = (const real *)x + k * block;
    real *to = (real *)y + k * block;
    for (int64_t i = 0; i < block; i++) to[i] = from[i] * scale;
    for (int64_t a = 0; a < odd; a++) butterflies(n, to + a * n);
    if (base && n == 1) mix_one(odd, base, transpose, to);
    else if (base) mix(odd, n, base, transpose, to);
  }
}

/* quant_hessian.c - the Hessian of a layer, copied to double and reordered for the factorisation. */
#include "kernel/cpu/quant.h"

void K(quant_diagonal)(int64_t n, const void *h, double *d) {
  for (int64_t i = 0; i < n; i++) d[i] = ((const real *)h)[i * n + i];
}

void K(quant_reverse)(int64_t n, const void *h, const int32_t *order, const double *d, double add, double *out) {
#pragma omp parallel for schedule(dynamic, 16) if (n * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i++) {
    const real *row = (const real *)h + (int64_t)order[n - 1 - i] * n;
    double *to = out + i * n;
    for (int64_t j = 0; j < i; j++) to[j] = row[order[n - 1 - j]];
    to[i] = d[order[n - 1 - i]] + add;
  }
}

void K(quant_permute)(int64_t n, const void *h, const int32_t *order, double *out) {
#pragma omp parallel for schedule(static) if (n * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i++) {
    const real *row = (const real *)h + (int64_t)order[i] * n;
    for (int64_t j = 0; j < n; j++) out[i * n + j] = row[order[j]];
  }
}

void K(quant_cast_rows)(int64_t rows, int64_t cols, const double *x, int64_t ld, void *y) {
#pragma omp parallel for schedule(static) if (rows * cols > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++)
    for (int64_t j = 0; j < cols; j++) ((real *)y)[i * cols + j] = (real)x[i * ld + j];
}

void K(quant_reverse_cast)(int64_t n, const double *x, void *y) {
  real *to = y;
#pragma omp parallel for simd schedule(static) if (n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i++) to[i] = (real)x[n - 1 - i];
}

void K(quant_gather_columns)(int64_t rows, int64_t cols, const void *x, int64_t ldx, const int32_t *order, void *y, int64_t ldy) {
#pragma omp parallel for schedule(static) if (rows * cols > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) {
    const real *from = (const real *)x + i * ldx;
    real *to = (real *)y + i * ldy;
    for (int64_t j = 0; j < cols; j++) to[j] = order[j] < 0 ? 0 : from[order[j]];
  }
}

/* gemm.h - the matrix product of this folder; see gemm.c. */
#ifndef quench_kernel_gemm_h
#define quench_kernel_gemm_h

#include "kernel/cpu/real.h"

/* C (m x n) = alpha op(A) (m x k) op(B) (k x n) + beta C, row-major; beta 0 overwrites C, NaN included.
 * Then, where not NULL, + bias (n) in each row, + add (m x n). */
typedef struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k, lda, ldb, ldc;
  double alpha, beta;
  const void *a, *b;
  void *c;
  const void *bias, *add;
  int64_t ld_add;
  bool bf16; /* f32 only: operands are rounded to bf16 (bf16.c) */
} Product;

/* Adds bias and add to a block of C that has just been made. */
static inline void product_finish(const Product *p, const void *bias, const void *add, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  for (int64_t r = i; r < i + rows && (bias || add); r++) {
    real *c = (real *)p->c + r * p->ldc + j;
    const real *b = (const real *)bias + (bias ? j : 0), *a = (const real *)add + (add ? r * p->ld_add + j : 0);
    if (bias && add) {
#pragma omp simd
      for (int64_t x = 0; x < columns; x++) c[x] = c[x] + b[x] + a[x]; /* in the order of the separate ops: the same bits */
    } else if (bias) {
#pragma omp simd
      for (int64_t x = 0; x < columns; x++) c[x] += b[x];
    } else {
#pragma omp simd
      for (int64_t x = 0; x < columns; x++) c[x] += a[x];
    }
  }
}

void K(product)(const Product *p); /* k >= 1; with all threads, or alone inside a parallel region */

#endif

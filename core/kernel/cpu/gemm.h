/* gemm.h - the matrix product of this folder; see gemm.c. */
#ifndef quench_kernel_gemm_h
#define quench_kernel_gemm_h

#include "kernel/cpu/real.h"

/* C (m x n) = alpha op(A) (m x k) op(B) (k x n) + beta C, row-major; beta 0 overwrites C, NaN included. */
typedef struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k, lda, ldb, ldc;
  double alpha, beta;
  const void *a, *b;
  void *c;
} Product;

void K(product)(const Product *p); /* k >= 1; with all threads, or alone inside a parallel region */

#endif

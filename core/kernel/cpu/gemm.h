/* gemm.h - the matrix product of this folder; see gemm.c. */
#ifndef quench_kernel_gemm_h
#define quench_kernel_gemm_h

#include "kernel/cpu/real.h"
#include "kernel/kernel.h"

/* C (m x n) = alpha op(A) (m x k) op(B) (k x n) + beta C, row-major; beta 0 overwrites C, NaN included.
 * Then, where not NULL, + bias (n) in each row, + add (m x n), and what Gemm says of activated and turn. */
typedef struct Product {
  bool transpose_a, transpose_b;
  int64_t m, n, k, lda, ldb, ldc;
  double alpha, beta;
  const void *a, *b;
  void *c;
  const void *bias, *add;
  int64_t ld_add;
  Unary activation;
  void *activated; /* where not NULL: the activation of C, laid out as C */
  const Turn *turn;
  bool bf16; /* f32 only: operands are rounded to bf16 (bf16.c) */
  bool lower; /* m = n, and of C only the lower triangle is wanted; what is above may be changed */
} Product;

/* What joins C in its output pass, for a block that has just been made: its columns are whole groups of heads where heads turn (product.c). */
void K(product_finish)(const Product *p, int64_t i, int64_t rows, int64_t j, int64_t columns);

/* Columns to make at a time, `most` but for whole groups of heads. */
static inline int64_t product_chunk(const Product *p, int64_t most) {
  const int64_t period = p->turn ? p->turn->width * p->turn->group : 1;
  return most / period * period;
}

/* Activation f of a row of n values (activation.c), and rotary positions on `columns` values of a row (rotary.c). */
void K(activation_row)(Unary f, int64_t n, const void *x, void *y);
void K(turn_row)(const Turn *t, int64_t row, int64_t columns, void *x);

/* to[k * width + c] = from[c * ld + k] for `columns` values of c, zeros up to width, a multiple of vectors (gemm.c). */
void K(pack_transposed)(int64_t kc, int64_t columns, int64_t width, const real *from, int64_t ld, real *to);

void K(product)(const Product *p); /* k >= 1; with all threads, or alone inside a parallel region */

#endif

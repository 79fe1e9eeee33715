/* product.c - matrix products through OpenBLAS.
 *
 * A batch of small products runs one product a thread (OpenBLAS, built for OpenMP,
 * stays on one thread inside a parallel region); large ones run one after the other
 * with all threads in each. */
#include <cblas.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"

enum { SMALL = 1 << 18 }; /* multiply-adds: below this OpenBLAS gains nothing from threads */

static void scale(real *c, int64_t m, int64_t n, int64_t ld, real beta) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) c[i * ld + j] = beta == 0 ? 0 : beta * c[i * ld + j];
}

static void one(const Gemm *g, int64_t index) {
  const real *a = (const real *)g->a + index * g->batch_a, *b = (const real *)g->b + index * g->batch_b;
  real *c = (real *)g->c + index * g->batch_c;
  if (g->k == 0) {
    scale(c, g->m, g->n, g->ldc, (real)g->beta);
    return;
  }
#if REAL_BITS == 32
  cblas_sgemm
#else
  cblas_dgemm
#endif
    (CblasRowMajor, g->transpose_a ? CblasTrans : CblasNoTrans, g->transpose_b ? CblasTrans : CblasNoTrans, (int)g->m, (int)g->n, (int)g->k,
     (real)g->alpha, a, (int)g->lda, b, (int)g->ldb, (real)g->beta, c, (int)g->ldc);
}

void K(gemm)(const Gemm *g) {
  if (g->m == 0 || g->n == 0) return;
  int64_t work = g->m * g->n * g->k;
  if (g->batch > 1 && (work < 4 * SMALL || g->batch >= 16)) {
#pragma omp parallel for schedule(static) if (work * g->batch > SMALL)
    for (int64_t i = 0; i < g->batch; i++) one(g, i);
  } else {
    for (int64_t i = 0; i < g->batch; i++) one(g, i);
  }
}

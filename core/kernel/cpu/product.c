/* product.c - the matrix products of the table, one or a batch.
 *
 * A batch of small products runs one product a thread; large ones run one after the
 * other with all threads in each. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"

enum { SMALL = 1 << 20 }; /* multiply-adds: a smaller product is not shared by several threads if there are others */

static void scale(real *c, int64_t m, int64_t n, int64_t ld, real beta) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) c[i * ld + j] = beta == 0 ? 0 : beta * c[i * ld + j];
}

static void one(const Gemm *g, int64_t index) {
  real *c = (real *)g->c + index * g->batch_c;
  if (g->k == 0) {
    scale(c, g->m, g->n, g->ldc, (real)g->beta);
    product_finish(&(Product){.c = c, .ldc = g->ldc, .ld_add = g->ld_add}, g->bias, g->add, 0, g->m, 0, g->n);
    return;
  }
  const Product p = {.transpose_a = g->transpose_a, .transpose_b = g->transpose_b, .m = g->m, .n = g->n, .k = g->k,
                     .lda = g->lda, .ldb = g->ldb, .ldc = g->ldc, .alpha = g->alpha, .beta = g->beta,
                     .a = (const real *)g->a + index * g->batch_a, .b = (const real *)g->b + index * g->batch_b, .c = c,
                     .bias = g->bias, .add = g->add, .ld_add = g->ld_add, .bf16 = precision_get() == PRECISION_BF16};
  K(product)(&p);
}

void K(gemm)(const Gemm *g) {
  if (g->m == 0 || g->n == 0) return;
  int64_t work = g->m * g->n * g->k;
  if (g->batch > 1 && (work < SMALL || g->batch >= 16)) {
#pragma omp parallel for schedule(static) if (work * g->batch > PARALLEL_GRAIN)
    for (int64_t i = 0; i < g->batch; i++) one(g, i);
  } else {
    for (int64_t i = 0; i < g->batch; i++) one(g, i);
  }
}

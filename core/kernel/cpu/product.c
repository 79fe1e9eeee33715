/* product.c - the matrix products of the table, one or a batch.
 *
 * A batch of small products runs one product a thread; large ones run one after the
 * other with all threads in each. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"
#include "kernel/workspace.h"

enum { SMALL = 1 << 20 }; /* multiply-adds: a smaller product is not shared by several threads if there are others */

static void scale(real *c, int64_t m, int64_t n, int64_t ld, real beta) {
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) c[i * ld + j] = beta == 0 ? 0 : beta * c[i * ld + j];
}

/* ---- what joins a product in its output pass, in the order of the separate ops: the same bits ---- */

static void add_row(int64_t n, const real *bias, const real *add, real *c) {
  if (bias && add) {
#pragma omp simd
    for (int64_t x = 0; x < n; x++) c[x] = c[x] + bias[x] + add[x];
  } else if (bias || add) {
    const real *a = bias ? bias : add;
#pragma omp simd
    for (int64_t x = 0; x < n; x++) c[x] += a[x];
  }
}

void K(product_finish)(const Product *p, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  if (!p->bias && !p->add && !p->activated && !p->turn) return;
  for (int64_t r = i; r < i + rows; r++) {
    const int64_t at = r * p->ldc + j;
    real *c = (real *)p->c + at;
    add_row(columns, p->bias ? (const real *)p->bias + j : NULL, p->add ? (const real *)p->add + r * p->ld_add + j : NULL, c);
    if (p->activated) K(activation_row)(p->activation, columns, c, (real *)p->activated + at);
    if (p->turn) K(turn_row)(p->turn, r, columns, c);
  }
}

static void one(const Gemm *g, int64_t index) {
  real *c = (real *)g->c + index * g->batch_c;
  const Product p = {.transpose_a = g->transpose_a, .transpose_b = g->transpose_b, .m = g->m, .n = g->n, .k = g->k,
                     .lda = g->lda, .ldb = g->ldb, .ldc = g->ldc, .alpha = g->alpha, .beta = g->beta,
                     .a = (const real *)g->a + index * g->batch_a, .b = (const real *)g->b + index * g->batch_b, .c = c,
                     .bias = g->bias, .add = g->add, .ld_add = g->ld_add, .activation = g->activation, .activated = g->activated, .turn = g->turn,
                     .bf16 = precision_get() == PRECISION_BF16, .lower = g->lower};
  if (g->k == 0) {
    scale(c, g->m, g->n, g->ldc, (real)g->beta);
    K(product_finish)(&p, 0, g->m, 0, g->n);
    return;
  }
  K(product)(&p);
}

void K(gemm)(const Gemm *g) {
  if (g->m == 0 || g->n == 0) return;
  int64_t work = g->m * g->n * g->k;
  if (g->batch > 1 && (work < SMALL || g->batch >= 16)) {
#pragma omp parallel for schedule(static) num_threads(workspace_threads()) if (work * g->batch > PARALLEL_GRAIN)
    for (int64_t i = 0; i < g->batch; i++) one(g, i);
  } else {
    for (int64_t i = 0; i < g->batch; i++) one(g, i);
  }
}

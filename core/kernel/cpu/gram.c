/* gram.c - the product of a matrix with its own transpose, at little more than half the
 * work of a general product: bands of rows up to their diagonal, then the lower triangle
 * copied across in tiles that fit the first cache. The bits do not depend on the number of threads. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"

enum { BAND = 128, TILE = 32 };

/* Copies tile (i0, j0) of the lower triangle to its mirror place. */
static void mirror_tile(real *c, int64_t n, int64_t i0, int64_t j0) {
  int64_t i1 = i0 + TILE < n ? i0 + TILE : n;
  for (int64_t i = i0; i < i1; i++) {
    int64_t j1 = j0 + TILE < i ? j0 + TILE : i;
    for (int64_t j = j0; j < j1; j++) c[j * n + i] = c[i * n + j];
  }
}

void K(gram)(bool transpose, int64_t n, int64_t k, double alpha, const void *a, double beta, void *c) {
  int64_t ld = transpose ? n : k;
  for (int64_t i = 0; i < n; i += BAND) {
    int64_t rows = i + BAND < n ? BAND : n - i;
    const Product p = {.transpose_a = transpose, .transpose_b = !transpose, .m = rows, .n = i + rows, .k = k, .lda = ld, .ldb = ld, .ldc = n,
                       .alpha = alpha, .beta = beta, .a = (const real *)a + (transpose ? i : i * ld), .b = a, .c = (real *)c + i * n};
    K(product)(&p);
  }
#pragma omp parallel for schedule(dynamic) if (n * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i += TILE)
    for (int64_t j = 0; j <= i; j += TILE) mirror_tile(c, n, i, j);
}

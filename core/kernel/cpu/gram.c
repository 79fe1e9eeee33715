/* gram.c - the product of a matrix with its own transpose, at half the work of a
 * general product: BLAS fills the lower triangle, which is then copied across in
 * tiles that fit the first cache. */
#include <cblas.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"

enum { TILE = 32 };

/* Copies tile (i0, j0) of the lower triangle to its mirror place. */
static void mirror_tile(real *c, int64_t n, int64_t i0, int64_t j0) {
  int64_t i1 = i0 + TILE < n ? i0 + TILE : n;
  for (int64_t i = i0; i < i1; i++) {
    int64_t j1 = j0 + TILE < i ? j0 + TILE : i;
    for (int64_t j = j0; j < j1; j++) c[j * n + i] = c[i * n + j];
  }
}

void K(gram)(bool transpose, int64_t n, int64_t k, double alpha, const void *a, double beta, void *c) {
  BLAS(syrk)(CblasRowMajor, CblasLower, transpose ? CblasTrans : CblasNoTrans, (int)n, (int)k, (real)alpha, a, (int)(transpose ? n : k),
             (real)beta, c, (int)n);
#pragma omp parallel for schedule(dynamic) if (n * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i += TILE)
    for (int64_t j = 0; j <= i; j += TILE) mirror_tile(c, n, i, j);
}

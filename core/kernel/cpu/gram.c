/* gram.c - the product of a matrix with its own transpose, at little more than half the
 * work of a general product: the lower triangle (gemm.c), then copied across in tiles that
 * fit the first cache. The bits do not depend on the number of threads. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"
#include "kernel/cpu/vector.h"

enum { TILE = 32 };

/* The VL x VL numbers at (i, j), below the diagonal, to their mirror place: through registers, since rows of a power of
 * two of bytes share one set of the cache. */
static void mirror_vectors(real *c, int64_t n, int64_t i, int64_t j) {
  vec r[VL];
#pragma GCC unroll 16
  for (int x = 0; x < (int)VL; x++) r[x] = *(const vec_any *)(c + (i + x) * n + j);
  transpose(r);
#pragma GCC unroll 16
  for (int x = 0; x < (int)VL; x++) *(vec_any *)(c + (j + x) * n + i) = r[x];
}

/* Copies tile (i0, j0) of the lower triangle to its mirror place. */
static void mirror_tile(real *c, int64_t n, int64_t i0, int64_t j0) {
  if (i0 + TILE <= n && j0 < i0) {
    for (int64_t i = i0; i < i0 + TILE; i += VL)
      for (int64_t j = j0; j < j0 + TILE; j += VL) mirror_vectors(c, n, i, j);
    return;
  }
  int64_t i1 = i0 + TILE < n ? i0 + TILE : n;
  for (int64_t i = i0; i < i1; i++) {
    int64_t j1 = j0 + TILE < i ? j0 + TILE : i;
    for (int64_t j = j0; j < j1; j++) c[j * n + i] = c[i * n + j];
  }
}

void K(gram)(bool transpose, int64_t n, int64_t k, double alpha, const void *a, double beta, void *c) {
  const int64_t ld = transpose ? n : k;
  const Product p = {.transpose_a = transpose, .transpose_b = !transpose, .m = n, .n = n, .k = k, .lda = ld, .ldb = ld, .ldc = n, .lower = true,
                     .alpha = alpha, .beta = beta, .a = a, .b = a, .c = c};
  if (n && k) K(product)(&p);
#pragma omp parallel for schedule(dynamic) if (n * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i += TILE)
    for (int64_t j = 0; j <= i; j += TILE) mirror_tile(c, n, i, j);
}

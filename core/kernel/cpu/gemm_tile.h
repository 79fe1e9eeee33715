/* gemm_tile.h - the kernels of gemm.c, for it and for what lays out its operands itself (attention): one definition of the
 * order of summation and of rounding, so the same bits whoever calls them. */
#ifndef quench_kernel_gemm_tile_h
#define quench_kernel_gemm_tile_h

#include "kernel/cpu/vector.h"

#if defined(__AVX512F__)
enum { MR = 8, NV = 3 }; /* 24 of 32 registers hold the tile */
#define IF_8(...) __VA_ARGS__
#else
enum { MR = 4, NV = 3 }; /* 12 of 16 */
#define IF_8(...)
#endif

enum { NR = NV * VL };

/* What a call of the kernel works on: a[i, k] = a[i rs + k cs], rows of B bs apart. */
typedef struct Step {
  int64_t kc;
  const real *a;
  int64_t rs, cs;
  const real *b;
  int64_t bs;
  real alpha, beta;
  real *c;
  int64_t ldc;
} Step;

/* rows (at most MR) x n of C = alpha A B + beta C by the kernels; A along its rows (cs = 1), or across, columns of A dense
 * (rs = 1). B lies in place and is read in whole vectors. */
void K(strip)(const Step *s, bool across, int64_t rows, int64_t n);

#endif

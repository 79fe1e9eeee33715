/* real.h - the element type of the kernels in this folder.
 *
 * Every file here is compiled once with REAL_BITS=32 and once with 64. `real` is
 * the element type and K(name) the name of a kernel with that type in it:
 * K(softmax) is cpu_f32_softmax or cpu_f64_softmax. Code that differs between the
 * two writes REAL(single, double). */
#ifndef quench_kernel_real_h
#define quench_kernel_real_h

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifndef REAL_BITS
#error "files that include cpu/real.h are compiled with -DREAL_BITS=32 or 64"
#endif

#if REAL_BITS == 32
typedef float real;
#define REAL(single, double_) single
#define REAL_TAG f32
#else
typedef double real;
#define REAL(single, double_) double_
#define REAL_TAG f64
#endif

#define K_JOIN(tag, name) cpu_##tag##_##name
#define K_NAME(tag, name) K_JOIN(tag, name)
#define K(name) K_NAME(REAL_TAG, name)

#define REAL_EPS REAL(FLT_EPSILON, DBL_EPSILON)
#define REAL_MAX REAL(FLT_MAX, DBL_MAX)
#define REAL_NAME REAL("f32", "f64")

/* The library's functions of the element type; they compile to one instruction. */
static inline real real_sqrt(real x) { return REAL(sqrtf, sqrt)(x); }
static inline real real_abs(real x) { return REAL(fabsf, fabs)(x); }
static inline real real_max(real a, real b) { return a > b ? a : b; } /* b where a is NaN */
static inline real real_min(real a, real b) { return a < b ? a : b; }

/* BLAS of the element type: BLAS(gemm) is cblas_sgemm or cblas_dgemm. */
#define BLAS(name) REAL(cblas_s##name, cblas_d##name)

/* Work below this many elements is not worth a parallel region (measured: a region
 * costs about as much as streaming 16 KiB; docs/performance.md). */
enum { PARALLEL_GRAIN = 16384 };

/* A reduction is cut into blocks of this many elements whatever the thread count. */
enum { REDUCE_BLOCK = 4096 };

#endif

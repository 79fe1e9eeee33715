/* vector.h - the widest vectors of the processor that is compiled for, as gcc and clang
 * offer them in plain C (no intrinsics): vec holds VL numbers, arithmetic is by element. */
#ifndef quench_kernel_vector_h
#define quench_kernel_vector_h

#include "kernel/cpu/real.h"

#if defined(__AVX512F__)
enum { VECTOR = 64 };
#elif defined(__AVX__)
enum { VECTOR = 32 };
#else
enum { VECTOR = 16 };
#endif

enum { VL = VECTOR / sizeof(real) };

typedef real vec __attribute__((vector_size(VECTOR)));
typedef real vec_any __attribute__((vector_size(VECTOR), aligned(sizeof(real)), may_alias)); /* at any address */

#endif

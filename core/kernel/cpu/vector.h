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

#ifndef __clang__
typedef REAL(int32_t, int64_t) lanes __attribute__((vector_size(VECTOR)));
#endif

/* a0 b0 a1 b1 ... from element `from` of each on */
static inline __attribute__((always_inline)) vec interleave(vec a, vec b, int from) {
#ifdef __clang__
  vec t;
#pragma GCC unroll 16
  for (int i = 0; i < (int)VL; i++) t[i] = i % 2 ? b[from + i / 2] : a[from + i / 2];
  return t;
#else
  lanes pick;
#pragma GCC unroll 16
  for (int i = 0; i < (int)VL; i++) pick[i] = from + i / 2 + i % 2 * (int)VL;
  return __builtin_shuffle(a, b, pick);
#endif
}

/* Transposes VL vectors: each round interleaves the first half of the rows with the second. */
static inline __attribute__((always_inline)) void transpose(vec *r) {
#pragma GCC unroll 4
  for (int round = 1; round < (int)VL; round *= 2) {
    vec t[VL];
#pragma GCC unroll 8
    for (int i = 0; i < (int)VL / 2; i++) {
      t[2 * i] = interleave(r[i], r[i + VL / 2], 0);
      t[2 * i + 1] = interleave(r[i], r[i + VL / 2], (int)VL / 2);
    }
#pragma GCC unroll 16
    for (int i = 0; i < (int)VL; i++) r[i] = t[i];
  }
}

#endif

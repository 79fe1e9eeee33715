/* bf16.h - products with bf16 operands on any processor; see bf16.c. */
#ifndef quench_kernel_bf16_h
#define quench_kernel_bf16_h

#include "kernel/cpu/gemm.h"

#if REAL_BITS == 32
#if defined(__SSE__)
#include <xmmintrin.h>
#endif

/* Denormal operands and results count as zero from here on, on x86; what was before is given back with the latter. */
static inline unsigned flush_denormals(void) {
#if defined(__SSE__)
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);
  return before;
#else
  return 0;
#endif
}
static inline void restore_denormals(unsigned before) {
#if defined(__SSE__)
  _mm_setcsr(before);
#else
  (void)before;
#endif
}

float bf16_round(float x); /* to nearest even, as a float; NaN stays NaN */
/* Rows [i0, i1) and columns [j0, j1) of the product, by the calling thread. */
void bf16_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1);

/* How a sum joins C over one range of k: from_c: it starts from C; plain: it is stored as it is. */
typedef struct Scaling {
  float alpha, beta;
  bool from_c, plain;
} Scaling;

/* begins: the range of k is the first. */
static inline Scaling scaling_of(const Product *p, bool begins) {
  Scaling s = {.alpha = (float)p->alpha, .beta = begins ? (float)p->beta : 1};
  s.from_c = s.alpha == 1 && s.beta == 1;
  s.plain = s.from_c || (s.alpha == 1 && s.beta == 0);
  return s;
}

/* c = alpha sum + beta c, each product rounded: fused, the bits would hang on which of them the compiler fuses. sum is used up. */
static inline void scaled_rows(Scaling s, int64_t rows, int64_t columns, float *sum, int64_t width, float *c, int64_t ldc) {
  for (int64_t r = 0; r < rows; r++)
    for (int64_t x = 0; x < columns; x++) {
      sum[r * width + x] *= s.alpha;
      c[r * ldc + x] = s.beta == 0 ? 0 : s.beta * c[r * ldc + x];
    }
  __asm__ volatile("" ::"r"(sum), "r"(c) : "memory"); /* both are read back as they were rounded */
  for (int64_t r = 0; r < rows; r++)
    for (int64_t x = 0; x < columns; x++) c[r * ldc + x] += sum[r * width + x];
}
#endif

#endif

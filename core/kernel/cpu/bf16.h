/* bf16.h - products with bf16 operands on any processor; see bf16.c. */
#ifndef quench_kernel_bf16_h
#define quench_kernel_bf16_h

#include "kernel/cpu/gemm.h"

#if REAL_BITS == 32
float bf16_round(float x); /* to nearest even, as a float; NaN stays NaN */
/* Rows [i0, i1) and columns [j0, j1) of the product, by the calling thread. */
void bf16_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
#endif

#endif

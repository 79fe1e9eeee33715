/* dot.h - bf16 products by the dot instruction of AVX-512 BF16; see dot.c. */
#ifndef quench_kernel_dot_h
#define quench_kernel_dot_h

#include "kernel/cpu/gemm.h"

#if REAL_BITS == 32
bool dot_available(void); /* the processor has the instruction and the system keeps its registers */
/* Rows [i0, i1) and columns [j0, j1) of the product, by the calling thread. */
void dot_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
#endif

#endif

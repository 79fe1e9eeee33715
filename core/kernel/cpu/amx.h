/* amx.h - products on bf16 tiles; see amx.c. */
#ifndef quench_kernel_amx_h
#define quench_kernel_amx_h

#include "kernel/cpu/gemm.h"

#if REAL_BITS == 32
bool amx_available(void); /* the processor has the tiles and the system lets us use them */
bool amx_for_f32(void);   /* and f32 products shall take them, too */
/* Rows [i0, i1) and columns [j0, j1) of the product, by the calling thread: at f32 accuracy, or with bf16 operands. */
void amx_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
void amx_part_bf16(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
#endif

#endif

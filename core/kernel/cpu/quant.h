/* quant.h - prototypes of the CPU's quantization kernels, for the element type of real.h;
 * quant_table.c fills the table of each type from them. kernel/quant.h says what each does. */
#ifndef quench_kernel_cpu_quant_h
#define quench_kernel_cpu_quant_h

#include "kernel/cpu/real.h"
#include "kernel/quant.h"

extern const QuantKernels K(quant_kernels);

/* quant_params.c */
void K(quant_params)(const Format *f, double unit, const Groups *g, const void *w, void *scale, void *zero);

/* quant_scales.c */
void K(quant_store_scales)(int64_t n, void *scale, float *extra);
void K(quant_encode_scales)(const Format *f, const float *extra, int64_t n, const void *scale, int32_t *codes);
void K(quant_decode_scales)(const Format *f, const float *extra, int64_t n, const int32_t *codes, void *scale);
void K(quant_encode_zeros)(int64_t n, const void *zero, int base, int32_t *codes);
void K(quant_decode_zeros)(int64_t n, const int32_t *codes, int base, void *zero);

/* quant_apply.c */
void K(quant_round)(const Format *f, const Groups *g, const void *w, const void *scale, const void *zero, const Random *random, void *y,
                    int32_t *codes);
void K(quant_encode)(const Format *f, const Groups *g, const int32_t *slot, const void *y, const void *scale, const void *zero, int base,
                     int32_t *codes);
void K(quant_decode)(const Format *f, const Groups *g, const int32_t *slot, const int32_t *codes, int base, const void *scale, const void *zero, void *y);
void K(quant_inside)(const Format *f, const Groups *g, const void *w, const void *scale, const void *zero, void *mask);
void K(quant_trust)(const Format *f, const Groups *g, double trust, const void *w, const void *q, const void *scale, void *mask);
void K(quant_hadamard)(int64_t rows, int64_t cols, int64_t block, int64_t odd, const int8_t *base, bool transpose, const void *x, void *y);
void K(quant_hqq_step)(const Format *f, const Groups *g, const void *w, const void *scale, void *zero, double p, double beta, double *error);
double K(quant_absmax)(int64_t n, const void *x);
double K(quant_squared_error)(int64_t n, const void *x, const void *y);

/* quant_hessian.c */
void K(quant_diagonal)(int64_t n, const void *h, double *d);
void K(quant_reverse)(int64_t n, const void *h, const int32_t *order, const double *d, double add, double *out);
void K(quant_permute)(int64_t n, const void *h, const int32_t *order, double *out);
void K(quant_cast_rows)(int64_t rows, int64_t cols, const double *x, int64_t ld, void *y);
void K(quant_reverse_cast)(int64_t n, const double *x, void *y);
void K(quant_gather_columns)(int64_t rows, int64_t cols, const void *x, int64_t ldx, const int32_t *order, void *y, int64_t ldy);

/* quant_gptq.c */
void K(quant_gptq_block)(const Format *f, const GptqBlock *b);

#endif

/* parts.h - what the methods of this folder share. */
#ifndef quench_quant_parts_h
#define quench_quant_parts_h

#include "quant/format.h"

/* Real type, at least one axis, no NaN or infinity. */
Status weight_check(const char *op, const Tensor *w);

/* ERR_NUMERIC naming op and what when t holds NaN or infinity. */
Status finite_check(const char *op, const char *what, const Tensor *t);

/* The number that the tensor's block scales are multiples of (two-level formats); 1 for the others. */
double scale_unit(const Format *f, const QuantKernels *k, int64_t n, const void *w);

#endif

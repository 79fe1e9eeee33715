/* parts.h - what the methods of this folder share. */
#ifndef quench_quant_parts_h
#define quench_quant_parts_h

#include "quant/format.h"

/* Real type, at least one axis, no NaN or infinity. */
Status weight_check(const char *op, const Tensor *w);

/* ERR_NUMERIC naming op and what when t holds NaN or infinity. */
Status finite_check(const char *op, const char *what, const Tensor *t);

/* The number that the tensor's block scales are multiples of, as a double and as what is stored (two-level formats; 1 for the
 * others, which store nothing). */
Status scale_unit(const Format *f, const QuantKernels *k, int64_t n, const void *w, double *unit, Tensor **extra);

/* Scales and zero points of all groups of a whole matrix; extra gets what STORE_DYNAMIC8 stores besides. */
Status tensor_scales(const Format *f, const QuantKernels *k, double unit, const Groups *g, const void *w, Tensor *scale, Tensor *zero, Tensor **extra);

/* Mean squared error of value against w; ERR_NUMERIC where a level of the format lies beyond the type's largest number. */
Status value_error(const char *op, const QuantKernels *k, const Tensor *w, const Tensor *value, double *mse);

#endif

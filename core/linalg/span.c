/* span.c - vectors against a list of vectors, in one pass over the list (kernel/cpu/span.c). */
#include "base/mem.h"
#include "kernel/kernel.h"
#include "linalg/linalg.h"

static Status check(const char *what, int count, Tensor *const *q, const Tensor *x) {
  if (!dtype_is_real(x->dtype) || x->ndim != 1 || !tensor_contiguous(x))
    return fail(ERR_SHAPE, "%s: x must be a dense f32 or f64 vector, it is %s %s", what, dtype_name(x->dtype), shape_text(x));
  for (int i = 0; i < count; i++)
    if (q[i]->dtype != x->dtype || !tensor_same_shape(q[i], x) || !tensor_contiguous(q[i]))
      return fail(ERR_SHAPE, "%s: vector %d must be dense and like x, %s %s; it is %s %s", what, i + 1, dtype_name(x->dtype), shape_text(x),
                  dtype_name(q[i]->dtype), shape_text(q[i]));
  return OK;
}

/* Where the vectors lie; to be freed. NULL: no memory. */
static const void **addresses(int count, Tensor *const *q) {
  const void **at = mem_alloc(((size_t)count + 1) * sizeof *at);
  for (int i = 0; at && i < count; i++) at[i] = tensor_data(q[i]);
  return at;
}

Status linalg_inner_products(int count, Tensor *const *q, const Tensor *x, double *c) {
  TRY(check("inner_products", count, q, x));
  const void **at = addresses(count, q);
  if (!at) return error_code();
  kernels_for(x)->inner_products(count, tensor_numel(x), at, tensor_data(x), c);
  mem_free(at);
  return OK;
}

Status linalg_combine(int count, Tensor *const *q, const double *c, Tensor *x) {
  TRY(check("combine", count, q, x));
  const void **at = addresses(count, q);
  if (!at) return error_code();
  kernels_for(x)->combine(count, tensor_numel(x), at, c, tensor_data(x));
  mem_free(at);
  tensor_touch(x);
  return OK;
}

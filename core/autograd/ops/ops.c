/* ops.c - making and recording results; the op table. */
#include "autograd/ops/ops.h"

#include <string.h>

Tensor *op_new(DType d, int ndim, const int64_t *shape) {
  Tensor *t;
  return tensor_new(d, ndim, shape, &t) == OK ? pool_keep(t) : NULL;
}

Tensor *op_new_zeros(DType d, int ndim, const int64_t *shape) {
  Tensor *t;
  return tensor_zeros(d, ndim, shape, &t) == OK ? pool_keep(t) : NULL;
}

Tensor *op_new_like(const Tensor *t) { return op_new(t->dtype, t->ndim, t->shape); }

Tensor *op_new_view(const Tensor *t, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset) {
  Tensor *v;
  return tensor_view(t, ndim, shape, stride, offset, &v) == OK ? pool_keep(v) : NULL;
}

Tensor *op_dense(Tensor *t) {
  if (!t || tensor_contiguous(t)) return t;
  Tensor *dense;
  return tensor_contiguous_copy(t, &dense) == OK ? pool_keep(dense) : NULL;
}

Tensor *op_done(const OpInfo *op, int inputs, Tensor *const *in, Tensor *y, const Attributes *a) {
  return y && graph_record(op, inputs, in, 1, &y, a) == OK ? y : NULL;
}

bool op_check_real(const char *op, const Tensor *t, const char *argument) {
  if (!t || dtype_is_real(t->dtype)) return true;
  fail(ERR_DTYPE, "%s: %s must hold real numbers (f32 or f64), it is %s of shape %s", op, argument, dtype_name(t->dtype), shape_text(t));
  return false;
}

bool op_check_ids(const char *op, const Tensor *ids, int64_t low, int64_t high, const char *what) {
  if (ids->dtype != I32) {
    fail(ERR_DTYPE, "%s: %s must be i32, got %s", op, what, dtype_name(ids->dtype));
    return false;
  }
  Tensor *dense = op_dense((Tensor *)ids);
  int32_t bad;
  if (!dense) return false;
  if (kernel_ids_in_range(tensor_numel(ids), tensor_data(dense), low, high, &bad)) return true;
  fail(ERR_ARGUMENT, "%s: %s contain %d, outside %lld .. %lld", op, what, bad, (long long)low, (long long)high - 1);
  return false;
}

const OpInfo *op_find(const char *name) {
  for (int i = 0; op_table[i]; i++)
    if (strcmp(op_table[i]->name, name) == 0) return op_table[i];
  return NULL;
}

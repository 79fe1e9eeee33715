/* modes.c - see modes.h. The first and the last axis need no copy: the tensor already is
 * X_0 in memory, and the transpose of its last mode. */
#include "optim/modes.h"

#include <math.h>

#include "autograd/ops/ops.h"

Tensor *mode_unfold(Tensor *x, int k) {
  Tensor *front = k == 0 ? x : op_contiguous(op_transpose(x, 0, k));
  return front ? op_reshape(front, 2, (int64_t[]){x->shape[k], -1}) : NULL;
}

Tensor *mode_fold(Tensor *matrix, const Tensor *like, int k) {
  if (!matrix) return NULL;
  int64_t shape[MAX_DIMS];
  for (int i = 0; i < like->ndim; i++) shape[i] = like->shape[i];
  shape[0] = like->shape[k], shape[k] = like->shape[0];
  Tensor *front = op_reshape(matrix, like->ndim, shape);
  return k == 0 ? front : op_transpose(front, 0, k);
}

Tensor *mode_product(Tensor *x, int k, Tensor *q, bool transpose) {
  if (!x || !q) return NULL;
  if (x->ndim == 2 && k == 1) return op_matmul(x, transpose ? q : op_transpose(q, 0, 1)); /* y^T = q x^T */
  Tensor *left = transpose ? op_transpose(q, 0, 1) : q;
  return op_contiguous(mode_fold(op_matmul(left, mode_unfold(x, k)), x, k));
}

Status mode_gram(Tensor *x, int k, double alpha, double beta, Tensor *g) {
  int64_t n = x->shape[k], rest = tensor_numel(x) / n;
  bool last = k == x->ndim - 1 && k > 0;
  Tensor *matrix = last ? x : mode_unfold(x, k);
  if (!matrix) return error_code();
  kernels_for(x)->gram(last, n, rest, alpha, tensor_data(matrix), beta, tensor_data(g));
  tensor_touch(g);
  return OK;
}

Tensor *mode_squares(Tensor *x, int k) {
  if (!x) return NULL;
  bool last = k == x->ndim - 1 && k > 0;
  int64_t n = x->shape[k], rest = tensor_numel(x) / n;
  Tensor *matrix = last ? x : mode_unfold(x, k), *sums = op_new(x->dtype, 1, &n);
  if (!matrix || !sums) return NULL;
  kernels_for(x)->reduce(R_SUMSQ, last ? 1 : n, rest, last ? n : 1, tensor_data(matrix), tensor_data(sums));
  return sums;
}

Tensor *mode_scale(Tensor *x, int k, Tensor *d) {
  int64_t shape[MAX_DIMS];
  for (int i = 0; x && i < x->ndim; i++) shape[i] = i == k ? x->shape[k] : 1;
  return x ? op_mul(x, op_reshape(d, x->ndim, shape)) : NULL;
}

Status mode_store(Tensor *to, const Tensor *from) { return from ? tensor_copy(to, from) : error_code(); }

double tensor_norm(const Tensor *x) { return sqrt(kernels_for(x)->dot(tensor_numel(x), tensor_data(x), tensor_data(x))); }

/* dropout.c - dropout with a mask that is never stored: it is a function of the stream's
 * state when the op ran, so gradient and tangent make the same mask again. */
#include "autograd/ops/ops.h"

static Tensor *apply(Tensor *x, double p, const Random *at);

static Status dropout_rule(Node *n, Tensor *const *v, Tensor **out) {
  out[0] = apply(v[0], n->attributes.reals[0], &n->attributes.random);
  return out[0] ? OK : error_code();
}
const OpInfo dropout_op = {"dropout", 1, 1, "zero with probability p, else x / (1 - p)", dropout_rule, dropout_rule, NULL, true};

static Tensor *apply(Tensor *x, double p, const Random *at) {
  Tensor *dense = op_dense(x), *y = dense ? op_new_like(x) : NULL;
  if (!y) return NULL;
  kernels_for(x)->dropout(tensor_numel(x), tensor_data(dense), at, p, tensor_data(y));
  Attributes a = {.reals = {p}, .random = *at};
  return op_done(&dropout_op, 1, &x, y, &a);
}

Tensor *op_dropout(Tensor *x, double p, Random *stream) {
  if (!x || !op_check_real("dropout", x, "the input")) return NULL;
  if (!(p >= 0 && p <= 1)) return fail(ERR_ARGUMENT, "dropout: p must be in 0 .. 1, got %g", p), NULL;
  if (p == 0) return x;
  Tensor *y = apply(x, p, stream);
  stream->counter += (uint64_t)(tensor_numel(x) + 3) / 4;
  return y;
}

/* surrogate.c - a value with derivatives of one's own choice.
 *
 * surrogate(value, x_1, p_1, x_2, p_2, ...) is value, and pretends to depend on each x_i with the
 * elementwise partial derivative p_i: dy = sum p_i dx_i (x_i broadcast to y). The p_i are constants.
 * Straight-through estimators, learned steps and trust masks of quantization-aware training are
 * all this one op. Inputs of the node: x_1, p_1, x_2, p_2, ... */
#include "autograd/ops/ops.h"

static Status surrogate_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  for (int i = 0; i < n->inputs; i += 2) {
    const Tensor *x = n->in[i];
    if (node_needs(n, i) && !(gin[i] = op_sum_to(op_mul(g[0], n->in[i + 1]), x->ndim, x->shape))) return error_code();
  }
  return OK;
}

static Status surrogate_jvp(Node *n, Tensor *const *t, Tensor **out) {
  for (int i = 0; i < n->inputs; i += 2) {
    if (!t[i]) continue;
    Tensor *part = op_mul(op_expand(t[i], n->out[0]->ndim, n->out[0]->shape), n->in[i + 1]);
    out[0] = out[0] ? op_add(out[0], part) : part;
    if (!out[0]) return error_code();
  }
  return OK;
}

const OpInfo surrogate_op = {"surrogate", -1, 1, "a given value with given partial derivatives", surrogate_vjp, surrogate_jvp, NULL, true};

Tensor *op_surrogate(Tensor *value, int count, Tensor *const *x, Tensor *const *partial) {
  Tensor *in[MAX_INPUTS];
  if (!value || !op_check_real("surrogate", value, "the value")) return NULL;
  if (count < 1 || count > MAX_INPUTS / 2)
    return fail(ERR_ARGUMENT, "surrogate: 1 to %d inputs, got %d", MAX_INPUTS / 2, count), NULL;
  for (int i = 0; i < count; i++) {
    if (!x[i] || !partial[i]) return NULL;
    if (x[i]->dtype != value->dtype || partial[i]->dtype != value->dtype)
      return fail(ERR_DTYPE, "surrogate: input %d and its derivative must be %s as the value, got %s and %s", i + 1, dtype_name(value->dtype),
                  dtype_name(x[i]->dtype), dtype_name(partial[i]->dtype)), NULL;
    if (!tensor_same_shape(partial[i], value))
      return fail(ERR_SHAPE, "surrogate: derivative %d %s must have the value's shape %s", i + 1, shape_text(partial[i]), shape_text(value)), NULL;
    if (!op_expand(x[i], value->ndim, value->shape)) return NULL; /* must broadcast */
    in[2 * i] = x[i];
    in[2 * i + 1] = op_detach(partial[i]);
    if (!in[2 * i + 1]) return NULL;
  }
  return op_done(&surrogate_op, 2 * count, in, op_detach(value), NULL);
}

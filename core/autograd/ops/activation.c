/* activation.c - the gradient of an activation function as one op, f'(x) g, so that
 * neither f'(x) nor its tangent's parts are stored. Which f: the node's first integer. */
#include "autograd/ops/ops.h"

extern const OpInfo activation_backward_op;

static Status activation_backward_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *x = op_dense(n->in[0]), *g = op_dense(n->in[1]), *tx = op_dense(t[0]), *tg = op_dense(t[1]);
  if (!x || !g || (t[0] && !tx) || (t[1] && !tg) || !(out[0] = op_new_like(x))) return error_code();
  kernels_for(x)->activation_backward_tangent((Unary)n->attributes.ints[0], tensor_numel(x), tensor_data(x), tensor_data(g),
                                              tx ? tensor_data(tx) : NULL, tg ? tensor_data(tg) : NULL, tensor_data(out[0]));
  return OK;
}

static Status activation_backward_compose(Node *n, Tensor *const *in, Tensor **out) {
  Unary f = (Unary)n->attributes.ints[0];
  const char *slope = f == U_GELU ? "gelu_grad" : f == U_GELU_TANH ? "gelu_tanh_grad" : "silu_grad";
  out[0] = op_mul(op_unary_named(slope, in[0]), in[1]);
  return out[0] ? OK : error_code();
}

const OpInfo activation_backward_op = {"activation_backward", 2, 1, "f'(x) g for gelu, gelu_tanh and silu", NULL, activation_backward_jvp,
                                       activation_backward_compose, false};

Tensor *op_activation_backward(Unary f, Tensor *x, Tensor *g) {
  if (!x || !g) return NULL;
  if (!tensor_same_shape(x, g) || x->dtype != g->dtype)
    return fail(ERR_SHAPE, "activation_backward: %s and %s differ", shape_text(x), shape_text(g)), NULL;
  Tensor *a = op_dense(x), *b = op_dense(g), *y = a && b ? op_new_like(x) : NULL;
  if (!y) return NULL;
  kernels_for(x)->activation_backward(f, tensor_numel(x), tensor_data(a), tensor_data(b), tensor_data(y));
  Attributes attributes = {.ints = {f}};
  return op_done(&activation_backward_op, 2, (Tensor *[]){x, g}, y, &attributes);
}

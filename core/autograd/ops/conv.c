/* conv.c - depthwise causal convolution. It is linear in x and in w, and so are its two
 * gradients in theirs; the three ops are each other's rules:
 *   y = C(x, w),   dx = X(dy, w),   dw = W(x, dy). */
#include "autograd/ops/ops.h"

extern const OpInfo conv1d_op, conv1d_input_op, conv1d_weight_op;

static void *data_of(Tensor *t) { return t ? tensor_data(t) : NULL; }

static Tensor *forward(Tensor *x, Tensor *w) {
  Tensor *a = op_dense(x), *b = op_dense(w), *y = a && b ? op_new_like(x) : NULL;
  if (!y) return NULL;
  kernels_for(x)->conv1d(x->shape[0], x->shape[1], x->shape[2], w->shape[1], tensor_data(a), tensor_data(b), tensor_data(y));
  return op_done(&conv1d_op, 2, (Tensor *[]){x, w}, y, NULL);
}

/* One of the two gradients: fills `out` and leaves the other. */
static Tensor *backward(Tensor *x, Tensor *w, Tensor *dy, int64_t taps, Tensor *dx, Tensor *dw) {
  Tensor *a = op_dense(x), *b = op_dense(w), *g = op_dense(dy);
  if (!g || (x && !a) || (w && !b) || (!dx && !dw)) return NULL;
  kernels_for(g)->conv1d_backward(g->shape[0], g->shape[1], g->shape[2], taps, data_of(a), data_of(b), tensor_data(g), data_of(dx), data_of(dw));
  return dx ? dx : dw;
}
static Tensor *input_gradient(Tensor *dy, Tensor *w) {
  if (!dy || !w) return NULL;
  return op_done(&conv1d_input_op, 2, (Tensor *[]){dy, w}, backward(NULL, w, dy, w->shape[1], op_new_like(dy), NULL), NULL);
}
static Tensor *weight_gradient(Tensor *x, Tensor *dy, int64_t taps) {
  if (!x || !dy) return NULL;
  Tensor *dw = op_new(x->dtype, 2, (int64_t[]){x->shape[2], taps});
  Attributes a = {.ints = {taps}};
  return op_done(&conv1d_weight_op, 2, (Tensor *[]){x, dy}, backward(x, NULL, dy, taps, NULL, dw), &a);
}

/* The rules of an op linear in both inputs: gradients A and B, tangent F(ta, b) + F(a, tb). */
#define BILINEAR(name, gradient_a, gradient_b, tangent_a, tangent_b)                            \
  static Status name##_vjp(Node *n, Tensor *const *g, Tensor **gin) {                           \
    Tensor *a = n->in[0], *b = n->in[1];                                                        \
    int64_t taps = n->attributes.ints[0];                                                       \
    (void)a, (void)b, (void)taps;                                                               \
    if (node_needs(n, 0) && !(gin[0] = gradient_a)) return error_code();                        \
    if (node_needs(n, 1) && !(gin[1] = gradient_b)) return error_code();                        \
    return OK;                                                                                  \
  }                                                                                             \
  static Status name##_jvp(Node *n, Tensor *const *t, Tensor **out) {                           \
    Tensor *a = n->in[0], *b = n->in[1], *first = NULL, *second = NULL;                         \
    int64_t taps = n->attributes.ints[0];                                                       \
    (void)a, (void)b, (void)taps;                                                               \
    if (t[0] && !(first = tangent_a)) return error_code();                                      \
    if (t[1] && !(second = tangent_b)) return error_code();                                     \
    out[0] = first && second ? op_add(first, second) : first ? first : second;                  \
    return out[0] ? OK : error_code();                                                          \
  }

BILINEAR(conv1d, input_gradient(g[0], b), weight_gradient(a, g[0], b->shape[1]), forward(t[0], b), forward(a, t[1]))
BILINEAR(conv1d_input, forward(g[0], b), weight_gradient(g[0], a, b->shape[1]), input_gradient(t[0], b), input_gradient(a, t[1]))
BILINEAR(conv1d_weight, input_gradient(b, g[0]), forward(a, g[0]), weight_gradient(t[0], b, taps), weight_gradient(a, t[1], taps))

const OpInfo conv1d_op = {"conv1d", 2, 1, "causal depthwise convolution of x (batch, time, channels) with w (channels, taps)", conv1d_vjp, conv1d_jvp, NULL, true};
const OpInfo conv1d_input_op = {"conv1d_input", 2, 1, "gradient of conv1d in x", conv1d_input_vjp, conv1d_input_jvp, NULL, true};
const OpInfo conv1d_weight_op = {"conv1d_weight", 2, 1, "gradient of conv1d in w", conv1d_weight_vjp, conv1d_weight_jvp, NULL, true};

Tensor *op_conv1d(Tensor *x, Tensor *w, Tensor *b) {
  if (!x || !w || !op_check_real("conv1d", x, "the input")) return NULL;
  if (x->ndim != 3 || w->ndim != 2 || w->shape[0] != x->shape[2] || w->shape[1] < 1)
    return fail(ERR_SHAPE, "conv1d: the input must be (batch, time, channels) and the weight (channels, taps), got %s and %s", shape_text(x), shape_text(w)), NULL;
  if (w->dtype != x->dtype) return fail(ERR_DTYPE, "conv1d: the input is %s, the weight %s", dtype_name(x->dtype), dtype_name(w->dtype)), NULL;
  if (b && (b->ndim != 1 || b->shape[0] != x->shape[2]))
    return fail(ERR_SHAPE, "conv1d: bias %s does not fit the %lld channels of %s", shape_text(b), (long long)x->shape[2], shape_text(x)), NULL;
  Tensor *y = forward(x, w);
  return b ? op_add(y, b) : y;
}

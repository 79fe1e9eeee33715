/* scan.c - the linear recurrence y_t = a_t y_{t-1} + b_t along an axis (y before the start is 0):
 * the state of state-space models, and any exponential average with a varying rate.
 *
 * The op also runs backwards, y_t = a_{t+1} y_{t+1} + b_t, which is the adjoint in b, so the two
 * directions are each other's rules and derivatives of all orders follow. Written with e, the
 * neighbour that the recurrence came from (y_{t-1}, or y_{t+1}):
 *   forward:  gb = backward(a, g),  ga_t = gb_t y_{t-1};      ty = forward(a, tb + ta_t y_{t-1})
 *   backward: gb = forward(a, g),   ga_t = gb_{t-1} y_t;      ty = backward(a, tb + (ta y)_{t+1}) */
#include "autograd/ops/ops.h"

extern const OpInfo scan_op;

/* x_{t-1} (by = 1) or x_{t+1} (by = -1) along an axis, 0 beyond the end */
static Tensor *shifted(Tensor *x, int axis, int by) {
  if (!x || x->shape[axis] < 1) return x;
  int64_t n = x->shape[axis] - 1;
  return op_pad(op_narrow(x, axis, by > 0 ? 0 : 1, n), axis, by > 0, by < 0);
}

static Tensor *scan(Tensor *a, Tensor *b, int axis, bool backward) {
  Tensor *x = op_dense(a), *z = op_dense(b), *y = x && z ? op_new_like(z) : NULL;
  if (!y) return NULL;
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < axis; i++) outer *= y->shape[i];
  for (int i = axis + 1; i < y->ndim; i++) inner *= y->shape[i];
  kernels_for(y)->scan(outer, y->shape[axis], inner, tensor_data(x), tensor_data(z), tensor_data(y), backward);
  Attributes at = {.ints = {axis, backward}};
  return op_done(&scan_op, 2, (Tensor *[]){a, b}, y, &at);
}

static Status scan_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  int axis = (int)n->attributes.ints[0];
  bool backward = n->attributes.ints[1];
  if (!g[0]) return OK;
  Tensor *gb = scan(n->in[0], g[0], axis, !backward);
  if (node_needs(n, 0)) {
    Tensor *y = node_output(n, 0);
    if (!(gin[0] = backward ? op_mul(shifted(gb, axis, 1), y) : op_mul(gb, shifted(y, axis, 1)))) return error_code();
  }
  gin[1] = gb;
  return gb ? OK : error_code();
}

static Status scan_jvp(Node *n, Tensor *const *t, Tensor **out) {
  int axis = (int)n->attributes.ints[0];
  bool backward = n->attributes.ints[1];
  Tensor *y = node_output(n, 0), *input = t[1];
  if (t[0]) {
    Tensor *part = backward ? shifted(op_mul(t[0], y), axis, -1) : op_mul(t[0], shifted(y, axis, 1));
    input = input ? op_add(input, part) : part;
  }
  out[0] = input ? scan(n->in[0], input, axis, backward) : NULL;
  return out[0] ? OK : error_code();
}

const OpInfo scan_op = {"scan", 2, 1, "the recurrence y_t = a_t y_{t-1} + b_t along an axis", scan_vjp, scan_jvp, NULL, false};

Tensor *op_scan(Tensor *a, Tensor *b, int axis) {
  if (!a || !b || !op_check_real("scan", a, "the factor") || !op_check_real("scan", b, "the input")) return NULL;
  if (!tensor_same_shape(a, b) || a->dtype != b->dtype)
    return fail(ERR_SHAPE, "scan: the factor %s %s and the input %s %s differ", dtype_name(a->dtype), shape_text(a), dtype_name(b->dtype), shape_text(b)), NULL;
  if (tensor_axis(b, axis, "scan", &axis) != OK) return NULL;
  return scan(a, b, axis, false);
}

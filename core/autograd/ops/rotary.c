/* rotary.c - rotary position embedding: linear in x and orthogonal, so its gradient is
 * the turn back and its tangent the turn itself. The angles' tables are constants. */
#include "autograd/ops/ops.h"

static Tensor *turn(Tensor *x, Tensor *cosines, Tensor *sines, int64_t rotated, bool interleaved, int sign);

static Status again(Node *n, Tensor *v, int sign, Tensor **out) {
  const int64_t *i = n->attributes.ints;
  *out = turn(v, n->in[1], n->in[2], i[0], i[1], (int)i[2] * sign);
  return *out ? OK : error_code();
}
static Status rotary_vjp(Node *n, Tensor *const *g, Tensor **gin) { return again(n, g[0], -1, &gin[0]); }
static Status rotary_jvp(Node *n, Tensor *const *t, Tensor **out) { return t[0] ? again(n, t[0], 1, &out[0]) : OK; }

const OpInfo rotary_op = {"rotary", 3, 1, "turns pairs of values of each head by angles of the position", rotary_vjp, rotary_jvp, NULL, true};

static Status check(const Tensor *x, const Tensor *c, const Tensor *s, int64_t rotated) {
  if (!op_check_real("rotary", x, "the input")) return error_code();
  if (x->ndim != 4) return fail(ERR_SHAPE, "rotary: the input must be (batch, time, heads, width), got %s", shape_text(x));
  if (rotated < 0 || rotated % 2 || rotated > x->shape[3])
    return fail(ERR_ARGUMENT, "rotary: rotated must be even and at most the width %lld of a head, got %lld", (long long)x->shape[3], (long long)rotated);
  if (c->dtype != x->dtype || s->dtype != x->dtype)
    return fail(ERR_DTYPE, "rotary: the input is %s, the angles %s and %s", dtype_name(x->dtype), dtype_name(c->dtype), dtype_name(s->dtype));
  if (c->ndim != 2 || !tensor_same_shape(c, s) || c->shape[0] < x->shape[1] || c->shape[1] != rotated / 2)
    return fail(ERR_SHAPE, "rotary: cosines %s and sines %s must both be (at least %lld positions, %lld) for input %s", shape_text(c), shape_text(s),
                (long long)x->shape[1], (long long)(rotated / 2), shape_text(x));
  if (tensor_needs_grad(c) || tensor_needs_grad(s)) return fail(ERR_UNSUPPORTED, "rotary: the angles have no gradient; detach them");
  return OK;
}

static Tensor *turn(Tensor *x, Tensor *cosines, Tensor *sines, int64_t rotated, bool interleaved, int sign) {
  if (!x || !cosines || !sines || check(x, cosines, sines, rotated) != OK) return NULL;
  Tensor *from = x->stride[3] == 1 || x->shape[3] == 1 ? x : op_dense(x), *c = op_dense(cosines), *s = op_dense(sines);
  Tensor *y = from && c && s ? op_new_like(x) : NULL;
  if (!y) return NULL;
  kernels_for(x)->rotary(x->shape[0], x->shape[1], x->shape[2], x->shape[3], rotated, interleaved, sign, tensor_data(c), tensor_data(s),
                         from->stride, tensor_data(from), y->stride, tensor_data(y));
  Attributes a = {.ints = {rotated, interleaved, sign}};
  return op_done(&rotary_op, 3, (Tensor *[]){x, cosines, sines}, y, &a);
}

Tensor *op_rotary(Tensor *x, Tensor *cosines, Tensor *sines, int64_t rotated, bool interleaved) {
  return turn(x, cosines, sines, rotated, interleaved, 1);
}

/* attention.c - causal attention as one op, softmax(scale q k^T) v over the keys at or
 * before a query (within a window, if given), with grouped key and value heads.
 *
 * The log-sum-exp of the scores is a second output. attention_backward is an op of its
 * own with (q, k, v, o, lse, do) as independent inputs, which makes the tangent of the
 * gradient one more pass over tiles (kernel/cpu/attention.c). Gradients of gradients in
 * reverse mode go through `compose`, which does hold time x time values a head. */
#include <math.h>
#include <string.h>

#include "autograd/ops/ops.h"

extern const OpInfo attention_op, attention_backward_op;

enum { Q, KEY, V, O, LSE, DO };

/* Strides that BLAS can take: dense rows, the next row not inside them. */
static Tensor *as_heads(Tensor *t) {
  if (!t) return NULL;
  bool fits = (t->stride[3] == 1 || t->shape[3] == 1) && (t->stride[1] >= t->shape[3] || t->shape[1] == 1);
  return fits && t->stride[0] >= 0 && t->stride[2] >= 0 ? t : op_dense(t);
}
static Heads heads_of(const Tensor *t) {
  int64_t down = t->shape[1] == 1 && t->stride[1] < t->shape[3] ? t->shape[3] : t->stride[1];
  return (Heads){tensor_data(t), {t->stride[0], down, t->stride[2]}};
}

static Attention shape_of(const Tensor *q, const Tensor *k, const Attributes *a) {
  return (Attention){.batch = q->shape[0], .time = q->shape[1], .heads = q->shape[2], .kv_heads = k->shape[2], .width = q->shape[3],
                     .window = a->ints[0], .scale = a->reals[0], .bf16 = q->dtype == F32 && precision_get() == PRECISION_BF16};
}

/* in[i], or where given its tangent, ready for a kernel; a NULL tangent is zeros. */
static Tensor *tangent_or_zeros(Tensor *t, const Tensor *like) {
  return t ? as_heads(t) : op_new_zeros(like->dtype, like->ndim, like->shape);
}

/* --- the same from simpler ops, on (batch, heads, time, width) --- */

static Tensor *heads_first(Tensor *t) { return op_transpose(t, 1, 2); }

/* Key or value heads repeated for the queries that share them. */
static Tensor *repeated(Tensor *t, int64_t heads) {
  if (!t || t->shape[1] == heads) return t;
  int64_t b = t->shape[0], g = t->shape[1], time = t->shape[2], w = t->shape[3], shape[] = {b, g, heads / g, time, w};
  return op_reshape(op_expand(op_reshape(t, 5, (int64_t[]){b, g, 1, time, w}), 5, shape), 4, (int64_t[]){b, heads, time, w});
}

static Tensor *positions(DType d, int64_t rows, int64_t columns) {
  Tensor *t = op_new(d, 2, (int64_t[]){rows, columns});
  if (t) kernels_for(t)->arange(tensor_data(t), rows * columns, 0, 1);
  return t;
}

/* 0 where a query sees a key, minus infinity elsewhere: (time, time) */
static Tensor *mask_of(DType d, int64_t time, int64_t window) {
  Tensor *row = positions(d, time, 1), *column = positions(d, 1, time), *hidden = op_compare("gt", column, row), *low, *zero;
  if (window) hidden = op_maximum(hidden, op_compare("le", column, op_add_scalar(row, -(double)window)));
  if (!hidden || tensor_scalar(d, -INFINITY, &low) != OK || !pool_keep(low) || tensor_scalar(d, 0, &zero) != OK) return NULL;
  return op_where(hidden, low, pool_keep(zero));
}

/* scale q k^T + mask: (batch, heads, time, time) */
static Tensor *scores_of(Tensor *q, Tensor *k, const Attributes *a) {
  if (!q || !k) return NULL;
  Tensor *s = op_mul_scalar(op_matmul(heads_first(q), op_transpose(repeated(heads_first(k), q->shape[2]), 2, 3)), a->reals[0]);
  return op_add(s, mask_of(q->dtype, q->shape[1], a->ints[0]));
}

static Status attention_compose(Node *n, Tensor *const *in, Tensor **out) {
  Tensor *s = scores_of(in[Q], in[KEY], &n->attributes);
  out[0] = heads_first(op_matmul(op_softmax(s, -1), repeated(heads_first(in[V]), in[Q]->shape[2])));
  out[1] = op_logsumexp(s, -1, false);
  return out[0] && out[1] ? OK : error_code();
}

/* Sums the gradients of repeated heads: the adjoint of repeated(). */
static Tensor *gathered(Tensor *t, int64_t kv_heads) {
  if (!t || t->shape[1] == kv_heads) return t;
  int64_t b = t->shape[0], time = t->shape[2], w = t->shape[3];
  return op_sum(op_reshape(t, 5, (int64_t[]){b, kv_heads, t->shape[1] / kv_heads, time, w}), 2, false);
}

static Status attention_backward_compose(Node *n, Tensor *const *in, Tensor **out) {
  int64_t heads = in[Q]->shape[2], groups = in[KEY]->shape[2], column[] = {in[Q]->shape[0], heads, in[Q]->shape[1], 1};
  Tensor *d = heads_first(in[DO]), *v = repeated(heads_first(in[V]), heads);
  Tensor *p = op_exp(op_sub(scores_of(in[Q], in[KEY], &n->attributes), op_reshape(in[LSE], 4, column)));
  Tensor *delta = op_sum(op_mul(d, heads_first(in[O])), -1, true);
  Tensor *ds = op_mul_scalar(op_mul(p, op_sub(op_matmul(d, op_transpose(v, 2, 3)), delta)), n->attributes.reals[0]);
  out[0] = heads_first(op_matmul(ds, repeated(heads_first(in[KEY]), heads)));
  out[1] = heads_first(gathered(op_matmul(op_transpose(ds, 2, 3), heads_first(in[Q])), groups));
  out[2] = heads_first(gathered(op_matmul(op_transpose(p, 2, 3), d), groups));
  return out[0] && out[1] && out[2] ? OK : error_code();
}

/* --- gradient --- */

/* Room for the gradients of q, k and v, laid out as those are where they are the pieces of one tensor: the gradient of
 * what was split is then there without copies. */
static Status make_gradients(Tensor *const *in, Tensor **out) {
  Tensor *whole = op_whole_of(3, in, 2);
  if (!whole) whole = op_whole_of(3, in, 3);
  Tensor *room = whole ? op_new_like(whole) : NULL;
  if (whole && !room) return error_code();
  for (int i = 0; i < 3; i++) {
    out[i] = room ? op_new_view(room, 4, in[i]->shape, in[i]->stride, in[i]->offset - whole->offset) : op_new_like(in[i]);
    if (!out[i]) return error_code();
  }
  return OK;
}

static Status attention_backward(Tensor *const *in, const Attributes *a, Tensor **out) {
  Tensor *x[6];
  for (int i = 0; i < 6; i++)
    if (!(x[i] = i == LSE ? op_dense(in[i]) : as_heads(in[i]))) return error_code();
  TRY(make_gradients(in, out));
  Attention shape = shape_of(x[Q], x[KEY], a);
  kernels_for(x[Q])->attention_backward(&shape, heads_of(x[Q]), heads_of(x[KEY]), heads_of(x[V]), heads_of(x[O]), tensor_data(x[LSE]),
                                        heads_of(x[DO]), heads_of(out[0]), heads_of(out[1]), heads_of(out[2]));
  return graph_record(&attention_backward_op, 6, in, 3, out, a);
}

/* Along tangents t of the inputs, NULL for zeros. */
static Status attention_backward_tangent(Tensor *const *in, const Attributes *a, Tensor *const *t, Tensor **out) {
  Tensor *x[6], *tx[6];
  for (int i = 0; i < 6; i++) {
    x[i] = i == LSE ? op_dense(in[i]) : as_heads(in[i]);
    tx[i] = i == LSE && t[i] ? op_dense(t[i]) : tangent_or_zeros(t[i], in[i]);
    if (!x[i] || !tx[i]) return error_code();
  }
  TRY(make_gradients(in, out));
  Attention shape = shape_of(x[Q], x[KEY], a);
  kernels_for(x[Q])->attention_backward_tangent(&shape, heads_of(x[Q]), heads_of(x[KEY]), heads_of(x[V]), heads_of(x[O]), tensor_data(x[LSE]),
                                                heads_of(x[DO]), heads_of(tx[Q]), heads_of(tx[KEY]), heads_of(tx[V]), heads_of(tx[O]),
                                                tensor_data(tx[LSE]), heads_of(tx[DO]), heads_of(out[0]), heads_of(out[1]), heads_of(out[2]));
  return OK;
}

static Status attention_backward_jvp(Node *n, Tensor *const *t, Tensor **out) {
  return attention_backward_tangent(n->in, &n->attributes, t, out);
}

const OpInfo attention_backward_op = {"attention_backward", 6, 3, "gradients of attention from (q, k, v, o, lse, do)", NULL, attention_backward_jvp,
                                      attention_backward_compose, false};

/* --- forward --- */

static Status attention_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  if (g[1]) return node_vjp_by_compose(n, g, gin); /* only a gradient of a gradient asks for that of lse */
  Tensor *in[] = {n->in[Q], n->in[KEY], n->in[V], node_output(n, 0), node_output(n, 1), g[0]};
  return in[O] && in[LSE] ? attention_backward(in, &n->attributes, gin) : error_code();
}

Status op_attention_pair(Node *n, const Pair *p, bool *applies) {
  if (!(*applies = p->tout && p->gout[0] && !p->gout[1])) return OK;
  Tensor *in[] = {n->in[Q], n->in[KEY], n->in[V], n->out[0], n->out[1], p->gout[0]};
  Tensor *t[] = {p->tin[Q], p->tin[KEY], p->tin[V], p->tout[0], p->tout[1], p->tgout[0]};
  if (p->wanted[Q] || p->wanted[KEY] || p->wanted[V]) TRY(attention_backward(in, &n->attributes, p->gin));
  return t[Q] || t[KEY] || t[V] || t[DO] ? attention_backward_tangent(in, &n->attributes, t, p->tgin) : OK;
}

static Status attention_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *x[3], *tx[3];
  for (int i = 0; i < 3; i++)
    if (!(x[i] = as_heads(n->in[i])) || !(tx[i] = tangent_or_zeros(t[i], n->in[i]))) return error_code();
  if (!(out[0] = op_new_like(n->out[0])) || !(out[1] = op_new_like(n->out[1]))) return error_code();
  Attention shape = shape_of(x[Q], x[KEY], &n->attributes);
  kernels_for(x[Q])->attention_tangent(&shape, heads_of(x[Q]), heads_of(x[KEY]), heads_of(x[V]), heads_of(n->out[0]), tensor_data(n->out[1]),
                                       heads_of(tx[Q]), heads_of(tx[KEY]), heads_of(tx[V]), heads_of(out[0]), tensor_data(out[1]));
  return OK;
}

const OpInfo attention_op = {"attention", 3, 2, "softmax(scale q k^T, causal) v, (batch, time, heads, width)", attention_vjp, attention_jvp,
                             attention_compose, false};

static Status check(const Tensor *q, const Tensor *k, const Tensor *v, int64_t window) {
  if (q->dtype != k->dtype || q->dtype != v->dtype || !dtype_is_real(q->dtype))
    return fail(ERR_DTYPE, "attention: q, k and v must be of one real type, got %s, %s, %s", dtype_name(q->dtype), dtype_name(k->dtype), dtype_name(v->dtype));
  if (q->ndim != 4 || k->ndim != 4 || v->ndim != 4)
    return fail(ERR_SHAPE, "attention: q, k and v must be (batch, time, heads, width), got %s, %s, %s", shape_text(q), shape_text(k), shape_text(v));
  if (!tensor_same_shape(k, v) || q->shape[0] != k->shape[0] || q->shape[1] != k->shape[1] || q->shape[3] != k->shape[3] || k->shape[2] < 1 ||
      q->shape[2] % k->shape[2])
    return fail(ERR_SHAPE, "attention: q %s, k %s and v %s do not fit: all but the heads must agree, and the heads of k divide those of q",
                shape_text(q), shape_text(k), shape_text(v));
  if (tensor_numel(q) == 0) return fail(ERR_SHAPE, "attention: nothing to attend to in q %s", shape_text(q));
  return window < 0 ? fail(ERR_ARGUMENT, "attention: window must be 0 (none) or positive, got %lld", (long long)window) : OK;
}

Tensor *op_attention(Tensor *q, Tensor *k, Tensor *v, double scale, int64_t window) {
  if (!q || !k || !v || check(q, k, v, window) != OK) return NULL;
  Tensor *in[3] = {as_heads(q), as_heads(k), as_heads(v)}, *out[2];
  out[0] = op_new_like(q);
  out[1] = op_new(q->dtype, 3, (int64_t[]){q->shape[0], q->shape[2], q->shape[1]});
  if (!in[0] || !in[1] || !in[2] || !out[0] || !out[1]) return NULL;
  Attributes a = {.ints = {window}, .reals = {scale}};
  Attention shape = shape_of(q, k, &a);
  kernels_for(q)->attention(&shape, heads_of(in[0]), heads_of(in[1]), heads_of(in[2]), heads_of(out[0]), tensor_data(out[1]));
  return graph_record(&attention_op, 3, (Tensor *[]){q, k, v}, 2, out, &a) == OK ? out[0] : NULL;
}

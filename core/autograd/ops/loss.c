/* loss.c - softmax cross-entropy with integer targets, in mean nats a counted target.
 *
 * The rows' log-sum-exp is a hidden output: with it the gradient, softmax - onehot,
 * takes one pass over the logits, and takes their place where backward() frees the graph:
 * no second tensor of their size exists. A negative target leaves its row out. */
#include <limits.h>

#include "autograd/ops/ops.h"

extern const OpInfo cross_entropy_op, cross_entropy_backward_op;

enum { LOGITS, TARGETS, SCALE, LSE }; /* inputs; the last two of the backward op only */

static int64_t classes(const Tensor *logits) { return logits->shape[logits->ndim - 1]; }

/* 1 / how many targets count (0 where none does), kept in reals[0] of both nodes */
static double share(int64_t counted) { return counted ? 1.0 / (double)counted : 0; }

static double value_of(const Tensor *scalar) { return scalar ? kernel_read(scalar->dtype, tensor_data(scalar)) : 0; }

/* --- gradient: dlogits = scale / counted (softmax - onehot) --- */

/* A tensor that takes the place of x's values. */
static Tensor *in_place(Tensor *x) {
  Tensor *d;
  if (tensor_alias(x, &d) != OK || !pool_keep(d)) return NULL;
  tensor_touch(x); /* a rule that comes too late says so */
  return d;
}

static Tensor *cross_entropy_backward(Tensor *logits, Tensor *targets, Tensor *scale, Tensor *lse, double mean, bool overwrite) {
  Tensor *x = op_dense(logits), *ids = op_dense(targets), *d = !x || !ids ? NULL : overwrite ? in_place(x) : op_new_like(x);
  if (!d) return NULL;
  kernels_for(x)->cross_entropy_backward(tensor_numel(ids), classes(x), tensor_data(x), tensor_data(ids), tensor_data(lse),
                                         mean * value_of(scale), tensor_data(d));
  Attributes a = {.reals = {mean}};
  return op_done(&cross_entropy_backward_op, 4, (Tensor *[]){logits, targets, scale, lse}, d, &a);
}

static Status cross_entropy_backward_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *x = op_dense(n->in[LOGITS]), *ids = op_dense(n->in[TARGETS]), *tl = op_dense(t[LOGITS]), *y = x && ids ? op_new_like(x) : NULL;
  if (!y || (t[LOGITS] && !tl)) return error_code();
  double mean = n->attributes.reals[0];
  kernels_for(x)->cross_entropy_backward_tangent(tensor_numel(ids), classes(x), tensor_data(x), tensor_data(ids), tensor_data(n->in[LSE]),
                                                 tl ? tensor_data(tl) : NULL, mean * value_of(n->in[SCALE]), mean * value_of(t[SCALE]),
                                                 tensor_data(y));
  out[0] = y;
  return OK;
}

/* onehot and mask of the targets as constants: (rows, V) and (rows, 1) */
static Status target_masks(const Tensor *logits, Tensor *targets, Tensor **onehot, Tensor **mask) {
  int64_t rows = tensor_numel(targets), column[] = {rows, 1};
  Tensor *number = op_reshape(op_cast(op_detach(targets), logits->dtype), 1, &rows);
  Tensor *ones = op_add_scalar(op_mul_scalar(number, 0), 1), *ids = op_cast(op_clamp(number, 0, INT_MAX), I32);
  *onehot = op_unpick(ones, ids, classes(logits));
  *mask = op_reshape(op_compare("ge", number, op_mul_scalar(number, 0)), 2, column);
  return *onehot && *mask ? OK : error_code();
}

static Status cross_entropy_backward_compose(Node *n, Tensor *const *in, Tensor **out) {
  Tensor *onehot, *mask, *x = in[LOGITS];
  TRY(target_masks(x, in[TARGETS], &onehot, &mask));
  Tensor *rows = op_reshape(x, 2, (int64_t[]){tensor_numel(in[TARGETS]), classes(x)});
  Tensor *d = op_mul(op_sub(op_softmax(rows, -1), onehot), mask);
  out[0] = op_reshape(op_mul(op_mul_scalar(d, n->attributes.reals[0]), in[SCALE]), x->ndim, x->shape);
  return out[0] ? OK : error_code();
}

const OpInfo cross_entropy_backward_op = {"cross_entropy_backward", 4, 1, "scale / counted (softmax - onehot)", NULL, cross_entropy_backward_jvp,
                                          cross_entropy_backward_compose, false};

/* --- forward --- */

static Status cross_entropy_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  if (!g[0]) return OK;
  gin[LOGITS] = cross_entropy_backward(n->in[LOGITS], n->in[TARGETS], g[0], n->out[1], n->attributes.reals[0],
                                       node_may_overwrite(n, LOGITS));
  return gin[LOGITS] ? OK : error_code();
}

/* Both in the places of the logits and of their tangent, so no third tensor of their size exists, but where the graph stays. */
Status op_cross_entropy_pair(Node *n, const Pair *p, bool *applies) {
  Tensor *x = n->in[LOGITS], *t = p->tin[LOGITS], *ids = op_dense(n->in[TARGETS]);
  if (!ids) return error_code();
  if (!(*applies = t && p->gout[0] && !p->gout[1] && node_reads_alone(n, LOGITS) && tangent_may_overwrite(t))) return OK;
  const double mean = n->attributes.reals[0];
  Tensor *d = node_may_overwrite(n, LOGITS) ? in_place(x) : op_new_like(x);
  if (!d) return error_code();
  kernels_for(x)->cross_entropy_pair(tensor_numel(ids), classes(x), tensor_data(x), tensor_data(ids), tensor_data(n->out[1]),
                                     mean * value_of(p->gout[0]), mean * value_of(p->tgout[0]), tensor_data(d), tensor_data(t));
  p->gin[LOGITS] = d, p->tgin[LOGITS] = in_place(t);
  return p->tgin[LOGITS] ? OK : error_code();
}

/* the gradient dotted with the tangent */
static Status cross_entropy_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *one;
  TRY(tensor_scalar(n->in[LOGITS]->dtype, 1, &one));
  Tensor *d = cross_entropy_backward(n->in[LOGITS], n->in[TARGETS], pool_keep(one), n->out[1], n->attributes.reals[0], false);
  out[0] = op_sum(op_mul(d, t[LOGITS]), ALL_AXES, false);
  return out[0] ? OK : error_code();
}

static Status cross_entropy_compose(Node *n, Tensor *const *in, Tensor **out) {
  Tensor *onehot, *mask, *x = in[LOGITS];
  TRY(target_masks(x, in[TARGETS], &onehot, &mask));
  Tensor *rows = op_reshape(x, 2, (int64_t[]){tensor_numel(in[TARGETS]), classes(x)});
  Tensor *picked = op_mul(op_mul(op_log_softmax(rows, -1), onehot), mask);
  out[0] = op_mul_scalar(op_sum(picked, ALL_AXES, false), -n->attributes.reals[0]);
  return out[0] ? OK : error_code();
}

const OpInfo cross_entropy_op = {"cross_entropy", 2, 2, "mean of log-sum-exp minus the target's logit, over targets >= 0", cross_entropy_vjp,
                                 cross_entropy_jvp, cross_entropy_compose, false};

static Status check(const Tensor *logits, const Tensor *targets) {
  if (!op_check_real("cross_entropy", logits, "the logits")) return error_code();
  if (logits->ndim < 1 || classes(logits) < 1)
    return fail(ERR_SHAPE, "cross_entropy: the logits need a last axis of classes, got shape %s", shape_text(logits));
  if (tensor_numel(targets) * classes(logits) != tensor_numel(logits))
    return fail(ERR_SHAPE, "cross_entropy: targets %s do not name one class for each row of logits %s", shape_text(targets), shape_text(logits));
  return op_check_ids("cross_entropy", targets, INT_MIN, classes(logits), "targets") ? OK : error_code();
}

Tensor *op_cross_entropy(Tensor *logits, Tensor *targets) {
  if (!logits || !targets || check(logits, targets) != OK) return NULL;
  Tensor *x = op_dense(logits), *ids = op_dense(targets), *out[2];
  int64_t rows = tensor_numel(targets), counted;
  if (!x || !ids || !(out[1] = op_new(x->dtype, 1, &rows))) return NULL;
  double loss = kernels_for(x)->cross_entropy(rows, classes(x), tensor_data(x), tensor_data(ids), tensor_data(out[1]), &counted);
  if (tensor_scalar(x->dtype, loss, &out[0]) != OK || !pool_keep(out[0])) return NULL;
  Attributes a = {.reals = {share(counted)}};
  return graph_record(&cross_entropy_op, 2, (Tensor *[]){logits, targets}, 2, out, &a) == OK ? out[0] : NULL;
}

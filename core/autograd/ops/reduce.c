/* reduce.c - sums, extremes, softmax and the like along one axis or all. */
#include <string.h>

#include "autograd/ops/ops.h"

/* (outer, n, inner) around an axis of a dense tensor; ALL_AXES: one run of everything. */
typedef struct Cut {
  int64_t outer, n, inner;
} Cut;

static Cut cut_at(const Tensor *x, int axis) {
  if (axis == ALL_AXES) return (Cut){1, tensor_numel(x), 1};
  Cut c = {1, x->shape[axis], 1};
  for (int i = 0; i < axis; i++) c.outer *= x->shape[i];
  for (int i = axis + 1; i < x->ndim; i++) c.inner *= x->shape[i];
  return c;
}

/* The shape with the axis gone, or of size 1 when kept. */
static int reduced_shape(const Tensor *x, int axis, bool keep, int64_t *shape) {
  int n = 0;
  for (int i = 0; i < x->ndim; i++) {
    bool gone = axis == ALL_AXES || i == axis;
    if (!gone) shape[n++] = x->shape[i];
    else if (keep) shape[n++] = 1;
  }
  return n;
}

static bool check(const char *op, Tensor *x, int *axis, bool empty_allowed) {
  if (!op_check_real(op, x, "its argument")) return false;
  if (*axis != ALL_AXES && tensor_axis(x, *axis, op, axis) != OK) return false;
  if (empty_allowed || cut_at(x, *axis).n > 0) return true;
  fail(ERR_SHAPE, "%s: nothing to choose from in shape %s", op, shape_text(x));
  return false;
}

static Tensor *reduced(Reduce kind, Tensor *x, int axis, bool keep) {
  int64_t shape[MAX_DIMS];
  int ndim = reduced_shape(x, axis, keep, shape);
  Tensor *dense = op_dense(x), *y = dense ? op_new(x->dtype, ndim, shape) : NULL;
  if (!y) return NULL;
  Cut c = cut_at(x, axis);
  kernels_for(y)->reduce(kind, c.outer, c.n, c.inner, tensor_data(dense), tensor_data(y));
  return y;
}

static Tensor *widen_integers(Tensor *x) { return x && x->dtype == I32 ? op_cast(x, F64) : x && x->dtype == BF16 ? op_cast(x, F32) : x; }

/* A reduced tensor, back at the shape of the input (the axis kept as 1, then repeated). */
static Tensor *spread_back(Tensor *g, const Tensor *x, int axis) {
  int64_t shape[MAX_DIMS];
  int ndim = reduced_shape(x, axis, true, shape);
  return op_expand(op_reshape(g, ndim, shape), x->ndim, x->shape);
}

/* --- sum, mean --- */

static Status sum_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  gin[0] = spread_back(g[0], n->in[0], (int)n->attributes.ints[0]);
  return gin[0] ? OK : error_code();
}
static Status sum_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_sum(t[0], (int)n->attributes.ints[0], n->attributes.ints[1]);
  return out[0] ? OK : error_code();
}
const OpInfo sum_op = {"sum", 1, 1, "sum along an axis or of all", sum_vjp, sum_jvp, NULL, true};

Tensor *op_sum(Tensor *x, int axis, bool keep) {
  x = widen_integers(x);
  if (!x || !check("sum", x, &axis, true)) return NULL;
  Attributes a = {.ints = {axis, keep}};
  return op_done(&sum_op, 1, &x, reduced(R_SUM, x, axis, keep), &a);
}

Tensor *op_mean(Tensor *x, int axis, bool keep) {
  x = widen_integers(x);
  if (!x || !check("mean", x, &axis, false)) return NULL;
  return op_mul_scalar(op_sum(x, axis, keep), 1.0 / (double)cut_at(x, axis).n);
}

/* --- max, min: ties share the gradient --- */

/* 1/count at the places that hold the extreme, 0 elsewhere */
static Tensor *winners(Node *n) {
  int axis = (int)n->attributes.ints[0];
  Tensor *hit = op_compare("eq", n->in[0], spread_back(op_detach(n->out[0]), n->in[0], axis));
  return op_div(hit, op_sum(hit, axis, true));
}
/* with all axes reduced, the kept sum is (1, ..., 1) and still broadcasts */
static Status extreme_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  gin[0] = op_mul(spread_back(g[0], n->in[0], (int)n->attributes.ints[0]), winners(n));
  return gin[0] ? OK : error_code();
}
static Status extreme_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_sum(op_mul(t[0], winners(n)), (int)n->attributes.ints[0], n->attributes.ints[1]);
  return out[0] ? OK : error_code();
}
const OpInfo max_op = {"max", 1, 1, "largest along an axis or of all", extreme_vjp, extreme_jvp, NULL, false};
const OpInfo min_op = {"min", 1, 1, "smallest along an axis or of all", extreme_vjp, extreme_jvp, NULL, false};

static Tensor *extreme(const OpInfo *op, Reduce kind, Tensor *x, int axis, bool keep) {
  x = widen_integers(x);
  if (!x || !check(op->name, x, &axis, false)) return NULL;
  Attributes a = {.ints = {axis, keep}};
  return op_done(op, 1, &x, reduced(kind, x, axis, keep), &a);
}
Tensor *op_max(Tensor *x, int axis, bool keep) { return extreme(&max_op, R_MAX, x, axis, keep); }
Tensor *op_min(Tensor *x, int axis, bool keep) { return extreme(&min_op, R_MIN, x, axis, keep); }

Tensor *op_argmax(Tensor *x, int axis, bool keep) {
  x = widen_integers(op_detach(x));
  if (!x || !check("argmax", x, &axis, false)) return NULL;
  return op_cast(reduced(R_ARGMAX, x, axis, keep), I32);
}

Tensor *op_kth(Tensor *x, int64_t k) {
  if (!x || !op_check_real("kth", x, "x")) return NULL;
  if (x->ndim == 0 || k < 0 || k >= x->shape[x->ndim - 1])
    return fail(ERR_ARGUMENT, "kth: there is no value %lld in rows of shape %s", (long long)k + 1, shape_text(x)), NULL;
  int64_t n = x->shape[x->ndim - 1];
  Tensor *y = op_new(x->dtype, x->ndim - 1, x->shape), *own; /* the kernel scrambles its rows */
  if (!y || tensor_cast(x, x->dtype, &own) != OK || !pool_keep(own)) return NULL;
  kernels_for(x)->select_rows(tensor_numel(x) / n, n, k, tensor_data(own), tensor_data(y));
  return y;
}

/* --- rows along the last axis: softmax and log-sum-exp --- */

/* Calls rows(x with `axis` moved last) and moves it back. */
static Tensor *along(Tensor *x, int axis, Tensor *(*rows)(Tensor *)) {
  if (!x) return NULL;
  if (axis == x->ndim - 1) return rows(x);
  return op_transpose(rows(op_transpose(x, axis, -1)), axis, -1);
}

static int64_t row_count(const Tensor *x) { return x->ndim ? tensor_numel(x) / (x->shape[x->ndim - 1] ? x->shape[x->ndim - 1] : 1) : 1; }
static int64_t row_length(const Tensor *x) { return x->ndim ? x->shape[x->ndim - 1] : 1; }

/* y (v - sum y v): both the gradient and the tangent of softmax, which is symmetric. */
static Tensor *softmax_product(Tensor *y, Tensor *v) {
  return op_mul(y, op_sub(v, op_sum(op_mul(y, v), -1, true)));
}

static Status softmax_rule(Node *n, Tensor *const *v, Tensor **out) {
  out[0] = op_softmax_backward(node_output(n, 0), v[0]);
  return out[0] ? OK : error_code();
}
const OpInfo softmax_op = {"softmax", 1, 1, "e^x / sum e^x along an axis", softmax_rule, softmax_rule, NULL, false};

static Status softmax_backward_compose(Node *n, Tensor *const *in, Tensor **out) {
  (void)n;
  out[0] = softmax_product(in[0], in[1]);
  return out[0] ? OK : error_code();
}
const OpInfo softmax_backward_op = {"softmax_backward", 2, 1, "y (v - sum y v) along the last axis", NULL, NULL, softmax_backward_compose, false};

Tensor *op_softmax_backward(Tensor *y, Tensor *v) {
  if (!y || !v) return NULL;
  if (!tensor_same_shape(y, v) || y->dtype != v->dtype)
    return fail(ERR_SHAPE, "softmax_backward: %s and %s differ", shape_text(y), shape_text(v)), NULL;
  Tensor *p = op_dense(y), *g = op_dense(v), *out = p && g ? op_new_like(y) : NULL;
  if (!out) return NULL;
  kernels_for(y)->softmax_backward(row_count(y), row_length(y), tensor_data(p), tensor_data(g), tensor_data(out));
  return op_done(&softmax_backward_op, 2, (Tensor *[]){y, v}, out, NULL);
}

static Tensor *softmax_rows(Tensor *x) {
  Tensor *dense = op_dense(x), *y = dense ? op_new_like(x) : NULL;
  if (!y) return NULL;
  kernels_for(y)->softmax(row_count(x), row_length(x), tensor_data(dense), tensor_data(y));
  return op_done(&softmax_op, 1, &x, y, NULL);
}

Tensor *op_softmax(Tensor *x, int axis) {
  if (!x || axis == ALL_AXES || !check("softmax", x, &axis, false)) return NULL;
  return along(x, axis, softmax_rows);
}

static Tensor *keep_last(Tensor *g) {
  int64_t shape[MAX_DIMS];
  memcpy(shape, g->shape, sizeof shape);
  shape[g->ndim] = 1;
  return op_reshape(g, g->ndim + 1, shape);
}
static Status logsumexp_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  gin[0] = op_mul(keep_last(g[0]), op_softmax(n->in[0], -1));
  return gin[0] ? OK : error_code();
}
static Status logsumexp_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_sum(op_mul(t[0], op_softmax(n->in[0], -1)), -1, false);
  return out[0] ? OK : error_code();
}
const OpInfo logsumexp_op = {"logsumexp", 1, 1, "log of the sum of e^x along an axis", logsumexp_vjp, logsumexp_jvp, NULL, false};

static Tensor *logsumexp_rows(Tensor *x) {
  Tensor *dense = op_dense(x), *y = dense ? op_new(x->dtype, x->ndim - 1, x->shape) : NULL;
  if (!y) return NULL;
  kernels_for(y)->logsumexp(row_count(x), row_length(x), tensor_data(dense), tensor_data(y));
  return op_done(&logsumexp_op, 1, &x, y, NULL);
}

Tensor *op_logsumexp(Tensor *x, int axis, bool keep) {
  if (x && axis == ALL_AXES) x = op_reshape(x, 1, (int64_t[]){-1}), axis = 0;
  if (!x || !check("logsumexp", x, &axis, false)) return NULL;
  int64_t shape[MAX_DIMS];
  int ndim = reduced_shape(x, axis, keep, shape);
  Tensor *last = axis == x->ndim - 1 ? x : NULL;
  if (!last) { /* the axis goes last, the others keep their order */
    int axes[MAX_DIMS], k = 0;
    for (int i = 0; i < x->ndim; i++)
      if (i != axis) axes[k++] = i;
    axes[k] = axis;
    last = op_permute(x, axes);
  }
  Tensor *y = last ? logsumexp_rows(last) : NULL;
  return keep ? op_reshape(y, ndim, shape) : y;
}

Tensor *op_log_softmax(Tensor *x, int axis) { return op_sub(x, op_logsumexp(x, axis, true)); }

/* --- cumsum --- */

static Tensor *cumsum(Tensor *x, int axis, bool reverse);
static Status cumsum_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  gin[0] = cumsum(g[0], (int)n->attributes.ints[0], !n->attributes.ints[1]);
  return gin[0] ? OK : error_code();
}
static Status cumsum_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = cumsum(t[0], (int)n->attributes.ints[0], n->attributes.ints[1]);
  return out[0] ? OK : error_code();
}
const OpInfo cumsum_op = {"cumsum", 1, 1, "running sum along an axis", cumsum_vjp, cumsum_jvp, NULL, true};

static Tensor *cumsum(Tensor *x, int axis, bool reverse) {
  if (!x || !check("cumsum", x, &axis, true)) return NULL;
  Tensor *dense = op_dense(x), *y = dense ? op_new_like(x) : NULL;
  if (!y) return NULL;
  Cut c = cut_at(x, axis);
  kernels_for(y)->cumsum(c.outer, c.n, c.inner, tensor_data(dense), tensor_data(y), reverse);
  Attributes a = {.ints = {axis, reverse}};
  return op_done(&cumsum_op, 1, &x, y, &a);
}
Tensor *op_cumsum(Tensor *x, int axis) { return cumsum(x, axis, false); }

/* shape.c - the same elements under another shape: views where strides allow, else copies. */
#include <string.h>

#include "autograd/ops/ops.h"

/* A rule of a linear shape op: the result, or the recorded error. */
#define RULE(name, expression)                                          \
  static Status name(Node *n, Tensor *const *g, Tensor **out) {         \
    const Tensor *x = n->in[0];                                         \
    const int64_t *ints = n->attributes.ints;                           \
    (void)x, (void)ints;                                                \
    out[0] = expression;                                                \
    return out[0] ? OK : error_code();                                  \
  }

/* --- reshape --- */

RULE(reshape_vjp, op_reshape(g[0], x->ndim, x->shape))
RULE(reshape_jvp, op_reshape(g[0], n->out[0]->ndim, n->out[0]->shape))
const OpInfo reshape_op = {"reshape", 1, 1, "the same elements in row-major order under another shape", reshape_vjp, reshape_jvp, NULL, true};

/* Fills the one free (-1) size; checks the count. */
static Status resolve(const Tensor *x, int ndim, const int64_t *shape, int64_t *out) {
  int64_t known = 1, total = tensor_numel(x);
  int open = -1;
  for (int i = 0; i < ndim; i++) {
    out[i] = shape[i];
    if (shape[i] != -1) known *= shape[i];
    else if (open >= 0) return fail(ERR_SHAPE, "reshape: only one size may be -1 in %s", dims_text(ndim, shape));
    else open = i;
  }
  if (open >= 0 && known > 0 && total % known == 0) out[open] = total / known, known = total;
  if (known != total || (open >= 0 && out[open] < 0))
    return fail(ERR_SHAPE, "reshape: %s has %lld elements, %s does not", shape_text(x), (long long)total, dims_text(ndim, shape));
  return OK;
}

Tensor *op_reshape(Tensor *x, int ndim, const int64_t *shape) {
  int64_t wanted[MAX_DIMS];
  if (!x) return NULL;
  if (ndim > MAX_DIMS) return fail(ERR_SHAPE, "reshape: at most %d axes", MAX_DIMS), NULL;
  if (resolve(x, ndim, shape, wanted) != OK) return NULL;
  Tensor *dense = op_dense(x);
  return dense ? op_done(&reshape_op, 1, &x, op_new_view(dense, ndim, wanted, NULL, dense->offset), NULL) : NULL;
}

/* --- permute --- */

static Tensor *unpermute(Tensor *g, const int64_t *ints) {
  int inverse[MAX_DIMS];
  for (int i = 0; i < g->ndim; i++) inverse[ints[i]] = i;
  return op_permute(g, inverse);
}
static Tensor *permute_again(Tensor *t, const int64_t *ints) {
  int axes[MAX_DIMS];
  for (int i = 0; i < t->ndim; i++) axes[i] = (int)ints[i];
  return op_permute(t, axes);
}
RULE(permute_vjp, unpermute(g[0], ints))
RULE(permute_jvp, permute_again(g[0], ints))
const OpInfo permute_op = {"permute", 1, 1, "axes in another order (a view)", permute_vjp, permute_jvp, NULL, true};

Tensor *op_permute(Tensor *x, const int *axes) {
  if (!x) return NULL;
  int64_t shape[MAX_DIMS], stride[MAX_DIMS];
  Attributes a = {0};
  bool seen[MAX_DIMS] = {0};
  for (int i = 0; i < x->ndim; i++) {
    int from = axes[i];
    if (from < 0 || from >= x->ndim || seen[from])
      return fail(ERR_SHAPE, "permute: the axes must be an order of 1 .. %d for shape %s", x->ndim, shape_text(x)), NULL;
    seen[from] = true;
    shape[i] = x->shape[from];
    stride[i] = x->stride[from];
    a.ints[i] = from;
  }
  return op_done(&permute_op, 1, &x, op_new_view(x, x->ndim, shape, stride, x->offset), &a);
}

Tensor *op_transpose(Tensor *x, int axis_a, int axis_b) {
  int axes[MAX_DIMS];
  if (!x || tensor_axis(x, axis_a, "transpose", &axis_a) != OK || tensor_axis(x, axis_b, "transpose", &axis_b) != OK) return NULL;
  for (int i = 0; i < x->ndim; i++) axes[i] = i;
  axes[axis_a] = axis_b;
  axes[axis_b] = axis_a;
  return op_permute(x, axes);
}

/* --- narrow and its adjoint pad --- */

RULE(narrow_vjp, op_pad(g[0], (int)ints[0], ints[1], x->shape[ints[0]] - ints[1] - ints[2]))
RULE(narrow_jvp, op_narrow(g[0], (int)ints[0], ints[1], ints[2]))
const OpInfo narrow_op = {"narrow", 1, 1, "a range of one axis (a view)", narrow_vjp, narrow_jvp, NULL, true};

Tensor *op_narrow(Tensor *x, int axis, int64_t start, int64_t length) {
  if (!x || tensor_axis(x, axis, "narrow", &axis) != OK) return NULL;
  if (start < 0 || length < 0 || start + length > x->shape[axis])
    return fail(ERR_SHAPE, "narrow: %lld values from %lld on do not fit into axis %d of shape %s", (long long)length, (long long)start + 1,
                axis + 1, shape_text(x)), NULL;
  int64_t shape[MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[axis] = length;
  Attributes a = {.ints = {axis, start, length}};
  return op_done(&narrow_op, 1, &x, op_new_view(x, x->ndim, shape, x->stride, x->offset + start * x->stride[axis]), &a);
}

RULE(pad_vjp, op_narrow(g[0], (int)ints[0], ints[1], x->shape[ints[0]]))
RULE(pad_jvp, op_pad(g[0], (int)ints[0], ints[1], ints[2]))
const OpInfo pad_op = {"pad", 1, 1, "zeros before and after along one axis", pad_vjp, pad_jvp, NULL, true};

/* Copies x into the window of y that starts at `start` of the axis. */
static Status place(Tensor *y, const Tensor *x, int axis, int64_t start) {
  Tensor *window = op_new_view(y, x->ndim, x->shape, y->stride, y->offset + start * y->stride[axis]);
  return window ? tensor_copy(window, x) : error_code();
}

Tensor *op_pad(Tensor *x, int axis, int64_t before, int64_t after) {
  if (!x || tensor_axis(x, axis, "pad", &axis) != OK) return NULL;
  if (before < 0 || after < 0) return fail(ERR_ARGUMENT, "pad: sizes must not be negative"), NULL;
  int64_t shape[MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[axis] += before + after;
  Tensor *y = op_new_zeros(x->dtype, x->ndim, shape);
  if (!y || place(y, x, axis, before) != OK) return NULL;
  Attributes a = {.ints = {axis, before, after}};
  return op_done(&pad_op, 1, &x, y, &a);
}

/* --- expand and its adjoint sum_to --- */

RULE(expand_vjp, op_sum_to(g[0], x->ndim, x->shape))
RULE(expand_jvp, op_expand(g[0], n->out[0]->ndim, n->out[0]->shape))
const OpInfo expand_op = {"expand", 1, 1, "repeats axes of size 1 (a view)", expand_vjp, expand_jvp, NULL, true};

Tensor *op_expand(Tensor *x, int ndim, const int64_t *shape) {
  if (!x) return NULL;
  Tensor wide = {.ndim = ndim};
  memcpy(wide.shape, shape, (size_t)ndim * sizeof *shape);
  if (x->ndim == ndim && tensor_same_shape(x, &wide)) return x;
  int n;
  int64_t joint[MAX_DIMS], stride[MAX_DIMS] = {0};
  if (tensor_broadcast("expand", x, &wide, &n, joint) != OK) return NULL;
  if (n != ndim || memcmp(joint, shape, (size_t)ndim * sizeof *shape) != 0)
    return fail(ERR_SHAPE, "expand: shape %s does not repeat to %s", shape_text(x), dims_text(ndim, shape)), NULL;
  for (int i = 0; i < x->ndim; i++)
    if (x->shape[i] != 1) stride[ndim - x->ndim + i] = x->stride[i];
  return op_done(&expand_op, 1, &x, op_new_view(x, ndim, shape, stride, x->offset), NULL);
}

RULE(sum_to_vjp, op_expand(g[0], x->ndim, x->shape))
RULE(sum_to_jvp, op_sum_to(g[0], n->out[0]->ndim, n->out[0]->shape))
const OpInfo sum_to_op = {"sum_to", 1, 1, "sums repeated axes back to a smaller shape", sum_to_vjp, sum_to_jvp, NULL, true};

/* Sums axis by axis from the front; runs of adjacent summed axes go in one reduction. */
Tensor *op_sum_to(Tensor *x, int ndim, const int64_t *shape) {
  if (!x) return NULL;
  Tensor small = {.ndim = ndim};
  memcpy(small.shape, shape, (size_t)ndim * sizeof *shape);
  if (tensor_same_shape(x, &small)) return x;
  int lead = x->ndim - ndim;
  for (int i = 0; i < ndim; i++)
    if (lead < 0 || (shape[i] != 1 && shape[i] != x->shape[lead + i]))
      return fail(ERR_SHAPE, "sum_to: shape %s is no broadcast of %s", shape_text(x), dims_text(ndim, shape)), NULL;
  Tensor *y = op_dense(x);
  int64_t now[MAX_DIMS];
  memcpy(now, x->shape, sizeof now);
  for (int i = 0; y && i < x->ndim; i++) {
    bool summed = i < lead || (shape[i - lead] == 1 && now[i] != 1);
    if (!summed) continue;
    int end = i;
    int64_t outer = 1, n = 1, inner = 1;
    while (end < x->ndim && (end < lead || (shape[end - lead] == 1 && now[end] != 1))) n *= now[end], now[end++] = 1;
    for (int k = 0; k < i; k++) outer *= now[k];
    for (int k = end; k < x->ndim; k++) inner *= now[k];
    Tensor *next = op_new(y->dtype, x->ndim, now);
    if (next) kernels_for(next)->reduce(R_SUM, outer, n, inner, tensor_data(y), tensor_data(next));
    y = next;
    i = end - 1;
  }
  return y ? op_done(&sum_to_op, 1, &x, op_new_view(y, ndim, shape, NULL, y->offset), NULL) : NULL;
}

/* --- contiguous, identity, detach, cast --- */

RULE(identity_rule, op_identity(g[0]))
const OpInfo identity_op = {"identity", 1, 1, "x itself", identity_rule, identity_rule, NULL, true};
RULE(contiguous_rule, op_identity(g[0]))
const OpInfo contiguous_op = {"contiguous", 1, 1, "x in dense memory", contiguous_rule, contiguous_rule, NULL, true};

Tensor *op_identity(Tensor *x) {
  return x ? op_done(&identity_op, 1, &x, op_new_view(x, x->ndim, x->shape, x->stride, x->offset), NULL) : NULL;
}

Tensor *op_contiguous(Tensor *x) {
  if (!x || tensor_contiguous(x)) return x;
  return op_done(&contiguous_op, 1, &x, op_dense(x), NULL);
}

Tensor *op_detach(Tensor *x) { return x ? op_new_view(x, x->ndim, x->shape, x->stride, x->offset) : NULL; }

RULE(cast_vjp, op_cast(g[0], x->dtype))
RULE(cast_jvp, op_cast(g[0], n->out[0]->dtype))
const OpInfo cast_op = {"cast", 1, 1, "another dtype", cast_vjp, cast_jvp, NULL, true};

Tensor *op_cast(Tensor *x, DType d) {
  if (!x || x->dtype == d) return x;
  Tensor *y;
  if (tensor_cast(x, d, &y) != OK || !pool_keep(y)) return NULL;
  return d == I32 ? y : op_done(&cast_op, 1, &x, y, NULL);
}

/* --- concat and split --- */

static Status concat_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  int axis = (int)n->attributes.ints[0];
  int64_t start = 0;
  for (int i = 0; i < n->inputs; i++) {
    int64_t length = n->in[i]->shape[axis];
    if (node_needs(n, i) && !(gin[i] = op_narrow(g[0], axis, start, length))) return error_code();
    start += length;
  }
  return OK;
}

/* Zero tangents stand in as zeros: a concat reads all its inputs. */
static Status concat_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *filled[MAX_INPUTS];
  for (int i = 0; i < n->inputs; i++)
    if (!(filled[i] = t[i] ? t[i] : op_new_zeros(n->in[i]->dtype, n->in[i]->ndim, n->in[i]->shape))) return error_code();
  out[0] = op_concat(n->inputs, filled, (int)n->attributes.ints[0]);
  return out[0] ? OK : error_code();
}
const OpInfo concat_op = {"concat", -1, 1, "tensors one after the other along an axis", concat_vjp, concat_jvp, NULL, true};

Tensor *op_concat(int count, Tensor *const *x, int axis) {
  if (count < 1 || count > MAX_INPUTS) return fail(ERR_ARGUMENT, "concat: takes 1 to %d tensors, got %d", MAX_INPUTS, count), NULL;
  for (int i = 0; i < count; i++)
    if (!x[i]) return NULL;
  if (tensor_axis(x[0], axis, "concat", &axis) != OK) return NULL;
  int64_t shape[MAX_DIMS];
  memcpy(shape, x[0]->shape, sizeof shape);
  shape[axis] = 0;
  for (int i = 0; i < count; i++) {
    bool fits = x[i]->ndim == x[0]->ndim && x[i]->dtype == x[0]->dtype;
    for (int k = 0; fits && k < x[0]->ndim; k++) fits = k == axis || x[i]->shape[k] == shape[k];
    if (!fits)
      return fail(ERR_SHAPE, "concat: input %d (%s %s) does not fit to input 1 (%s %s) along axis %d", i + 1, dtype_name(x[i]->dtype),
                  shape_text(x[i]), dtype_name(x[0]->dtype), shape_text(x[0]), axis + 1), NULL;
    shape[axis] += x[i]->shape[axis];
  }
  Tensor *y = op_new(x[0]->dtype, x[0]->ndim, shape);
  if (!y) return NULL;
  int64_t start = 0;
  for (int i = 0; i < count; i++) {
    if (place(y, x[i], axis, start) != OK) return NULL;
    start += x[i]->shape[axis];
  }
  Attributes a = {.ints = {axis}};
  return op_done(&concat_op, count, x, y, &a);
}

Tensor *op_whole_of(int count, Tensor *const *pieces, int axis) {
  Tensor whole = *pieces[0]; /* a header to check with */
  whole.shape[axis] = 0;
  for (int i = 0; i < count; i++) {
    const Tensor *t = pieces[i];
    bool fits = t->storage == whole.storage && t->dtype == whole.dtype && t->ndim == whole.ndim &&
                t->offset == whole.offset + whole.shape[axis] * whole.stride[axis];
    for (int k = 0; fits && k < whole.ndim; k++) fits = t->stride[k] == whole.stride[k] && (k == axis || t->shape[k] == whole.shape[k]);
    if (!fits) return NULL;
    whole.shape[axis] += t->shape[axis];
  }
  return tensor_contiguous(&whole) ? op_new_view(&whole, whole.ndim, whole.shape, NULL, whole.offset) : NULL;
}

/* The gradient of the whole: the pieces together, which may lie so already (attention makes them so). */
static Status split_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  Tensor *parts[MAX_OUTPUTS];
  bool all = !grad_enabled();
  for (int i = 0; i < n->outputs; i++) all = all && g[i];
  if (all && (gin[0] = op_whole_of(n->outputs, g, (int)n->attributes.ints[0]))) return OK;
  for (int i = 0; i < n->outputs; i++)
    if (!(parts[i] = g[i] ? g[i] : op_new_zeros(n->out[i]->dtype, n->out[i]->ndim, n->out[i]->shape))) return error_code();
  gin[0] = op_concat(n->outputs, parts, (int)n->attributes.ints[0]);
  return gin[0] ? OK : error_code();
}
static Status split_jvp(Node *n, Tensor *const *t, Tensor **out) {
  return op_split(t[0], (int)n->attributes.ints[0], n->outputs, n->attributes.ints + 1, out);
}
const OpInfo split_op = {"split", 1, -1, "pieces along an axis (views)", split_vjp, split_jvp, NULL, true};

Status op_split(Tensor *x, int axis, int count, const int64_t *sizes, Tensor **out) {
  if (!x) return error_code();
  TRY(tensor_axis(x, axis, "split", &axis));
  if (count < 1 || count > MAX_OUTPUTS) return fail(ERR_ARGUMENT, "split: makes 1 to %d pieces, %d were asked for", MAX_OUTPUTS, count);
  int64_t shape[MAX_DIMS], start = 0;
  Attributes a = {.ints = {axis}};
  memcpy(shape, x->shape, sizeof shape);
  for (int i = 0; i < count; i++) {
    a.ints[i + 1] = shape[axis] = sizes[i];
    if (sizes[i] < 0 || start + sizes[i] > x->shape[axis]) break;
    if (!(out[i] = op_new_view(x, x->ndim, shape, x->stride, x->offset + start * x->stride[axis]))) return error_code();
    start += sizes[i];
  }
  if (start != x->shape[axis])
    return fail(ERR_SHAPE, "split: the sizes %s do not add up to %lld, axis %d of shape %s", dims_text(count, sizes),
                (long long)x->shape[axis], axis + 1, shape_text(x));
  return graph_record(&split_op, 1, &x, count, out, &a);
}

/* matmul.c - matrix products: batched matmul, and linear (x w^T + b).
 *
 * Operands are handed to BLAS as they lie (plain or transposed) where their strides
 * allow, else copied. A tangent of a product is a sum of two products; the second
 * is accumulated by BLAS into the first (beta = 1), so it costs no extra pass. */
#include <string.h>

#include "autograd/ops/ops.h"

/* The last two axes of a tensor as BLAS wants them. */
typedef struct Matrix {
  Tensor *t;
  bool transposed;
  int64_t ld;
} Matrix;

static bool as_it_lies(const Tensor *t, Matrix *m) {
  int64_t rows = t->shape[t->ndim - 2], columns = t->shape[t->ndim - 1];
  int64_t down = t->stride[t->ndim - 2], along = t->stride[t->ndim - 1];
  if ((along == 1 || columns == 1) && (down >= columns || rows == 1)) {
    m->transposed = false;
    m->ld = rows == 1 || down < columns ? (columns > 0 ? columns : 1) : down;
    return true;
  }
  if ((down == 1 || rows == 1) && (along >= rows || columns == 1)) {
    m->transposed = true;
    m->ld = columns == 1 || along < rows ? (rows > 0 ? rows : 1) : along;
    return true;
  }
  return false;
}

static bool matrix_of(Tensor *t, Matrix *m) {
  m->t = t;
  if (t && as_it_lies(t, m)) return true;
  m->t = op_dense(t);
  return m->t && as_it_lies(m->t, m);
}

/* y = a b + joined over the batch axes of y; a and b broadcast over them. */
static Status product_into(Tensor *y, Tensor *a, Tensor *b, Joined join) {
  Matrix ma, mb;
  if (!matrix_of(a, &ma) || !matrix_of(b, &mb)) return error_code();
  int batch_axes = y->ndim - 2;
  Tensor views[3] = {*y, *ma.t, *mb.t}; /* headers of one matrix, walked over the batch */
  int64_t stride[3][MAX_DIMS] = {{0}}, index[MAX_DIMS] = {0}, outer = 1;
  for (int k = 0; k < 3; k++)
    for (int i = 0; i < views[k].ndim - 2; i++)
      if (views[k].shape[i] != 1) stride[k][batch_axes - (views[k].ndim - 2) + i] = views[k].stride[i];
  for (int i = 0; i + 1 < batch_axes; i++) outer *= y->shape[i];
  int last = batch_axes - 1;
  size_t element = dtype_bytes(y->dtype);
  Gemm g = {
    .transpose_a = ma.transposed, .transpose_b = mb.transposed,
    .m = y->shape[y->ndim - 2], .n = y->shape[y->ndim - 1], .k = a->shape[a->ndim - 1],
    .lda = ma.ld, .ldb = mb.ld, .ldc = y->shape[y->ndim - 1] > 0 ? y->shape[y->ndim - 1] : 1, .alpha = 1, .beta = join.self,
    .batch = batch_axes ? y->shape[last] : 1,
    .batch_a = batch_axes ? stride[1][last] : 0, .batch_b = batch_axes ? stride[2][last] : 0, .batch_c = batch_axes ? stride[0][last] : 0,
  };
  if (join.bias) g.bias = tensor_data(join.bias);
  if (join.residual) g.add = tensor_data(join.residual), g.ld_add = join.residual->shape[1];
  if (join.activated) g.activated = tensor_data(join.activated), g.activation = join.activation;
  g.turn = join.turn;
  for (int64_t i = 0; i < outer; i++) {
    int64_t at[3] = {0};
    for (int k = 0; k < 3; k++)
      for (int d = 0; d < last; d++) at[k] += index[d] * stride[k][d];
    g.c = (char *)tensor_data(y) + at[0] * (int64_t)element;
    g.a = (char *)tensor_data(ma.t) + at[1] * (int64_t)element;
    g.b = (char *)tensor_data(mb.t) + at[2] * (int64_t)element;
    kernels_for(y)->gemm(&g);
    for (int d = last - 1; d >= 0 && ++index[d] == y->shape[d]; d--) index[d] = 0;
  }
  return OK;
}

/* Operands of two or more axes and one real type; the shape of their product. */
static Status product_shape(const char *op, const Tensor *a, const Tensor *b, int *ndim, int64_t *shape) {
  if (a->dtype != b->dtype || !dtype_is_real(a->dtype))
    return fail(ERR_DTYPE, "%s: needs two f32 or two f64 tensors, got %s %s and %s %s", op, dtype_name(a->dtype), shape_text(a),
                dtype_name(b->dtype), shape_text(b));
  if (a->shape[a->ndim - 1] != b->shape[b->ndim - 2])
    return fail(ERR_SHAPE, "%s: %s and %s do not multiply (%lld columns against %lld rows)", op, shape_text(a), shape_text(b),
                (long long)a->shape[a->ndim - 1], (long long)b->shape[b->ndim - 2]);
  Tensor x = *a, y = *b;
  x.ndim -= 2, y.ndim -= 2;
  if (tensor_broadcast(op, &x, &y, ndim, shape) != OK)
    return fail(ERR_SHAPE, "%s: the batch axes of %s and %s do not fit", op, shape_text(a), shape_text(b));
  shape[(*ndim)++] = a->shape[a->ndim - 2];
  shape[(*ndim)++] = b->shape[b->ndim - 1];
  return OK;
}

static Tensor *transposed(Tensor *t) { return op_transpose(t, -2, -1); }

/* (..., M, K) times (K, N): one product of all rows. */
static Tensor *as_rows(Tensor *x) { return x ? op_reshape(x, 2, (int64_t[]){-1, x->shape[x->ndim - 1]}) : NULL; }

/* --- matmul --- */

static Tensor *multiply(Tensor *a, Tensor *b); /* two or more axes each */

static Status matmul_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  Tensor *a = n->in[0], *b = n->in[1];
  if (node_needs(n, 0) && !(gin[0] = op_sum_to(multiply(g[0], transposed(b)), a->ndim, a->shape))) return error_code();
  if (!node_needs(n, 1)) return OK;
  if (b->ndim == 2 && a->ndim > 2) gin[1] = multiply(transposed(as_rows(a)), as_rows(g[0]));
  else gin[1] = op_sum_to(multiply(transposed(a), g[0]), b->ndim, b->shape);
  return gin[1] ? OK : error_code();
}

static Status matmul_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *y = op_new_like(n->out[0]);
  if (!y) return error_code();
  if (t[0]) TRY(product_into(y, t[0], n->in[1], (Joined){0}));
  if (t[1]) TRY(product_into(y, n->in[0], t[1], (Joined){.self = t[0]}));
  out[0] = y;
  return OK;
}

const OpInfo matmul_op = {"matmul", 2, 1, "matrix product over the last two axes, batched and broadcast over the others", matmul_vjp, matmul_jvp, NULL, true};

static Tensor *multiply(Tensor *a, Tensor *b) {
  if (!a || !b) return NULL;
  if (a->ndim > 2 && b->ndim == 2 && tensor_contiguous(a)) { /* one large product instead of a batch */
    int64_t shape[MAX_DIMS];
    memcpy(shape, a->shape, sizeof shape);
    if (a->shape[a->ndim - 1] == b->shape[0]) {
      shape[a->ndim - 1] = b->shape[1];
      return op_reshape(multiply(as_rows(a), b), a->ndim, shape);
    }
  }
  int ndim;
  int64_t shape[MAX_DIMS];
  if (product_shape("matmul", a, b, &ndim, shape) != OK) return NULL;
  Tensor *y = op_new(a->dtype, ndim, shape);
  if (!y || product_into(y, a, b, (Joined){0}) != OK) return NULL;
  return op_done(&matmul_op, 2, (Tensor *[]){a, b}, y, NULL);
}

Tensor *op_matmul(Tensor *a, Tensor *b) {
  if (!a || !b) return NULL;
  if (a->ndim == 0 || b->ndim == 0)
    return fail(ERR_SHAPE, "matmul: needs vectors or matrices, got %s and %s", shape_text(a), shape_text(b)), NULL;
  if (a->ndim > 1 && b->ndim > 1) return multiply(a, b);
  /* a vector stands for a row on the left and for a column on the right; its axis goes again */
  int64_t k = a->shape[a->ndim - 1];
  if (k != b->shape[b->ndim > 1 ? b->ndim - 2 : 0])
    return fail(ERR_SHAPE, "matmul: %s and %s do not multiply", shape_text(a), shape_text(b)), NULL;
  Tensor *left = a->ndim == 1 ? op_reshape(a, 2, (int64_t[]){1, k}) : a, *right = b->ndim == 1 ? op_reshape(b, 2, (int64_t[]){k, 1}) : b;
  Tensor *y = multiply(left, right);
  if (!y) return NULL;
  int64_t shape[MAX_DIMS];
  int ndim = 0;
  for (int i = 0; i < y->ndim; i++) {
    bool row = i == y->ndim - 2, column = i == y->ndim - 1;
    if (!(row && a->ndim == 1) && !(column && b->ndim == 1)) shape[ndim++] = y->shape[i];
  }
  return op_reshape(y, ndim, shape);
}

/* --- linear: x (..., in), w (out, in); b (out) and r (..., out) or NULL: x w^T + b + r --- */

enum { LX, LW, LB, LR };

Status op_linear_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  Tensor *x = n->in[LX], *w = n->in[LW];
  if (node_needs(n, LX) && !(gin[LX] = op_matmul(g[0], w))) return error_code();
  if (node_needs(n, LW) && !(gin[LW] = multiply(transposed(as_rows(g[0])), as_rows(x)))) return error_code();
  if (node_needs(n, LB) && !(gin[LB] = op_sum_to(g[0], 1, n->in[LB]->shape))) return error_code();
  if (node_needs(n, LR)) gin[LR] = g[0];
  return OK;
}

static Status linear_rows(Tensor *y, Tensor *x, Tensor *w, Joined join) {
  int64_t in = w->shape[1], out = w->shape[0], count = in ? tensor_numel(x) / in : out ? tensor_numel(y) / out : 0;
  Tensor *dense = op_dense(x), *bias = op_dense(join.bias), *residual = op_dense(join.residual);
  if (!dense || (join.bias && !bias) || (join.residual && !residual)) return error_code();
  Tensor *rows = op_new_view(y, 2, (int64_t[]){count, out}, NULL, y->offset);
  Tensor *from = op_new_view(dense, 2, (int64_t[]){count, in}, NULL, dense->offset);
  join.bias = bias;
  join.residual = residual ? op_new_view(residual, 2, (int64_t[]){count, out}, NULL, residual->offset) : NULL;
  if (!rows || !from || (residual && !join.residual)) return error_code();
  return product_into(rows, from, transposed(w), join);
}

Status op_linear_into(Tensor *y, Tensor *x, Tensor *w, Joined join) {
  bool was = grad_enable(false); /* the views are nobody's history */
  Status s = linear_rows(y, x, w, join);
  grad_enable(was);
  return s;
}

/* t = tx w^T + x tw^T + tb + tr, one or two products that take the others along */
Status op_linear_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *y = op_new_like(n->out[0]), *tb = t[LB], *tr = t[LR];
  if (!y) return error_code();
  bool begun = t[LX] || t[LW];
  if (t[LX]) TRY(op_linear_into(y, t[LX], n->in[LW], (Joined){.bias = tb, .residual = tr}));
  if (t[LW]) TRY(op_linear_into(y, n->in[LX], t[LW], t[LX] ? (Joined){.self = true} : (Joined){.bias = tb, .residual = tr}));
  out[0] = y;
  if (begun) return OK;
  out[0] = tb && tr ? op_add(tr, tb) : tr ? tr : op_expand(tb, y->ndim, y->shape);
  return out[0] ? OK : error_code();
}

const OpInfo linear_op = {"linear", 4, 1, "x w^T + b + r: x (..., in), w (out, in), b (out) and r (..., out) or absent", op_linear_vjp, op_linear_jvp, NULL, true};

/* The tangent of multiply(a, b); NULL where both tangents are zero. */
static Status multiply_tangent(Tensor *a, Tensor *ta, Tensor *b, Tensor *tb, Tensor **out) {
  int ndim;
  int64_t shape[MAX_DIMS];
  *out = NULL;
  if (!a || !b) return error_code();
  if (!ta && !tb) return OK;
  if (a->ndim > 2 && b->ndim == 2 && tensor_contiguous(a)) { /* as multiply does it */
    Tensor *rows = as_rows(ta);
    if (ta && !rows) return error_code();
    memcpy(shape, a->shape, sizeof shape);
    shape[a->ndim - 1] = b->shape[1];
    TRY(multiply_tangent(as_rows(a), rows, b, tb, out));
    return (*out = op_reshape(*out, a->ndim, shape)) ? OK : error_code();
  }
  TRY(product_shape("matmul", a, b, &ndim, shape));
  Tensor *y = op_new(a->dtype, ndim, shape);
  if (!y) return error_code();
  if (ta) TRY(product_into(y, ta, b, (Joined){0}));
  if (tb) TRY(product_into(y, a, tb, (Joined){.self = ta != NULL}));
  *out = y;
  return OK;
}

static Status bias_pair(Node *n, const Pair *p) {
  const int64_t *shape = n->in[LB]->shape;
  if (p->wanted[LB] && !(p->gin[LB] = op_sum_to(p->gout[0], 1, shape))) return error_code();
  return p->tgout[0] && !(p->tgin[LB] = op_sum_to(p->tgout[0], 1, shape)) ? error_code() : OK;
}

/* The tangent of g w. It has the shape of x, of which the tangent is spent where weights have been seen to: then it takes the place of that. */
static Status input_tangent(Node *n, const Pair *p) {
  Tensor *g = p->gout[0], *tg = p->tgout[0], *w = n->in[LW], *tw = p->tin[LW], *tx = p->tin[LX];
  const bool fits = p->spent[LX] && tx && tx != tw && tangent_may_overwrite(tx) && tensor_contiguous(g) && (!tg || tensor_contiguous(tg)) && (tg || tw);
  if (!fits) return multiply_tangent(g, tg, w, tw, &p->tgin[LX]);
  Tensor *place, *rows, *t_rows = as_rows(tg);
  TRY(tensor_alias(tx, &place));
  if (!(p->tgin[LX] = pool_keep(place)) || !(rows = as_rows(place)) || (tg && !t_rows)) return error_code();
  if (tg) TRY(product_into(rows, t_rows, w, (Joined){0}));
  if (tw) TRY(product_into(rows, as_rows(g), tw, (Joined){.self = tg}));
  tensor_touch(place);
  return OK;
}

/* As op_linear_vjp and its tangent, but for the gradients that are not wanted, of weights that are leaves above all: a third of the
 * products of a gradient, and where that of x is known the second third. */
Status op_linear_pair(Node *n, const Pair *p, bool *applies) {
  Tensor *x = n->in[LX], *g = p->gout[0], *tg = p->tgout[0];
  if (!(*applies = x->ndim > 1)) return OK;
  Tensor *rows = as_rows(x), *t_rows = as_rows(p->tin[LX]), *across = as_rows(g), *t_across = as_rows(tg);
  if (!rows || (p->tin[LX] && !t_rows) || !across || (tg && !t_across)) return error_code();
  if (node_needs(n, LW)) {
    if (!(across = transposed(across)) || (tg && !(t_across = transposed(t_across)))) return error_code();
    if (p->wanted[LW] && !(p->gin[LW] = multiply(across, rows))) return error_code();
    TRY(multiply_tangent(across, t_across, rows, t_rows, &p->tgin[LW]));
  }
  if (p->wanted[LX] && !(p->gin[LX] = op_matmul(g, n->in[LW]))) return error_code();
  if (node_needs(n, LX)) TRY(input_tangent(n, p));
  if (node_needs(n, LB)) TRY(bias_pair(n, p));
  if (node_needs(n, LR)) p->gin[LR] = g, p->tgin[LR] = tg;
  return OK;
}

static Status linear_check(const Tensor *x, const Tensor *w, const Tensor *b, const Tensor *r) {
  if (w->ndim != 2 || x->ndim < 1 || x->shape[x->ndim - 1] != w->shape[1])
    return fail(ERR_SHAPE, "linear: input %s does not fit weight %s (out, in)", shape_text(x), shape_text(w));
  if (b && (b->ndim != 1 || b->shape[0] != w->shape[0]))
    return fail(ERR_SHAPE, "linear: bias %s does not fit weight %s (out, in)", shape_text(b), shape_text(w));
  if (!dtype_is_real(x->dtype) || x->dtype != w->dtype || (b && b->dtype != x->dtype) || (r && r->dtype != x->dtype))
    return fail(ERR_DTYPE, "linear: input is %s, weight %s%s%s%s%s", dtype_name(x->dtype), dtype_name(w->dtype), b ? ", bias " : "",
                b ? dtype_name(b->dtype) : "", r ? ", residual " : "", r ? dtype_name(r->dtype) : "");
  return OK;
}

/* A tensor for the result of operands that fit, b and r or NULL. */
static Tensor *linear_result(Tensor *x, Tensor *w, Tensor *b, Tensor *r) {
  if (!x || !w || linear_check(x, w, b, r) != OK) return NULL;
  int64_t shape[MAX_DIMS];
  memcpy(shape, x->shape, sizeof shape);
  shape[x->ndim - 1] = w->shape[0];
  Tensor *y = op_new(x->dtype, x->ndim, shape);
  if (y && r && !tensor_same_shape(r, y))
    return fail(ERR_SHAPE, "linear: residual %s does not fit the result %s", shape_text(r), shape_text(y)), NULL;
  return y;
}

Tensor *op_linear_result(Tensor *x, Tensor *w, Tensor *b) { return linear_result(x, w, b, NULL); }

Tensor *op_linear_add(Tensor *x, Tensor *w, Tensor *b, Tensor *r) {
  Tensor *y = linear_result(x, w, b, r);
  if (!y) return NULL;
  if (op_linear_into(y, x, w, (Joined){.bias = b, .residual = r}) != OK) return NULL;
  return op_done(&linear_op, 4, (Tensor *[]){x, w, b, r}, y, NULL);
}

Tensor *op_linear(Tensor *x, Tensor *w, Tensor *b) { return op_linear_add(x, w, b, NULL); }

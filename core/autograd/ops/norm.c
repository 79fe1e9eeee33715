/* norm.c - layer norm and RMS norm.
 *
 * Both are one family: the node of a forward pass keeps the rows' statistics as hidden
 * outputs (mean, which RMS norm lacks, and 1/deviation), and norm_backward takes them
 * in as constants: whatever they depend on is x, and its rules account for that. */
#include <string.h>

#include "autograd/ops/ops.h"

extern const OpInfo layer_norm_op, rms_norm_op, norm_backward_op;

enum { X, W, B, R };                  /* inputs of a norm; w, b and the residual r may be NULL, and b is in RMS norm */
enum { BX, BW, BDY, BMEAN, BRSTD };   /* inputs of norm_backward */

static int64_t width_of(const Tensor *x) { return x->shape[x->ndim - 1]; }
static int64_t rows_of(const Tensor *x) { return width_of(x) ? tensor_numel(x) / width_of(x) : 0; }
static void *data_or_null(const Tensor *t) { return t ? tensor_data(t) : NULL; }

static Status check(const char *op, const Tensor *x, const Tensor *w, const Tensor *b, double eps, const Tensor *r) {
  if (!op_check_real(op, x, "the input")) return error_code();
  if (x->ndim < 1 || width_of(x) < 1) return fail(ERR_SHAPE, "%s: the input needs a last axis to normalise, got shape %s", op, shape_text(x));
  if (!(eps >= 0)) return fail(ERR_ARGUMENT, "%s: eps must not be negative, got %g", op, eps);
  if (r && (!tensor_same_shape(r, x) || r->dtype != x->dtype))
    return fail(ERR_SHAPE, "%s: residual %s %s does not fit the input %s %s", op, dtype_name(r->dtype), shape_text(r), dtype_name(x->dtype), shape_text(x));
  const Tensor *each[] = {w, b};
  const char *names[] = {"weight", "bias"};
  for (int i = 0; i < 2; i++) {
    if (!each[i]) continue;
    if (each[i]->ndim != 1 || each[i]->shape[0] != width_of(x))
      return fail(ERR_SHAPE, "%s: %s %s does not fit the last axis of %s", op, names[i], shape_text(each[i]), shape_text(x));
    if (each[i]->dtype != x->dtype)
      return fail(ERR_DTYPE, "%s: the input is %s, the %s %s", op, dtype_name(x->dtype), names[i], dtype_name(each[i]->dtype));
  }
  return OK;
}

/* --- backward, as an op: (x, w, dy, mean, rstd) -> dx [, dw] [, db]; ints: centred, dw wanted, db wanted --- */

static int results(const Attributes *a) { return 1 + (a->ints[1] != 0) + (a->ints[2] != 0); }

/* Makes dx (or takes sum, to be added to), dw, db as wanted and lists them in out. */
static Status make_results(const Tensor *x, const Attributes *a, Tensor *sum, Tensor **out, Tensor **dw, Tensor **db) {
  int n = 0;
  *dw = *db = NULL;
  if (!(out[n++] = sum ? sum : op_new_like(x))) return error_code();
  if (a->ints[1] && !(*dw = out[n++] = op_new(x->dtype, 1, (int64_t[]){width_of(x)}))) return error_code();
  if (a->ints[2] && !(*db = out[n++] = op_new(x->dtype, 1, (int64_t[]){width_of(x)}))) return error_code();
  return OK;
}

/* sum: gradients of x so far, which dx joins; only while nothing is recorded */
static Status norm_backward(Tensor *const *in, const Attributes *a, Tensor *sum, Tensor **out) {
  Tensor *x = op_dense(in[BX]), *dy = op_dense(in[BDY]), *w = op_dense(in[BW]), *dw, *db;
  if (!x || !dy || (in[BW] && !w)) return error_code();
  TRY(make_results(x, a, sum, out, &dw, &db));
  const Kernels *k = kernels_for(x);
  if (a->ints[0])
    k->layer_norm_backward(rows_of(x), width_of(x), tensor_data(x), data_or_null(w), tensor_data(in[BMEAN]), tensor_data(in[BRSTD]),
                           tensor_data(dy), sum != NULL, tensor_data(out[0]), data_or_null(dw), data_or_null(db));
  else
    k->rms_norm_backward(rows_of(x), width_of(x), tensor_data(x), data_or_null(w), tensor_data(in[BRSTD]), tensor_data(dy), sum != NULL,
                         tensor_data(out[0]), data_or_null(dw));
  if (sum) tensor_touch(sum);
  return graph_record(&norm_backward_op, 5, in, results(a), out, a);
}

/* Along tangents t of x, w and dy. */
static Status norm_backward_tangent(Tensor *const *in, const Attributes *a, Tensor *const *t, Tensor **out) {
  Tensor *x = op_dense(in[BX]), *dy = op_dense(in[BDY]), *w = op_dense(in[BW]), *dw, *db;
  Tensor *tx = op_dense(t[BX]), *tw = op_dense(t[BW]), *tdy = op_dense(t[BDY]);
  if (!x || !dy || (in[BW] && !w) || (t[BX] && !tx) || (t[BW] && !tw) || (t[BDY] && !tdy)) return error_code();
  TRY(make_results(x, a, NULL, out, &dw, &db));
  kernels_for(x)->norm_backward_tangent(rows_of(x), width_of(x), tensor_data(x), data_or_null(w), data_or_null(in[BMEAN]), tensor_data(in[BRSTD]),
                                        tensor_data(dy), data_or_null(tx), data_or_null(tw), data_or_null(tdy), tensor_data(out[0]), data_or_null(dw),
                                        data_or_null(db));
  return OK;
}

static Status norm_backward_jvp(Node *n, Tensor *const *t, Tensor **out) { return norm_backward_tangent(n->in, &n->attributes, t, out); }

/* z = (x - mean) r from x alone, and r */
static Tensor *normalised(Tensor *x, bool centred, double eps, Tensor **r) {
  if (centred) x = op_sub(x, op_mean(x, -1, true));
  *r = op_rsqrt(op_add_scalar(op_mean(op_square(x), -1, true), eps));
  return op_mul(x, *r);
}

/* dx = r (g - mean(g) - z mean(g z)), g = w dy */
static Status norm_backward_compose(Node *n, Tensor *const *in, Tensor **out) {
  const Attributes *a = &n->attributes;
  Tensor *r, *z = normalised(in[BX], a->ints[0], a->reals[0], &r), *g = in[BW] ? op_mul(in[BDY], in[BW]) : in[BDY];
  Tensor *d = op_sub(g, op_mul(z, op_mean(op_mul(g, z), -1, true)));
  if (a->ints[0]) d = op_sub(d, op_mean(g, -1, true));
  int64_t width = width_of(in[BX]);
  int k = 0;
  out[k++] = op_mul(r, d);
  if (a->ints[1]) out[k++] = op_sum_to(op_mul(in[BDY], z), 1, &width);
  if (a->ints[2]) out[k++] = op_sum_to(in[BDY], 1, &width);
  for (int i = 0; i < k; i++)
    if (!out[i]) return error_code();
  return OK;
}

const OpInfo norm_backward_op = {"norm_backward", 5, -1, "gradients of layer_norm and rms_norm", NULL, norm_backward_jvp, norm_backward_compose, false};

/* --- forward --- */

static bool centred(const Node *n) { return n->op == &layer_norm_op; }

/* The gradients of x, and of w and b where asked for, as norm_backward lists them, to their inputs. */
static void hand_out(const Attributes *a, Tensor *const *out, Tensor **gin) {
  int k = 0;
  gin[X] = out[k++];
  if (a->ints[1]) gin[W] = out[k++];
  if (a->ints[2]) gin[B] = out[k++];
}

static Status norm_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  if (!g[0]) return OK; /* the statistics are read by norm_backward alone */
  if (node_needs(n, R)) gin[R] = g[0];
  if (!node_needs(n, X) && !node_needs(n, W) && !node_needs(n, B)) return OK;
  Attributes a = {.ints = {centred(n), node_needs(n, W), node_needs(n, B)}, .reals = {n->attributes.reals[0]}};
  Tensor *in[] = {n->in[X], n->in[W], g[0], centred(n) ? n->out[2] : NULL, n->out[1]}, *out[3], *sum = gradient_so_far(n, X);
  TRY(norm_backward(in, &a, sum, out));
  if (sum) gradient_is_sum(X);
  hand_out(&a, out, gin);
  return OK;
}

/* As norm_vjp and its tangent, but for the sums of gradients of w and b that are not wanted. */
Status op_norm_pair(Node *n, const Pair *p, bool *applies) {
  if (!(*applies = p->gout[0] && (node_needs(n, X) || node_needs(n, W) || node_needs(n, B)))) return OK;
  Attributes value = {.ints = {centred(n), p->wanted[W], p->wanted[B]}}, tangent = {.ints = {centred(n), node_needs(n, W), node_needs(n, B)}};
  Tensor *in[] = {n->in[X], n->in[W], p->gout[0], centred(n) ? n->out[2] : NULL, n->out[1]}, *out[3];
  Tensor *t[] = {p->tin[X], p->tin[W], p->tgout[0]};
  if (node_needs(n, R)) p->gin[R] = p->gout[0], p->tgin[R] = p->tgout[0];
  if (p->wanted[X] || p->wanted[W] || p->wanted[B]) {
    TRY(norm_backward(in, &value, NULL, out));
    hand_out(&value, out, p->gin);
  }
  if (!t[BX] && !t[BW] && !t[BDY]) return OK;
  TRY(norm_backward_tangent(in, &tangent, t, out));
  hand_out(&tangent, out, p->tgin);
  return OK;
}

static Status norm_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *x = op_dense(n->in[X]), *w = op_dense(n->in[W]), *tx = op_dense(t[X]), *tw = op_dense(t[W]), *tb = op_dense(t[B]), *tr = op_dense(t[R]);
  if (!x || (n->in[W] && !w) || (t[X] && !tx) || (t[W] && !tw) || (t[B] && !tb) || (t[R] && !tr) || !(out[0] = op_new_like(x))) return error_code();
  Tensor *mean = centred(n) ? n->out[2] : NULL;
  kernels_for(x)->norm_tangent(rows_of(x), width_of(x), tensor_data(x), data_or_null(w), data_or_null(mean), tensor_data(n->out[1]),
                               data_or_null(tx), data_or_null(tw), data_or_null(tb), data_or_null(tr), tensor_data(out[0]));
  return OK;
}

static Status norm_compose(Node *n, Tensor *const *in, Tensor **out) {
  Tensor *r, *y = normalised(in[X], n->op == &layer_norm_op, n->attributes.reals[0], &r);
  if (in[W]) y = op_mul(y, in[W]);
  if (in[B]) y = op_add(y, in[B]);
  if (in[R]) y = op_add(in[R], y);
  out[0] = y;
  return y ? OK : error_code();
}

const OpInfo layer_norm_op = {"layer_norm", 4, 3, "(x - mean) / sqrt(variance + eps) w + b + r over the last axis", norm_vjp, norm_jvp, norm_compose, false};
const OpInfo rms_norm_op = {"rms_norm", 4, 2, "x / sqrt(mean square + eps) w + r over the last axis", norm_vjp, norm_jvp, norm_compose, false};

Tensor *op_layer_norm_add(Tensor *x, Tensor *w, Tensor *b, double eps, Tensor *r) {
  if (!x || check("layer_norm", x, w, b, eps, r) != OK) return NULL;
  Tensor *dense = op_dense(x), *dw = op_dense(w), *db = op_dense(b), *dr = op_dense(r);
  if (!dense || (w && !dw) || (b && !db) || (r && !dr)) return NULL;
  int64_t rows = rows_of(x);
  Tensor *out[3] = {op_new_like(x), op_new(x->dtype, 1, &rows), op_new(x->dtype, 1, &rows)};
  if (!out[0] || !out[1] || !out[2]) return NULL;
  kernels_for(x)->layer_norm(rows, width_of(x), eps, tensor_data(dense), data_or_null(dw), data_or_null(db), data_or_null(dr), tensor_data(out[0]),
                             tensor_data(out[2]), tensor_data(out[1]));
  Attributes a = {.reals = {eps}};
  return graph_record(&layer_norm_op, 4, (Tensor *[]){x, w, b, r}, 3, out, &a) == OK ? out[0] : NULL;
}

Tensor *op_layer_norm(Tensor *x, Tensor *w, Tensor *b, double eps) { return op_layer_norm_add(x, w, b, eps, NULL); }

Tensor *op_rms_norm_add(Tensor *x, Tensor *w, double eps, Tensor *r) {
  if (!x || check("rms_norm", x, w, NULL, eps, r) != OK) return NULL;
  Tensor *dense = op_dense(x), *dw = op_dense(w), *dr = op_dense(r);
  if (!dense || (w && !dw) || (r && !dr)) return NULL;
  int64_t rows = rows_of(x);
  Tensor *out[2] = {op_new_like(x), op_new(x->dtype, 1, &rows)};
  if (!out[0] || !out[1]) return NULL;
  kernels_for(x)->rms_norm(rows, width_of(x), eps, tensor_data(dense), data_or_null(dw), data_or_null(dr), tensor_data(out[0]), tensor_data(out[1]));
  Attributes a = {.reals = {eps}};
  return graph_record(&rms_norm_op, 4, (Tensor *[]){x, w, NULL, r}, 2, out, &a) == OK ? out[0] : NULL;
}

Tensor *op_rms_norm(Tensor *x, Tensor *w, double eps) { return op_rms_norm_add(x, w, eps, NULL); }

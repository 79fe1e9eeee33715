/* binary.c - functions of two and three arguments, elementwise, with broadcasting.
 *
 * Operands of different types meet in the wider one (i32 < bf16 < f32 < f64). i32 with
 * i32 is computed in double, which holds every i32 exactly, and stays i32; a quotient
 * of integers is f32. */
#include <string.h>

#include "autograd/ops/ops.h"

static DType meet(DType a, DType b) {
  if (a == b) return a;
  if (a == F64 || b == F64) return F64;
  return F32;
}

/* y = kernel(a, b) for operands of one real type that broadcast; no record. */
static Tensor *compute(const char *op, Binary kernel, Tensor *a, Tensor *b) {
  int ndim;
  int64_t shape[MAX_DIMS];
  if (tensor_broadcast(op, a, b, &ndim, shape) != OK) return NULL;
  Tensor *y = op_new(a->dtype, ndim, shape);
  if (!y) return NULL;
  Loop l;
  loop_make(&l, 3, (Tensor *[]){y, a, b});
  kernels_for(y)->binary(kernel, &l);
  return y;
}

static Tensor *integers(const char *op, Binary kernel, Tensor *a, Tensor *b) {
  Tensor *x = op_cast(a, F64), *z = op_cast(b, F64);
  if (!x || !z) return NULL;
  return op_cast(compute(op, kernel, x, z), kernel == B_DIV ? F32 : I32);
}

static Tensor *apply(const OpInfo *info, Binary kernel, Tensor *a, Tensor *b) {
  if (!a || !b) return NULL;
  if (a->dtype == I32 && b->dtype == I32) return integers(info->name, kernel, a, b);
  DType d = meet(a->dtype, b->dtype);
  if (d == BF16) d = F32;
  if (!(a = op_cast(a, d)) || !(b = op_cast(b, d))) return NULL;
  return op_done(info, 2, (Tensor *[]){a, b}, compute(info->name, kernel, a, b), NULL);
}

/* The part of a gradient that belongs to a broadcast operand. */
static Tensor *fit(Tensor *g, const Tensor *operand) { return op_sum_to(g, operand->ndim, operand->shape); }
static Tensor *spread(Tensor *t, const Node *n) { return t ? op_expand(t, n->out[0]->ndim, n->out[0]->shape) : NULL; }

/* ta + tb where either may be zero (NULL), at the full shape */
static Status tangent_sum(const Node *n, Tensor *ta, Tensor *tb, Tensor **out) {
  *out = ta && tb ? op_add(ta, tb) : ta ? ta : tb;
  *out = spread(*out, n);
  return *out ? OK : error_code();
}

#define NEED(i, expression)                                  \
  if (node_needs(n, i)) {                                    \
    gin[i] = fit(expression, n->in[i]);                      \
    if (!gin[i]) return error_code();                        \
  }

static Status add_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  NEED(0, g[0]);
  NEED(1, g[0]);
  return OK;
}
static Status add_jvp(Node *n, Tensor *const *t, Tensor **out) { return tangent_sum(n, t[0], t[1], out); }

static Status sub_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  NEED(0, g[0]);
  NEED(1, op_neg(g[0]));
  return OK;
}
static Status sub_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *tb = t[1] ? op_neg(t[1]) : NULL;
  return t[1] && !tb ? error_code() : tangent_sum(n, t[0], tb, out);
}

static Status mul_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  NEED(0, op_mul(g[0], n->in[1]));
  NEED(1, op_mul(g[0], n->in[0]));
  return OK;
}
static Status mul_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *ta = t[0] ? op_mul(t[0], n->in[1]) : NULL, *tb = t[1] ? op_mul(n->in[0], t[1]) : NULL;
  if ((t[0] && !ta) || (t[1] && !tb)) return error_code();
  return tangent_sum(n, ta, tb, out);
}

/* y = a / b: da = g / b, db = -g y / b */
static Status div_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  NEED(0, op_div(g[0], n->in[1]));
  NEED(1, op_neg(op_div(op_mul(g[0], node_output(n, 0)), n->in[1])));
  return OK;
}
static Status div_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *ta = t[0] ? op_div(t[0], n->in[1]) : NULL;
  Tensor *tb = t[1] ? op_neg(op_div(op_mul(node_output(n, 0), t[1]), n->in[1])) : NULL;
  if ((t[0] && !ta) || (t[1] && !tb)) return error_code();
  return tangent_sum(n, ta, tb, out);
}

/* y = a^b: dy/da = b a^(b-1), dy/db = y log a */
static Tensor *pow_slope_a(Node *n) { return op_mul(n->in[1], op_pow(n->in[0], op_add_scalar(n->in[1], -1))); }
static Tensor *pow_slope_b(Node *n) { return op_mul(node_output(n, 0), op_log(n->in[0])); }
static Status pow_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  NEED(0, op_mul(g[0], pow_slope_a(n)));
  NEED(1, op_mul(g[0], pow_slope_b(n)));
  return OK;
}
static Status pow_jvp(Node *n, Tensor *const *t, Tensor **out) {
  Tensor *ta = t[0] ? op_mul(t[0], pow_slope_a(n)) : NULL, *tb = t[1] ? op_mul(t[1], pow_slope_b(n)) : NULL;
  if ((t[0] && !ta) || (t[1] && !tb)) return error_code();
  return tangent_sum(n, ta, tb, out);
}

/* maximum and minimum: the winner gets the gradient, a tie halves it */
static Tensor *share(Node *n, int i, const char *wins) {
  Tensor *a = n->in[i], *b = n->in[1 - i];
  return op_add(op_compare(wins, a, b), op_mul_scalar(op_compare("eq", a, b), 0.5));
}
static Status extreme_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  const char *wins = n->attributes.ints[0] ? "gt" : "lt";
  NEED(0, op_mul(g[0], share(n, 0, wins)));
  NEED(1, op_mul(g[0], share(n, 1, wins)));
  return OK;
}
static Status extreme_jvp(Node *n, Tensor *const *t, Tensor **out) {
  const char *wins = n->attributes.ints[0] ? "gt" : "lt";
  Tensor *ta = t[0] ? op_mul(t[0], share(n, 0, wins)) : NULL, *tb = t[1] ? op_mul(t[1], share(n, 1, wins)) : NULL;
  if ((t[0] && !ta) || (t[1] && !tb)) return error_code();
  return tangent_sum(n, ta, tb, out);
}

const OpInfo add_op = {"add", 2, 1, "a + b", add_vjp, add_jvp, NULL, true};
const OpInfo sub_op = {"sub", 2, 1, "a - b", sub_vjp, sub_jvp, NULL, true};
const OpInfo mul_op = {"mul", 2, 1, "a b, elementwise", mul_vjp, mul_jvp, NULL, true};

/* An alias of x as a result where x may be written over, else room like it. */
static Tensor *place(Tensor *x, bool free) {
  Tensor *d;
  if (!free || !tangent_may_overwrite(x)) return op_new_like(x);
  tensor_touch(x);
  return tensor_alias(x, &d) == OK ? pool_keep(d) : NULL;
}

/* y = x z, or x + z; y may be either. NULL where an operand is. */
static Tensor *into(Tensor *y, Binary kernel, Tensor *x, Tensor *z) {
  if (!y || !x || !z) return NULL;
  Loop l;
  loop_make(&l, 3, (Tensor *[]){y, x, z});
  kernels_for(y)->binary(kernel, &l);
  return y;
}

/* tg x + g tx, in the place of tx where that is spent */
static Tensor *product_tangent(Tensor *g, Tensor *tg, Tensor *x, Tensor *tx, bool spent) {
  Pool p = pool_open();
  Tensor *t = into(place(tx, spent), B_MUL, g, tx);
  t = tensor_retain(into(t, B_ADD, t, into(op_new_like(tg), B_MUL, tg, x)));
  pool_close(p);
  return pool_keep(t);
}

static bool plain(const Tensor *t, const Node *n) {
  return t && t->dtype == n->out[0]->dtype && tensor_same_shape(t, n->out[0]) && tensor_contiguous(t);
}

/* As mul_vjp and its tangent, where nothing is broadcast and nothing zero: gates of MLPs are wide, so the results take the places of what
 * is not read again. */
Status op_mul_pair(Node *n, const Pair *p, bool *applies) {
  Tensor *a = n->in[0], *b = n->in[1], *ta = p->tin[0], *tb = p->tin[1], *g = p->gout[0], *tg = p->tgout[0];
  *applies = a != b && plain(a, n) && plain(b, n) && plain(ta, n) && plain(tb, n) && ta != tb && plain(g, n) && plain(tg, n);
  if (!*applies) return OK;
  if (!(p->tgin[0] = product_tangent(g, tg, b, tb, p->spent[1]))) return error_code();
  if (!(p->tgin[1] = product_tangent(g, tg, a, ta, p->spent[0]))) return error_code();
  p->gin[1] = into(place(tg, true), B_MUL, g, a);
  p->gin[0] = into(place(g, true), B_MUL, g, b);
  return p->gin[0] && p->gin[1] ? OK : error_code();
}

const OpInfo div_op = {"div", 2, 1, "a / b", div_vjp, div_jvp, NULL, false};
const OpInfo pow_op = {"pow", 2, 1, "a^b", pow_vjp, pow_jvp, NULL, false};
const OpInfo maximum_op = {"maximum", 2, 1, "the larger, elementwise", extreme_vjp, extreme_jvp, NULL, false};
const OpInfo minimum_op = {"minimum", 2, 1, "the smaller, elementwise", extreme_vjp, extreme_jvp, NULL, false};

Tensor *op_add(Tensor *a, Tensor *b) { return apply(&add_op, B_ADD, a, b); }
Tensor *op_sub(Tensor *a, Tensor *b) { return apply(&sub_op, B_SUB, a, b); }
Tensor *op_mul(Tensor *a, Tensor *b) { return apply(&mul_op, B_MUL, a, b); }
Tensor *op_div(Tensor *a, Tensor *b) { return apply(&div_op, B_DIV, a, b); }
Tensor *op_pow(Tensor *a, Tensor *b) { return apply(&pow_op, B_POW, a, b); }

static Tensor *extreme(const OpInfo *info, Binary kernel, Tensor *a, Tensor *b) {
  if (!a || !b) return NULL;
  if (a->dtype == I32 && b->dtype == I32) return integers(info->name, kernel, a, b);
  DType d = meet(a->dtype, b->dtype);
  if (!(a = op_cast(a, d)) || !(b = op_cast(b, d))) return NULL;
  Attributes attributes = {.ints = {kernel == B_MAX}};
  return op_done(info, 2, (Tensor *[]){a, b}, compute(info->name, kernel, a, b), &attributes);
}
Tensor *op_maximum(Tensor *a, Tensor *b) { return extreme(&maximum_op, B_MAX, a, b); }
Tensor *op_minimum(Tensor *a, Tensor *b) { return extreme(&minimum_op, B_MIN, a, b); }

/* --- comparisons: 0 or 1, no gradient --- */

Tensor *op_compare(const char *relation, Tensor *a, Tensor *b) {
  static const struct { const char *name; Binary kernel; } relations[] = {
    {"eq", B_EQ}, {"ne", B_NE}, {"lt", B_LT}, {"le", B_LE}, {"gt", B_GT}, {"ge", B_GE},
  };
  if (!a || !b) return NULL;
  DType d = a->dtype == I32 && b->dtype == I32 ? F64 : meet(a->dtype, b->dtype);
  bool was = grad_enable(false);
  Tensor *x = op_cast(a, d), *z = op_cast(b, d), *y = NULL;
  for (size_t i = 0; x && z && i < sizeof relations / sizeof *relations; i++)
    if (strcmp(relation, relations[i].name) == 0) y = compute(relation, relations[i].kernel, x, z);
  if (y && a->dtype == I32 && b->dtype == I32) y = op_cast(y, I32);
  grad_enable(was);
  return y;
}

/* --- where --- */

static Tensor *zero_like(const Tensor *t) { return op_new_zeros(t->dtype, 0, NULL); }

static Status where_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  NEED(1, op_where(n->in[0], g[0], zero_like(g[0])));
  NEED(2, op_where(n->in[0], zero_like(g[0]), g[0]));
  return OK;
}
static Status where_jvp(Node *n, Tensor *const *t, Tensor **out) {
  if (!t[1] && !t[2]) return OK;
  Tensor *zero = zero_like(n->out[0]);
  *out = spread(op_where(n->in[0], t[1] ? t[1] : zero, t[2] ? t[2] : zero), n);
  return *out ? OK : error_code();
}

const OpInfo where_op = {"where", 3, 1, "a where the condition is not 0, else b", where_vjp, where_jvp, NULL, true};

Tensor *op_where(Tensor *condition, Tensor *a, Tensor *b) {
  if (!condition || !a || !b) return NULL;
  DType d = meet(a->dtype, b->dtype);
  if (d == I32) d = F32;
  Tensor *c = op_cast(op_detach(condition), d);
  if (!c || !(a = op_cast(a, d)) || !(b = op_cast(b, d))) return NULL;
  Tensor wide = {.ndim = 0};
  if (tensor_broadcast("where", a, b, &wide.ndim, wide.shape) != OK) return NULL;
  int ndim;
  int64_t shape[MAX_DIMS];
  if (tensor_broadcast("where", c, &wide, &ndim, shape) != OK) return NULL;
  Tensor *y = op_new(d, ndim, shape);
  if (!y) return NULL;
  Loop l;
  loop_make(&l, 4, (Tensor *[]){y, c, a, b});
  kernels_for(y)->select(&l);
  return op_done(&where_op, 3, (Tensor *[]){c, a, b}, y, NULL);
}

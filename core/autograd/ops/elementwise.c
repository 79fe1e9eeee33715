/* elementwise.c - functions applied to each element, with broadcasting.
 *
 * A function of one argument is one row: its kernel and its slope f'(x), written with
 * ops so that it can be differentiated again. Both rules follow: the gradient is
 * g f'(x), the tangent t f'(x). */
#include <math.h>
#include <string.h>

#include "autograd/ops/ops.h"

/* --- one argument --- */

typedef Tensor *(*Slope)(Tensor *x, Tensor *y, double p); /* NULL slope: zero derivative */

typedef struct UnaryRow {
  OpInfo info;
  Unary kernel;
  Slope slope;
} UnaryRow;

static const UnaryRow *row_of(const OpInfo *info) { return (const UnaryRow *)info; } /* info is the first member */

/* v f'(x), recorded if recording */
static Status times_slope(Node *n, Tensor *v, Tensor **out) {
  const UnaryRow *row = row_of(n->op);
  if (!row->slope) return OK;
  *out = op_mul(v, row->slope(n->in[0], node_output(n, 0), n->attributes.reals[0]));
  return *out ? OK : error_code();
}

static Status unary_vjp(Node *n, Tensor *const *g, Tensor **gin) { return times_slope(n, g[0], &gin[0]); }
static Status unary_jvp(Node *n, Tensor *const *t, Tensor **tout) { return times_slope(n, t[0], &tout[0]); }

static Tensor *apply(const UnaryRow *row, Tensor *x, double p) {
  if (!x) return NULL;
  if (x->dtype == I32 || x->dtype == BF16) x = op_cast(x, F32);
  Tensor *y = x ? op_new_like(x) : NULL;
  if (!y) return NULL;
  Loop l;
  loop_make(&l, 2, (Tensor *[]){y, x});
  kernels_for(y)->unary(row->kernel, &l, p);
  Attributes a = {.reals = {p}};
  return op_done(&row->info, 1, &x, y, &a);
}

static const UnaryRow *find_row(const char *name);
static Tensor *call(const char *name, Tensor *x, double p) { return apply(find_row(name), x, p); }

static Tensor *scalar_like(const Tensor *x, double value) {
  Tensor *t;
  return x && tensor_scalar(x->dtype, value, &t) == OK ? pool_keep(t) : NULL;
}

#define SLOPE(name, expression)                              \
  static Tensor *slope_##name(Tensor *x, Tensor *y, double p) { \
    (void)x, (void)y, (void)p;                               \
    return expression;                                       \
  }

SLOPE(abs, call("sign", x, 0))
SLOPE(square, op_mul_scalar(x, 2))
SLOPE(sqrt, op_mul_scalar(op_reciprocal(y), 0.5))
SLOPE(rsqrt, op_mul_scalar(op_mul(y, op_square(y)), -0.5))
SLOPE(reciprocal, op_neg(op_square(y)))
SLOPE(exp, y)
SLOPE(expm1, op_add_scalar(y, 1))
SLOPE(log, op_reciprocal(x))
SLOPE(log1p, op_reciprocal(op_add_scalar(x, 1)))
SLOPE(sin, call("cos", x, 0))
SLOPE(cos, op_neg(call("sin", x, 0)))
SLOPE(tanh, op_add_scalar(op_neg(op_square(y)), 1))
SLOPE(sigmoid, op_mul(y, op_add_scalar(op_neg(y), 1)))
SLOPE(softplus, op_sigmoid(x))
SLOPE(erf, op_mul_scalar(op_exp(op_neg(op_square(x))), 1.1283791670955126)) /* 2 / sqrt(pi) */
SLOPE(relu, call("step", x, 0))
SLOPE(relu2, op_mul_scalar(call("relu", x, 0), 2))
SLOPE(gelu_grad, call("gelu_grad2", x, 0))
/* d/dx phi(x) (2 - x^2) = phi(x) (x^3 - 4 x), phi the normal density */
SLOPE(gelu_grad2, op_mul(op_mul_scalar(op_exp(op_mul_scalar(op_square(x), -0.5)), 0.3989422804014327),
                         op_mul(x, op_add_scalar(op_square(x), -4))))
SLOPE(pow_scalar, op_mul_scalar(op_pow_scalar(x, p - 1), p))
SLOPE(clamp_min, op_compare("ge", x, scalar_like(x, p)))
SLOPE(clamp_max, op_compare("le", x, scalar_like(x, p)))

/* silu' = s (1 + x (1 - s)); silu'' = s (1 - s) (2 + x (1 - 2 s)) with s = sigmoid(x) */
static Tensor *slope_silu_grad(Tensor *x, Tensor *y, double p) {
  (void)y, (void)p;
  Tensor *s = op_sigmoid(x), *one_s = op_add_scalar(op_neg(s), 1);
  return op_mul(op_mul(s, one_s), op_add_scalar(op_mul(x, op_add_scalar(op_mul_scalar(s, -2), 1)), 2));
}

/* f = x/2 (1 + tanh u), u = c (x + a x^3); f'' = q u' + x/2 (q u'' - 2 tanh(u) q u'^2), q = 1 - tanh(u)^2 */
static Tensor *slope_gelu_tanh_grad(Tensor *x, Tensor *y, double p) {
  (void)y, (void)p;
  const double c = 0.7978845608028654, a = 0.044715;
  Tensor *x2 = op_square(x), *u = op_mul(op_mul_scalar(x, c), op_add_scalar(op_mul_scalar(x2, a), 1));
  Tensor *t = op_tanh(u), *q = op_add_scalar(op_neg(op_square(t)), 1);
  Tensor *u1 = op_mul_scalar(op_add_scalar(op_mul_scalar(x2, 3 * a), 1), c), *u2 = op_mul_scalar(x, 6 * a * c);
  Tensor *inner = op_sub(u2, op_mul_scalar(op_mul(t, op_square(u1)), 2));
  return op_mul(q, op_add(u1, op_mul(op_mul_scalar(x, 0.5), inner)));
}

/* Functions of networks: f'(x) g is one op. Forward, the tangent f'(x) t is the same. */
static Status fused_rule(Node *n, Tensor *const *v, Tensor **out) {
  out[0] = op_activation_backward(row_of(n->op)->kernel, n->in[0], v[0]);
  return out[0] ? OK : error_code();
}

/* Linear functions have rules of their own: no slope tensor is needed. */
static Status linear_rule(Node *n, Tensor *v, Tensor **out) {
  double p = n->attributes.reals[0];
  Unary k = row_of(n->op)->kernel;
  *out = k == U_NEG ? op_neg(v) : k == U_MUL ? op_mul_scalar(v, p) : v;
  return *out ? OK : error_code();
}
static Status linear_vjp(Node *n, Tensor *const *g, Tensor **gin) { return linear_rule(n, g[0], &gin[0]); }
static Status linear_jvp(Node *n, Tensor *const *t, Tensor **tout) { return linear_rule(n, t[0], &tout[0]); }

#define ROW(function, kernel_, meaning) \
  const UnaryRow function##_row = {{#function, 1, 1, meaning, unary_vjp, unary_jvp, NULL, false}, kernel_, slope_##function}
#define FUSED(function, kernel_, meaning) \
  const UnaryRow function##_row = {{#function, 1, 1, meaning, fused_rule, fused_rule, NULL, false}, kernel_, NULL}
#define FLAT(function, kernel_, meaning) \
  const UnaryRow function##_row = {{#function, 1, 1, meaning, unary_vjp, unary_jvp, NULL, false}, kernel_, NULL}
#define LINEAR(function, kernel_, meaning) \
  const UnaryRow function##_row = {{#function, 1, 1, meaning, linear_vjp, linear_jvp, NULL, true}, kernel_, NULL}

static LINEAR(neg, U_NEG, "-x");
static LINEAR(add_scalar, U_ADD, "x + c");
static LINEAR(mul_scalar, U_MUL, "c x");
static ROW(abs, U_ABS, "|x|");
static FLAT(sign, U_SIGN, "-1, 0 or 1");
static ROW(square, U_SQUARE, "x^2");
static ROW(sqrt, U_SQRT, "square root");
static ROW(rsqrt, U_RSQRT, "1 / sqrt(x)");
static ROW(reciprocal, U_RECIPROCAL, "1 / x");
static ROW(exp, U_EXP, "e^x");
static ROW(expm1, U_EXPM1, "e^x - 1, exact near 0");
static ROW(log, U_LOG, "natural logarithm");
static ROW(log1p, U_LOG1P, "log(1 + x), exact near 0");
static ROW(sin, U_SIN, "sine");
static ROW(cos, U_COS, "cosine");
static ROW(tanh, U_TANH, "hyperbolic tangent");
static ROW(sigmoid, U_SIGMOID, "1 / (1 + e^-x)");
static ROW(softplus, U_SOFTPLUS, "log(1 + e^x)");
static ROW(erf, U_ERF, "error function");
static ROW(relu, U_RELU, "max(x, 0)");
static ROW(relu2, U_RELU2, "max(x, 0)^2");
static FUSED(silu, U_SILU, "x sigmoid(x)");
static ROW(silu_grad, U_SILU_GRAD, "derivative of silu");
static FUSED(gelu, U_GELU, "x Phi(x), exact (erf)");
static ROW(gelu_grad, U_GELU_GRAD, "derivative of gelu");
static ROW(gelu_grad2, U_GELU_GRAD2, "second derivative of gelu");
static FUSED(gelu_tanh, U_GELU_TANH, "gelu by its tanh approximation");
static ROW(gelu_tanh_grad, U_GELU_TANH_GRAD, "derivative of gelu_tanh");
static ROW(pow_scalar, U_POW, "x^p");
static ROW(clamp_min, U_CLAMP_MIN, "max(x, c)");
static ROW(clamp_max, U_CLAMP_MAX, "min(x, c)");
static FLAT(floor, U_FLOOR, "largest integer not above x");
static FLAT(ceil, U_CEIL, "smallest integer not below x");
static FLAT(round, U_ROUND, "nearest integer, half to even");
static FLAT(step, U_STEP, "1 where x > 0, else 0");
static FLAT(isnan, U_ISNAN, "1 where NaN");
static FLAT(isfinite, U_ISFINITE, "1 where neither NaN nor infinite");

const OpInfo *const unary_ops[] = {
  &neg_row.info, &add_scalar_row.info, &mul_scalar_row.info, &abs_row.info, &sign_row.info, &square_row.info, &sqrt_row.info,
  &rsqrt_row.info, &reciprocal_row.info, &exp_row.info, &expm1_row.info, &log_row.info, &log1p_row.info, &sin_row.info, &cos_row.info,
  &tanh_row.info, &sigmoid_row.info, &softplus_row.info, &erf_row.info, &relu_row.info, &relu2_row.info, &silu_row.info,
  &silu_grad_row.info, &gelu_row.info, &gelu_grad_row.info, &gelu_grad2_row.info, &gelu_tanh_row.info, &gelu_tanh_grad_row.info,
  &pow_scalar_row.info, &clamp_min_row.info, &clamp_max_row.info, &floor_row.info, &ceil_row.info, &round_row.info, &step_row.info,
  &isnan_row.info, &isfinite_row.info, NULL,
};

static const UnaryRow *find_row(const char *name) {
  for (int i = 0; unary_ops[i]; i++)
    if (strcmp(unary_ops[i]->name, name) == 0) return row_of(unary_ops[i]);
  return NULL;
}

Tensor *op_unary_named(const char *name, Tensor *x) {
  const UnaryRow *row = find_row(name);
  if (row) return apply(row, x, 0);
  fail(ERR_ARGUMENT, "there is no function '%s' of one argument", name);
  return NULL;
}

Tensor *op_add_scalar(Tensor *x, double c) { return apply(&add_scalar_row, x, c); }
Tensor *op_mul_scalar(Tensor *x, double c) { return apply(&mul_scalar_row, x, c); }
Tensor *op_pow_scalar(Tensor *x, double p) {
  if (p == 2) return op_square(x);
  if (p == 1) return op_mul_scalar(x, 1);
  if (p == 0) return op_add_scalar(op_mul_scalar(x, 0), 1);
  return apply(&pow_scalar_row, x, p);
}
Tensor *op_clamp(Tensor *x, double low, double high) {
  if (low > -INFINITY) x = apply(&clamp_min_row, x, low);
  return high < INFINITY ? apply(&clamp_max_row, x, high) : x;
}
Tensor *op_neg(Tensor *x) { return apply(&neg_row, x, 0); }
Tensor *op_exp(Tensor *x) { return apply(&exp_row, x, 0); }
Tensor *op_log(Tensor *x) { return apply(&log_row, x, 0); }
Tensor *op_sqrt(Tensor *x) { return apply(&sqrt_row, x, 0); }
Tensor *op_rsqrt(Tensor *x) { return apply(&rsqrt_row, x, 0); }
Tensor *op_reciprocal(Tensor *x) { return apply(&reciprocal_row, x, 0); }
Tensor *op_square(Tensor *x) { return apply(&square_row, x, 0); }
Tensor *op_tanh(Tensor *x) { return apply(&tanh_row, x, 0); }
Tensor *op_sigmoid(Tensor *x) { return apply(&sigmoid_row, x, 0); }

/* new_op.c - docs/how-to-add-an-op.md as a program: an op of its own, with both rules,
 * checked against differences, first and second order. */
#include <math.h>

#include "autograd/ops/ops.h"
#include "tests/tap.h"

/* --- the op: softsign(x) = x / (1 + |x|), slope 1 / (1 + |x|)^2 --- */

static Tensor *softsign(Tensor *x);

static Tensor *slope(Tensor *x) { return op_pow_scalar(op_add_scalar(op_unary_named("abs", x), 1), -2); }

static Status softsign_vjp(Node *n, Tensor *const *gout, Tensor **gin) {
  gin[0] = op_mul(gout[0], slope(n->in[0]));
  return gin[0] ? OK : error_code();
}

static Status softsign_jvp(Node *n, Tensor *const *tin, Tensor **tout) {
  tout[0] = op_mul(tin[0], slope(n->in[0]));
  return tout[0] ? OK : error_code();
}

static const OpInfo softsign_op = {"softsign", 1, 1, "x / (1 + |x|)", softsign_vjp, softsign_jvp, NULL, false};

static Tensor *softsign(Tensor *x) {
  if (!x || !op_check_real("softsign", x, "x")) return NULL;
  bool was = grad_enable(false); /* the forward pass is computed from ops here; a kernel would be called the same way */
  Tensor *y = op_div(op_detach(x), op_add_scalar(op_unary_named("abs", op_detach(x)), 1));
  grad_enable(was);
  return op_done(&softsign_op, 1, &x, y, NULL);
}

/* --- checks --- */

enum { N = 5 };
static const double points[N] = {-2.5, -0.7, 0.3, 1.1, 4.0};

static Tensor *leaf(double shift) {
  Tensor *x;
  if (tensor_new(F64, 1, (int64_t[]){N}, &x) != OK) return NULL;
  for (int64_t i = 0; i < N; i++)
    if (tensor_set(x, &i, points[i] + shift) != OK) return NULL;
  x->requires_grad = true;
  return pool_keep(x);
}

static double at(Tensor *t, int64_t i) {
  double v = NAN;
  if (t) tensor_get(t, &i, &v);
  return v;
}

int main(void) {
  Pool pool = pool_open();
  const double h = 1e-6;
  Tensor *x = leaf(0), *y = softsign(x), *up = softsign(leaf(h)), *down = softsign(leaf(-h)), *g[1] = {NULL}, *hv[1] = {NULL}, *loss = op_sum(y, ALL_AXES, false);
  Tensor *ones = op_add_scalar(op_mul_scalar(op_detach(x), 0), 1);
  ok(graph_grad(1, &loss, NULL, 1, &x, true, g) == OK, "the gradient is computed and recorded");
  ok(graph_jvp(1, g, 1, &x, &ones, true, hv) == OK, "so is the tangent of the gradient");
  for (int64_t i = 0; i < N; i++) {
    double v = points[i], expected = 1 / ((1 + fabs(v)) * (1 + fabs(v)));
    near_(at(y, i), v / (1 + fabs(v)), 1e-14, "value");
    near_(at(g[0], i), expected, 1e-14, "gradient");
    near_((at(up, i) - at(down, i)) / (2 * h), expected, 1e-8, "gradient by differences");
    near_(at(hv[0], i), -2 * copysign(1, v) * expected / (1 + fabs(v)), 1e-13, "second derivative");
  }
  Tensor *ids;
  ok(tensor_zeros(I32, 1, (int64_t[]){2}, &ids) == OK && !softsign(pool_keep(ids)) && strstr(error_message(), "softsign: x must hold real numbers"),
     "integers are refused by name");
  pool_close(pool);
  return done();
}

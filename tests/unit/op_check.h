/* op_check.h - checks every derivative of a function of tensors, in f64.
 *
 *   static Tensor *f(Tensor *const *in, void *context) { return op_layer_norm(in[0], in[1], NULL, 1e-5); }
 *   check_op("layer_norm", f, NULL, 2, (Shape[]){{2, {3, 5}}, {1, {5}}});
 *
 * With loss = sum(c (y + y^2)) for fixed random c, so that the gradient that comes in
 * depends on the output, it compares: the gradient with central differences of the loss;
 * the tangent with gradient times direction; the Hessian times a direction, taken forward
 * over reverse, with central differences of the gradient, and with reverse over reverse. */
#ifndef quench_op_check_h
#define quench_op_check_h

#include "autograd/op.h"
#include "kernel/kernel.h"
#include "tests/unit/kernel_reference.h"

typedef struct Shape {
  int ndim;
  int64_t shape[MAX_DIMS];
} Shape;

typedef Tensor *(*OpFunction)(Tensor *const *in, void *context);

UNUSED static Tensor *tensor_of(DType d, Shape s, const double *x) {
  Tensor *t;
  if (tensor_new(d, s.ndim, s.shape, &t) != OK) return NULL;
  for (int64_t i = 0; i < tensor_numel(t); i++) {
    if (d == F32) ((float *)tensor_data(t))[i] = (float)x[i];
    else if (d == I32) ((int32_t *)tensor_data(t))[i] = (int32_t)x[i];
    else ((double *)tensor_data(t))[i] = x[i];
  }
  return pool_keep(t);
}
static Tensor *random_tensor(Shape s) {
  Tensor *t;
  if (tensor_new(F64, s.ndim, s.shape, &t) != OK) return NULL;
  for (int64_t i = 0; i < tensor_numel(t); i++) ((double *)tensor_data(t))[i] = reference_random();
  return pool_keep(t);
}

typedef struct Subject {
  OpFunction f;
  void *context;
  int inputs;
  Tensor *in[8], *along[8], *weight; /* weight: c of the loss */
} Subject;

static Tensor *loss_of(const Subject *s) {
  Tensor *y = s->f(s->in, s->context);
  return op_sum(op_mul(s->weight, op_add(y, op_square(y))), ALL_AXES, false);
}
static double number(const Tensor *t) { return t ? *(double *)tensor_data(t) : NAN; }

/* One array of all inputs' entries: gradients of the loss. */
static int64_t gradients(const Subject *s, double *out) {
  Tensor *g[8];
  int64_t n = 0;
  Pool p = pool_open();
  Tensor *loss = loss_of(s);
  if (!loss || graph_grad(1, &loss, NULL, s->inputs, s->in, false, g) != OK) printf("# %s\n", error_message());
  else
    for (int i = 0; i < s->inputs; i++)
      for (int64_t j = 0; j < tensor_numel(g[i]); j++) out[n++] = ((double *)tensor_data(g[i]))[j];
  pool_close(p);
  return n;
}

static void shift(const Subject *s, double h) {
  for (int i = 0; i < s->inputs; i++)
    for (int64_t j = 0; j < tensor_numel(s->in[i]); j++) ((double *)tensor_data(s->in[i]))[j] += h * ((double *)tensor_data(s->along[i]))[j];
}

static double loss_value(const Subject *s) {
  Pool p = pool_open();
  double v = number(loss_of(s));
  pool_close(p);
  return v;
}

static void compare(const char *name, const char *what, int64_t n, const double *got, const double *expected, double tolerance) {
  double worst = 0, largest = 1;
  for (int64_t i = 0; i < n; i++) {
    double e = fabs(got[i] - expected[i]);
    largest = fmax(largest, fabs(expected[i]));
    if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
  }
  if (!ok(n > 0 && worst <= tolerance * largest, "%s: %s", name, what)) printf("#   worst error %g of %g (%s)\n", worst, largest, error_message());
}

/* Copies n tensors' entries, dense, into out. */
static void collect(int n, Tensor *const *t, double *out) {
  for (int i = 0; i < n; i++) {
    Tensor *dense = op_contiguous(t[i]);
    memcpy(out, tensor_data(dense), (size_t)tensor_numel(t[i]) * sizeof *out);
    out += tensor_numel(t[i]);
  }
}

static void check_hessian(const char *name, Subject *s, int64_t n) {
  const double h = 1e-5;
  double *up = zero_array(n), *down = zero_array(n), *got = zero_array(n);
  shift(s, h), gradients(s, up);
  shift(s, -2 * h), gradients(s, down);
  shift(s, h);
  for (int64_t i = 0; i < n; i++) up[i] = (up[i] - down[i]) / (2 * h);
  Pool p = pool_open();
  Tensor *loss = loss_of(s), *g[8], *hv[8], *inner = NULL;
  bool made = loss && graph_grad(1, &loss, NULL, s->inputs, s->in, true, g) == OK;
  if (!ok(made && graph_jvp(s->inputs, g, s->inputs, s->in, s->along, true, hv) == OK, "%s: Hessian-vector product runs", name))
    printf("# %s\n", error_message());
  else collect(s->inputs, hv, got), compare(name, "forward over reverse", n, got, up, 2e-6);
  for (int i = 0; i < s->inputs && made; i++) {
    Tensor *term = op_sum(op_mul(g[i], s->along[i]), ALL_AXES, false);
    inner = inner ? op_add(inner, term) : term;
  }
  if (!ok(inner && graph_grad(1, &inner, NULL, s->inputs, s->in, false, hv) == OK, "%s: gradient of a gradient runs", name))
    printf("# %s\n", error_message());
  else collect(s->inputs, hv, got), compare(name, "reverse over reverse", n, got, up, 2e-6);
  pool_close(p);
  mem_free(up), mem_free(down), mem_free(got);
}

static void check_first(const char *name, Subject *s, int64_t n, const double *g) {
  double *numeric = zero_array(n), h = 1e-6, slope = 0;
  int64_t at = 0;
  for (int i = 0; i < s->inputs; i++)
    for (int64_t j = 0; j < tensor_numel(s->in[i]); j++, at++) {
      double *x = (double *)tensor_data(s->in[i]) + j, keep = *x;
      *x = keep + h;
      double up = loss_value(s);
      *x = keep - h;
      numeric[at] = (up - loss_value(s)) / (2 * h);
      *x = keep;
      slope += g[at] * ((double *)tensor_data(s->along[i]))[j];
    }
  compare(name, "gradient", n, g, numeric, 1e-7);
  Pool p = pool_open();
  Tensor *loss = loss_of(s), *t = NULL;
  Status status = loss ? graph_jvp(1, &loss, s->inputs, s->in, s->along, true, &t) : error_code();
  double got = status == OK ? number(t) : NAN;
  pool_close(p);
  compare(name, "tangent", 1, &got, &slope, 1e-10);
  mem_free(numeric);
}

/* Random inputs and directions of n numbers together, and a weight for each output; no weight: f failed. */
static Subject subject_of(OpFunction f, void *context, int inputs, const Shape *shapes, int64_t *n) {
  Subject s = {.f = f, .context = context, .inputs = inputs};
  *n = 0;
  for (int i = 0; i < inputs; i++) {
    s.in[i] = random_tensor(shapes[i]), s.along[i] = random_tensor(shapes[i]);
    s.in[i]->requires_grad = true;
    *n += tensor_numel(s.in[i]);
  }
  Tensor *y = f(s.in, context);
  if (!y) return s;
  Shape out = {.ndim = y->ndim};
  memcpy(out.shape, y->shape, sizeof out.shape);
  s.weight = random_tensor(out);
  return s;
}

UNUSED static void check_op(const char *name, OpFunction f, void *context, int inputs, const Shape *shapes) {
  Pool p = pool_open();
  int64_t n;
  Subject s = subject_of(f, context, inputs, shapes, &n);
  if (ok(s.weight != NULL, "%s runs", name)) {
    double *g = zero_array(n);
    gradients(&s, g);
    check_first(name, &s, n, g);
    check_hessian(name, &s, n);
    mem_free(g);
  } else {
    printf("# %s\n", error_message());
  }
  pool_close(p);
}

/* The call must fail, and its message must contain `part`. */
UNUSED static void fails_with(Tensor *result, const char *part, const char *what) {
  if (!ok(!result && strstr(error_message(), part), "%s", what)) printf("#   got: %s\n", error_message());
}

#endif

/* Cross-entropy kernels against the formulas in double, the tangent against central
 * differences, large and infinite logits, ignored rows, in-place gradients. */
#include "tests/unit/kernel_reference.h"

static double reference_loss(int64_t rows, int64_t n, const double *x, const int32_t *targets, double *gradient) {
  double total = 0;
  int64_t count = 0;
  for (int64_t i = 0; i < rows; i++) count += targets[i] >= 0;
  for (int64_t i = 0; i < rows; i++) {
    const double *xi = x + i * n;
    double m = -INFINITY, s = 0;
    for (int64_t j = 0; j < n; j++) m = fmax(m, xi[j]);
    for (int64_t j = 0; j < n; j++) s += exp(xi[j] - m);
    for (int64_t j = 0; j < n; j++)
      gradient[i * n + j] = targets[i] < 0 ? 0 : (exp(xi[j] - m) / s - (j == targets[i])) / (double)count;
    if (targets[i] >= 0) total += (m + log(s) - xi[targets[i]]) / (double)count;
  }
  return total;
}

/* The gradient over the logits and its tangent over theirs, against the two kernels that leave them. */
static void check_pair(const Kernels *k, int64_t rows, int64_t n, const double *x, const double *tl, const int32_t *targets, const void *lse,
                       double mean) {
  const size_t bytes = (size_t)(rows * n) * k->element;
  void *logits = to_real(k, rows * n, x), *direction = to_real(k, rows * n, tl), *d = to_real(k, rows * n, NULL), *t = to_real(k, rows * n, NULL);
  k->cross_entropy_backward(rows, n, logits, targets, lse, mean, d);
  k->cross_entropy_backward_tangent(rows, n, logits, targets, lse, direction, mean, 0.3 * mean, t);
  void *apart = to_real(k, rows * n, NULL), *again = to_real(k, rows * n, tl);
  k->cross_entropy_pair(rows, n, logits, targets, lse, mean, 0.3 * mean, apart, again);
  ok(!memcmp(apart, d, bytes) && !memcmp(again, t, bytes), "%s: gradient and tangent at once: the same bits", k->name);
  k->cross_entropy_pair(rows, n, logits, targets, lse, mean, 0.3 * mean, logits, direction);
  ok(!memcmp(logits, d, bytes) && !memcmp(direction, t, bytes), "%s: gradient and tangent in place, at once: the same bits", k->name);
  mem_free(logits), mem_free(direction), mem_free(d), mem_free(t), mem_free(apart), mem_free(again);
}

static void check_case(const Kernels *k, int64_t rows, int64_t n, double scale) {
  double *x = random_array(rows * n, scale), *gradient = zero_array(rows * n), *tl = random_array(rows * n, 1), *moved = zero_array(rows * n);
  double *up = zero_array(rows * n), *down = zero_array(rows * n);
  int32_t *targets = mem_alloc((size_t)rows * 4);
  for (int64_t i = 0; i < rows; i++) targets[i] = i % 5 == 2 ? -1 : (int32_t)((i * 7919) % n);
  double expected = reference_loss(rows, n, x, targets, gradient);
  void *logits = to_real(k, rows * n, x), *lse = to_real(k, rows, NULL), *dl = to_real(k, rows * n, NULL);
  int64_t counted = -1;
  double loss = k->cross_entropy(rows, n, logits, targets, lse, &counted);
  char what[96];
  snprintf(what, sizeof what, "%s: loss %ld x %ld, logits to %g", k->name, (long)rows, (long)n, scale);
  near_(loss, expected, tolerance_of(k, 1e-6, 1e-14), what);
  ok(counted == rows - (rows + 2) / 5, "%s: rows with a target counted", k->name);
  const double mean = 1 / (double)counted;
  k->cross_entropy_backward(rows, n, logits, targets, lse, mean, dl);
  void *in_place = to_real(k, rows * n, x);
  k->cross_entropy_backward(rows, n, in_place, targets, lse, mean, in_place);
  ok(!memcmp(in_place, dl, (size_t)(rows * n) * k->element), "%s: gradient written over the logits", k->name);
  mem_free(in_place);
  same_values(k, rows * n, dl, gradient, tolerance_of(k, 4e-6 * fmax(1, scale), 1e-12), "gradient");

  /* tangent along tl and of the scale: d/dh of (1 + h) gradient(x + h tl) */
  const double h = 1e-5;
  for (int64_t i = 0; i < rows * n; i++) moved[i] = x[i] + h * tl[i];
  reference_loss(rows, n, moved, targets, up);
  for (int64_t i = 0; i < rows * n; i++) moved[i] = x[i] - h * tl[i];
  reference_loss(rows, n, moved, targets, down);
  for (int64_t i = 0; i < rows * n; i++) up[i] = (up[i] * (1 + h) - down[i] * (1 - h)) / (2 * h);
  check_pair(k, rows, n, x, tl, targets, lse, mean);
  void *direction = to_real(k, rows * n, tl), *out = to_real(k, rows * n, NULL);
  k->cross_entropy_backward_tangent(rows, n, logits, targets, lse, direction, mean, mean, out);
  same_values(k, rows * n, out, up, tolerance_of(k, 1e-5 * fmax(1, scale), 1e-8), "tangent of the gradient");
  out = to_real(k, rows * n, NULL);
  k->cross_entropy_backward_tangent(rows, n, logits, targets, lse, NULL, mean, mean, out);
  same_values(k, rows * n, out, gradient, tolerance_of(k, 4e-6 * fmax(1, scale), 1e-12), "tangent along the scale alone");
  mem_free(direction), mem_free(logits), mem_free(lse), mem_free(targets), mem_free(x), mem_free(gradient), mem_free(tl), mem_free(moved);
  mem_free(up), mem_free(down);
}

static void check_extremes(void) {
  const Kernels *k = kernels_of(0, F32);
  float x[8] = {200, -1e30f, 0, 200, -INFINITY, -INFINITY, 3, -INFINITY}, lse[2], d[8];
  int32_t targets[2] = {0, 2};
  int64_t counted;
  double loss = k->cross_entropy(2, 4, x, targets, lse, &counted);
  near_(loss, 0.5 * log(2), 1e-5, "logits of 200, -1e30 and minus infinity");
  k->cross_entropy_backward(2, 4, x, targets, lse, 0.5, d);
  ok(fabsf(d[0] + 0.25f) < 1e-5f && d[1] == 0 && fabsf(d[3] - 0.25f) < 1e-5f && d[4] == 0 && d[6] == 0, "their gradient");
  int32_t none[2] = {-1, -100};
  ok(k->cross_entropy(2, 4, x, none, lse, &counted) == 0 && counted == 0, "no targets at all");
  x[2] = NAN;
  ok(isnan(k->cross_entropy(2, 4, x, targets, lse, &counted)), "NaN logits give a NaN loss");
  /* a rising row makes every chunk rescale the sum */
  float *ramp = mem_alloc(3000 * sizeof *ramp);
  double s = 0;
  for (int i = 0; i < 3000; i++) ramp[i] = 0.02f * (float)i;
  for (int i = 0; i < 3000; i++) s += exp((double)ramp[i] - ramp[2999]);
  near_(k->cross_entropy(1, 3000, ramp, (int32_t[]){2999}, lse, &counted), log(s), 1e-6, "rising row of six chunks");
  mem_free(ramp);
}

typedef struct Big { float *x; int32_t *targets; } Big;
static void threads_body(void *context, void *out) {
  const Kernels *k = kernels_of(0, F32);
  Big *b = context;
  int64_t counted;
  double *loss = out;
  float *lse = (float *)out + 2, *d = lse + 90, *t = d + 90 * 701;
  *loss = k->cross_entropy(90, 701, b->x, b->targets, lse, &counted);
  k->cross_entropy_backward(90, 701, b->x, b->targets, lse, 0.125, d);
  k->cross_entropy_backward_tangent(90, 701, b->x, b->targets, lse, b->x, 0.125, 0.5, t);
}

int main(void) {
  const int64_t sizes[][2] = {{1, 1}, {1, 2}, {7, 3}, {6, 511}, {5, 513}, {11, 1030}};
  for (int i = 0; i < 6; i++) {
    check_case(kernels_of(0, F32), sizes[i][0], sizes[i][1], 3);
    check_case(kernels_of(0, F64), sizes[i][0], sizes[i][1], 3);
  }
  check_case(kernels_of(0, F32), 4, 600, 40);
  check_case(kernels_of(0, F64), 4, 600, 40);
  check_extremes();
  double *x = random_array(90 * 701, 5);
  Big b = {to_real(kernels_of(0, F32), 90 * 701, x), mem_alloc(90 * 4)};
  for (int i = 0; i < 90; i++) b.targets[i] = i % 7 ? i : -1;
  same_bits("cross-entropy", threads_body, &b, (2 + 90 + 2 * 90 * 701) * 4);
  mem_free(x), mem_free(b.x), mem_free(b.targets);
  return done();
}

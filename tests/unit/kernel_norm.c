/* Norm kernels against the formulas in double; their gradients and tangents against
 * central differences of the reference. */
#include "tests/unit/kernel_reference.h"

typedef struct Case { int64_t rows, n; bool centred, weight, bias; } Case;

static void reference_norm(Case c, double eps, const double *x, const double *w, const double *b, double *y) {
  for (int64_t i = 0; i < c.rows; i++) {
    const double *xi = x + i * c.n;
    double m = 0, v = 0;
    for (int64_t j = 0; c.centred && j < c.n; j++) m += xi[j] / (double)c.n;
    for (int64_t j = 0; j < c.n; j++) v += (xi[j] - m) * (xi[j] - m) / (double)c.n;
    for (int64_t j = 0; j < c.n; j++) y[i * c.n + j] = (xi[j] - m) / sqrt(v + eps) * (w ? w[j] : 1) + (b ? b[j] : 0);
  }
}

/* Gradients by central differences of sum(dy y). */
static double weighted(Case c, double eps, const double *x, const double *w, const double *b, const double *dy, double *scratch) {
  reference_norm(c, eps, x, w, b, scratch);
  double s = 0;
  for (int64_t i = 0; i < c.rows * c.n; i++) s += dy[i] * scratch[i];
  return s;
}
static void difference(Case c, double eps, const double *x, const double *w, const double *b, const double *dy, double *variable, int64_t n,
                       double *gradient) {
  double *scratch = zero_array(c.rows * c.n);
  for (int64_t i = 0; i < n; i++) {
    double keep = variable[i], h = 1e-5;
    variable[i] = keep + h;
    double up = weighted(c, eps, x, w, b, dy, scratch);
    variable[i] = keep - h;
    gradient[i] = (up - weighted(c, eps, x, w, b, dy, scratch)) / (2 * h);
    variable[i] = keep;
  }
  mem_free(scratch);
}

/* One case's data in the kernel's type. */
typedef struct Data { void *x, *w, *b, *y, *mean, *rstd, *dy, *dx, *dw, *db; } Data;

static void forward(const Kernels *k, Case c, double eps, Data *d) {
  if (c.centred) k->layer_norm(c.rows, c.n, eps, d->x, d->w, d->b, NULL, d->y, d->mean, d->rstd);
  else k->rms_norm(c.rows, c.n, eps, d->x, d->w, NULL, d->y, d->rstd);
}
static void backward_into(const Kernels *k, Case c, Data *d, bool sums, void *dx) {
  if (c.centred) k->layer_norm_backward(c.rows, c.n, d->x, d->w, d->mean, d->rstd, d->dy, sums, dx, d->dw, d->db);
  else k->rms_norm_backward(c.rows, c.n, d->x, d->w, d->rstd, d->dy, sums, dx, d->dw);
}
static void backward(const Kernels *k, Case c, Data *d) { backward_into(k, c, d, false, d->dx); }

/* dx added to what is there: the bits of a sum made after it. */
static void check_sums(const Kernels *k, Case c, Data *d, const char *what) {
  int64_t size = c.rows * c.n, different = 0;
  double *before = random_array(size, 1);
  void *sum = to_real(k, size, before);
  backward_into(k, c, d, true, sum);
  for (int64_t i = 0; i < size; i++) {
    if (k->element == sizeof(float)) different += ((float *)sum)[i] != (float)before[i] + ((float *)d->dx)[i];
    else different += ((double *)sum)[i] != before[i] + ((double *)d->dx)[i];
  }
  ok(different == 0, "%s: dx joins a sum (%d differ)", what, (int)different);
  mem_free(sum), mem_free(before);
}

static Data data_make(const Kernels *k, Case c, const double *x, const double *w, const double *b, const double *dy) {
  int64_t size = c.rows * c.n;
  return (Data){to_real(k, size, x), w ? to_real(k, c.n, w) : NULL, b ? to_real(k, c.n, b) : NULL, to_real(k, size, NULL),
                c.centred ? to_real(k, c.rows, NULL) : NULL, to_real(k, c.rows, NULL), to_real(k, size, dy), to_real(k, size, NULL),
                to_real(k, c.n, NULL), c.centred ? to_real(k, c.n, NULL) : NULL};
}
static void data_free(Data *d) {
  void *all[] = {d->x, d->w, d->b, d->y, d->mean, d->rstd, d->dy, d->dx, d->dw, d->db};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

static void check_case(const Kernels *k, Case c) {
  const double eps = 1e-5;
  int64_t size = c.rows * c.n;
  double *x = random_array(size, 2), *w = c.weight ? random_array(c.n, 1.5) : NULL, *b = c.bias ? random_array(c.n, 1) : NULL;
  double *dy = random_array(size, 1), *expected = zero_array(size), *gradient = zero_array(size > c.n ? size : c.n);
  Data d = data_make(k, c, x, w, b, dy);
  char what[96];
  snprintf(what, sizeof what, "%s norm %ld x %ld%s%s", c.centred ? "layer" : "RMS", (long)c.rows, (long)c.n, w ? " w" : "", b ? " b" : "");
  forward(k, c, eps, &d);
  backward(k, c, &d);
  check_sums(k, c, &d, what);
  /* one or two values: 1/sqrt(variance) reaches 1/sqrt(eps) = 316, times differences that are zero but for rounding */
  double loose = c.n == 1 ? 5e-2 : c.n == 2 ? 1e-3 : 2e-5;
  reference_norm(c, eps, x, w, b, expected);
  same_values(k, size, d.y, expected, tolerance_of(k, 2e-6, 1e-13), what), d.y = NULL;
  difference(c, eps, x, w, b, dy, x, size, gradient);
  strcat(what, " dx");
  same_values(k, size, d.dx, gradient, tolerance_of(k, loose, 2e-6), what), d.dx = NULL;
  double *ones = w ? w : random_array(c.n, 0);
  for (int64_t j = 0; !w && j < c.n; j++) ones[j] = 1;
  difference(c, eps, x, ones, b, dy, ones, c.n, gradient);
  strcpy(strstr(what, " dx"), " dw");
  same_values(k, c.n, d.dw, gradient, tolerance_of(k, 1e-5, 1e-8), what), d.dw = NULL;
  if (c.bias) {
    difference(c, eps, x, w, b, dy, b, c.n, gradient);
    strcpy(strstr(what, " dw"), " db");
    same_values(k, c.n, d.db, gradient, tolerance_of(k, 1e-5, 1e-8), what), d.db = NULL;
  }
  data_free(&d);
  if (!w) mem_free(ones);
  mem_free(x), mem_free(w), mem_free(b), mem_free(dy), mem_free(expected), mem_free(gradient);
}

/* y, dx, dw, db at (x, w, b, dy) + h (tx, tw, tb, tdy), by the f64 kernels themselves. */
static void shifted(const Kernels *k, Case c, double h, double *const *at, double *const *along, double *out) {
  int64_t size = c.rows * c.n, lengths[4] = {size, c.n, c.n, size};
  double *moved[4];
  for (int i = 0; i < 4; i++) {
    moved[i] = zero_array(lengths[i]);
    for (int64_t j = 0; j < lengths[i]; j++) moved[i][j] = at[i][j] + h * (along[i] ? along[i][j] : 0);
  }
  Data d = data_make(k, c, moved[0], moved[1], c.centred ? moved[2] : NULL, moved[3]);
  forward(k, c, 1e-5, &d);
  backward(k, c, &d);
  memcpy(out, d.y, (size_t)size * 8), memcpy(out + size, d.dx, (size_t)size * 8), memcpy(out + 2 * size, d.dw, (size_t)c.n * 8);
  if (c.centred) memcpy(out + 2 * size + c.n, d.db, (size_t)c.n * 8);
  data_free(&d);
  for (int i = 0; i < 4; i++) mem_free(moved[i]);
}

static void check_tangent(Case c, int absent) {
  const Kernels *k = kernels_of(0, F64);
  int64_t size = c.rows * c.n, length = 2 * size + 2 * c.n;
  double *at[4] = {random_array(size, 2), random_array(c.n, 1.5), random_array(c.n, 1), random_array(size, 1)};
  double *along[4] = {random_array(size, 1), random_array(c.n, 1), random_array(c.n, 1), random_array(size, 1)};
  if (absent >= 0) mem_free(along[absent]), along[absent] = NULL;
  if (!c.centred) mem_free(along[2]), along[2] = NULL;
  double *up = zero_array(length), *down = zero_array(length);
  const double h = 1e-5;
  shifted(k, c, h, at, along, up);
  shifted(k, c, -h, at, along, down);
  for (int64_t i = 0; i < length; i++) up[i] = (up[i] - down[i]) / (2 * h);

  Data d = data_make(k, c, at[0], at[1], c.centred ? at[2] : NULL, at[3]);
  forward(k, c, 1e-5, &d);
  void *ty = to_real(k, size, NULL), *tdx = to_real(k, size, NULL), *tdw = to_real(k, c.n, NULL), *tdb = to_real(k, c.n, NULL);
  k->norm_tangent(c.rows, c.n, d.x, d.w, d.mean, d.rstd, along[0], along[1], along[2], NULL, ty);
  k->norm_backward_tangent(c.rows, c.n, d.x, d.w, d.mean, d.rstd, d.dy, along[0], along[1], along[3], tdx, tdw, c.centred ? tdb : NULL);
  const char *names[] = {"tangent of y", "tangent of dx", "tangent of dw", "tangent of db"};
  same_values(k, size, ty, up, 1e-6, names[0]);
  same_values(k, size, tdx, up + size, 1e-5, names[1]);
  same_values(k, c.n, tdw, up + 2 * size, 1e-6, names[2]);
  if (c.centred) same_values(k, c.n, tdb, up + 2 * size + c.n, 1e-6, names[3]);
  else mem_free(tdb);
  data_free(&d);
  for (int i = 0; i < 4; i++) mem_free(at[i]), mem_free(along[i]);
  mem_free(up), mem_free(down);
}

/* Everything at once, for the thread counts. */
static void threads_body(void *context, void *out) {
  const Kernels *k = kernels_of(0, F32);
  Data *d = context;
  Case c = {1100, 131, true, true, true}; /* rows beyond one STATS block, columns beyond two slabs */
  int64_t size = c.rows * c.n;
  float *o = out;
  forward(k, c, 1e-5, d);
  backward(k, c, d);
  memcpy(o, d->y, (size_t)size * 4), memcpy(o + size, d->dx, (size_t)size * 4);
  memcpy(o + 2 * size, d->dw, (size_t)c.n * 4), memcpy(o + 2 * size + c.n, d->db, (size_t)c.n * 4);
  k->norm_backward_tangent(c.rows, c.n, d->x, d->w, d->mean, d->rstd, d->dy, d->dy, d->b, d->x, o + 2 * size + 2 * c.n, o + 3 * size + 2 * c.n,
                           o + 3 * size + 3 * c.n);
}

int main(void) {
  const Case cases[] = {{1, 1, true, true, true}, {3, 1, false, true, false}, {1, 2, true, true, true}, {2, 7, true, false, false}, {5, 64, true, true, true},
                        {3, 65, true, true, false}, {70, 67, true, true, true}, {4, 33, false, true, false}, {3, 129, false, false, false}, {9, 16, true, false, true}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    check_case(kernels_of(0, F32), cases[i]);
    check_case(kernels_of(0, F64), cases[i]);
  }
  for (int absent = -1; absent < 4; absent++) check_tangent((Case){6, 37, true, true, true}, absent);
  check_tangent((Case){1030, 3, true, true, true}, -1);
  for (int absent = -1; absent < 2; absent++) check_tangent((Case){6, 37, false, true, false}, absent);

  Case c = {1100, 131, true, true, true};
  double *x = random_array(c.rows * c.n, 1), *w = random_array(c.n, 1), *dy = random_array(c.rows * c.n, 1);
  Data d = data_make(kernels_of(0, F32), c, x, w, w, dy);
  same_bits("norm", threads_body, &d, (size_t)(3 * c.rows * c.n + 4 * c.n) * 4);
  data_free(&d);
  mem_free(x), mem_free(w), mem_free(dy);
  return done();
}

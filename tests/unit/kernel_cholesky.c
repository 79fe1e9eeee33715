/* The Cholesky factor: a = l l^T on sizes around the leaves of the recursion, the same bits for any number of
 * threads, and the pivot at which a matrix that is not positive definite fails. */
#include "tests/unit/kernel_reference.h"

/* b b^T + n I, symmetric positive definite, in the rows of an array ld wide. */
static double *definite(int64_t n, int64_t ld) {
  double *b = random_array(n * n, 1), *a = zero_array(n * ld);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j < n; j++) {
      double sum = i == j ? (double)n : 0;
      for (int64_t k = 0; k < n; k++) sum += b[i * n + k] * b[j * n + k];
      a[i * ld + j] = (double)(float)sum;
    }
  mem_free(b);
  return a;
}

typedef struct Case {
  const Kernels *t;
  int64_t n, ld;
  const double *a;
} Case;

/* The factor in the lower triangle of out (n, n), zeros above. */
static void factor(void *context, void *out) {
  const Case *c = context;
  void *x = to_real(c->t, c->n * c->ld, c->a), *scratch = mem_alloc((size_t)cholesky_scratch(c->n) * c->t->element);
  int64_t bad = c->t->cholesky(c->n, x, c->ld, scratch);
  for (int64_t i = 0; i < c->n && !bad; i++)
    memcpy((char *)out + (size_t)(i * c->n) * c->t->element, (char *)x + (size_t)(i * c->ld) * c->t->element, (size_t)(i + 1) * c->t->element);
  if (bad) ok(false, "%s: positive definite %ld x %ld fails at pivot %ld", c->t->name, (long)c->n, (long)c->n, (long)bad);
  bool guard = value_at(c->t, x, c->n * c->ld) == 12345;
  if (!guard) ok(false, "%s: wrote past the end", c->t->name);
  mem_free(x), mem_free(scratch);
}

static void check_factor(const Kernels *t, int64_t n, int64_t gap) {
  double *a = definite(n, n + gap), *product = zero_array(n * n), *expected = zero_array(n * n);
  Case c = {t, n, n + gap, a};
  void *l = to_real(t, n * n, NULL);
  factor(&c, l);
  for (int64_t i = 0; i < n; i++)
    for (int64_t j = 0; j <= i; j++) {
      for (int64_t k = 0; k <= j; k++) product[i * n + j] += value_at(t, l, i * n + k) * value_at(t, l, j * n + k);
      expected[i * n + j] = a[i * c.ld + j];
    }
  char what[80];
  snprintf(what, sizeof what, "%ld x %ld, gap %ld: l l^T = a", (long)n, (long)n, (long)gap);
  same_values(t, n * n, to_real(t, n * n, product), expected, tolerance_of(t, 3e-6, 1e-14), what);
  same_bits(t->name, factor, &c, (size_t)(n * n) * t->element);
  mem_free(a), mem_free(product), mem_free(expected), mem_free(l);
}

/* The identity with one pivot spoilt. */
static void check_failure(const Kernels *t, int64_t n, int64_t pivot, double value) {
  double *a = zero_array(n * n);
  for (int64_t i = 0; i < n; i++) a[i * n + i] = i + 1 == pivot ? value : 1;
  void *x = to_real(t, n * n, a), *scratch = mem_alloc((size_t)cholesky_scratch(n) * t->element);
  int64_t bad = t->cholesky(n, x, n, scratch);
  ok(bad == pivot, "%s: %ld x %ld with %g at pivot %ld fails there (%ld)", t->name, (long)n, (long)n, value, (long)pivot, (long)bad);
  mem_free(a), mem_free(x), mem_free(scratch);
}

int main(void) {
  const int64_t sizes[][2] = {{1, 0}, {2, 3}, {63, 0}, {64, 1}, {65, 0}, {128, 0}, {129, 7}, {333, 2}, {600, 0}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int type = 0; type < 2; type++) check_factor(kernels_of(0, type ? F64 : F32), sizes[i][0], sizes[i][1]);
  for (int type = 0; type < 2; type++) {
    const Kernels *t = kernels_of(0, type ? F64 : F32);
    check_failure(t, 1, 1, 0);
    check_failure(t, 200, 3, -1);
    check_failure(t, 200, 64, 0);
    check_failure(t, 200, 200, NAN);
    check_failure(t, 200, 130, INFINITY);
    ok(t->cholesky(0, NULL, 1, NULL) == 0, "%s: nothing to do for an empty matrix", t->name);
  }
  return done();
}

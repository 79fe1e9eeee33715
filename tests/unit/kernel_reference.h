/* kernel_reference.h - shared by the tests of the typed kernels: numbers in double, both
 * element types through one table, and the comparison.
 *
 * A test holds all its data in double arrays. to_real() makes the array of a kernel's
 * type, from_real() reads one back. */
#ifndef quench_kernel_reference_h
#define quench_kernel_reference_h

#include <omp.h>
#include <stdlib.h>

#include "kernel/kernel.h"
#include "tests/tap.h"

#define UNUSED __attribute__((unused)) /* not every test needs every helper */

static uint64_t reference_state = 88172645463325252u;

/* Uniform in [-1, 1), the same on every machine. */
UNUSED static double reference_random(void) {
  reference_state ^= reference_state << 13, reference_state ^= reference_state >> 7, reference_state ^= reference_state << 17;
  return (double)(reference_state >> 11) / 4503599627370496.0 - 1;
}
UNUSED static double *random_array(int64_t n, double scale) {
  double *x = mem_alloc((size_t)(n ? n : 1) * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = (double)(float)(scale * reference_random()); /* exact in both types */
  return x;
}
UNUSED static double *zero_array(int64_t n) { return mem_calloc((size_t)(n ? n : 1), sizeof(double)); }

/* A copy in the table's element type, of n values and a guard value behind them. */
UNUSED static void *to_real(const Kernels *k, int64_t n, const double *x) {
  void *y = mem_alloc((size_t)(n + 1) * k->element);
  for (int64_t i = 0; i <= n; i++) {
    double v = i < n ? (x ? x[i] : 0) : 12345;
    if (k->element == 4) ((float *)y)[i] = (float)v;
    else ((double *)y)[i] = v;
  }
  return y;
}
UNUSED static double value_at(const Kernels *k, const void *x, int64_t i) {
  return k->element == 4 ? (double)((const float *)x)[i] : ((const double *)x)[i];
}

/* Compares n values of a kernel with the reference, relative to the largest of the reference; frees x. */
UNUSED static void same_values(const Kernels *k, int64_t n, void *x, const double *reference, double tolerance, const char *what) {
  double largest = 1e-3, worst = 0;
  for (int64_t i = 0; i < n; i++) largest = fmax(largest, fabs(reference[i]));
  for (int64_t i = 0; i < n; i++) {
    double e = fabs(value_at(k, x, i) - reference[i]);
    if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
  }
  bool guard = value_at(k, x, n) == 12345;
  if (!ok(worst <= tolerance * largest && guard, "%s: %s", k->name, what))
    printf("#   worst error %g of %g, allowed %g%s\n", worst, largest, tolerance * largest, guard ? "" : "; wrote past the end");
  mem_free(x);
}
UNUSED static double tolerance_of(const Kernels *k, double f32, double f64) { return k->element == 4 ? f32 : f64; }

/* Runs body(context, out) with 1, 2, 3, 4 and 7 threads; out is bytes long and must come out the same. */
UNUSED static void same_bits(const char *what, void (*body)(void *context, void *out), void *context, size_t bytes) {
  const int counts[] = {1, 2, 3, 4, 7};
  int before = omp_get_max_threads(), same = 1;
  void *first = mem_calloc(bytes, 1), *other = mem_calloc(bytes, 1);
  for (int i = 0; i < 5; i++) {
    omp_set_num_threads(counts[i]);
    body(context, i ? other : first);
    same &= !i || !memcmp(first, other, bytes);
  }
  omp_set_num_threads(before);
  mem_free(first), mem_free(other);
  ok(same, "%s: the same bits for 1, 2, 3, 4 and 7 threads", what);
}

#endif

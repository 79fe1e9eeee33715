/* order.c - the k-th smallest of each row, by quickselect (Hoare 1961) with the median of three
 * as pivot. Rows run in parallel; each is scrambled in place, so callers hand over a copy. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"

static inline void swap(real *x, int64_t i, int64_t j) {
  real t = x[i];
  x[i] = x[j];
  x[j] = t;
}

/* Moves the median of the two ends and the middle to the front. */
static real pivot(real *x, int64_t low, int64_t high) {
  int64_t middle = low + (high - low) / 2;
  if (x[middle] > x[high]) swap(x, middle, high);
  if (x[low] > x[high]) swap(x, low, high);
  if (x[middle] > x[low]) swap(x, middle, low);
  return x[low];
}

static real select(real *x, int64_t n, int64_t k) {
  int64_t low = 0, high = n - 1;
  while (low < high) {
    real p = pivot(x, low, high);
    int64_t i = low - 1, j = high + 1;
    for (;;) { /* Hoare's partition: low .. j at most p, j+1 .. high at least p */
      do i++; while (x[i] < p);
      do j--; while (x[j] > p);
      if (i >= j) break;
      swap(x, i, j);
    }
    if (k <= j) high = j;
    else low = j + 1;
  }
  return x[k];
}

void K(select_rows)(int64_t rows, int64_t n, int64_t k, void *x, void *y) {
  real *data = x, *out = y;
#pragma omp parallel for schedule(static) if (rows * n > PARALLEL_GRAIN)
  for (int64_t r = 0; r < rows; r++) {
    real *row = data + r * n, bad = 0;
    for (int64_t i = 0; i < n; i++)
      if (row[i] != row[i]) bad = row[i];
    out[r] = bad != bad ? bad : select(row, n, k); /* NaN has no place in an order: it is the answer */
  }
}

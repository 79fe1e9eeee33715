/* index.c - rows picked and scattered by integer ids. Ids are checked by the caller. */
#include <string.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"

enum { SERIAL = 1 << 15, STRIP = 32 };

void K(gather_rows)(int64_t n, int64_t width, const void *table, const int32_t *ids, void *y) {
  const real *t = table;
  real *out = y;
#pragma omp parallel for schedule(static) if (n * width > SERIAL)
  for (int64_t i = 0; i < n; i++) memcpy(out + i * width, t + ids[i] * width, (size_t)width * sizeof *out);
}

/* Threads share the columns, not the rows: every sum is taken in the order of ids, so no atomics
 * are needed and the bits do not depend on the threads. */
void K(scatter_add_rows)(int64_t n, int64_t rows, int64_t width, const void *dy, const int32_t *ids, void *dtable) {
  (void)rows;
  const real *g = dy;
  real *t = dtable;
  int64_t strips = (width + STRIP - 1) / STRIP;
#pragma omp parallel for schedule(static) if (n * width > SERIAL)
  for (int64_t s = 0; s < strips; s++) {
    int64_t from = s * STRIP, end = from + STRIP < width ? from + STRIP : width;
    for (int64_t i = 0; i < n; i++) {
      real *row = t + ids[i] * width;
      const real *add = g + i * width;
      for (int64_t j = from; j < end; j++) row[j] += add[j];
    }
  }
}

void K(pick)(int64_t rows, int64_t n, const void *x, const int32_t *ids, void *y) {
  for (int64_t i = 0; i < rows; i++) ((real *)y)[i] = ((const real *)x)[i * n + ids[i]];
}

void K(unpick)(int64_t rows, int64_t n, const void *dy, const int32_t *ids, void *dx) {
  for (int64_t i = 0; i < rows; i++) ((real *)dx)[i * n + ids[i]] += ((const real *)dy)[i];
}

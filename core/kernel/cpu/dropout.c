/* dropout.c - x with a share p of its values set to zero and the others divided by 1 - p.
 *
 * The mask is a function of (stream, counter, position), four positions a block of
 * random numbers; so it is never stored: the gradient makes it again. */
#include "kernel/cpu/cpu.h"

enum { GROUP = 4096 }; /* blocks a thread takes at a time */

void K(dropout)(int64_t n, const void *x_, const Random *r, double p, void *y_) {
  const real *x = x_;
  real *y = y_;
  const uint64_t limit = (uint64_t)(p * 4294967296.0); /* a 32-bit number below it: dropped */
  const real keep = p < 1 ? (real)(1 / (1 - p)) : 0;
  const int64_t blocks = (n + 3) / 4;
#pragma omp parallel for if (n > PARALLEL_GRAIN)
  for (int64_t g = 0; g < blocks; g += GROUP) {
    int64_t last = g + GROUP < blocks ? g + GROUP : blocks;
    for (int64_t b = g; b < last; b++) {
      uint32_t u[4];
      random_block(r, r->counter + (uint64_t)b, u);
      for (int64_t i = 0, at = 4 * b; i < 4 && at < n; i++, at++) y[at] = u[i] < limit ? 0 : x[at] * keep;
    }
  }
}

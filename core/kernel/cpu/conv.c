/* conv.c - depthwise causal convolution over time, as short filters in front of
 * recurrent and hybrid layers use it:
 *   y[b, t, c] = sum_j w[c, j] x[b, t - (taps - 1) + j, c],  x = 0 before the start.
 *
 * Channels are dense, so all loops run over a slab of channels in vector registers,
 * with the slab's taps transposed onto the stack first. */
#include "kernel/cpu/cpu.h"

enum { SLAB = 64, TAPS = 8 }; /* taps beyond TAPS go in further passes that add */

/* wt[j][c] = w[c, first + j] */
static void transpose_taps(int64_t channels, int64_t taps, int64_t count, const real *w, real wt[TAPS][SLAB]) {
  for (int64_t c = 0; c < channels; c++)
    for (int64_t j = 0; j < count; j++) wt[j][c] = w[c * taps + j];
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* One sequence, one slab: y[t] (+)= sum_j wt[j] x[t + shift_j], shift_j = direction (first + j - (taps - 1)). */
static void filter(int64_t time, int64_t channels, int64_t taps, int64_t first, int64_t count, int64_t width, int direction,
                   real wt[TAPS][SLAB], const real *x, real *y) {
  for (int64_t t = 0; t < time; t++) {
    real sum[SLAB] = {0};
    for (int64_t j = 0; j < count; j++) {
      int64_t from = t + direction * (first + j - (taps - 1));
      if (from < 0 || from >= time) continue;
#pragma omp simd
      for (int64_t c = 0; c < width; c++) sum[c] += wt[j][c] * x[from * channels + c];
    }
    for (int64_t c = 0; c < width; c++) y[t * channels + c] = first ? y[t * channels + c] + sum[c] : sum[c];
  }
}

/* direction 1: the convolution; -1: its adjoint in x */
static void convolve(int64_t batch, int64_t time, int64_t channels, int64_t taps, int direction, const real *x, const real *w, real *y) {
#pragma omp parallel for collapse(2) if (batch * time * channels > PARALLEL_GRAIN)
  for (int64_t b = 0; b < batch; b++)
    for (int64_t c = 0; c < channels; c += SLAB) {
      int64_t width = least(channels - c, SLAB), at = b * time * channels + c;
      for (int64_t first = 0; first < taps; first += TAPS) {
        int64_t count = least(taps - first, TAPS);
        real wt[TAPS][SLAB];
        transpose_taps(width, taps, count, w + c * taps + first, wt);
        filter(time, channels, taps, first, count, width, direction, wt, x + at, y + at);
      }
    }
}

void K(conv1d)(int64_t batch, int64_t time, int64_t channels, int64_t taps, const void *x, const void *w, void *y) {
  convolve(batch, time, channels, taps, 1, x, w, y);
}

/* dw of one slab and one tap: the sum over the batch of dy[t] x[t + shift]. */
static void tap_gradient(int64_t batch, int64_t time, int64_t channels, int64_t shift, int64_t width, const real *x, const real *dy,
                         real total[SLAB]) {
  for (int64_t b = 0; b < batch; b++) {
    real sum[SLAB] = {0};
    for (int64_t t = shift < 0 ? -shift : 0; t < time; t++) {
      const real *d = dy + (b * time + t) * channels, *v = x + (b * time + t + shift) * channels;
#pragma omp simd
      for (int64_t c = 0; c < width; c++) sum[c] += d[c] * v[c];
    }
    for (int64_t c = 0; c < width; c++) total[c] += sum[c];
  }
}

void K(conv1d_backward)(int64_t batch, int64_t time, int64_t channels, int64_t taps, const void *x, const void *w, const void *dy,
                        void *dx, void *dw_) {
  if (dx) convolve(batch, time, channels, taps, -1, dy, w, dx);
  real *dw = dw_;
  if (!dw) return;
#pragma omp parallel for collapse(2) if (batch * time * channels > PARALLEL_GRAIN)
  for (int64_t c = 0; c < channels; c += SLAB)
    for (int64_t j = 0; j < taps; j++) {
      int64_t width = least(channels - c, SLAB);
      real total[SLAB] = {0};
      tap_gradient(batch, time, channels, j - (taps - 1), width, (const real *)x + c, (const real *)dy + c, total);
      for (int64_t i = 0; i < width; i++) dw[(c + i) * taps + j] = total[i];
    }
}

/* rotary.c - rotary position embedding (Su et al. 2021).
 *
 * The first `rotated` values of each head are taken as pairs and turned by an angle
 * that grows with the position; the rest is copied. Two ways to pair are in use:
 * half-split (GPT-NeoX, Llama: i with i + rotated/2) and interleaved (GPT-J: 2i with
 * 2i + 1). sign = -1 turns back, which is the adjoint. y may be x. */
#include <string.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"

typedef real quad __attribute__((vector_size(4 * sizeof(real)), aligned(sizeof(real)), may_alias));

/* Four pairs, as GPT-NeoX has them in heads of width 32: less than a vector of the loop below. */
static void turn_four(const real *c, const real *s, real sign, const real *x, real *y) {
  const quad a = *(const quad *)x, b = *(const quad *)(x + 4), cosine = *(const quad *)c, t = sign * *(const quad *)s;
  *(quad *)y = a * cosine - b * t;
  *(quad *)(y + 4) = b * cosine + a * t;
}

static void turn_halves(int64_t half, const real *c, const real *s, real sign, const real *x, real *y) {
  if (half == 4) {
    turn_four(c, s, sign, x, y);
    return;
  }
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    real a = x[i], b = x[i + half], t = sign * s[i];
    y[i] = a * c[i] - b * t;
    y[i + half] = b * c[i] + a * t;
  }
}

static void turn_pairs(int64_t half, const real *c, const real *s, real sign, const real *x, real *y) {
#pragma omp simd
  for (int64_t i = 0; i < half; i++) {
    real a = x[2 * i], b = x[2 * i + 1], t = sign * s[i];
    y[2 * i] = a * c[i] - b * t;
    y[2 * i + 1] = b * c[i] + a * t;
  }
}

void K(turn_row)(const Turn *t, int64_t row, int64_t columns, void *x_) {
  const int64_t half = t->rotated / 2, at = row % t->time * half;
  real *x = x_;
  for (int64_t h = 0; h * t->width < columns; h++, x += t->width)
    if (h % t->group < t->turned)
      (t->interleaved ? turn_pairs : turn_halves)(half, (const real *)t->cosines + at, (const real *)t->sines + at, (real)t->sign, x, x);
}

void K(turn)(const Turn *t, int64_t rows, int64_t n, void *x) {
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t r = 0; r < rows; r++) K(turn_row)(t, r, n, (real *)x + r * n);
}

void K(rotary)(int64_t batch, int64_t time, int64_t heads, int64_t width, int64_t rotated, bool interleaved, double sign,
               const void *cosines, const void *sines, const int64_t x_stride[3], const void *x_, const int64_t y_stride[3], void *y_) {
  const real *x = x_;
  real *y = y_;
  const int64_t half = rotated / 2;
#pragma omp parallel for collapse(2) if (batch * time * heads * width > PARALLEL_GRAIN)
  for (int64_t b = 0; b < batch; b++)
    for (int64_t t = 0; t < time; t++) {
      const real *c = (const real *)cosines + t * half, *s = (const real *)sines + t * half;
      for (int64_t h = 0; h < heads; h++) {
        const real *from = x + b * x_stride[0] + t * x_stride[1] + h * x_stride[2];
        real *to = y + b * y_stride[0] + t * y_stride[1] + h * y_stride[2];
        (interleaved ? turn_pairs : turn_halves)(half, c, s, (real)sign, from, to);
        if (to != from && rotated < width) memcpy(to + rotated, from + rotated, (size_t)(width - rotated) * sizeof(real));
      }
    }
}

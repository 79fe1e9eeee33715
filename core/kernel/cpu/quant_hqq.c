/* quant_hqq.c - one half-quadratic step: the errors are shrunk towards zero (so that few large ones
 * may stay), then each group's zero point is the one that fits the rest in the mean. */
#include "kernel/cpu/quant.h"
#include "kernel/cpu/quant_round.h"
#include "kernel/cpu/vmath.h"

enum { PIECE = 256 };

/* The p-norm's proximal step: sign(e) max(|e| - |e|^(p-1) / beta, 0); |e|^(p-1) of 0 is infinite. */
static inline real shrink(real e, real p, real beta) {
  real size = real_abs(e), left = size - real_exp((p - 1) * real_log(size)) / beta;
  return left > 0 ? REAL(copysignf, copysign)(left, e) : 0;
}

/* Adds what a piece of a group wants the zero point to be, and its |error|, to the sums. */
static void step_piece(const Rounder *r, int64_t n, const real *w, real scale, real zero, real p, real beta, double *wanted, double *error) {
  real y[PIECE];
  double shift = 0, size = 0;
  round_run(r, n, w, scale, zero, y);
#pragma omp simd reduction(+ : shift, size)
  for (int64_t i = 0; i < n; i++) {
    real e = w[i] - y[i]; /* code - (w - shrunk e) / scale = zero + (shrunk e - e) / scale */
    shift += (shrink(e, p, beta) - e) / scale;
    size += real_abs(e);
  }
  *wanted += (double)n * zero + shift;
  *error += size;
}

static double step_group(const Rounder *r, int64_t n, const real *w, real scale, real *zero, double p, double beta) {
  double wanted = 0, error = 0;
  for (int64_t i = 0; i < n; i += PIECE)
    step_piece(r, n - i < PIECE ? n - i : PIECE, w + i, scale, *zero, (real)p, (real)beta, &wanted, &error);
  *zero = (real)(wanted / (double)n);
  return error;
}

void K(quant_hqq_step)(const Format *f, const Groups *g, const void *w, const void *scale, void *zero, double p, double beta, double *error) {
  Rounder r;
  rounder_make(&r, &f->grid);
#pragma omp parallel for schedule(static) if (g->rows * g->cols > PARALLEL_GRAIN / 16)
  for (int64_t row = 0; row < g->rows; row++)
    for (int64_t j = 0; j * g->size < g->cols; j++) {
      int64_t from = j * g->size, n = g->cols - from < g->size ? g->cols - from : g->size, at = row * g->slots + j;
      error[row] += step_group(&r, n, (const real *)w + row * g->ld + from, ((const real *)scale)[at], (real *)zero + at, p, beta);
    }
}

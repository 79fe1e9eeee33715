/* quant_hqq.c - one half-quadratic step: the errors are shrunk towards zero (so that few large ones
 * may stay), then each group's zero point is the one that fits the rest in the mean. */
#include "kernel/cpu/quant.h"
#include "kernel/cpu/quant_round.h"

/* The p-norm's proximal step: sign(e) max(|e| - |e|^(p-1) / beta, 0). */
static double shrink(double e, double p, double beta) {
  double size = fabs(e);
  if (size == 0) return 0;
  double left = size - pow(size, p - 1) / beta;
  return left > 0 ? copysign(left, e) : 0;
}

static double step_group(const Rounder *r, int64_t n, const real *w, real scale, real *zero, double p, double beta) {
  double sum = 0, error = 0;
  for (int64_t i = 0; i < n; i++) {
    real level = round_integer(r, w[i] / scale, *zero);
    double e = (double)w[i] - (double)scale * level;
    sum += level + *zero - (w[i] - shrink(e, p, beta)) / scale;
    error += fabs(e);
  }
  *zero = (real)(sum / (double)n);
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

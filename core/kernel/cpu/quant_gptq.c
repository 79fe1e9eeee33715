/* quant_gptq.c - the columns of one block of GPTQ, one after the other.
 *
 * A column can be rounded only when the errors of those before it have been spread,
 * so time runs along the columns; rows are independent. LANES rows at a time are
 * turned into a tile with the rows along the vector, small enough for the first
 * cache: each step rounds LANES values at once and takes e u[i][j] from the LANES
 * values of every later column j. */
#include "kernel/cpu/quant.h"
#include "kernel/cpu/quant_round.h"

enum { LANES = 16 };

typedef real Lanes[LANES];

static void load_tile(const GptqBlock *b, int64_t row, int rows, Lanes *tile) {
  const real *x = (const real *)b->current + row * b->ld_current;
  for (int64_t j = 0; j < b->n; j++)
    for (int l = 0; l < LANES; l++) tile[j][l] = l < rows ? x[l * b->ld_current + j] : 0;
}

/* Scale and zero of every lane at one slot; lanes without a row get a harmless 1. */
static void load_params(const GptqBlock *b, int64_t row, int rows, int32_t slot, real *scale, real *zero) {
  for (int l = 0; l < LANES; l++) {
    int64_t at = (row + l) * b->slots + slot;
    scale[l] = l < rows ? ((const real *)b->scale)[at] : 1;
    zero[l] = l < rows ? ((const real *)b->zero)[at] : 0;
  }
}

static void spread(const real *restrict c, const real *coefficient, Lanes *restrict tile, int64_t from, int64_t n) {
  for (int64_t j = from; j < n; j++)
    for (int l = 0; l < LANES; l++) tile[j][l] += c[l] * coefficient[j];
}

/* Quantizes the tile in place. shift: what GPTAQ adds to the weights themselves, or NULL. */
static void run_tile(const Rounder *r, const GptqBlock *b, int64_t row, int rows, Lanes *tile, Lanes *shift, double *loss) {
  const real *inverse = b->inverse, *drift = b->drift;
  int32_t slot = -1;
  Lanes scale, zero, q, error;
  for (int64_t i = 0; i < b->n; i++) {
    if (b->slot[i] != slot) load_params(b, row, rows, slot = b->slot[i], scale, zero);
    real *c = tile[i];
    round_each(r, LANES, c, scale, zero, q);
    for (int l = 0; l < LANES; l++) {
      error[l] = -(c[l] - q[l]) / inverse[i * b->n + i];
      loss[l] += 0.5 * (double)error[l] * error[l];
    }
    spread(error, inverse + i * b->n, tile, i + 1, b->n);
    if (drift) {
      spread(c, drift + i * b->n, tile, i + 1, b->n);
      spread(c, drift + i * b->n, shift, i + 1, b->n);
    }
    for (int l = 0; l < LANES; l++) c[l] = q[l];
  }
}

static void store_tile(const GptqBlock *b, int64_t row, int rows, Lanes *tile, Lanes *shift) {
  for (int l = 0; l < rows; l++) {
    real *w = (real *)b->w + (row + l) * b->ld, *q = (real *)b->q + (row + l) * b->ld;
    for (int64_t j = 0; j < b->n; j++) {
      q[j] = tile[j][l];
      w[j] = w[j] + (b->drift ? shift[j][l] : 0) - q[j];
    }
  }
}

void K(quant_gptq_block)(const Format *f, const GptqBlock *b) {
  Rounder r;
  rounder_make(&r, &f->grid);
#pragma omp parallel for schedule(static) if (b->rows * b->n > PARALLEL_GRAIN / 4)
  for (int64_t row = 0; row < b->rows; row += LANES) {
    Lanes tile[GPTQ_BLOCK], shift[GPTQ_BLOCK];
    double loss[LANES] = {0};
    if (b->drift) memset(shift, 0, sizeof shift);
    int rows = b->rows - row < LANES ? (int)(b->rows - row) : LANES;
    load_tile(b, row, rows, tile);
    run_tile(&r, b, row, rows, tile, shift, loss);
    store_tile(b, row, rows, tile, shift);
    for (int l = 0; l < rows; l++) b->loss[row + l] += loss[l];
  }
}

/* quant_apply.c - rounding whole tensors with given scales; codes, decoding, error sums. */
#include "kernel/cpu/quant.h"
#include "kernel/cpu/quant_round.h"

enum { PIECE = 4096 }; /* columns a unit of work; a unit never crosses a group */

/* A unit of work: n columns from `from` of one row, all in one group. */
typedef struct Unit {
  int64_t row, from, n, at; /* at: index of scale and zero */
} Unit;

typedef struct Units {
  int64_t pieces, groups, count; /* pieces of a group, groups of a row */
} Units;

static Units units_of(const Groups *g) {
  Units u;
  u.groups = (g->cols + g->size - 1) / g->size;
  u.pieces = (g->size + PIECE - 1) / PIECE;
  u.count = g->rows * u.groups * u.pieces;
  return u;
}

static Unit unit_at(const Groups *g, const Units *u, int64_t k) {
  int64_t piece = k % u->pieces, group = k / u->pieces % u->groups, row = k / u->pieces / u->groups;
  int64_t start = group * g->size, end = start + g->size < g->cols ? start + g->size : g->cols;
  int64_t from = start + piece * PIECE;
  int64_t n = end - from < PIECE ? end - from : PIECE;
  return (Unit){row, from, n < 0 ? 0 : n, row * g->slots + group};
}

static void round_unit_randomly(const Rounder *r, const Groups *g, const Unit *u, const real *w, real scale, real zero,
                                const Random *random, real *y) {
  uint32_t bits[4] = {0};
  uint64_t held = UINT64_MAX;
  for (int64_t i = 0; i < u->n; i++) {
    uint64_t element = (uint64_t)(u->row * g->cols + u->from + i);
    if (element / 4 != held) random_block(random, random->counter + (held = element / 4), bits);
    real uniform = (real)(bits[element % 4] >> 8) * (real)0x1p-24;
    y[i] = scale * round_randomly(r, w[i] / scale, zero, uniform);
  }
}

void K(quant_round)(const Format *f, const Groups *g, const void *w, const void *scale, const void *zero, const Random *random, void *y,
                    int32_t *codes) {
  Rounder r;
  rounder_make(&r, &f->grid);
  Units units = units_of(g);
#pragma omp parallel for schedule(static) if (g->rows * g->cols > PARALLEL_GRAIN)
  for (int64_t k = 0; k < units.count; k++) {
    Unit u = unit_at(g, &units, k);
    real s = ((const real *)scale)[u.at], z = ((const real *)zero)[u.at];
    const real *from = (const real *)w + u.row * g->ld + u.from;
    real *to = (real *)y + u.row * g->ld + u.from;
    if (random) round_unit_randomly(&r, g, &u, from, s, z, random, to);
    else round_run(&r, u.n, from, s, z, to);
    for (int64_t i = 0; codes && i < u.n; i++) codes[u.row * g->cols + u.from + i] = level_code(&r, &f->grid, to[i] / s, z);
  }
}

/* Index of the scale of column j of a row. */
static int64_t place(const Groups *g, const int32_t *slot, int64_t row, int64_t j) {
  return row * g->slots + (slot ? slot[j] : j / g->size);
}

void K(quant_encode)(const Format *f, const Groups *g, const int32_t *slot, const void *y, const void *scale, const void *zero, int base,
                     int32_t *codes) {
  Rounder r;
  rounder_make(&r, &f->grid);
#pragma omp parallel for schedule(static) if (g->rows * g->cols > PARALLEL_GRAIN)
  for (int64_t row = 0; row < g->rows; row++)
    for (int64_t j = 0; j < g->cols; j++) {
      int64_t at = place(g, slot, row, j);
      real s = ((const real *)scale)[at], z = ((const real *)zero)[at];
      real v = ((const real *)y)[row * g->ld + j] / s, level = r.kind == GRID_LEVELS ? v : round_value(&r, r.kind, v, z);
      codes[row * g->cols + j] = level_code(&r, &f->grid, level, z) - base;
    }
}

void K(quant_decode)(const Format *f, const Groups *g, const int32_t *slot, const int32_t *codes, int base, const void *scale, const void *zero, void *y) {
  Rounder r;
  rounder_make(&r, &f->grid);
#pragma omp parallel for schedule(static) if (g->rows * g->cols > PARALLEL_GRAIN)
  for (int64_t row = 0; row < g->rows; row++)
    for (int64_t j = 0; j < g->cols; j++) {
      int64_t at = place(g, slot, row, j);
      real s = ((const real *)scale)[at], z = ((const real *)zero)[at];
      ((real *)y)[row * g->ld + j] = s * code_level(&r, &f->grid, codes[row * g->cols + j] + base, z);
    }
}

/* The lowest and highest level of a group whose zero point is zero; a few ulp wider, since scales are rounded. */
static void ends(const Rounder *r, real zero, real *low, real *high) {
  *low = r->kind == GRID_INTEGER ? r->low - zero : r->kind == GRID_FLOAT ? -r->reach : r->level[0];
  *high = r->kind == GRID_INTEGER ? r->high - zero : r->kind == GRID_FLOAT ? r->reach : r->level[r->count - 1];
  *low -= real_abs(*low) * 8 * REAL_EPS;
  *high += real_abs(*high) * 8 * REAL_EPS;
}

void K(quant_inside)(const Format *f, const Groups *g, const void *w, const void *scale, const void *zero, void *mask) {
  Rounder r;
  rounder_make(&r, &f->grid);
  Units units = units_of(g);
#pragma omp parallel for schedule(static) if (g->rows * g->cols > PARALLEL_GRAIN)
  for (int64_t k = 0; k < units.count; k++) {
    Unit u = unit_at(g, &units, k);
    real s = ((const real *)scale)[u.at], low, high;
    ends(&r, ((const real *)zero)[u.at], &low, &high);
    const real *from = (const real *)w + u.row * g->ld + u.from;
    real *to = (real *)mask + u.row * g->ld + u.from;
    for (int64_t i = 0; i < u.n; i++) to[i] = from[i] >= low * s && from[i] <= high * s;
  }
}

void K(quant_trust)(const Format *f, const Groups *g, double trust, const void *w, const void *q, const void *scale, void *mask) {
  Units units = units_of(g);
#pragma omp parallel for schedule(static) if (g->rows * g->cols > PARALLEL_GRAIN)
  for (int64_t k = 0; k < units.count; k++) {
    Unit u = unit_at(g, &units, k);
    double s = ((const real *)scale)[u.at], deviation = (s * f->grid.reach - 1e-8) / f->factor;
    const real *a = (const real *)w + u.row * g->ld + u.from, *b = (const real *)q + u.row * g->ld + u.from;
    real *to = (real *)mask + u.row * g->ld + u.from, limit = (real)(trust * deviation);
    for (int64_t i = 0; i < u.n; i++) to[i] = real_abs(b[i] - a[i]) <= limit;
  }
}

double K(quant_absmax)(int64_t n, const void *x) {
  const real *v = x;
  real m = 0;
#pragma omp parallel for simd reduction(max : m) schedule(static) if (n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i++) m = real_abs(v[i]) > m ? real_abs(v[i]) : m;
  return (double)m;
}

double K(quant_squared_error)(int64_t n, const void *x, const void *y) {
  const real *a = x, *b = y;
  double total = 0;
  int64_t blocks = (n + REDUCE_BLOCK - 1) / REDUCE_BLOCK;
#pragma omp parallel for ordered schedule(static, 1) if (n > 8 * PARALLEL_GRAIN)
  for (int64_t k = 0; k < blocks; k++) {
    int64_t from = k * REDUCE_BLOCK, end = from + REDUCE_BLOCK < n ? from + REDUCE_BLOCK : n;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = from; i < end; i++) sum += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
#pragma omp ordered
    total += sum; /* in block order, so for any number of threads the same bits */
  }
  return total;
}

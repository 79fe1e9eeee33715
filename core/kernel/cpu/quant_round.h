/* quant_round.h - the one definition of how a value is rounded to each grid.
 *
 * A Rounder is a Grid in the kernels' element type. Values come divided by their
 * scale; the result is a level, so that scale * level is the quantized weight.
 *
 *   INTEGER  round(v) + zero kept between the lowest and highest code, - zero     round half to even
 *   FLOAT    round half to even at the step of v's binade, saturating at the largest number
 *   LEVELS   the nearest level, a tie to the lower one; or by the grid's own steps
 *
 * The functions take arrays and are inlined with a constant kind, so that the
 * compiler makes vector code of each. */
#ifndef quench_quant_round_h
#define quench_quant_round_h

#include <string.h>

#include "kernel/cpu/real.h"
#include "kernel/quant.h"

typedef REAL(uint32_t, uint64_t) real_bits; /* an unsigned integer as wide as real */
enum { FRACTION_BITS = REAL(23, 52) };

typedef struct Rounder {
  GridKind kind;
  real low, high;
  bool whole_zero;
  real smallest, fraction_scale, reach; /* FLOAT: smallest normal number; 2^-fraction */
  int count;
  real level[MAX_LEVELS], step[MAX_LEVELS]; /* step[i]: the largest value that goes to level i */
} Rounder;

static inline real real_round(real x) { return REAL(rintf, rint)(x); } /* half to even in the default mode */
static inline real real_floor(real x) { return REAL(floorf, floor)(x); }

/* The power of two at or below |x| (0 and subnormals give 0). */
static inline real binade(real x) {
  real_bits u;
  memcpy(&u, &x, sizeof u);
  u &= (real_bits)REAL(0x7f800000u, 0x7ff0000000000000u);
  memcpy(&x, &u, sizeof x);
  return x;
}

/* The largest number of our type that is not above x. */
static inline real real_below(double x) {
  real y = (real)x;
  return (double)y > x ? REAL(nextafterf, nextafter)(y, -REAL_MAX) : y;
}

static inline void rounder_make(Rounder *r, const Grid *g) {
  memset(r, 0, sizeof *r);
  r->kind = g->kind;
  r->low = (real)g->low, r->high = (real)g->high;
  r->whole_zero = g->whole_zero;
  r->smallest = (real)ldexp(1, g->exponent_min);
  r->fraction_scale = (real)ldexp(1, -g->fraction);
  r->reach = (real)g->reach;
  r->count = g->count;
  for (int i = 0; i < g->count; i++) r->level[i] = (real)g->level[i];
  for (int i = 0; i + 1 < g->count; i++) r->step[i] = real_below(g->own_steps ? g->step[i] : 0.5 * (g->level[i] + g->level[i + 1]));
}

static inline real between(real x, real low, real high) { return x < low ? low : x > high ? high : x; }

static inline real round_integer(const Rounder *r, real v, real zero) {
  real code = r->whole_zero ? real_round(v) + zero : real_round(v + zero);
  return between(code, r->low, r->high) - zero;
}

static inline real float_step(const Rounder *r, real v) { return real_max(binade(v), r->smallest) * r->fraction_scale; }

static inline real round_float(const Rounder *r, real v) {
  real step = float_step(r, v);
  return between(real_round(v / step) * step, -r->reach, r->reach);
}

/* Index of v's level: the number of steps below v. */
static inline int nearest_level(const Rounder *r, real v) {
  if (r->count <= 16) {
    int index = 0;
    for (int k = 0; k < r->count - 1; k++) index += v > r->step[k];
    return index;
  }
  int low = 0, high = r->count - 1;
  while (low < high) {
    int middle = (low + high) / 2;
    if (v > r->step[middle]) low = middle + 1;
    else high = middle;
  }
  return low;
}

static inline __attribute__((always_inline)) real round_value(const Rounder *r, GridKind kind, real v, real zero) {
  if (kind == GRID_INTEGER) return round_integer(r, v, zero);
  if (kind == GRID_FLOAT) return round_float(r, v);
  return r->level[nearest_level(r, v)];
}

/* Stochastic rounding: up with the probability that makes the mean right; u uniform in [0, 1). */
static inline real round_randomly(const Rounder *r, real v, real zero, real u) {
  if (r->kind == GRID_INTEGER) {
    real shift = r->whole_zero ? 0 : zero;
    return between(real_floor(v + shift + u) + zero - shift, r->low, r->high) - zero;
  }
  if (r->kind == GRID_FLOAT) {
    real step = float_step(r, v);
    return between(real_floor(v / step + u) * step, -r->reach, r->reach);
  }
  int i = nearest_level(r, v);
  if (v < r->level[i]) i--; /* now level[i] <= v < level[i + 1], or v beyond the ends */
  if (i < 0) return r->level[0];
  if (i == r->count - 1) return r->level[i];
  return r->level[i] + u * (r->level[i + 1] - r->level[i]) < v ? r->level[i + 1] : r->level[i];
}

/* Index of the level closest to v, whatever the grid's steps are: a rule need not send its own levels to themselves. */
static inline int closest_level(const Rounder *r, real v) {
  int low = 0, high = r->count - 1;
  while (high - low > 1) {
    int middle = (low + high) / 2;
    if (v >= r->level[middle]) low = middle;
    else high = middle;
  }
  return v - r->level[low] > r->level[high] - v ? high : low;
}

/* The stored code of a level. FLOAT: sign, exponent, fraction as bits; LEVELS: the index. */
static inline int32_t level_code(const Rounder *r, const Grid *g, real level, real zero) {
  if (r->kind == GRID_INTEGER) return (int32_t)real_round(level + zero);
  if (r->kind == GRID_LEVELS) return closest_level(r, level);
  real step = float_step(r, level), size = real_abs(level);
  int32_t exponent = size < r->smallest ? 0 : ilogb((double)size) - g->exponent_min + 1;
  int32_t fraction = (int32_t)real_round(size / step) & ((1 << g->fraction) - 1);
  int32_t sign_place = g->fraction + 32 - __builtin_clz((unsigned)(g->exponent_max - g->exponent_min + 1));
  return (int32_t)(level < 0) << sign_place | exponent << g->fraction | fraction;
}

static inline real code_level(const Rounder *r, const Grid *g, int32_t code, real zero) {
  if (r->kind == GRID_INTEGER) return (real)code - zero;
  if (r->kind == GRID_LEVELS) return r->level[code < r->count ? code : r->count - 1];
  int32_t sign_place = g->fraction + 32 - __builtin_clz((unsigned)(g->exponent_max - g->exponent_min + 1));
  int32_t exponent = (code & ((1 << sign_place) - 1)) >> g->fraction, fraction = code & ((1 << g->fraction) - 1);
  double size = ldexp((exponent ? 1 : 0) + ldexp(fraction, -g->fraction), g->exponent_min + (exponent ? exponent - 1 : 0));
  return (real)(code >> sign_place & 1 ? -size : size);
}

/* e = scale * level of every value, for one group with one scale. y may be w. */
static inline __attribute__((always_inline)) void round_run_kind(const Rounder *r, GridKind kind, int64_t n, const real *w, real scale,
                                                                 real zero, real *y) {
#pragma omp simd
  for (int64_t i = 0; i < n; i++) y[i] = scale * round_value(r, kind, w[i] / scale, zero);
}

static inline void round_run(const Rounder *r, int64_t n, const real *w, real scale, real zero, real *y) {
  if (r->kind == GRID_INTEGER) round_run_kind(r, GRID_INTEGER, n, w, scale, zero, y);
  else if (r->kind == GRID_FLOAT) round_run_kind(r, GRID_FLOAT, n, w, scale, zero, y);
  else round_run_kind(r, GRID_LEVELS, n, w, scale, zero, y);
}

/* y = scale * level where each value has its own scale and zero. */
static inline __attribute__((always_inline)) void round_each_kind(const Rounder *r, GridKind kind, int n, const real *w, const real *scale,
                                                                  const real *zero, real *y) {
#pragma omp simd
  for (int i = 0; i < n; i++) y[i] = scale[i] * round_value(r, kind, w[i] / scale[i], zero[i]);
}

static inline void round_each(const Rounder *r, int n, const real *w, const real *scale, const real *zero, real *y) {
  if (r->kind == GRID_INTEGER) round_each_kind(r, GRID_INTEGER, n, w, scale, zero, y);
  else if (r->kind == GRID_FLOAT) round_each_kind(r, GRID_FLOAT, n, w, scale, zero, y);
  else round_each_kind(r, GRID_LEVELS, n, w, scale, zero, y);
}

#endif

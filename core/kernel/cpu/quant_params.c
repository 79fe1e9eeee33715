/* quant_params.c - scale and zero point of every group, and the search for the best clip.
 *
 * A group is run over once for its extremes and means, then the format's range rule
 * gives scale and zero, then the scale is rounded the way it will be stored. The
 * search repeats the last two steps for ranges shrunk by 1 - i/steps and keeps the
 * first candidate with the least sum |error|^norm (GPTQ's reference: norm 2.4). */
#include "kernel/cpu/quant.h"
#include "kernel/cpu/quant_round.h"
#include "kernel/cpu/vmath.h"

typedef struct Extent {
  real low, high;        /* smallest and largest value */
  double magnitude, square; /* means of |w| and w^2 */
} Extent;

static Extent extent_of(int64_t n, const real *w) {
  real low = w[0], high = w[0];
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t i = 0; i < n; i++) {
    low = w[i] < low ? w[i] : low;
    high = w[i] > high ? w[i] : high;
  }
  return (Extent){low, high, 0, 0};
}

static void extent_means(Extent *e, int64_t n, const real *w) {
  double magnitude = 0, square = 0;
#pragma omp simd reduction(+ : magnitude, square)
  for (int64_t i = 0; i < n; i++) {
    magnitude += real_abs(w[i]);
    square += (double)w[i] * w[i];
  }
  e->magnitude = magnitude / (double)n;
  e->square = square / (double)n;
}

/* The exponent of the power of two that scales a group with largest magnitude m. */
static int power_exponent(const Format *f, double m) {
  int fraction_exponent, top = f->grid.exponent_max;
  if (m == 0) return -127;
  int e;
  double half;
  switch (f->power) {
    case POWER_RCEIL: half = frexp(m / f->grid.reach, &fraction_exponent), e = fraction_exponent - (half == 0.5); break;
    case POWER_CEIL: half = frexp(m, &fraction_exponent), e = fraction_exponent - (half == 0.5) - top; break;
    case POWER_EVEN: e = ilogb(m + ldexp(1, ilogb(m) - f->grid.fraction - 1)) - top; break;
    default: e = ilogb(m) - top;
  }
  return e < -127 ? -127 : e > 127 ? 127 : e;
}

/* Rounds x > 0 to a float of the given kind; what would become 0 becomes the smallest number. */
static double store_float(double x, int fraction, int exponent_min, double largest) {
  int e = x > 0 ? ilogb(x) : exponent_min;
  double step = ldexp(1, (e > exponent_min ? e : exponent_min) - fraction);
  x = rint(x / step) * step;
  return x < step ? step : x > largest ? largest : x;
}

static real store_scale(const Format *f, double unit, real scale, double m) {
  switch (f->store) {
    case STORE_F16: return (real)store_float(scale, 10, -14, 65504);
    case STORE_BF16: return (real)store_float(scale, 7, -126, 3.3895313892515355e38);
    case STORE_E8M0: return (real)ldexp(1, power_exponent(f, m));
    case STORE_E4M3:
    case STORE_E4M3_TENSOR: return (real)(fmax(store_float(scale / unit, 3, -6, 448), 0x1p-6) * unit);
    default: return scale;
  }
}

/* (high - low) / steps; each end by itself where the difference is beyond the type's largest number. */
static real per_step(real low, real high, real steps) {
  return high - low <= REAL_MAX ? (high - low) / steps : high / steps - low / steps;
}

/* Scale and zero of a group whose extent is shrunk by clip. */
static void scale_of(const Format *f, double unit, const Extent *e, real clip, real *scale, real *zero) {
  real low = e->low * clip, high = e->high * clip, steps = (real)(f->grid.high - f->grid.low);
  real m = real_max(-low, high), s = 0;
  *zero = (real)f->zero;
  switch (f->range) {
    case RANGE_MINMAX:
      low = real_min(low, 0), high = real_max(high, 0);
      if (!(per_step(low, high, steps) > 0)) low = -1, high = 1; /* all zero, or too small to divide */
      s = per_step(low, high, steps);
      *zero = real_round(-low / s) + (real)f->grid.low;
      break;
    case RANGE_MINMAX_RAW:
      s = high - low > (real)1e-5 ? per_step(low, high, steps) : (real)1e-5 / steps;
      *zero = between(-real_round(low / s), (real)f->grid.low, (real)f->grid.high);
      break;
    case RANGE_MINMAX_REAL:
      s = high - low > (real)1e-4 ? real_max(per_step(low, high, steps), (real)5e-5) : 1;
      *zero = -low / s;
      break;
    case RANGE_GPTQ: s = per_step(-m, m, steps) > 0 ? per_step(-m, m, steps) : 2 / steps; break;
    case RANGE_ABSMAX: s = m / (real)f->grid.reach; break;
    case RANGE_ABSMEAN: s = (real)(f->factor * e->magnitude / f->grid.reach) * clip; break;
    case RANGE_RMS: s = (real)((f->factor * sqrt(e->square) * clip + 1e-8) / f->grid.reach); break;
  }
  s = store_scale(f, unit, s, m);
  *scale = s > 0 ? s : REAL(FLT_MIN, DBL_MIN);
}

enum { PIECE = 256 };

/* sum |y - w|^norm of a piece; 0^norm comes out of exp(norm log 0) as 0. */
static double power_sum(int64_t n, const real *w, const real *y, double norm) {
  double sum = 0;
  if (norm == 2) {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += (double)(y[i] - w[i]) * (y[i] - w[i]);
  } else {
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) sum += real_exp((real)norm * real_log(real_abs(y[i] - w[i])));
  }
  return sum;
}

/* sum |error|^norm of a group; gives up once it is past `enough`. */
static double group_error(const Format *f, const Rounder *r, int64_t n, const real *w, real scale, real zero, double enough) {
  real y[PIECE];
  double sum = 0;
  for (int64_t i = 0; i < n && !(sum > enough); i += PIECE) {
    int64_t length = n - i < PIECE ? n - i : PIECE;
    round_run(r, length, w + i, scale, zero, y);
    sum += power_sum(length, w + i, y, f->norm);
  }
  return sum;
}

static void group_params(const Format *f, const Rounder *r, double unit, int64_t n, const real *w, real *scale, real *zero) {
  Extent e = extent_of(n, w);
  if (f->range == RANGE_ABSMEAN || f->range == RANGE_RMS) extent_means(&e, n, w);
  scale_of(f, unit, &e, (real)f->clip, scale, zero);
  if (f->search == 0) return;
  double best = INFINITY;
  for (int i = 0; i < f->search; i++) {
    real s, z;
    scale_of(f, unit, &e, (real)(f->clip * (1 - (double)i / f->search_steps)), &s, &z);
    double error = group_error(f, r, n, w, s, z, best);
    if (error < best) best = error, *scale = s, *zero = z;
  }
}

void K(quant_params)(const Format *f, double unit, const Groups *g, const void *w, void *scale, void *zero) {
  Rounder r;
  rounder_make(&r, &f->grid);
  int64_t groups = (g->cols + g->size - 1) / g->size, work = g->rows * g->cols * (f->search ? f->search : 1);
#pragma omp parallel for schedule(static) if (work > PARALLEL_GRAIN)
  for (int64_t k = 0; k < g->rows * groups; k++) {
    int64_t row = k / groups, from = k % groups * g->size, at = row * g->slots + k % groups;
    int64_t n = g->cols - from < g->size ? g->cols - from : g->size;
    group_params(f, &r, unit, n, (const real *)w + row * g->ld + from, (real *)scale + at, (real *)zero + at);
  }
}

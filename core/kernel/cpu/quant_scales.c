/* quant_scales.c - scales as they are stored: small floats, powers of two, and the 8-bit dynamic code. */
#include "kernel/cpu/quant.h"
#include "kernel/cpu/quant_round.h"

/* bitsandbytes' dynamic map: 7 decades, the finer the larger, signed; 256 values, ascending. */
static void dynamic_map(Rounder *r) {
  Grid map = {.kind = GRID_LEVELS, .count = MAX_LEVELS};
  int count = 0;
  for (int decade = 0; decade < 7; decade++) {
    int items = 1 << decade;
    for (int i = 0; i < items; i++) {
      double mean = 0.1 + 0.9 * (i + 0.5) / items, x = pow(10, decade - 6) * mean;
      map.level[count++] = x;
      map.level[count++] = -x;
    }
  }
  map.level[count++] = 0;
  map.level[count++] = 1;
  for (int i = 1; i < count; i++) /* insertion sort: 256 values, once a call */
    for (int j = i; j > 0 && map.level[j] < map.level[j - 1]; j--) {
      double t = map.level[j];
      map.level[j] = map.level[j - 1], map.level[j - 1] = t;
    }
  rounder_make(r, &map);
}

static real dynamic_value(const Rounder *r, int32_t code, float largest, float mean) {
  return real_max((real)largest * r->level[code] + (real)mean, REAL(FLT_MIN, DBL_MIN));
}

static int64_t blocks_of(int64_t n) { return (n + SCALE_BLOCK - 1) / SCALE_BLOCK; }

static int32_t dynamic_code(const Rounder *r, real s, float largest, float mean) {
  return nearest_level(r, largest > 0 ? (s - (real)mean) / (real)largest : 0);
}

void K(quant_store_scales)(int64_t n, void *scales, float *extra) {
  real *s = scales;
  Rounder r;
  double sum = 0;
  dynamic_map(&r);
  for (int64_t i = 0; i < n; i++) sum += s[i];
  float mean = extra[blocks_of(n)] = (float)(sum / (double)n);
  for (int64_t i = 0; i < n; i += SCALE_BLOCK) {
    int64_t end = i + SCALE_BLOCK < n ? i + SCALE_BLOCK : n;
    float m = 0;
    for (int64_t j = i; j < end; j++) m = fmaxf(m, (float)real_abs(s[j] - (real)mean));
    extra[i / SCALE_BLOCK] = m;
    for (int64_t j = i; j < end; j++) s[j] = dynamic_value(&r, dynamic_code(&r, s[j], m, mean), m, mean);
  }
}

/* The grid of the numbers that a scale is stored as; E8M0 has none. */
static Grid store_grid(const Format *f) {
  switch (f->store) {
    case STORE_F16: return (Grid){.kind = GRID_FLOAT, .exponent_min = -14, .fraction = 10, .exponent_max = 15, .reach = 65504};
    case STORE_BF16: return (Grid){.kind = GRID_FLOAT, .exponent_min = -126, .fraction = 7, .exponent_max = 127, .reach = 3.3895313892515355e38};
    default: return (Grid){.kind = GRID_FLOAT, .exponent_min = -6, .fraction = 3, .exponent_max = 8, .reach = 448};
  }
}

static double unit_of(const Format *f, const float *extra) { return f->store == STORE_E4M3_TENSOR ? *extra : 1; }

void K(quant_encode_scales)(const Format *f, const float *extra, int64_t n, const void *scale, int32_t *codes) {
  const real *s = scale;
  Rounder r;
  Grid g = store_grid(f);
  if (f->store == STORE_DYNAMIC8) dynamic_map(&r);
  else rounder_make(&r, &g);
  double unit = unit_of(f, extra);
  for (int64_t i = 0; i < n; i++) {
    if (f->store == STORE_E8M0) codes[i] = ilogb((double)s[i]) + 127;
    else if (f->store == STORE_DYNAMIC8) codes[i] = dynamic_code(&r, s[i], extra[i / SCALE_BLOCK], extra[blocks_of(n)]);
    else codes[i] = level_code(&r, &g, round_float(&r, (real)(s[i] / unit)), 0);
  }
}

void K(quant_decode_scales)(const Format *f, const float *extra, int64_t n, const int32_t *codes, void *scale) {
  real *s = scale;
  Rounder r;
  Grid g = store_grid(f);
  if (f->store == STORE_DYNAMIC8) dynamic_map(&r);
  else rounder_make(&r, &g);
  double unit = unit_of(f, extra);
  for (int64_t i = 0; i < n; i++) {
    if (f->store == STORE_E8M0) s[i] = (real)ldexp(1, codes[i] - 127);
    else if (f->store == STORE_DYNAMIC8) s[i] = dynamic_value(&r, codes[i], extra[i / SCALE_BLOCK], extra[blocks_of(n)]);
    else s[i] = (real)((double)code_level(&r, &g, codes[i], 0) * unit);
  }
}

void K(quant_encode_zeros)(int64_t n, const void *zero, int base, int32_t *codes) {
  for (int64_t i = 0; i < n; i++) codes[i] = (int32_t)((const real *)zero)[i] - base;
}

void K(quant_decode_zeros)(int64_t n, const int32_t *codes, int base, void *zero) {
  for (int64_t i = 0; i < n; i++) ((real *)zero)[i] = (real)(codes[i] + base);
}

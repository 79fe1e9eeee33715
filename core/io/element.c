/* element.c - conversions, a block at a time through doubles or floats. */
#include "io/element.h"

#include <math.h>
#include <string.h>

#include "io/blocks.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "weight files are little-endian; this reader copies their bytes as they are"
#endif

static const struct {
  const char *name;
  size_t bytes;
  int block; /* 0: 1 */
} types[ELEMENT_COUNT] = {
  [E_F64] = {"F64", 8}, [E_F32] = {"F32", 4}, [E_F16] = {"F16", 2}, [E_BF16] = {"BF16", 2},
  [E_I64] = {"I64", 8}, [E_U64] = {"U64", 8}, [E_I32] = {"I32", 4}, [E_U32] = {"U32", 4},
  [E_I16] = {"I16", 2}, [E_U16] = {"U16", 2}, [E_I8] = {"I8", 1}, [E_U8] = {"U8", 1}, [E_BOOL] = {"BOOL", 1},
  [E_F8_E4M3] = {"F8_E4M3", 1}, [E_F8_E5M2] = {"F8_E5M2", 1}, [E_F8_E8M0] = {"F8_E8M0", 1},
  [E_Q8_0] = {"Q8_0", 34, 32}, [E_Q4_0] = {"Q4_0", 18, 32}, [E_Q4_K] = {"Q4_K", 144, 256}, [E_Q6_K] = {"Q6_K", 210, 256},
};

const char *element_name(Element e) { return types[e].name; }
size_t element_bytes(Element e) { return types[e].bytes; }
int element_block(Element e) { return types[e].block ? types[e].block : 1; }

bool element_size(Element e, int64_t n, uint64_t *bytes) {
  return n >= 0 && n % element_block(e) == 0 && !__builtin_mul_overflow((uint64_t)n / (uint64_t)element_block(e), types[e].bytes, bytes);
}

bool element_parse(const char *name, Element *out) {
  for (int e = 0; e < ELEMENT_COUNT; e++) {
    if (types[e].block) continue;
    if (strcmp(types[e].name, name) != 0) continue;
    *out = (Element)e;
    return true;
  }
  return false;
}

Element element_of_dtype(DType d) { return d == F64 ? E_F64 : d == I32 ? E_I32 : d == BF16 ? E_BF16 : E_F32; }

static bool is_integer(Element e) { return e >= E_I64 && e <= E_BOOL; }

/* A float of `mantissa` and `exponent` bits (IEEE layout) as a float. fn: no infinity, only the
 * all-ones pattern is NaN (E4M3). */
static float small_float(uint32_t bits, int exponent, int mantissa, bool fn) {
  uint32_t m = bits & ((1u << mantissa) - 1), e = bits >> mantissa & ((1u << exponent) - 1);
  uint32_t e_max = (1u << exponent) - 1, m_max = (1u << mantissa) - 1;
  int bias = (1 << (exponent - 1)) - 1;
  float sign = bits >> (mantissa + exponent) & 1 ? -1.0f : 1.0f;
  if (e == e_max && (fn ? m == m_max : m != 0)) return copysignf(NAN, sign);
  if (e == e_max && !fn) return sign * INFINITY;
  if (e == 0) return sign * ldexpf((float)m, 1 - bias - mantissa);
  return sign * ldexpf((float)(m | 1u << mantissa), (int)e - bias - mantissa);
}

/* Half to float without branches on the common path: shift into place and rescale by 2^112, which also
 * makes the subnormals right; infinities and NaN get their exponent filled. */
float element_half(uint16_t h) {
  uint32_t rest = (uint32_t)(h & 0x7fff) << 13;
  float f;
  memcpy(&f, &rest, 4);
  f *= 0x1p112f;
  uint32_t bits;
  memcpy(&bits, &f, 4);
  if ((h & 0x7c00) == 0x7c00) bits = rest | 0x7f800000;
  bits |= (uint32_t)(h & 0x8000) << 16;
  memcpy(&f, &bits, 4);
  return f;
}

static float byte_float(Element e, uint8_t b) {
  if (e == E_F8_E8M0) return b == 255 ? NAN : ldexpf(1, (int)b - 127); /* a power-of-two scale (OCP MX) */
  return e == E_F8_E4M3 ? small_float(b, 4, 3, true) : small_float(b, 5, 2, false);
}

enum { BLOCK = 1024 }; /* a multiple of every element_block */

static void bf16_f32(const uint8_t *p, int64_t n, float *out) {
  for (int64_t i = 0; i < n; i++) {
    uint16_t h;
    memcpy(&h, p + 2 * i, 2);
    uint32_t wide = (uint32_t)h << 16;
    memcpy(out + i, &wide, 4);
  }
}

static void f16_f32(const uint8_t *p, int64_t n, float *out) {
  for (int64_t i = 0; i < n; i++) {
    uint16_t h;
    memcpy(&h, p + 2 * i, 2);
    out[i] = element_half(h);
  }
}

static void reals_f32(Element e, const uint8_t *p, int64_t n, float *out) {
  if (e == E_F32) memcpy(out, p, (size_t)n * 4);
  if (e == E_BF16) bf16_f32(p, n, out);
  if (e == E_F16) f16_f32(p, n, out);
  if (e == E_F64) {
    for (int64_t i = 0; i < n; i++) {
      double d;
      memcpy(&d, p + 8 * i, 8);
      out[i] = (float)d;
    }
  }
  if (e >= E_Q8_0) blocks_decode(e, p, n / element_block(e), out);
  if (e >= E_F8_E4M3 && e <= E_F8_E8M0) {
    float table[256];
    for (int b = 0; b < 256; b++) table[b] = byte_float(e, (uint8_t)b);
    for (int64_t i = 0; i < n; i++) out[i] = table[p[i]];
  }
}

/* Element i of an integer array; U64 beyond 2^63 is reported as the largest int64. */
static int64_t integer_at(Element e, const uint8_t *p, int64_t i) {
  p += (size_t)i * types[e].bytes;
  int64_t i64;
  uint64_t u64 = 0;
  int32_t i32;
  int16_t i16;
  if (e == E_I64) return memcpy(&i64, p, 8), i64;
  if (e == E_I32) return memcpy(&i32, p, 4), i32;
  if (e == E_I16) return memcpy(&i16, p, 2), i16;
  if (e == E_I8) return (int8_t)*p;
  memcpy(&u64, p, types[e].bytes);
  return u64 > INT64_MAX ? INT64_MAX : (int64_t)u64;
}

static bool integers_within(Element e, const uint8_t *p, int64_t n, int64_t low, int64_t high) {
  for (int64_t i = 0; i < n; i++) {
    int64_t v = integer_at(e, p, i);
    if (v < low || v > high) return false;
  }
  return true;
}

static bool fits_i32(Element e, const uint8_t *p, int64_t n) {
  return (types[e].bytes < 4 || e == E_I32) || integers_within(e, p, n, INT32_MIN, INT32_MAX);
}

DType element_dtype(Element e, const uint8_t *data, int64_t n) {
  if (is_integer(e)) return fits_i32(e, data, n) ? I32 : F64;
  return e == E_F64 ? F64 : F32;
}

static Status decode_integers(Element e, const uint8_t *p, int64_t n, DType to, void *out) {
  int64_t bound = to == F64 ? (int64_t)1 << 53 : (int64_t)1 << 24; /* beyond it the reals skip integers */
  if (to == I32 ? !fits_i32(e, p, n) : !integers_within(e, p, n, -bound, bound))
    return fail(ERR_DTYPE, "%s elements too large for %s", types[e].name, element_name(element_of_dtype(to)));
  for (int64_t i = 0; i < n; i++) {
    int64_t v = integer_at(e, p, i);
    if (to == I32) ((int32_t *)out)[i] = (int32_t)v;
    else if (to == F64) ((double *)out)[i] = (double)v;
    else ((float *)out)[i] = (float)v;
  }
  return OK;
}

/* LuaJIT keeps the types of its values in the payload of NaNs: one from a file, read through a pointer in Lua, could pose as
 * a string or a function. So every NaN gets the ordinary payload. */
static void plain_nans(DType d, int64_t n, void *data) {
  float *f = data;
  double *g = data;
  for (int64_t i = 0; d == F32 && i < n; i++)
    if (f[i] != f[i]) f[i] = NAN;
  for (int64_t i = 0; d == F64 && i < n; i++)
    if (g[i] != g[i]) g[i] = (double)NAN;
}

/* Block by block, so that the second look at the numbers finds them in the cache. */
static Status decode_reals(Element e, const uint8_t *data, int64_t n, DType to, void *out) {
  if (!dtype_is_real(to))
    return fail(ERR_DTYPE, "no reading of %s elements as %s; read them as f32 and convert", types[e].name, element_name(element_of_dtype(to)));
  float block[BLOCK];
  for (int64_t i = 0; i < n; i += BLOCK) {
    int64_t m = n - i < BLOCK ? n - i : BLOCK;
    const uint8_t *from = data + (size_t)(i / element_block(e)) * types[e].bytes;
    void *here = to == F32 ? (void *)((float *)out + i) : (void *)((double *)out + i);
    if (to == F32) reals_f32(e, from, m, here);
    else if (e == E_F64) memcpy(here, from, (size_t)m * 8);
    else {
      reals_f32(e, from, m, block);
      for (int64_t j = 0; j < m; j++) ((double *)here)[j] = block[j];
    }
    plain_nans(to, m, here);
  }
  return OK;
}

Status element_decode(Element e, const uint8_t *data, int64_t n, DType to, void *out) {
  if (n == 0) return OK;
  bool same = element_of_dtype(to) == e;
  if (same && (to == I32 || to == BF16)) return memcpy(out, data, (size_t)n * types[e].bytes), OK;
  if (is_integer(e) && to != BF16) return decode_integers(e, data, n, to, out);
  return decode_reals(e, data, n, to, out);
}

int64_t element_nonfinite(Element e, const uint8_t *data, int64_t n) {
  if (is_integer(e)) return 0;
  int64_t bad = 0;
  float block[BLOCK];
  for (int64_t i = 0; i < n; i += BLOCK) {
    int64_t m = n - i < BLOCK ? n - i : BLOCK;
    if (e == E_F64) {
      for (int64_t j = 0; j < m; j++) {
        double d;
        memcpy(&d, data + 8 * (i + j), 8);
        bad += !isfinite(d);
      }
      continue;
    }
    reals_f32(e, data + (size_t)(i / element_block(e)) * types[e].bytes, m, block);
    for (int64_t j = 0; j < m; j++) bad += !isfinite(block[j]);
  }
  return bad;
}

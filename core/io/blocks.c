/* blocks.c - see blocks.h. */
#include "io/blocks.h"

#include <string.h>

static float half_at(const uint8_t *p) {
  uint16_t h;
  memcpy(&h, p, 2);
  return element_half(h);
}

static void q8_0(const uint8_t *p, float *x) {
  float d = half_at(p);
  for (int i = 0; i < 32; i++) x[i] = d * (float)(int8_t)p[2 + i];
}

static void q4_0(const uint8_t *p, float *x) {
  float d = half_at(p);
  for (int i = 0; i < 16; i++) {
    x[i] = d * (float)((p[2 + i] & 15) - 8);
    x[i + 16] = d * (float)((p[2 + i] >> 4) - 8);
  }
}

/* The 6-bit numbers: of sub-blocks 0 to 3 they lie in bytes j (s) and j + 4 (t); of 4 to 7 their low four bits share
 * byte j + 4, their high two are the top bits of the bytes of j - 4. */
static void q4_k_scales(const uint8_t packed[12], int j, float *s, float *t) {
  if (j < 4) {
    *s = (float)(packed[j] & 63);
    *t = (float)(packed[j + 4] & 63);
  } else {
    *s = (float)((packed[j + 4] & 15) | (packed[j - 4] >> 6) << 4);
    *t = (float)((packed[j + 4] >> 4) | (packed[j] >> 6) << 4);
  }
}

/* Sub-blocks 2c and 2c + 1 are the low and the high halves of 32 bytes. */
static void q4_k(const uint8_t *p, float *x) {
  float d = half_at(p), m = half_at(p + 2), s, t;
  const uint8_t *q = p + 16;
  for (int j = 0; j < 8; j++) {
    q4_k_scales(p + 4, j, &s, &t);
    for (int i = 0; i < 32; i++) {
      int v = q[32 * (j / 2) + i] >> (j % 2 * 4) & 15;
      x[32 * j + i] = d * s * (float)v - m * t;
    }
  }
}

/* Two halves of 128 values; value 32 k + i of a half has its low bits in byte (k % 2) 32 + i, low or high by k / 2, and its
 * high bits at 2 k in byte i. */
static void q6_k(const uint8_t *p, float *x) {
  const int8_t *scales = (const int8_t *)p + 192;
  float d = half_at(p + 208);
  for (int half = 0; half < 2; half++) {
    const uint8_t *low = p + 64 * half, *high = p + 128 + 32 * half;
    for (int k = 0; k < 4; k++) {
      for (int i = 0; i < 32; i++) {
        int v = (low[k % 2 * 32 + i] >> (k / 2 * 4) & 15) | (high[i] >> (2 * k) & 3) << 4;
        x[128 * half + 32 * k + i] = d * (float)scales[8 * half + 2 * k + i / 16] * (float)(v - 32);
      }
    }
  }
}

void blocks_decode(Element e, const uint8_t *data, int64_t blocks, float *out) {
  int n = element_block(e);
  for (int64_t b = 0; b < blocks; b++, data += element_bytes(e), out += n) {
    if (e == E_Q8_0) q8_0(data, out);
    else if (e == E_Q4_0) q4_0(data, out);
    else if (e == E_Q4_K) q4_k(data, out);
    else q6_k(data, out);
  }
}

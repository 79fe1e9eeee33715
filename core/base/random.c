/* random.c - Philox4x32-10 and the distributions drawn from it. */
#include "base/random.h"

#include <math.h>

/* FNV-1a, 64 bits: names of streams to keys. */
static uint64_t hash_name(const char *name) {
  uint64_t h = 14695981039346656037u;
  for (; *name; name++) h = (h ^ (uint8_t)*name) * 1099511628211u;
  return h;
}

Random random_stream(uint64_t seed, const char *name) {
  return (Random){.seed = seed, .name = hash_name(name), .counter = 0};
}

void random_block(const Random *r, uint64_t counter, uint32_t out[4]) {
  const uint32_t M0 = 0xD2511F53, M1 = 0xCD9E8D57, W0 = 0x9E3779B9, W1 = 0xBB67AE85;
  uint32_t k0 = (uint32_t)r->seed, k1 = (uint32_t)(r->seed >> 32);
  uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
  uint32_t c2 = (uint32_t)r->name, c3 = (uint32_t)(r->name >> 32);
  for (int round = 0; round < 10; round++) {
    uint64_t p0 = (uint64_t)M0 * c0, p1 = (uint64_t)M1 * c2;
    uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
    c1 = (uint32_t)p1;
    c3 = (uint32_t)p0;
    c0 = n0;
    c2 = n2;
    k0 += W0;
    k1 += W1;
  }
  out[0] = c0, out[1] = c1, out[2] = c2, out[3] = c3;
}

uint32_t random_u32(Random *r) {
  uint32_t x[4];
  random_block(r, r->counter++, x);
  return x[0];
}

uint64_t random_u64(Random *r) {
  uint32_t x[4];
  random_block(r, r->counter++, x);
  return (uint64_t)x[0] << 32 | x[1];
}

double random_uniform(Random *r) { return (double)(random_u64(r) >> 11) * 0x1p-53; }

double random_normal(Random *r) {
  uint32_t x[4];
  random_block(r, r->counter++, x);
  double u = ((double)((uint64_t)x[0] << 21 ^ x[1] >> 11) + 0.5) * 0x1p-53; /* in (0, 1) */
  double v = (double)((uint64_t)x[2] << 21 ^ x[3] >> 11) * 0x1p-53;
  return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

uint64_t random_below(Random *r, uint64_t n) {
  uint64_t threshold = -n % n; /* reject the short last cycle, so that no value is favoured */
  for (;;) {
    uint64_t x = random_u64(r);
    if (x >= threshold) return x % n;
  }
}

/* pack.c - codes of few bits in 32-bit words. Not in a table of kernels: there is no element type in it. */
#include <string.h>

#include "kernel/quant.h"

int64_t packed_words(int64_t n, int bits) { return (n * bits + 31) / 32; }

void pack_bits(int64_t n, int bits, const int32_t *codes, int32_t *words) {
  uint32_t *w = (uint32_t *)words;
  memset(w, 0, (size_t)packed_words(n, bits) * sizeof *w);
  for (int64_t i = 0; i < n; i++) {
    int64_t at = i * bits, word = at / 32;
    int shift = (int)(at % 32);
    uint32_t code = (uint32_t)codes[i];
    w[word] |= code << shift;
    if (shift + bits > 32) w[word + 1] |= code >> (32 - shift);
  }
}

void unpack_bits(int64_t n, int bits, const int32_t *words, int32_t *codes) {
  const uint32_t *w = (const uint32_t *)words, mask = bits == 32 ? ~0u : (1u << bits) - 1;
  for (int64_t i = 0; i < n; i++) {
    int64_t at = i * bits, word = at / 32;
    int shift = (int)(at % 32);
    uint32_t code = w[word] >> shift;
    if (shift + bits > 32) code |= w[word + 1] << (32 - shift);
    codes[i] = (int32_t)(code & mask);
  }
}

enum { TRITS = 20 }; /* 3^20 < 2^32 */

int64_t packed_words_ternary(int64_t n) { return (n + TRITS - 1) / TRITS; }

void pack_ternary(int64_t n, const int32_t *codes, int32_t *words) {
  for (int64_t i = 0; i < n; i += TRITS) {
    uint32_t word = 0;
    for (int64_t j = (i + TRITS < n ? i + TRITS : n) - 1; j >= i; j--) word = word * 3 + (uint32_t)codes[j];
    words[i / TRITS] = (int32_t)word;
  }
}

void unpack_ternary(int64_t n, const int32_t *words, int32_t *codes) {
  for (int64_t i = 0; i < n; i += TRITS) {
    uint32_t word = (uint32_t)words[i / TRITS];
    for (int64_t j = i; j < n && j < i + TRITS; j++, word /= 3) codes[j] = (int32_t)(word % 3);
  }
}

/* ngram.c - counts in hash tables, one pair of them an order; keys hold the bytes themselves. */
#include "io/ngram.h"

#include <math.h>

#include "base/interrupt.h"
#include "base/map.h"

typedef struct Counts {
  Map context;  /* h -> c(h) << 16 | t(h) */
  Map followed; /* h x -> c(h x) */
} Counts;

enum { BLOCK = 1 << 16 };

/* The bytes in front of `at`, `order` of them, as a number. */
static uint64_t context_of(const char *text, size_t at, int order) {
  uint64_t h = 0;
  for (int i = order; i > 0; i--) h = h << 8 | (uint8_t)text[at - (size_t)i];
  return h;
}

static Status count(Counts *c, int order, const char *text, size_t bytes) {
  for (size_t at = (size_t)order; at < bytes; at++) {
    uint64_t h = context_of(text, at, order);
    uint64_t *pair = map_slot(&c->followed, h << 8 | (uint8_t)text[at]);
    if (!pair) return error_code();
    uint64_t fresh = (*pair)++ == 0;
    uint64_t *context = map_slot(&c->context, h);
    if (!context) return error_code();
    *context += (uint64_t)1 << 16 | fresh;
    if (at % BLOCK == 0) TRY(interrupt_check());
  }
  return OK;
}

static double probability(const Counts *c, int order, const char *text, size_t at) {
  double p = 1.0 / 256;
  for (int j = 0; j <= order && (size_t)j <= at; j++) {
    uint64_t h = context_of(text, at, j);
    const uint64_t *context = map_find(&c[j].context, h);
    if (!context) break;
    const uint64_t *pair = map_find(&c[j].followed, h << 8 | (uint8_t)text[at]);
    double total = (double)(*context >> 16), kinds = (double)(*context & 0xFFFF);
    p = ((pair ? (double)*pair : 0) + kinds * p) / (total + kinds);
  }
  return p;
}

Status ngram_bits(const char *train, size_t train_bytes, const char *test, size_t test_bytes, int order, double *bits_per_byte) {
  if (order < 0 || order > NGRAM_MOST) return fail(ERR_ARGUMENT, "ngram: order must be 0 to %d, got %d", NGRAM_MOST, order);
  if (test_bytes == 0) return fail(ERR_ARGUMENT, "ngram: no text to measure");
  Counts c[NGRAM_MOST + 1] = {0};
  Status s = OK;
  for (int j = 0; j <= order && s == OK; j++) s = count(&c[j], j, train, train_bytes);
  double bits = 0;
  for (size_t at = 0; at < test_bytes && s == OK; at++) {
    bits -= log2(probability(c, order, test, at));
    if (at % BLOCK == 0) s = interrupt_check();
  }
  for (int j = 0; j <= order; j++) map_free(&c[j].context), map_free(&c[j].followed);
  *bits_per_byte = bits / (double)test_bytes;
  return s;
}

/* ngram.h - the byte n-gram with Witten-Bell smoothing (Witten and Bell, 1991): what a model of
 * text must beat to be worth its name.
 *
 *   p(x | h) = (c(h x) + t(h) p(x | h')) / (c(h) + t(h))
 * h: the last `order` bytes, h' one fewer; c counts, t(h) how many different bytes followed h.
 * Below order 0 all 256 bytes are equal. Contexts never seen pass on to the shorter one. */
#ifndef quench_ngram_h
#define quench_ngram_h

#include <stddef.h>

#include "base/status.h"

enum { NGRAM_MOST = 7 }; /* a context and its byte fit 64 bits */

/* Counts on train, bits per byte on test (whose first bytes have no context). */
Status ngram_bits(const char *train, size_t train_bytes, const char *test, size_t test_bytes, int order, double *bits_per_byte);

#endif

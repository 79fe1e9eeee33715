/* hadamard.h - Hadamard matrices: entries +-1, H H^T = n I. */
#ifndef quench_hadamard_h
#define quench_hadamard_h

#include <stdint.h>

#include "base/status.h"

/* H of size = odd 2^k is base (odd, odd) times Sylvester's matrix of 2^k (Kronecker); base NULL where odd = 1. */
typedef struct Hadamard {
  int64_t size, odd;
  int8_t *base;
} Hadamard;

/* Sizes 2^k m, m = 1, or a construction of hadamard.c: 12, 20, 28, 36, 44, 52, 60, 68, 76, 84, 100, 108, 140, 156, 172, ... */
Status hadamard_make(int64_t size, Hadamard *out);
void hadamard_free(Hadamard *h);

#endif

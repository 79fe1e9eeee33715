/* random.h - counter-based random numbers (Philox4x32-10, Salmon et al., SC 2011).
 *
 * A stream is (seed, name, counter). Numbers are a pure function of the three, so
 * adding a draw to one stream shifts no other, a checkpoint stores three integers,
 * and a parallel fill gives the same numbers for any number of threads. */
#ifndef quench_random_h
#define quench_random_h

#include <stdint.h>

typedef struct Random {
  uint64_t seed;
  uint64_t name;    /* hash of the stream's name: "init", "data", "dropout", ... */
  uint64_t counter; /* next block of four 32-bit numbers */
} Random;

Random random_stream(uint64_t seed, const char *name);

/* Four 32-bit numbers of block `counter`; the primitive under everything else. */
void random_block(const Random *r, uint64_t counter, uint32_t out[4]);

uint32_t random_u32(Random *r);              /* advances by one block */
uint64_t random_u64(Random *r);
double random_uniform(Random *r);            /* in [0, 1), 53 bits */
double random_normal(Random *r);             /* mean 0, deviation 1 (Box-Muller) */
uint64_t random_below(Random *r, uint64_t n);/* 0 .. n-1, without bias */

#endif

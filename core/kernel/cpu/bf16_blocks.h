/* bf16_blocks.h - products of small blocks with bf16 operands, each laid out once and met often (attention_bf16.h). The sums are those
 * that bf16.c defines, on tiles (amx.c), by the dot instruction (dot.c) or portably (bf16.c): the same bits. */
#ifndef quench_kernel_bf16_blocks_h
#define quench_kernel_bf16_blocks_h

#include <stdbool.h>
#include <stdint.h>

enum { BF16_BLOCK = 32 }; /* rows of the left operand or columns of the right one in a block, and k in a step */

typedef struct Bf16Blocks {
  int64_t step; /* floats that a block takes a step of k, a multiple of 16: its steps lie one after the other */
  void (*begin)(void), (*end)(void); /* around any number of calls of the others, by the thread that makes them */
  /* Lays out a block of `count` rows (left) or columns of an operand over k, on a cache line's border. along: its k lie along memory,
   * else `ld` numbers apart, as its rows or columns do then along memory. Beyond count and k are zeros, up to whole blocks and steps. */
  void (*lay)(bool left, bool along, const float *x, int64_t ld, int64_t count, int64_t k, float *to);
  /* c (rows x columns of a block) = the product of two blocks over so many steps; add: c + it. */
  void (*multiply)(int64_t rows, int64_t columns, int64_t steps, const float *left, const float *right, bool add, float *c, int64_t ldc);
} Bf16Blocks;

static inline void bf16_no_call(void) {} /* where neither begin nor end is needed */

const Bf16Blocks *bf16_blocks(void); /* the fastest here */
extern const Bf16Blocks bf16_portable_blocks, bf16_dot_blocks, bf16_tile_blocks; /* the latter two where dot_available(), amx_available() */

#endif

/* attention_bf16.h - the operands and products of attention_tile.h where numbers are rounded to bf16 as they enter a product
 * (bf16_blocks.h), P and dS too; softmax and its gradient are f32. What is not seen of a tile is left out by whole blocks; inside
 * a block it is zero.
 *
 * Here an operand's `rows` are laid out as the right operand of a product over rows: of each BLOCK rows, blocks of columns; `turned` as
 * the right one of a product over columns, `left` as the left one of that, both by blocks of rows. */
#ifndef quench_kernel_attention_bf16_h
#define quench_kernel_attention_bf16_h

#include "kernel/cpu/bf16_blocks.h"

/* Of the width, steps of k, or blocks of columns. */
static inline int64_t steps_of(const Attention *a) { return (a->width + BF16_BLOCK - 1) / BF16_BLOCK; }
static inline int64_t block_down(int64_t n) { return n / BF16_BLOCK * BF16_BLOCK; }

static inline void lay_rows(const Attention *a, Head x, int64_t t, int64_t n, real *to) {
  const Bf16Blocks *f = bf16_blocks();
  for (int64_t r = 0; r < n; r += BLOCK)
    for (int64_t c = 0; c < a->width; c += BF16_BLOCK, to += BLOCK / BF16_BLOCK * f->step)
      f->lay(false, false, row_of(x, t + r) + c, x.stride, least(a->width - c, BF16_BLOCK), least(n - r, BLOCK), to);
}

static inline void lay_along(const Attention *a, bool left, Head x, int64_t t, int64_t n, real *to) {
  const Bf16Blocks *f = bf16_blocks();
  for (int64_t r = 0; r < n; r += BF16_BLOCK, to += steps_of(a) * f->step)
    f->lay(left, true, row_of(x, t + r), x.stride, least(n - r, BF16_BLOCK), a->width, to);
}

/* A block of scores: alpha part + beta to */
static inline void join_scores(double alpha, double beta, const real *part, real *to) {
  for (int64_t r = 0; r < BF16_BLOCK; r++)
#pragma omp simd
    for (int64_t c = 0; c < BF16_BLOCK; c++) to[r * BLOCK + c] = (real)alpha * part[r * BF16_BLOCK + c] + (beta == 0 ? 0 : (real)beta * to[r * BLOCK + c]);
}

static inline void bf16_scores(const Attention *a, Place p, double alpha, const Operand *x, const Operand *y, double beta, real *tile) {
  const Bf16Blocks *f = bf16_blocks();
  const int64_t length = steps_of(a) * f->step;
  real part[BF16_BLOCK * BF16_BLOCK] __attribute__((aligned(64)));
  for (int64_t r = 0; r < p.m; r += BF16_BLOCK) {
    const Range keys = seen_by(a, p, r, least(BF16_BLOCK, p.m - r));
    for (int64_t c = block_down(keys.from); c < keys.to; c += BF16_BLOCK) {
      f->multiply(BF16_BLOCK, BF16_BLOCK, steps_of(a), x->left + (p.i - x->first + r) / BF16_BLOCK * length, y->turned + c / BF16_BLOCK * length, false, part, BF16_BLOCK);
      join_scores(alpha, beta, part, tile + r * BLOCK + c);
    }
  }
}

/* `rows` rows of out from `to` on (+)= the left block times rows [from, from + k) of block `b` of x's. */
static inline void times_rows(const Attention *a, int64_t rows, const real *left, int64_t k, const Operand *x, int64_t b, int64_t from, bool add, Head out,
                              int64_t to) {
  const Bf16Blocks *f = bf16_blocks();
  const int64_t steps = (k + BF16_BLOCK - 1) / BF16_BLOCK, deep = BLOCK / BF16_BLOCK;
  for (int64_t w = 0; w < steps_of(a); w++)
    f->multiply(rows, least(BF16_BLOCK, a->width - w * BF16_BLOCK), steps, left, x->rows + ((b * steps_of(a) + w) * deep + from / BF16_BLOCK) * f->step, add,
                row_of(out, to) + w * BF16_BLOCK, out.stride);
}

typedef real LeftBlock[BF16_BLOCK * BLOCK] __attribute__((aligned(64)));

static inline void bf16_gather(const Attention *a, Place p, const real *tile, const Operand *x, double beta, Head out) {
  LeftBlock left;
  for (int64_t r = 0; r < p.m; r += BF16_BLOCK) {
    const int64_t rows = least(BF16_BLOCK, p.m - r);
    const Range keys = seen_by(a, p, r, rows);
    const int64_t from = keys.from < keys.to ? block_down(keys.from) : 0, k = keys.from < keys.to ? keys.to - from : 0;
    bf16_blocks()->lay(true, true, tile + r * BLOCK + from, BLOCK, rows, k, left);
    if (k || beta == 0) times_rows(a, rows, left, k, x, (p.j - x->first) / BLOCK, from, beta != 0, out, p.i + r); /* over no keys: zeros */
  }
}

static inline void bf16_scatter(const Attention *a, Place p, const real *tile, const Operand *x, Head out) {
  LeftBlock left;
  for (int64_t c = 0; c < p.n; c += BF16_BLOCK) {
    const int64_t columns = least(BF16_BLOCK, p.n - c);
    const Range rows = seers(a, p, c, columns);
    if (rows.from >= rows.to) continue;
    const int64_t from = block_down(rows.from), k = rows.to - from;
    bf16_blocks()->lay(true, false, tile + from * BLOCK + c, BLOCK, columns, k, left);
    times_rows(a, columns, left, k, x, (p.i - x->first) / BLOCK, from, true, out, p.j + c);
  }
}

#endif

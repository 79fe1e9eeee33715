/* bf16.c - products with bf16 operands, defined: what amx.c computes, on any processor.
 *
 *   Operands are rounded to bf16, to nearest even. k is cut into blocks of 32 from its
 *   start. In a block, one chain of multiply-adds from zero takes k 0 to 15, another
 *   16 to 31, both rising; the two are added, and that is added to C. Everything is in
 *   f32 (a product of two bf16 numbers is exact), and on x86 denormals count as zero.
 *
 * With alpha other than 1, or beta other than 0 and 1, that holds for k up to 512.
 *
 * That is the order in which the tile unit sums (Intel SDM, TDPBF16PS), so that the same
 * training run gives the same bits with it and without. */
#include "kernel/cpu/bf16.h"

#if REAL_BITS == 32
#include "kernel/cpu/amx.h"
#include "kernel/cpu/bf16_blocks.h"
#include "kernel/cpu/dot.h"
#include "kernel/cpu/vector.h"
#include "kernel/workspace.h"

enum {
  KB = 32,          /* k of a block */
  MR = 4, NV = 2,   /* rows, and vectors of columns, of a tile: three sums each */
  NR = NV * VL,
  KC = 512, MC = 64, NC = 16 * NR
};

static _Thread_local float *packed_a, *packed_b; /* this thread's workspace: panels of MR rows and of NR columns, k-major */
_Static_assert(MC * KC * sizeof(float) <= WORKSPACE_A && NC * KC * sizeof(float) <= WORKSPACE_B, "a block of each operand fits");

float bf16_round(float x) {
  uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  bits = x != x ? 0x7fc00000u : (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rounds `count` rows or columns, k0 to k0 + kc, into panels `width` wide; zeros beyond count and beyond kc, up to whole blocks.
 * Element (i, k) lies at x[i is + k ks]. */
static void pack(const float *x, int64_t is, int64_t ks, int64_t count, int64_t kc, int64_t width, float *to) {
  int64_t whole = (kc + KB - 1) / KB * KB;
  for (int64_t i = 0; i < count; i += width, to += whole * width)
    for (int64_t k = 0; k < whole; k++)
      for (int64_t r = 0; r < width; r++) to[k * width + r] = k < kc && i + r < count ? bf16_round(x[(i + r) * is + k * ks]) : 0;
}

/* c (MR x NR in whole) += the products over `blocks` blocks of k, from panels so many rows and columns wide */
static inline void tile(int64_t blocks, const float *a, int64_t rows, const float *b, int64_t columns, vec c[MR][NV]) {
  for (int64_t s = 0; s < blocks; s++, a += KB * rows, b += KB * columns) {
    vec t[2][MR][NV] = {0};
    for (int64_t k = 0; k < KB / 2; k++)
#pragma GCC unroll 2
      for (int h = 0; h < 2; h++)
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
          for (int j = 0; j < NV; j++)
            t[h][i][j] += a[(k + h * KB / 2) * rows + i] * *(const vec *)(b + (k + h * KB / 2) * columns + j * VL);
    for (int i = 0; i < MR; i++)
      for (int j = 0; j < NV; j++) c[i][j] += t[0][i][j] + t[1][i][j];
  }
}

/* One tile of C at (i, j): its sums start from C where it is added to, else from zero. */
static void make_tile(const Product *p, int64_t i, int64_t j, int64_t rows, int64_t columns, int64_t blocks, bool first, const float *a, const float *b) {
  const Scaling s = scaling_of(p, first);
  float *c = (float *)p->c + i * p->ldc + j;
  union {
    vec v[MR][NV];
    float x[MR][NR];
  } sum = {0};
  for (int64_t r = 0; r < rows && s.from_c; r++)
    for (int64_t x = 0; x < columns; x++) sum.x[r][x] = c[r * p->ldc + x];
  tile(blocks, a, MR, b, NR, sum.v);
  if (!s.plain) {
    scaled_rows(s, rows, columns, sum.x[0], NR, c, p->ldc);
    return;
  }
  for (int64_t r = 0; r < rows; r++)
    for (int64_t x = 0; x < columns; x++) c[r * p->ldc + x] = sum.x[r][x];
}

static void tiles(const Product *p, int64_t i, int64_t m, int64_t j, int64_t n, int64_t k, int64_t kc) {
  int64_t blocks = (kc + KB - 1) / KB;
  for (int64_t r = 0; r < m; r += MR)
    for (int64_t c = 0; c < n; c += NR)
      make_tile(p, i + r, j + c, least(m - r, MR), least(n - c, NR), blocks, k == 0, packed_a + r * blocks * KB, packed_b + c * blocks * KB);
}

static void whole_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  int64_t ai = p->transpose_a ? 1 : p->lda, ak = p->transpose_a ? p->lda : 1, bj = p->transpose_b ? p->ldb : 1, bk = p->transpose_b ? 1 : p->ldb;
  packed_a = workspace_a(), packed_b = workspace_b();
  for (int64_t j = j0; j < j1; j += NC)
    for (int64_t k = 0; k < p->k; k += KC) {
      int64_t n = least(j1 - j, NC), kc = least(p->k - k, KC);
      pack((const float *)p->b + j * bj + k * bk, bj, bk, n, kc, NR, packed_b);
      for (int64_t i = i0; i < i1; i += MC) {
        int64_t m = least(i1 - i, MC);
        pack((const float *)p->a + i * ai + k * ak, ai, ak, m, kc, MR, packed_a);
        tiles(p, i, m, j, n, k, kc);
      }
    }
}

void bf16_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  const unsigned before = flush_denormals();
  whole_part(p, i0, i1, j0, j1);
  restore_denormals(before);
  K(product_finish)(p, i0, i1 - i0, j0, j1 - j0);
}

/* ---- blocks: panels BF16_BLOCK wide ---- */

static void lay_block(bool left, bool along, const float *x, int64_t ld, int64_t count, int64_t k, float *to) {
  (void)left;
  pack(x, along ? ld : 1, along ? 1 : ld, count, k, BF16_BLOCK, to);
}

static void multiply_blocks(int64_t rows, int64_t columns, int64_t steps, const float *left, const float *right, bool add, float *c, int64_t ldc) {
  const unsigned before = flush_denormals();
  for (int64_t r = 0; r < rows; r += MR)
    for (int64_t j = 0; j < columns; j += NR) {
      const int64_t down = least(rows - r, MR), across = least(columns - j, NR);
      union {
        vec v[MR][NV];
        float x[MR][NR];
      } sum = {0};
      for (int64_t i = 0; i < down && add; i++) __builtin_memcpy(sum.x[i], c + (r + i) * ldc + j, (size_t)across * sizeof *c);
      tile(steps, left + r, BF16_BLOCK, right + j, BF16_BLOCK, sum.v);
      for (int64_t i = 0; i < down; i++) __builtin_memcpy(c + (r + i) * ldc + j, sum.x[i], (size_t)across * sizeof *c);
    }
  restore_denormals(before);
}
_Static_assert(BF16_BLOCK % NR == 0, "a panel is whole tiles");

const Bf16Blocks bf16_portable_blocks = {BF16_BLOCK * KB, bf16_no_call, bf16_no_call, lay_block, multiply_blocks};

const Bf16Blocks *bf16_blocks(void) { return amx_available() ? &bf16_tile_blocks : dot_available() ? &bf16_dot_blocks : &bf16_portable_blocks; }

#endif

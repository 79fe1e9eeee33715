/* dot.c - products with bf16 operands through the dot instruction of AVX-512 BF16 (Cooper Lake,
 * Zen 4 and later), for processors without tiles: the sums that bf16.c defines, bit for bit.
 *
 * VDPBF16PS adds two products to each float of its accumulator, first that of the upper halves
 * of the words, then that of the lower, rounding after each and taking denormals for zero
 * (Intel SDM; tests/unit/kernel_bf16.c finds the same on the processor it runs on). With k + 1
 * in the lower half and k in the upper, eight of them are a chain of sixteen multiply-adds.
 *
 * Layouts, in words of two bf16: B in panels of 32 columns, a row of 32 words a pair of k. Of A
 * a word is broadcast at a time: rows of KC / 2 words. */
#include "kernel/cpu/dot.h"

#if REAL_BITS == 32 && defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "kernel/cpu/bf16.h"
#include "kernel/cpu/bf16_blocks.h"
#include "kernel/workspace.h"

enum {
  KB = 32, PAIRS = KB / 2,   /* k of a block, and the pairs of them */
  MR = 4, NV = 2, NR = 32,   /* rows, vectors and columns of a tile of C; two chains and a sum of each: 24 registers */
  KC = 512, MC = 128,        /* 32 KiB of B stay in the first cache while MC rows pass */
  NC = 512, ROOM = WORKSPACE_B / 2 /* elements of B */
};
#define INLINE static inline __attribute__((always_inline))
#define APART static __attribute__((noinline)) /* inside others the compiler runs out of registers */

static _Thread_local uint32_t *packed_a, *packed_b; /* this thread's workspace */
_Static_assert(MC * KC * 2 <= WORKSPACE_A && NC * KC <= ROOM, "a block of each operand fits");

static bool detect(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 16 & 1) || !(b >> 17 & 1) || !(b >> 30 & 1) || !(b >> 31 & 1)) return false; /* AVX512-F, -DQ, -BW, -VL */
  if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a >> 5 & 1)) return false;                                      /* AVX512-BF16 */
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return (low & 0xe6) == 0xe6; /* the system keeps the vector registers */
}

bool dot_available(void) {
  static int known; /* 0: not asked yet */
  int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (!k) __atomic_store_n(&known, k = detect() ? 1 : -1, __ATOMIC_RELAXED);
  return k > 0;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static __mmask16 first(int64_t n) { return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

/* ---- packing ---- */

/* x rounded to bf16, to nearest even, in the upper half of each word; NaN stays NaN. Not the processor's conversion,
 * which takes denormals for zero before it rounds. */
INLINE __m512i rounded(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), _mm512_set1_epi32(0x7fc00000));
}

/* 16 words from the values at k (the upper halves) and at k + 1 */
INLINE __m512i words(__m512 even, __m512 odd) {
  return _mm512_or_si512(_mm512_and_si512(rounded(even), _mm512_set1_epi32((int)0xffff0000)), _mm512_srli_epi32(rounded(odd), 16));
}

/* The first n of 16 values; zeros beyond. */
INLINE __m512 values(const float *x, int64_t n) { return _mm512_maskz_loadu_ps(first(n), n > 0 ? x : NULL); }

/* 16 words from n values along k */
INLINE __m512i words_along(const float *x, int64_t n) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
  const __m512 low = values(x, n), high = values(x + 16, n - 16);
  return words(_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high));
}

/* 16 words from two rows of k side by side, of `rows` that there are */
INLINE __m512i words_across(const float *x, int64_t ld, int64_t columns, int64_t rows) {
  return words(values(x, rows > 0 ? columns : 0), values(x + ld, rows > 1 ? columns : 0));
}

/* The same of 32 values by the processor's conversion, which is right but for NaN and denormals; *other tells of those. */
INLINE __m512i converted(const float *upper, const float *lower, __mmask16 *other) {
  enum { NAN_OR_DENORMAL = 0x01 | 0x20 | 0x80 };
  const __m512 u = _mm512_loadu_ps(upper), l = _mm512_loadu_ps(lower);
  *other = _kor_mask16(*other, _kor_mask16(_mm512_fpclass_ps_mask(u, NAN_OR_DENORMAL), _mm512_fpclass_ps_mask(l, NAN_OR_DENORMAL)));
  return (__m512i)_mm512_cvtne2ps_pbh(u, l);
}

/* 16 x 16 words: four rounds, each interleaving the first half of the rows with the second */
INLINE void transpose(__m512i *t) {
  const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0), high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
#pragma GCC unroll 4
  for (int round = 0; round < 4; round++) {
    __m512i u[16];
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      u[2 * i] = _mm512_permutex2var_epi32(t[i], low, t[i + 8]);
      u[2 * i + 1] = _mm512_permutex2var_epi32(t[i], high, t[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) t[i] = u[i];
  }
}

/* Sixteen rows or columns of an operand over one block of k: rows of words a pair of k each, if by_pairs, else a row of words each,
 * `apart` from one to the next. along: its k lie along memory. Zeros beyond `count` rows or columns and kc. */
INLINE void store_block(bool along, bool by_pairs, __m512i *t, uint32_t *to, int64_t apart) {
  if (along == by_pairs) transpose(t);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * apart, t[i]);
}

APART void any_block(bool along, bool by_pairs, const float *x, int64_t ld, int64_t count, int64_t kc, uint32_t *to, int64_t apart) {
  __m512i t[16];
  for (int i = 0; i < 16; i++)
    t[i] = along ? words_along(x + i * ld, i < count ? kc : 0) : words_across(x + 2 * i * ld, ld, count, kc - 2 * i);
  store_block(along, by_pairs, t, to, apart);
}

INLINE void block(bool along, bool by_pairs, const float *x, int64_t ld, int64_t count, int64_t kc, uint32_t *to, int64_t apart) {
  const __m512i halves = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  __m512i t[16];
  __mmask16 other = count < 16 || kc < KB;
  if (!other)
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++)
      t[i] = along ? _mm512_rol_epi32(converted(x + i * ld + 16, x + i * ld, &other), 16)
                   : _mm512_permutexvar_epi16(halves, converted(x + 2 * i * ld, x + (2 * i + 1) * ld, &other));
  if (other) any_block(along, by_pairs, x, ld, count, kc, to, apart);
  else store_block(along, by_pairs, t, to, apart);
}

/* 32 rows (left) or columns over k, by blocks: rows of PAIRS words, or a panel of B. */
INLINE void lay(bool left, bool along, const float *x, int64_t ld, int64_t count, int64_t k, uint32_t *to) {
  for (int64_t s = 0; s < k; s += KB, to += PAIRS * NR)
    for (int64_t half = 0; half < NR; half += 16)
      block(along, !left, along ? x + half * ld + s : x + s * ld + half, ld, count - half, k - s, to + half * (left ? PAIRS : 1), left ? PAIRS : NR);
}

/* A panel of B: columns [j, j + n), k [k, k + kc). */
static void pack_panel(const Product *p, int64_t j, int64_t n, int64_t k, int64_t kc, uint32_t *to) {
  const float *b = p->b;
  if (p->transpose_b) lay(false, true, b + j * p->ldb + k, p->ldb, n, kc, to);
  else lay(false, false, b + k * p->ldb + j, p->ldb, n, kc, to);
}

/* Rows [i, i + m), k [k, k + kc) of A as rows of KC / 2 words; zeros up to whole blocks. */
static void pack_a(const Product *p, int64_t i, int64_t m, int64_t k, int64_t kc) {
  const float *a = p->a;
  for (int64_t r = 0; r < m; r += 16)
    for (int64_t s = 0; s < kc; s += KB) {
      uint32_t *to = packed_a + r * (KC / 2) + s / 2;
      if (p->transpose_a) block(false, false, a + (k + s) * p->lda + i + r, p->lda, m - r, kc - s, to, KC / 2);
      else block(true, false, a + (i + r) * p->lda + k + s, p->lda, m - r, kc - s, to, KC / 2);
    }
}

/* ---- the kernel: MR x NR of C over `blocks` blocks; words of A `row` apart from row to row, `step` from block to block ---- */

INLINE __m512 dot(__m512 sum, uint32_t a, __m512i b) { return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b); }

INLINE void tile(int64_t blocks, const uint32_t *a, int64_t row, int64_t step, const uint32_t *b, __m512 c[MR][NV]) {
  for (int64_t s = 0; s < blocks; s++, a += step, b += PAIRS * NR) {
    __m512 t[2][MR][NV];
    memset(t, 0, sizeof t);
    for (int p = 0; p < PAIRS / 2; p++)
#pragma GCC unroll 2
      for (int h = 0; h < 2; h++)
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
          for (int j = 0; j < NV; j++)
            t[h][i][j] = dot(t[h][i][j], a[i * row + p + h * PAIRS / 2], _mm512_load_si512(b + (p + h * PAIRS / 2) * NR + 16 * j));
#pragma GCC unroll 4
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
      for (int j = 0; j < NV; j++) c[i][j] = _mm512_add_ps(c[i][j], _mm512_add_ps(t[0][i][j], t[1][i][j]));
  }
}

/* A whole tile of C, which the sum starts from or replaces. */
INLINE void full_tile(float *c, int64_t ldc, int64_t blocks, bool from_c, const uint32_t *a, int64_t row, int64_t step, const uint32_t *b) {
  __m512 sum[MR][NV];
#pragma GCC unroll 4
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) sum[r][v] = from_c ? _mm512_loadu_ps(c + r * ldc + 16 * v) : _mm512_setzero_ps();
  tile(blocks, a, row, step, b, sum);
#pragma GCC unroll 4
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++) _mm512_storeu_ps(c + r * ldc + 16 * v, sum[r][v]);
}

APART void whole_tile(const Product *p, float *c, int64_t blocks, bool from_c, const uint32_t *a, const uint32_t *b) {
  full_tile(c, p->ldc, blocks, from_c, a, KC / 2, PAIRS, b);
}

/* rows x columns of a tile at the edge of C, or with factors. */
APART void part_tile(const Product *p, float *c, int64_t rows, int64_t columns, int64_t blocks, Scaling s, const uint32_t *a,
                     const uint32_t *b) {
  __m512 sum[MR][NV];
  for (int64_t r = 0; r < MR; r++)
    for (int v = 0; v < NV; v++)
      sum[r][v] = s.from_c ? _mm512_maskz_loadu_ps(r < rows ? first(columns - 16 * v) : 0, c + r * p->ldc + 16 * v) : _mm512_setzero_ps();
  tile(blocks, a, KC / 2, PAIRS, b, sum);
  if (!s.plain) {
    scaled_rows(s, rows, columns, (float *)sum, NR, c, p->ldc);
    return;
  }
  for (int64_t r = 0; r < rows; r++)
    for (int v = 0; v < NV; v++) _mm512_mask_storeu_ps(c + r * p->ldc + 16 * v, first(columns - 16 * v), sum[r][v]);
}

/* The part of A that is packed next, brought into the second-level cache a few lines a tile while the sums run: packing would
 * wait for memory else. */
typedef struct Ahead {
  const float *row;
  int64_t ld, rows, lines, line; /* rows still to come, of so many lines of 16 numbers; the line within the row */
} Ahead;

static Ahead ahead_of(const Product *p, int64_t i, int64_t m, int64_t k, int64_t kc) {
  if (m <= 0) return (Ahead){0};
  if (p->transpose_a) return (Ahead){(const float *)p->a + k * p->lda + i, p->lda, kc, (m + 15) / 16, 0};
  return (Ahead){(const float *)p->a + i * p->lda + k, p->lda, m, (kc + 15) / 16, 0};
}

/* So many lines, but within a row. */
INLINE void fetch(Ahead *a, int64_t count) {
  if (a->rows <= 0) return;
  const float *from = a->row + 16 * a->line, *end = from + 16 * least(count, a->lines - a->line);
  for (; from < end; from += 16) _mm_prefetch(from, _MM_HINT_T1);
  if ((a->line += count) >= a->lines) a->line = 0, a->row += a->ld, a->rows--;
}

/* ---- the order of the work ---- */

/* A block of it: rows [i, i + m) and columns [j, j + n) of C over k [k, k + kc). */
typedef struct Block {
  int64_t i, m, j, n, k, kc;
  uint32_t *b; /* the packed panels of B */
  bool fresh;  /* each is packed before it is first needed */
  Ahead next;
} Block;

/* The tiles of a panel of B, c columns into the block. */
static void panel_tiles(const Product *p, Block *q, int64_t c, int64_t share) {
  const int64_t blocks = (q->kc + KB - 1) / KB, columns = least(q->n - c, NR);
  const Scaling s = scaling_of(p, q->k == 0);
  const uint32_t *a = packed_a, *b = q->b + c * blocks * PAIRS;
  float *to = (float *)p->c + q->i * p->ldc + q->j + c;
  for (int64_t r = 0; r < q->m; r += MR, to += MR * p->ldc, a += MR * (KC / 2)) {
    fetch(&q->next, share);
    if (q->m - r >= MR && columns == NR && s.plain) whole_tile(p, to, blocks, s.from_c, a, b);
    else part_tile(p, to, least(q->m - r, MR), columns, blocks, s, a, b);
  }
}

static void block_tiles(const Product *p, Block *q) {
  const int64_t blocks = (q->kc + KB - 1) / KB, tiles = (q->n + NR - 1) / NR * ((q->m + MR - 1) / MR);
  const int64_t share = q->next.rows * q->next.lines / tiles + 1;
  const unsigned before = flush_denormals(); /* in the additions, too, as the dot instruction does */
  for (int64_t c = 0; c < q->n; c += NR) {
    if (q->fresh) pack_panel(p, q->j + c, least(q->n - c, NR), q->k, q->kc, q->b + c * blocks * PAIRS);
    panel_tiles(p, q, c, share);
  }
  restore_denormals(before);
  if (q->k + q->kc == p->k) K(product_finish)(p, q->i, q->m, q->j, q->n);
}

/* Rows [i0, i1) and columns [j, j + n) over k [k0, k1), for which there is room to keep B packed. */
static void deep_part(const Product *p, int64_t i0, int64_t i1, int64_t j, int64_t n, int64_t k0, int64_t k1) {
  const int64_t wide = (n + NR - 1) / NR * NR;
  for (int64_t i = i0; i < i1; i += MC)
    for (int64_t k = k0; k < k1; k += KC) {
      const bool more = k + KC < k1;
      const int64_t m = least(i1 - i, MC), kc = least(k1 - k, KC), i_next = more ? i : i + MC, k_next = more ? k + KC : k0;
      Block q = {.i = i, .m = m, .j = j, .n = n, .k = k, .kc = kc, .b = packed_b + (k - k0) / 2 * wide, .fresh = i == i0,
                 .next = ahead_of(p, i_next, least(i1 - i_next, MC), k_next, least(k1 - k_next, KC))};
      pack_a(p, i, m, k, kc);
      block_tiles(p, &q);
    }
}

/* Order: columns, k as far as packed panels of B have room, rows, k. So a block of C stays in the second-level cache over k,
 * B is packed once, and A once for so many columns. */
void dot_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  const int64_t chunk = product_chunk(p, NC);
  packed_a = workspace_a(), packed_b = workspace_b();
  for (int64_t j = j0; j < j1; j += chunk) {
    const int64_t n = least(j1 - j, chunk), deep = ROOM / ((n + NR - 1) / NR * NR) / KC * KC;
    for (int64_t k = 0; k < p->k; k += deep) deep_part(p, i0, i1, j, n, k, least(p->k, k + deep));
  }
}

/* ---- blocks ---- */

static void lay_block(bool left, bool along, const float *x, int64_t ld, int64_t count, int64_t k, float *room) {
  uint32_t *to = (uint32_t *)room;
  if (left && along) lay(true, true, x, ld, count, k, to);
  else if (left) lay(true, false, x, ld, count, k, to);
  else if (along) lay(false, true, x, ld, count, k, to);
  else lay(false, false, x, ld, count, k, to);
}

/* `rows` rows, whole tiles of them */
APART void block_strip(int64_t rows, float *c, int64_t ldc, int64_t blocks, bool from_c, const uint32_t *a, const uint32_t *b) {
  for (int64_t r = 0; r < rows; r += MR) full_tile(c + r * ldc, ldc, blocks, from_c, a + r * PAIRS, PAIRS, PAIRS * NR, b);
}

static void multiply_blocks(int64_t rows, int64_t columns, int64_t steps, const float *left, const float *right, bool add, float *c, int64_t ldc) {
  const uint32_t *a = (const uint32_t *)left, *b = (const uint32_t *)right;
  float aside[BF16_BLOCK * NR] __attribute__((aligned(64)));
  const unsigned before = flush_denormals();
  if (rows % MR == 0 && columns == NR) {
    block_strip(rows, c, ldc, steps, add, a, b);
  } else {
    memset(aside, 0, sizeof aside);
    for (int64_t i = 0; i < rows && add; i++) memcpy(aside + i * NR, c + i * ldc, (size_t)columns * sizeof *c);
    block_strip((rows + MR - 1) / MR * MR, aside, NR, steps, true, a, b);
    for (int64_t i = 0; i < rows; i++) memcpy(c + i * ldc, aside + i * NR, (size_t)columns * sizeof *c);
  }
  restore_denormals(before);
}

const Bf16Blocks bf16_dot_blocks = {PAIRS * NR, bf16_no_call, bf16_no_call, lay_block, multiply_blocks};

#elif REAL_BITS == 32
#include "kernel/cpu/bf16_blocks.h"

const Bf16Blocks bf16_dot_blocks;
bool dot_available(void) { return false; }
void dot_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { (void)p, (void)i0, (void)i1, (void)j0, (void)j1; }

#endif

/* dot.c - products with bf16 operands through the dot instruction of AVX-512 BF16 (Cooper Lake,
 * Zen 4 and later), for processors without tiles: the sums that bf16.c defines, bit for bit.
 *
 * VDPBF16PS adds two products to each float of its accumulator, first that of the upper halves
 * of the words, then that of the lower, rounding after each and taking denormals for zero
 * (Intel SDM; tests/unit/kernel_bf16.c finds the same on the processor it runs on). With k + 1
 * in the lower half and k in the upper, eight of them are a chain of sixteen multiply-adds.
 *
 * Layouts, in words of two bf16: B in panels of 32 columns, a row of 32 words a pair of k. Of A
 * a word is broadcast at a time, so it keeps the order in which it lies: rows of k, or pairs of
 * k for rows side by side. */
#include "kernel/cpu/dot.h"

#if REAL_BITS == 32 && defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512bf16")
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "kernel/cpu/bf16.h"
#include "kernel/workspace.h"

enum {
  KB = 32, PAIRS = KB / 2,   /* k of a block, and the pairs of them */
  MR = 4, NV = 2, NR = 32,   /* rows, vectors and columns of a tile of C; two chains and a sum of each: 24 registers */
  KC = 512, MC = 64, NC = 512 /* 32 KiB of B stay in the first cache while MC rows pass */
};
#define INLINE static inline __attribute__((always_inline))

static _Thread_local uint32_t *packed_a, *packed_b; /* this thread's workspace */
_Static_assert(MC * KC / 2 * sizeof(uint32_t) <= WORKSPACE_A && NC * KC / 2 * sizeof(uint32_t) <= WORKSPACE_B, "a block of each operand fits");

static bool detect(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b >> 16 & 1) || !(b >> 30 & 1) || !(b >> 31 & 1)) return false; /* AVX512-F, -BW, -VL */
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

/* 16 words from n values along k; zeros beyond n */
INLINE __m512i words_along(const float *x, int64_t n) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), odd = _mm512_or_si512(even, _mm512_set1_epi32(1));
  const __m512 low = _mm512_maskz_loadu_ps(first(n), x), high = n > 16 ? _mm512_maskz_loadu_ps(first(n - 16), x + 16) : _mm512_setzero_ps();
  return words(_mm512_permutex2var_ps(low, even, high), _mm512_permutex2var_ps(low, odd, high));
}

/* 16 words from two rows of k side by side; the second may be missing */
INLINE __m512i words_across(const float *x, int64_t ld, int64_t columns, int64_t rows) {
  const __mmask16 m = first(columns);
  return words(_mm512_maskz_loadu_ps(rows > 0 ? m : 0, x), _mm512_maskz_loadu_ps(rows > 1 ? m : 0, x + (rows > 1 ? ld : 0)));
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

/* One block of 16 columns of B whose k lie along memory: a row of words a pair of k, NR words apart. */
static void block_along(const float *x, int64_t ld, int64_t columns, int64_t kc, uint32_t *to) {
  __m512i t[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) t[i] = i < columns ? words_along(x + i * ld, kc) : _mm512_setzero_si512();
  transpose(t);
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * NR, t[i]);
}
static void block_across(const float *x, int64_t ld, int64_t columns, int64_t kc, uint32_t *to) {
  for (int64_t i = 0; i < PAIRS; i++) _mm512_store_si512(to + i * NR, words_across(x + 2 * i * ld, ld, columns, kc - 2 * i));
}

/* Columns [j, j + n), k [k, k + kc) of B, panel by panel. */
static void pack_b(const Product *p, int64_t j, int64_t n, int64_t k, int64_t kc) {
  uint32_t *to = packed_b;
  for (int64_t c = j; c < j + n; c += NR)
    for (int64_t s = 0; s < kc; s += KB, to += PAIRS * NR)
      for (int64_t half = 0; half < NR; half += 16) {
        const int64_t columns = j + n - c - half, at = c + half;
        if (columns <= 0) for (int64_t i = 0; i < PAIRS; i++) _mm512_store_si512(to + i * NR + half, _mm512_setzero_si512());
        else if (p->transpose_b) block_along((const float *)p->b + at * p->ldb + k + s, p->ldb, columns, kc - s, to + half);
        else block_across((const float *)p->b + (k + s) * p->ldb + at, p->ldb, columns, kc - s, to + half);
      }
}

/* Rows [i, i + m), k [k, k + kc) of A: rows of KC / 2 words, or (transposed) panels of 16 rows, 16 words a pair of k; zeros up to
 * whole blocks and tiles. Either way what a tile reads of A lies together, and so in the first cache beside a panel of B. */
static void pack_a(const Product *p, int64_t i, int64_t m, int64_t k, int64_t kc) {
  const float *a = p->a;
  const int64_t whole = (m + MR - 1) / MR * MR;
  if (!p->transpose_a) {
    for (int64_t r = 0; r < whole; r++)
      for (int64_t s = 0; s < kc; s += KB)
        _mm512_store_si512(packed_a + r * (KC / 2) + s / 2, r < m ? words_along(a + (i + r) * p->lda + k + s, kc - s) : _mm512_setzero_si512());
    return;
  }
  const int64_t pairs = (kc + KB - 1) / KB * PAIRS;
  for (int64_t s = 0; s < pairs; s++)
    for (int64_t r = 0; r < m; r += 16)
      _mm512_store_si512(packed_a + r * pairs + s * 16,
                         2 * s < kc ? words_across(a + (k + 2 * s) * p->lda + i + r, p->lda, m - r, kc - 2 * s) : _mm512_setzero_si512());
}

/* ---- the kernel: MR x NR of C over `blocks` blocks; words of A rs apart by row, cs by pair ---- */

INLINE __m512 dot(__m512 sum, uint32_t a, __m512i b) { return _mm512_dpbf16_ps(sum, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b); }

INLINE void tile(int64_t blocks, const uint32_t *a, int64_t rs, int64_t cs, const uint32_t *b, __m512 c[MR][NV]) {
  for (int64_t s = 0; s < blocks; s++, a += PAIRS * cs, b += PAIRS * NR) {
    __m512 t[2][MR][NV];
    memset(t, 0, sizeof t);
    for (int p = 0; p < PAIRS / 2; p++)
#pragma GCC unroll 2
      for (int h = 0; h < 2; h++)
#pragma GCC unroll 4
        for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
          for (int j = 0; j < NV; j++)
            t[h][i][j] = dot(t[h][i][j], a[i * rs + (p + h * PAIRS / 2) * cs], _mm512_load_si512(b + (p + h * PAIRS / 2) * NR + 16 * j));
#pragma GCC unroll 4
    for (int i = 0; i < MR; i++)
#pragma GCC unroll 2
      for (int j = 0; j < NV; j++) c[i][j] = _mm512_add_ps(c[i][j], _mm512_add_ps(t[0][i][j], t[1][i][j]));
  }
}

static void tile_of(const Product *p, int64_t blocks, const uint32_t *a, const uint32_t *b, __m512 c[MR][NV]) {
  if (p->transpose_a) tile(blocks, a, 1, 16, b, c);
  else tile(blocks, a, KC / 2, 1, b, c);
}

/* One tile of C at (i, j), rows x columns of it. */
static void make_tile(const Product *p, int64_t i, int64_t rows, int64_t j, int64_t columns, int64_t blocks, bool begins, const uint32_t *a,
                      const uint32_t *b) {
  const Scaling s = scaling_of(p, begins);
  float *c = (float *)p->c + i * p->ldc + j;
  __m512 sum[MR][NV];
#pragma GCC unroll 4
  for (int r = 0; r < MR; r++)
#pragma GCC unroll 2
    for (int v = 0; v < NV; v++)
      sum[r][v] = s.from_c ? _mm512_maskz_loadu_ps(r < rows ? first(columns - 16 * v) : 0, c + r * p->ldc + 16 * v) : _mm512_setzero_ps();
  tile_of(p, blocks, a, b, sum);
  if (s.plain) {
    for (int64_t r = 0; r < rows; r++)
      for (int v = 0; v < NV; v++) _mm512_mask_storeu_ps(c + r * p->ldc + 16 * v, first(columns - 16 * v), sum[r][v]);
  } else {
    scaled_rows(s, rows, columns, (float *)sum, NR, c, p->ldc);
  }
}

/* The part of A that is packed next, brought into the second-level cache a few lines a tile while the sums run: packing would
 * wait for memory else. */
typedef struct Ahead {
  const float *row;
  int64_t ld, rows, lines, line; /* rows and lines still to come, of 16 numbers; the line within the row */
} Ahead;

static Ahead ahead_of(const Product *p, int64_t i, int64_t m, int64_t k, int64_t kc) {
  if (p->transpose_a) return (Ahead){(const float *)p->a + k * p->lda + i, p->lda, m ? kc : 0, (m + 15) / 16, 0};
  return (Ahead){(const float *)p->a + i * p->lda + k, p->lda, m, (kc + 15) / 16, 0};
}

static void fetch(Ahead *a, int64_t count) {
  for (; count > 0 && a->rows > 0; count--) {
    _mm_prefetch(a->row + 16 * a->line, _MM_HINT_T1);
    if (++a->line == a->lines) a->line = 0, a->row += a->ld, a->rows--;
  }
}

/* The tile of C that comes next, to be read or written. */
static void fetch_c(const Product *p, int64_t i, int64_t rows, int64_t j) {
  const float *c = (const float *)p->c + i * p->ldc + j;
  for (int64_t r = 0; r < rows; r++) _mm_prefetch(c + r * p->ldc, _MM_HINT_T0), _mm_prefetch(c + r * p->ldc + 16, _MM_HINT_T0);
}

/* next: rows of A that are packed after this, from i + m on. far: operands come from memory. */
static void tiles(const Product *p, int64_t i, int64_t m, int64_t next, bool far, int64_t j, int64_t n, int64_t k, int64_t kc) {
  const int64_t blocks = (kc + KB - 1) / KB;
  Ahead ahead = ahead_of(p, i + m, far ? next : 0, k, kc);
  const int64_t share = ahead.rows * ahead.lines / ((n + NR - 1) / NR * ((m + MR - 1) / MR)) + 1;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040); /* denormal results and operands are zero in the additions, as they are in the dot instruction */
  for (int64_t c = 0; c < n; c += NR)
    for (int64_t r = 0; r < m; r += MR) {
      const int64_t rows = least(m - r, MR), columns = least(n - c, NR);
      fetch(&ahead, share);
      if (far && r + MR < m) fetch_c(p, i + r + MR, least(m - r - MR, MR), j + c);
      make_tile(p, i + r, rows, j + c, columns, blocks, k == 0, packed_a + (p->transpose_a ? r / 16 * 16 * blocks * PAIRS + r % 16 : r * (KC / 2)), packed_b + c * blocks * PAIRS);
    }
  _mm_setcsr(before);
  if (k + kc == p->k) K(product_finish)(p, i, m, j, n);
}

void dot_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  const int64_t chunk = product_chunk(p, NC);
  const bool far = (i1 - i0) * p->k >= 1 << 19; /* more of A than stays in the second-level cache */
  packed_a = workspace_a(), packed_b = workspace_b();
  for (int64_t j = j0; j < j1; j += chunk)
    for (int64_t k = 0; k < p->k; k += KC) {
      const int64_t n = least(j1 - j, chunk), kc = least(p->k - k, KC);
      pack_b(p, j, n, k, kc);
      for (int64_t i = i0; i < i1; i += MC) {
        const int64_t m = least(i1 - i, MC);
        pack_a(p, i, m, k, kc);
        tiles(p, i, m, least(i1 - i - m, MC), far, j, n, k, kc);
      }
    }
}

#elif REAL_BITS == 32

bool dot_available(void) { return false; }
void dot_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { (void)p, (void)i0, (void)i1, (void)j0, (void)j1; }

#endif

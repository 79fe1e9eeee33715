/* amx.c - matrix products on the bf16 tiles of newer Xeons (AMX), in bf16 or at f32 accuracy.
 *
 * In bf16 an operand is rounded (to nearest even) as it is packed; products are exact and
 * summed in f32 in the order that bf16.c defines and computes everywhere else.
 *
 * At f32 accuracy, a float is the sum of three bf16 numbers (3 x 8 bits of mantissa), so with
 *   a = a1 + a2 + a3,  b = b1 + b2 + b3,  |a2| <= 2^-9 |a|,  |a3| <= 2^-18 |a|, ...
 *   a b = a1 b1 + (a1 b2 + a2 b1) + (a1 b3 + a2 b2 + a3 b1) + less than 2^-25 |a b|,
 * six tile products, each exact before it is summed in f32 (Henry, Tang and Heinecke,
 * "Leveraging the bfloat16 Artificial Intelligence Datatype", ARITH 2019). The unit does
 * sixteen times the multiply-adds of the vector units, so six of its products take less
 * than half the time of one. Each block of 32 k is summed before it joins the total,
 * which makes the rounding error smaller than that of a chain of multiply-adds.
 *
 * Where it differs from plain f32: an infinity or NaN in an operand makes the results
 * it touches NaN, and values below 2^-110 lose low digits.
 *
 * Layouts, in tiles of 16 rows of 16 words, a word being a pair of bf16: of A, 16 rows of
 * 32 k; of B, 16 pairs of k for 16 columns. Which k make a pair is ours to choose; k with
 * k + 16 needs no shuffles. The one layout is the transpose of the other in words, so two
 * ways to read and one transposition serve all four cases. */
#include "kernel/cpu/amx.h"

#include "kernel/cpu/bf16.h"
#include "kernel/cpu/bf16_blocks.h"
#include "kernel/workspace.h"

#if REAL_BITS == 32 && defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
#pragma GCC target("avx512f,avx512bw,avx512vl,amx-tile,amx-bf16")
#include <cpuid.h>
#include <immintrin.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
  KB = 32,                        /* k of a tile */
  BLOCK = 32,                     /* rows and columns of C a step makes: 2 x 2 tiles */
  TILE = 16 * 32,                 /* bf16 numbers of a tile: 1 KiB */
  MOST_PARTS = 3,
  KC = 256 * MOST_PARTS, NC = 1024 /* k of one part, columns of B packed at a time: 1.5 MiB */
};

#define STEP(parts) (2 * (parts) * TILE) /* of one operand's share of a step: [part][half] */
#define INLINE static inline __attribute__((always_inline)) /* with the number of parts a constant */

typedef uint16_t bf16;

static _Thread_local bf16 *packed_a, *packed_b; /* this thread's workspace */
_Static_assert(KC / KB * STEP(1) * sizeof(bf16) <= WORKSPACE_A && NC / BLOCK * (KC / KB) * STEP(1) * sizeof(bf16) <= WORKSPACE_B, "they fit");

/* ---- is it there ---- */

enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_TILES = 18 };

static bool detect(void) {
  unsigned a, b, c, d, low, high;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> 22 & 1) || !(d >> 24 & 1)) return false; /* AMX-BF16, AMX-TILE */
  if (!(b >> 16 & 1) || !(b >> 30 & 1)) return false;                                             /* AVX512-F, -BW */
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  if ((low & 0x600e6) != 0x600e6) return false; /* the system keeps vector and tile registers */
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_TILES) == 0;
}

bool amx_available(void) {
  static int known; /* 0: not asked yet */
  int k = __atomic_load_n(&known, __ATOMIC_RELAXED);
  if (!k) __atomic_store_n(&known, k = detect() ? 1 : -1, __ATOMIC_RELAXED);
  return k > 0;
}

/* ---- splitting and packing ---- */

static inline __mmask16 first(int64_t n) { return (__mmask16)(n >= 16 ? 0xffff : n <= 0 ? 0 : (1 << n) - 1); }

static const uint32_t UPPER = 0xffff0000;

/* x rounded to bf16, to nearest even, as a float; NaN stays NaN. */
INLINE __m512i round_bf16(__m512 x) {
  const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  return _mm512_mask_mov_epi32(_mm512_and_si512(up, _mm512_set1_epi32((int)UPPER)), _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q),
                               _mm512_set1_epi32(0x7fc00000));
}

/* The first 8 bits of mantissa of x, rounded (a tie away from zero), as a float; x loses them. */
INLINE __m512i take_part(__m512 *x) {
  __m512i h = _mm512_and_si512(_mm512_add_epi32(_mm512_castps_si512(*x), _mm512_set1_epi32(0x8000)), _mm512_set1_epi32((int)UPPER));
  *x = _mm512_sub_ps(*x, _mm512_castsi512_ps(h));
  return h;
}

/* 16 + 16 floats as words with x's number in the lower half and y's in the upper; tiles of the parts are
 * 2 * TILE apart. The last of three parts needs no rounding: 8 bits are left at most. */
INLINE void split(int parts, __m512 x, __m512 y, bf16 *to) {
#pragma GCC unroll 3
  for (int i = 0; i < parts; i++) {
    __m512i hx = parts == 1 ? round_bf16(x) : i < parts - 1 ? take_part(&x) : _mm512_castps_si512(x);
    __m512i hy = parts == 1 ? round_bf16(y) : i < parts - 1 ? take_part(&y) : _mm512_castps_si512(y);
    _mm512_store_si512(to + 2 * i * TILE, _mm512_or_si512(_mm512_srli_epi32(hx, 16), _mm512_and_si512(hy, _mm512_set1_epi32((int)UPPER))));
  }
}

/* One tile whose rows lie along k: row r from x + r ld, k values of it. Beyond rows and k: zeros. */
INLINE void tile_along(int parts, const float *x, int64_t ld, int64_t rows, int64_t k, bf16 *to) {
  __mmask16 low = first(k), high = first(k - 16);
  for (int64_t r = 0; r < 16; r++)
    split(parts, _mm512_maskz_loadu_ps(r < rows ? low : 0, x + r * ld), _mm512_maskz_loadu_ps(r < rows ? high : 0, x + r * ld + 16), to + r * KB);
}

/* One tile whose rows are pairs of k: k and k + 16 from x + k ld, `columns` values of each. */
INLINE void tile_across(int parts, const float *x, int64_t ld, int64_t columns, int64_t k, bf16 *to) {
  __mmask16 m = first(columns);
  for (int64_t r = 0; r < 16; r++)
    split(parts, _mm512_maskz_loadu_ps(r < k ? m : 0, x + r * ld), _mm512_maskz_loadu_ps(r + 16 < k ? m : 0, x + (r + 16) * ld), to + r * KB);
}

/* A tile's 16 x 16 words of 32 bits, transposed: four rounds, each interleaving the first half of the rows with the second. */
static void transpose(bf16 *tile) {
  const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0), high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  __m512i t[16], u[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) t[i] = _mm512_load_si512(tile + i * KB);
#pragma GCC unroll 4
  for (int round = 0; round < 4; round++) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
      u[2 * i] = _mm512_permutex2var_epi32(t[i], low, t[i + 8]);
      u[2 * i + 1] = _mm512_permutex2var_epi32(t[i], high, t[i + 8]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) t[i] = u[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; i++) _mm512_store_si512(tile + i * KB, t[i]);
}

/* Where BLOCK rows of A, or columns of B, lie: along k with `ld` between them, or each step of k `ld` on. */
typedef struct Source {
  const float *x;
  int64_t ld;
  bool along;
} Source;

static Source source_a(const Product *p, int64_t i, int64_t k) {
  return (Source){(const float *)p->a + (p->transpose_a ? k * p->lda + i : i * p->lda + k), p->lda, !p->transpose_a};
}
static Source source_b(const Product *p, int64_t j, int64_t k) {
  return (Source){(const float *)p->b + (p->transpose_b ? j * p->ldb + k : k * p->ldb + j), p->ldb, p->transpose_b};
}

/* Packs a block over kc steps of k; by_pairs: laid out as B. */
INLINE void pack(int parts, Source s, int64_t count, int64_t kc, bool by_pairs, bf16 *to) {
  for (int64_t k = 0; k < kc; k += KB, to += STEP(parts))
    for (int64_t half = 0; half < 2; half++) {
      const float *from = s.x + (s.along ? 16 * half * s.ld + k : k * s.ld + 16 * half);
      if (s.along) tile_along(parts, from, s.ld, count - 16 * half, kc - k, to + half * TILE);
      else tile_across(parts, from, s.ld, count - 16 * half, kc - k, to + half * TILE);
      for (int i = 0; i < parts && s.along == by_pairs; i++) transpose(to + (2 * i + half) * TILE);
    }
}

/* Asks for rows [from, to) of a block of A that will be packed soon; a row is one along k or one step of k. */
static void fetch(Source s, int64_t kc, int64_t from, int64_t to) {
  const int64_t width = s.along ? kc : BLOCK;
  for (int64_t r = from; r < to; r++)
    for (int64_t c = 0; c < width; c += 16) _mm_prefetch((const char *)(s.x + r * s.ld + c), _MM_HINT_T1);
}

/* ---- the kernel: 32 x 32 of C ---- */

typedef struct TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t bytes[16];
  uint8_t rows[16];
} TileConfig;
static const TileConfig config __attribute__((aligned(64))) = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

/* gcc's tile intrinsics do not say that they touch memory: BARRIER keeps packing before and reading after them. */
#define BARRIER __asm__ volatile("" ::: "memory")
#define LOAD_A(part) do { _tile_loadd(4, a + 2 * (part) * TILE, 64); _tile_loadd(5, a + (2 * (part) + 1) * TILE, 64); } while (0)
#define LOAD_B(part) do { _tile_loadd(6, b + 2 * (part) * TILE, 64); _tile_loadd(7, b + (2 * (part) + 1) * TILE, 64); } while (0)
#define MULTIPLY do { _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7); } while (0)

/* c (32 x 32, ldc apart) = sum, or += sum. The six products of three parts in the order that reloads least. */
INLINE void block(int parts, int64_t steps, const bf16 *a, const bf16 *b, bool add, float *c, int64_t ldc) {
  const int64_t stride = ldc * (int64_t)sizeof *c;
  float *below = c + 16 * ldc;
  BARRIER;
  if (add) {
    _tile_loadd(0, c, stride);
    _tile_loadd(1, c + 16, stride);
    _tile_loadd(2, below, stride);
    _tile_loadd(3, below + 16, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t s = 0; s < steps && parts == 1; s++, a += STEP(1), b += STEP(1)) {
    LOAD_A(0);
    LOAD_B(0);
    MULTIPLY;
  }
  for (int64_t s = 0; s < steps && parts == 3; s++, a += STEP(3), b += STEP(3)) {
    LOAD_A(0);
    LOAD_B(2);
    MULTIPLY;
    LOAD_B(1);
    MULTIPLY;
    LOAD_A(1);
    MULTIPLY;
    LOAD_B(0);
    MULTIPLY;
    LOAD_A(2);
    MULTIPLY;
    LOAD_A(0);
    MULTIPLY;
  }
  _tile_stored(0, c, stride);
  _tile_stored(1, c + 16, stride);
  _tile_stored(2, below, stride);
  _tile_stored(3, below + 16, stride);
  BARRIER;
}

/* A block at the edge of C, or with factors, goes through one beside it; the sums are the same. */
INLINE void block_aside(int parts, int64_t steps, const bf16 *a, const bf16 *b, Scaling s, int64_t rows, int64_t columns, float *c, int64_t ldc) {
  float whole[BLOCK * BLOCK] __attribute__((aligned(64)));
  if (s.from_c) {
    memset(whole, 0, sizeof whole);
    for (int64_t i = 0; i < rows; i++) memcpy(whole + i * BLOCK, c + i * ldc, (size_t)columns * sizeof *c);
  }
  block(parts, steps, a, b, s.from_c, whole, BLOCK);
  if (!s.plain) {
    scaled_rows(s, rows, columns, whole, BLOCK, c, ldc);
    return;
  }
  for (int64_t i = 0; i < rows; i++) memcpy(c + i * ldc, whole + i * BLOCK, (size_t)columns * sizeof *c);
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* Rows [i, i + rows), columns [j, j + columns) of C from a packed block of each operand over kc steps of k. */
INLINE void make_block(int parts, const Product *p, int64_t i, int64_t rows, int64_t j, int64_t columns, int64_t k, int64_t kc, const bf16 *b) {
  const Scaling s = scaling_of(p, k == 0);
  const int64_t steps = (kc + KB - 1) / KB;
  float *c = (float *)p->c + i * p->ldc + j;
  if (rows == BLOCK && columns == BLOCK && s.plain) block(parts, steps, packed_a, b, s.from_c, c, p->ldc);
  else block_aside(parts, steps, packed_a, b, s, rows, columns, c, p->ldc);
}

/* C rows [i0, i1), columns [j, j + n), k [k, k + kc), B packed. */
INLINE void strip(int parts, const Product *p, int64_t i0, int64_t i1, int64_t j, int64_t n, int64_t k, int64_t kc) {
  const int64_t panel = (kc + KB - 1) / KB * STEP(parts), ahead = p->transpose_a ? kc : BLOCK, share = ahead * BLOCK / n + 1;
  for (int64_t i = i0; i < i1; i += BLOCK) {
    int64_t rows = least(i1 - i, BLOCK);
    pack(parts, source_a(p, i, k), rows, kc, false, packed_a);
    const int64_t end = p->lower ? least(n, i + rows - j) : n; /* blocks above the diagonal are left out */
    for (int64_t c = 0; c < end; c += BLOCK) {
      int64_t row = c / BLOCK * share;
      if (i + 2 * BLOCK <= i1) fetch(source_a(p, i + BLOCK, k), kc, least(row, ahead), least(row + share, ahead));
      make_block(parts, p, i, rows, j + c, least(n - c, BLOCK), k, kc, packed_b + c / BLOCK * panel);
    }
    if (k + kc == p->k) K(product_finish)(p, i, rows, j, n);
  }
}

static void configure(void) {
  __asm__ volatile("" ::"r"(&config) : "memory"); /* gcc 12 takes only the first 8 bytes of the configuration for used */
  _tile_loadconfig(&config);
}

INLINE void whole_part(int parts, const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  configure();
  const int64_t chunk = product_chunk(p, NC);
  packed_a = workspace_a(), packed_b = workspace_b();
  for (int64_t j = j0; j < j1; j += chunk)
    for (int64_t k = 0; k < p->k; k += KC / parts) {
      int64_t n = least(j1 - j, chunk), kc = least(p->k - k, KC / parts), panel = (kc + KB - 1) / KB * STEP(parts);
      for (int64_t c = 0; c < n; c += BLOCK) pack(parts, source_b(p, j + c, k), least(n - c, BLOCK), kc, true, packed_b + c / BLOCK * panel);
      strip(parts, p, i0, i1, j, n, k, kc);
    }
  _tile_release();
}

void amx_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { whole_part(3, p, i0, i1, j0, j1); }
void amx_part_bf16(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { whole_part(1, p, i0, i1, j0, j1); }

/* ---- blocks ---- */

static void release(void) { _tile_release(); }

static void lay_block(bool left, bool along, const float *x, int64_t ld, int64_t count, int64_t k, float *to) {
  pack(1, (Source){x, ld, along}, count, k, !left, (bf16 *)to);
}

static void multiply_blocks(int64_t rows, int64_t columns, int64_t steps, const float *left, const float *right, bool add, float *c, int64_t ldc) {
  const bf16 *a = (const bf16 *)left, *b = (const bf16 *)right;
  if (rows == BLOCK && columns == BLOCK) block(1, steps, a, b, add, c, ldc);
  else block_aside(1, steps, a, b, (Scaling){1, add, add, true}, rows, columns, c, ldc);
}

const Bf16Blocks bf16_tile_blocks = {STEP(1) / 2, configure, release, lay_block, multiply_blocks};

#elif REAL_BITS == 32
#include "kernel/cpu/bf16_blocks.h"

const Bf16Blocks bf16_tile_blocks;
bool amx_available(void) { return false; }
void amx_part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { (void)p, (void)i0, (void)i1, (void)j0, (void)j1; }
void amx_part_bf16(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) { (void)p, (void)i0, (void)i1, (void)j0, (void)j1; }

#endif

#if REAL_BITS == 32
static bool for_f32 = true;

bool amx_for_f32(void) { return for_f32 && amx_available(); }
void kernel_use_tiles(bool on) { for_f32 = on; }
#endif

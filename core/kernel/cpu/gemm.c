/* gemm.c - C = alpha op(A) op(B) + beta C, after Goto and van de Geijn, "Anatomy of
 * High-Performance Matrix Multiplication" (2008).
 *
 * Why not BLAS alone: its kernels depend on the processor it believes to see (Debian's
 * 0.3.21 falls back to SSE3 on new ones), its results on the number of threads, and its
 * threads meet at barriers that cost more than the small products of a small model.
 * Here the compiler's vectors of the machine are used, each thread computes its own part
 * of C from its own packed operands without meeting the others, and every element of C
 * is summed over k in one fixed order: the same bits for any number of threads.
 *
 *   The kernel keeps an MR x NR tile of C in registers over up to KC steps of k; a step
 *   takes NV vectors of B and MR single values of A.
 *   B is packed into panels of NR columns, k-major, or read in place where it lies that
 *   way already and is too small to be worth packing.
 *   A is read in place where its rows lie along k, else packed into panels of MR rows. */
#include <omp.h>
#include <string.h>

#include "kernel/cpu/amx.h"
#include "kernel/cpu/bf16.h"
#include "kernel/cpu/dot.h"
#include "kernel/cpu/gemm.h"
#include "kernel/cpu/gemm_tile.h"
#include "kernel/workspace.h"

enum {
  KC = REAL(512, 256),     /* longer sums save more passes over C than the panel of B loses by lying in the second-level cache (measured) */
  MC = 24 * MR,            /* rows of A that stay in the second-level cache */
  NC = 8 * NR ,            /* columns of B packed at a time */
  FEW_ROWS = 128,          /* fewer rows than this do not repay packing an operand that could be read as it lies */
  WORTH_THREADS = 1 << 18  /* multiply-adds: below, one thread is faster */
};

static _Thread_local real *packed_a, *packed_b; /* this thread's workspace */
_Static_assert(MC * KC * sizeof(real) <= WORKSPACE_A && NC * KC * sizeof(real) <= WORKSPACE_B, "a block of each operand fits the workspace");

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* ---- the kernel ---- */

/* The value as rounded: the compiler may not fuse what made it with what uses it. "v" and "w" are the vector registers,
 * whichever of them the processor has (gcc and clang, with and without -march). */
#if defined(__aarch64__)
#define KEEP_ROUNDED(x) __asm__("" : "+w"(x))
#elif defined(__x86_64__)
#define KEEP_ROUNDED(x) __asm__("" : "+v"(x))
#else
#define KEEP_ROUNDED(x) __asm__("" : "+m"(x))
#endif

/* C tile = alpha sum + beta C. All but the step are constants after inlining, so that the tile stays in registers. */
static inline __attribute__((always_inline)) void tile(const Step *s, int rows, int nv, int64_t rs, int64_t cs) {
  const real *a = s->a, *b = s->b;
  vec c[MR][NV];
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
    for (int j = 0; j < nv; j++) c[i][j] = (vec){0};
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++) /* C comes from far while the sums run */
#pragma GCC unroll 3
    for (int j = 0; j < nv; j++) __builtin_prefetch(s->c + i * s->ldc + j * VL, 1);
  for (int64_t k = 0; k < s->kc; k++, a += cs, b += s->bs) {
    vec x[NV];
#pragma GCC unroll 3
    for (int j = 0; j < nv; j++) x[j] = *(const vec_any *)(b + j * VL);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
      for (int j = 0; j < nv; j++) c[i][j] += a[i * rs] * x[j];
  }
  const real alpha = s->alpha, beta = s->beta; /* read once: C may lie anywhere */
  real *to = s->c;
  const int64_t ldc = s->ldc;
  if (beta == 0) {
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
      for (int j = 0; j < nv; j++) *(vec_any *)(to + i * ldc + j * VL) = alpha * c[i][j];
    return;
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; i++)
#pragma GCC unroll 3
    for (int j = 0; j < nv; j++) {
      vec_any *at = (vec_any *)(to + i * ldc + j * VL);
      vec scaled = alpha * c[i][j];
      KEEP_ROUNDED(scaled); /* or each kernel picks which product to fuse, and bits hang on the threads' cut */
      *at = scaled + beta * *at;
    }
}

typedef void (*Kernel)(const Step *s);

#define KERNEL(rows, nv)                                                                    \
  static void along_##rows##_##nv(const Step *s) { tile(s, rows, nv, s->rs, 1); } /* rows of A along k */ \
  static void across_##rows##_##nv(const Step *s) { tile(s, rows, nv, 1, s->cs); } /* columns of A dense */
#define KERNELS(nv) KERNEL(1, nv) KERNEL(2, nv) KERNEL(3, nv) KERNEL(4, nv) IF_8(KERNEL(5, nv) KERNEL(6, nv) KERNEL(7, nv) KERNEL(8, nv))
#define NAMES(kind, nv) {kind##_1_##nv, kind##_2_##nv, kind##_3_##nv, kind##_4_##nv, IF_8(kind##_5_##nv, kind##_6_##nv, kind##_7_##nv, kind##_8_##nv)}
KERNELS(1)
KERNELS(2)
KERNELS(3)
static const Kernel along[NV][MR] = {NAMES(along, 1), NAMES(along, 2), NAMES(along, 3)};
static const Kernel across[NV][MR] = {NAMES(across, 1), NAMES(across, 2), NAMES(across, 3)};

/* A tile whose last vector hangs over the edge of C goes through a full one beside it: by the same instructions, so
 * that the bits do not depend on where the threads cut C. */
static void edge_tile(Kernel kernel, const Step *s, int64_t rows, int64_t columns) {
  real whole[MR * NR] __attribute__((aligned(64))) = {0};
  Step t = *s;
  t.c = whole, t.ldc = NR;
  for (int64_t i = 0; i < rows && s->beta != 0; i++) memcpy(whole + i * NR, s->c + i * s->ldc, (size_t)columns * sizeof(real));
  kernel(&t);
  for (int64_t i = 0; i < rows; i++) memcpy(s->c + i * s->ldc, whole + i * NR, (size_t)columns * sizeof(real));
}

/* Columns of the next panel when n are left: NR, but 2 + 2 vectors rather than 3 + 1. */
static int64_t panel_columns(int64_t n) { return n > 4 * VL || n <= 3 * VL ? least(n, NR) : 2 * VL; }
static int64_t vectors(int64_t columns) { return (columns + VL - 1) / VL; }

void K(strip)(const Step *s, bool columns_dense, int64_t rows, int64_t n) {
  const Kernel(*kernels)[MR] = columns_dense ? across : along;
  Step t = *s;
  for (int64_t c = 0, columns; c < n; c += columns, t.b += columns, t.c += columns) {
    columns = panel_columns(n - c);
    const Kernel kernel = kernels[vectors(columns) - 1][rows - 1];
    if (columns % VL) edge_tile(kernel, &t, rows, columns);
    else kernel(&t);
  }
}

/* ---- packing ---- */

void K(pack_transposed)(int64_t kc, int64_t columns, int64_t width, const real *from, int64_t ld, real *to) {
  int64_t c = 0, whole = kc / VL * VL;
  for (; c + VL <= columns; c += VL) {
    for (int64_t k = 0; k < whole; k += VL) {
      vec r[VL];
#pragma GCC unroll 16
      for (int i = 0; i < (int)VL; i++) r[i] = *(const vec_any *)(from + (c + i) * ld + k);
      transpose(r);
#pragma GCC unroll 16
      for (int i = 0; i < (int)VL; i++) *(vec_any *)(to + (k + i) * width + c) = r[i];
    }
    for (int64_t k = whole; k < kc; k++)
      for (int64_t i = 0; i < VL; i++) to[k * width + c + i] = from[(c + i) * ld + k];
  }
  for (; c < width; c++)
    for (int64_t k = 0; k < kc; k++) to[k * width + c] = c < columns ? from[c * ld + k] : 0;
}

/* to[k * width + c] = from[k * ld + c], zeros up to width. */
static void pack_straight(int64_t kc, int64_t columns, int64_t width, const real *from, int64_t ld, real *to) {
  for (int64_t k = 0; k < kc; k++, from += ld, to += width) {
    if (columns == NR) memcpy(to, from, NR * sizeof(real)); /* of constant length: a few vector moves */
    else if (columns == MR) memcpy(to, from, MR * sizeof(real));
    else for (int64_t c = 0; c < width; c++) to[c] = c < columns ? from[c] : 0;
  }
}

/* Both operands are packed KB steps of k at a time, all panels before the next steps: rows are then
 * read on as they lie in memory, not a piece at a time. */
enum { KB = 16 };

static void pack_b(const Product *p, int64_t k0, int64_t kc, int64_t j0, int64_t n) {
  const real *b = (const real *)p->b + (p->transpose_b ? j0 * p->ldb + k0 : k0 * p->ldb + j0);
  int64_t step = p->transpose_b ? kc : KB;
  for (int64_t k = 0; k < kc; k += step) {
    real *to = packed_b;
    for (int64_t j = 0, columns; j < n; j += columns) {
      columns = panel_columns(n - j);
      int64_t width = vectors(columns) * VL;
      if (p->transpose_b) K(pack_transposed)(kc, columns, width, b + j * p->ldb, p->ldb, to);
      else pack_straight(least(kc - k, KB), columns, width, b + k * p->ldb + j, p->ldb, to + k * width);
      to += width * kc;
    }
  }
}

/* Rows [i0, i0 + m) of a transposed A into panels of MR rows, k-major. */
static void pack_a(const Product *p, int64_t i0, int64_t m, int64_t k0, int64_t kc) {
  const real *a = (const real *)p->a + k0 * p->lda + i0;
  for (int64_t k = 0; k < kc; k += KB)
    for (int64_t i = 0; i < m; i += MR)
      pack_straight(least(kc - k, KB), least(m - i, MR), MR, a + k * p->lda + i, p->lda, packed_a + i * kc + k * MR);
}

/* ---- one thread's part of C: rows [i0, i1), columns [j0, j1) ---- */

typedef struct Plan {
  const Product *p;
  bool b_in_place, pack_a;
} Plan;

/* Rows [i, i + m), columns [j, j + n), k [k, k + kc): all tiles, panel by panel of B. */
static void tiles(const Plan *q, int64_t i, int64_t m, int64_t j, int64_t n, int64_t k, int64_t kc) {
  const Product *p = q->p;
  Step s = {.kc = kc, .alpha = (real)p->alpha, .beta = k == 0 ? (real)p->beta : 1, .ldc = p->ldc};
  s.rs = p->lda, s.cs = q->pack_a ? MR : p->lda;
  for (int64_t r = 0; r < m; r += MR) {
    int64_t rows = least(m - r, MR);
    const real *packed = packed_b;
    const int64_t end = p->lower ? least(n, i + r + rows - j) : n; /* tiles above the diagonal are left out */
    s.a = q->pack_a ? packed_a + r * kc : (const real *)p->a + (p->transpose_a ? k * p->lda + i + r : (i + r) * p->lda + k);
    for (int64_t c = 0, columns; c < end; c += columns) {
      columns = panel_columns(n - c);
      int64_t nv = vectors(columns);
      s.bs = q->b_in_place ? p->ldb : nv * VL;
      s.b = q->b_in_place ? (const real *)p->b + k * p->ldb + j + c : packed;
      s.c = (real *)p->c + (i + r) * p->ldc + j + c;
      Kernel kernel = p->transpose_a ? across[nv - 1][rows - 1] : along[nv - 1][rows - 1];
      if (columns % VL) edge_tile(kernel, &s, rows, columns);
      else kernel(&s);
      packed += nv * VL * kc;
    }
    if (k + kc == p->k) K(product_finish)(p, i + r, rows, j, n);
  }
}

static void part(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
  bool small = i1 - i0 <= FEW_ROWS && p->k <= FEW_ROWS;
  const Plan q = {p, !p->transpose_b && i1 - i0 <= FEW_ROWS && (j1 - j0) % VL == 0, p->transpose_a && !small};
  const int64_t chunk = product_chunk(p, NC);
  packed_a = workspace_a(), packed_b = workspace_b();
  for (int64_t j = j0; j < j1; j += chunk)
    for (int64_t k = 0; k < p->k; k += KC) {
      int64_t n = least(j1 - j, chunk), kc = least(p->k - k, KC);
      if (!q.b_in_place) pack_b(p, k, kc, j, n);
      for (int64_t i = i0; i < i1; i += MC) {
        int64_t m = least(i1 - i, MC);
        if (q.pack_a) pack_a(p, i, m, k, kc);
        tiles(&q, i, m, j, n, k, kc);
      }
    }
}

/* ---- sharing among threads ---- */

/* How the parts of a product are made: the function, and the tile that their borders keep whole. */
typedef struct Maker {
  void (*part)(const Product *p, int64_t i0, int64_t i1, int64_t j0, int64_t j1);
  int64_t rows, columns, packing; /* packing an element costs about as much as so many multiply-adds */
} Maker;

/* Depends on the shape and the precision alone, so that the bits do too. */
static Maker maker_of(const Product *p) {
#if REAL_BITS == 32
  if (p->bf16 && amx_available()) return (Maker){amx_part_bf16, 32, 32, 128};
  if (p->bf16) return (Maker){dot_available() ? dot_part : bf16_part, 4, 32, 64};
  enum { WORTH_TILES = 1 << 20, THIN = 32 };
  if (p->m >= THIN && p->n >= THIN && p->k >= THIN && p->m * p->n * p->k >= WORTH_TILES && amx_for_f32()) return (Maker){amx_part, 32, 32, 64};
#else
  (void)p;
#endif
  return (Maker){part, MR, VL, 24};
}

/* Cuts C into a grid of threads, rows by columns, so that the largest part, plus what it packs, is smallest. */
static void choose_grid(const Product *p, const Maker *how, int threads, int64_t *down, int64_t *across_) {
  double best = INFINITY;
  for (int64_t d = 1; d <= threads; d++) {
    if (threads % d) continue;
    double m = (double)((p->m + d - 1) / d), n = (double)((p->n + threads / d - 1) / (threads / d));
    double cost = m * n + (double)how->packing * (m + n);
    if (cost < best) best = cost, *down = d, *across_ = threads / d;
  }
}

/* Border number i of n over [0, total), on multiples of unit. */
static int64_t border(int64_t total, int64_t unit, int64_t i, int64_t n) { return least((total + unit - 1) / unit * i / n * unit, total); }

/* The lower triangle, a strip of columns by a band of rows at a time; the long strips come first. */
static void lower_product(const Product *p, const Maker *how, int threads) {
  const int64_t unit = 96, share = 4 * threads * unit; /* of whole vectors and tiles */
  const int64_t strip = least(NC, (p->n + share - 1) / share * unit), band = 4 * MC, bands = (p->m + band - 1) / band;
#pragma omp parallel for schedule(dynamic) num_threads(threads) if (threads > 1)
  for (int64_t t = 0; t < (p->n + strip - 1) / strip * bands; t++) {
    int64_t j = t / bands * strip, i = t % bands * band, i1 = least(i + band, p->m);
    if (i < j) i = j;
    if (i < i1) how->part(p, i, i1, j, least(j + strip, p->n));
  }
}

void K(product)(const Product *p) {
  int threads = p->m * p->n * p->k < WORTH_THREADS ? 1 : workspace_threads();
  Maker how = maker_of(p);
  if (p->lower) {
    lower_product(p, &how, threads);
    return;
  }
  if (threads == 1) {
    how.part(p, 0, p->m, 0, p->n);
    return;
  }
  if (p->turn) how.columns = p->turn->width * p->turn->group; /* no group of heads is cut */
  int64_t down = 1, columns = threads;
  choose_grid(p, &how, threads, &down, &columns);
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t t = 0; t < down * columns; t++) {
    int64_t r = t / columns, c = t % columns;
    int64_t i0 = border(p->m, how.rows, r, down), i1 = border(p->m, how.rows, r + 1, down);
    int64_t j0 = border(p->n, how.columns, c, columns), j1 = border(p->n, how.columns, c + 1, columns);
    if (i0 < i1 && j0 < j1) how.part(p, i0, i1, j0, j1);
  }
}

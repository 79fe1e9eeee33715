/* attention_tile.h - tiles of queries and keys, for attention.c and attention_backward.c: what of a tile is seen, its
 * operands laid out for the kernels of gemm.c, the three products, and P from S.
 *
 * A tile is worked on in groups of rows. Of a group only the vectors of columns are made in which any of its rows sees
 * a key; inside them what a row does not see becomes zero in P, outside nothing is ever read: a product over keys ends
 * at the last key that its rows see, one over queries begins at the first that sees its keys. Half of a tile on the
 * diagonal is left out so. The sums stay what they are over the whole tile, less their zeros: the same bits. */
#ifndef quench_kernel_attention_tile_h
#define quench_kernel_attention_tile_h

#include <string.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"
#include "kernel/cpu/gemm_tile.h"
#include "kernel/cpu/vmath.h"
#include "kernel/workspace.h"

enum {
  BLOCK = 64,                     /* queries and keys of a tile: 16 KiB of f32, so two to four tiles stay in the second-level cache */
  GROUP = (int)MR > (int)VL ? (int)MR : (int)VL, /* rows and columns that are seen or left out together */
  SPAN = 512,                     /* queries at most that meet a block of keys while it is laid out */
  WIDE = 256                      /* heads from here on go through K(product), whose tiles of AMX begin to pay */
};

typedef real Tile[BLOCK * BLOCK] __attribute__((aligned(64)));

/* One head of one sequence: rows `stride` apart. */
typedef struct Head {
  real *x;
  int64_t stride;
} Head;

static inline Head head_of(Heads h, int64_t b, int64_t head) {
  return (Head){(real *)h.data + b * h.stride[0] + head * h.stride[2], h.stride[1]};
}
static inline real *row_of(Head h, int64_t t) { return h.x + t * h.stride; }

/* A tile's place: queries [i, i + m), keys [j, j + n). */
typedef struct Place {
  int64_t i, m, j, n;
} Place;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

static inline Place place_of(const Attention *a, int64_t i, int64_t j) {
  return (Place){i, least(a->time - i, BLOCK), j, least(a->time - j, BLOCK)};
}

/* ---- what is seen ---- */

/* Columns or rows [from, to) of a tile. */
typedef struct Range {
  int from, to;
} Range;

/* The columns that row r sees. */
static inline Range seen(const Attention *a, Place p, int64_t r) {
  int64_t t = p.i + r;
  return (Range){(int)(a->window ? least(most(t - a->window + 1 - p.j, 0), p.n) : 0), (int)most(least(t + 1 - p.j, p.n), 0)};
}
/* The same from column c on; may reach beyond either end of a vector. */
static inline Range seen_from(const Attention *a, Place p, int64_t r, int c) {
  const Range v = seen(a, p, r);
  return (Range){v.from - c, v.to - c};
}
/* Those that any of `rows` rows from r on sees. */
static inline Range seen_by(const Attention *a, Place p, int64_t r, int64_t rows) {
  return (Range){seen(a, p, r).from, seen(a, p, r + rows - 1).to};
}
/* The rows that see any of `columns` columns from c on. */
static inline Range seers(const Attention *a, Place p, int64_t c, int64_t columns) {
  const int64_t d = p.j - p.i + c;
  return (Range){(int)most(d, 0), (int)(a->window ? most(least(d + columns - 1 + a->window, p.m), 0) : p.m)};
}

/* A group of rows of a tile, and its columns that are made. */
typedef struct Group {
  int64_t row, rows;
  Range made;
  bool edge; /* some row does not see some of them */
} Group;

static inline Group group_of(const Attention *a, Place p, int64_t r) {
  const int64_t rows = least(GROUP, p.m - r);
  const Range any = seen_by(a, p, r, rows), first = seen(a, p, r), last = seen(a, p, r + rows - 1);
  if (any.from >= any.to) return (Group){r, rows, {0, 0}, false};
  const Range made = {any.from / GROUP * GROUP, (any.to + GROUP - 1) / GROUP * GROUP};
  return (Group){r, rows, made, made.from < last.from || made.to > first.to};
}

/* The first key block that any query from row i on sees. */
static inline int64_t first_block(const Attention *a, int64_t i) {
  return a->window ? most(i - a->window + 1, 0) / BLOCK * BLOCK : 0;
}

/* ---- operands ---- */

/* One head of an operand, and where made, copies of it: rows from `first` on, whole vectors each, and the transpose
 * (width x BLOCK) of a block of rows. In bf16 they are laid out otherwise, and there is a third (attention_bf16.h). A wide head has none. */
typedef struct Operand {
  Head x;
  int64_t first;
  real *rows, *turned, *left;
} Operand;

static inline Operand operand_of(Heads h, int64_t b, int64_t head) { return (Operand){.x = head_of(h, b, head)}; }
static inline bool wide(const Attention *a) { return a->width >= WIDE; }
static inline bool in_bf16(const Attention *a) { return REAL_BITS == 32 && a->bf16 && !wide(a); } /* K(product) sees to wide ones */
static inline int64_t padded(const Attention *a) {
  const int64_t unit = in_bf16(a) ? 32 : (int64_t)VL;
  return (a->width + unit - 1) / unit * unit;
}

/* Queries that meet a block of keys at once: as many as leave room for four copies of them (in bf16 eight) beside six of the keys. */
static inline int64_t span_of(const Attention *a) {
  const int64_t room = WORKSPACE_B / (int64_t)sizeof(real) / padded(a);
  return wide(a) ? SPAN : least((room - 6 * BLOCK) / (in_bf16(a) ? 8 : 4) / BLOCK * BLOCK, SPAN);
}
_Static_assert((6 + REAL(8, 4)) * BLOCK * WIDE * sizeof(real) <= WORKSPACE_B, "one block of queries fits beside one of keys");

/* n numbers, from there on zeros up to whole vectors */
static inline __attribute__((always_inline)) void copy_row(int64_t n, const real *from, real *to) {
  int64_t c = 0;
  for (; c + VL <= n; c += VL) *(vec *)(to + c) = *(const vec_any *)(from + c);
  for (int64_t x = c; c < n && x < c + VL; x++) to[x] = x < n ? from[x] : 0;
}
#if REAL_BITS == 32
#include "kernel/cpu/attention_bf16.h"
#else /* never asked for */
static inline void lay_rows(const Attention *a, Head x, int64_t t, int64_t n, real *to) { (void)a, (void)x, (void)t, (void)n, (void)to; }
static inline void lay_along(const Attention *a, bool left, Head x, int64_t t, int64_t n, real *to) { (void)a, (void)left, (void)x, (void)t, (void)n, (void)to; }
#endif

static inline int64_t whole_blocks(int64_t n) { return (n + BLOCK - 1) / BLOCK * BLOCK; }

static inline void copy_rows(const Attention *a, Operand *o, int64_t t, int64_t n, real **room) {
  const int64_t to = padded(a);
  if (wide(a)) return;
  o->first = t, o->rows = *room, *room += whole_blocks(n) * to;
  if (in_bf16(a)) lay_rows(a, o->x, t, n, o->rows);
  else for (int64_t r = 0; r < n; r++) copy_row(a->width, row_of(o->x, t + r), o->rows + r * to);
}
static inline void turn_rows(const Attention *a, Operand *o, int64_t t, int64_t n, real **room) {
  if (wide(a)) return;
  o->turned = *room, *room += padded(a) * BLOCK;
  if (in_bf16(a)) lay_along(a, false, o->x, t, n, o->turned);
  else K(pack_transposed)(a->width, n, BLOCK, row_of(o->x, t), o->x.stride, o->turned);
}
/* Queries whose scores are taken; in f32 their rows do. */
static inline void left_rows(const Attention *a, Operand *o, int64_t t, int64_t n, real **room) {
  if (!in_bf16(a)) return;
  o->first = t, o->left = *room, *room += whole_blocks(n) * padded(a);
  lay_along(a, true, o->x, t, n, o->left);
}

/* ---- products of tiles, on the calling thread alone ---- */

#if REAL_BITS == 32
#define IN_BF16(a, call) do { if (in_bf16(a)) { call; return; } } while (0)
static inline void begin_products(const Attention *a) { if (in_bf16(a)) bf16_blocks()->begin(); }
static inline void end_products(const Attention *a) { if (in_bf16(a)) bf16_blocks()->end(); }
#else
#define IN_BF16(a, call) (void)0
static inline void begin_products(const Attention *a) { (void)a; }
static inline void end_products(const Attention *a) { (void)a; }
#endif

/* tile = alpha x y^T + beta tile, for rows of queries x and of keys y (turned) */
static inline void scores(const Attention *a, Place p, double alpha, const Operand *x, const Operand *y, double beta, real *tile) {
  IN_BF16(a, bf16_scores(a, p, alpha, x, y, beta, tile));
  if (!y->turned) {
    K(product)(&(Product){.bf16 = a->bf16, .transpose_b = true, .m = p.m, .n = p.n, .k = a->width, .alpha = alpha, .beta = beta, .a = row_of(x->x, p.i),
                          .lda = x->x.stride, .b = row_of(y->x, p.j), .ldb = y->x.stride, .c = tile, .ldc = BLOCK});
    return;
  }
  const Head from = x->rows ? (Head){x->rows + (p.i - x->first) * padded(a), padded(a)} : (Head){row_of(x->x, p.i), x->x.stride};
  for (int64_t r = 0; r < p.m; r += GROUP) {
    const Group g = group_of(a, p, r);
    for (int64_t i = r; i < r + g.rows; i += MR)
      K(strip)(&(Step){.kc = a->width, .a = row_of(from, i), .rs = from.stride, .cs = 1, .b = y->turned + g.made.from, .bs = BLOCK, .alpha = (real)alpha,
                   .beta = (real)beta, .c = tile + i * BLOCK + g.made.from, .ldc = BLOCK}, false, least(MR, r + g.rows - i), g.made.to - g.made.from);
  }
}

/* queries' rows of out = tile keys' rows of x + beta out */
static inline void gather(const Attention *a, Place p, const real *tile, const Operand *x, double beta, Head out) {
  IN_BF16(a, bf16_gather(a, p, tile, x, beta, out));
  if (!x->rows) {
    K(product)(&(Product){.bf16 = a->bf16, .m = p.m, .n = a->width, .k = p.n, .alpha = 1, .beta = beta, .a = tile, .lda = BLOCK, .b = row_of(x->x, p.j),
                          .ldb = x->x.stride, .c = row_of(out, p.i), .ldc = out.stride});
    return;
  }
  for (int64_t r = 0; r < p.m; r += MR) {
    const Range keys = seen_by(a, p, r, least(MR, p.m - r));
    if (keys.from >= keys.to && beta != 0) continue; /* else no steps leave zeros */
    K(strip)(&(Step){.kc = keys.to - keys.from, .a = tile + r * BLOCK + keys.from, .rs = BLOCK, .cs = 1, .b = x->rows + (p.j - x->first + keys.from) * padded(a),
                 .bs = padded(a), .alpha = 1, .beta = (real)beta, .c = row_of(out, p.i + r), .ldc = out.stride}, false, least(MR, p.m - r), a->width);
  }
}

/* keys' rows of out += tile^T queries' rows of x */
static inline void scatter(const Attention *a, Place p, const real *tile, const Operand *x, Head out) {
  IN_BF16(a, bf16_scatter(a, p, tile, x, out));
  if (!x->rows) {
    K(product)(&(Product){.bf16 = a->bf16, .transpose_a = true, .m = p.n, .n = a->width, .k = p.m, .alpha = 1, .beta = 1, .a = tile, .lda = BLOCK,
                          .b = row_of(x->x, p.i), .ldb = x->x.stride, .c = row_of(out, p.j), .ldc = out.stride});
    return;
  }
  for (int64_t c = 0; c < p.n; c += MR) {
    const Range rows = seers(a, p, c, least(MR, p.n - c));
    if (rows.from >= rows.to) continue;
    K(strip)(&(Step){.kc = rows.to - rows.from, .a = tile + rows.from * BLOCK + c, .rs = 1, .cs = BLOCK, .b = x->rows + (p.i - x->first + rows.from) * padded(a),
                 .bs = padded(a), .alpha = 1, .beta = 1, .c = row_of(out, p.j + c), .ldc = out.stride}, true, least(MR, p.n - c), a->width);
  }
}

/* ---- rows ---- */

/* Work on rows stays in functions of its own: inside its callers gcc 12 spills the constants of an exponential. */
#define APART __attribute__((noinline)) static

/* Where products read whole tiles or blocks, what was not made must be zero. */
static inline void clear_unmade(const Attention *a, Group g, real *tile) {
  if (!wide(a) && !in_bf16(a)) return;
  for (int64_t r = g.row; r < g.row + g.rows; r++)
    for (int c = 0; c < BLOCK; c++)
      if (c < g.made.from || c >= g.made.to) tile[r * BLOCK + c] = 0;
}

/* A group of scores becomes probabilities. */
APART void exponentials_below(Place p, Group g, const real *lse, real *tile) {
  for (int64_t r = g.row; r < g.row + g.rows; r++) {
    const real below = lse[p.i + r];
    for (int c = g.made.from; c < g.made.to; c += GROUP) {
      real *s = tile + r * BLOCK + c;
#pragma omp simd
      for (int x = 0; x < (int)GROUP; x++) s[x] = real_exp(s[x] - below);
    }
  }
}
/* What the rows of a group do not see of what was made. */
APART void fill_unseen(const Attention *a, Place p, Group g, real filler, real *tile) {
  for (int64_t r = g.row; r < g.row + g.rows; r++)
    for (int c = g.made.from; c < g.made.to; c += GROUP) {
      const Range v = seen_from(a, p, r, c);
      real *s = tile + r * BLOCK + c;
#pragma omp simd
      for (int x = 0; x < (int)GROUP; x++) s[x] = blend(x >= v.from && x < v.to, s[x], filler);
    }
}
static inline void probabilities(const Attention *a, Place p, Group g, const real *lse, real *tile) {
  exponentials_below(p, g, lse, tile);
  if (g.edge) fill_unseen(a, p, g, 0, tile);
  clear_unmade(a, g, tile);
}

/* Sums of the lanes of VL vectors, each from the first lane on. */
static inline __attribute__((always_inline)) vec in_order(vec *v) {
  vec sum = {0};
  transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < (int)VL; i++) sum += v[i];
  return sum;
}

static inline bool worth_threads(const Attention *a) { return a->batch * a->heads * a->time * least(a->time, BLOCK) > PARALLEL_GRAIN; }

#endif

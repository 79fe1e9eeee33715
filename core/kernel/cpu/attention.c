/* attention.c - causal attention by blocks of queries and keys, and the tangent of it, never
 * holding time x time values. The gradient: attention_backward.c.
 *
 *   S = scale Q K^T,  P = softmax(S) over the keys a query sees,  O = P V
 *
 * The forward pass meets the keys block by block and keeps a running maximum and sum
 * a row (Milakov and Gimelshein 2018; Dao et al. 2022). What remains of it is
 * L = log sum exp(S), so every later pass remakes P = exp(S - L) tile by tile.
 *
 * A block of keys is laid out for the products once and then met by a span of queries. A row of
 * the results is one thread's, and meets the blocks in order: the same bits for any number of
 * threads and any spans. Blocks above the diagonal or left of the window are skipped, and most of
 * what is unseen in those on the edge. */
#include "kernel/cpu/attention_tile.h"

/* ---- sums and maxima of rows, for a vector's worth of rows at once ---- */

/* Element i of the result: the values of v[i] joined, its first half with its second, and so on: the order of summation. */
#define FOLD(name, join)                                                            \
  static inline __attribute__((always_inline)) vec name(vec *v) {                   \
    _Pragma("GCC unroll 4") for (int half = VL / 2; half; half /= 2)                \
      _Pragma("GCC unroll 8") for (int i = 0; i < half; i++) {                      \
        const vec low = interleave(v[i], v[i + half], 0), high = interleave(v[i], v[i + half], VL / 2); \
        v[i] = join(low, high);                                                     \
      }                                                                             \
    return v[0];                                                                    \
  }

static inline __attribute__((always_inline)) vec plus(vec a, vec b) { return a + b; }
static inline __attribute__((always_inline)) vec larger(vec a, vec b) {
  vec m;
#pragma GCC unroll 16
  for (int i = 0; i < (int)VL; i++) m[i] = a[i] > b[i] ? a[i] : b[i];
  return m;
}
FOLD(fold_sum, plus)
FOLD(fold_largest, larger)

enum { VECTORS = BLOCK / VL };

/* Largest values of the made columns of `rows` rows at s. */
APART void largest_of(int64_t rows, Range made, const real *s, real *to) {
  vec v[VL];
  for (int i = 0; i < (int)VL; i++, s += BLOCK) {
    if (i >= rows) {
      v[i] = (vec){0};
      continue;
    }
    v[i] = *(const vec *)(s + made.from);
    for (int c = made.from + (int)VL; c < made.to; c += (int)VL) v[i] = larger(v[i], *(const vec *)(s + c));
  }
  *(vec_any *)to = fold_largest(v);
}

/* Sums of the made columns, as of whole rows with zeros elsewhere: folded in halves. */
APART void totals_of(int64_t rows, Range made, const real *s, real *to) {
  vec v[VL];
  for (int i = 0; i < (int)VL; i++, s += BLOCK) {
    vec part[VECTORS];
#pragma GCC unroll 16
    for (int c = 0; c < (int)VECTORS; c++) part[c] = i < rows && c * (int)VL >= made.from && c * (int)VL < made.to ? *(const vec *)(s + c * VL) : (vec){0};
#pragma GCC unroll 4
    for (int half = VECTORS / 2; half; half /= 2)
#pragma GCC unroll 8
      for (int c = 0; c < half; c++) part[c] += part[c + half];
    v[i] = part[0];
  }
  *(vec_any *)to = fold_sum(v);
}

/* ---- forward ---- */

/* Running maximum and sum of the rows of a block of queries; by how much what was summed before shrinks. */
typedef struct Running {
  real maximum[BLOCK], sum[BLOCK], shrink[BLOCK];
} Running;

/* New maxima of VL rows, and what their exponentials are taken below. */
APART void raise(const real *top, real *maximum, real *shrink, real *base) {
#pragma omp simd
  for (int x = 0; x < (int)VL; x++) {
    const real before = maximum[x], m = real_max(top[x], before);
    base[x] = blend(m == -INFINITY, 0, m); /* nothing seen so far: all exponentials are 0 */
    shrink[x] = blend(before == m, 1, real_exp(before - base[x]));
    maximum[x] = m;
  }
}

APART void exponentials(int64_t rows, Range made, const real *base, real *s) {
  for (int64_t r = 0; r < rows; r++, s += BLOCK)
    for (int c = made.from; c < made.to; c += GROUP)
#pragma omp simd
      for (int x = 0; x < (int)GROUP; x++) s[c + x] = real_exp(s[c + x] - base[r]);
}

/* VL rows of scores from r on become exponentials below their new running maximum; zero where unseen. */
static void rows_online(int64_t r, int64_t rows, Range made, real *s, Running *run) {
  real top[VL], base[VL], total[VL];
  largest_of(rows, made, s, top);
  raise(top, run->maximum + r, run->shrink + r, base);
  exponentials(rows, made, base, s);
  totals_of(rows, made, s, total);
#pragma omp simd
  for (int x = 0; x < (int)VL; x++) run->sum[r + x] = run->sum[r + x] * run->shrink[r + x] + total[x];
}

static void scale_row(int64_t n, real factor, real *x) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) x[j] *= factor;
}

/* A block of queries meets a block of keys. */
static void forward_tile(const Attention *a, Place p, const Operand *q, const Operand *k, const Operand *v, Head o, Running *run) {
  Tile s;
  const bool begins = p.j == first_block(a, p.i);
  scores(a, p, a->scale, q, k, 0, s);
  for (int64_t r = 0; r < p.m; r += GROUP) {
    const Group g = group_of(a, p, r);
    if (g.edge) fill_unseen(a, p, g, -INFINITY, s);
    clear_unmade(a, g, s);
    for (int64_t x = r; x < r + g.rows && g.made.to; x += VL) rows_online(x, least(VL, r + g.rows - x), g.made, s + x * BLOCK, run);
    for (int64_t x = r; x < r + g.rows && g.made.to && !begins; x++)
      if (run->shrink[x] != 1) scale_row(a->width, run->shrink[x], row_of(o, p.i + x));
  }
  gather(a, p, s, v, !begins, o);
}

/* O and L of queries [i0, i1). */
static void forward_span(const Attention *a, int64_t i0, int64_t i1, Operand q, Operand k, Operand v, Head o, real *lse) {
  Running run[SPAN / BLOCK];
  real *keys = workspace_b();
  for (int64_t b = 0; b * BLOCK < i1 - i0; b++)
    for (int64_t r = 0; r < BLOCK; r++) run[b].maximum[r] = -INFINITY, run[b].sum[r] = 0;
  begin_products(a);
  left_rows(a, &q, i0, i1 - i0, &keys);
  for (int64_t j = first_block(a, i0); j < i1; j += BLOCK) {
    real *room = keys;
    turn_rows(a, &k, j, least(a->time - j, BLOCK), &room);
    copy_rows(a, &v, j, least(a->time - j, BLOCK), &room);
    for (int64_t i = most(i0, j); i < i1 && first_block(a, i) <= j; i += BLOCK)
      forward_tile(a, place_of(a, i, j), &q, &k, &v, o, run + (i - i0) / BLOCK);
  }
  end_products(a);
  for (int64_t i = i0; i < i1; i++) {
    const Running *of = run + (i - i0) / BLOCK;
    const int64_t r = (i - i0) % BLOCK;
    scale_row(a->width, 1 / of->sum[r], row_of(o, i));
    lse[i] = of->maximum[r] + real_log(of->sum[r]);
  }
}

/* Queries of a piece of work: long spans lay out less, but there must be pieces for all threads. */
static int64_t piece_of(const Attention *a) { return a->batch * a->heads >= 4 * workspace_threads() || workspace_threads() == 1 ? span_of(a) : BLOCK; }

void K(attention)(const Attention *a, Heads q, Heads k, Heads v, Heads o, void *lse) {
  const int64_t group = a->heads / a->kv_heads, piece = piece_of(a), pieces = (a->time + piece - 1) / piece;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t c = 0; c < pieces; c++) {
        const int64_t i = (pieces - 1 - c) * piece; /* the longest first */
        forward_span(a, i, least(a->time, i + piece), operand_of(q, b, h), operand_of(k, b, h / group), operand_of(v, b, h / group), head_of(o, b, h),
                     (real *)lse + (b * a->heads + h) * a->time);
      }
}

/* ---- tangent: with A = P tS,
 *   tL = rowsum(A),  tO = A V + P tV - tL O ---- */

typedef struct Tangent {
  Operand q, k, v, tq, tk, tv;
  Head o, to;
  const real *lse;
  real *tlse;
} Tangent;

/* Sums of `rows` rows of at most VL: of the numbers at s, n a row, zero outside what is made. A block of keys
 * that follows others is summed key by key, the first one in lanes of a vector, what fills no vector in lane 0. */
APART void key_sums(bool by_key, int64_t rows, int64_t n, const real *s, real *to) {
  const int64_t whole = n / VL * VL;
  vec v[VL], sum = {0};
  if (by_key) {
    for (int64_t c = 0; c < n; c += VL) {
      for (int i = 0; i < (int)VL; i++) v[i] = i < rows ? *(const vec *)(s + i * BLOCK + c) : (vec){0};
      transpose(v);
      for (int i = 0; i < (int)VL && c + i < n; i++) sum += v[i];
    }
  } else {
    for (int64_t i = 0; i < (int)VL; i++) {
      v[i] = (vec){0};
      if (i >= rows) continue;
      for (int64_t c = 0; c < whole; c += VL) v[i] += *(const vec *)(s + i * BLOCK + c);
      for (int64_t c = whole; c < n; c++) v[i][0] += s[i * BLOCK + c];
    }
    sum = in_order(v);
  }
  *(vec_any *)to = sum;
}

/* On return p = P, ts = A = P tS, zero where not made. */
static void tangent_rows(const Attention *a, Place at, Group g, const real *lse, real *tlse, real *p, real *ts) {
  probabilities(a, at, g, lse, p);
  for (int64_t r = g.row; r < g.row + g.rows; r++) {
    real *pr = p + r * BLOCK, *sr = ts + r * BLOCK;
    for (int c = 0; c < BLOCK; c += GROUP)
#pragma omp simd
      for (int x = 0; x < (int)GROUP; x++) sr[c + x] = c >= g.made.from && c < g.made.to ? sr[c + x] * pr[c + x] : 0;
  }
  for (int64_t r = g.row; r < g.row + g.rows; r += VL) {
    const int64_t rows = least(VL, g.row + g.rows - r);
    real sum[VL];
    key_sums(at.j > first_block(a, at.i), rows, at.n, ts + r * BLOCK, sum);
    for (int64_t x = 0; x < rows; x++) tlse[at.i + r + x] += sum[x];
  }
}

static void tangent_tile(const Attention *a, Place at, const Tangent *x) {
  Tile p, ts;
  scores(a, at, a->scale, &x->q, &x->k, 0, p);
  scores(a, at, a->scale, &x->tq, &x->k, 0, ts);
  scores(a, at, a->scale, &x->q, &x->tk, 1, ts);
  for (int64_t r = 0; r < at.m; r += GROUP) tangent_rows(a, at, group_of(a, at, r), x->lse, x->tlse, p, ts);
  gather(a, at, ts, &x->v, at.j > first_block(a, at.i), x->to);
  gather(a, at, p, &x->tv, 1, x->to);
}

static void tangent_span(const Attention *a, int64_t i0, int64_t i1, Tangent *x) {
  real *keys = workspace_b();
  for (int64_t i = i0; i < i1; i++) x->tlse[i] = 0;
  begin_products(a);
  left_rows(a, &x->q, i0, i1 - i0, &keys), left_rows(a, &x->tq, i0, i1 - i0, &keys);
  for (int64_t j = first_block(a, i0); j < i1; j += BLOCK) {
    const int64_t n = least(a->time - j, BLOCK);
    real *room = keys;
    turn_rows(a, &x->k, j, n, &room), turn_rows(a, &x->tk, j, n, &room);
    copy_rows(a, &x->v, j, n, &room), copy_rows(a, &x->tv, j, n, &room);
    for (int64_t i = most(i0, j); i < i1 && first_block(a, i) <= j; i += BLOCK) tangent_tile(a, place_of(a, i, j), x);
  }
  end_products(a);
  for (int64_t i = i0; i < i1; i++) {
    real *to = row_of(x->to, i), *o = row_of(x->o, i), t = x->tlse[i];
#pragma omp simd
    for (int64_t c = 0; c < a->width; c++) to[c] -= t * o[c];
  }
}

void K(attention_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads tq, Heads tk, Heads tv, Heads to,
                          void *tlse) {
  const int64_t group = a->heads / a->kv_heads, piece = piece_of(a), pieces = (a->time + piece - 1) / piece;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t c = 0; c < pieces; c++) {
        const int64_t i = (pieces - 1 - c) * piece, g = h / group, at = (b * a->heads + h) * a->time;
        Tangent x = {.q = operand_of(q, b, h), .k = operand_of(k, b, g), .v = operand_of(v, b, g), .tq = operand_of(tq, b, h),
                     .tk = operand_of(tk, b, g), .tv = operand_of(tv, b, g), .o = head_of(o, b, h), .to = head_of(to, b, h),
                     .lse = (const real *)lse + at, .tlse = (real *)tlse + at};
        tangent_span(a, i, least(a->time, i + piece), &x);
      }
}

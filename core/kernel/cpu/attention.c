/* attention.c - causal attention by blocks of queries and keys, with its gradient and
 * the tangents of both, never holding time x time values.
 *
 *   S = scale Q K^T,  P = softmax(S) over the keys a query sees,  O = P V
 *
 * The forward pass meets the keys block by block and keeps a running maximum and sum
 * a row (Milakov and Gimelshein 2018; Dao et al. 2022). What remains of it is
 * L = log sum exp(S), so every later pass remakes P = exp(S - L) tile by tile:
 *   dV = P^T dO,  dP = dO V^T,  dS = scale P (dP - rowsum(dO O)),  dQ = dS K,  dK = dS^T Q.
 * The gradient is thus a function of (Q, K, V, O, L, dO), and its tangent one of their
 * tangents, which the forward tangent supplies for O and L: one pass, no fixed point.
 *
 * One thread does one head (one group of heads that share keys), all its blocks in
 * order: the same bits for any number of threads. Blocks above the diagonal or left of
 * the window are skipped; in those on the edge the masked part of P is zero. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"
#include "kernel/cpu/vmath.h"
#include "kernel/workspace.h"

enum { BLOCK = 64 }; /* queries and keys of a tile: 16 KiB of f32, so two to four tiles stay in the second-level cache */

typedef real Tile[BLOCK * BLOCK];

/* One head of one sequence: rows `stride` apart. blocks, where not NULL: its blocks of BLOCK rows turned, (width, BLOCK) each. */
typedef struct Head {
  real *x;
  int64_t stride;
  const real *blocks;
} Head;

static Head head_of(Heads h, int64_t b, int64_t head) {
  return (Head){(real *)h.data + b * h.stride[0] + head * h.stride[2], h.stride[1], NULL};
}
static real *row_of(Head h, int64_t t) { return h.x + t * h.stride; }

/* A tile's place: queries [i, i + m), keys [j, j + n). */
typedef struct Place {
  int64_t i, m, j, n;
} Place;

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

/* The columns [from, to) of a tile that a query row sees. Loops over a row of a tile take all BLOCK columns, whole
 * vectors, and blend the unseen away. */
typedef struct Seen {
  int from, to;
} Seen;

static Seen seen(const Attention *a, Place p, int64_t r) {
  int64_t t = p.i + r;
  return (Seen){(int)(a->window ? least(most(t - a->window + 1 - p.j, 0), p.n) : 0), (int)most(least(t + 1 - p.j, p.n), 0)};
}

/* The first key block that any query from row i on sees. */
static int64_t first_block(const Attention *a, int64_t i) {
  return a->window ? most(i - a->window + 1, 0) / BLOCK * BLOCK : 0;
}

/* ---- keys and values turned once a head, not again by each product with a block of queries. They lie in the thread's
 * workspace for left operands, which products as small as these leave alone (gemm.c; tiles are not used below a width of 256). ---- */

enum { ROOM = WORKSPACE_A / sizeof(real), WIDEST = 128 };

/* Whether `count` heads fit there, and more than one block of queries meets them. */
static bool worth_turning(const Attention *a, int count) {
  const int64_t blocks = (a->time + BLOCK - 1) / BLOCK;
  return blocks > 1 && a->width <= WIDEST && count * blocks * BLOCK * a->width <= ROOM;
}

/* Turns head number `at` of those. */
static void turn_blocks(const Attention *a, Head *h, int at) {
  real *to = (real *)workspace_a() + at * ((a->time + BLOCK - 1) / BLOCK) * BLOCK * a->width;
  h->blocks = to;
  for (int64_t j = 0; j < a->time; j += BLOCK) K(pack_transposed)(a->width, least(a->time - j, BLOCK), BLOCK, row_of(*h, j), h->stride, to + j * a->width);
}

/* ---- products of tiles, each on the calling thread alone ---- */

/* tile (m x n) = alpha x y^T + beta tile, for rows of queries x and of keys y */
static void scores(const Attention *a, Place p, double alpha, Head x, Head y, double beta, real *tile) {
  const bool turned = y.blocks != NULL;
  K(product)(&(Product){.transpose_b = !turned, .m = p.m, .n = p.n, .k = a->width, .alpha = alpha, .beta = beta, .a = row_of(x, p.i), .lda = x.stride,
                        .b = turned ? y.blocks + p.j * a->width : row_of(y, p.j), .ldb = turned ? BLOCK : y.stride, .c = tile, .ldc = BLOCK});
}
/* queries' rows of out = tile keys' rows of x + beta out */
static void gather(const Attention *a, Place p, const real *tile, Head x, double beta, Head out) {
  K(product)(&(Product){.m = p.m, .n = a->width, .k = p.n, .alpha = 1, .beta = beta, .a = tile, .lda = BLOCK, .b = row_of(x, p.j), .ldb = x.stride,
                        .c = row_of(out, p.i), .ldc = out.stride});
}
/* keys' rows of out += tile^T queries' rows of x */
static void scatter(const Attention *a, Place p, const real *tile, Head x, Head out) {
  K(product)(&(Product){.transpose_a = true, .m = p.n, .n = a->width, .k = p.m, .alpha = 1, .beta = 1, .a = tile, .lda = BLOCK, .b = row_of(x, p.i),
                        .ldb = x.stride, .c = row_of(out, p.j), .ldc = out.stride});
}

static void clear_rows(const Attention *a, Head h) {
  for (int64_t t = 0; t < a->time; t++)
    for (int64_t w = 0; w < a->width; w++) row_of(h, t)[w] = 0;
}

static real row_dot(int64_t n, const real *x, const real *y) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) sum += x[j] * y[j];
  return sum;
}

/* ---- forward ---- */

/* Largest value and sum of a row of a tile. Folded in halves: a chain of 64 additions would take longer than the 64
 * exponentials. Kept apart from their callers, inside which gcc 12 leaves them scalar. */
__attribute__((noinline)) static real row_max(const real *s) {
  real m = s[0];
#pragma omp simd reduction(max : m)
  for (int j = 0; j < BLOCK; j++) m = s[j] > m ? s[j] : m;
  return m;
}
__attribute__((noinline)) static real row_total(const real *s) {
  real part[BLOCK / 2];
  for (int j = 0; j < BLOCK / 2; j++) part[j] = s[j] + s[j + BLOCK / 2];
#pragma GCC unroll 5
  for (int width = BLOCK / 4; width; width /= 2)
    for (int j = 0; j < width; j++) part[j] += part[j + width];
  return part[0];
}

/* Turns a row of scores into exponentials below the new running maximum; zero where unseen.
 * Returns the factor by which what was summed before shrinks. */
static real row_online(Seen v, real *s, real *maximum, real *sum) {
  const real before = *maximum;
  if (v.from > 0 || v.to < BLOCK) {
#pragma omp simd
    for (int j = 0; j < BLOCK; j++) s[j] = blend(j >= v.from && j < v.to, s[j], -INFINITY);
  }
  const real m = real_max(row_max(s), before);
  const real base = m == -INFINITY ? 0 : m; /* nothing seen so far: all exponentials are 0 */
#pragma omp simd
  for (int j = 0; j < BLOCK; j++) s[j] = real_exp(s[j] - base);
  const real shrink = before == m ? 1 : real_exp(before - base);
  *sum = *sum * shrink + row_total(s);
  *maximum = m;
  return shrink;
}

static void scale_row(int64_t n, real factor, real *x) {
#pragma omp simd
  for (int64_t j = 0; j < n; j++) x[j] *= factor;
}

/* O and L of queries [i, i + m). */
static void forward_block(const Attention *a, int64_t i, int64_t m, Head q, Head k, Head v, Head o, real *lse) {
  Tile s;
  real maximum[BLOCK], sum[BLOCK];
  for (int64_t r = 0; r < m; r++) maximum[r] = -INFINITY, sum[r] = 0;
  int64_t start = first_block(a, i);
  for (int64_t j = start; j < i + m; j += BLOCK) {
    Place p = {i, m, j, least(i + m - j, BLOCK)};
    scores(a, p, a->scale, q, k, 0, s);
    for (int64_t r = 0; r < m; r++) {
      real shrink = row_online(seen(a, p, r), s + r * BLOCK, maximum + r, sum + r);
      if (shrink != 1 && j > start) scale_row(a->width, shrink, row_of(o, i + r));
    }
    gather(a, p, s, v, j > start, o);
  }
  for (int64_t r = 0; r < m; r++) {
    scale_row(a->width, 1 / sum[r], row_of(o, i + r));
    lse[i + r] = maximum[r] + real_log(sum[r]);
  }
}

static bool worth_threads(const Attention *a) { return a->batch * a->heads * a->time * least(a->time, BLOCK) > PARALLEL_GRAIN; }

void K(attention)(const Attention *a, Heads q, Heads k, Heads v, Heads o, void *lse) {
  const int64_t group = a->heads / a->kv_heads, blocks = (a->time + BLOCK - 1) / BLOCK;
  const int threads = workspace_threads();
  if (a->batch * a->heads >= 4 * threads && worth_turning(a, 1)) {
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(threads) if (worth_threads(a))
    for (int64_t b = 0; b < a->batch; b++)
      for (int64_t h = 0; h < a->heads; h++) {
        Head keys = head_of(k, b, h / group);
        turn_blocks(a, &keys, 0);
        for (int64_t i = 0; i < a->time; i += BLOCK)
          forward_block(a, i, least(a->time - i, BLOCK), head_of(q, b, h), keys, head_of(v, b, h / group), head_of(o, b, h),
                        (real *)lse + (b * a->heads + h) * a->time);
      }
    return;
  }
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(threads) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t c = 0; c < blocks; c++) {
        int64_t i = (blocks - 1 - c) * BLOCK; /* the longest first */
        forward_block(a, i, least(a->time - i, BLOCK), head_of(q, b, h), head_of(k, b, h / group), head_of(v, b, h / group),
                      head_of(o, b, h), (real *)lse + (b * a->heads + h) * a->time);
      }
}

/* ---- what follows remakes P ---- */

/* Row of probabilities from scores; zero where unseen. */
static void row_probability(Seen v, real lse, real *s) {
#pragma omp simd
  for (int j = 0; j < BLOCK; j++) s[j] = blend(j >= v.from && j < v.to, real_exp(s[j] - lse), 0);
}

static void probabilities(const Attention *a, Place p, Head q, Head k, const real *lse, real *s) {
  scores(a, p, a->scale, q, k, 0, s);
  for (int64_t r = 0; r < p.m; r++) row_probability(seen(a, p, r), lse[p.i + r], s + r * BLOCK);
}

/* One head's operands. Those a pass does not use stay empty. */
typedef struct Operands {
  Head q, k, v, o, d_o, dq, dk, dv;
  Head tq, tk, tv, to, t_do, tdq, tdk, tdv;
  const real *lse, *tlse;
} Operands;

/* ---- gradient ---- */

static void backward_head(const Attention *a, const Operands *x) {
  Tile p, d;
  real delta[BLOCK];
  for (int64_t i = 0; i < a->time; i += BLOCK) {
    int64_t m = least(a->time - i, BLOCK), start = first_block(a, i);
    for (int64_t r = 0; r < m; r++) delta[r] = row_dot(a->width, row_of(x->d_o, i + r), row_of(x->o, i + r));
    for (int64_t j = start; j < i + m; j += BLOCK) {
      Place at = {i, m, j, least(i + m - j, BLOCK)};
      probabilities(a, at, x->q, x->k, x->lse, p);
      scores(a, at, 1, x->d_o, x->v, 0, d);
      scatter(a, at, p, x->d_o, x->dv);
      for (int64_t r = 0; r < m; r++) {
        real *pr = p + r * BLOCK, *dr = d + r * BLOCK;
#pragma omp simd
        for (int64_t c = 0; c < at.n; c++) dr[c] = (real)a->scale * pr[c] * (dr[c] - delta[r]);
      }
      gather(a, at, d, x->k, j > start, x->dq);
      scatter(a, at, d, x->q, x->dk);
    }
  }
}

void K(attention_backward)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o, Heads dq, Heads dk, Heads dv) {
  const int64_t group = a->heads / a->kv_heads;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t g = 0; g < a->kv_heads; g++) {
      Operands x = {.k = head_of(k, b, g), .v = head_of(v, b, g), .dk = head_of(dk, b, g), .dv = head_of(dv, b, g)};
      if (worth_turning(a, 2)) turn_blocks(a, &x.k, 0), turn_blocks(a, &x.v, 1);
      clear_rows(a, x.dk);
      clear_rows(a, x.dv);
      for (int64_t h = g * group; h < (g + 1) * group; h++) {
        x.q = head_of(q, b, h), x.o = head_of(o, b, h), x.d_o = head_of(d_o, b, h), x.dq = head_of(dq, b, h);
        x.lse = (const real *)lse + (b * a->heads + h) * a->time;
        backward_head(a, &x);
      }
    }
}

/* ---- tangent of the forward pass: with A = P tS,
 *   tL = rowsum(A),  tO = A V + P tV - tL O ---- */

static void tangent_block(const Attention *a, int64_t i, int64_t m, const Operands *x, real *tlse) {
  Tile p, ts;
  for (int64_t r = 0; r < m; r++) tlse[i + r] = 0;
  int64_t start = first_block(a, i);
  for (int64_t j = start; j < i + m; j += BLOCK) {
    Place at = {i, m, j, least(i + m - j, BLOCK)};
    probabilities(a, at, x->q, x->k, x->lse, p);
    scores(a, at, a->scale, x->tq, x->k, 0, ts);
    scores(a, at, a->scale, x->q, x->tk, 1, ts);
    for (int64_t r = 0; r < m; r++) {
      real *pr = p + r * BLOCK, *sr = ts + r * BLOCK, sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < at.n; c++) sum += sr[c] *= pr[c];
      tlse[i + r] += sum;
    }
    gather(a, at, ts, x->v, j > start, x->to);
    gather(a, at, p, x->tv, 1, x->to);
  }
  for (int64_t r = 0; r < m; r++) {
    real *to = row_of(x->to, i + r), *o = row_of(x->o, i + r), t = tlse[i + r];
#pragma omp simd
    for (int64_t c = 0; c < a->width; c++) to[c] -= t * o[c];
  }
}

void K(attention_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads tq, Heads tk, Heads tv, Heads to,
                          void *tlse) {
  const int64_t group = a->heads / a->kv_heads, blocks = (a->time + BLOCK - 1) / BLOCK;
#pragma omp parallel for collapse(3) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t c = 0; c < blocks; c++) {
        int64_t i = (blocks - 1 - c) * BLOCK, g = h / group, at = (b * a->heads + h) * a->time;
        Operands x = {.q = head_of(q, b, h), .k = head_of(k, b, g), .v = head_of(v, b, g), .o = head_of(o, b, h),
                      .tq = head_of(tq, b, h), .tk = head_of(tk, b, g), .tv = head_of(tv, b, g), .to = head_of(to, b, h),
                      .lse = (const real *)lse + at};
        tangent_block(a, i, least(a->time - i, BLOCK), &x, (real *)tlse + at);
      }
}

/* ---- tangent of the gradient: with tP = P (tS - tL), td = rowsum(tdO O + dO tO) and
 * E = dP - d,   tdS = scale (tP E + P (tdP - td)) ---- */

/* On entry ts = tS, d = dP, td = tdP; on return ts = tP, d = dS, td = tdS. */
static void row_second(int64_t n, real scale, real tlse, real delta, real tdelta, const real *p, real *ts, real *d, real *td) {
#pragma omp simd
  for (int64_t c = 0; c < n; c++) {
    real tp = p[c] * (ts[c] - tlse), e = d[c] - delta;
    ts[c] = tp;
    d[c] = scale * p[c] * e;
    td[c] = scale * (tp * e + p[c] * (td[c] - tdelta));
  }
}

static void backward_tangent_head(const Attention *a, const Operands *x) {
  Tile p, ts, d, td;
  real delta[BLOCK], tdelta[BLOCK];
  for (int64_t i = 0; i < a->time; i += BLOCK) {
    int64_t m = least(a->time - i, BLOCK), start = first_block(a, i);
    for (int64_t r = 0; r < m; r++) {
      delta[r] = row_dot(a->width, row_of(x->d_o, i + r), row_of(x->o, i + r));
      tdelta[r] = row_dot(a->width, row_of(x->t_do, i + r), row_of(x->o, i + r)) + row_dot(a->width, row_of(x->d_o, i + r), row_of(x->to, i + r));
    }
    for (int64_t j = start; j < i + m; j += BLOCK) {
      Place at = {i, m, j, least(i + m - j, BLOCK)};
      probabilities(a, at, x->q, x->k, x->lse, p);
      scores(a, at, a->scale, x->tq, x->k, 0, ts);
      scores(a, at, a->scale, x->q, x->tk, 1, ts);
      scores(a, at, 1, x->d_o, x->v, 0, d);
      scores(a, at, 1, x->t_do, x->v, 0, td);
      scores(a, at, 1, x->d_o, x->tv, 1, td);
      for (int64_t r = 0; r < m; r++)
        row_second(at.n, (real)a->scale, x->tlse[i + r], delta[r], tdelta[r], p + r * BLOCK, ts + r * BLOCK, d + r * BLOCK, td + r * BLOCK);
      scatter(a, at, ts, x->d_o, x->tdv);
      scatter(a, at, p, x->t_do, x->tdv);
      gather(a, at, td, x->k, j > start, x->tdq);
      gather(a, at, d, x->tk, 1, x->tdq);
      scatter(a, at, td, x->q, x->tdk);
      scatter(a, at, d, x->tq, x->tdk);
    }
  }
}

void K(attention_backward_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o, Heads tq, Heads tk,
                                   Heads tv, Heads to, const void *tlse, Heads t_do, Heads tdq, Heads tdk, Heads tdv) {
  const int64_t group = a->heads / a->kv_heads;
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t g = 0; g < a->kv_heads; g++) {
      Operands x = {.k = head_of(k, b, g), .v = head_of(v, b, g), .tk = head_of(tk, b, g), .tv = head_of(tv, b, g),
                    .tdk = head_of(tdk, b, g), .tdv = head_of(tdv, b, g)};
      if (worth_turning(a, 4)) turn_blocks(a, &x.k, 0), turn_blocks(a, &x.v, 1), turn_blocks(a, &x.tk, 2), turn_blocks(a, &x.tv, 3);
      clear_rows(a, x.tdk);
      clear_rows(a, x.tdv);
      for (int64_t h = g * group; h < (g + 1) * group; h++) {
        int64_t at = (b * a->heads + h) * a->time;
        x.q = head_of(q, b, h), x.o = head_of(o, b, h), x.d_o = head_of(d_o, b, h);
        x.tq = head_of(tq, b, h), x.to = head_of(to, b, h), x.t_do = head_of(t_do, b, h), x.tdq = head_of(tdq, b, h);
        x.lse = (const real *)lse + at, x.tlse = (const real *)tlse + at;
        backward_tangent_head(a, &x);
      }
    }
}

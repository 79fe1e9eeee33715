/* attention_backward.c - the gradient of causal attention and its tangent. P = exp(S - L) is
 * remade tile by tile (attention.c), then
 *   dV = P^T dO,  dP = dO V^T,  dS = scale P (dP - rowsum(dO O)),  dQ = dS K,  dK = dS^T Q.
 * The gradient is thus a function of (Q, K, V, O, L, dO), and its tangent one of their
 * tangents, which the forward tangent supplies for O and L: one pass, no fixed point.
 *
 * One thread does one head (one group of heads that share keys). Blocks of queries and of keys
 * are met in order: the same bits for any number of threads. */
#include "kernel/cpu/attention_tile.h"

/* One head's operands. Those a pass does not use stay empty. */
typedef struct Operands {
  Operand q, k, v, d_o, tq, tk, tv, t_do;
  Head o, to, dq, dk, dv;
  const real *lse, *tlse;
} Operands;

/* rowsum(dO O) of a span of queries, and its tangent. */
typedef struct Deltas {
  int64_t first;
  real value[SPAN], tangent[SPAN];
} Deltas;

static void clear_rows(const Attention *a, Head h) {
  for (int64_t t = 0; t < a->time; t++) {
    real *x = row_of(h, t);
    int64_t w = 0;
    for (; w + VL <= a->width; w += VL) *(vec_any *)(x + w) = (vec){0};
    for (; w < a->width; w++) x[w] = 0;
  }
}

static real row_dot(int64_t n, const real *x, const real *y) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) sum += x[j] * y[j];
  return sum;
}

/* to = x y of n rows from t on. Whole vectors: VL rows at once, in the order of row_dot. */
APART void row_dots(const Attention *a, Head x, Head y, int64_t t, int64_t n, real *to) {
  for (int64_t r = 0; r < n && a->width % VL; r++) to[r] = row_dot(a->width, row_of(x, t + r), row_of(y, t + r));
  for (int64_t r = 0; r < n && a->width % VL == 0; r += VL) {
    vec v[VL];
    real sum[VL];
    for (int64_t i = 0; i < (int)VL; i++) {
      const real *p = row_of(x, t + least(r + i, n - 1)), *q = row_of(y, t + least(r + i, n - 1));
      v[i] = (vec){0};
      for (int64_t c = 0; c < a->width; c += VL) v[i] += *(const vec_any *)(p + c) * *(const vec_any *)(q + c);
    }
    *(vec_any *)sum = in_order(v);
    for (int64_t i = 0; i < least(VL, n - r); i++) to[r + i] = sum[i];
  }
}

/* ---- gradient ---- */

/* On entry p = S, d = dP; on return p = P, d = dS. */
APART void gradient_rows(const Attention *a, Place at, Group g, const real *lse, const real *delta, real *p, real *d) {
  const real scale = (real)a->scale;
  probabilities(a, at, g, lse, p);
  for (int64_t r = g.row; r < g.row + g.rows; r++) {
    real *pr = p + r * BLOCK, *dr = d + r * BLOCK;
    const real mean = delta[r];
    for (int c = g.made.from; c < g.made.to; c += GROUP)
#pragma omp simd
      for (int x = 0; x < (int)GROUP; x++) dr[c + x] = scale * pr[c + x] * (dr[c + x] - mean);
  }
  clear_unmade(a, g, d);
}

static void backward_tile(const Attention *a, Place at, const Operands *x, const Deltas *delta) {
  Tile p, d;
  scores(a, at, a->scale, &x->q, &x->k, 0, p);
  scores(a, at, 1, &x->d_o, &x->v, 0, d);
  for (int64_t r = 0; r < at.m; r += GROUP) gradient_rows(a, at, group_of(a, at, r), x->lse, delta->value + at.i - delta->first, p, d);
  scatter(a, at, p, &x->d_o, x->dv);
  gather(a, at, d, &x->k, at.j > first_block(a, at.i), x->dq);
  scatter(a, at, d, &x->q, x->dk);
}

/* What queries [i0, i1) give. */
static void backward_span(const Attention *a, int64_t i0, int64_t i1, Operands *x) {
  Deltas delta = {.first = i0};
  real *room = workspace_b();
  begin_products(a);
  Operand *queries[] = {&x->q, &x->d_o};
  for (int i = 0; i < 2; i++) copy_rows(a, queries[i], i0, i1 - i0, &room), left_rows(a, queries[i], i0, i1 - i0, &room);
  row_dots(a, x->d_o.x, x->o, i0, i1 - i0, delta.value);
  for (int64_t j = first_block(a, i0); j < i1; j += BLOCK) {
    const int64_t n = least(a->time - j, BLOCK);
    real *keys = room;
    turn_rows(a, &x->k, j, n, &keys), turn_rows(a, &x->v, j, n, &keys), copy_rows(a, &x->k, j, n, &keys);
    for (int64_t i = most(i0, j); i < i1 && first_block(a, i) <= j; i += BLOCK) backward_tile(a, place_of(a, i, j), x, &delta);
  }
  end_products(a);
}

void K(attention_backward)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o, Heads dq, Heads dk, Heads dv) {
  const int64_t group = a->heads / a->kv_heads, span = span_of(a);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t g = 0; g < a->kv_heads; g++) {
      Operands x = {.k = operand_of(k, b, g), .v = operand_of(v, b, g), .dk = head_of(dk, b, g), .dv = head_of(dv, b, g)};
      clear_rows(a, x.dk);
      clear_rows(a, x.dv);
      for (int64_t h = g * group; h < (g + 1) * group; h++) {
        x.q = operand_of(q, b, h), x.d_o = operand_of(d_o, b, h), x.o = head_of(o, b, h), x.dq = head_of(dq, b, h);
        x.lse = (const real *)lse + (b * a->heads + h) * a->time;
        for (int64_t i = 0; i < a->time; i += span) backward_span(a, i, least(a->time, i + span), &x);
      }
    }
}

/* ---- tangent of the gradient: with tP = P (tS - tL), td = rowsum(tdO O + dO tO) and
 * E = dP - d,   tdS = scale (tP E + P (tdP - td)) ---- */

/* On entry ts = tS, d = dP, td = tdP; on return ts = tP, d = dS, td = tdS. */
APART void row_second(Range made, real scale, real tlse, real delta, real tdelta, const real *p, real *ts, real *d, real *td) {
  for (int at = made.from; at < made.to; at += GROUP)
#pragma omp simd
    for (int c = at; c < at + GROUP; c++) {
      real tp = p[c] * (ts[c] - tlse), e = d[c] - delta;
      ts[c] = tp;
      d[c] = scale * p[c] * e;
      td[c] = scale * (tp * e + p[c] * (td[c] - tdelta));
    }
}

static void second_tile(const Attention *a, Place at, const Operands *x, const Deltas *delta) {
  Tile p, ts, d, td;
  scores(a, at, a->scale, &x->q, &x->k, 0, p);
  scores(a, at, a->scale, &x->tq, &x->k, 0, ts);
  scores(a, at, a->scale, &x->q, &x->tk, 1, ts);
  scores(a, at, 1, &x->d_o, &x->v, 0, d);
  scores(a, at, 1, &x->t_do, &x->v, 0, td);
  scores(a, at, 1, &x->d_o, &x->tv, 1, td);
  for (int64_t r = 0; r < at.m; r += GROUP) {
    const Group g = group_of(a, at, r);
    probabilities(a, at, g, x->lse, p);
    for (int64_t t = r; t < r + g.rows; t++)
      row_second(g.made, (real)a->scale, x->tlse[at.i + t], delta->value[at.i + t - delta->first], delta->tangent[at.i + t - delta->first], p + t * BLOCK,
                 ts + t * BLOCK, d + t * BLOCK, td + t * BLOCK);
    clear_unmade(a, g, ts), clear_unmade(a, g, d), clear_unmade(a, g, td);
  }
  scatter(a, at, ts, &x->d_o, x->dv);
  scatter(a, at, p, &x->t_do, x->dv);
  gather(a, at, td, &x->k, at.j > first_block(a, at.i), x->dq);
  gather(a, at, d, &x->tk, 1, x->dq);
  scatter(a, at, td, &x->q, x->dk);
  scatter(a, at, d, &x->tq, x->dk);
}

static void second_span(const Attention *a, int64_t i0, int64_t i1, Operands *x) {
  Deltas delta = {.first = i0};
  real *room = workspace_b();
  Operand *queries[] = {&x->q, &x->d_o, &x->tq, &x->t_do};
  begin_products(a);
  for (int i = 0; i < 4; i++) copy_rows(a, queries[i], i0, i1 - i0, &room), left_rows(a, queries[i], i0, i1 - i0, &room);
  real part[SPAN];
  row_dots(a, x->d_o.x, x->o, i0, i1 - i0, delta.value);
  row_dots(a, x->t_do.x, x->o, i0, i1 - i0, delta.tangent);
  row_dots(a, x->d_o.x, x->to, i0, i1 - i0, part);
  for (int64_t i = 0; i < i1 - i0; i++) delta.tangent[i] += part[i];
  for (int64_t j = first_block(a, i0); j < i1; j += BLOCK) {
    const int64_t n = least(a->time - j, BLOCK);
    real *keys = room;
    Operand *turned[] = {&x->k, &x->v, &x->tk, &x->tv}, *rows[] = {&x->k, &x->tk};
    for (int i = 0; i < 4; i++) turn_rows(a, turned[i], j, n, &keys);
    for (int i = 0; i < 2; i++) copy_rows(a, rows[i], j, n, &keys);
    for (int64_t i = most(i0, j); i < i1 && first_block(a, i) <= j; i += BLOCK) second_tile(a, place_of(a, i, j), x, &delta);
  }
  end_products(a);
}

void K(attention_backward_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o, Heads tq, Heads tk,
                                   Heads tv, Heads to, const void *tlse, Heads t_do, Heads tdq, Heads tdk, Heads tdv) {
  const int64_t group = a->heads / a->kv_heads, span = span_of(a);
#pragma omp parallel for collapse(2) schedule(dynamic) num_threads(workspace_threads()) if (worth_threads(a))
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t g = 0; g < a->kv_heads; g++) {
      Operands x = {.k = operand_of(k, b, g), .v = operand_of(v, b, g), .tk = operand_of(tk, b, g), .tv = operand_of(tv, b, g),
                    .dk = head_of(tdk, b, g), .dv = head_of(tdv, b, g)};
      clear_rows(a, x.dk);
      clear_rows(a, x.dv);
      for (int64_t h = g * group; h < (g + 1) * group; h++) {
        const int64_t at = (b * a->heads + h) * a->time;
        x.q = operand_of(q, b, h), x.d_o = operand_of(d_o, b, h), x.o = head_of(o, b, h);
        x.tq = operand_of(tq, b, h), x.t_do = operand_of(t_do, b, h), x.to = head_of(to, b, h), x.dq = head_of(tdq, b, h);
        x.lse = (const real *)lse + at, x.tlse = (const real *)tlse + at;
        for (int64_t i = 0; i < a->time; i += span) second_span(a, i, least(a->time, i + span), &x);
      }
    }
}

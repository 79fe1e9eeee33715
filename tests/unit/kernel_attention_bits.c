/* The bits of attention: what is left out of a tile, how its operands lie and how many rows are worked on at once must not
 * show. The same pass is made here of whole tiles by the general product and of single operations, each rounded by itself.
 * Inputs keep what the definition leaves open out of the results: scores fall with the key, so no running maximum rises, and
 * sums over the width of a head have one term. */
#include "tests/unit/kernel_reference.h"

enum { BLOCK = 64, MOST = 200 };

typedef struct Case { int time, width, window; } Case;
typedef float Square[MOST * MOST];

static const Kernels *kernels;
static int least(int a, int b) { return a < b ? a : b; }
static bool sees(Case c, int i, int j) { return j <= i && (!c.window || j > i - c.window); }
static int first_block(Case c, int i) { return c.window && i >= c.window ? (i - c.window + 1) / BLOCK * BLOCK : 0; }

/* c (m x n) = alpha op(a) op(b) + beta c */
static void product(bool ta, bool tb, int m, int n, int k, float alpha, const float *a, int lda, const float *b, int ldb, float beta, float *c, int ldc) {
  kernels->gemm(&(Gemm){.transpose_a = ta, .transpose_b = tb, .m = m, .n = n, .k = k, .lda = lda, .ldb = ldb, .ldc = ldc, .alpha = alpha, .beta = beta,
                        .a = a, .b = b, .c = c, .batch = 1});
}
static float function(Unary f, float x) {
  float y;
  kernels->unary(f, &(Loop){.ndim = 1, .operands = 2, .shape = {1}, .stride = {{1}, {1}}, .data = {&y, &x}}, 0);
  return y;
}

/* Of tiles that some query sees: out = tile x (+ tile2 x2, tile by tile) for queries, out += tile^T x for keys. */
static void to_queries(Case c, const float *tile, const float *x, const float *tile2, const float *x2, float *out) {
  for (int i = 0; i < c.time; i += BLOCK)
    for (int j = first_block(c, i); j <= i; j += BLOCK) {
      const int m = least(BLOCK, c.time - i), n = least(BLOCK, c.time - j), at = i * c.time + j, w = c.width;
      product(false, false, m, w, n, 1, tile + at, c.time, x + j * w, w, j > first_block(c, i), out + i * w, w);
      if (tile2) product(false, false, m, w, n, 1, tile2 + at, c.time, x2 + j * w, w, 1, out + i * w, w);
    }
}
static void to_keys(Case c, const float *tile, const float *x, float *out) {
  for (int i = 0; i < c.time; i += BLOCK)
    for (int j = first_block(c, i); j <= i; j += BLOCK)
      product(true, false, least(BLOCK, c.time - j), c.width, least(BLOCK, c.time - i), 1, tile + i * c.time + j, c.time, x + i * c.width, c.width, 1,
              out + j * c.width, c.width);
}
static void scores(Case c, float alpha, const float *x, const float *y, float beta, float *s) {
  product(false, true, c.time, c.time, c.width, alpha, x, c.width, y, c.width, beta, s, c.time);
}

/* Sum of a block of 64, its first half with its second and so on. */
static float folded(const float *x) {
  float part[BLOCK];
  memcpy(part, x, sizeof part);
  for (int half = BLOCK / 2; half; half /= 2)
    for (int j = 0; j < half; j++) part[j] += part[j + half];
  return part[0];
}

/* O and L from S, which becomes the exponentials. */
static void forward(Case c, float *s, const float *v, float *o, float *lse) {
  float sums[MOST];
  for (int i = 0; i < c.time; i++) {
    float top = -INFINITY, sum = 0;
    for (int j = 0; j < c.time; j++)
      if (sees(c, i, j) && s[i * c.time + j] > top) top = s[i * c.time + j];
    for (int j = 0; j < c.time; j += BLOCK) {
      float block[BLOCK] = {0};
      for (int x = j; x < least(j + BLOCK, c.time); x++)
        block[x - j] = s[i * c.time + x] = sees(c, i, x) ? function(U_EXP, s[i * c.time + x] - top) : 0;
      sum += folded(block);
    }
    lse[i] = top + function(U_LOG, sum), sums[i] = 1 / sum;
  }
  to_queries(c, s, v, NULL, NULL, o);
  for (int x = 0; x < c.time * c.width; x++) o[x] *= sums[x / c.width];
}

static void probabilities(Case c, const float *lse, float *s) {
  for (int i = 0; i < c.time; i++)
    for (int j = 0; j < c.time; j++) s[i * c.time + j] = sees(c, i, j) ? function(U_EXP, s[i * c.time + j] - lse[i]) : 0;
}

typedef struct Data {
  float *q, *k, *v, *d_o, *tq, *tk, *tv, *t_do, *one, *none; /* one: a number a row, none: zeros */
} Data;

static float *random_rows(int n, float scale) {
  float *x = mem_alloc(sizeof(float) * (size_t)n);
  for (int i = 0; i < n; i++) x[i] = scale * (float)reference_random();
  return x;
}
static Data data_of(Case c) {
  const int n = c.time * c.width;
  Data d = {random_rows(n, 0.02f), random_rows(n, 0.02f), random_rows(n, 1), random_rows(n, 1), random_rows(n, 1), random_rows(n, 1), random_rows(n, 1),
            random_rows(n, 1), random_rows(n, 0), random_rows(n, 0)};
  for (int t = 0; t < c.time; t++) {
    d.q[t * c.width] = 1, d.k[t * c.width] = -0.05f * (float)t; /* scores fall with the key */
    d.one[t * c.width + t % c.width] = (float)reference_random();
  }
  return d;
}
static void data_free(Data d) {
  float *all[] = {d.q, d.k, d.v, d.d_o, d.tq, d.tk, d.tv, d.t_do, d.one, d.none};
  for (int i = 0; i < 10; i++) mem_free(all[i]);
}

static void same(Case c, const char *what, int n, const float *x, const float *y) {
  int first = 0;
  while (first < n && x[first] == y[first]) first++;
  if (!ok(first == n, "%s of whole tiles and single operations, T %d, width %d, window %d: the same bits", what, c.time, c.width, c.window))
    printf("#   at %d: %.9g, not %.9g\n", first, (double)x[first], (double)y[first]);
}

static void check(Case c) {
  static Square s, p, d, ts;
  static float r[4][MOST * 64], x[4][MOST * 64], lse[MOST], found[MOST], tlse[MOST];
  const Attention a = {1, c.time, 1, 1, c.width, c.window, 1.25, false};
  const Data z = data_of(c);
  const int n = c.time * c.width, all = c.time * c.time;
#define ROWS(data) ((Heads){data, {n, c.width, c.width}})
  memset(r, 0, sizeof r), memset(x, 0x7f, sizeof x); /* what was there before does not matter */
  scores(c, 1.25f, z.q, z.k, 0, s);
  memcpy(p, s, sizeof p);
  forward(c, s, z.v, r[0], lse);
  kernels->attention(&a, ROWS(z.q), ROWS(z.k), ROWS(z.v), ROWS(x[0]), found);
  same(c, "output", n, x[0], r[0]);
  same(c, "log-sum-exp", c.time, found, lse);

  probabilities(c, lse, p);
  scores(c, 1, z.d_o, z.v, 0, d);
  for (int i = 0; i < all; i++) {
    const int at = i / c.time * c.width + i / c.time % c.width;
    const float scaled = 1.25f * p[i], less = d[i] - z.d_o[at] * z.one[at];
    d[i] = scaled * less;
  }
  memset(r, 0, sizeof r);
  to_queries(c, d, z.k, NULL, NULL, r[0]), to_keys(c, d, z.q, r[1]), to_keys(c, p, z.d_o, r[2]);
  kernels->attention_backward(&a, ROWS(z.q), ROWS(z.k), ROWS(z.v), ROWS(z.one), lse, ROWS(z.d_o), ROWS(x[0]), ROWS(x[1]), ROWS(x[2]));
  same(c, "dq", n, x[0], r[0]), same(c, "dk", n, x[1], r[1]), same(c, "dv", n, x[2], r[2]);

  scores(c, 1.25f, z.tq, z.k, 0, ts), scores(c, 1.25f, z.q, z.tk, 1, ts);
  for (int i = 0; i < all; i++) d[i] = p[i] * ts[i];
  to_queries(c, d, z.v, p, z.tv, r[0]);
  kernels->attention_tangent(&a, ROWS(z.q), ROWS(z.k), ROWS(z.v), ROWS(z.none), lse, ROWS(z.tq), ROWS(z.tk), ROWS(z.tv), ROWS(x[0]), tlse);
  same(c, "tangent of the output", n, x[0], r[0]);

  scores(c, 1, z.t_do, z.v, 0, d); /* with dO = 0: dS = 0, tdS = scale P tdP, and dV's tangent that of P^T dO */
  for (int i = 0; i < all; i++) {
    const float part = p[i] * d[i];
    d[i] = 1.25f * part;
  }
  memset(r, 0, sizeof r);
  to_queries(c, d, z.k, NULL, NULL, r[0]), to_keys(c, d, z.q, r[1]), to_keys(c, p, z.t_do, r[2]);
  kernels->attention_backward_tangent(&a, ROWS(z.q), ROWS(z.k), ROWS(z.v), ROWS(z.none), lse, ROWS(z.none), ROWS(z.tq), ROWS(z.tk), ROWS(z.tv),
                                      ROWS(z.none), tlse, ROWS(z.t_do), ROWS(x[0]), ROWS(x[1]), ROWS(x[2]));
  same(c, "tangent of dq", n, x[0], r[0]), same(c, "tangent of dk", n, x[1], r[1]), same(c, "tangent of dv", n, x[2], r[2]);
  data_free(z);
}

/* A key and value that no query of a tile sees may hold anything: the queries before it never notice. */
static void check_unseen(int time, int from) {
  static float x[3][MOST * 16], o[2][MOST * 16], lse[2][MOST];
  const Attention a = {1, time, 1, 1, 16, 0, 0.25, false};
  for (int i = 0; i < 3; i++)
    for (int t = 0; t < time * 16; t++) x[i][t] = (float)reference_random();
#define SET(data) ((Heads){data, {time * 16, 16, 16}})
  kernels->attention(&a, SET(x[0]), SET(x[1]), SET(x[2]), SET(o[0]), lse[0]);
  for (int t = from * 16; t < time * 16; t++) x[1][t] = x[2][t] = NAN;
  kernels->attention(&a, SET(x[0]), SET(x[1]), SET(x[2]), SET(o[1]), lse[1]);
  ok(!memcmp(o[0], o[1], sizeof(float) * (size_t)from / 64 * 64 * 16) && !memcmp(lse[0], lse[1], sizeof(float) * (size_t)from / 64 * 64),
     "NaN in keys and values from %d on leaves the blocks of queries before as they were", from);
  ok(isnan(o[1][from * 16]), "and reaches the query that sees it");
}

int main(void) {
  kernels = kernels_of(0, F32);
  const Case cases[] = {{1, 32, 0}, {64, 32, 0}, {65, 16, 0}, {128, 32, 0}, {150, 40, 0}, {200, 64, 0}, {150, 32, 37}, {190, 5, 64}, {130, 32, 1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check(cases[i]);
  check_unseen(150, 128);
  check_unseen(150, 70);
  return done();
}

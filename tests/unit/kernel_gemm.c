/* The matrix product against sums in double: all layouts, sizes around the edges of tiles
 * and panels, wide strides, alpha and beta, NaN in an overwritten C, bits for any thread count. */
#include "tests/unit/kernel_reference.h"

static double *product_reference(const Gemm *g, const double *a, const double *b, const double *c) {
  double *y = zero_array(g->m * g->ldc);
  for (int64_t i = 0; i < g->m * g->ldc; i++) y[i] = c[i];
  for (int64_t i = 0; i < g->m; i++)
    for (int64_t j = 0; j < g->n; j++) {
      double sum = 0;
      for (int64_t k = 0; k < g->k; k++) sum += a[g->transpose_a ? k * g->lda + i : i * g->lda + k] * b[g->transpose_b ? j * g->ldb + k : k * g->ldb + j];
      y[i * g->ldc + j] = g->alpha * sum + (g->beta != 0 ? g->beta * c[i * g->ldc + j] : 0);
    }
  return y;
}

static void check_case(const Kernels *t, int64_t m, int64_t n, int64_t k, int layout, int64_t gap, double alpha, double beta) {
  Gemm g = {.transpose_a = layout & 1, .transpose_b = layout & 2, .m = m, .n = n, .k = k, .alpha = alpha, .beta = beta, .batch = 1};
  g.lda = (g.transpose_a ? m : k) + gap, g.ldb = (g.transpose_b ? k : n) + gap, g.ldc = n + gap;
  int64_t sizes[3] = {g.lda * (g.transpose_a ? k : m), g.ldb * (g.transpose_b ? n : k), g.ldc * m};
  double *a = random_array(sizes[0], 1), *b = random_array(sizes[1], 1), *c = random_array(sizes[2], 1);
  double *expected = product_reference(&g, a, b, c);
  void *x = to_real(t, sizes[0], a), *y = to_real(t, sizes[1], b), *z = to_real(t, sizes[2], c);
  if (beta == 0) /* what is overwritten must not be read */
    for (int64_t i = 0; i < m; i++)
      for (int64_t j = 0; j < n; j++) {
        if (t->element == 4) ((float *)z)[i * g.ldc + j] = NAN;
        else ((double *)z)[i * g.ldc + j] = NAN;
      }
  g.a = x, g.b = y, g.c = z;
  t->gemm(&g);
  char what[96];
  snprintf(what, sizeof what, "%ld x %ld x %ld%s%s, gap %ld, alpha %g, beta %g", (long)m, (long)n, (long)k, g.transpose_a ? " A^T" : "",
           g.transpose_b ? " B^T" : "", (long)gap, alpha, beta);
  same_values(t, sizes[2], z, expected, tolerance_of(t, 2e-7 * sqrt((double)k) + 4e-7, 1e-14 * sqrt((double)k)), what);
  mem_free(a), mem_free(b), mem_free(c), mem_free(expected), mem_free(x), mem_free(y);
}

/* Bias and addend, on shapes for the vector units and for the tiles (f32: 130 x 100 x 140 is large enough). */
static void check_joined(const Kernels *t, int64_t m, int64_t n, int64_t k, bool bias, bool add) {
  Gemm g = {.m = m, .n = n, .k = k, .lda = k, .ldb = n, .ldc = n, .alpha = 1, .batch = 1, .ld_add = n + 2};
  double *a = random_array(m * k, 1), *b = random_array(k * n, 1), *c = zero_array(m * n), *r = random_array(m * (n + 2), 1);
  double *expected = k ? product_reference(&g, a, b, c) : zero_array(m * n);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) expected[i * n + j] += (bias ? r[j] : 0) + (add ? r[i * (n + 2) + j] : 0);
  void *x = to_real(t, m * k, a), *y = to_real(t, k * n, b), *z = to_real(t, m * n, NULL), *w = to_real(t, m * (n + 2), r);
  g.a = x, g.b = y, g.c = z, g.bias = bias ? w : NULL, g.add = add ? w : NULL;
  t->gemm(&g);
  char what[96];
  snprintf(what, sizeof what, "%ld x %ld x %ld%s%s", (long)m, (long)n, (long)k, bias ? " + bias" : "", add ? " + addend" : "");
  same_values(t, m * n, z, expected, tolerance_of(t, 3e-6, 1e-13), what);
  mem_free(a), mem_free(b), mem_free(c), mem_free(r), mem_free(expected), mem_free(x), mem_free(y), mem_free(w);
}

/* The lower triangle alone: the bits of the whole product, for any number of threads; what lies beyond C's rows stays. */
static void check_lower(const Kernels *t, int64_t n, int64_t k, bool transpose, double beta) {
  Gemm g = {.transpose_a = transpose, .transpose_b = !transpose, .m = n, .n = n, .k = k, .alpha = -1.5, .beta = beta, .batch = 1};
  g.lda = g.ldb = (transpose ? n : k) + 3, g.ldc = n + 5;
  int64_t sizes[2] = {g.lda * (transpose ? k : n), g.ldc * n};
  double *a = random_array(sizes[0], 1), *c = random_array(sizes[1], 1);
  void *x = to_real(t, sizes[0], a), *whole = to_real(t, sizes[1], c), *half[2] = {to_real(t, sizes[1], c), to_real(t, sizes[1], c)};
  g.a = g.b = x, g.c = whole;
  t->gemm(&g);
  g.lower = true;
  bool same = true, kept = true;
  for (int h = 0; h < 2; h++) {
    threads_set(h ? 4 : 1);
    g.c = half[h];
    t->gemm(&g);
    for (int64_t i = 0; i < n; i++) {
      size_t row = (size_t)(i * g.ldc) * t->element;
      same &= memcmp((char *)half[h] + row, (char *)whole + row, (size_t)(i + 1) * t->element) == 0;
      kept &= memcmp((char *)half[h] + row + (size_t)n * t->element, (char *)whole + row + (size_t)n * t->element, 5 * t->element) == 0;
    }
  }
  ok(same, "%s: lower triangle of %ld x %ld%s, beta %g, 1 and 4 threads: the bits of the whole", t->name, (long)n, (long)k, transpose ? " A^T A" : "", beta);
  ok(kept, "  and nothing beside it is touched");
  mem_free(a), mem_free(c), mem_free(x), mem_free(whole), mem_free(half[0]), mem_free(half[1]);
}

/* Splitting floats loses nothing that f32 would have kept: entries over forty binary orders of magnitude, errors
 * relative to the sum of the products' sizes, against those of a chain of fused multiply-adds in f32. And zeros stay zero, NaN stays NaN. */
static void check_wide_range(void) {
  enum { SIDE = 128 };
  const Kernels *t = kernels_of(0, F32);
  double *a = random_array(SIDE * SIDE, 1), *b = random_array(SIDE * SIDE, 1), worst = 0, chain = 0;
  for (int i = 0; i < SIDE * SIDE; i++) a[i] = (float)ldexp(a[i], (int)(40 * reference_random())), b[i] = (float)ldexp(b[i], (int)(40 * reference_random()));
  for (int i = 0; i < SIDE; i++) a[i] = 0;
  float *x = to_real(t, SIDE * SIDE, a), *y = to_real(t, SIDE * SIDE, b), *z = to_real(t, SIDE * SIDE, NULL);
  Gemm g = {.m = SIDE, .n = SIDE, .k = SIDE, .lda = SIDE, .ldb = SIDE, .ldc = SIDE, .alpha = 1, .batch = 1, .a = x, .b = y, .c = z};
  t->gemm(&g);
  int zeros = 1;
  for (int i = 0; i < SIDE; i++)
    for (int j = 0; j < SIDE; j++) {
      double sum = 0, size = 1e-300;
      float f = 0;
      for (int k = 0; k < SIDE; k++) {
        double ab = a[i * SIDE + k] * b[k * SIDE + j];
        sum += ab, size += fabs(ab), f = fmaf((float)a[i * SIDE + k], (float)b[k * SIDE + j], f);
      }
      chain = fmax(chain, fabs(f - sum) / size);
      worst = fmax(worst, fabs(z[i * SIDE + j] - sum) / size);
      zeros &= i || z[j] == 0;
    }
  ok(worst < 1.5 * chain, "entries over forty binary orders of magnitude: error %.2g, of a chain in f32 %.2g", worst, chain);
  ok(zeros, "a row of zeros gives zeros");
  x[5 * SIDE + 7] = NAN;
  t->gemm(&g);
  ok(isnan(z[5 * SIDE]) && isnan(z[5 * SIDE + SIDE - 1]) && !isnan(z[4 * SIDE]), "a NaN in A makes its row NaN");
  mem_free(a), mem_free(b), mem_free(x), mem_free(y), mem_free(z);
}

static void check_batches(void) {
  const Kernels *t = kernels_of(0, F64);
  double *a = random_array(20 * 6, 1), *b = random_array(6, 1), *c = zero_array(20 * 4), *one = zero_array(4);
  Gemm g = {.m = 2, .n = 2, .k = 3, .lda = 3, .ldb = 2, .ldc = 2, .alpha = 1, .a = a, .b = b, .c = c, .batch = 20, .batch_a = 6, .batch_b = 0, .batch_c = 4};
  t->gemm(&g);
  int same = 1;
  for (int64_t i = 0; i < 20; i++) {
    Gemm h = g;
    h.batch = 1, h.a = a + 6 * i, h.c = one;
    t->gemm(&h);
    same &= !memcmp(one, c + 4 * i, sizeof(double) * 4);
  }
  ok(same, "a batch of 20 with one B for all");
  g.k = 0, g.beta = 0.5, g.batch = 1;
  double before = c[3];
  t->gemm(&g);
  ok(c[3] == 0.5 * before, "no k: C is scaled");
  g.beta = 0;
  t->gemm(&g);
  ok(c[0] == 0 && c[3] == 0, "no k and beta 0: zeros");
  mem_free(a), mem_free(b), mem_free(c), mem_free(one);
}

typedef struct Big { void *a, *b; bool ta, tb; DType type; } Big;
enum { M = 203, N = 301, DEPTH = 611 };
static void threads_body(void *context, void *out) {
  Big *x = context;
  Gemm g = {.transpose_a = x->ta, .transpose_b = x->tb, .m = M, .n = N, .k = DEPTH, .alpha = 1, .a = x->a, .b = x->b, .c = out, .ldc = N, .batch = 1};
  g.lda = x->ta ? M : DEPTH, g.ldb = x->tb ? DEPTH : N;
  kernels_of(0, x->type)->gemm(&g);
}

int main(void) {
  const int64_t sizes[][3] = {{1, 1, 1}, {1, 17, 3}, {5, 1, 70}, {8, 48, 16}, {7, 47, 33}, {9, 49, 15}, {16, 64, 64}, {3, 80, 129},
                              {131, 100, 40}, {200, 31, 530}, {40, 450, 20}, {130, 16, 1100},
                              {97, 130, 150}, {128, 64, 300}, {66, 100, 513}};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int layout = 0; layout < 4; layout++)
      for (int type = 0; type < 2; type++) {
        const Kernels *t = kernels_of(0, type ? F64 : F32);
        check_case(t, sizes[i][0], sizes[i][1], sizes[i][2], layout, 0, 1, 0);
        check_case(t, sizes[i][0], sizes[i][1], sizes[i][2], layout, 5, -0.5, 2);
      }
  const int64_t joined[][3] = {{5, 7, 3}, {130, 100, 140}, {128, 128, 600}, {3, 4, 0}};
  for (int i = 0; i < 16; i++) /* k = 0 needs something to add, else C is left as it is times beta */
    for (int type = 0; type < 2; type++)
      if (joined[i / 4][2] || i % 4) check_joined(kernels_of(0, type ? F64 : F32), joined[i / 4][0], joined[i / 4][1], joined[i / 4][2], i & 1, i & 2);
  const int64_t lower[][2] = {{1, 4}, {7, 30}, {95, 64}, {200, 33}, {450, 600}, {900, 20}};
  for (int i = 0; i < 24; i++) check_lower(kernels_of(0, i & 1 ? F64 : F32), lower[i / 4][0], lower[i / 4][1], i & 2, i & 2 ? 1 : 0);
  check_wide_range();
  check_batches();
  const bool tiles = kernel_has_tiles();
  kernel_use_tiles(false);
  ok(!kernel_has_tiles(), "tiles are left out when they shall be");
  check_case(kernels_of(0, F32), 130, 100, 140, 0, 0, 1, 0);
  kernel_use_tiles(true);
  ok(kernel_has_tiles() == tiles, "and taken again");
  double *x = random_array(N * DEPTH, 1);
  for (int layout = 0; layout < 4; layout++)
    for (int type = 0; type < 2; type++) {
      const Kernels *t = kernels_of(0, type ? F64 : F32);
      Big b = {to_real(t, M * DEPTH, x), to_real(t, N * DEPTH, x), layout & 1, layout & 2, type ? F64 : F32};
      same_bits(t->name, threads_body, &b, (size_t)(M * N) * t->element);
      mem_free(b.a), mem_free(b.b);
    }
  mem_free(x);
  return done();
}

/* Products with bf16 operands: against the definition in plain C, operation by operation,
 * and the tile unit and the dot instruction (where they are) against the portable kernel; all bit for bit. */
#define REAL_BITS 32
#include "kernel/cpu/amx.h"
#include "kernel/cpu/bf16.h"
#include "kernel/cpu/bf16_blocks.h"
#include "kernel/cpu/dot.h"
#include "tests/unit/kernel_reference.h"

/* bf16.c's head comment, literally. */
static float element(const Product *p, int64_t i, int64_t j) {
  const float *a = p->a, *b = p->b, *c = (const float *)p->c + i * p->ldc + j;
  bool from_c = p->alpha == 1 && p->beta == 1;
  float total = from_c ? *c : 0;
  for (int64_t start = 0; start < p->k; start += 32) {
    float chain[2] = {0, 0};
    for (int64_t k = start; k < start + 32; k++) {
      float x = k < p->k ? bf16_round(a[p->transpose_a ? k * p->lda + i : i * p->lda + k]) : 0;
      float y = k < p->k ? bf16_round(b[p->transpose_b ? j * p->ldb + k : k * p->ldb + j]) : 0;
      chain[(k - start) / 16] += x * y;
    }
    total += chain[0] + chain[1];
  }
  if (!from_c) { /* both products rounded */
    volatile float scaled = (float)p->alpha * total, old = p->beta == 0 ? 0 : (float)p->beta * *c;
    total = scaled + old;
  }
  float bias = p->bias ? ((const float *)p->bias)[j] : 0, add = p->add ? ((const float *)p->add)[i * p->ld_add + j] : 0;
  return p->bias && p->add ? total + bias + add : p->bias ? total + bias : p->add ? total + add : total;
}

static float *random_floats(int64_t n, double scale) {
  float *x = mem_alloc((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = (float)(scale * reference_random());
  return x;
}

typedef void (*Part)(const Product *, int64_t, int64_t, int64_t, int64_t);

static void check_part(const char *name, Part part, Product p, const float *c, const float *expected) {
  float *y = mem_alloc((size_t)(p.m * p.ldc) * sizeof *y);
  memcpy(y, c, (size_t)(p.m * p.ldc) * sizeof *y);
  p.c = y;
  part(&p, 0, p.m, 0, p.n);
  int64_t wrong = 0, at = -1;
  for (int64_t i = 0; i < p.m * p.ldc; i++)
    if (memcmp(y + i, expected + i, sizeof *y) && !(y[i] == 0 && expected[i] == 0)) wrong++, at = i;
  if (!ok(!wrong, "%s: %ld x %ld x %ld%s%s alpha %g beta %g%s%s", name, (long)p.m, (long)p.n, (long)p.k, p.transpose_a ? " A^T" : "",
          p.transpose_b ? " B^T" : "", p.alpha, p.beta, p.bias ? " bias" : "", p.add ? " add" : ""))
    printf("#   %ld of %ld differ, one: %.9g, expected %.9g\n", (long)wrong, (long)(p.m * p.n), y[at], expected[at]);
  mem_free(y);
}

/* A product of two blocks that are laid out; what is not written to stays. */
static void check_blocks(const char *name, const Bf16Blocks *f, Product p, const float *c, const float *expected) {
  const int64_t steps = (p.k + 31) / 32;
  float *room = mem_alloc((size_t)(2 * steps * f->step) * sizeof *room), *right = room + steps * f->step, *y = mem_alloc((size_t)(p.m * p.ldc) * sizeof *y);
  memset(room, 0xff, (size_t)(2 * steps * f->step) * sizeof *room);
  memcpy(y, c, (size_t)(p.m * p.ldc) * sizeof *y);
  f->begin();
  f->lay(true, !p.transpose_a, p.a, p.lda, p.m, p.k, room);
  f->lay(false, p.transpose_b, p.b, p.ldb, p.n, p.k, right);
  f->multiply(p.m, p.n, steps, room, right, p.beta == 1, y, p.ldc);
  f->end();
  int64_t wrong = 0;
  for (int64_t i = 0; i < p.m * p.ldc; i++) wrong += memcmp(y + i, expected + i, sizeof *y) && !(y[i] == 0 && expected[i] == 0);
  ok(!wrong, "blocks, %s: %ld x %ld x %ld%s%s beta %g", name, (long)p.m, (long)p.n, (long)p.k, p.transpose_a ? " A^T" : "", p.transpose_b ? " B^T" : "", p.beta);
  mem_free(room), mem_free(y);
}

static void check_case(int64_t m, int64_t n, int64_t k, int layout, double alpha, double beta, int joined) {
  Product p = {.transpose_a = layout & 1, .transpose_b = layout & 2, .m = m, .n = n, .k = k, .ldc = n + 1, .alpha = alpha, .beta = beta, .ld_add = n, .bf16 = true};
  p.lda = p.transpose_a ? m : k, p.ldb = p.transpose_b ? k : n;
  float *a = random_floats(m * k, 1), *b = random_floats(n * k, 1), *c = random_floats(m * (n + 1), 1), *add = random_floats(m * n, 1);
  float *expected = mem_alloc((size_t)(m * (n + 1)) * sizeof *expected);
  p.a = a, p.b = b, p.c = c, p.bias = joined & 1 ? add : NULL, p.add = joined & 2 ? add : NULL;
  memcpy(expected, c, (size_t)(m * (n + 1)) * sizeof *c);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < n; j++) expected[i * (n + 1) + j] = element(&p, i, j);
  check_part("portable", bf16_part, p, c, expected);
  if (dot_available()) check_part("dot instruction", dot_part, p, c, expected);
  if (amx_available()) check_part("tiles", amx_part_bf16, p, c, expected);
  if (m <= BF16_BLOCK && n <= BF16_BLOCK && alpha == 1 && !joined) {
    check_blocks("portable", &bf16_portable_blocks, p, c, expected);
    if (dot_available()) check_blocks("dot instruction", &bf16_dot_blocks, p, c, expected);
    if (amx_available()) check_blocks("tiles", &bf16_tile_blocks, p, c, expected);
  }
  mem_free(a), mem_free(b), mem_free(c), mem_free(add), mem_free(expected);
}

/* NaN, infinities, denormals, and those that round up to the smallest normal number, strewn in: the ways agree on them. */
static void check_special(int layout) {
  static const uint32_t special[] = {0x7fc00000, 0xff800001, 0x7f800000, 0x007fffff, 0x007f8000, 0x807fc000, 0x007f7fff, 0x00000001, 0x80000000, 0x7f7fffff};
  enum { N = 96 };
  float *x[2] = {random_floats(N * N, 1e-30), random_floats(N * N, 1e30)}, *y[3];
  for (int i = 0; i < 40; i++) memcpy(x[0] + (i * 397) % (N * N), special + 3 + i % 6, 4), memcpy(x[1] + (i * 211) % (N * N), special + i % 10, 4);
  const Part parts[] = {bf16_part, dot_available() ? dot_part : bf16_part, amx_available() ? amx_part_bf16 : bf16_part};
  for (int i = 0; i < 3; i++) {
    y[i] = mem_calloc(N * N, sizeof(float));
    parts[i](&(Product){.transpose_a = layout & 1, .transpose_b = layout & 2, .m = N, .n = N, .k = N, .lda = N, .ldb = N, .ldc = N, .alpha = 1, .a = x[0], .b = x[1], .c = y[i], .bf16 = true},
             0, N, 0, N);
  }
  int64_t wrong[3] = {0};
  for (int way = 1; way < 3; way++)
    for (int i = 0; i < N * N; i++) wrong[way] += y[way][i] != y[0][i] && !(isnan(y[way][i]) && isnan(y[0][i]));
  ok(!wrong[1] && !wrong[2], "special operands%s%s: the same by every way there is", layout & 1 ? " A^T" : "", layout & 2 ? " B^T" : "");
  for (int i = 0; i < 3; i++) mem_free(y[i]);
  mem_free(x[0]), mem_free(x[1]);
}

/* Through the table: the setting switches, and thread counts do not matter. */
typedef struct Big { float *a, *b; } Big;
static void threads_body(void *context, void *out) {
  Big *x = context;
  Gemm g = {.transpose_b = true, .m = 150, .n = 170, .k = 210, .lda = 210, .ldb = 210, .ldc = 170, .alpha = 1, .a = x->a, .b = x->b, .c = out, .batch = 1};
  kernels_of(0, F32)->gemm(&g);
}

static void check_setting(void) {
  Big b = {random_floats(150 * 210, 1), random_floats(170 * 210, 1)};
  float *full = mem_alloc(150 * 170 * 4), *rounded = mem_alloc(150 * 170 * 4);
  threads_body(&b, full);
  ok(precision_set(PRECISION_BF16) == PRECISION_F32, "f32 is what products start with");
  threads_body(&b, rounded);
  double gap = 0, size = 0;
  for (int i = 0; i < 150 * 170; i++) gap += pow(full[i] - rounded[i], 2), size += pow(full[i], 2);
  ok(gap / size > 1e-8 && gap / size < 1e-4, "bf16 products differ from f32 ones by some 2^-9 (relative: %.2g)", sqrt(gap / size));
  same_bits("bf16 product", threads_body, &b, 150 * 170 * 4);
  ok(precision_set(PRECISION_F32) == PRECISION_BF16, "back to f32");
  mem_free(b.a), mem_free(b.b), mem_free(full), mem_free(rounded);
}

int main(void) {
  ok(bf16_round(1.00390625f) == 1.0f && bf16_round(1.01171875f) == 1.015625f && isnan(bf16_round(NAN)) && bf16_round(-INFINITY) == -INFINITY,
     "rounding is to nearest even");
  printf("# tile unit: %s; dot instruction: %s\n", amx_available() ? "there" : "absent", dot_available() ? "there" : "absent");
  const int64_t sizes[][3] = {{1, 1, 1}, {5, 3, 33}, {32, 32, 32}, {33, 31, 64}, {40, 70, 100}, {64, 96, 31}, {31, 64, 800}, {70, 33, 1600}, {32, 32, 100}, {29, 32, 64}, {4, 30, 20}};
  for (int i = 0; i < 11; i++)
    for (int layout = 0; layout < 4; layout++) {
      check_case(sizes[i][0], sizes[i][1], sizes[i][2], layout, 1, 0, layout);
      check_case(sizes[i][0], sizes[i][1], sizes[i][2], layout, 1, 1, 0);
      if (sizes[i][2] <= 512) check_case(sizes[i][0], sizes[i][1], sizes[i][2], layout, -0.7, 1.3, 0);
    }
  for (int layout = 0; layout < 4; layout++) check_special(layout);
  check_setting();
  return done();
}

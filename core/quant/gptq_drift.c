/* gptq_drift.c - GPTAQ (Li et al., 2025): besides the rounding errors, GPTQ makes good that the
 * inputs x of the layer are no longer the x_full of the unquantized model.
 *
 * With the drift D = (2 / tokens) sum (x_full - x) x^T, permuted like H, and P = alpha triu(D U^T, 1) U,
 * strictly upper triangular, a column that is finished adds v_i P_ij to the columns after it:
 * v is the value before rounding inside a block, the rounded one for later blocks, as in the
 * authors' code. In gptq.c's terms the weights themselves are shifted by v P. */
#include <string.h>

#include "base/mem.h"
#include "linalg/lapack.h"
#include "quant/gptq_solve.h"

/* u (n, n) = inv(R), from the reversed factor; its lower triangle becomes zero. */
static void whole_inverse(const Solve *s, double *scratch, double *u) {
  int n = (int)s->n, info;
  memset(scratch, 0, (size_t)(s->n * s->n) * sizeof(double));
  for (int64_t i = 0; i < s->n; i++) memcpy(scratch + i * s->n, s->factor + i * s->n, (size_t)(i + 1) * sizeof(double));
  LAPACK(F64, trtri)("U", "N", &n, scratch, &n, &info, 1, 1);
  quant_kernels_of(0, F64)->reverse_cast(s->n * s->n, scratch, u);
}

static void multiply(int64_t n, double alpha, const double *a, const double *b, bool transpose_b, double *c) {
  Gemm g = {.transpose_b = transpose_b, .m = n, .n = n, .k = n, .lda = n, .ldb = n, .ldc = n, .alpha = alpha, .a = a, .b = b, .c = c, .batch = 1};
  kernels_of(0, F64)->gemm(&g);
}

Status drift_prepare(Solve *s, const Tensor *drift) {
  int64_t n = s->n, block = s->o->block < n ? s->o->block : n;
  size_t bytes = (size_t)(n * n) * sizeof(double);
  if (!(s->drift = mem_alloc(bytes))) return error_code();
  double *u = mem_alloc(bytes), *product = u ? mem_alloc(bytes) : NULL;
  if (product) {
    whole_inverse(s, product, u);
    s->q->permute(n, tensor_data(drift), s->order, s->drift);
    multiply(n, s->o->drift, s->drift, u, true, product);
    for (int64_t i = 0; i < n; i++) memset(product + i * n, 0, (size_t)(i + 1) * sizeof(double));
    multiply(n, 1, product, u, false, s->drift);
  }
  mem_free(u), mem_free(product);
  if (!product) return error_code();
  TRY(tensor_new(s->d, 2, (int64_t[]){s->rows, s->widest}, &s->shift));
  TRY(tensor_new(s->d, 2, (int64_t[]){n, s->widest}, &s->drift_panel));
  return tensor_new(s->d, 2, (int64_t[]){block, block}, &s->drift_corner);
}

/* y (rows, n, stride ld) += shift[:, :n] */
static void add_shift(const Solve *s, void *y, int64_t ld, int64_t n, int64_t m) {
  Loop l = {.ndim = 2, .operands = 3, .shape = {s->rows, n}, .stride = {{ld, 1}, {ld, 1}, {m, 1}}, .data = {y, y, tensor_data(s->shift)}};
  s->k->binary(B_ADD, &l);
}

void drift_block(Solve *s, int64_t b, int64_t width, int64_t m) {
  s->q->cast_rows(width, width, s->drift + b * s->n + b, s->n, tensor_data(s->drift_corner));
  if (b == 0) return;
  s->q->cast_rows(b, m, s->drift + b, s->n, tensor_data(s->drift_panel));
  Gemm g = {.m = s->rows, .n = m, .k = b, .lda = s->n, .ldb = m, .ldc = m, .alpha = 1, .a = tensor_data(s->done),
            .b = tensor_data(s->drift_panel), .c = tensor_data(s->shift), .batch = 1};
  s->k->gemm(&g);
  add_shift(s, tensor_data(s->current), m, m, m);
  add_shift(s, (char *)tensor_data(s->work) + (size_t)b * s->k->element, s->n, width, m);
}

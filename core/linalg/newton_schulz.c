/* newton_schulz.c - orthogonalisation by matrix products alone.
 *
 * Per step, with k the shorter and l the longer side: A = X X^T as a half product
 * (k^2 l), B = b A + c A A as another one accumulated onto a copy of A (k^3), and
 * X' = a X + B X onto a copy of X (2 k^2 l). A tall X is treated from the right,
 * X' = a X + X B with A = X^T X, so nothing is transposed. */
#include <math.h>

#include "kernel/kernel.h"
#include "linalg/linalg.h"

static const double MUON[3] = {3.4445, -4.7750, 2.0315};

/* One step from x to y (m, n), with scratch a and b (k, k). */
static Status iterate(const double *c, const Tensor *x, Tensor *y, Tensor *a, Tensor *b) {
  const Kernels *kernels = kernels_for(x);
  int64_t m = x->shape[0], n = x->shape[1], k = a->shape[0];
  bool tall = m > n;
  kernels->gram(tall, k, tall ? m : n, 1, tensor_data(x), 0, tensor_data(a));
  TRY(tensor_copy(b, a));
  kernels->gram(false, k, k, c[2], tensor_data(a), c[1], tensor_data(b));
  TRY(tensor_copy(y, x));
  const Tensor *left = tall ? x : b, *right = tall ? b : x;
  kernels->gemm(&(Gemm){.m = m, .n = n, .k = k, .lda = k, .ldb = n, .ldc = n, .alpha = 1, .beta = c[0], .batch = 1,
                        .a = tensor_data(left), .b = tensor_data(right), .c = tensor_data(y)});
  return OK;
}

static void normalise(Tensor *x) {
  const Kernels *kernels = kernels_for(x);
  double norm = sqrt(kernels->dot(tensor_numel(x), tensor_data(x), tensor_data(x)));
  Loop l;
  loop_make(&l, 2, (Tensor *const[]){x, x});
  kernels->unary(U_MUL, &l, 1 / (norm + 1e-7));
}

/* x and y take turns; after an odd number of steps the result lies in y. */
static Status run(Tensor *x, int steps, const double *abc, Tensor *const scratch[3]) {
  Tensor *from = x, *to = scratch[0];
  normalise(x);
  for (int i = 0; i < steps; i++) {
    TRY(iterate(abc, from, to, scratch[1], scratch[2]));
    Tensor *swap = from;
    from = to, to = swap;
  }
  return from == x ? OK : tensor_copy(x, from);
}

Status linalg_newton_schulz(Tensor *x, int steps, const double *abc) {
  if (x->ndim != 2 || !dtype_is_real(x->dtype) || !tensor_contiguous(x))
    return fail(ERR_SHAPE, "newton_schulz: needs a contiguous real matrix, got %s %s", dtype_name(x->dtype), shape_text(x));
  int64_t k = x->shape[0] < x->shape[1] ? x->shape[0] : x->shape[1], square[2] = {k, k};
  Tensor *scratch[3] = {NULL, NULL, NULL};
  Status s = tensor_like(x, &scratch[0]);
  for (int i = 1; i < 3 && s == OK; i++) s = tensor_new(x->dtype, 2, square, &scratch[i]);
  if (s == OK) s = run(x, steps, abc ? abc : MUON, scratch);
  for (int i = 0; i < 3; i++) tensor_release(scratch[i]);
  return s;
}

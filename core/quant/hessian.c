/* hessian.c - second moments of a layer's inputs: H = (2 / tokens) sum x x^T, the Hessian of
 * the layer's squared output error in each row of its weight. */
#include "kernel/kernel.h"
#include "quant/parts.h"
#include "quant/quant.h"

static Status square_check(const char *op, const Tensor *h, const Tensor *x) {
  int64_t n = x->ndim > 0 ? x->shape[x->ndim - 1] : 0;
  if (!dtype_is_real(h->dtype) || !tensor_contiguous(h)) return fail(ERR_DTYPE, "%s: the matrix must be dense f32 or f64", op);
  if (h->ndim != 2 || h->shape[0] != h->shape[1] || x->ndim < 1 || h->shape[0] != n)
    return fail(ERR_SHAPE, "%s: inputs %s (..., in) do not fit a matrix %s (in, in)", op, shape_text(x), shape_text(h));
  return OK;
}

/* x as a dense matrix of h's type; one reference. */
static Status inputs_as(const char *op, const Tensor *x, DType d, Tensor **out) {
  TRY(x->dtype == d ? tensor_contiguous_copy(x, out) : tensor_cast(x, d, out));
  Status s = finite_check(op, "the input", *out);
  if (s) tensor_release(*out), *out = NULL;
  return s;
}

Status hessian_add(Tensor *h, const Tensor *x) {
  TRY(square_check("quant.hessian", h, x));
  Tensor *dense;
  TRY(inputs_as("quant.hessian", x, h->dtype, &dense));
  int64_t n = h->shape[0], tokens = n ? tensor_numel(dense) / n : 0;
  if (tokens) kernels_for(h)->gram(true, n, tokens, 1, tensor_data(dense), 1, tensor_data(h));
  tensor_touch(h);
  tensor_release(dense);
  return OK;
}

Status hessian_finish(Tensor *h, int64_t tokens) {
  if (tokens < 1) return fail(ERR_ARGUMENT, "quant.hessian: no calibration inputs were seen (%lld tokens)", (long long)tokens);
  Loop l;
  loop_make(&l, 2, (Tensor *[]){h, h});
  kernels_for(h)->unary(U_MUL, &l, 2.0 / (double)tokens);
  tensor_touch(h);
  return OK;
}

Status hessian_diagonal(const Tensor *h, Tensor **out) {
  TRY(square_check("quant.hessian", h, h));
  TRY(tensor_new(F64, 1, h->shape, out));
  quant_kernels_for(h)->diagonal(h->shape[0], tensor_data(h), tensor_data(*out));
  return OK;
}

static void drift_product(Tensor *d, const Tensor *gap, const Tensor *x) {
  int64_t n = d->shape[0];
  Gemm g = {.transpose_a = true, .m = n, .n = n, .k = n ? tensor_numel(x) / n : 0, .lda = n, .ldb = n, .ldc = n, .alpha = 1, .beta = 1,
            .a = tensor_data(gap), .b = tensor_data(x), .c = tensor_data(d), .batch = 1};
  kernels_for(d)->gemm(&g);
  tensor_touch(d);
}

Status drift_add(Tensor *d, const Tensor *full, const Tensor *x) {
  TRY(square_check("quant.drift", d, x));
  if (!tensor_same_shape(full, x))
    return fail(ERR_SHAPE, "quant.drift: inputs of the full model %s and of the quantized one %s differ", shape_text(full), shape_text(x));
  Tensor *a = NULL, *b = NULL, *gap = NULL;
  Status s = inputs_as("quant.drift", full, d->dtype, &a);
  if (!s) s = inputs_as("quant.drift", x, d->dtype, &b);
  if (!s) s = tensor_like(b, &gap);
  if (!s) {
    Loop l;
    loop_make(&l, 3, (Tensor *[]){gap, a, b});
    kernels_for(d)->binary(B_SUB, &l);
    drift_product(d, gap, b);
  }
  tensor_release(a), tensor_release(b), tensor_release(gap);
  return s;
}

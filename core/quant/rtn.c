/* rtn.c - round to nearest: each group's scale from its own values, each value by itself. */
#include <math.h>

#include "kernel/kernel.h"
#include "quant/quant.h"
#include "quant/parts.h"

void quantized_release(Quantized *q) {
  Tensor *all[] = {q->value, q->scale, q->zero, q->codes, q->extra, q->group_index};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) tensor_release(all[i]);
  *q = (Quantized){0};
}

Status finite_check(const char *op, const char *what, const Tensor *t) {
  if (dtype_is_real(t->dtype) && tensor_contiguous(t) && kernels_for(t)->all_finite(tensor_numel(t), tensor_data(t))) return OK;
  int64_t bad = kernel_count_nonfinite(t);
  if (bad == 0) return OK;
  return fail(ERR_NUMERIC, "%s: %s %s holds %lld values that are NaN or infinite", op, what, shape_text(t), (long long)bad);
}

Status weight_check(const char *op, const Tensor *w) {
  if (!dtype_is_real(w->dtype)) return fail(ERR_DTYPE, "%s: weight must be f32 or f64, got %s", op, dtype_name(w->dtype));
  if (w->ndim < 1) return fail(ERR_SHAPE, "%s: weight must have at least one axis", op);
  return finite_check(op, "weight", w);
}

Status scale_unit(const Format *f, const QuantKernels *k, int64_t n, const void *w, double *unit, Tensor **extra) {
  *unit = 1;
  if (f->store != STORE_E4M3_TENSOR) return OK;
  float value = (float)(k->absmax(n, w) / (448 * f->grid.reach)); /* stored as a float */
  if (value > 0) *unit = value;
  TRY(tensor_new(F32, 0, NULL, extra));
  return tensor_fill(*extra, *unit);
}

Status tensor_scales(const Format *f, const QuantKernels *k, double unit, const Groups *g, const void *w, Tensor *scale, Tensor *zero, Tensor **extra) {
  int64_t n = g->rows * g->slots;
  k->params(f, unit, g, w, tensor_data(scale), tensor_data(zero));
  if (f->store != STORE_DYNAMIC8) return OK;
  TRY(tensor_new(F32, 1, (int64_t[]){(n + SCALE_BLOCK - 1) / SCALE_BLOCK + 1}, extra));
  k->store_scales(n, tensor_data(scale), tensor_data(*extra));
  return OK;
}

Status value_error(const char *op, const QuantKernels *k, const Tensor *w, const Tensor *value, double *mse) {
  int64_t n = tensor_numel(w);
  *mse = n ? k->squared_error(n, tensor_data(w), tensor_data(value)) / (double)n : 0;
  return isfinite(*mse) ? OK : finite_check(op, "the rounded weight", value);
}

static Status round_all(const Format *f, const Tensor *w, const Groups *g, Random *random, Quantized *out) {
  const QuantKernels *k = quant_kernels_for(w);
  int64_t n = tensor_numel(w);
  void *data = tensor_data(w);
  double unit;
  TRY(scale_unit(f, k, n, data, &unit, &out->extra));
  TRY(tensor_scales(f, k, unit, g, data, out->scale, out->zero, &out->extra));
  k->round(f, g, data, tensor_data(out->scale), tensor_data(out->zero), random, tensor_data(out->value), out->codes ? tensor_data(out->codes) : NULL);
  if (random) random->counter += (uint64_t)(n + 3) / 4;
  return value_error("quant.rtn", k, w, out->value, &out->mse);
}

Status rtn(const Format *f, const Tensor *w, Random *random, bool codes, Quantized *out) {
  *out = (Quantized){0};
  TRY(format_check(f));
  TRY(weight_check("quant.rtn", w));
  int64_t cols = w->shape[w->ndim - 1], rows = cols ? tensor_numel(w) / cols : 0;
  Groups g = format_groups(f, rows, cols);
  out->bits = format_bits(f, rows, cols);
  Tensor *dense = NULL;
  Status s = tensor_contiguous_copy(w, &dense);
  if (!s) s = tensor_like(dense, &out->value);
  if (!s) s = tensor_new(w->dtype, 2, (int64_t[]){g.rows, g.slots}, &out->scale);
  if (!s) s = tensor_new(w->dtype, 2, (int64_t[]){g.rows, g.slots}, &out->zero);
  if (!s && codes) s = tensor_new(I32, w->ndim, w->shape, &out->codes);
  if (!s && tensor_numel(w)) s = round_all(f, dense, &g, random, out);
  tensor_release(dense);
  if (s) quantized_release(out);
  return s;
}

/* rtn.c - round to nearest: each group's scale from its own values, each value by itself. */
#include "kernel/kernel.h"
#include "quant/quant.h"
#include "quant/parts.h"

void quantized_release(Quantized *q) {
  Tensor *all[] = {q->value, q->scale, q->zero, q->codes, q->group_index};
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

double scale_unit(const Format *f, const QuantKernels *k, int64_t n, const void *w) {
  if (f->store != STORE_E4M3_TENSOR) return 1;
  double unit = k->absmax(n, w) / (448 * f->grid.reach);
  return unit > 0 ? unit : 1;
}

static Status round_all(const Format *f, const Tensor *w, const Groups *g, Random *random, Quantized *out) {
  const QuantKernels *k = quant_kernels_for(w);
  int64_t n = tensor_numel(w);
  void *scale = tensor_data(out->scale), *zero = tensor_data(out->zero), *data = tensor_data(w);
  k->params(f, scale_unit(f, k, n, data), g, data, scale, zero);
  if (f->store == STORE_DYNAMIC8) k->store_scales(g->rows * g->slots, scale);
  k->round(f, g, data, scale, zero, random, tensor_data(out->value), out->codes ? tensor_data(out->codes) : NULL);
  if (random) random->counter += (uint64_t)(n + 3) / 4;
  out->mse = n ? k->squared_error(n, data, tensor_data(out->value)) / (double)n : 0;
  return OK;
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

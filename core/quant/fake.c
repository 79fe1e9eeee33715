/* fake.c - quantization inside a forward pass: the values, and where the gradient goes through. */
#include "kernel/kernel.h"
#include "quant/parts.h"
#include "quant/quant.h"

static Status make_mask(const Format *f, const Tensor *x, double trust, const Quantized *q, Tensor **mask) {
  TRY(tensor_like(x, mask));
  int64_t cols = x->shape[x->ndim - 1], n = tensor_numel(x);
  Groups g = format_groups(f, cols ? n / cols : 0, cols);
  const QuantKernels *k = quant_kernels_for(x);
  void *data = tensor_data(x), *scale = tensor_data(q->scale);
  if (trust > 0) k->trust(f, &g, trust, data, tensor_data(q->value), scale, tensor_data(*mask));
  else k->inside(f, &g, data, scale, tensor_data(q->zero), tensor_data(*mask));
  return OK;
}

Status fake_quant(const Format *f, const Tensor *x, double trust, Quantized *out, Tensor **mask) {
  *mask = NULL;
  *out = (Quantized){0};
  if (trust > 0 && f->range != RANGE_RMS)
    return fail(ERR_ARGUMENT, "quant.fake: a trust factor needs a format scaled by the root mean square (q.quant.gaussian), not %s", f->name);
  TRY(rtn(f, x, NULL, false, out));
  Tensor *dense;
  Status s = tensor_contiguous_copy(x, &dense);
  if (!s) s = make_mask(f, dense, trust, out, mask);
  tensor_release(dense);
  if (s) quantized_release(out);
  return s;
}

Status fake_quant_with(const Format *f, const Tensor *x, const Tensor *scale, Tensor **value, Tensor **mask) {
  *value = *mask = NULL;
  TRY(format_check(f));
  TRY(weight_check("quant.fake", x));
  int64_t cols = x->shape[x->ndim - 1], rows = cols ? tensor_numel(x) / cols : 0;
  Groups g = format_groups(f, rows, cols);
  if (tensor_numel(scale) != g.rows * g.slots || scale->dtype != x->dtype || !tensor_contiguous(scale))
    return fail(ERR_SHAPE, "quant.fake: %lld scales %s for %s (%s), one for each group are %lld", (long long)tensor_numel(scale), dtype_name(scale->dtype),
                shape_text(x), dtype_name(x->dtype), (long long)(g.rows * g.slots));
  if (f->range != RANGE_ABSMAX) return fail(ERR_ARGUMENT, "quant.fake: a given scale needs a format without a zero point, not %s", f->name);
  const QuantKernels *k = quant_kernels_for(x);
  Tensor *dense = NULL, *zero = NULL;
  Status s = tensor_contiguous_copy(x, &dense);
  if (!s) s = tensor_like(scale, &zero);
  if (!s) s = tensor_fill(zero, f->zero);
  if (!s) s = tensor_like(dense, value);
  if (!s) s = tensor_like(dense, mask);
  if (!s) {
    k->round(f, &g, tensor_data(dense), tensor_data(scale), tensor_data(zero), NULL, tensor_data(*value), NULL);
    k->inside(f, &g, tensor_data(dense), tensor_data(scale), tensor_data(zero), tensor_data(*mask));
  }
  tensor_release(dense), tensor_release(zero);
  if (s) tensor_release(*value), tensor_release(*mask), *value = *mask = NULL;
  return s;
}

/* pack.c - quantized weights as the bits that are stored: codes, scales, zero points.
 *
 * Packing takes the values that a method gave, with its scales and zero points, so that any
 * method's result can be packed; unpacking gives the same values to the last bit. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"
#include "quant/parts.h"
#include "quant/quant.h"

void packed_release(Packed *p) {
  Tensor *all[] = {p->codes, p->scale, p->zero, p->extra, p->group_index};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) tensor_release(all[i]);
  *p = (Packed){0};
}

/* Weights, seen as the format groups them. */
static Groups groups_of(const Format *f, int ndim, const int64_t *shape) {
  int64_t cols = shape[ndim - 1], rows = 1;
  for (int i = 0; i + 1 < ndim; i++) rows *= shape[i];
  return format_groups(f, rows, cols);
}

static bool is_ternary(const Format *f) { return f->grid.kind == GRID_INTEGER && f->grid.high - f->grid.low == 2; }
static int code_bits(const Format *f) { return (int)ceil(f->bits); }
static int scale_bits(const Format *f) { return f->store == STORE_F16 || f->store == STORE_BF16 ? 16 : 8; }
static bool has_zeros(const Format *f) { return f->range == RANGE_MINMAX || f->range == RANGE_MINMAX_RAW; }
static int code_base(const Format *f) { return f->grid.kind == GRID_INTEGER ? f->grid.low : 0; } /* stored codes start at 0 */

static int64_t code_words(const Format *f, int64_t n) { return is_ternary(f) ? packed_words_ternary(n) : packed_words(n, code_bits(f)); }

static Status words(int64_t n, int bits, const int32_t *codes, Tensor **out) {
  int64_t count = packed_words(n, bits);
  TRY(tensor_new(I32, 1, &count, out));
  pack_bits(n, bits, codes, tensor_data(*out));
  return OK;
}

static Status check(const Format *f, const Quantized *q, const Groups *g) {
  const Tensor *v = q->value;
  if (v->dtype != F32) return fail(ERR_DTYPE, "quant.pack: values must be f32 (scales are stored as f32 at most), got %s", dtype_name(v->dtype));
  if (!tensor_contiguous(v) || q->scale->dtype != F32 || q->zero->dtype != F32 || tensor_numel(q->scale) != g->rows * g->slots ||
      tensor_numel(q->zero) != g->rows * g->slots)
    return fail(ERR_SHAPE, "quant.pack: %s of format %s has %lld scales and zero points, got %s and %s", shape_text(v), f->name,
                (long long)(g->rows * g->slots), shape_text(q->scale), shape_text(q->zero));
  if ((f->store == STORE_DYNAMIC8 || f->store == STORE_E4M3_TENSOR) && !q->extra)
    return fail(ERR_ARGUMENT, "quant.pack: format %s needs what its method put into report.extra", f->name);
  return finite_check("quant.pack", "the value", v);
}

static Status pack_codes(const Format *f, const Groups *g, const Quantized *q, Packed *out) {
  int64_t n = g->rows * g->cols, count = code_words(f, n);
  int32_t *codes = mem_alloc((size_t)n * sizeof *codes);
  Status s = codes ? tensor_new(I32, 1, &count, &out->codes) : error_code();
  if (!s) {
    const int32_t *slot = q->group_index ? tensor_data(q->group_index) : NULL;
    quant_kernels_for(q->value)->encode(f, g, slot, tensor_data(q->value), tensor_data(q->scale), tensor_data(q->zero), code_base(f), codes);
    if (is_ternary(f)) pack_ternary(n, codes, tensor_data(out->codes));
    else pack_bits(n, code_bits(f), codes, tensor_data(out->codes));
  }
  mem_free(codes);
  return s;
}

static Status pack_numbers(const Format *f, const Groups *g, const Quantized *q, Packed *out) {
  int64_t n = g->rows * g->slots;
  const QuantKernels *k = quant_kernels_for(q->value);
  int32_t *codes = mem_alloc((size_t)n * sizeof *codes);
  Status s = codes ? OK : error_code();
  if (!s && f->store == STORE_EXACT) {
    s = tensor_cast(q->scale, F32, &out->scale);
  } else if (!s) {
    k->encode_scales(f, q->extra ? tensor_data(q->extra) : NULL, n, tensor_data(q->scale), codes);
    s = words(n, scale_bits(f), codes, &out->scale);
  }
  if (!s && f->range == RANGE_MINMAX_REAL) {
    s = tensor_cast(q->zero, F32, &out->zero);
  } else if (!s && has_zeros(f)) {
    k->encode_zeros(n, tensor_data(q->zero), code_base(f), codes);
    s = words(n, code_bits(f), codes, &out->zero);
  }
  mem_free(codes);
  return s;
}

Status pack(const Format *f, const Quantized *q, Packed *out) {
  *out = (Packed){0};
  if (q->value->ndim < 1) return fail(ERR_SHAPE, "quant.pack: the value must have at least one axis");
  Groups g = groups_of(f, q->value->ndim, q->value->shape);
  TRY(check(f, q, &g));
  Status s = pack_codes(f, &g, q, out);
  if (!s) s = pack_numbers(f, &g, q, out);
  if (s) packed_release(out);
  else out->extra = tensor_retain(q->extra), out->group_index = tensor_retain(q->group_index);
  return s;
}

/* --- back --- */

static Status check_packed(const Format *f, const Packed *p, const Groups *g) {
  int64_t n = g->rows * g->slots, scales = f->store == STORE_EXACT ? n : packed_words(n, scale_bits(f));
  bool zeros = has_zeros(f) || f->range == RANGE_MINMAX_REAL;
  int64_t zero_words = f->range == RANGE_MINMAX_REAL ? n : packed_words(n, code_bits(f));
  if (!p->codes || !p->scale || (zeros && !p->zero) || p->codes->dtype != I32 || tensor_numel(p->codes) != code_words(f, g->rows * g->cols) ||
      tensor_numel(p->scale) != scales || (zeros && tensor_numel(p->zero) != zero_words))
    return fail(ERR_FORMAT, "quant.unpack: the parts do not hold a (%lld, %lld) matrix of format %s", (long long)g->rows, (long long)g->cols, f->name);
  return OK;
}

static Status unpack_numbers(const Format *f, const Groups *g, const Packed *p, Tensor *scale, Tensor *zero) {
  int64_t n = g->rows * g->slots;
  const QuantKernels *k = quant_kernels_for(scale);
  int32_t *codes = mem_alloc((size_t)n * sizeof *codes);
  Status s = codes ? OK : error_code();
  if (!s && f->store == STORE_EXACT) {
    s = tensor_copy(scale, p->scale);
  } else if (!s) {
    unpack_bits(n, scale_bits(f), tensor_data(p->scale), codes);
    k->decode_scales(f, p->extra ? tensor_data(p->extra) : NULL, n, codes, tensor_data(scale));
  }
  if (!s && f->range == RANGE_MINMAX_REAL) {
    s = tensor_copy(zero, p->zero);
  } else if (!s && has_zeros(f)) {
    unpack_bits(n, code_bits(f), tensor_data(p->zero), codes);
    k->decode_zeros(n, codes, code_base(f), tensor_data(zero));
  } else if (!s) {
    s = tensor_fill(zero, f->zero);
  }
  mem_free(codes);
  return s;
}

static Status unpack_codes(const Format *f, const Groups *g, const Packed *p, const Tensor *scale, const Tensor *zero, Tensor *value) {
  int64_t n = g->rows * g->cols;
  int32_t *codes = mem_alloc((size_t)n * sizeof *codes);
  if (!codes) return error_code();
  if (is_ternary(f)) unpack_ternary(n, tensor_data(p->codes), codes);
  else unpack_bits(n, code_bits(f), tensor_data(p->codes), codes);
  const int32_t *slot = p->group_index ? tensor_data(p->group_index) : NULL;
  quant_kernels_for(value)->decode(f, g, slot, codes, code_base(f), tensor_data(scale), tensor_data(zero), tensor_data(value));
  mem_free(codes);
  return OK;
}

Status unpack(const Format *f, int ndim, const int64_t *shape, const Packed *p, Tensor **out) {
  *out = NULL;
  if (ndim < 1) return fail(ERR_SHAPE, "quant.unpack: the shape must have at least one axis");
  Groups g = groups_of(f, ndim, shape);
  TRY(check_packed(f, p, &g));
  Tensor *scale = NULL, *zero = NULL;
  Status s = tensor_new(F32, 2, (int64_t[]){g.rows, g.slots}, &scale);
  if (!s) s = tensor_new(F32, 2, (int64_t[]){g.rows, g.slots}, &zero);
  if (!s) s = tensor_new(F32, ndim, shape, out);
  if (!s) s = unpack_numbers(f, &g, p, scale, zero);
  if (!s) s = unpack_codes(f, &g, p, scale, zero, *out);
  tensor_release(scale), tensor_release(zero);
  if (s) tensor_release(*out), *out = NULL;
  return s;
}

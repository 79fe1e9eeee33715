/* hqq.c - half-quadratic quantization (Badri and Shaji, 2023): no calibration data; scales stay, and
 * real-valued zero points are moved so that sum |error|^p, p < 1, falls.
 *
 * The mean |error| of the whole tensor decides when to stop. As in the reference's default loop
 * (mobiusml/hqq), beta is constant and the move that did not help is kept. */
#include <math.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "kernel/kernel.h"
#include "quant/parts.h"
#include "quant/quant.h"

static Status iterate(const Format *f, const Groups *g, const HqqOptions *o, const void *w, const void *scale, void *zero, const QuantKernels *k,
                      int *iterations) {
  double *error = mem_alloc((size_t)g->rows * sizeof *error), best = INFINITY;
  Status s = error ? OK : error_code();
  bool falling = true;
  for (*iterations = 0; !s && falling && *iterations < o->iterations; (*iterations)++) {
    double total = 0;
    for (int64_t r = 0; r < g->rows; r++) error[r] = 0;
    k->hqq_step(f, g, w, scale, zero, o->p, o->beta, error);
    for (int64_t r = 0; r < g->rows; r++) total += error[r];
    s = interrupt_check();
    falling = total < best;
    best = total;
  }
  mem_free(error);
  return s;
}

static Status run(const Format *f, const Tensor *w, const HqqOptions *o, Quantized *out, int *iterations) {
  int64_t cols = w->shape[w->ndim - 1], n = tensor_numel(w), rows = cols ? n / cols : 0;
  Groups g = format_groups(f, rows, cols);
  const QuantKernels *k = quant_kernels_for(w);
  out->bits = format_bits(f, rows, cols);
  TRY(tensor_like(w, &out->value));
  TRY(tensor_new(w->dtype, 2, (int64_t[]){g.rows, g.slots}, &out->scale));
  TRY(tensor_new(w->dtype, 2, (int64_t[]){g.rows, g.slots}, &out->zero));
  if (n == 0) return OK;
  void *data = tensor_data(w), *scale = tensor_data(out->scale), *zero = tensor_data(out->zero);
  k->params(f, 1, &g, data, scale, zero);
  TRY(iterate(f, &g, o, data, scale, zero, k, iterations));
  k->round(f, &g, data, scale, zero, NULL, tensor_data(out->value), NULL);
  return value_error("quant.hqq", k, w, out->value, &out->mse);
}

Status hqq(const Tensor *w, const HqqOptions *o, Quantized *out, int *iterations) {
  *out = (Quantized){0};
  *iterations = 0;
  Format f;
  TRY(format_int(o->bits, "real", &f));
  f.group = o->group;
  TRY(format_check(&f));
  TRY(weight_check("quant.hqq", w));
  if (!(o->p > 0 && o->p <= 1) || !(o->beta > 0)) return fail(ERR_ARGUMENT, "quant.hqq: p must be in (0, 1] and beta above 0, got %g and %g", o->p, o->beta);
  Tensor *dense;
  TRY(tensor_contiguous_copy(w, &dense));
  Status s = run(&f, dense, o, out, iterations);
  tensor_release(dense);
  if (s) quantized_release(out);
  return s;
}

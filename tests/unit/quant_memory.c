/* quant_memory.c - every quantizer when the n-th allocation fails: ERR_MEMORY, nothing leaked, nothing half done. */
#include "quant/quant.h"
#include "tests/tap.h"

static Tensor *w, *h, *drift, *x;

static Status run_rtn(void) {
  Format f;
  Quantized q;
  TRY(format_named("nf4_double", &f));
  TRY(rtn(&f, w, NULL, true, &q));
  quantized_release(&q);
  return OK;
}

static Status run_gptq(GptqOrder order, const char *name, bool is_static) {
  GptqOptions o = {.damp = 0.01, .block = 16, .order = order, .static_groups = is_static, .drift = 0.25};
  GptqReport report;
  Quantized q;
  TRY(format_named(name, &o.format));
  o.format.group = 8;
  TRY(gptq(w, h, drift, &o, &q, &report));
  quantized_release(&q);
  return OK;
}
static Status run_gptq_activation(void) { return run_gptq(GPTQ_ACTIVATION, "int3", false); }
static Status run_gptq_grouped(void) { return run_gptq(GPTQ_GROUPED, "nvfp4", false); }
static Status run_gptq_static(void) { return run_gptq(GPTQ_PLAIN, "nf4_double", true); }

static Status run_hqq(void) {
  HqqOptions o = {.bits = 3, .iterations = 3, .group = 8, .p = 0.7, .beta = 10};
  Quantized q;
  int iterations;
  TRY(hqq(w, &o, &q, &iterations));
  quantized_release(&q);
  return OK;
}

static Status run_fake(void) {
  Format f;
  Quantized q;
  Tensor *mask;
  TRY(format_gaussian(4, &f));
  TRY(fake_quant(&f, w, 0.1, &q, &mask));
  quantized_release(&q);
  tensor_release(mask);
  return OK;
}

static Status run_pack(void) {
  Format f;
  Quantized q;
  Packed p;
  Tensor *back;
  TRY(format_named("nf4_double", &f));
  TRY(rtn(&f, w, NULL, false, &q));
  Status s = pack(&f, &q, &p);
  if (!s) {
    s = unpack(&f, w->ndim, w->shape, &p, &back);
    packed_release(&p);
  }
  if (!s) tensor_release(back);
  quantized_release(&q);
  return s;
}

static Status run_moments(void) {
  Tensor *sum, *diagonal;
  TRY(tensor_zeros(F32, 2, h->shape, &sum));
  Status s = hessian_add(sum, x);
  if (!s) s = hessian_finish(sum, 40);
  if (!s && !(s = hessian_diagonal(sum, &diagonal))) tensor_release(diagonal);
  if (!s) s = drift_add(sum, x, x);
  tensor_release(sum);
  return s;
}

static void check(const char *name, Status (*run)(void)) {
  MemStats before = mem_stats();
  int n = 1, wrong = 0;
  Status s;
  do {
    mem_fail_at((size_t)n);
    s = run();
    mem_fail_at(0);
    MemStats after = mem_stats();
    wrong += (s != OK && s != ERR_MEMORY) || after.blocks != before.blocks;
    n++;
  } while (s != OK && n < 500);
  ok(s == OK && !wrong && n > 2, "%s: %d places to fail, each clean", name, n - 2);
}

int main(void) {
  Random r = random_stream(1, "memory");
  tensor_new(F32, 2, (int64_t[]){6, 40}, &w), tensor_fill_normal(w, &r, 0, 1);
  tensor_new(F32, 2, (int64_t[]){40, 40}, &x), tensor_fill_normal(x, &r, 0, 1);
  tensor_zeros(F32, 2, (int64_t[]){40, 40}, &h), tensor_zeros(F32, 2, (int64_t[]){40, 40}, &drift);
  hessian_add(h, x), hessian_finish(h, 40), hessian_add(drift, x), hessian_finish(drift, 400);
  check("rtn", run_rtn);
  check("gptq, act_order", run_gptq_activation);
  check("gptq, grouped", run_gptq_grouped);
  check("gptq, static", run_gptq_static);
  check("hqq", run_hqq);
  check("fake_quant", run_fake);
  check("pack", run_pack);
  check("second moments", run_moments);
  tensor_release(w), tensor_release(x), tensor_release(h), tensor_release(drift);
  return done();
}

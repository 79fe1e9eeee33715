/* quant_gptq.c - GPTQ against results of the published implementation (tests/parity/gptq):
 * share of equal entries, output error, and the loss it reports. */
#include <stdlib.h>

#include "io/safetensors.h"
#include "quant/quant.h"
#include "tests/tap.h"

static Tensor *read_tensor(const SafeTensors *f, const char *name) {
  const SafeEntry *e = safetensors_find(f, name);
  Tensor *t = NULL;
  if (!e || tensor_new(F32, e->ndim, e->shape, &t)) return NULL;
  memcpy(tensor_data(t), e->data, (size_t)e->numel * sizeof(float));
  return t;
}

static const char *setting(const SafeTensors *f, const char *key) {
  for (int i = 0; i < f->pairs; i++)
    if (strcmp(f->metadata[i].key, key) == 0) return f->metadata[i].value;
  return "";
}

static bool on(const SafeTensors *f, const char *key) { return strcmp(setting(f, key), "True") == 0; }

/* The sums x^T x of the file's calibration inputs and how many tokens they hold. */
static Tensor *read_gram(const SafeTensors *f, int64_t *tokens) {
  Tensor *x = read_tensor(f, "X"), *h = NULL;
  *tokens = atoi(setting(f, "tokens"));
  if (!x) return read_tensor(f, "gram");
  *tokens = x->shape[0];
  if (tensor_zeros(F32, 2, (int64_t[]){x->shape[1], x->shape[1]}, &h) || hessian_add(h, x)) h = NULL;
  tensor_release(x);
  return h;
}

static GptqOptions options_of(const SafeTensors *f) {
  GptqOptions o = {.damp = 0.01, .block = 128};
  format_int(atoi(setting(f, "bits")), on(f, "sym") ? "gptq" : "asymmetric", &o.format);
  o.format.group = atoi(setting(f, "group")) > 0 ? atoi(setting(f, "group")) : GROUP_ROW;
  if (on(f, "mse")) format_search(&o.format);
  o.order = on(f, "act_order") ? GPTQ_ACTIVATION : GPTQ_PLAIN;
  o.static_groups = on(f, "static_groups");
  return o;
}

/* |x (w - q)^T|^2 from h = (2 / tokens) x^T x */
static double output_error(const Tensor *w, const Tensor *q, const Tensor *h, int64_t tokens) {
  const float *a = tensor_data(w), *b = tensor_data(q), *m = tensor_data(h);
  int64_t rows = w->shape[0], n = w->shape[1];
  double sum = 0;
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < n; i++) {
      double inner = 0, d = (double)a[r * n + i] - b[r * n + i];
      for (int64_t j = 0; d != 0 && j < n; j++) inner += m[i * n + j] * ((double)a[r * n + j] - b[r * n + j]);
      sum += d * inner;
    }
  return sum * (double)tokens / 2;
}

static double equal_share(const Tensor *a, const Tensor *b) {
  const float *x = tensor_data(a), *y = tensor_data(b);
  int64_t n = tensor_numel(a), equal = 0;
  for (int64_t i = 0; i < n; i++) equal += fabsf(x[i] - y[i]) <= 2e-6f * fmaxf(1, fabsf(y[i]));
  return (double)equal / (double)n;
}

static void compare(const char *name, const SafeTensors *f) {
  int64_t tokens;
  Tensor *w = read_tensor(f, "W"), *expected = read_tensor(f, "Q"), *loss = read_tensor(f, "loss"), *h = read_gram(f, &tokens);
  GptqOptions o = options_of(f);
  Quantized q;
  GptqReport report;
  double reference_loss = *(float *)tensor_data(loss) / (double)tokens; /* the reference counted all tokens as one sample */
  if (ok(!hessian_finish(h, tokens) && !gptq(w, h, NULL, &o, &q, &report), "%s: %s runs %s", name, o.format.name, error_message())) {
    double share = equal_share(q.value, expected);
    ok(share >= 0.999, "%s: %.3f %% of the entries equal", name, 100 * share);
    near_(output_error(w, q.value, h, tokens) / output_error(w, expected, h, tokens), 1, 2e-3, "the output error is the reference's");
    near_(report.loss / reference_loss, 1, 2e-3, "the loss is the reference's");
    near_(report.damp, 0.01, 0, "the damping asked for was enough");
    quantized_release(&q);
  }
  tensor_release(w), tensor_release(expected), tensor_release(loss), tensor_release(h);
}

int main(void) {
  const char *names[] = {"b2_g128_asym_mse", "b3_g128_sym",  "b3_g128_sym_mse", "b3_g32_asym_static",
                         "b4_g128_asym",     "b4_g64_asym_act_static", "b4_grow_asym_act"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    char path[256];
    SafeTensors *f;
    snprintf(path, sizeof path, "tests/parity/gptq/%s.safetensors", names[i]);
    if (!ok(!safetensors_open(path, &f), "%s opens %s", path, error_message())) continue;
    compare(names[i], f);
    safetensors_close(f);
  }
  return done();
}

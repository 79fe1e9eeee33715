/* The dense Hessian (f64) of a small net around every op of the table: its columns forward over reverse, against reverse over
 * reverse and against central differences of the gradient. The recorded gradients are walked, and an op of the table that stood
 * in none of them is a failure: a new op needs a line here. */
#include "autograd/graph.h"
#include "autograd/ops/ops.h"
#include "tests/unit/op_check.h"

extern const OpInfo *const unary_ops[];
enum { MOST = 64 };

/* --- which ops were met --- */

static const OpInfo *met[256];
static int met_count;

static bool was_met(const OpInfo *op) {
  for (int i = 0; i < met_count; i++)
    if (met[i] == op) return true;
  return false;
}

static void note_ops(int count, Tensor *const *g) {
  Walk w;
  if (walk_make(&w, count, g) != OK) return;
  for (int i = 0; i < w.count; i++)
    if (!was_met(w.nodes[i]->op)) met[met_count++] = w.nodes[i]->op;
  walk_free(&w);
}

/* --- dense Hessians --- */

static double *entry(const Subject *s, Tensor *const *list, int64_t at) { /* the at-th number of a list of dense tensors */
  for (int i = 0; i < s->inputs; at -= tensor_numel(list[i++]))
    if (at < tensor_numel(list[i])) return (double *)tensor_data(list[i]) + at;
  return NULL;
}

/* Column j by a tangent of the recorded gradient, and by the gradient of its j-th entry. */
static bool column(Subject *s, Tensor *const *g, int64_t j, double *forward, double *reverse) {
  Tensor *hv[8], *inner = NULL;
  Pool p = pool_open();
  for (int i = 0; i < s->inputs; i++) tensor_fill(s->along[i], 0);
  *entry(s, s->along, j) = 1;
  bool good = graph_jvp(s->inputs, g, s->inputs, s->in, s->along, true, hv) == OK;
  if (good) collect(s->inputs, hv, forward);
  for (int i = 0; good && i < s->inputs; i++) {
    Tensor *term = op_sum(op_mul(g[i], op_detach(s->along[i])), ALL_AXES, false);
    inner = inner ? op_add(inner, term) : term;
  }
  good = good && inner && graph_grad(1, &inner, NULL, s->inputs, s->in, false, hv) == OK;
  if (good) collect(s->inputs, hv, reverse);
  pool_close(p);
  return good;
}

/* Column j in one pass forward and one back, from a graph of its own, which that uses up. */
static bool column_at_once(Subject *s, int64_t j, double *out) {
  Tensor *hv[8];
  Pool p = pool_open();
  for (int i = 0; i < s->inputs; i++) tensor_fill(s->along[i], 0);
  *entry(s, s->along, j) = 1;
  Tensor *loss = loss_of(s);
  bool good = loss && graph_hvp(loss, s->inputs, s->in, s->along, false, NULL, hv) == OK;
  if (good) collect(s->inputs, hv, out);
  pool_close(p);
  return good;
}

/* All columns from one graph, which stays, and one cache. */
static bool columns_shared(Subject *s, int64_t n, double share, double *out) {
  HvpCache *cache = NULL;
  Pool p = pool_open();
  Tensor *loss = loss_of(s), *hv[8];
  bool good = loss && hvp_cache_new(loss, share, &cache) == OK;
  for (int64_t j = 0; good && j < n; j++) {
    Pool inner = pool_open();
    for (int i = 0; i < s->inputs; i++) tensor_fill(s->along[i], 0);
    *entry(s, s->along, j) = 1;
    if ((good = graph_hvp(loss, s->inputs, s->in, s->along, false, cache, hv) == OK)) collect(s->inputs, hv, out + j * n);
    pool_close(inner);
  }
  hvp_cache_free(cache);
  pool_close(p);
  return good;
}

static int64_t differing(int64_t n, const double *a, const double *b) {
  int64_t count = 0;
  for (int64_t i = 0; i < n; i++) count += !(a[i] == b[i]);
  return count;
}

/* Column j by differences of the gradient. */
static void differences(Subject *s, int64_t j, int64_t n, double *out) {
  double up[MOST], down[MOST], *x = entry(s, s->in, j), keep = *x, h = 1e-5;
  *x = keep + h, gradients(s, up);
  *x = keep - h, gradients(s, down);
  *x = keep;
  for (int64_t i = 0; i < n; i++) out[i] = (up[i] - down[i]) / (2 * h);
}

/* round: relative size of rounding in f's own type. */
static void dense(const char *name, Subject *s, int64_t n, double round) {
  static double forward[MOST * MOST], reverse[MOST * MOST], numeric[MOST * MOST];
  Tensor *loss = loss_of(s), *g[8];
  bool good = loss && graph_grad(1, &loss, NULL, s->inputs, s->in, true, g) == OK;
  if (good) note_ops(s->inputs, g);
  for (int64_t j = 0; good && j < n; j++) good = column(s, g, j, forward + j * n, reverse + j * n);
  if (!ok(good, "%s: a Hessian of %d numbers", name, (int)n)) {
    printf("# %s\n", error_message());
    return;
  }
  compare(name, "forward over reverse is reverse over reverse", n * n, forward, reverse, 1e4 * round);
  for (int64_t j = 0; good && j < n; j++) good = column_at_once(s, j, reverse + j * n);
  if (!ok(good && !differing(n * n, forward, reverse), "%s: the same bits without a recorded gradient", name))
    printf("# %s; %d numbers differ\n", good ? "no error" : error_message(), good ? (int)differing(n * n, forward, reverse) : -1);
  for (int k = 0; k < 2; k++) {
    good = columns_shared(s, n, k ? 100 : 0.2, reverse);
    if (!ok(good && !differing(n * n, forward, reverse), "%s: and with gradients shared, %s", name, k ? "all that are dear" : "a few"))
      printf("# %s\n", good ? "no error" : error_message());
  }
  for (int64_t j = 0; j < n; j++) differences(s, j, n, numeric + j * n);
  if (round < 1e-10) compare(name, "and is what differences of the gradient say", n * n, forward, numeric, 2e-6);
}

static void hessian_in(double round, const char *name, OpFunction f, void *context, int inputs, const Shape *shapes) {
  Pool p = pool_open();
  int64_t n;
  Subject s = subject_of(f, context, inputs, shapes, &n);
  if (!s.weight || n > MOST) {
    ok(false, "%s runs, with at most %d parameters", name, MOST);
    printf("# %s\n", error_message());
  } else {
    dense(name, &s, n, round);
  }
  pool_close(p);
}
static void hessian(const char *name, OpFunction f, void *context, int inputs, const Shape *shapes) {
  hessian_in(1e-15, name, f, context, inputs, shapes);
}

/* --- the nets --- */
#define NET(name) static Tensor *name(Tensor *const *x, void *context)

NET(unary) { /* positive arguments, where all are defined and none has a kink */
  Tensor *e = op_exp(x[0]);
  return op_mul(op_unary_named(context, e), e);
}
NET(scalars) {
  (void)context;
  Tensor *e = op_exp(x[0]);
  return op_add_scalar(op_mul_scalar(op_pow_scalar(op_clamp(e, 0.9, 2), 2.5), 0.7), 0.3);
}
NET(arithmetic) {
  (void)context;
  Tensor *e = op_exp(x[0]), *sum = op_add(e, op_square(x[1]));
  return op_sub(op_pow(sum, op_mul(x[0], x[1])), op_div(x[1], e));
}
NET(choices) {
  (void)context;
  Tensor *square = op_square(x[0]), *condition = op_compare("gt", op_detach(x[0]), op_detach(x[1]));
  return op_add(op_maximum(square, x[1]), op_mul(op_minimum(x[0], square), op_where(condition, op_exp(x[0]), square)));
}
NET(shapes) {
  (void)context;
  Tensor *y = op_reshape(op_permute(op_tanh(x[0]), (int[]){2, 0, 1}), 2, (int64_t[]){2, 6}), *part[2];
  if (op_split(y, 1, 2, (int64_t[]){2, 4}, part) != OK) return NULL;
  Tensor *wide = op_concat(2, (Tensor *[]){op_pad(part[0], 1, 1, 0), op_narrow(y, 1, 2, 3)}, 1);
  Tensor *summed = op_sum_to(op_mul(wide, op_contiguous(op_transpose(op_transpose(wide, 0, 1), 0, 1))), 2, (int64_t[]){1, 6});
  return op_add(op_mul(op_expand(summed, 2, (int64_t[]){3, 6}), op_identity(op_exp(op_expand(summed, 2, (int64_t[]){3, 6})))), op_sum(part[1], ALL_AXES, false));
}
NET(dense_again) { return (void)context, op_square(op_contiguous(op_transpose(op_exp(x[0]), 0, 1))); }
NET(reductions) {
  (void)context;
  Tensor *y = op_exp(x[0]), *a = op_mul(op_sum(y, 0, true), op_max(y, 1, true));
  Tensor *b = op_mul(op_softmax(x[0], -1), op_logsumexp(x[0], 0, true));
  return op_add(op_add(a, b), op_mul(op_cumsum(y, 1), op_min(op_square(y), 1, true)));
}
NET(products) { return (void)context, op_matmul(op_tanh(op_matmul(x[0], x[1])), op_transpose(x[1], 0, 1)); }
NET(linears) {
  (void)context;
  Tensor *h = op_linear_activated(x[0], x[1], x[2], "gelu");
  return op_linear_add(h, op_tanh(x[1]), NULL, op_tanh(h));
}

static Tensor *cosines, *sines, *ids; /* constants, owned by main's pool */

NET(turned) {
  (void)context;
  Heading h = {.width = 2, .rotated = 2, .group = 2, .turned = 1};
  Tensor *y = op_linear_turned(x[0], x[1], NULL, cosines, sines, h);
  return op_mul(op_turn_heads(op_tanh(y), cosines, sines, h), y);
}
NET(indexed) {
  (void)context;
  Tensor *rows = op_embedding(op_tanh(x[0]), ids);
  return op_mul(op_pick(op_exp(rows), ids), op_sum(rows, 1, false));
}
NET(layer_normed) { return (void)context, op_layer_norm(op_tanh(x[0]), x[1], x[2], 1e-3); }
NET(rms_normed) { return (void)context, op_rms_norm(op_tanh(x[0]), x[1], 1e-3); }
NET(norms_residual) { /* as in the families with norms on the branches */
  (void)context;
  Tensor *h = op_layer_norm_add(op_tanh(x[0]), x[1], x[2], 1e-3, op_square(x[0]));
  return op_rms_norm_add(op_tanh(h), x[1], 1e-3, h);
}
NET(norms_beside) { /* the gradient of a norm joins that of what passes it by */
  (void)context;
  Tensor *h = op_tanh(x[0]), *y = op_add(op_square(op_layer_norm(h, x[1], x[2], 1e-3)), h);
  return op_add(op_square(op_rms_norm(y, x[1], 1e-3)), y);
}
NET(likelihood) { return (void)context, op_cross_entropy(op_exp(x[0]), ids); }
NET(attended) {
  (void)context;
  Tensor *turn = op_rotary(x[0], cosines, sines, 2, false);
  return op_attention(turn, op_tanh(x[1]), op_exp(x[2]), 0.7, 0);
}
NET(sequence) {
  (void)context;
  Tensor *y = op_conv1d(op_tanh(x[0]), x[1], NULL);
  return op_scan(op_tanh(y), op_exp(y), 1);
}
NET(dropped) {
  (void)context;
  Random r = random_stream(7, "test");
  return op_dropout(op_exp(x[0]), 0.4, &r);
}
NET(rotated) { return (void)context, op_hadamard(op_exp(x[0]), 0, false); }
NET(replaced) { /* a surrogate with the true slope (which it takes as a constant), so that differences may judge it */
  (void)context;
  Tensor *slope = op_add_scalar(op_mul_scalar(op_detach(x[0]), 0), 0.7);
  return op_exp(op_surrogate(op_mul_scalar(op_detach(x[0]), 0.7), 1, (Tensor *[]){x[0]}, &slope));
}
NET(rounded) { return (void)context, op_cast(op_exp(op_cast(op_tanh(x[0]), F32)), F64); }

/* A loss whose nodes have rules for pairs, and others: the logits' gradient and its tangent take the places of the logits and theirs. */
static Tensor *small_model(Tensor *const *w) {
  Heading h = {.width = 2, .rotated = 2, .group = 2, .turned = 1};
  Tensor *x = op_linear_turned(op_rms_norm(w[0], NULL, 1e-5), w[1], NULL, cosines, sines, h);
  return op_cross_entropy(op_linear(op_linear_activated(op_narrow(x, 1, 0, 3), w[2], NULL, "silu"), w[2], NULL), ids);
}

/* What a failure leaves behind serves the next product: every allocation of two products fails once, on one cache. */
static void out_of_memory_shared(Tensor *const *w, Tensor *const *v, Tensor *const *recorded) {
  Tensor *loss = small_model(w), *hv[3];
  HvpCache *cache = NULL;
  int n = 0, failed = 0;
  int64_t wrong = 0;
  for (bool more = true; more && n < 10000; failed += more) {
    mem_fail_at((size_t)++n);
    more = hvp_cache_new(loss, 1, &cache) == ERR_MEMORY;
    mem_fail_at(0);
  }
  for (int product = 0; product < 2; product++) {
    Status status = ERR_MEMORY;
    for (n = 0; status == ERR_MEMORY && n < 10000; failed += status == ERR_MEMORY) {
      Pool p = pool_open();
      mem_fail_at((size_t)++n);
      status = graph_hvp(loss, 3, w, v, false, cache, hv);
      mem_fail_at(0);
      for (int i = 0; i < 3 && status == OK; i++) wrong += differing(tensor_numel(hv[i]), tensor_data(hv[i]), tensor_data(recorded[i]));
      if (status != ERR_MEMORY && status != OK) wrong++;
      pool_close(p);
    }
  }
  ok(!wrong && failed > 100, "%d allocations failed in turn on one cache, then two products had the bits of the recorded way", failed);
  hvp_cache_free(cache);
}

/* The product with every allocation failing once; what was allocated is given back (done() counts). */
static void out_of_memory(void) {
  Tensor *w[3], *v[3];
  const Shape shapes[] = {{3, {1, 4, 3}}, {2, {4, 3}}, {2, {4, 4}}};
  for (int i = 0; i < 3; i++) {
    double x[17];
    for (int k = 0; k < 17; k++) x[k] = sin(1 + i + 3 * k);
    w[i] = tensor_of(F64, shapes[i], x), v[i] = tensor_of(F64, shapes[i], x + 1);
    w[i]->requires_grad = true;
  }
  Tensor *hv[3], *recorded[3], *g[3];
  Tensor *once = small_model(w);
  ok(once && graph_grad(1, &once, NULL, 3, w, true, g) == OK && graph_jvp(3, g, 3, w, v, true, recorded) == OK, "a small model's product");
  out_of_memory_shared(w, v, recorded);
  Status status = ERR_MEMORY;
  int n = 0;
  while (status == ERR_MEMORY && n < 10000) {
    Pool p = pool_open(), inner = pool_open();
    Tensor *loss = tensor_retain(small_model(w));
    pool_close(inner); /* nobody else holds what the loss was made of */
    pool_keep(loss);
    mem_fail_at((size_t)++n);
    status = graph_hvp(loss, 3, w, v, false, NULL, hv);
    mem_fail_at(0);
    int64_t wrong = 0;
    for (int i = 0; i < 3 && status == OK; i++) wrong += differing(tensor_numel(hv[i]), tensor_data(hv[i]), tensor_data(recorded[i]));
    if (status != ERR_MEMORY) ok(status == OK && !wrong && n > 50, "%d allocations failed in turn, then the bits of the recorded way", n - 1);
    pool_close(p);
  }
}

/* The loss's own tangent is not computed: its rule must not take it for zero. */
static void one_neuron(void) {
  Tensor *x = tensor_of(F64, (Shape){2, {1, 3}}, (double[]){0.3, -0.2, 0.9}), *w = tensor_of(F64, (Shape){2, {1, 3}}, (double[]){0.7, 0.4, -0.5});
  Tensor *v = tensor_of(F64, (Shape){2, {1, 3}}, (double[]){1, -2, 0.5}), *g, *recorded, *hv;
  w->requires_grad = true;
  Tensor *loss = op_linear_activated(x, w, NULL, "gelu"), *again = op_linear_activated(x, w, NULL, "gelu");
  bool good = graph_grad(1, &loss, NULL, 1, &w, true, &g) == OK && graph_jvp(1, &g, 1, &w, &v, true, &recorded) == OK;
  good = good && graph_hvp(again, 1, &w, &v, false, NULL, &hv) == OK;
  ok(good && !differing(3, tensor_data(hv), tensor_data(recorded)) && *(double *)tensor_data(hv) != 0, "a loss that is one neuron");
}

int main(void) {
  Pool p = pool_open();
  double c[4], s[4];
  for (int i = 0; i < 4; i++) c[i] = cos(i), s[i] = sin(i);
  cosines = tensor_of(F64, (Shape){2, {4, 1}}, c), sines = tensor_of(F64, (Shape){2, {4, 1}}, s);
  ids = tensor_of(I32, (Shape){1, {3}}, (double[]){0, 2, 2});
  for (int i = 0; unary_ops[i]; i++) hessian(unary_ops[i]->name, unary, (void *)unary_ops[i]->name, 1, (Shape[]){{2, {2, 3}}});
  hessian("scalars", scalars, NULL, 1, (Shape[]){{1, {7}}});
  hessian("arithmetic, broadcast", arithmetic, NULL, 2, (Shape[]){{2, {3, 4}}, {1, {4}}});
  hessian("choices", choices, NULL, 2, (Shape[]){{2, {3, 4}}, {1, {4}}});
  hessian("shapes", shapes, NULL, 1, (Shape[]){{3, {2, 3, 2}}});
  hessian("contiguous", dense_again, NULL, 1, (Shape[]){{2, {3, 4}}});
  hessian("reductions", reductions, NULL, 1, (Shape[]){{2, {3, 4}}});
  hessian("matmul", products, NULL, 2, (Shape[]){{2, {3, 4}}, {2, {4, 5}}});
  hessian("linear", linears, NULL, 3, (Shape[]){{2, {3, 4}}, {2, {4, 4}}, {1, {4}}});
  hessian("turned heads", turned, NULL, 2, (Shape[]){{3, {1, 4, 3}}, {2, {4, 3}}});
  hessian("indexing", indexed, NULL, 1, (Shape[]){{2, {3, 4}}});
  hessian("layer_norm", layer_normed, NULL, 3, (Shape[]){{2, {3, 5}}, {1, {5}}, {1, {5}}});
  hessian("rms_norm", rms_normed, NULL, 2, (Shape[]){{2, {3, 5}}, {1, {5}}});
  hessian("norms and residuals", norms_residual, NULL, 3, (Shape[]){{2, {3, 5}}, {1, {5}}, {1, {5}}});
  hessian("norms beside a residual", norms_beside, NULL, 3, (Shape[]){{2, {3, 5}}, {1, {5}}, {1, {5}}});
  hessian("cross_entropy", likelihood, NULL, 1, (Shape[]){{2, {3, 4}}});
  hessian("attention", attended, NULL, 3, (Shape[]){{4, {1, 3, 2, 2}}, {4, {1, 3, 1, 2}}, {4, {1, 3, 1, 2}}});
  hessian("conv1d and scan", sequence, NULL, 2, (Shape[]){{3, {1, 4, 3}}, {2, {3, 2}}});
  hessian("dropout", dropped, NULL, 1, (Shape[]){{2, {3, 4}}});
  hessian("hadamard", rotated, NULL, 1, (Shape[]){{2, {2, 4}}});
  hessian("surrogate", replaced, NULL, 1, (Shape[]){{1, {5}}});
  hessian_in(1e-7, "cast", rounded, NULL, 1, (Shape[]){{1, {5}}}); /* f32 inside: differences cannot judge it */
  out_of_memory();
  one_neuron();
  for (int i = 0; op_table[i]; i++) ok(was_met(op_table[i]), "%s stood in a gradient whose Hessian was checked", op_table[i]->name);
  pool_close(p);
  return done();
}

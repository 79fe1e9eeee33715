/* The optimizers from C: the same bits for any number of threads, every allocation failing in turn, and a table that fits. */
#include <stdlib.h>

#include "autograd/op.h"
#include "optim/optim.h"
#include "tests/tap.h"

static Tensor *random_tensor(int64_t rows, int64_t columns, uint64_t step, const char *name) {
  Tensor *t;
  Random r = random_stream(step, name);
  if (tensor_new(F32, 2, (int64_t[]){rows, columns}, &t)) return NULL;
  tensor_fill_normal(t, &r, 0, 1);
  return t;
}

static Status give_gradient(Tensor *w, uint64_t step) {
  tensor_release(w->grad);
  w->grad = random_tensor(w->shape[0], w->shape[1], step, "g");
  return w->grad ? OK : error_code();
}

/* Everything from the parameter to the end of three steps; w gets the result. */
static Status train(const char *name, int64_t rows, int64_t columns, const double *settings, Tensor **w) {
  Optimizer *o = NULL;
  *w = random_tensor(rows, columns, 0, "w");
  Status s = *w ? optim_new(optim_find(name), NULL, 1, &o) : error_code();
  if (s == OK) s = optim_group(o, settings);
  if (s == OK) s = optim_parameter(o, &(ParameterSpec){.tensor = *w, .name = "w", .role = ROLE_HIDDEN, .decay = true});
  double norm;
  for (uint64_t step = 1; step <= 3 && s == OK; step++) {
    s = give_gradient(*w, step);
    if (s == OK) s = optim_step(o, NULL, &norm);
  }
  if (o) optim_zero_grad(o);
  optim_free(o);
  return s;
}

static void release(Tensor *w) {
  if (!w) return;
  tensor_release(w->grad);
  w->grad = NULL;
  tensor_release(w);
}

/* Elementwise rules and the norm must not depend on the threads; nor do our own products. LAPACK's factorisations may. */
static void test_threads(void) {
  const char *names[] = {"sgd", "adamw", "lion", "sophia", "ademamix", "schedule_free", "muon", "scion"};
  int before = threads_get();
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    Tensor *one = NULL, *four = NULL;
    threads_set(1);
    Status s = train(names[i], 300, 170, NULL, &one);
    threads_set(4);
    if (s == OK) s = train(names[i], 300, 170, NULL, &four);
    ok(s == OK && memcmp(tensor_data(one), tensor_data(four), 300 * 170 * 4) == 0, "%s: the same bits with 1 and 4 threads", names[i]);
    release(one), release(four);
  }
  threads_set(before);
}

/* The n-th allocation fails, for every n until none is left to fail: an error each time, and nothing leaks (done() looks). */
static void test_allocations(void) {
  for (int i = 0; optim_table[i]; i++) {
    const char *name = optim_table[i]->name;
    int failures = 0, wrong = 0, finished = 0;
    for (size_t n = 1; n < 3000 && !finished; n++) {
      Tensor *w = NULL;
      mem_fail_at(n);
      Status s = train(name, 4, 3, NULL, &w);
      mem_fail_at(0);
      if (s == OK) finished = 1;
      else failures++, wrong += s != ERR_MEMORY;
      release(w);
      pool_drain();
    }
    ok(finished && failures > 5 && wrong == 0, "%s: %d allocations fail one by one as errors of memory", name, failures);
  }
}

static void test_table(void) {
  for (int i = 0; optim_table[i]; i++) {
    const OptimInfo *info = optim_table[i];
    int good = info->doc[0] && info->source[0];
    for (const Setting *s = info->settings; s->name; s++) good &= s->doc != NULL && (s->kind != SETTING_CHOICE || s->choices != NULL);
    ok(good, "%s says what it and its settings mean, and where it comes from", info->name);
  }
  ok(!optim_find("adam") && strstr(error_message(), "'adam'"), "%s", error_message());
  Optimizer *o;
  ok(optim_new(optim_find("adamw"), NULL, -1, &o) == ERR_ARGUMENT, "%s", error_message());
  if (optim_new(optim_find("adamw"), "mine", 0, &o)) exit(1);
  double settings[5] = {1e-3, 0.9, 1.0, 1e-8, 0};
  ok(optim_group(o, settings) == ERR_ARGUMENT && strstr(error_message(), "betas"), "%s", error_message());
  Tensor *w = random_tensor(2, 2, 0, "w");
  ok(optim_parameter(o, &(ParameterSpec){.tensor = w, .name = "w"}) == ERR_ARGUMENT && strstr(error_message(), "mine"), "%s", error_message());
  settings[2] = 0.95;
  ok(optim_group(o, settings) == OK && optim_set(o, 0, "lr", 0.5) == OK, "a group, and a change of one setting");
  ok(optim_set(o, 0, "lr", -1) == ERR_ARGUMENT, "%s", error_message());
  ok(optim_set(o, 0, "beta", 0) == ERR_ARGUMENT, "%s", error_message());
  ok(optim_set(o, 1, "lr", 0) == ERR_ARGUMENT, "%s", error_message());
  optim_free(o);
  tensor_release(w);
}

int main(void) {
  test_table();
  test_threads();
  test_allocations();
  return done();
}

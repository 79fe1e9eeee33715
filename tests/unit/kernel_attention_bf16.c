/* Attention with operands rounded to bf16: values and gradients within bounds derived from the rounding of P and dS (unit roundoff
 * 2^-8: 8 bits of mantissa; the operands given here are bf16 numbers already), tangents near those of f32, the same bits for any number of threads, nothing
 * read that was not written, and no word from keys that are not seen. */
#define REAL_BITS 32
#include "kernel/cpu/bf16.h"
#include "kernel/workspace.h"
#include "tests/unit/kernel_reference.h"

static const double U = 1.0 / 256;

/* Dense operands. */
typedef struct Set {
  Attention a;
  int64_t nq, nkv, rows;
  float *q, *k, *v, *d, *tq, *tk, *tv, *td;
} Set;
static int64_t at_q(const Attention *a, int64_t b, int64_t t, int64_t h) { return ((b * a->time + t) * a->heads + h) * a->width; }
static int64_t at_kv(const Attention *a, int64_t b, int64_t t, int64_t h) { return ((b * a->time + t) * a->kv_heads + h * a->kv_heads / a->heads) * a->width; }
static Heads heads(const Attention *a, int64_t n, float *x) { return (Heads){x, {a->time * n * a->width, n * a->width, a->width}}; }
#define Q(x) heads(&s->a, s->a.heads, x)
#define KV(x) heads(&s->a, s->a.kv_heads, x)

static float *bf16_numbers(int64_t n) {
  float *x = mem_alloc((size_t)n * sizeof *x);
  for (int64_t i = 0; i < n; i++) x[i] = bf16_round((float)reference_random());
  return x;
}

static Set set_of(Attention a) {
  Set s = {.a = a, .nq = a.batch * a.time * a.heads * a.width, .nkv = a.batch * a.time * a.kv_heads * a.width, .rows = a.batch * a.time * a.heads};
  float **of_q[] = {&s.q, &s.d, &s.tq, &s.td}, **of_kv[] = {&s.k, &s.v, &s.tk, &s.tv};
  for (int i = 0; i < 4; i++) *of_q[i] = bf16_numbers(s.nq), *of_kv[i] = bf16_numbers(s.nkv);
  return s;
}
static void set_free(Set *s) {
  float *all[] = {s->q, s->k, s->v, s->d, s->tq, s->tk, s->tv, s->td};
  for (int i = 0; i < 8; i++) mem_free(all[i]);
}

/* o, lse, dq, dk, dv, to, tlse, tdq, tdk, tdv, one after the other. */
static int64_t outputs(const Set *s) { return 4 * s->nq + 4 * s->nkv + 2 * s->rows; }
static void passes(const Set *s, bool bf16, float *out) {
  const Kernels *t = kernels_of(0, F32);
  Attention a = s->a;
  a.bf16 = bf16;
  float *o = out, *lse = o + s->nq, *dq = lse + s->rows, *dk = dq + s->nq, *dv = dk + s->nkv, *to = dv + s->nkv, *tlse = to + s->nq, *tdq = tlse + s->rows,
        *tdk = tdq + s->nq, *tdv = tdk + s->nkv;
  t->attention(&a, Q(s->q), KV(s->k), KV(s->v), Q(o), lse);
  t->attention_backward(&a, Q(s->q), KV(s->k), KV(s->v), Q(o), lse, Q(s->d), Q(dq), KV(dk), KV(dv));
  t->attention_tangent(&a, Q(s->q), KV(s->k), KV(s->v), Q(o), lse, Q(s->tq), KV(s->tk), KV(s->tv), Q(to), tlse);
  t->attention_backward_tangent(&a, Q(s->q), KV(s->k), KV(s->v), Q(o), lse, Q(s->d), Q(s->tq), KV(s->tk), KV(s->tv), Q(to), tlse, Q(s->td), Q(tdq), KV(tdk), KV(tdv));
}

/* ---- the definition in double, and how far rounding may lead from it ---- */

typedef struct Bounded { double *value, *bound; } Bounded;
static Bounded bounded(int64_t n) { return (Bounded){zero_array(n), zero_array(n)}; }
static void add(Bounded *x, int64_t i, double value, double bound) { x->value[i] += value, x->bound[i] += bound; }

static double dot(int64_t n, const float *x, const float *y) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += (double)x[i] * y[i];
  return sum;
}

static bool sees(const Attention *a, int64_t i, int64_t j) { return j <= i && (!a->window || j > i - a->window); }

/* Query i of head h: its row of P from the definition. */
static void row_of_p(const Set *s, int64_t b, int64_t h, int64_t i, double *p) {
  double most = -INFINITY, sum = 0;
  for (int64_t j = 0; j < s->a.time; j++) {
    p[j] = sees(&s->a, i, j) ? s->a.scale * dot(s->a.width, s->q + at_q(&s->a, b, i, h), s->k + at_kv(&s->a, b, j, h)) : -INFINITY;
    most = fmax(most, p[j]);
  }
  for (int64_t j = 0; j < s->a.time; j++) sum += p[j] = exp(p[j] - most);
  for (int64_t j = 0; j < s->a.time; j++) p[j] /= sum;
}

/* P is rounded where it meets V and dO, dS where it meets K and Q; rowsum(dO O) has O's error. */
static void one_query(const Set *s, int64_t b, int64_t h, int64_t i, double *p, Bounded *o, Bounded *dq, Bounded *dk, Bounded *dv) {
  const Attention *a = &s->a;
  const int64_t mine = at_q(a, b, i, h);
  double delta = 0, delta_bound = 0;
  row_of_p(s, b, h, i, p);
  for (int64_t w = 0; w < a->width; w++) {
    for (int64_t j = 0; j < a->time; j++) {
      const double v = s->v[at_kv(a, b, j, h) + w];
      add(o, mine + w, p[j] * v, U * p[j] * fabs(v));
    }
    delta += s->d[mine + w] * o->value[mine + w], delta_bound += fabs(s->d[mine + w]) * o->bound[mine + w];
  }
  for (int64_t j = 0; j < a->time; j++) {
    if (!sees(a, i, j)) continue;
    const int64_t key = at_kv(a, b, j, h);
    const double ds = a->scale * p[j] * (dot(a->width, s->d + mine, s->v + key) - delta), ds_bound = U * fabs(ds) + (1 + U) * fabs(a->scale) * p[j] * delta_bound;
    for (int64_t w = 0; w < a->width; w++) {
      add(dq, mine + w, ds * s->k[key + w], ds_bound * fabs(s->k[key + w]));
      add(dk, key + w, ds * s->q[mine + w], ds_bound * fabs(s->q[mine + w]));
      add(dv, key + w, p[j] * s->d[mine + w], U * p[j] * fabs(s->d[mine + w]));
    }
  }
}

static void within(const char *what, int64_t n, const float *x, Bounded r) {
  int64_t beyond = 0;
  double worst = 0;
  for (int64_t i = 0; i < n; i++) {
    const double share = fabs(x[i] - r.value[i]) / (1.01 * r.bound[i] + 2e-5); /* sums in f32 besides */
    beyond += !(share <= 1), worst = fmax(worst, share);
  }
  ok(!beyond, "%s: within its bound (at most %.2f of it)", what, worst);
  mem_free(r.value), mem_free(r.bound);
}

static void check_bounds(Attention a) {
  Set s = set_of(a);
  float *x = mem_calloc((size_t)outputs(&s), sizeof *x), *plain = mem_calloc((size_t)outputs(&s), sizeof *x);
  double *p = zero_array(a.time), gap = 0, size = 0;
  Bounded o = bounded(s.nq), dq = bounded(s.nq), dk = bounded(s.nkv), dv = bounded(s.nkv);
  for (int64_t b = 0; b < a.batch; b++)
    for (int64_t h = 0; h < a.heads; h++)
      for (int64_t i = 0; i < a.time; i++) one_query(&s, b, h, i, p, &o, &dq, &dk, &dv);
  passes(&s, true, x), passes(&s, false, plain);
  printf("# B %ld T %ld H %ld/%ld W %ld window %ld\n", (long)a.batch, (long)a.time, (long)a.heads, (long)a.kv_heads, (long)a.width, (long)a.window);
  within("o", s.nq, x, o);
  within("dq", s.nq, x + s.nq + s.rows, dq);
  within("dk", s.nkv, x + 2 * s.nq + s.rows, dk);
  within("dv", s.nkv, x + 2 * s.nq + s.rows + s.nkv, dv);
  for (int64_t i = 2 * s.nq + s.rows + 2 * s.nkv; i < outputs(&s); i++) gap += pow(x[i] - plain[i], 2), size += pow(plain[i], 2);
  ok(a.time < 20 || (gap / size < 1e-4 && gap / size > 1e-8), "tangents are those of f32 but for some 2^-8 (%.2g)", sqrt(gap / size));
  mem_free(x), mem_free(plain), mem_free(p);
  set_free(&s);
}

/* ---- properties ---- */

static void threads_body(void *context, void *out) { passes(context, true, out); }

static __attribute__((noinline)) void poison_stack(void) {
  float x[1 << 15];
  memset(x, 0xff, sizeof x);
  __asm__ volatile("" ::"r"(x) : "memory");
}

static void check_poison(Attention a) {
  Set s = set_of(a);
  const size_t size = (size_t)outputs(&s) * sizeof(float);
  float *x = mem_calloc(1, size), *y = mem_calloc(1, size);
  const int threads = threads_get();
  threads_set(1);
  passes(&s, true, x);
  memset(workspace_b(), 0xff, WORKSPACE_B);
  poison_stack();
  passes(&s, true, y);
  threads_set(threads);
  ok(!memcmp(x, y, size), "T %ld W %ld window %ld: nothing is read that was not written", (long)a.time, (long)a.width, (long)a.window);
  mem_free(x), mem_free(y);
  set_free(&s);
}

/* Keys and values from step `from` on do not reach the queries before it. */
static void check_causal(Attention a, int64_t from) {
  Set s = set_of(a);
  const size_t size = (size_t)outputs(&s) * sizeof(float);
  float *x = mem_calloc(1, size), *y = mem_calloc(1, size);
  passes(&s, true, x);
  for (int64_t i = from * a.kv_heads * a.width; i < s.nkv; i++) s.k[i] = -2, s.v[i] = 3;
  passes(&s, true, y);
  ok(!memcmp(x, y, (size_t)(from * a.heads * a.width) * sizeof *x) && memcmp(x, y, (size_t)s.nq * sizeof *x), "later keys reach later queries alone");
  mem_free(x), mem_free(y);
  set_free(&s);
}

int main(void) {
  const Attention shapes[] = {{1, 1, 1, 1, 1, 0, 1, 0}, {2, 7, 3, 3, 5, 0, 0.4, 0}, {1, 64, 2, 2, 32, 0, 0.3, 0}, {1, 65, 2, 1, 33, 0, 0.3, 0},
                              {1, 131, 4, 2, 8, 0, 0.5, 0}, {1, 70, 4, 1, 4, 3, 0.5, 0}, {1, 200, 1, 1, 40, 64, 0.2, 0}, {1, 150, 2, 2, 16, 65, 0.3, 0},
                              {1, 97, 1, 1, 255, 0, 0.06, 0}, {1, 80, 1, 1, 256, 0, 0.06, 0}, {1, 700, 1, 1, 16, 0, 0.2, 0}};
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) check_bounds(shapes[i]);
  for (size_t i = 1; i < sizeof shapes / sizeof *shapes; i++) check_poison(shapes[i]);
  Set s = set_of((Attention){2, 150, 6, 2, 16, 0, 0.25, 0});
  same_bits("attention in bf16", threads_body, &s, (size_t)outputs(&s) * sizeof(float));
  set_free(&s);
  check_causal((Attention){1, 140, 2, 2, 16, 0, 0.3, 0}, 77);
  return done();
}

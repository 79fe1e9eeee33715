/* Attention kernels against the definition in double (a full time x time softmax), the
 * tangents against central differences of the f64 kernels, the bits for any thread count. */
#include "tests/unit/kernel_reference.h"

/* Lays an operand out: packed heads (as in a joint projection, with a gap) or dense. */
typedef struct Layout { int64_t stride[3], size; } Layout;
static Layout layout(const Attention *a, int64_t heads, bool gaps) {
  int64_t head = gaps ? 3 * a->width : a->width, row = heads * head + (gaps ? 5 : 0);
  return (Layout){{a->time * row, row, head}, a->batch * a->time * row};
}
static int64_t place(Layout l, int64_t b, int64_t t, int64_t h) { return b * l.stride[0] + t * l.stride[1] + h * l.stride[2]; }
static Heads heads_of(Layout l, void *data) { return (Heads){data, {l.stride[0], l.stride[1], l.stride[2]}}; }

typedef struct Case { Attention a; bool gaps; } Case;
typedef struct Sizes { Layout q, kv; int64_t rows; } Sizes;
static Sizes sizes_of(Case c) { return (Sizes){layout(&c.a, c.a.heads, c.gaps), layout(&c.a, c.a.kv_heads, c.gaps), c.a.batch * c.a.heads * c.a.time}; }

static bool sees(const Attention *a, int64_t i, int64_t j) { return j <= i && (!a->window || j > i - a->window); }

/* One row of probabilities; returns log-sum-exp. */
static double reference_row(Case c, Sizes s, int64_t b, int64_t h, int64_t i, const double *q, const double *k, double *p) {
  const Attention *a = &c.a;
  int64_t g = h / (a->heads / a->kv_heads);
  double m = -INFINITY, sum = 0;
  for (int64_t j = 0; j < a->time; j++) {
    double dot = 0;
    for (int64_t w = 0; w < a->width; w++) dot += q[place(s.q, b, i, h) + w] * k[place(s.kv, b, j, g) + w];
    p[j] = sees(a, i, j) ? a->scale * dot : -INFINITY;
    m = fmax(m, p[j]);
  }
  for (int64_t j = 0; j < a->time; j++) sum += p[j] = exp(p[j] - m);
  for (int64_t j = 0; j < a->time; j++) p[j] /= sum;
  return m + log(sum);
}

static void reference_forward(Case c, const double *q, const double *k, const double *v, double *o, double *lse) {
  Sizes s = sizes_of(c);
  const Attention *a = &c.a;
  double *p = zero_array(a->time);
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t i = 0; i < a->time; i++) {
        lse[(b * a->heads + h) * a->time + i] = reference_row(c, s, b, h, i, q, k, p);
        for (int64_t w = 0; w < a->width; w++) {
          double sum = 0;
          for (int64_t j = 0; j < a->time; j++) sum += p[j] * v[place(s.kv, b, j, h / (a->heads / a->kv_heads)) + w];
          o[place(s.q, b, i, h) + w] = sum;
        }
      }
  mem_free(p);
}

/* dS = P (dO V^T - rowsum(P dO V^T)) scale, from the definition of softmax's gradient */
static void reference_backward(Case c, const double *q, const double *k, const double *v, const double *d_o, double *dq, double *dk, double *dv) {
  Sizes s = sizes_of(c);
  const Attention *a = &c.a;
  double *p = zero_array(a->time), *dp = zero_array(a->time);
  for (int64_t b = 0; b < a->batch; b++)
    for (int64_t h = 0; h < a->heads; h++)
      for (int64_t i = 0; i < a->time; i++) {
        int64_t g = h / (a->heads / a->kv_heads), at = place(s.q, b, i, h);
        double mean = 0;
        reference_row(c, s, b, h, i, q, k, p);
        for (int64_t j = 0; j < a->time; j++) {
          dp[j] = 0;
          for (int64_t w = 0; w < a->width; w++) dp[j] += d_o[at + w] * v[place(s.kv, b, j, g) + w];
          mean += p[j] * dp[j];
        }
        for (int64_t j = 0; j < a->time; j++)
          for (int64_t w = 0; w < a->width; w++) {
            int64_t to = place(s.kv, b, j, g) + w;
            double ds = a->scale * p[j] * (dp[j] - mean);
            dq[at + w] += ds * k[to];
            dk[to] += ds * q[at + w];
            dv[to] += p[j] * d_o[at + w];
          }
      }
  mem_free(p), mem_free(dp);
}

/* Values outside the heads (gaps) are not the kernel's business: they must stay as they were. */
static void check_case(const Kernels *t, Case c) {
  Sizes s = sizes_of(c);
  double *q = random_array(s.q.size, 2), *k = random_array(s.kv.size, 2), *v = random_array(s.kv.size, 1), *d_o = random_array(s.q.size, 1);
  double *o = zero_array(s.q.size), *lse = zero_array(s.rows), *dq = zero_array(s.q.size), *dk = zero_array(s.kv.size), *dv = zero_array(s.kv.size);
  reference_forward(c, q, k, v, o, lse);
  reference_backward(c, q, k, v, d_o, dq, dk, dv);
  void *xq = to_real(t, s.q.size, q), *xk = to_real(t, s.kv.size, k), *xv = to_real(t, s.kv.size, v), *xd = to_real(t, s.q.size, d_o);
  void *xo = to_real(t, s.q.size, NULL), *xl = to_real(t, s.rows, NULL), *rq = to_real(t, s.q.size, NULL), *rk = to_real(t, s.kv.size, NULL),
       *rv = to_real(t, s.kv.size, NULL);
  Heads hq = heads_of(s.q, xq), hk = heads_of(s.kv, xk), hv = heads_of(s.kv, xv), ho = heads_of(s.q, xo), hd = heads_of(s.q, xd);
  t->attention(&c.a, hq, hk, hv, ho, xl);
  t->attention_backward(&c.a, hq, hk, hv, ho, xl, hd, heads_of(s.q, rq), heads_of(s.kv, rk), heads_of(s.kv, rv));
  char what[96];
  snprintf(what, sizeof what, "attention B %ld T %ld H %ld/%ld W %ld window %ld%s", (long)c.a.batch, (long)c.a.time, (long)c.a.heads,
           (long)c.a.kv_heads, (long)c.a.width, (long)c.a.window, c.gaps ? " packed" : "");
  same_values(t, s.q.size, xo, o, tolerance_of(t, 3e-6, 1e-13), what);
  same_values(t, s.rows, xl, lse, tolerance_of(t, 2e-6, 1e-13), "log-sum-exp");
  same_values(t, s.q.size, rq, dq, tolerance_of(t, 2e-5, 1e-12), "dq");
  same_values(t, s.kv.size, rk, dk, tolerance_of(t, 2e-5, 1e-12), "dk");
  same_values(t, s.kv.size, rv, dv, tolerance_of(t, 2e-5, 1e-12), "dv");
  void *all[] = {xq, xk, xv, xd, q, k, v, d_o, o, lse, dq, dk, dv};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
}

/* Forward and gradient at (q, k, v, do) + h (tq, tk, tv, tdo), all in f64. */
typedef struct Point { double *o, *lse, *dq, *dk, *dv; } Point;
static Point point_make(Sizes s) { return (Point){zero_array(s.q.size), zero_array(s.rows), zero_array(s.q.size), zero_array(s.kv.size), zero_array(s.kv.size)}; }
static void point_free(Point p) { mem_free(p.o), mem_free(p.lse), mem_free(p.dq), mem_free(p.dk), mem_free(p.dv); }

static void evaluate(Case c, double h, double *const *at, double *const *along, Point out) {
  Sizes s = sizes_of(c);
  int64_t lengths[4] = {s.q.size, s.kv.size, s.kv.size, s.q.size};
  double *x[4];
  for (int i = 0; i < 4; i++) {
    x[i] = zero_array(lengths[i]);
    for (int64_t j = 0; j < lengths[i]; j++) x[i][j] = at[i][j] + h * along[i][j];
  }
  const Kernels *t = kernels_of(0, F64);
  Heads q = heads_of(s.q, x[0]), k = heads_of(s.kv, x[1]), v = heads_of(s.kv, x[2]), d = heads_of(s.q, x[3]), o = heads_of(s.q, out.o);
  t->attention(&c.a, q, k, v, o, out.lse);
  t->attention_backward(&c.a, q, k, v, o, out.lse, d, heads_of(s.q, out.dq), heads_of(s.kv, out.dk), heads_of(s.kv, out.dv));
  for (int i = 0; i < 4; i++) mem_free(x[i]);
}

static void check_tangents(Case c) {
  const Kernels *t = kernels_of(0, F64);
  Sizes s = sizes_of(c);
  double *at[4] = {random_array(s.q.size, 2), random_array(s.kv.size, 2), random_array(s.kv.size, 1), random_array(s.q.size, 1)};
  double *along[4] = {random_array(s.q.size, 1), random_array(s.kv.size, 1), random_array(s.kv.size, 1), random_array(s.q.size, 1)};
  Point up = point_make(s), down = point_make(s), here = point_make(s);
  const double h = 1e-5;
  evaluate(c, h, at, along, up);
  evaluate(c, -h, at, along, down);
  evaluate(c, 0, at, along, here);
  double *pairs[][2] = {{up.o, down.o}, {up.lse, down.lse}, {up.dq, down.dq}, {up.dk, down.dk}, {up.dv, down.dv}};
  int64_t lengths[] = {s.q.size, s.rows, s.q.size, s.kv.size, s.kv.size};
  for (int i = 0; i < 5; i++)
    for (int64_t j = 0; j < lengths[i]; j++) pairs[i][0][j] = (pairs[i][0][j] - pairs[i][1][j]) / (2 * h);
  void *to = to_real(t, s.q.size, NULL), *tlse = to_real(t, s.rows, NULL), *tdq = to_real(t, s.q.size, NULL), *tdk = to_real(t, s.kv.size, NULL),
       *tdv = to_real(t, s.kv.size, NULL);
  Heads q = heads_of(s.q, at[0]), k = heads_of(s.kv, at[1]), v = heads_of(s.kv, at[2]), d = heads_of(s.q, at[3]), o = heads_of(s.q, here.o);
  Heads tq = heads_of(s.q, along[0]), tk = heads_of(s.kv, along[1]), tv = heads_of(s.kv, along[2]), td = heads_of(s.q, along[3]);
  t->attention_tangent(&c.a, q, k, v, o, here.lse, tq, tk, tv, heads_of(s.q, to), tlse);
  t->attention_backward_tangent(&c.a, q, k, v, o, here.lse, d, tq, tk, tv, heads_of(s.q, to), tlse, td, heads_of(s.q, tdq),
                                heads_of(s.kv, tdk), heads_of(s.kv, tdv));
  same_values(t, s.q.size, to, up.o, 1e-8, "tangent of the output");
  same_values(t, s.rows, tlse, up.lse, 1e-8, "tangent of the log-sum-exp");
  same_values(t, s.q.size, tdq, up.dq, 1e-7, "tangent of dq");
  same_values(t, s.kv.size, tdk, up.dk, 1e-7, "tangent of dk");
  same_values(t, s.kv.size, tdv, up.dv, 1e-7, "tangent of dv");
  for (int i = 0; i < 4; i++) mem_free(at[i]), mem_free(along[i]);
  point_free(up), point_free(down), point_free(here);
}

/* Scores in the hundreds: the running maximum must hold the exponentials. */
static void check_large_scores(void) {
  const Kernels *t = kernels_of(0, F32);
  Case c = {{1, 130, 1, 1, 4, 0, 100, false}, false};
  Sizes s = sizes_of(c);
  double *q = random_array(s.q.size, 2), *o = zero_array(s.q.size), *lse = zero_array(s.rows);
  for (int64_t i = 0; i < s.q.size; i++) q[i] = floor(q[i] * 8) / 8; /* scores are exact in both types */
  reference_forward(c, q, q, q, o, lse);
  void *x = to_real(t, s.q.size, q), *y = to_real(t, s.q.size, NULL), *l = to_real(t, s.rows, NULL);
  t->attention(&c.a, heads_of(s.q, x), heads_of(s.q, x), heads_of(s.q, x), heads_of(s.q, y), l);
  same_values(t, s.q.size, y, o, 1e-5, "scores of some hundreds");
  same_values(t, s.rows, l, lse, 1e-6, "their log-sum-exp");
  mem_free(q), mem_free(o), mem_free(lse), mem_free(x);
}

typedef struct Big { Case c; float *x[7]; } Big;
static void threads_body(void *context, void *out) {
  const Kernels *t = kernels_of(0, F32);
  Big *b = context;
  Sizes s = sizes_of(b->c);
  float *r = out;
  Heads h[7];
  for (int i = 0; i < 7; i++) h[i] = heads_of(i == 1 || i == 2 || i == 5 || i == 6 ? s.kv : s.q, b->x[i]);
  Heads o = heads_of(s.q, r);
  float *lse = r + s.q.size, *tlse = lse + s.rows;
  r = tlse + s.rows;
  Heads dq = heads_of(s.q, r), to = heads_of(s.q, r + s.q.size), tdq = heads_of(s.q, r + 2 * s.q.size);
  r += 3 * s.q.size;
  Heads g[4];
  for (int i = 0; i < 4; i++) g[i] = heads_of(s.kv, r + i * s.kv.size);
  t->attention(&b->c.a, h[0], h[1], h[2], o, lse);
  t->attention_backward(&b->c.a, h[0], h[1], h[2], o, lse, h[3], dq, g[0], g[1]);
  t->attention_tangent(&b->c.a, h[0], h[1], h[2], o, lse, h[4], h[5], h[6], to, tlse);
  t->attention_backward_tangent(&b->c.a, h[0], h[1], h[2], o, lse, h[3], h[4], h[5], h[6], to, tlse, h[3], tdq, g[2], g[3]);
}

static void check_threads(void) {
  Big b = {.c = {{2, 150, 6, 2, 16, 0, 0.25, false}, false}};
  Sizes s = sizes_of(b.c);
  for (int i = 0; i < 7; i++) {
    double *x = random_array(s.q.size, 1);
    b.x[i] = to_real(kernels_of(0, F32), s.q.size, x);
    mem_free(x);
  }
  same_bits("attention", threads_body, &b, (size_t)(4 * s.q.size + 2 * s.rows + 4 * s.kv.size) * 4);
  for (int i = 0; i < 7; i++) mem_free(b.x[i]);
}

/* Many heads together take keys that were turned once, one head alone does not: the same bits. */
static void check_alone(const Kernels *t, int64_t time, int64_t width) {
  enum { HEADS = 6 };
  Case c = {{2, time, HEADS, 2, width, 0, 0.3, false}, true};
  Sizes s = sizes_of(c);
  double *x[3] = {random_array(s.q.size, 1), random_array(s.kv.size, 1), random_array(s.kv.size, 1)};
  void *q = to_real(t, s.q.size, x[0]), *k = to_real(t, s.kv.size, x[1]), *v = to_real(t, s.kv.size, x[2]);
  void *o = to_real(t, s.q.size, NULL), *lse = to_real(t, s.rows, NULL), *one = to_real(t, s.q.size, NULL), *one_lse = to_real(t, time, NULL);
  int threads = threads_get(), same = 1;
  threads_set(1);
  t->attention(&c.a, heads_of(s.q, q), heads_of(s.kv, k), heads_of(s.kv, v), heads_of(s.q, o), lse);
  Attention a = c.a;
  a.batch = a.heads = a.kv_heads = 1;
  for (int64_t b = 0; b < 2; b++)
    for (int64_t h = 0; h < HEADS; h++) {
      size_t at = (size_t)place(s.q, b, 0, h) * t->element, from = (size_t)place(s.kv, b, 0, h / 3) * t->element;
      t->attention(&a, heads_of(s.q, (char *)q + at), heads_of(s.kv, (char *)k + from), heads_of(s.kv, (char *)v + from),
                   heads_of(s.q, (char *)one + at), one_lse);
      same &= !memcmp(one_lse, (char *)lse + (size_t)((b * HEADS + h) * time) * t->element, (size_t)time * t->element);
      for (int64_t i = 0; i < time; i++) {
        size_t row = (size_t)place(s.q, b, i, h) * t->element;
        same &= !memcmp((char *)one + row, (char *)o + row, (size_t)width * t->element);
      }
    }
  threads_set(threads);
  ok(same, "%s, %ld steps of width %ld: each head alone has the bits of all together", t->name, (long)time, (long)width);
  for (int i = 0; i < 3; i++) mem_free(x[i]);
  mem_free(q), mem_free(k), mem_free(v), mem_free(o), mem_free(lse), mem_free(one), mem_free(one_lse);
}

/* All passes over one head of width 128, into out: dq, dk, dv and their tangents, `kept` steps of each. Nothing comes in from later steps. */
static void all_passes(const Kernels *t, int64_t time, int64_t kept, void *const *x, float *out) {
  Case c = {{1, time, 1, 1, 128, 0, 0.1, false}, false};
  Sizes s = sizes_of(c);
  Heads h[8], r[8];
  void *made[8], *lse = to_real(t, time, NULL), *tlse = to_real(t, time, NULL);
  for (int i = 0; i < 8; i++) h[i] = heads_of(s.q, x[i]), made[i] = to_real(t, s.q.size, NULL), r[i] = heads_of(s.q, made[i]);
  t->attention(&c.a, h[0], h[1], h[2], r[0], lse);
  t->attention_backward(&c.a, h[0], h[1], h[2], r[0], lse, h[3], r[2], r[3], r[4]);
  t->attention_tangent(&c.a, h[0], h[1], h[2], r[0], lse, h[4], h[5], h[6], r[1], tlse);
  t->attention_backward_tangent(&c.a, h[0], h[1], h[2], r[0], lse, h[3], h[4], h[5], h[6], r[1], tlse, h[7], r[5], r[6], r[7]);
  for (int i = 0; i < 6; i++) memcpy(out + i * kept * 128, made[2 + i], (size_t)(kept * 128) * sizeof *out);
  for (int i = 0; i < 8; i++) mem_free(made[i]);
  mem_free(lse), mem_free(tlse);
}

/* Sequences too long for keys and values to be turned at once: what later steps do not touch has the bits of a shorter sequence. */
static void check_long(int64_t kept, int64_t time) {
  const Kernels *t = kernels_of(0, F32);
  void *x[8];
  for (int i = 0; i < 8; i++) {
    double *values = random_array(time * 128, 1);
    for (int64_t j = kept * 128; j < time * 128 && (i == 3 || i == 7); j++) values[j] = 0; /* d_o and its tangent */
    x[i] = to_real(t, time * 128, values);
    mem_free(values);
  }
  const size_t size = (size_t)(6 * kept * 128) * sizeof(float);
  float *brief = mem_alloc(size), *prefix = mem_alloc(size);
  all_passes(t, kept, kept, x, brief), all_passes(t, time, kept, x, prefix);
  int64_t different = 0;
  for (int64_t i = 0; i < 6 * kept * 128; i++) different += brief[i] != prefix[i];
  ok(different == 0, "gradients and tangents of %ld steps alone and with %ld more: %ld differ", (long)kept, (long)(time - kept), (long)different);
  for (int i = 0; i < 8; i++) mem_free(x[i]);
  mem_free(brief), mem_free(prefix);
}

int main(void) {
  const Case cases[] = {
    {{1, 1, 1, 1, 1, 0, 1, false}, false},     {{1, 2, 1, 1, 3, 0, 0.5, false}, false},     {{2, 7, 3, 3, 5, 0, 0.4, false}, true},
    {{1, 64, 2, 2, 8, 0, 0.3, false}, false},  {{1, 65, 2, 1, 8, 0, 0.3, false}, true},     {{2, 131, 4, 2, 4, 0, 0.5, false}, false},
    {{1, 9, 2, 2, 4, 1, 0.5, false}, false},   {{1, 70, 4, 1, 4, 3, 0.5, false}, true},     {{1, 200, 1, 1, 4, 64, 0.5, false}, false},
    {{1, 150, 2, 2, 4, 65, 0.5, false}, true}, {{1, 130, 2, 1, 32, 1000, 0.2, false}, false}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    check_case(kernels_of(0, F32), cases[i]);
    check_case(kernels_of(0, F64), cases[i]);
    check_tangents(cases[i]);
  }
  check_large_scores();
  check_threads();
  for (int type = 0; type < 2; type++) check_alone(kernels_of(0, type ? F64 : F32), 130, 8), check_alone(kernels_of(0, type ? F64 : F32), 192, 20);
  check_long(256, 320); /* the tangent has room for 256 steps */
  check_long(512, 576); /* the gradient for 512 */
  return done();
}

/* profile.c - the table of kernels that measure themselves: each calls the real one and
 * notes its time, arithmetic and traffic (kernel/profile.h). One line a slot. */
#include "kernel/profile.h"

#include "kernel/cpu/cpu.h"

enum { E = sizeof(real) };

static double elements(const Loop *l) {
  double n = 1;
  for (int i = 0; i < l->ndim; i++) n *= (double)l->shape[i];
  return n;
}

/* Pairs of a query and a key it sees. */
static double pairs(const Attention *a) {
  double t = (double)a->time, w = a->window && a->window < a->time ? (double)a->window : t;
  return (double)(a->batch * a->heads) * (w * (w + 1) / 2 + (t - w) * w);
}
static double heads_bytes(const Attention *a, int q, int kv) {
  return (double)(a->batch * a->time * a->width) * E * (double)(q * a->heads + kv * a->kv_heads);
}
static double product_bytes(const Gemm *g) {
  double m = (double)g->m, n = (double)g->n, k = (double)g->k;
  return (double)g->batch * E * (m * k + k * n + m * n * (g->beta != 0 ? 2 : 1) + (g->add ? m * n : 0));
}
static double update_elements(int64_t count, const Update *u) {
  double n = 0;
  for (int64_t i = 0; i < count; i++) n += (double)u[i].n;
  return n;
}

#define NAMED(slot) REAL(#slot, #slot " f64")
/* slot, its parameters, its arguments, flops, bytes */
#define MEASURED(slot, parameters, arguments, flops, bytes)                            \
  static void slot##_measured parameters {                                             \
    double start = profile_clock();                                                    \
    K(slot) arguments;                                                                 \
    profile_note(NAMED(slot), profile_clock() - start, (double)(flops), (double)(bytes)); \
  }
#define MEASURED_RESULT(type, slot, parameters, arguments, flops, bytes)               \
  static type slot##_measured parameters {                                             \
    double start = profile_clock();                                                    \
    type result = K(slot) arguments;                                                   \
    profile_note(NAMED(slot), profile_clock() - start, (double)(flops), (double)(bytes)); \
    return result;                                                                     \
  }

typedef const void *In;
typedef void *Out;

MEASURED(fill, (const Loop *l, double v), (l, v), 0, elements(l) * E)
MEASURED(copy, (const Loop *l), (l), 0, 2 * elements(l) * E)
MEASURED(unary, (Unary op, const Loop *l, double p), (op, l, p), elements(l), 2 * elements(l) * E)
MEASURED(binary, (Binary op, const Loop *l), (op, l), elements(l), 3 * elements(l) * E)
MEASURED(select, (const Loop *l), (l), 0, 4 * elements(l) * E)
MEASURED(multiply_add, (const Loop *l, double a, double b), (l, a, b), 3 * elements(l), 3 * elements(l) * E)
MEASURED(uniform, (Out x, int64_t n, const Random *r, double low, double high), (x, n, r, low, high), 0, n * E)
MEASURED(normal, (Out x, int64_t n, const Random *r, double mean, double deviation), (x, n, r, mean, deviation), 0, n * E)
MEASURED(arange, (Out x, int64_t n, double start_, double step), (x, n, start_, step), n, n * E)
MEASURED(reduce, (Reduce op, int64_t outer, int64_t n, int64_t inner, In x, Out y), (op, outer, n, inner, x, y), outer * n * inner, outer * n * inner * E)
MEASURED(cumsum, (int64_t outer, int64_t n, int64_t inner, In x, Out y, bool reverse), (outer, n, inner, x, y, reverse), outer * n * inner, 2 * outer * n * inner * E)
MEASURED_RESULT(double, dot, (int64_t n, In x, In y), (n, x, y), 2 * n, 2 * n * E)
MEASURED_RESULT(bool, all_finite, (int64_t n, In x), (n, x), 0, n * E)
MEASURED(logsumexp, (int64_t rows, int64_t n, In x, Out y), (rows, n, x, y), 3 * rows * n, rows * n * E)
MEASURED(softmax, (int64_t rows, int64_t n, In x, Out y), (rows, n, x, y), 4 * rows * n, 2 * rows * n * E)
MEASURED(softmax_backward, (int64_t rows, int64_t n, In y, In dy, Out dx), (rows, n, y, dy, dx), 4 * rows * n, 3 * rows * n * E)
MEASURED(select_rows, (int64_t rows, int64_t n, int64_t k, Out x, Out y), (rows, n, k, x, y), 0, rows * n * E)
MEASURED(gemm, (const Gemm *g), (g), 2.0 * (double)(g->m * g->n) * (double)(g->k * g->batch), product_bytes(g))
MEASURED(gram, (bool t, int64_t n, int64_t k, double alpha, In a, double beta, Out c), (t, n, k, alpha, a, beta, c), (double)(n * n) * (double)k, (n * k + n * n) * E)
MEASURED_RESULT(int64_t, cholesky, (int64_t n, Out a, int64_t lda, Out scratch), (n, a, lda, scratch), (double)n * (double)n * (double)n / 3, n * n * E)
MEASURED(inner_products, (int64_t count, int64_t n, const void *const *q, In x, double *c), (count, n, q, x, c), 2 * count * n, (count + 1) * n * E)
MEASURED(combine, (int64_t count, int64_t n, const void *const *q, const double *c, Out x), (count, n, q, c, x), 2 * count * n, (count + 2) * n * E)
MEASURED(gather_rows, (int64_t n, int64_t w, In table, const int32_t *ids, Out y), (n, w, table, ids, y), 0, 2 * n * w * E)
MEASURED(scatter_add_rows, (int64_t n, int64_t rows, int64_t w, In dy, const int32_t *ids, Out d), (n, rows, w, dy, ids, d), n * w, 3 * n * w * E)
MEASURED(pick, (int64_t rows, int64_t n, In x, const int32_t *ids, Out y), (rows, n, x, ids, y), 0, 2 * rows * E)
MEASURED(unpick, (int64_t rows, int64_t n, In dy, const int32_t *ids, Out dx), (rows, n, dy, ids, dx), 0, 2 * rows * E)
MEASURED(layer_norm, (int64_t rows, int64_t n, double eps, In x, In w, In b, In add, Out y, Out mean, Out r), (rows, n, eps, x, w, b, add, y, mean, r), 8 * rows * n, (add ? 3 : 2) * rows * n * E)
MEASURED(layer_norm_backward, (int64_t rows, int64_t n, In x, In w, In m, In r, In dy, bool sums, Out dx, Out dw, Out db), (rows, n, x, w, m, r, dy, sums, dx, dw, db), 14 * rows * n, 3 * rows * n * E)
MEASURED(rms_norm, (int64_t rows, int64_t n, double eps, In x, In w, In add, Out y, Out r), (rows, n, eps, x, w, add, y, r), 4 * rows * n, (add ? 3 : 2) * rows * n * E)
MEASURED(rms_norm_backward, (int64_t rows, int64_t n, In x, In w, In r, In dy, bool sums, Out dx, Out dw), (rows, n, x, w, r, dy, sums, dx, dw), 11 * rows * n, 3 * rows * n * E)
MEASURED(norm_tangent, (int64_t rows, int64_t n, In x, In w, In m, In r, In tx, In tw, In tb, In ta, Out ty), (rows, n, x, w, m, r, tx, tw, tb, ta, ty), 12 * rows * n, 3 * rows * n * E)
MEASURED(norm_backward_tangent, (int64_t rows, int64_t n, In x, In w, In m, In r, In dy, In tx, In tw, In tdy, Out tdx, Out tdw, Out tdb),
         (rows, n, x, w, m, r, dy, tx, tw, tdy, tdx, tdw, tdb), 30 * rows * n, 5 * rows * n * E)
MEASURED_RESULT(double, cross_entropy, (int64_t rows, int64_t n, In x, const int32_t *t, Out lse, int64_t *c), (rows, n, x, t, lse, c), 3 * rows * n, rows * n * E)
MEASURED(cross_entropy_backward, (int64_t rows, int64_t n, In x, const int32_t *t, In lse, double s, Out d), (rows, n, x, t, lse, s, d), 3 * rows * n, 2 * rows * n * E)
MEASURED(cross_entropy_backward_tangent, (int64_t rows, int64_t n, In x, const int32_t *t, In lse, In dl, double s, double ds, Out o), (rows, n, x, t, lse, dl, s, ds, o),
         7 * rows * n, 3 * rows * n * E)
MEASURED(cross_entropy_pair, (int64_t rows, int64_t n, In x, const int32_t *t, In lse, double s, double ds, Out d, Out dl), (rows, n, x, t, lse, s, ds, d, dl), 8 * rows * n, 4 * rows * n * E)
MEASURED(rotary, (int64_t b, int64_t t, int64_t h, int64_t w, int64_t rotated, bool inter, double sign, In c, In s, const int64_t xs[3], In x, const int64_t ys[3], Out y),
         (b, t, h, w, rotated, inter, sign, c, s, xs, x, ys, y), 3 * b * t * h * rotated, 2 * b * t * h * w * E)
MEASURED(turn, (const Turn *t, int64_t rows, int64_t n, Out x), (t, rows, n, x), 3 * rows * n / t->width / t->group * t->turned * t->rotated, 2 * rows * n * E)
MEASURED(attention, (const Attention *a, Heads q, Heads k, Heads v, Heads o, Out lse), (a, q, k, v, o, lse), pairs(a) * (4 * (double)a->width + 4), heads_bytes(a, 2, 2))
MEASURED(attention_backward, (const Attention *a, Heads q, Heads k, Heads v, Heads o, In lse, Heads d, Heads dq, Heads dk, Heads dv), (a, q, k, v, o, lse, d, dq, dk, dv),
         pairs(a) * (10 * (double)a->width + 6), heads_bytes(a, 4, 4))
MEASURED(attention_tangent, (const Attention *a, Heads q, Heads k, Heads v, Heads o, In lse, Heads tq, Heads tk, Heads tv, Heads to, Out tl),
         (a, q, k, v, o, lse, tq, tk, tv, to, tl), pairs(a) * (10 * (double)a->width + 6), heads_bytes(a, 4, 4))
MEASURED(attention_backward_tangent,
         (const Attention *a, Heads q, Heads k, Heads v, Heads o, In lse, Heads d, Heads tq, Heads tk, Heads tv, Heads to, In tl, Heads td, Heads x, Heads y, Heads z),
         (a, q, k, v, o, lse, d, tq, tk, tv, to, tl, td, x, y, z), pairs(a) * (24 * (double)a->width + 16), heads_bytes(a, 7, 6))
MEASURED(activation_backward, (Unary f, int64_t n, In x, In g, Out o), (f, n, x, g, o), n, 3 * n * E)
MEASURED(activation_backward_tangent, (Unary f, int64_t n, In x, In g, In tx, In tg, Out o), (f, n, x, g, tx, tg, o), 4 * n, 5 * n * E)
MEASURED(activation_pair, (Unary f, int64_t n, In x, In g, In tx, In tg, Out y, Out t), (f, n, x, g, tx, tg, y, t), 5 * n, 6 * n * E)
MEASURED(dropout, (int64_t n, In x, const Random *r, double p, Out y), (n, x, r, p, y), n, 2 * n * E)
MEASURED(conv1d, (int64_t b, int64_t t, int64_t c, int64_t taps, In x, In w, Out y), (b, t, c, taps, x, w, y), 2 * b * t * c * taps, 2 * b * t * c * E)
MEASURED(conv1d_backward, (int64_t b, int64_t t, int64_t c, int64_t taps, In x, In w, In dy, Out dx, Out dw), (b, t, c, taps, x, w, dy, dx, dw), 4 * b * t * c * taps, 3 * b * t * c * E)
MEASURED(scan, (int64_t outer, int64_t n, int64_t inner, In a, In b, Out y, bool back), (outer, n, inner, a, b, y, back), 2 * outer * n * inner, 3 * outer * n * inner * E)
MEASURED(update, (UpdateRule rule, int64_t count, const Update *u), (rule, count, u), 12 * update_elements(count, u), 7 * update_elements(count, u) * E)
MEASURED(gradient_squares, (int64_t count, const Update *u, double *partial), (count, u, partial), 2 * update_elements(count, u), update_elements(count, u) * E)

#define SLOT(name) .name = name##_measured
const Kernels K(measured_kernels) = {
  .name = "cpu " REAL_NAME, .element = E,
  SLOT(fill), SLOT(copy), SLOT(unary), SLOT(binary), SLOT(select), SLOT(multiply_add), SLOT(uniform), SLOT(normal), SLOT(arange),
  SLOT(reduce), SLOT(cumsum), SLOT(dot), SLOT(all_finite), SLOT(logsumexp), SLOT(softmax), SLOT(softmax_backward), SLOT(select_rows),
  SLOT(gemm), SLOT(gram), SLOT(cholesky), SLOT(inner_products), SLOT(combine), SLOT(gather_rows), SLOT(scatter_add_rows), SLOT(pick), SLOT(unpick),
  SLOT(layer_norm), SLOT(layer_norm_backward), SLOT(rms_norm), SLOT(rms_norm_backward), SLOT(norm_tangent), SLOT(norm_backward_tangent),
  SLOT(cross_entropy), SLOT(cross_entropy_backward), SLOT(cross_entropy_backward_tangent), SLOT(cross_entropy_pair), SLOT(rotary), SLOT(turn),
  SLOT(attention), SLOT(attention_backward), SLOT(attention_tangent), SLOT(attention_backward_tangent),
  SLOT(activation_backward), SLOT(activation_backward_tangent), SLOT(activation_pair), SLOT(dropout), SLOT(conv1d), SLOT(conv1d_backward), SLOT(scan),
  SLOT(update), SLOT(gradient_squares),
};

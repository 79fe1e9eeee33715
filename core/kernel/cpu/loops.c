/* loops.c - elementwise kernels over strided, broadcast operands.
 *
 * Each function of the enums is one line: a macro makes of it a "row" that runs over
 * the innermost axis, with a fast path for dense operands that the compiler turns into
 * vector code. One driver runs a row over the whole loop and shares it among threads. */
#include <math.h>
#include <string.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"
#include "kernel/cpu/vmath.h"

/* the libm function of the element type: R(fabs) is fabsf or fabs */
#define R(name) REAL(name##f, name)

/* p[k]: data of operand k; s[k]: its stride; c: parameters */
typedef void (*Row)(int64_t n, real *const *p, const int64_t *s, const real *c);

enum { SERIAL = 1 << 15, CHUNK = 1 << 14 }; /* elements: below SERIAL threads cost more than they give */

static void row_at(const Loop *l, int64_t run, int64_t *index, real **p) {
  for (int i = l->ndim - 2; i >= 0; i--) {
    index[i] = run % l->shape[i];
    run /= l->shape[i];
  }
  for (int k = 0; k < l->operands; k++) {
    p[k] = l->data[k];
    for (int i = 0; i + 1 < l->ndim; i++) p[k] += index[i] * l->stride[k][i];
  }
}

static void next_row(const Loop *l, int64_t *index, real **p) {
  for (int i = l->ndim - 2; i >= 0; i--) {
    for (int k = 0; k < l->operands; k++) p[k] += l->stride[k][i];
    if (++index[i] < l->shape[i]) return;
    for (int k = 0; k < l->operands; k++) p[k] -= l->stride[k][i] * l->shape[i];
    index[i] = 0;
  }
}

/* Runs [begin, end) of the loop's rows. */
static void some_rows(const Loop *l, Row row, const real *c, int64_t begin, int64_t end) {
  int64_t index[MAX_DIMS], step[MAX_OPERANDS];
  real *p[MAX_OPERANDS];
  int last = l->ndim - 1;
  for (int k = 0; k < l->operands; k++) step[k] = l->stride[k][last];
  row_at(l, begin, index, p);
  for (int64_t r = begin; r < end; r++) {
    row(l->shape[last], p, step, c);
    next_row(l, index, p);
  }
}

/* One long row, cut into chunks for the threads. */
static void long_row(const Loop *l, Row row, const real *c, real *const *start, int64_t n) {
  int last = l->ndim - 1;
  int64_t chunks = (n + CHUNK - 1) / CHUNK;
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < chunks; i++) {
    real *p[MAX_OPERANDS];
    int64_t step[MAX_OPERANDS], from = i * CHUNK;
    for (int k = 0; k < l->operands; k++) {
      step[k] = l->stride[k][last];
      p[k] = start[k] + from * step[k];
    }
    row(n - from < CHUNK ? n - from : CHUNK, p, step, c);
  }
}

static void drive(const Loop *l, Row row, const real *c) {
  int64_t n = l->shape[l->ndim - 1], runs = 1;
  for (int i = 0; i + 1 < l->ndim; i++) runs *= l->shape[i];
  if (n == 0 || runs == 0) return;
  if (n * runs < SERIAL) {
    some_rows(l, row, c, 0, runs);
  } else if (n >= 4 * CHUNK) {
    int64_t index[MAX_DIMS];
    real *p[MAX_OPERANDS];
    row_at(l, 0, index, p);
    for (int64_t r = 0; r < runs; r++) {
      long_row(l, row, c, p, n);
      next_row(l, index, p);
    }
  } else {
    int64_t group = (CHUNK + n - 1) / n, groups = (runs + group - 1) / group;
#pragma omp parallel for schedule(static)
    for (int64_t g = 0; g < groups; g++)
      some_rows(l, row, c, g * group, (g + 1) * group < runs ? (g + 1) * group : runs);
  }
}

/* --- fill, copy --- */

static void row_fill(int64_t n, real *const *p, const int64_t *s, const real *c) {
  real *y = p[0], v = c[0];
  if (s[0] == 1) for (int64_t i = 0; i < n; i++) y[i] = v;
  else for (int64_t i = 0; i < n; i++) y[i * s[0]] = v;
}

static void row_copy(int64_t n, real *const *p, const int64_t *s, const real *c) {
  (void)c;
  real *y = p[0];
  const real *x = p[1];
  if (s[0] == 1 && s[1] == 1) memmove(y, x, (size_t)n * sizeof *y);
  else for (int64_t i = 0; i < n; i++) y[i * s[0]] = x[i * s[1]];
}

void K(fill)(const Loop *l, double value) {
  real c[] = {(real)value};
  drive(l, row_fill, c);
}

void K(copy)(const Loop *l) { drive(l, row_copy, NULL); }

/* --- functions of one argument --- */

#define UNARY_ROW(name, expression)                                                  \
  static void row_##name(int64_t n, real *const *p_, const int64_t *s, const real *c) { \
    real *y = p_[0];                                                                 \
    const real *a = p_[1];                                                           \
    const real p = c[0];                                                             \
    (void)p;                                                                         \
    if (s[0] == 1 && s[1] == 1) {                                                    \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                          \
        const real x = a[i];                                                         \
        y[i] = (expression);                                                         \
      }                                                                              \
    } else {                                                                         \
      for (int64_t i = 0; i < n; i++) {                                              \
        const real x = a[i * s[1]];                                                  \
        y[i * s[0]] = (expression);                                                  \
      }                                                                              \
    }                                                                                \
  }

UNARY_ROW(neg, -x)
UNARY_ROW(abs, R(fabs)(x))
UNARY_ROW(sign, (real)((x > 0) - (x < 0)))
UNARY_ROW(square, x * x)
UNARY_ROW(sqrt, R(sqrt)(x))
UNARY_ROW(rsqrt, 1 / R(sqrt)(x))
UNARY_ROW(reciprocal, 1 / x)
UNARY_ROW(exp, real_exp(x))
UNARY_ROW(expm1, R(expm1)(x))
UNARY_ROW(log, real_log(x))
UNARY_ROW(log1p, R(log1p)(x))
UNARY_ROW(sin, R(sin)(x))
UNARY_ROW(cos, R(cos)(x))
UNARY_ROW(tanh, real_tanh(x))
UNARY_ROW(sigmoid, real_sigmoid(x))
UNARY_ROW(softplus, real_softplus(x))
UNARY_ROW(erf, real_erf(x))
UNARY_ROW(relu, x > 0 ? x : (x != x ? x : 0))
UNARY_ROW(relu2, x > 0 ? x * x : (x != x ? x : 0))
UNARY_ROW(silu, real_silu(x))
UNARY_ROW(silu_grad, real_silu_grad(x))
UNARY_ROW(gelu, real_gelu(x))
UNARY_ROW(gelu_grad, real_gelu_grad(x))
UNARY_ROW(gelu_grad2, real_gelu_grad2(x))
UNARY_ROW(gelu_tanh, real_gelu_tanh(x))
UNARY_ROW(gelu_tanh_grad, real_gelu_tanh_grad(x))
UNARY_ROW(floor, R(floor)(x))
UNARY_ROW(ceil, R(ceil)(x))
UNARY_ROW(round, R(rint)(x)) /* half to even, as the processor rounds */
UNARY_ROW(pow, R(pow)(x, p))
UNARY_ROW(add, x + p)
UNARY_ROW(mul, x * p)
UNARY_ROW(clamp_min, x < p ? p : x)
UNARY_ROW(clamp_max, x > p ? p : x)
UNARY_ROW(step, (real)(x > 0))
UNARY_ROW(not, (real)(x == 0))
UNARY_ROW(isnan, (real)(x != x))
UNARY_ROW(isfinite, (real)(x - x == 0))

static const Row unary_rows[UNARY_COUNT] = {
  [U_NEG] = row_neg, [U_ABS] = row_abs, [U_SIGN] = row_sign, [U_SQUARE] = row_square, [U_SQRT] = row_sqrt, [U_RSQRT] = row_rsqrt,
  [U_RECIPROCAL] = row_reciprocal, [U_EXP] = row_exp, [U_EXPM1] = row_expm1, [U_LOG] = row_log, [U_LOG1P] = row_log1p,
  [U_SIN] = row_sin, [U_COS] = row_cos, [U_TANH] = row_tanh, [U_SIGMOID] = row_sigmoid, [U_SOFTPLUS] = row_softplus, [U_ERF] = row_erf,
  [U_RELU] = row_relu, [U_RELU2] = row_relu2, [U_SILU] = row_silu, [U_GELU] = row_gelu, [U_GELU_TANH] = row_gelu_tanh,
  [U_FLOOR] = row_floor, [U_CEIL] = row_ceil, [U_ROUND] = row_round, [U_GELU_GRAD] = row_gelu_grad, [U_GELU_GRAD2] = row_gelu_grad2,
  [U_GELU_TANH_GRAD] = row_gelu_tanh_grad, [U_SILU_GRAD] = row_silu_grad, [U_POW] = row_pow, [U_ADD] = row_add, [U_MUL] = row_mul,
  [U_CLAMP_MIN] = row_clamp_min, [U_CLAMP_MAX] = row_clamp_max, [U_STEP] = row_step, [U_NOT] = row_not, [U_ISNAN] = row_isnan,
  [U_ISFINITE] = row_isfinite,
};

void K(unary)(Unary op, const Loop *l, double p) {
  real c[] = {(real)p};
  drive(l, unary_rows[op], c);
}

/* --- functions of two arguments --- */

#define BINARY_ROW(name, expression)                                                   \
  static void row2_##name(int64_t n, real *const *p, const int64_t *s, const real *c) { \
    real *out = p[0];                                                                  \
    const real *a = p[1], *b = p[2];                                                   \
    (void)c;                                                                           \
    if (s[0] == 1 && s[1] == 1 && s[2] == 1) {                                         \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                            \
        const real x = a[i], y = b[i];                                                 \
        out[i] = (expression);                                                         \
      }                                                                                \
    } else if (s[0] == 1 && s[1] == 1 && s[2] == 0) {                                  \
      const real y = *b;                                                               \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                            \
        const real x = a[i];                                                           \
        out[i] = (expression);                                                         \
      }                                                                                \
    } else if (s[0] == 1 && s[1] == 0 && s[2] == 1) {                                  \
      const real x = *a;                                                               \
      _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                            \
        const real y = b[i];                                                           \
        out[i] = (expression);                                                         \
      }                                                                                \
    } else {                                                                           \
      for (int64_t i = 0; i < n; i++) {                                                \
        const real x = a[i * s[1]], y = b[i * s[2]];                                   \
        out[i * s[0]] = (expression);                                                  \
      }                                                                                \
    }                                                                                  \
  }

BINARY_ROW(add, x + y)
BINARY_ROW(sub, x - y)
BINARY_ROW(mul, x * y)
BINARY_ROW(div, x / y)
BINARY_ROW(pow, R(pow)(x, y))
BINARY_ROW(max, x > y || x != x ? x : y) /* NaN wins */
BINARY_ROW(min, x < y || x != x ? x : y)
BINARY_ROW(eq, (real)(x == y))
BINARY_ROW(ne, (real)(x != y))
BINARY_ROW(lt, (real)(x < y))
BINARY_ROW(le, (real)(x <= y))
BINARY_ROW(gt, (real)(x > y))
BINARY_ROW(ge, (real)(x >= y))
BINARY_ROW(atan2, R(atan2)(x, y))

static const Row binary_rows[BINARY_COUNT] = {
  [B_ADD] = row2_add, [B_SUB] = row2_sub, [B_MUL] = row2_mul, [B_DIV] = row2_div, [B_POW] = row2_pow, [B_MAX] = row2_max,
  [B_MIN] = row2_min, [B_EQ] = row2_eq, [B_NE] = row2_ne, [B_LT] = row2_lt, [B_LE] = row2_le, [B_GT] = row2_gt, [B_GE] = row2_ge,
  [B_ATAN2] = row2_atan2,
};

void K(binary)(Binary op, const Loop *l) { drive(l, binary_rows[op], NULL); }

/* --- three operands --- */

static void row_select(int64_t n, real *const *p, const int64_t *s, const real *c) {
  (void)c;
  for (int64_t i = 0; i < n; i++) p[0][i * s[0]] = p[1][i * s[1]] != 0 ? p[2][i * s[2]] : p[3][i * s[3]];
}

static void row_multiply_add(int64_t n, real *const *p, const int64_t *s, const real *c) {
  real *y = p[0];
  const real *u = p[1], *v = p[2], a = c[0], b = c[1];
  if (s[0] == 1 && s[1] == 1 && s[2] == 1) {
#pragma omp simd
    for (int64_t i = 0; i < n; i++) y[i] = a * u[i] + b * v[i];
  } else {
    for (int64_t i = 0; i < n; i++) y[i * s[0]] = a * u[i * s[1]] + b * v[i * s[2]];
  }
}

void K(select)(const Loop *l) { drive(l, row_select, NULL); }

void K(multiply_add)(const Loop *l, double a, double b) {
  real c[] = {(real)a, (real)b};
  drive(l, row_multiply_add, c);
}

/* --- generated values: element pair (2i, 2i + 1) comes from block i of the stream, whatever the thread --- */

typedef struct Pair { double a, b; } Pair;

static Pair uniform_pair(const Random *r, uint64_t block) {
  uint32_t x[4];
  random_block(r, block, x);
  return (Pair){((double)((uint64_t)x[0] << 21 ^ x[1] >> 11)) * 0x1p-53, ((double)((uint64_t)x[2] << 21 ^ x[3] >> 11)) * 0x1p-53};
}

static void generate(real *x, int64_t n, const Random *r, double a, double b, bool normal) {
  int64_t blocks = (n + 1) / 2;
#pragma omp parallel for schedule(static) if (n > SERIAL)
  for (int64_t i = 0; i < blocks; i++) {
    Pair u = uniform_pair(r, r->counter + (uint64_t)i);
    if (normal) { /* Box-Muller: both results are used */
      double radius = sqrt(-2 * log(1 - u.a)), angle = 6.283185307179586 * u.b;
      u = (Pair){a + b * radius * cos(angle), a + b * radius * sin(angle)};
    } else {
      u = (Pair){a + (b - a) * u.a, a + (b - a) * u.b};
    }
    x[2 * i] = (real)u.a;
    if (2 * i + 1 < n) x[2 * i + 1] = (real)u.b;
  }
}

void K(uniform)(void *x, int64_t n, const Random *r, double low, double high) { generate(x, n, r, low, high, false); }
void K(normal)(void *x, int64_t n, const Random *r, double mean, double deviation) { generate(x, n, r, mean, deviation, true); }

void K(arange)(void *x, int64_t n, double start, double step) {
  real *y = x;
  for (int64_t i = 0; i < n; i++) y[i] = (real)(start + (double)i * step);
}

/* activation.c - gradients of the activation functions of networks times what comes in,
 * and the tangents of that, each or both in one pass: y' = f'(x) g,  t = f'(x) tg + f''(x) g tx. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"
#include "kernel/cpu/vmath.h"

enum { CHUNK = 4096 }; /* elements a thread takes at a time */

typedef void (*Backward)(int64_t n, const real *x, const real *g, real *out);
typedef void (*Tangent)(int64_t n, const real *x, const real *g, const real *tx, const real *tg, real *out);
typedef void (*Both)(int64_t n, const real *x, const real *g, const real *tx, const real *tg, real *y, real *t);

/* The loops of function f with derivatives f_grad and f_grad2 of vmath.h. */
#define LOOPS(f)                                                                                                               \
  static void f##_forward(int64_t n, const real *x, real *y) {                                                                 \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) y[i] = real_##f(x[i]);                                                 \
  }                                                                                                                            \
  static void f##_backward(int64_t n, const real *x, const real *g, real *out) {                                               \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = real_##f##_grad(x[i]) * g[i];                                 \
  }                                                                                                                            \
  static void f##_tangent(int64_t n, const real *x, const real *g, const real *tx, const real *tg, real *out) {                \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = real_##f##_grad(x[i]) * tg[i] + real_##f##_grad2(x[i]) * (g[i] * tx[i]); \
  }                                                                                                                            \
  static void f##_curve(int64_t n, const real *x, const real *g, const real *tx, const real *tg, real *out) {                  \
    (void)tg;                                                                                                                  \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) out[i] = real_##f##_grad2(x[i]) * (g[i] * tx[i]);                      \
  }                                                                                                                            \
  static void f##_pair(int64_t n, const real *x, const real *g, const real *tx, const real *tg, real *y, real *t) {            \
    _Pragma("omp simd") for (int64_t i = 0; i < n; i++) {                                                                      \
      const real gi = g[i], slope = real_##f##_grad(x[i]);                                                                     \
      t[i] = slope * tg[i] + real_##f##_grad2(x[i]) * (gi * tx[i]);                                                            \
      y[i] = slope * gi;                                                                                                       \
    }                                                                                                                          \
  }
LOOPS(gelu)
LOOPS(gelu_tanh)
LOOPS(silu)

void K(activation_row)(Unary f, int64_t n, const void *x, void *y) {
  if (f == U_GELU) gelu_forward(n, x, y);
  else if (f == U_GELU_TANH) gelu_tanh_forward(n, x, y);
  else silu_forward(n, x, y);
}

static int64_t chunk(int64_t n, int64_t i) { return n - i < CHUNK ? n - i : CHUNK; }

void K(activation_backward)(Unary f, int64_t n, const void *x, const void *g, void *out) {
  const Backward loop = f == U_GELU ? gelu_backward : f == U_GELU_TANH ? gelu_tanh_backward : silu_backward;
#pragma omp parallel for if (n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i += CHUNK) loop(chunk(n, i), (const real *)x + i, (const real *)g + i, (real *)out + i);
}

void K(activation_backward_tangent)(Unary f, int64_t n, const void *x, const void *g, const void *tx, const void *tg, void *out) {
  if (!tx) {
    K(activation_backward)(f, n, x, tg, out);
    return;
  }
  const Tangent both = f == U_GELU ? gelu_tangent : f == U_GELU_TANH ? gelu_tanh_tangent : silu_tangent;
  const Tangent curve = f == U_GELU ? gelu_curve : f == U_GELU_TANH ? gelu_tanh_curve : silu_curve;
#pragma omp parallel for if (n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i += CHUNK)
    (tg ? both : curve)(chunk(n, i), (const real *)x + i, (const real *)g + i, (const real *)tx + i, tg ? (const real *)tg + i : NULL, (real *)out + i);
}

static void pair(Unary f, int64_t n, const real *x, const real *g, const real *tx, const real *tg, real *y, real *t) {
  const Both loop = f == U_GELU ? gelu_pair : f == U_GELU_TANH ? gelu_tanh_pair : silu_pair;
#pragma omp parallel for if (n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < n; i += CHUNK) loop(chunk(n, i), x + i, g + i, tx + i, tg + i, y + i, t + i);
}

void K(activation_pair)(Unary f, int64_t n, const void *x, const void *g, const void *tx, const void *tg, void *y, void *t) {
  if (tx && tg) {
    pair(f, n, x, g, tx, tg, y, t);
    return;
  }
  if (t) K(activation_backward_tangent)(f, n, x, g, tx, tg, t);
  K(activation_backward)(f, n, x, g, y);
}

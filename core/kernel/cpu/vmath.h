/* vmath.h - transcendental functions that vectorise.
 *
 * In float every function is straight-line code (comparisons become blends), so a
 * plain loop or `omp simd` over it becomes vector code without -ffast-math and
 * without a vector library. They err by a few ulp at most (by how many, says
 * tests/unit/kernel_vmath.c); NaN, infinities and denormals come out as from libm.
 * In double they are libm's: f64 is here to check gradients, not for speed.
 *
 * The polynomials are minimax fits by the Remez exchange in 40-digit arithmetic,
 * each for the relative error of the function it serves; the errors are noted. */
#ifndef quench_kernel_vmath_h
#define quench_kernel_vmath_h

#include "kernel/cpu/real.h"

#define SQRT_2_OVER_PI 0.79788456080286535588
#define INV_SQRT_2PI 0.39894228040143267794
#define SQRT_HALF 0.70710678118654752440
#define GELU_CUBIC 0.044715 /* Hendrycks and Gimpel 2016, eq. of the tanh form */

#if REAL_BITS == 32

static inline int32_t float_bits(float x) {
  int32_t i;
  __builtin_memcpy(&i, &x, sizeof i);
  return i;
}
static inline float bits_float(int32_t i) {
  float x;
  __builtin_memcpy(&x, &i, sizeof x);
  return x;
}

static inline float power_of_two(int32_t n) { return bits_float((int32_t)((uint32_t)(n + 127) << 23)); }

/* c ? a : b on the bits. Written with ?: the compiler follows both outcomes of a clamp
 * through the rest of the function, which comes to four times the vector code. */
static inline float blend(bool c, float a, float b) {
  int32_t mask = -(int32_t)c;
  return bits_float((float_bits(a) & mask) | (float_bits(b) & ~mask));
}

/* The smallest and largest arguments whose exponential is neither 0 nor infinite. */
#define EXP_LOW (-104.0f)
#define EXP_HIGH 89.0f

/* e^(x + small): x = n ln 2 + r, |r| <= ln(2)/2; `small` is the low part of an argument
 * that does not fit a float. 2^n goes in as two factors so that results below the
 * normal range round once. Fit 2.7e-8. */
static inline float exp_split(float x, float small) {
  const bool zero = x < EXP_LOW;
  x = blend(zero, 0.0f, x); /* NaN passes both comparisons by */
  x = blend(x > EXP_HIGH, EXP_HIGH, x);
  const float magic = 12582912.0f; /* 1.5 2^23: adding it rounds to an integer in the low bits */
  float t = x * 1.44269504089f + magic, n = t - magic;
  float r = x - n * 0.693145751953125f; /* 17 bits of ln 2: the product is exact */
  r = r - n * 1.42860682030e-6f + small;
  float p = 0.001316748376f;
  p = p * r + 0.008353480472f;
  p = p * r + 0.04167635001f;
  p = p * r + 0.166667102f;
  p = p * r + 0.49999992f;
  p = p * (r * r) + r + 1.0f;
  int32_t i = float_bits(t) - float_bits(magic), half = i >> 1;
  /* an underflow that the processor has to find out by itself costs some hundred cycles */
  return p * power_of_two(half) * blend(zero, 0.0f, power_of_two(i - half));
}
static inline float real_exp(float x) { return exp_split(x, 0.0f); }

/* ln x: x = 2^e m with m in [sqrt(1/2), sqrt 2). Fit 7.5e-10. */
static inline float real_log(float x) {
  float scaled = blend(x < FLT_MIN, x * 8388608.0f, x); /* denormals times 2^23 */
  uint32_t i = (uint32_t)float_bits(scaled);
  int32_t e = (int32_t)(i - 0x3f3504f3u) >> 23; /* from sqrt(1/2) on */
  float f = bits_float((int32_t)(i - ((uint32_t)e << 23))) - 1.0f;
  float k = (float)e - blend(x < FLT_MIN, 23.0f, 0.0f);
  float p = 0.06746648896f;
  p = p * f - 0.116756551f;
  p = p * f + 0.1188816038f;
  p = p * f - 0.1240558831f;
  p = p * f + 0.1421955254f;
  p = p * f - 0.1666799589f;
  p = p * f + 0.2000211865f;
  p = p * f - 0.250000096f;
  p = p * f + 0.333333126f;
  float square = f * f;
  float y = p * (f * square) + k * -2.12194440e-4f; /* ln 2 = 0.693359375 - 2.1219e-4 */
  y = y - 0.5f * square + f + k * 0.693359375f;
  y = blend(x < INFINITY, y, x); /* infinity and NaN */
  y = blend(x == 0.0f, -INFINITY, y);
  return blend(x < 0.0f, NAN, y);
}

/* ln(1 + x) for x in [0, 1], as softplus needs it. */
static inline float log1p_unit(float x) {
  float u = 1.0f + x;
  return real_log(u) + (x - (u - 1.0f)) / u;
}

/* Fit 4.4e-9 below 0.625; 1 - 2 / (e^2x + 1) beyond. */
static inline float real_tanh(float x) {
  float a = real_abs(x), z = x * x;
  float p = -0.005704985906f;
  p = p * z + 0.0206390863f;
  p = p * z - 0.05373971482f;
  p = p * z + 0.133314422f;
  p = p * z - 0.3333328194f;
  p = p * (z * x) + x;
  float q = 1.0f - 2.0f / (real_exp(2.0f * a) + 1.0f);
  return blend(a < 0.625f, p, copysignf(q, x));
}

/* 1 / (1 + e^-x), by e^-|x| so that nothing overflows and small values keep their digits. */
static inline float real_sigmoid(float x) {
  float e = real_exp(-real_abs(x)), r = 1.0f / (1.0f + e);
  return blend(x < 0.0f, e * r, r);
}

/* e^(-x^2/2) with the digits of x^2 that a float loses: x^2 = h^2 + (x - h)(x + h), h the
 * upper half of x's bits. */
static inline float gauss(float x) {
  x = real_abs(x);
  x = blend(x > 16.0f, 16.0f, x); /* e^-128 is 0 */
  float h = bits_float(float_bits(x) & (int32_t)0xfffff000);
  return exp_split(-0.5f * (h * h), -0.5f * ((x - h) * (x + h)));
}

/* Phi(-a) e^(a^2/2) for a in [0, 14.5], a polynomial in t = 1 / (1 + 0.35 a). Fit 3.2e-8. */
static inline float tail_ratio(float a) {
  float t = 1.0f / (1.0f + 0.35f * a);
  float p = -0.02915786314f;
  p = p * t + 0.144030821f;
  p = p * t - 0.2558388225f;
  p = p * t + 0.1593195114f;
  p = p * t - 0.02321224112f;
  p = p * t + 0.10555246f;
  p = p * t + 0.1198212972f;
  p = p * t + 0.1398635143f;
  p = p * t + 0.1396213069f;
  return p * t;
}

/* Phi(x), the standard normal distribution function, from e = gauss(x), which its callers need as well. */
static inline float normal_cdf(float x, float e) {
  float tail = e * tail_ratio(real_abs(x));
  return blend(x < 0.0f, tail, 1.0f - tail);
}

/* Fit 1.2e-9 below 1; 1 - 2 Phi(-sqrt(2) |x|) beyond. */
static inline float real_erf(float x) {
  float a = real_abs(x), z = x * x, b = 1.41421356237f * a;
  float p = 7.853860784e-5f;
  p = p * z - 0.0008010193446f;
  p = p * z + 0.005188327665f;
  p = p * z - 0.02685381192f;
  p = p * z + 0.1128358515f;
  p = p * z - 0.3761262582f;
  p = (p * z + 0.128379166f) * x + x;
  float q = 1.0f - 2.0f * (gauss(b) * tail_ratio(b));
  return blend(a < 1.0f, p, copysignf(q, x));
}

#else

static inline double blend(bool c, double a, double b) { return c ? a : b; }
static inline double real_exp(double x) { return exp(x); }
static inline double real_log(double x) { return log(x); }
static inline double log1p_unit(double x) { return log1p(x); }
static inline double real_tanh(double x) { return tanh(x); }
static inline double real_sigmoid(double x) {
  double e = exp(-fabs(x)), r = 1 / (1 + e);
  return x < 0 ? e * r : r;
}
static inline double gauss(double x) { return exp(-0.5 * x * x); }
static inline double normal_cdf(double x, double e) {
  (void)e;
  return 0.5 * erfc(-x * SQRT_HALF);
}
static inline double real_erf(double x) { return erf(x); }

#endif

/* x within [-limit, limit]; NaN stays NaN. */
static inline real clamp(real x, real limit) { return blend(x > limit, limit, blend(x < -limit, -limit, x)); }

static inline real real_softplus(real x) { return blend(x > 0, x, 0) + log1p_unit(real_exp(-real_abs(x))); }

/* GELU (Hendrycks and Gimpel 2016): x Phi(x), and its first two derivatives. Beyond
 * |x| = FLAT the derivatives are constant; clamping there keeps 0 times infinity out. */
#define FLAT 40
static inline real real_gelu(real x) { return x * normal_cdf(x, gauss(x)); }
static inline real real_gelu_grad(real x) {
  real e = gauss(x);
  return normal_cdf(x, e) + clamp(x, FLAT) * (e * (real)INV_SQRT_2PI);
}
static inline real real_gelu_grad2(real x) {
  x = clamp(x, FLAT);
  return gauss(x) * (real)INV_SQRT_2PI * (2 - x * x);
}

/* The tanh form, written as x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
static inline real gelu_tanh_argument(real x) { return 2 * (real)SQRT_2_OVER_PI * (x + (real)GELU_CUBIC * (x * x * x)); }
static inline real real_gelu_tanh(real x) { return x * real_sigmoid(gelu_tanh_argument(x)); }
static inline real real_gelu_tanh_grad(real x) {
  x = clamp(x, FLAT);
  real u = gelu_tanh_argument(x), s = real_sigmoid(u);
  return s + x * s * real_sigmoid(-u) * (2 * (real)SQRT_2_OVER_PI) * (1 + 3 * (real)GELU_CUBIC * (x * x));
}
/* with s = sigmoid(u): 2 s' u' + x s' ((1 - 2 s) u'^2 + u''), s' = s (1 - s) */
static inline real real_gelu_tanh_grad2(real x) {
  const real a = 2 * (real)SQRT_2_OVER_PI, c = (real)GELU_CUBIC;
  x = clamp(x, FLAT);
  real u = gelu_tanh_argument(x), s = real_sigmoid(u), other = real_sigmoid(-u), u1 = a * (1 + 3 * c * (x * x)), u2 = 6 * a * c * x;
  return s * other * (2 * u1 + x * ((other - s) * (u1 * u1) + u2));
}

static inline real real_silu(real x) { return x * real_sigmoid(x); }
static inline real real_silu_grad(real x) {
  x = clamp(x, REAL(105, 760)); /* where e^-x is 0 */
  real s = real_sigmoid(x);
  return s + x * s * real_sigmoid(-x);
}
static inline real real_silu_grad2(real x) {
  x = clamp(x, REAL(105, 760));
  real s = real_sigmoid(x), other = real_sigmoid(-x);
  return s * other * (2 + x * (other - s));
}

#endif

/* The float functions of cpu/vmath.h against libm in double, in units of the last
 * place, over grids that take in denormals, both overflow edges, zeros, infinities and NaN. */
#include "tests/tap.h"

#define REAL_BITS 32
#include "kernel/cpu/vmath.h"

typedef float (*Approximate)(float);
typedef double (*Exact)(double);

static double ulp_of(double y) {
  int e;
  frexp(y, &e);
  return ldexp(1, e < -125 ? -149 : e - 24);
}

/* Every 997th float pattern of both signs within [low, high]: some four million points. */
static double worst_error(Approximate f, Exact g, double low, double high, float *where) {
  double worst = 0;
  for (int64_t bits = -0x7f800000LL; bits <= 0x7f800000LL; bits += 997) {
    float x = bits < 0 ? -bits_float((int32_t)-bits) : bits_float((int32_t)bits);
    if (x < low || x > high) continue;
    double exact = g(x), y = f(x);
    if (fabs(exact) > FLT_MAX) {
      if (y != exact && y != (exact > 0 ? INFINITY : -INFINITY) && fabs(y) != FLT_MAX) { *where = x; return INFINITY; }
      continue;
    }
    double error = fabs(y - exact) / ulp_of(exact);
    if (!(error <= worst)) { worst = isnan(error) ? INFINITY : error; *where = x; }
  }
  return worst;
}

static double exact_sigmoid(double x) { return x < 0 ? exp(x) / (1 + exp(x)) : 1 / (1 + exp(-x)); }
static double exact_cdf(double x) { return 0.5 * erfc(-x * SQRT_HALF); }
static double exact_density(double x) { return INV_SQRT_2PI * exp(-0.5 * x * x); }
static double exact_softplus(double x) { return fmax(x, 0) + log1p(exp(-fabs(x))); }
static double exact_gelu(double x) { return x * exact_cdf(x); }
static double exact_gelu_grad(double x) { return exact_cdf(x) + x * exact_density(x); }
static double exact_gelu_grad2(double x) { return (2 - x * x) * exact_density(x); }
static double exact_silu(double x) { return x * exact_sigmoid(x); }
static double exact_silu_grad(double x) { return exact_sigmoid(x) * (1 + x * exact_sigmoid(-x)); }
static double argument(double x) { return 2 * SQRT_2_OVER_PI * (x + GELU_CUBIC * x * x * x); }
static double exact_gelu_tanh(double x) { return x * exact_sigmoid(argument(x)); }
static double exact_gelu_tanh_grad(double x) {
  double s = exact_sigmoid(argument(x));
  return s + x * s * exact_sigmoid(-argument(x)) * 2 * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * x * x);
}
static double exact_gelu_tanh_grad2(double x) {
  double s = exact_sigmoid(argument(x)), o = exact_sigmoid(-argument(x)), a = 2 * SQRT_2_OVER_PI, u = a * (1 + 3 * GELU_CUBIC * x * x);
  return s * o * (2 * u + x * ((o - s) * u * u + 6 * a * GELU_CUBIC * x));
}
static double exact_silu_grad2(double x) {
  double s = exact_sigmoid(x), o = exact_sigmoid(-x);
  return s * o * (2 + x * (o - s));
}

static void relative(const char *name, Approximate f, Exact g, double low, double high, double limit) {
  float where = 0;
  double worst = worst_error(f, g, low, high, &where);
  if (!ok(worst <= limit, "%s: %.2f ulp at most on [%g, %g]", name, worst, low, high))
    printf("#   worst at %.9g: %.9g, exact %.17g, allowed %g ulp\n", where, f(where), g(where), limit);
}

/* Sums that cross zero are held to an absolute error. */
static void absolute(const char *name, Approximate f, Exact g, double limit) {
  double worst = 0, at = 0;
  for (int i = -200000; i <= 200000; i++) {
    float x = i * 1e-4f;
    double error = fabs(f(x) - g(x));
    if (!(error <= worst)) { worst = error; at = x; }
  }
  if (!ok(worst <= limit, "%s: absolute error %.2g at most on [-20, 20]", name, worst)) printf("#   worst at %.9g\n", at);
}

static void specials(void) {
  const Approximate all[] = {real_exp, real_log, real_tanh, real_sigmoid, real_erf, real_softplus, real_gelu, real_gelu_grad,
                             real_gelu_grad2, real_gelu_tanh, real_gelu_tanh_grad, real_gelu_tanh_grad2, real_silu, real_silu_grad, real_silu_grad2};
  int kept = 1;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) kept &= isnan(all[i](NAN));
  ok(kept, "NaN in, NaN out");
  ok(real_exp(INFINITY) == INFINITY && real_exp(-INFINITY) == 0 && real_exp(0) == 1 && real_exp(1e30f) == INFINITY, "exp at the ends");
  ok(real_log(0) == -INFINITY && real_log(-0.0f) == -INFINITY && isnan(real_log(-1)) && real_log(INFINITY) == INFINITY && real_log(1) == 0,
     "log at the ends");
  ok(real_tanh(INFINITY) == 1 && real_tanh(-INFINITY) == -1 && real_erf(INFINITY) == 1 && real_erf(-INFINITY) == -1, "tanh and erf at the ends");
  ok(real_sigmoid(INFINITY) == 1 && real_sigmoid(-INFINITY) == 0 && real_softplus(-INFINITY) == 0, "sigmoid and softplus at the ends");
  ok(real_gelu_grad(INFINITY) == 1 && real_gelu_grad(-INFINITY) == 0 && real_gelu_grad2(3e38f) == 0 && real_gelu_tanh_grad(-3e38f) == 0 &&
       real_silu_grad(3e38f) == 1, "derivatives of GELU and SiLU far out");
}

int main(void) {
  relative("exp", real_exp, exp, -103, 88.7, 1.5);
  relative("log", real_log, log, 0, FLT_MAX, 1.5);
  relative("tanh", real_tanh, tanh, -FLT_MAX, FLT_MAX, 2);
  relative("sigmoid", real_sigmoid, exact_sigmoid, -103, FLT_MAX, 3);
  relative("erf", real_erf, erf, -FLT_MAX, FLT_MAX, 2);
  relative("softplus", real_softplus, exact_softplus, -103, FLT_MAX, 3);
  /* down to where the exponential inside is still a normal float; the tanh form loses digits of its cubic as it falls */
  relative("gelu", real_gelu, exact_gelu, -13, 1e38, 8);
  relative("silu", real_silu, exact_silu, -87, 1e38, 4);
  relative("gelu_tanh", real_gelu_tanh, exact_gelu_tanh, -1, 1e38, 6);
  absolute("gelu_grad", real_gelu_grad, exact_gelu_grad, 4e-7);
  absolute("gelu_grad2", real_gelu_grad2, exact_gelu_grad2, 4e-7);
  absolute("gelu_tanh", real_gelu_tanh, exact_gelu_tanh, 1e-6);
  absolute("gelu_tanh_grad", real_gelu_tanh_grad, exact_gelu_tanh_grad, 6e-7);
  absolute("gelu_tanh_grad2", real_gelu_tanh_grad2, exact_gelu_tanh_grad2, 6e-7);
  absolute("silu_grad2", real_silu_grad2, exact_silu_grad2, 4e-7);
  absolute("silu_grad", real_silu_grad, exact_silu_grad, 4e-7);
  specials();
  return done();
}

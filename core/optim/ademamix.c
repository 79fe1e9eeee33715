/* ademamix.c - AdEMAMix: Adam with a second, much slower momentum.
 *
 *   m1 = b1 m1 + (1 - b1) g      m2 = b3(t) m2 + (1 - b3(t)) g      v = b2 v + (1 - b2) g^2
 *   w = (1 - lr wd) w - lr (m1 / (1 - b1^t) + a(t) m2) / (sqrt(v / (1 - b2^t)) + eps)
 *   a(t) = alpha min(1, t / T)   b3(t): the half-life of m2 grows linearly from b1's over T = warmup_steps
 *
 * Pagliardini, Ablin and Grangier, ICLR 2025 (arXiv 2409.03137), eq. 5 and appendix; numbers as in apple/ml-ademamix, which adds
 * 1e-8 to a beta before its logarithm. */
#include "optim/optim.h"

typedef struct AdEMAMix {
  double lr, beta1, beta2, beta3, alpha, warmup_steps, eps, weight_decay;
} AdEMAMix;

static const Setting settings[] = {
  SETTING_LR(1e-3),
  {"betas", SETTING_LIST, {0.9, 0.999, 0.9999}, .low = 0, .high = 1, .open = OPEN_LOW | OPEN_HIGH, .count = 3,
   .doc = "decay of the fast momentum, the second moment, the slow momentum"},
  {"alpha", .value = {5}, AT_LEAST_0, .doc = "weight of the slow momentum"},
  {"warmup_steps", .kind = SETTING_INTEGER, .value = {0}, .low = 0, .high = 2147483647, .doc = "steps over which alpha and the slow decay rise; 0: none"},
  SETTING_EPS(1e-8), SETTING_WEIGHT_DECAY(0), {0},
};

static Status prepare(Parameter *p) {
  TRY(optim_slot_like(p, "m1"));
  TRY(optim_slot_like(p, "v"));
  return optim_slot_like(p, "m2");
}

/* The slow decay at share x of the warmup: 1 / log(beta) moves linearly from beta1's to beta3's. */
static double slow_decay(const AdEMAMix *s, double x) {
  double from = log(s->beta1 + 1e-8), to = log(s->beta3 + 1e-8);
  return fmin(exp(from * to / ((1 - x) * to + x * from)), s->beta3);
}

static void update(Parameter *p, double scale, Update *u) {
  const AdEMAMix *s = p->settings;
  double x = s->warmup_steps > 0 ? fmin(1, p->step / s->warmup_steps) : 1;
  Coefficients *c = &u->c;
  c->lr = s->lr * scale, c->shrink = 1 - c->lr * optim_decay(p, s->weight_decay);
  c->beta1 = s->beta1, c->beta2 = s->beta2, c->eps = s->eps;
  c->beta3 = x < 1 ? slow_decay(s, x) : s->beta3, c->alpha = s->alpha * x;
  c->scale1 = 1 / bias_correction(s->beta1, p->step), c->scale2 = 1 / sqrt(bias_correction(s->beta2, p->step));
}

static const Rule rule = {.prepare = prepare, .kind = UPDATE_ADEMAMIX, .update = update};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_ademamix = {"ademamix", "Adam with a second, much slower momentum.", "Pagliardini et al., ICLR 2025 (arXiv 2409.03137)", settings, choose};

/* adamw.c - AdamW: Adam with weight decay taken out of the gradient.
 *
 *   m = b1 m + (1 - b1) g           v = b2 v + (1 - b2) g^2
 *   w = (1 - lr wd) w - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)
 *
 * Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019; the decay is
 * multiplied by the current rate, as in PyTorch. */
#include "optim/adamw.h"

static const Setting settings[] = {
  SETTING_LR(1e-3), SETTING_BETAS(0.9, 0.95), SETTING_EPS(1e-8), SETTING_WEIGHT_DECAY(0.1), {0},
};

Status adamw_prepare(Parameter *p) {
  TRY(optim_slot_like(p, "m"));
  return optim_slot_like(p, "v");
}

void adamw_update(const AdamW *s, const Parameter *p, double scale, Update *u) {
  Coefficients *c = &u->c;
  c->lr = s->lr * scale;
  c->shrink = 1 - c->lr * optim_decay(p, s->weight_decay);
  c->beta1 = s->beta1, c->beta2 = s->beta2, c->eps = s->eps;
  c->scale1 = 1 / bias_correction(s->beta1, p->step);
  c->scale2 = 1 / sqrt(bias_correction(s->beta2, p->step));
}

static void update(Parameter *p, double scale, Update *u) { adamw_update(p->settings, p, scale, u); }

static const Rule rule = {.prepare = adamw_prepare, .kind = UPDATE_ADAMW, .update = update};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_adamw = {"adamw", "Adam with decoupled weight decay.", "Loshchilov and Hutter, ICLR 2019 (arXiv 1711.05101)", settings, choose};

/* sophia.c - Sophia-G: momentum over a clipped, sampled diagonal of the Gauss-Newton matrix.
 *
 *   m = b1 m + (1 - b1) g
 *   w = (1 - lr wd) w - lr sign(m) min(1, |m| / (rho B h + 1e-15))
 *   every k steps, from gradients of the loss against labels sampled from the model's own softmax:
 *   h = b2 h + (1 - b2) g_sampled^2
 *
 * B is the number of tokens in a batch (batch_tokens). The samples are the caller's: put the
 * sampled gradients into .grad and call opt:observe(), every ten steps or so.
 *
 * Liu, Li, Hall, Liang and Ma, ICLR 2024 (arXiv 2305.14342). */
#include "optim/optim.h"

typedef struct Sophia {
  double lr, beta1, beta2, rho, batch_tokens, weight_decay;
} Sophia;

static const Setting settings[] = {
  SETTING_LR(1e-4),
  {"betas", SETTING_LIST, {0.965, 0.99}, BELOW_1, .count = 2, .doc = "decay of the momentum and of the curvature"},
  {"rho", .value = {0.04}, ABOVE_0, .doc = "weight of the curvature; 10 to 50 % of the entries should stay unclipped"},
  {"batch_tokens", WHOLE, .value = {5120}, .doc = "tokens in a batch"},
  SETTING_WEIGHT_DECAY(0.1),
  {0},
};

static Status prepare(Parameter *p) {
  TRY(optim_slot_like(p, "m"));
  return optim_slot_like(p, "h");
}

static void update(Parameter *p, double scale, Update *u) {
  const Sophia *s = p->settings;
  u->c.lr = s->lr * scale, u->c.shrink = 1 - u->c.lr * optim_decay(p, s->weight_decay);
  u->c.beta1 = s->beta1, u->c.alpha = s->rho * s->batch_tokens, u->c.eps = 1e-15;
}

static Status observe(Parameter *p) {
  Update u = optim_update(p);
  u.s[0] = u.s[1];
  u.c.beta2 = ((const Sophia *)p->settings)->beta2, u.c.mix = 1 - u.c.beta2;
  kernels_for(p->tensor)->update(UPDATE_MOMENT2, 1, &u);
  return OK;
}

static const Rule rule = {.prepare = prepare, .kind = UPDATE_SOPHIA, .update = update, .observe = observe};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_sophia = {"sophia", "Momentum over a sampled diagonal curvature, clipped.", "Liu et al., ICLR 2024 (arXiv 2305.14342)", settings, choose};

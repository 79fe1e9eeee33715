/* lion.c - Lion: the sign of an interpolated momentum.
 *
 *   w = (1 - lr wd) w - lr sign(b1 m + (1 - b1) g)        m = b2 m + (1 - b2) g
 *
 * Chen et al., "Symbolic Discovery of Optimization Algorithms", NeurIPS 2023. Its rate is
 * about a fifth of AdamW's, its decay correspondingly larger. */
#include "optim/optim.h"

typedef struct Lion {
  double lr, beta1, beta2, weight_decay;
} Lion;

static const Setting settings[] = {
  SETTING_LR(1e-4),
  {"betas", SETTING_LIST, {0.9, 0.99}, BELOW_1, .count = 2, .doc = "share of the momentum in the step, decay of the momentum"},
  SETTING_WEIGHT_DECAY(0.1),
  {0},
};

static Status prepare(Parameter *p) { return optim_slot_like(p, "m"); }

static void update(Parameter *p, double scale, Update *u) {
  const Lion *s = p->settings;
  u->c.lr = s->lr * scale, u->c.shrink = 1 - u->c.lr * optim_decay(p, s->weight_decay);
  u->c.beta1 = s->beta1, u->c.beta2 = s->beta2;
}

static const Rule rule = {.prepare = prepare, .kind = UPDATE_LION, .update = update};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_lion = {"lion", "The sign of an interpolated momentum.", "Chen et al., NeurIPS 2023 (arXiv 2302.06675)", settings, choose};

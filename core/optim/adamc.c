/* adamc.c - AdamC: AdamW whose decay of normalised weights falls with the square of the rate.
 *
 * A weight that a norm follows does not feel its own scale; under a falling rate the
 * decay lr wd makes its gradient grow towards the end of a run. With
 *
 *   w = (1 - (lr_t^2 / lr_max) wd) w - lr_t (Adam's direction)
 *
 * the ratio of gradient to weight stays constant. lr_max is the rate at scale 1.
 *   paper            corrected decay on normalised weights, plain lr wd on the others
 *   normalised_only  corrected decay on normalised weights, none on the others
 *
 * Defazio, "Why Gradients Rapidly Increase Near the End of Training", 2025 (arXiv 2506.02285). */
#include "optim/adamw.h"

enum { PAPER, NORMALISED_ONLY };
static const char *const variants[] = {"paper", "normalised_only", NULL};

typedef struct AdamC {
  AdamW adam;
  double variant;
} AdamC;

static const Setting settings[] = {
  SETTING_LR(1e-3), SETTING_BETAS(0.9, 0.999), SETTING_EPS(1e-8), SETTING_WEIGHT_DECAY(0.1),
  {"variant", SETTING_CHOICE, .choices = variants, .doc = "what happens to weights that no norm follows"},
  {0},
};

static void update(Parameter *p, double scale, Update *u) {
  const AdamC *s = p->settings;
  adamw_update(&s->adam, p, scale, u);
  double decay = optim_decay(p, s->adam.weight_decay);
  if (p->normalised) u->c.shrink = 1 - s->adam.lr * scale * scale * decay;
  else if (s->variant == NORMALISED_ONLY) u->c.shrink = 1;
}

static const Rule rule = {.prepare = adamw_prepare, .kind = UPDATE_ADAMW, .update = update};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_adamc = {"adamc", "AdamW with the decay of normalised weights corrected for a falling rate.", "Defazio, 2025 (arXiv 2506.02285)",
                               settings, choose};

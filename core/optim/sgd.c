/* sgd.c - stochastic gradient descent, with heavy-ball or Nesterov momentum.
 *
 *   g = g + wd w                        (L2, as in PyTorch: not decoupled)
 *   v = momentum v + (1 - dampening) g  (v = g in the first step)
 *   w = w - lr v                        Nesterov: w - lr (g + momentum v)
 *
 * Polyak 1964; Sutskever, Martens, Dahl and Hinton, ICML 2013 for the Nesterov form. */
#include "optim/optim.h"

typedef struct Sgd {
  double lr, momentum, dampening, nesterov, weight_decay;
} Sgd;

static const Setting settings[] = {
  SETTING_LR(0.1),
  {"momentum", .value = {0}, BELOW_1, .doc = "decay of the velocity; 0: plain gradient descent"},
  {"dampening", .value = {0}, BELOW_1, .doc = "share of the gradient kept out of the velocity"},
  {"nesterov", SWITCH, .doc = "look ahead along the velocity (needs momentum, no dampening)"},
  {"weight_decay", .value = {0}, AT_LEAST_0, .doc = "L2 term added to the gradient"},
  {0},
};

static Status prepare(Parameter *p) {
  const Sgd *s = p->settings;
  if (s->nesterov && (s->momentum == 0 || s->dampening != 0))
    return fail(ERR_ARGUMENT, "sgd: nesterov needs a momentum above 0 and no dampening (got %g and %g)", s->momentum, s->dampening);
  return s->momentum > 0 ? optim_slot_like(p, "velocity") : OK;
}

static void update(Parameter *p, double scale, Update *u) {
  const Sgd *s = p->settings;
  Coefficients *c = &u->c;
  c->lr = s->lr * scale, c->decay = optim_decay(p, s->weight_decay);
  c->beta1 = s->momentum, c->mix = p->step > 1 ? 1 - s->dampening : 1;
  c->alpha = s->nesterov ? 1 : 0, c->beta3 = s->nesterov ? s->momentum : 1;
}

static const Rule with_momentum = {.prepare = prepare, .kind = UPDATE_SGD, .update = update};
static const Rule plain = {.prepare = prepare, .kind = UPDATE_SGD_PLAIN, .update = update};
static const Rule *choose(const Parameter *p) { return ((const Sgd *)p->settings)->momentum > 0 ? &with_momentum : &plain; }

const OptimInfo optim_sgd = {"sgd", "Gradient descent with optional (Nesterov) momentum.", "Sutskever et al., ICML 2013", settings, choose};

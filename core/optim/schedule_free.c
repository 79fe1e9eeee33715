/* schedule_free.c - Schedule-Free AdamW: no schedule, an average instead.
 *
 *   z: base iterate, x: average (to evaluate), y: where gradients are taken; all start at w
 *   lr_k = lr min(1, k / warmup_steps)      c = weight_k / sum of weights, weight_k = k^r max(lr)^p
 *   v = b2 v + (1 - b2) g(y)^2
 *   z = z - lr_k (wd y + g / (sqrt(v / (1 - b2^k)) + eps))
 *   x = (1 - c) x + c z                     y = b1 x + (1 - b1) z
 *
 * The parameter holds y while training; opt:eval() puts x there, opt:train() puts the same y back.
 *
 * Defazio et al., "The Road Less Scheduled", NeurIPS 2024 (arXiv 2405.15682). */
#include "optim/optim.h"

typedef struct ScheduleFree {
  double lr, beta1, beta2, eps, weight_decay, warmup_steps, r, power;
} ScheduleFree;

static const Setting settings[] = {
  SETTING_LR(2.5e-3),
  {"betas", SETTING_LIST, {0.9, 0.999}, BELOW_1, .count = 2, .doc = "weight of the average in y, decay of the second moment"},
  SETTING_EPS(1e-8), SETTING_WEIGHT_DECAY(0),
  {"warmup_steps", .kind = SETTING_INTEGER, .value = {0}, .low = 0, .high = 2147483647, .doc = "linear rise of the rate"},
  {"r", .value = {0}, AT_LEAST_0, .doc = "power of the step in the average's weights"},
  {"weight_lr_power", .value = {2}, AT_LEAST_0, .doc = "power of the largest rate so far in the average's weights"},
  {0},
};

enum { Z, V, X };                 /* slots */
enum { LR_MAX, WEIGHT_SUM };      /* numbers */

static Status prepare(Parameter *p) {
  TRY(optim_slot_like(p, "z"));
  TRY(optim_slot_like(p, "v"));
  return optim_slot_like(p, "x");
}

/* The share c of the new z in the average; notes the largest rate and the sum of weights. */
static double average_share(const ScheduleFree *s, Parameter *p, double lr) {
  p->number[LR_MAX] = fmax(p->number[LR_MAX], lr);
  double weight = pow(p->step, s->r) * pow(p->number[LR_MAX], s->power);
  p->number[WEIGHT_SUM] += weight;
  return p->number[WEIGHT_SUM] > 0 ? weight / p->number[WEIGHT_SUM] : 0;
}

static void update(Parameter *p, double scale, Update *u) {
  const ScheduleFree *s = p->settings;
  if (p->step == 1) tensor_copy(p->slot[Z].tensor, p->tensor), tensor_copy(p->slot[X].tensor, p->tensor);
  Coefficients *c = &u->c;
  c->lr = s->lr * scale * (s->warmup_steps > 0 ? fmin(1, p->step / s->warmup_steps) : 1);
  c->decay = optim_decay(p, s->weight_decay);
  c->beta1 = s->beta1, c->beta2 = s->beta2, c->eps = s->eps;
  c->scale2 = 1 / bias_correction(s->beta2, p->step);
  c->mix = average_share(s, p, c->lr);
}

/* y waits in scratch while x is looked at, so that going there and back changes no bit. */
static Status swap(Parameter *p, bool evaluate) {
  if (p->step == 0) return OK;
  Tensor *waiting = p->scratch;
  if (evaluate) {
    TRY(tensor_cast(p->tensor, p->tensor->dtype, &waiting));
    p->scratch = waiting;
  }
  TRY(tensor_copy(p->tensor, evaluate ? p->slot[X].tensor : waiting));
  if (evaluate) return OK;
  tensor_release(waiting);
  p->scratch = NULL;
  return OK;
}

static void release(Parameter *p) { tensor_release(p->scratch); }

static const Rule rule = {.prepare = prepare, .kind = UPDATE_SCHEDULE_FREE, .update = update, .numbers = {"lr_max", "weight_sum"}, .swap = swap,
                          .release = release};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_schedule_free = {"schedule_free", "AdamW without a schedule: trains at y, is evaluated at the average x.",
                                       "Defazio et al., NeurIPS 2024 (arXiv 2405.15682)", settings, choose};

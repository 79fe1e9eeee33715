/* adafactor.c - Adafactor: a second moment kept as row and column means.
 *
 *   b = 1 - t^-decay_power
 *   R = b R + (1 - b) mean over columns of g^2     C = b C + (1 - b) mean over rows of g^2
 *   u = g / sqrt(R C / mean(R))                    vectors: V = b V + (1 - b) g^2, u = g / sqrt(V)
 *   w = (1 - lr wd) w - a u / max(1, rms(u) / clip_threshold)
 *   a = max(eps2, rms(w)) min(lr, 1 / sqrt(t))     without relative_step: ... lr; without scale_parameter: 1 ...
 *
 * As in PyTorch 2.5 and later (no first moment). Tensors of more than two axes count as (first, all others).
 *
 * Shazeer and Stern, ICML 2018 (arXiv 1804.04235). */
#include "autograd/ops/ops.h"
#include "optim/modes.h"
#include "optim/optim.h"

typedef struct Adafactor {
  double lr, decay_power, eps1, eps2, clip_threshold, relative_step, scale_parameter, weight_decay;
} Adafactor;

static const Setting settings[] = {
  SETTING_LR(1e-2),
  {"decay_power", .value = {0.8}, ABOVE_0, .doc = "the second moment's decay is 1 - t^-decay_power"},
  {"eps1", .value = {1e-30}, EPSILON, .doc = "least value of the second moment"},
  {"eps2", .value = {1e-3}, AT_LEAST_0, .doc = "least rms of a weight in the size of its step"},
  {"clip_threshold", .value = {1}, ABOVE_0, .doc = "largest rms of the direction"},
  {"relative_step", SWITCH, .value = {1}, .doc = "the rate is at most 1 / sqrt(t)"},
  {"scale_parameter", SWITCH, .value = {1}, .doc = "steps are relative to the rms of the weight"},
  SETTING_WEIGHT_DECAY(0),
  {0},
};

static Status prepare_matrix(Parameter *p) {
  int64_t m = p->tensor->shape[0], n = tensor_numel(p->tensor) / m;
  TRY(optim_slot(p, "row", 1, &m));
  return optim_slot(p, "column", 1, &n);
}
static Status prepare_vector(Parameter *p) { return optim_slot_like(p, "v"); }

/* moment <- b moment + (1 - b) mean, in place */
static Status average(Tensor *moment, Tensor *mean, double b) {
  return mode_store(moment, op_add(op_mul_scalar(moment, b), op_mul_scalar(mean, 1 - b)));
}

/* Updates row and column means from g (m, n) and returns R C / mean(R). */
static Tensor *factored(Parameter *p, Tensor *g, double b) {
  Tensor *row = p->slot[0].tensor, *column = p->slot[1].tensor;
  double m = (double)g->shape[0], n = (double)g->shape[1];
  if (average(row, op_mul_scalar(mode_squares(g, 0), 1 / n), b)) return NULL;
  if (average(column, op_mul_scalar(mode_squares(g, 1), 1 / m), b)) return NULL;
  double least = ((const Adafactor *)p->settings)->eps1; /* a gradient of zeros has no relative sizes */
  Tensor *relative = op_div(row, op_clamp(op_mean(row, ALL_AXES, false), least, INFINITY));
  return op_mul(op_reshape(relative, 2, (int64_t[]){g->shape[0], 1}), column);
}

static double rms(const Tensor *x) { return tensor_norm(x) / sqrt((double)tensor_numel(x)); }

static Status finish(Parameter *p, double scale, Tensor *g, Tensor *moment) {
  const Adafactor *s = p->settings;
  Tensor *u = op_mul(g, op_rsqrt(op_clamp(moment, s->eps1, INFINITY)));
  if (!u) return error_code();
  double lr = s->lr * scale, rate = s->relative_step ? fmin(lr, 1 / sqrt(p->step)) : lr;
  if (s->scale_parameter) rate *= fmax(s->eps2, rms(p->tensor));
  return optim_move(p, u, rate / fmax(1, rms(u) / s->clip_threshold), 1 - lr * optim_decay(p, s->weight_decay));
}

static double decay_at(const Parameter *p) { return 1 - pow(p->step, -((const Adafactor *)p->settings)->decay_power); }

static Status step_matrix(Parameter *p, double scale) {
  Tensor *g = op_reshape(op_mul_scalar(p->gradient, p->clip), 2, (int64_t[]){p->tensor->shape[0], -1});
  Tensor *moment = g ? factored(p, g, decay_at(p)) : NULL;
  return moment ? finish(p, scale, g, moment) : error_code();
}

static Status step_vector(Parameter *p, double scale) {
  Tensor *g = op_mul_scalar(p->gradient, p->clip);
  TRY(average(p->slot[0].tensor, op_square(g), decay_at(p)));
  return finish(p, scale, g, p->slot[0].tensor);
}

static const Rule matrix = {.prepare = prepare_matrix, .step = step_matrix};
static const Rule vector = {.prepare = prepare_vector, .step = step_vector};
static const Rule *choose(const Parameter *p) { return p->tensor->ndim >= 2 ? &matrix : &vector; }

const OptimInfo optim_adafactor = {"adafactor", "A second moment kept as row and column means.", "Shazeer and Stern, ICML 2018 (arXiv 1804.04235)", settings, choose};

/* scion.c - Scion: steps of unit size in a norm chosen for each layer.
 *
 *   d = momentum d + (1 - momentum) g
 *   W = W - lr scale LMO(d)                 constrained: W = (1 - lr) W - lr scale LMO(d)
 *   spectral   NewtonSchulz(d) sqrt(m / n)  W is (m, n) = (out, in)
 *   sign       sign(d) / n
 *   column     each column over its rms, over n
 *   row        each row over its length, over sqrt(n)
 *   bias       d over its rms
 *   auto       hidden: spectral, input and output: sign, vector: bias
 * With normalise_input = false the powers of n are left out. opt:init(seed) puts the weights on the ball of radius
 * scale: orthogonal matrices, random signs, normal directions.
 *
 * Pethick, Xie, Antonakopoulos, Zhu, Silveti-Falls and Cevher, "Training Deep Learning Models with
 * Norm-Constrained LMOs", 2025 (arXiv 2502.07529). There the momentum is called 1 - alpha. */
#include "autograd/ops/ops.h"
#include "linalg/linalg.h"
#include "optim/modes.h"
#include "optim/optim.h"

enum { AUTO, SPECTRAL, SIGN, COLUMN, ROW, BIAS };
static const char *const norms[] = {"auto", "spectral", "sign", "column", "row", "bias", NULL};

typedef struct Scion {
  double lr, momentum, norm, scale, constrained, weight_decay, ns_steps, normalise_input, at_least_1;
} Scion;

static const Setting settings[] = {
  SETTING_LR(0.01),
  {"momentum", .value = {0.9}, BELOW_1, .doc = "decay of the averaged gradient (1 - alpha)"},
  {"norm", SETTING_CHOICE, .choices = norms, .doc = "of the step; auto goes by role"},
  {"scale", .value = {1}, ABOVE_0, .doc = "radius: factor on the step, size of the ball when constrained"},
  {"constrained", SWITCH, .doc = "keep the weights inside the ball of radius scale"},
  {"weight_decay", .value = {0}, AT_LEAST_0, .doc = "decoupled decay (unconstrained form only)"},
  {"ns_steps", WHOLE, .value = {5}, .doc = "Newton-Schulz iterations"},
  {"normalise_input", SWITCH, .value = {1}, .doc = "divide by the input dimension"},
  {"at_least_1", SWITCH, .doc = "spectral: the shape's factor is at least 1"},
  {0},
};

static int norm_of(const Parameter *p) {
  int norm = (int)((const Scion *)p->settings)->norm;
  if (norm != AUTO) return norm;
  if (p->role == ROLE_VECTOR || p->tensor->ndim < 2) return BIAS;
  return p->role == ROLE_HIDDEN ? SPECTRAL : SIGN;
}

static Status prepare(Parameter *p) {
  const Scion *s = p->settings;
  int norm = norm_of(p);
  if (p->tensor->ndim < 2 && norm != BIAS && norm != SIGN)
    return fail(ERR_SHAPE, "scion: the norm '%s' needs a matrix, got %s", norms[norm], shape_text(p->tensor));
  if (s->constrained && s->weight_decay > 0) return fail(ERR_ARGUMENT, "scion: the constrained form has its own decay; set weight_decay to 0");
  return optim_slot_like(p, "momentum");
}

/* d as a matrix (first axis, all others); vectors become one column, so that n = 1. */
static Tensor *as_matrix(Tensor *d) { return op_reshape(d, 2, (int64_t[]){d->ndim > 0 ? d->shape[0] : 1, -1}); }

static double spectral_factor(const Scion *s, double m, double n) {
  double factor = sqrt(s->normalise_input ? m / n : m);
  return s->at_least_1 ? fmax(1, factor) : factor;
}

/* Each row (k = 0) or column (k = 1) of x over its size; the 1e-8 is the published code's. */
static Tensor *over_size(const Scion *s, Tensor *x, int k) {
  double m = (double)x->shape[0], n = (double)x->shape[1];
  double unit = k == 0 ? (s->normalise_input ? sqrt(n) : 1) : (s->normalise_input ? n : 1) / sqrt(m);
  Tensor *size = op_mul_scalar(op_sqrt(mode_squares(x, k)), unit);
  return mode_scale(x, k, op_reciprocal(op_add_scalar(size, 1e-8)));
}

/* The point of the unit ball furthest along d (a fresh matrix). */
static Tensor *lmo(const Scion *s, int norm, Tensor *d) {
  Tensor *x = as_matrix(d);
  if (!x) return NULL;
  double m = (double)x->shape[0], n = (double)x->shape[1];
  if (norm == SPECTRAL) {
    x = op_mul_scalar(x, 1); /* a copy, to be overwritten */
    if (!x || linalg_newton_schulz(x, (int)s->ns_steps, NULL)) return NULL;
    return op_mul_scalar(x, spectral_factor(s, m, n));
  }
  if (norm == SIGN) return op_mul_scalar(op_unary_named("sign", x), s->normalise_input ? 1 / n : 1);
  if (norm == BIAS) return op_mul_scalar(x, 1 / (tensor_norm(x) / sqrt(m * n) + 1e-8));
  return over_size(s, x, norm == ROW ? 0 : 1);
}

/* A random direction; for matrices under the spectral norm an orthogonal one. */
static Status init(Parameter *p, uint64_t seed) {
  const Scion *s = p->settings;
  int norm = norm_of(p);
  Random r = random_stream(seed, p->name);
  Tensor *x = op_new_like(p->tensor), *matrix = x ? as_matrix(x) : NULL;
  if (!matrix) return error_code();
  TRY(tensor_fill_normal(x, &r, 0, 1));
  if (norm == SPECTRAL) {
    Tensor *u, *values, *vt;
    TRY(linalg_svd(matrix, &u, &values, &vt));
    pool_keep(u), pool_keep(values), pool_keep(vt);
    matrix = op_mul_scalar(op_matmul(u, vt), spectral_factor(s, (double)matrix->shape[0], (double)matrix->shape[1]));
  } else {
    matrix = lmo(s, norm, x);
  }
  Tensor *shaped = matrix ? op_reshape(op_mul_scalar(matrix, s->scale), p->tensor->ndim, p->tensor->shape) : NULL;
  return mode_store(p->tensor, shaped);
}

static Status step(Parameter *p, double scale) {
  const Scion *s = p->settings;
  Update u = optim_update(p);
  u.c.beta1 = s->momentum, u.c.mix = 1 - s->momentum;
  kernels_for(p->tensor)->update(UPDATE_MOMENTUM, 1, &u);
  Tensor *direction = lmo(s, norm_of(p), p->slot[0].tensor);
  if (!direction) return error_code();
  double lr = s->lr * scale;
  return optim_move(p, direction, lr * s->scale, s->constrained ? 1 - lr : 1 - lr * optim_decay(p, s->weight_decay));
}

static const Rule rule = {.prepare = prepare, .step = step, .init = init};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_scion = {"scion", "Steps of unit size in a norm chosen for each layer.", "Pethick et al., 2025 (arXiv 2502.07529)", settings, choose};

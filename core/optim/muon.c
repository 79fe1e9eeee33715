/* muon.c - Muon: momentum made orthogonal, for hidden matrices; AdamW for the rest.
 *
 *   M = b M + (1 - b) G           U = (1 - b) G + b M (Nesterov) or M
 *   O = NewtonSchulz(U)           W = (1 - lr wd) W - lr s O
 *
 * W is (m, n) = (out, in); more axes are taken as (first, all others). The scale s:
 *   original  sqrt(max(1, m / n))       Jordan et al., "Muon", 2024 (github KellerJordan/Muon)
 *   rms       0.2 sqrt(max(m, n))       the update's rms matches AdamW's: Liu et al., arXiv 2502.16982
 *   spectral  sqrt(m / n)               unit change of the operator norm: Bernstein and Newhouse, arXiv 2410.21265 */
#include "linalg/linalg.h"
#include "optim/adamw.h"

enum { SCALE_ORIGINAL, SCALE_RMS, SCALE_SPECTRAL };
static const char *const scales[] = {"original", "rms", "spectral", NULL};

typedef struct Muon {
  double lr, momentum, nesterov, weight_decay, steps, scale;
  AdamW aux;
} Muon;

static const Setting settings[] = {
  SETTING_LR(0.02),
  {"momentum", .value = {0.95}, BELOW_1, .doc = "decay of the momentum"},
  {"nesterov", SWITCH, .value = {1}, .doc = "step along the gradient and the new momentum"},
  SETTING_WEIGHT_DECAY(0),
  {"ns_steps", WHOLE, .value = {5}, .doc = "Newton-Schulz iterations"},
  {"scale", SETTING_CHOICE, .choices = scales, .doc = "factor on the orthogonal update by shape"},
  AUX_SETTINGS(3e-3, 0.9, 0.95, 1e-6, 0),
  {0},
};

static double shape_scale(int kind, double m, double n) {
  if (kind == SCALE_RMS) return 0.2 * sqrt(fmax(m, n));
  if (kind == SCALE_SPECTRAL) return sqrt(m / n);
  return sqrt(fmax(1, m / n));
}

static Status prepare(Parameter *p) { return optim_slot_like(p, "momentum"); }

/* The matrix (first axis, all others) over fresh memory. */
static Status scratch_matrix(const Parameter *p, Tensor **out) {
  int64_t m = p->tensor->shape[0];
  return tensor_new(p->tensor->dtype, 2, (int64_t[]){m, tensor_numel(p->tensor) / m}, out);
}

static Status step(Parameter *p, double scale) {
  const Muon *s = p->settings;
  const Kernels *kernels = kernels_for(p->tensor);
  Tensor *direction;
  TRY(scratch_matrix(p, &direction));
  Update u = optim_update(p);
  u.s[1] = tensor_data(direction);
  u.c.beta1 = s->momentum, u.c.mix = 1 - s->momentum;
  u.c.alpha = s->nesterov ? 1 - s->momentum : 0, u.c.beta3 = s->nesterov ? s->momentum : 1;
  kernels->update(UPDATE_MOMENTUM, 1, &u);
  Status status = linalg_newton_schulz(direction, (int)s->steps, NULL);
  double lr = s->lr * scale;
  double factor = shape_scale((int)s->scale, (double)direction->shape[0], (double)direction->shape[1]);
  if (status == OK) status = optim_move(p, direction, lr * factor, 1 - lr * optim_decay(p, s->weight_decay));
  tensor_release(direction);
  return status;
}

static void aux_update(Parameter *p, double scale, Update *u) { adamw_update(&((const Muon *)p->settings)->aux, p, scale, u); }

static const Rule hidden = {.prepare = prepare, .step = step};
static const Rule other = {.prepare = adamw_prepare, .kind = UPDATE_ADAMW, .update = aux_update};

static const Rule *choose(const Parameter *p) {
  if (p->role != ROLE_HIDDEN) return &other;
  if (p->tensor->ndim >= 2) return &hidden;
  fail(ERR_SHAPE, "muon: a hidden parameter must be a matrix, got %s; give it the role 'vector'", shape_text(p->tensor));
  return NULL;
}

const OptimInfo optim_muon = {"muon", "Orthogonalised momentum for hidden matrices, AdamW for the other roles.", "Jordan et al., 2024", settings, choose};

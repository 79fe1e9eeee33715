/* psgd.c - PSGD with a Kronecker-factored preconditioner that whitens the momentum.
 *
 *   M = b M + (1 - b) G        Mh = M / (1 - b^t)
 *   U = P Mh with P = Q_k^T Q_k along every axis k;  U = U min(1, 1.1 / (rms(U) + 1e-6))
 *   W = W - lr (U + wd W)      decay on matrices only
 *
 * Q_k is fitted by its own gradient descent, with step size precond_lr, in a share of the steps that falls from 1 to 0.03:
 *   p(t) = clamp(exp(-0.001 (t - 501)), 0.03, 1); an update is due when 1 / p(t) steps have passed
 *
 * geometry = "triangular" (kron): Q_k upper triangular, V normal noise,
 *   A = Q M (all axes), B = Q^-T V (all axes), T1 = A_k A_k^T, T2 = B_k B_k^T
 *   Q_k = Q_k - mu triu(T1 - T2) / |T1 + T2| Q_k
 * geometry = "q0.5eq1.5" (no inverses): Q_k kept near symmetric,
 *   T1 = (P Mh)_k (P Mh)_k^T, T2 = numel / n_k I, l = |T1| + numel / n_k, L = max(0.9 L + 0.1 l, l)
 *   Q_k = Q_k - mu / L (T1 Q_k - T2 Q_k), then a rotation of Q_k towards its symmetric polar factor
 *   (psgd_torch of October 2025 estimates |T1| with 32 random vectors instead, and damps by 1e-9 + rounding)
 *
 * An axis is a vector instead of a matrix (diagonal Q_k) when it is longer than max_size_triangular, of size 1, or
 * the parameter has fewer than min_ndim_triangular axes. |S| is a cheap lower bound of the spectral norm. Both fits come to rest
 * where P^2 is the inverse of the momentum's second moment. About once in a hundred updates the Q_k are balanced. An
 * update that overflows or meets a singular Q_k is left out; the state's `kept` counts these. A gradient of zeros fits nothing.
 *
 * Li, 2018 and 2022 (arXiv 1512.04202, 2211.04422); numbers as in pytorch_optimizer's Kron (2025-06) and lixilinx/psgd_torch. */
#include "optim/psgd.h"

#include <stdio.h>

#include "autograd/ops/ops.h"
#include "linalg/linalg.h"
#include "optim/modes.h"

static const char *const geometries[] = {"triangular", "q0.5eq1.5", NULL};

static const Setting settings[] = {
  SETTING_LR(1e-3),
  {"momentum", .value = {0.9}, BELOW_1, .doc = "decay of the momentum that is whitened"},
  SETTING_WEIGHT_DECAY(0),
  {"precond_lr", .value = {0.1}, .low = 0, .high = 1, .open = OPEN_LOW, .doc = "step size of the preconditioner's own descent"},
  {"precond_init_scale", .value = {1}, ABOVE_0, .doc = "Q starts as this times the identity"},
  {"max_size_triangular", WHOLE, .value = {8192}, .doc = "longer axes get a diagonal"},
  {"min_ndim_triangular", WHOLE, .value = {2}, .doc = "tensors with fewer axes get diagonals"},
  {"geometry", SETTING_CHOICE, .choices = geometries, .doc = "how Q is fitted"},
  {"balance_probability", .value = {0.01}, .low = 0, .high = 1, .doc = "chance of balancing the Q at an update"},
  {"max_rms", .value = {1.1}, AT_LEAST_0, .doc = "largest rms of the direction; 0: any"},
  {"seed", .kind = SETTING_INTEGER, .low = 0, .high = 9007199254740992.0, .doc = "of the noise; each parameter has a stream of its own"},
  {0},
};

static bool triangular(const Parameter *p, int k) {
  const Psgd *s = p->settings;
  int64_t n = p->tensor->shape[k];
  return n > 1 && n <= (int64_t)s->max_size && p->tensor->ndim >= (int)s->min_ndim;
}

static Status prepare(Parameter *p) {
  const Psgd *s = p->settings;
  TRY(optim_slot_like(p, "momentum"));
  for (int k = 0; k < p->tensor->ndim; k++) {
    int64_t n = p->tensor->shape[k];
    char name[16];
    snprintf(name, sizeof name, "Q.%d", k + 1);
    TRY(optim_slot(p, name, triangular(p, k) ? 2 : 1, (int64_t[]){n, n}));
    Tensor *q = p->slot[p->slots - 1].tensor;
    if (q->ndim == 2) TRY(linalg_identity(q));
    else TRY(tensor_fill(q, 1));
  }
  if (s->geometry == PSGD_Q05) TRY(optim_slot(p, "L", 1, (int64_t[]){p->tensor->ndim > 0 ? p->tensor->ndim : 1}));
  return OK;
}

/* The identity times the starting scale, shared over the axes. */
static Status start(Parameter *p) {
  const Psgd *s = p->settings;
  for (int k = 0; k < p->tensor->ndim; k++) {
    Tensor *q = psgd_q(p, k);
    TRY(mode_store(q, op_mul_scalar(q, pow(s->init_scale, 1.0 / p->tensor->ndim))));
  }
  return OK;
}

Tensor *psgd_apply(const Parameter *p, Tensor *x, bool transpose) {
  for (int k = 0; k < p->tensor->ndim; k++)
    x = psgd_q(p, k)->ndim == 2 ? mode_product(x, k, psgd_q(p, k), transpose) : mode_scale(x, k, psgd_q(p, k));
  return x ? op_dense(x) : NULL;
}

/* Are 1 / p(t) steps over since the last update? The counter is part of the state. */
static bool update_due(Parameter *p) {
  double probability = fmin(fmax(exp(-0.001 * (p->step - 501)), 0.03), 1);
  if (++p->number[PSGD_COUNTER] < 1 / probability) return false;
  p->number[PSGD_COUNTER] = 0;
  return true;
}

static Status step(Parameter *p, double scale) {
  const Psgd *s = p->settings;
  if (p->step == 1) TRY(start(p));
  Update u = optim_update(p);
  u.s[1] = NULL, u.c.beta1 = s->momentum, u.c.mix = 1 - s->momentum;
  kernels_for(p->tensor)->update(UPDATE_MOMENTUM, 1, &u);
  Tensor *m = op_mul_scalar(p->slot[0].tensor, 1 / bias_correction(s->momentum, p->step));
  if (!m) return error_code();
  bool seen = tensor_norm(p->gradient) > 0; /* zeros cannot be whitened: fitted to them, Q would double every few steps */
  Status fitted = update_due(p) && seen ? psgd_fit(p, m) : OK;
  if (fitted == ERR_NUMERIC) p->number[PSGD_KEPT]++; /* overflow, or a singular Q: this update is left out */
  else if (fitted != OK) return fitted;
  Tensor *direction = psgd_apply(p, psgd_apply(p, m, false), true);
  if (!direction) return error_code();
  double rms = tensor_norm(direction) / sqrt((double)u.n), lr = s->lr * scale;
  double limit = s->max_rms > 0 ? fmin(1, s->max_rms / (rms + 1e-6)) : 1;
  return optim_move(p, direction, lr * limit, p->tensor->ndim >= 2 ? 1 - lr * optim_decay(p, s->weight_decay) : 1);
}

static const Rule rule = {.prepare = prepare, .step = step, .numbers = {"counter", "draws", "kept"}};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_psgd = {"psgd", "A Kronecker-factored preconditioner fitted to whiten the momentum.", "Li, 2018 and 2022 (arXiv 2211.04422)", settings, choose};

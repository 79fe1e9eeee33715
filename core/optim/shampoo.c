/* shampoo.c - Shampoo: one preconditioner an axis, steps of Adam's size.
 *
 * The parameter, without axes of size 1 (and, with merge_dims, with neighbours merged while their
 * product stays within max_preconditioner_dim), is cut along every axis into blocks of
 * at most max_preconditioner_dim. For a block with o axes, X_k its matrix along axis k:
 *
 *   L_k = b2 L_k + (1 - b2) G_k G_k^T        (b2 = 1: L_k + G_k G_k^T)
 *   V = b2 V + (1 - b2) G^2                  M = b1 M + (1 - b1) G
 *   P_k = (L_k / (1 - b2^t) + eps I)^(-1 / (2 o))   at step `start`, then every `frequency` steps
 *   A = (M / (1 - b1^t)) / (sqrt(V / (1 - b2^t)) + eps)      Adam's direction, used alone before `start`
 *   U = P applied to M / (1 - b1^t) along every axis, scaled to |A|_F
 *   W = W - lr (U + wd W)
 *
 * If an eigenproblem does not converge, it is repeated in f64; if that fails too, the old root stays and
 * the state's `kept` counts it.
 *
 * Gupta, Koren and Singer, ICML 2018; Shi et al., 2023 (arXiv 2309.06497) for blocks and grafting; numbers as in
 * facebookresearch/optimizers of June 2025. */
#include <stdio.h>

#include "autograd/ops/ops.h"
#include "linalg/linalg.h"
#include "optim/modes.h"
#include "optim/optim.h"

typedef struct Shampoo {
  double lr, beta1, beta2, eps, weight_decay, frequency, start, max_dim, merge;
} Shampoo;

static const Setting settings[] = {
  SETTING_LR(1e-2),
  {"betas", SETTING_LIST, {0.9, 0.95}, .low = 0, .high = 1, .count = 2, .doc = "decay of the momentum and of the preconditioners (1: a sum)"},
  {"eps", .value = {1e-10}, EPSILON, .doc = "added to eigenvalues and to Adam's denominator"},
  SETTING_WEIGHT_DECAY(0),
  {"precondition_frequency", WHOLE, .value = {20}, .doc = "steps between two computations of the roots"},
  {"start_preconditioning_step", WHOLE, .value = {20}, .doc = "first step with roots; Adam before"},
  {"max_preconditioner_dim", WHOLE, .value = {8192}, .doc = "larger axes are cut into blocks"},
  {"merge_dims", SWITCH, .doc = "merge neighbouring axes while their product stays within the largest block"},
  {0},
};

/* The axes a parameter is worked on with, and its blocks. */
typedef struct Plan {
  int ndim;
  int64_t shape[MAX_DIMS], pieces[MAX_DIMS], blocks, max;
} Plan;

static Plan plan_of(const Parameter *p) {
  const Shampoo *s = p->settings;
  Plan plan = {.blocks = 1, .max = (int64_t)s->max_dim};
  for (int i = 0; i < p->tensor->ndim; i++) {
    int64_t n = p->tensor->shape[i], last = plan.ndim - 1;
    if (n == 1) continue;
    if (s->merge && last >= 0 && plan.shape[last] * n <= plan.max) plan.shape[last] *= n;
    else plan.shape[plan.ndim++] = n;
  }
  if (plan.ndim == 0) plan.shape[plan.ndim++] = 1;
  for (int k = 0; k < plan.ndim; k++) plan.blocks *= plan.pieces[k] = (plan.shape[k] + plan.max - 1) / plan.max;
  return plan;
}

/* Where block b begins along each axis, and its sizes. */
static void block_range(const Plan *plan, int64_t b, int64_t *start, int64_t *size) {
  for (int k = plan->ndim - 1; k >= 0; k--) {
    start[k] = b % plan->pieces[k] * plan->max;
    size[k] = plan->shape[k] - start[k] < plan->max ? plan->shape[k] - start[k] : plan->max;
    b /= plan->pieces[k];
  }
}

/* Block b of x, a view. */
static Tensor *block_of(const Plan *plan, Tensor *x, int64_t b) {
  int64_t start[MAX_DIMS], size[MAX_DIMS];
  block_range(plan, b, start, size);
  Tensor *view = op_reshape(x, plan->ndim, plan->shape);
  for (int k = 0; k < plan->ndim; k++)
    if (size[k] < plan->shape[k]) view = op_narrow(view, k, start[k], size[k]);
  return view;
}

enum { MOMENT1, MOMENT2, MATRICES }; /* slots; then factor and root of each axis of each block */
static Tensor *factor_of(const Parameter *p, const Plan *plan, int64_t b, int k) { return p->slot[MATRICES + 2 * (b * plan->ndim + k)].tensor; }
static Tensor *root_of(const Parameter *p, const Plan *plan, int64_t b, int k) { return p->slot[MATRICES + 2 * (b * plan->ndim + k) + 1].tensor; }

static Status prepare_matrices(Parameter *p, int64_t b, int k, int64_t n) {
  char name[40];
  snprintf(name, sizeof name, "factor.%lld.%d", (long long)b + 1, k + 1);
  TRY(optim_slot(p, name, 2, (int64_t[]){n, n}));
  snprintf(name, sizeof name, "root.%lld.%d", (long long)b + 1, k + 1);
  TRY(optim_slot(p, name, 2, (int64_t[]){n, n}));
  return linalg_identity(p->slot[p->slots - 1].tensor);
}

static Status prepare(Parameter *p) {
  if (((const Shampoo *)p->settings)->beta1 == 1) return fail(ERR_ARGUMENT, "shampoo: betas[1] must be below 1 (only the second may be 1)");
  Plan plan = plan_of(p);
  int64_t start[MAX_DIMS], size[MAX_DIMS];
  TRY(optim_slot_like(p, "m"));
  TRY(optim_slot_like(p, "v"));
  for (int64_t b = 0; b < plan.blocks; b++) {
    block_range(&plan, b, start, size);
    for (int k = 0; k < plan.ndim; k++) TRY(prepare_matrices(p, b, k, size[k]));
  }
  return OK;
}

static Status update_factors(Parameter *p, const Plan *plan) {
  double b2 = ((const Shampoo *)p->settings)->beta2;
  Tensor *g = op_mul_scalar(p->gradient, p->clip);
  for (int64_t b = 0; b < plan->blocks; b++) {
    Tensor *block = op_contiguous(block_of(plan, g, b));
    if (!block) return error_code();
    for (int k = 0; k < plan->ndim; k++) TRY(mode_gram(block, k, b2 < 1 ? 1 - b2 : 1, b2, factor_of(p, plan, b, k)));
  }
  return OK;
}

/* root <- (factor / correction + eps I)^(-1 / power) */
static Status update_root(Parameter *p, Tensor *factor, Tensor *root, double correction, double power) {
  double eps = ((const Shampoo *)p->settings)->eps;
  Tensor *a = op_mul_scalar(factor, 1 / correction), *fresh = NULL;
  if (!a) return error_code();
  Status s = linalg_inverse_root(a, power, eps, &fresh);
  if (s == ERR_NUMERIC && (a = op_cast(a, F64))) s = linalg_inverse_root(a, power, eps, &fresh);
  if (s == ERR_NUMERIC) { /* keep the old one */
    p->number[0]++;
    return OK;
  }
  if (s == OK) s = tensor_copy(root, fresh);
  tensor_release(fresh);
  return s;
}

static Status update_roots(Parameter *p, const Plan *plan) {
  const Shampoo *s = p->settings;
  double correction = s->beta2 < 1 ? bias_correction(s->beta2, p->step) : 1;
  for (int64_t b = 0; b < plan->blocks; b++)
    for (int k = 0; k < plan->ndim; k++)
      TRY(update_root(p, factor_of(p, plan, b, k), root_of(p, plan, b, k), correction, 2 * plan->ndim));
  return OK;
}

/* The moments, and Adam's direction into `graft` (of p's shape). */
static void moments(Parameter *p, Tensor *graft) {
  const Shampoo *s = p->settings;
  const Kernels *kernels = kernels_for(p->tensor);
  Update u = optim_update(p), second = u;
  u.s[1] = NULL;
  u.c.beta1 = s->beta1, u.c.mix = 1 - s->beta1;
  kernels->update(UPDATE_MOMENTUM, 1, &u);
  second.s[0] = second.s[1];
  second.c.beta2 = s->beta2, second.c.mix = s->beta2 < 1 ? 1 - s->beta2 : 1;
  kernels->update(UPDATE_MOMENT2, 1, &second);
  u.s[1] = second.s[0], u.s[2] = tensor_data(graft);
  u.c.scale1 = 1 / bias_correction(s->beta1, p->step);
  u.c.scale2 = s->beta2 < 1 ? 1 / sqrt(bias_correction(s->beta2, p->step)) : 1;
  u.c.eps = s->eps;
  kernels->update(UPDATE_NORMALISE, 1, &u);
}

/* Replaces each block of `direction`, which holds Adam's, by the preconditioned momentum of the same length. */
static Status precondition(Parameter *p, const Plan *plan, Tensor *direction) {
  double correction = bias_correction(((const Shampoo *)p->settings)->beta1, p->step);
  for (int64_t b = 0; b < plan->blocks; b++) {
    Tensor *graft = block_of(plan, direction, b), *dense = op_contiguous(graft);
    Tensor *u = op_contiguous(block_of(plan, p->slot[MOMENT1].tensor, b));
    for (int k = 0; k < plan->ndim; k++) u = mode_product(u, k, root_of(p, plan, b, k), false);
    if (!u || !dense) return error_code();
    u = op_dense(u);
    double length = tensor_norm(u) / correction;
    TRY(mode_store(graft, op_mul_scalar(u, tensor_norm(dense) / (length + 1e-16) / correction)));
  }
  return OK;
}

static Status step(Parameter *p, double scale) {
  const Shampoo *s = p->settings;
  Plan plan = plan_of(p);
  Tensor *direction = op_new_like(p->tensor);
  if (!direction) return error_code();
  TRY(update_factors(p, &plan));
  moments(p, direction);
  if (p->step == s->start || (p->step > s->start && fmod(p->step, s->frequency) == 0)) TRY(update_roots(p, &plan));
  if (p->step >= s->start) TRY(precondition(p, &plan, direction));
  double lr = s->lr * scale;
  return optim_move(p, direction, lr, 1 - lr * optim_decay(p, s->weight_decay));
}

static const Rule rule = {.prepare = prepare, .step = step, .numbers = {"kept"}};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_shampoo = {"shampoo", "One preconditioner an axis from gradient outer products, steps of Adam's size.",
                                 "Gupta et al., ICML 2018; Shi et al., 2023 (arXiv 2309.06497)", settings, choose};

/* soap.c - SOAP: Adam in the eigenbasis of Shampoo's preconditioners.
 *
 *   step 1 (no update): L_k = (1 - b2) G_k G_k^T, Q_k = its eigenvectors, largest first
 *   m = b1 m + (1 - b1) g                   v = b2 v + (1 - b2) (Q g)^2
 *   w = w - lr sqrt(1 - b2^s) / (1 - b1^s) Q^T (Q m / (sqrt(v) + eps))      s = t - 1;  w = (1 - lr wd) w
 *   L_k = b2 L_k + (1 - b2) G_k G_k^T       after the step
 *   every `frequency` steps: sort Q_k and v by diag(Q_k L_k Q_k^T), then Q_k = rows of QR(L_k Q_k^T)
 *
 * Q_k holds eigenvectors as rows; Q g means the product along every axis. Axes longer than
 * max_precondition_dim, and vectors unless precondition_1d, are left as they are (plain Adam). The first moment
 * stays in the original space, so that a change of basis does not touch it. Where a decomposition fails, the basis stays as
 * it was (at first the identity: Adam), and the state's `kept` counts it.
 *
 * Vyas, Morwani, Zhao, Kwun, Shapira, Brandfonbrener, Janson and Kakade, ICLR 2025 (arXiv 2409.11321); numbers as in
 * nikhilvyas/SOAP. */
#include <stdio.h>
#include <stdlib.h>

#include "autograd/ops/ops.h"
#include "base/mem.h"
#include "linalg/lapack.h"
#include "linalg/linalg.h"
#include "optim/modes.h"
#include "optim/optim.h"

typedef struct Soap {
  double lr, beta1, beta2, eps, weight_decay, frequency, max_dim, precondition_1d, round_factors;
} Soap;

static const Setting settings[] = {
  SETTING_LR(3e-3), SETTING_BETAS(0.95, 0.95), SETTING_EPS(1e-8), SETTING_WEIGHT_DECAY(0.01),
  {"precondition_frequency", WHOLE, .value = {10}, .doc = "steps between two changes of the basis"},
  {"max_precondition_dim", WHOLE, .value = {10000}, .doc = "longer axes keep their basis"},
  {"precondition_1d", SWITCH, .doc = "turn vectors too"},
  {"round_factors", SWITCH, .doc = "round L to f32 before it is decomposed, as the published code does with f64 parameters"},
  {0},
};

enum { MOMENT1, MOMENT2, MATRICES }; /* slots; then L and Q of each axis that is turned */

static bool turned(const Parameter *p, int k) {
  const Soap *s = p->settings;
  return (p->tensor->ndim > 1 || s->precondition_1d) && p->tensor->shape[k] <= (int64_t)s->max_dim;
}

/* Slot of L of axis k; Q is the next one. -1: the axis is not turned. */
static int slot_of(const Parameter *p, int k) {
  int at = MATRICES;
  for (int i = 0; i < k; i++) at += 2 * turned(p, i);
  return turned(p, k) ? at : -1;
}

static Status prepare(Parameter *p) {
  TRY(optim_slot_like(p, "m"));
  TRY(optim_slot_like(p, "v"));
  for (int k = 0; k < p->tensor->ndim; k++) {
    if (!turned(p, k)) continue;
    int64_t square[2] = {p->tensor->shape[k], p->tensor->shape[k]};
    char name[24];
    snprintf(name, sizeof name, "L.%d", k + 1);
    TRY(optim_slot(p, name, 2, square));
    snprintf(name, sizeof name, "Q.%d", k + 1);
    TRY(optim_slot(p, name, 2, square));
    TRY(linalg_identity(p->slot[p->slots - 1].tensor));
  }
  return OK;
}

/* x in the eigenbasis, or back from it. */
static Tensor *project(const Parameter *p, Tensor *x, bool back) {
  for (int k = 0; k < p->tensor->ndim; k++) {
    int at = slot_of(p, k);
    if (at >= 0) x = mode_product(x, k, p->slot[at + 1].tensor, back);
  }
  return x ? op_dense(x) : NULL;
}

static Status update_matrices(Parameter *p, Tensor *g) {
  double b2 = ((const Soap *)p->settings)->beta2;
  for (int k = 0; k < p->tensor->ndim; k++) {
    int at = slot_of(p, k);
    if (at >= 0) TRY(mode_gram(g, k, 1 - b2, b2, p->slot[at].tensor));
  }
  return OK;
}

/* The rows of x (n, width) in the order of descending values. */
typedef struct Ranked { double value; int32_t row; } Ranked;
static int larger_first(const void *a, const void *b) {
  const Ranked *x = a, *y = b;
  if (x->value != y->value) return x->value > y->value ? -1 : 1;
  return (x->row > y->row) - (x->row < y->row); /* ties keep their order */
}

static Tensor *descending_order(Tensor *values) {
  if (!values) return NULL;
  int64_t n = values->shape[0];
  Ranked *ranked = mem_alloc((size_t)n * sizeof *ranked);
  Tensor *order = ranked ? op_new(I32, 1, &n) : NULL;
  for (int64_t i = 0; order && i < n; i++) tensor_get(values, &i, &ranked[i].value), ranked[i].row = (int32_t)i;
  if (order) qsort(ranked, (size_t)n, sizeof *ranked, larger_first);
  for (int64_t i = 0; order && i < n; i++) tensor_set(order, &i, ranked[i].row);
  mem_free(ranked);
  return order;
}

/* x with mode k in another order. */
static Tensor *reorder(Tensor *x, int k, Tensor *order) { return op_contiguous(mode_fold(op_embedding(mode_unfold(x, k), order), x, k)); }

/* L of axis k as the decompositions see it. */
static Tensor *factor_of(const Parameter *p, int k) {
  Tensor *l = p->slot[slot_of(p, k)].tensor;
  return ((const Soap *)p->settings)->round_factors ? op_cast(op_cast(l, F32), F64) : l;
}

static Status first_basis(Parameter *p, int k) {
  Tensor *l = factor_of(p, k), *w, *rows;
  if (!l) return error_code();
  TRY(linalg_eigh(l, &w, &rows)); /* ascending */
  pool_keep(w), pool_keep(rows);
  Tensor *order = descending_order(w), *sorted = order ? op_embedding(rows, order) : NULL;
  return mode_store(p->slot[slot_of(p, k) + 1].tensor, sorted);
}

/* One step of the power iteration, from the basis sorted by what its vectors now carry. */
static Status next_basis(Parameter *p, int k) {
  Tensor *l = factor_of(p, k), *q = p->slot[slot_of(p, k) + 1].tensor;
  Tensor *old = l ? op_cast(q, l->dtype) : NULL, *moved = old ? op_matmul(old, l) : NULL;
  Tensor *order = moved ? descending_order(op_sum(op_mul(moved, old), 1, false)) : NULL;
  if (!order) return error_code();
  Tensor *v = reorder(p->slot[MOMENT2].tensor, k, order), *rows = op_contiguous(op_embedding(moved, order));
  if (!v || !rows) return error_code();
  TRY(tensor_copy(p->slot[MOMENT2].tensor, v));
  TRY(lapack_orthonormal_rows(rows->dtype, rows->shape[0], rows->shape[1], tensor_data(rows)));
  return tensor_copy(q, rows);
}

/* A decomposition that fails leaves the axis in the basis it had. */
static Status change_basis(Parameter *p, Status (*change)(Parameter *, int)) {
  for (int k = 0; k < p->tensor->ndim; k++) {
    Status s = turned(p, k) ? change(p, k) : OK;
    if (s == ERR_NUMERIC) p->number[0]++;
    else if (s != OK) return s;
  }
  return OK;
}

/* Moments and step; s counts the steps that move the weight. */
static Status move(Parameter *p, Tensor *g, double lr, double s) {
  const Soap *o = p->settings;
  const Kernels *kernels = kernels_for(p->tensor);
  Tensor *turned_g = project(p, g, false);
  if (!turned_g) return error_code();
  Update u = optim_update(p), second = u;
  u.s[1] = NULL, u.c.beta1 = o->beta1, u.c.mix = 1 - o->beta1;
  kernels->update(UPDATE_MOMENTUM, 1, &u);
  second.s[0] = second.s[1], second.g = tensor_data(turned_g);
  second.c.clip = 1, second.c.beta2 = o->beta2, second.c.mix = 1 - o->beta2;
  kernels->update(UPDATE_MOMENT2, 1, &second);
  Tensor *m = project(p, p->slot[MOMENT1].tensor, false), *n = op_new_like(p->tensor);
  if (!m || !n) return error_code();
  u.s[0] = tensor_data(m), u.s[1] = second.s[0], u.s[2] = tensor_data(n), u.c.eps = o->eps;
  kernels->update(UPDATE_NORMALISE, 1, &u);
  Tensor *direction = project(p, n, true);
  if (!direction) return error_code();
  double shrink = 1 - lr * optim_decay(p, o->weight_decay); /* after the step: it shrinks the step too */
  return optim_move(p, direction, shrink * lr * sqrt(bias_correction(o->beta2, s)) / bias_correction(o->beta1, s), shrink);
}

static Status step(Parameter *p, double scale) {
  const Soap *o = p->settings;
  Tensor *g = op_mul_scalar(p->gradient, p->clip);
  if (!g) return error_code();
  if (p->step > 1) TRY(move(p, g, o->lr * scale, p->step - 1));
  TRY(update_matrices(p, g));
  if (p->step == 1) return change_basis(p, first_basis);
  return fmod(p->step - 1, o->frequency) == 0 ? change_basis(p, next_basis) : OK;
}

static const Rule rule = {.prepare = prepare, .step = step, .numbers = {"kept"}};
static const Rule *choose(const Parameter *p) {
  (void)p;
  return &rule;
}

const OptimInfo optim_soap = {"soap", "Adam in the eigenbasis of Shampoo's preconditioners.", "Vyas et al., ICLR 2025 (arXiv 2409.11321)", settings, choose};

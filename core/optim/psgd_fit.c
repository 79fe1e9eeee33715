/* psgd_fit.c - one descent step of PSGD's Q (formulas: psgd.c). */
#include "autograd/ops/ops.h"
#include "linalg/lapack.h"
#include "linalg/linalg.h"
#include "optim/modes.h"
#include "optim/psgd.h"

/* The number in a tensor of one element. */
static Status number_of(Tensor *x, double *out) { return x ? tensor_get(x, (int64_t[MAX_DIMS]){0}, out) : error_code(); }

static Status largest(Tensor *x, double *out) { return number_of(op_max(op_unary_named("abs", x), ALL_AXES, false), out); }

static Status length(Tensor *x, double *out) {
  Tensor *dense = x ? op_dense(x) : NULL;
  if (dense) *out = tensor_norm(dense);
  return dense ? OK : error_code();
}

/* Lower bound of the spectral norm of s (n, n): the row of largest norm, once through s. Symmetric s: within a
 * factor of two for random ones (Li, psgd_torch). */
static Status norm_bound(Tensor *s, double *out) {
  double scale, along = 0;
  TRY(largest(s, &scale));
  *out = scale;
  if (!(scale > 0) || isinf(scale)) return OK;
  Tensor *x = op_mul_scalar(s, 1 / scale), *lengths = x ? mode_squares(op_dense(x), 0) : NULL;
  Tensor *row = op_embedding(x, op_argmax(lengths, 0, false));
  Tensor *y = row ? op_matmul(op_reshape(row, 2, (int64_t[]){1, -1}), x) : NULL;
  TRY(length(y, &along));
  TRY(length(op_matmul(op_mul_scalar(y, 1 / along), op_transpose(x, 0, 1)), out));
  *out *= scale;
  return OK;
}

static Status not_finite(void) { return fail(ERR_NUMERIC, "psgd: the preconditioner's update is not finite"); }

/* Q_k all get the geometric mean of their largest entries as largest entry. */
static Status balance(Parameter *p) {
  int n = p->tensor->ndim;
  double sizes[MAX_DIMS], mean = 0;
  for (int k = 0; k < n; k++) {
    TRY(largest(psgd_q(p, k), &sizes[k]));
    mean += log(sizes[k]) / n;
  }
  for (int k = 0; k < n; k++) TRY(mode_store(psgd_q(p, k), op_mul_scalar(psgd_q(p, k), exp(mean) / sizes[k])));
  return OK;
}

/* Normal noise like x from the parameter's own stream, whose place is part of the state. */
static Tensor *noise_like(Parameter *p, const Tensor *x) {
  Random r = random_stream((uint64_t)((const Psgd *)p->settings)->seed, p->name);
  r.counter = (uint64_t)p->number[PSGD_DRAWS];
  Tensor *v = op_new_like(x);
  if (!v || tensor_fill_normal(v, &r, 0, 1)) return NULL;
  p->number[PSGD_DRAWS] = (double)r.counter;
  return v;
}

static bool chance(Parameter *p, double probability) {
  Random r = random_stream((uint64_t)((const Psgd *)p->settings)->seed, p->name);
  r.counter = (uint64_t)p->number[PSGD_DRAWS];
  bool hit = random_uniform(&r) < probability;
  p->number[PSGD_DRAWS] = (double)r.counter;
  return hit;
}

/* --- triangular --- */

/* B_k = Q_k^-T V_k along every axis. */
static Tensor *inverse_apply(const Parameter *p, Tensor *v) {
  for (int k = 0; v && k < p->tensor->ndim; k++) {
    Tensor *q = psgd_q(p, k);
    if (q->ndim == 1) {
      v = mode_scale(v, k, op_reciprocal(q));
      continue;
    }
    Tensor *solved, *matrix = mode_unfold(v, k);
    if (!matrix || linalg_triangular_solve(q, matrix, true, true, &solved)) return NULL;
    v = op_contiguous(mode_fold(pool_keep(solved), v, k));
  }
  return v;
}

static Tensor *square(Tensor *x, int k) { /* X_k X_k^T */
  Tensor *t = op_new(x->dtype, 2, (int64_t[]){x->shape[k], x->shape[k]});
  return t && mode_gram(x, k, 1, 0, t) == OK ? t : NULL;
}

static Status fit_triangular_axis(const Parameter *p, int k, Tensor *a, Tensor *b) {
  double mu = ((const Psgd *)p->settings)->precond_lr;
  Tensor *q = psgd_q(p, k);
  bool full = q->ndim == 2;
  Tensor *t1 = full ? square(a, k) : mode_squares(a, k), *t2 = full ? square(b, k) : mode_squares(b, k);
  Tensor *sum = op_add(t1, t2), *difference = op_sub(t1, t2);
  if (!sum || !difference) return error_code();
  double size;
  TRY(full ? norm_bound(sum, &size) : largest(sum, &size));
  if (!isfinite(size)) return not_finite();
  if (size == 0) return OK;
  if (full) TRY(lapack_clear_triangle(difference->dtype, difference->shape[0], tensor_data(difference), false));
  Tensor *change = full ? op_matmul(difference, q) : op_mul(difference, q);
  return mode_store(psgd_q(p, k), op_sub(q, op_mul_scalar(change, mu / size)));
}

static Status fit_triangular(Parameter *p, Tensor *m) {
  Tensor *v = noise_like(p, m), *a = psgd_apply(p, m, false), *b = v ? inverse_apply(p, v) : NULL;
  if (!a || !b) return error_code();
  for (int k = 0; k < p->tensor->ndim; k++) TRY(fit_triangular_axis(p, k, a, b));
  return OK;
}

/* --- q0.5eq1.5 --- */

static Status trace(Tensor *x, double *out) {
  if (!x) return error_code();
  int64_t n = x->shape[0], step = x->stride[0] + x->stride[1];
  return number_of(op_sum(op_new_view(x, 1, &n, &step, x->offset), ALL_AXES, false), out);
}

/* Turns *q by exp(a R), R = Q^T - Q over its norm, so that its trace grows: towards a symmetric Q with the same Q^T Q.
 * The trace gains a tr(RQ) + a^2 tr(RRQ) / 2; a is the best one, at most 1/8. */
static Status turn(Tensor **q) {
  double size, gain, bend;
  Tensor *r = op_sub(op_transpose(*q, 0, 1), *q);
  TRY(norm_bound(r, &size));
  if (size == 0) return OK;
  r = op_mul_scalar(r, 1 / size);
  Tensor *rq = op_matmul(r, *q), *rrq = op_matmul(r, rq);
  TRY(trace(rq, &gain));
  TRY(trace(rrq, &bend));
  if (!(gain > 0)) return OK;
  double a = bend < 0 ? fmin(-gain / bend, 0.125) : 0.125;
  *q = op_add(*q, op_mul_scalar(op_add(rq, op_mul_scalar(rrq, a / 2)), a));
  return *q ? OK : error_code();
}

/* The running bound L of axis k takes in l; returns the new L. */
static double bound(Parameter *p, int k, double l) {
  Tensor *bounds = p->slot[1 + p->tensor->ndim].tensor;
  double old = 0;
  int64_t at = k;
  tensor_get(bounds, &at, &old);
  double fresh = fmax(0.9 * old + 0.1 * l, l);
  tensor_set(bounds, &at, fresh);
  return fresh;
}

static Status fit_q05_axis(Parameter *p, int k, Tensor *white) {
  double mu = ((const Psgd *)p->settings)->precond_lr, share = (double)tensor_numel(white) / (double)white->shape[k], size;
  Tensor *q = psgd_q(p, k);
  bool full = q->ndim == 2;
  Tensor *t1 = full ? square(white, k) : mode_squares(white, k);
  TRY(full ? norm_bound(t1, &size) : largest(t1, &size));
  if (!isfinite(size)) return not_finite();
  Tensor *change = op_sub(full ? op_matmul(t1, q) : op_mul(t1, q), op_mul_scalar(q, share));
  Tensor *fresh = op_sub(q, op_mul_scalar(change, mu / bound(p, k, share + size)));
  if (fresh && full) TRY(turn(&fresh));
  return mode_store(q, fresh);
}

/* The gradient is damped by a trace of noise, so that directions it never shows do not grow without bound. */
static Status fit_q05(Parameter *p, Tensor *m) {
  Tensor *v = noise_like(p, m);
  double damping = 1e-9 + 1e-7 * tensor_norm(m) / sqrt((double)tensor_numel(m));
  Tensor *white = psgd_apply(p, psgd_apply(p, v ? op_add(m, op_mul_scalar(v, damping)) : NULL, false), true);
  if (!white) return error_code();
  for (int k = 0; k < p->tensor->ndim; k++) TRY(fit_q05_axis(p, k, white));
  return OK;
}

Status psgd_fit(Parameter *p, Tensor *m) {
  const Psgd *s = p->settings;
  if (p->tensor->ndim > 1 && chance(p, s->balance)) TRY(balance(p));
  return s->geometry == PSGD_Q05 ? fit_q05(p, m) : fit_triangular(p, m);
}

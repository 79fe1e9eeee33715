/* linalg.c - the factorisations of lapack.h for tensors: check shapes, copy, call. */
#include "linalg/linalg.h"

#include <math.h>

#include "kernel/kernel.h"
#include "linalg/lapack.h"

static Status check_matrix(const char *op, const Tensor *a, bool square) {
  if (!dtype_is_real(a->dtype)) return fail(ERR_DTYPE, "%s: needs f32 or f64, got %s", op, dtype_name(a->dtype));
  if (a->ndim != 2) return fail(ERR_SHAPE, "%s: needs a matrix (two axes), got %s", op, shape_text(a));
  if (square && a->shape[0] != a->shape[1]) return fail(ERR_SHAPE, "%s: needs a square matrix, got %s", op, shape_text(a));
  return OK;
}

/* A contiguous copy of its own, to be overwritten. */
static Status copy_of(const Tensor *a, Tensor **out) { return tensor_cast(a, a->dtype, out); }

static Status matrix(DType d, int64_t m, int64_t n, Tensor **out) { return tensor_new(d, 2, (int64_t[]){m, n}, out); }
static Status vector(DType d, int64_t n, Tensor **out) { return tensor_new(d, 1, &n, out); }

/* Hands out what was made, or releases it and passes the failure on. */
static Status give(Status s, int n, Tensor **made, Tensor ***out) {
  for (int i = 0; i < n; i++)
    if (s == OK && out[i]) *out[i] = made[i];
    else tensor_release(made[i]);
  return s;
}

Status linalg_eigh(const Tensor *a, Tensor **w, Tensor **rows) {
  TRY(check_matrix("eigh", a, true));
  Tensor *made[2] = {NULL, NULL};
  Status s = vector(a->dtype, a->shape[0], &made[0]);
  if (s == OK) s = copy_of(a, &made[1]);
  if (s == OK) s = lapack_eigh(a->dtype, a->shape[0], tensor_data(made[1]), tensor_data(made[0]), rows != NULL);
  return give(s, 2, made, (Tensor **[]){w, rows});
}

/* For the routines that turn a square matrix into another one in its place. */
#define IN_PLACE(op, call)              \
  TRY(check_matrix(op, a, true));       \
  Tensor *x;                            \
  TRY(copy_of(a, &x));                  \
  return give(call, 1, &x, (Tensor **[]){out})

Status linalg_cholesky(const Tensor *a, bool upper, Tensor **out) {
  IN_PLACE("cholesky", lapack_cholesky(a->dtype, a->shape[0], tensor_data(x), upper));
}
Status linalg_cholesky_inverse(const Tensor *a, Tensor **out) {
  IN_PLACE("cholesky inverse", lapack_cholesky_inverse(a->dtype, a->shape[0], tensor_data(x)));
}
Status linalg_inverse(const Tensor *a, Tensor **out) { IN_PLACE("inv", lapack_inverse(a->dtype, a->shape[0], tensor_data(x))); }

Status linalg_qr(const Tensor *a, Tensor **q, Tensor **r) {
  TRY(check_matrix("qr", a, false));
  int64_t m = a->shape[0], n = a->shape[1], k = m < n ? m : n;
  Tensor *made[3] = {NULL, NULL, NULL};
  Status s = matrix(a->dtype, m, k, &made[0]);
  if (s == OK) s = matrix(a->dtype, k, n, &made[1]);
  if (s == OK) s = copy_of(a, &made[2]);
  if (s == OK) s = lapack_qr(a->dtype, m, n, tensor_data(made[2]), tensor_data(made[0]), tensor_data(made[1]));
  return give(s, 3, made, (Tensor **[]){q, r, NULL});
}

Status linalg_svd(const Tensor *a, Tensor **u, Tensor **s, Tensor **vt) {
  TRY(check_matrix("svd", a, false));
  int64_t m = a->shape[0], n = a->shape[1], k = m < n ? m : n;
  Tensor *made[4] = {NULL, NULL, NULL, NULL};
  Status status = vector(a->dtype, k, &made[1]);
  if (status == OK && u) status = matrix(a->dtype, m, k, &made[0]);
  if (status == OK && u) status = matrix(a->dtype, k, n, &made[2]);
  if (status == OK) status = copy_of(a, &made[3]);
  if (status == OK)
    status = lapack_svd(a->dtype, m, n, tensor_data(made[3]), u ? tensor_data(made[0]) : NULL, tensor_data(made[1]), u ? tensor_data(made[2]) : NULL);
  return give(status, 4, made, (Tensor **[]){u, s, vt, NULL});
}

static Status check_right_side(const char *op, const Tensor *a, const Tensor *b) {
  TRY(check_matrix(op, a, true));
  if (b->dtype != a->dtype) return fail(ERR_DTYPE, "%s: the matrix is %s, the right side %s", op, dtype_name(a->dtype), dtype_name(b->dtype));
  if (b->ndim < 1 || b->ndim > 2 || b->shape[0] != a->shape[0])
    return fail(ERR_SHAPE, "%s: a %s matrix needs a right side (%lld) or (%lld, k), got %s", op, shape_text(a), (long long)a->shape[0],
                (long long)a->shape[0], shape_text(b));
  return OK;
}
static int64_t columns(const Tensor *b) { return b->ndim == 2 ? b->shape[1] : 1; }

Status linalg_solve(const Tensor *a, const Tensor *b, Tensor **x) {
  TRY(check_right_side("solve", a, b));
  Tensor *made[2] = {NULL, NULL};
  Status s = copy_of(b, &made[0]);
  if (s == OK) s = copy_of(a, &made[1]);
  if (s == OK) s = lapack_solve(a->dtype, a->shape[0], columns(b), tensor_data(made[1]), tensor_data(made[0]));
  return give(s, 2, made, (Tensor **[]){x, NULL});
}

Status linalg_triangular_solve(const Tensor *t, const Tensor *b, bool upper, bool transpose, Tensor **x) {
  TRY(check_right_side("triangular solve", t, b));
  Tensor *made[2] = {NULL, NULL};
  Status s = copy_of(b, &made[0]);
  if (s == OK) s = tensor_contiguous_copy(t, &made[1]);
  if (s == OK) s = lapack_triangular_solve(t->dtype, t->shape[0], columns(b), tensor_data(made[1]), tensor_data(made[0]), upper, transpose);
  return give(s, 2, made, (Tensor **[]){x, NULL});
}

Status linalg_identity(Tensor *a) {
  TRY(check_matrix("identity", a, false));
  int64_t k = a->shape[0] < a->shape[1] ? a->shape[0] : a->shape[1], step = a->stride[0] + a->stride[1];
  Tensor *diagonal;
  TRY(tensor_fill(a, 0));
  TRY(tensor_view(a, 1, &k, &step, a->offset, &diagonal));
  Status s = tensor_fill(diagonal, 1);
  tensor_release(diagonal);
  return s;
}

Status linalg_spectral_norm(const Tensor *a, double *out) {
  Tensor *s;
  TRY(linalg_svd(a, NULL, &s, NULL));
  Status status = tensor_get(s, (int64_t[MAX_DIMS]){0}, out);
  tensor_release(s);
  return status;
}

/* --- inverse roots --- */

/* w <- (w + shift + eps)^(-1/(2 root)), on the host: n values against n^3 operations of the eigenproblem */
static Status half_powers(Tensor *w, double root, double eps) {
  double least;
  TRY(tensor_get(w, (int64_t[MAX_DIMS]){0}, &least));
  double shift = least < eps ? -least : 0;
  for (int64_t i = 0; i < w->shape[0]; i++) {
    double v;
    TRY(tensor_get(w, &i, &v));
    TRY(tensor_set(w, &i, pow(v + shift + eps, -0.5 / root)));
  }
  return OK;
}

/* rows (n, n), w (n): rows[i] *= w[i] */
static Status scale_rows(Tensor *rows, const Tensor *w) {
  Tensor *column;
  TRY(tensor_view(w, 2, (int64_t[]){w->shape[0], 1}, (int64_t[]){1, 0}, w->offset, &column));
  Loop l;
  loop_make(&l, 3, (Tensor *const[]){rows, rows, column});
  kernels_for(rows)->binary(B_MUL, &l);
  tensor_release(column);
  return OK;
}

/* With S = diag(lambda^(-1/(2 root))) V^T, whose rows are scaled eigenvectors, the root is S^T S: symmetric to the last bit. */
Status linalg_inverse_root(const Tensor *a, double root, double eps, Tensor **out) {
  Tensor *made[3] = {NULL, NULL, NULL};
  if (!(root > 0) || !(eps > 0)) return fail(ERR_ARGUMENT, "inverse root: root and eps must be above 0, got %g and %g", root, eps);
  Status s = linalg_eigh(a, &made[1], &made[2]);
  if (s == OK) s = half_powers(made[1], root, eps);
  if (s == OK) s = scale_rows(made[2], made[1]);
  if (s == OK) s = tensor_like(made[2], &made[0]);
  int64_t n = a->shape[0];
  if (s == OK) kernels_for(a)->gram(true, n, n, 1, tensor_data(made[2]), 0, tensor_data(made[0]));
  return give(s, 3, made, (Tensor **[]){out, NULL, NULL});
}

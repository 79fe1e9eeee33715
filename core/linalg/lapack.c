/* lapack.c - row-major wrappers over LAPACK: sizes and finiteness checked, scratch
 * owned here, info turned into a message. See lapack.h for how transposes are avoided. */
#include "linalg/lapack.h"

#include <limits.h>
#include <math.h>

#include "base/mem.h"
#include "kernel/kernel.h"

static const float ONE_F = 1, ZERO_F = 0;
static const double ONE_D = 1, ZERO_D = 0;
static const void *one(DType d) { return d == F64 ? (const void *)&ONE_D : &ONE_F; }
static const void *zero(DType d) { return d == F64 ? (const void *)&ZERO_D : &ZERO_F; }

/* Address of element i of a buffer. */
static void *at(DType d, const void *a, int64_t i) { return (char *)a + (size_t)i * dtype_bytes(d); }

static bool all_finite(DType d, int m, int n, const void *a) {
  return isfinite(d == F64 ? dlange_("M", &m, &n, a, &m, NULL, 1) : slange_("M", &m, &n, a, &m, NULL, 1));
}

/* Row-major (m, n) is LAPACK's (n, m). The largest scratch below is 3 n^2 reals, counted in an int. */
static Status check_size(DType d, const char *op, int64_t m, int64_t n) {
  if (!dtype_is_real(d)) return fail(ERR_DTYPE, "%s: needs f32 or f64, got %s", op, dtype_name(d));
  if (m < 1 || n < 1) return fail(ERR_SHAPE, "%s: the matrix is empty (%lld, %lld)", op, (long long)m, (long long)n);
  if (m > INT_MAX / 4 || n > INT_MAX / 4 || (m < n ? m : n) > 20000)
    return fail(ERR_SHAPE, "%s: a (%lld, %lld) matrix is too large to factorise", op, (long long)m, (long long)n);
  return OK;
}

Status lapack_check_finite(DType d, const char *op, int64_t m, int64_t n, const void *a) {
  TRY(check_size(d, op, m, n));
  if (all_finite(d, (int)n, (int)m, a)) return OK;
  return fail(ERR_NUMERIC, "%s: the (%lld, %lld) matrix holds NaN or infinity", op, (long long)m, (long long)n);
}

/* Reads the answer of a workspace query; the f32 answer may be rounded down, hence the slack. */
static int scratch_size(DType d, const void *answer) {
  double n = d == F64 ? *(const double *)answer : (double)*(const float *)answer * (1 + 1e-6);
  return (int)n + 1;
}

/* Fills the upper row-major triangle from the lower one, row by row. */
static void mirror(DType d, int n, void *a) {
  int step = 1;
  for (int i = 1; i < n; i++) LAPACK(d, copy)(&i, at(d, a, (int64_t)i * n), &step, at(d, a, i), &n);
}

Status lapack_clear_triangle(DType d, int64_t n64, void *a, bool above) {
  TRY(check_size(d, "clear triangle", n64, n64));
  int n = (int)n64, m = n - 1;
  if (m < 1) return OK;
  if (above) LAPACK(d, laset)("L", &m, &m, zero(d), zero(d), at(d, a, 1), &n, 1);
  else LAPACK(d, laset)("U", &m, &m, zero(d), zero(d), at(d, a, n), &n, 1);
  return OK;
}

Status lapack_eigh(DType d, int64_t n64, void *a, void *w, bool vectors) {
  TRY(lapack_check_finite(d, "eigh", n64, n64, a));
  int n = (int)n64, info = 0, query = -1, integers;
  double answer[2];
  const char *job = vectors ? "V" : "N";
  LAPACK(d, syevd)(job, "U", &n, a, &n, w, answer, &query, &integers, &query, &info, 1, 1);
  int reals = scratch_size(d, answer);
  void *work = mem_alloc((size_t)reals * dtype_bytes(d));
  int *iwork = mem_alloc((size_t)integers * sizeof *iwork);
  if (work && iwork) LAPACK(d, syevd)(job, "U", &n, a, &n, w, work, &reals, iwork, &integers, &info, 1, 1);
  bool memory = work && iwork;
  mem_free(work);
  mem_free(iwork);
  if (!memory) return error_code();
  if (info) return fail(ERR_NUMERIC, "eigh: the (%d, %d) eigenproblem did not converge (LAPACK info %d)", n, n, info);
  return OK;
}

Status lapack_cholesky_factor(DType d, int64_t n, void *a, int64_t *bad) {
  void *scratch = mem_alloc((size_t)cholesky_scratch(n) * dtype_bytes(d));
  if (!scratch) return error_code();
  *bad = kernels_of(0, d)->cholesky(n, a, n, scratch);
  mem_free(scratch);
  return OK;
}

Status lapack_cholesky(DType d, int64_t n64, void *a, bool upper) {
  TRY(lapack_check_finite(d, "cholesky", n64, n64, a));
  int n = (int)n64;
  int64_t bad;
  TRY(lapack_cholesky_factor(d, n, a, &bad));
  if (bad)
    return fail(ERR_NUMERIC, "cholesky: the (%d, %d) matrix is not positive definite (pivot %lld); add to its diagonal", n, n, (long long)bad);
  if (upper) mirror(d, n, a);
  return lapack_clear_triangle(d, n, a, !upper);
}

Status lapack_cholesky_inverse(DType d, int64_t n64, void *a) {
  TRY(lapack_cholesky(d, n64, a, false));
  int n = (int)n64, info = 0;
  LAPACK(d, potri)("U", &n, a, &n, &info, 1);
  if (info) return fail(ERR_NUMERIC, "cholesky inverse: the (%d, %d) factor is singular (pivot %d)", n, n, info);
  mirror(d, n, a);
  return OK;
}

Status lapack_triangular_inverse(DType d, int64_t n64, void *a, bool upper) {
  TRY(check_size(d, "triangular inverse", n64, n64));
  int n = (int)n64, info = 0;
  LAPACK(d, trtri)(upper ? "L" : "U", "N", &n, a, &n, &info, 1, 1);
  if (info) return fail(ERR_NUMERIC, "triangular inverse: entry %d of the diagonal of the (%d, %d) matrix is zero", info, n, n);
  return OK;
}

Status lapack_triangular_solve(DType d, int64_t n64, int64_t k64, const void *t, void *b, bool upper, bool transpose) {
  TRY(check_size(d, "triangular solve", n64, n64));
  TRY(check_size(d, "triangular solve", n64, k64));
  int n = (int)n64, k = (int)k64;
  LAPACK(d, trsm)("R", upper ? "L" : "U", transpose ? "T" : "N", "N", &k, &n, one(d), t, &n, b, &k, 1, 1, 1, 1);
  if (all_finite(d, k, n, b)) return OK;
  return fail(ERR_NUMERIC, "triangular solve: the (%d, %d) matrix is singular, or an entry is NaN or infinite", n, n);
}

/* LQ of the transpose. The L of LAPACK's first k rows is our R; q needs room for a whole copy of a when m < n. */
Status lapack_qr(DType d, int64_t m64, int64_t n64, void *a, void *q, void *r) {
  TRY(lapack_check_finite(d, "qr", m64, n64, a));
  int m = (int)m64, n = (int)n64, k = m < n ? m : n, info = 0, query = -1;
  double answer[2];
  LAPACK(d, gelqf)(&n, &m, a, &n, a, answer, &query, &info);
  int size = scratch_size(d, answer);
  LAPACK(d, orglq)(&k, &m, &k, a, &n, a, answer, &query, &info);
  if (scratch_size(d, answer) > size) size = scratch_size(d, answer);
  void *work = mem_alloc(((size_t)size + (size_t)k) * dtype_bytes(d));
  if (!work) return error_code();
  void *tau = at(d, work, size);
  LAPACK(d, gelqf)(&n, &m, a, &n, tau, work, &size, &info);
  if (r) { /* r (k, n) is LAPACK's (n, k): the lower trapezoid */
    LAPACK(d, laset)("A", &n, &k, zero(d), zero(d), r, &n, 1);
    LAPACK(d, lacpy)("L", &n, &k, a, &n, r, &n, 1);
  }
  if (q != a) LAPACK(d, lacpy)("A", &k, &m, a, &n, q, &k, 1);
  LAPACK(d, orglq)(&k, &m, &k, q, &k, tau, work, &size, &info);
  mem_free(work);
  return OK;
}

Status lapack_orthonormal_rows(DType d, int64_t m64, int64_t n64, void *a) {
  TRY(lapack_check_finite(d, "orthonormal rows", m64, n64, a));
  if (m64 > n64) return fail(ERR_SHAPE, "orthonormal rows: %lld rows of %lld columns depend on each other", (long long)m64, (long long)n64);
  int m = (int)m64, n = (int)n64, info = 0, query = -1;
  double answer[2];
  LAPACK(d, geqrf)(&n, &m, a, &n, a, answer, &query, &info);
  int size = scratch_size(d, answer);
  LAPACK(d, orgqr)(&n, &m, &m, a, &n, a, answer, &query, &info);
  if (scratch_size(d, answer) > size) size = scratch_size(d, answer);
  void *work = mem_alloc(((size_t)size + (size_t)m) * dtype_bytes(d));
  if (!work) return error_code();
  void *tau = at(d, work, size);
  LAPACK(d, geqrf)(&n, &m, a, &n, tau, work, &size, &info);
  LAPACK(d, orgqr)(&n, &m, &m, a, &n, tau, work, &size, &info);
  mem_free(work);
  return OK;
}

Status lapack_svd(DType d, int64_t m64, int64_t n64, void *a, void *u, void *s, void *vt) {
  TRY(lapack_check_finite(d, "svd", m64, n64, a));
  int m = (int)m64, n = (int)n64, k = m < n ? m : n, info = 0, query = -1;
  const char *job = u ? "S" : "N";
  double answer[2];
  LAPACK(d, gesdd)(job, &n, &m, a, &n, s, vt, &n, u, &k, answer, &query, NULL, &info, 1);
  int size = scratch_size(d, answer);
  void *work = mem_alloc((size_t)size * dtype_bytes(d));
  int *iwork = mem_alloc(8 * (size_t)k * sizeof *iwork);
  bool memory = work && iwork;
  if (memory) LAPACK(d, gesdd)(job, &n, &m, a, &n, s, vt, &n, u, &k, work, &size, iwork, &info, 1);
  mem_free(work);
  mem_free(iwork);
  if (!memory) return error_code();
  if (info) return fail(ERR_NUMERIC, "svd: the (%d, %d) matrix did not converge (LAPACK info %d)", m, n, info);
  return OK;
}

static Status lu(DType d, const char *op, int n, void *a, int *pivots) {
  int info = 0;
  LAPACK(d, getrf)(&n, &n, a, &n, pivots, &info);
  if (info) return fail(ERR_NUMERIC, "%s: the (%d, %d) matrix is singular (pivot %d is zero)", op, n, n, info);
  return OK;
}

/* LAPACK holds A^T = P L U. Our x^T A^T = b^T is solved from the right: b^T U^-1, then L^-1, then the
 * exchanges of P undone on the rows of x, the last one first. */
Status lapack_solve(DType d, int64_t n64, int64_t k64, void *a, void *b) {
  TRY(lapack_check_finite(d, "solve", n64, n64, a));
  TRY(lapack_check_finite(d, "solve", n64, k64, b));
  int n = (int)n64, k = (int)k64, step = 1;
  int *pivots = mem_alloc((size_t)n * sizeof *pivots);
  if (!pivots) return error_code();
  Status s = lu(d, "solve", n, a, pivots);
  if (s == OK) {
    LAPACK(d, trsm)("R", "U", "N", "N", &k, &n, one(d), a, &n, b, &k, 1, 1, 1, 1);
    LAPACK(d, trsm)("R", "L", "N", "U", &k, &n, one(d), a, &n, b, &k, 1, 1, 1, 1);
    for (int i = n - 1; i >= 0; i--)
      if (pivots[i] != i + 1) LAPACK(d, swap)(&k, at(d, b, (int64_t)i * k), &step, at(d, b, (int64_t)(pivots[i] - 1) * k), &step);
  }
  mem_free(pivots);
  return s;
}

Status lapack_inverse(DType d, int64_t n64, void *a) {
  TRY(lapack_check_finite(d, "inv", n64, n64, a));
  int n = (int)n64, info = 0, query = -1;
  double answer[2];
  int *pivots = mem_alloc((size_t)n * sizeof *pivots);
  if (!pivots) return error_code();
  LAPACK(d, getri)(&n, a, &n, pivots, answer, &query, &info);
  int size = scratch_size(d, answer);
  void *work = mem_alloc((size_t)size * dtype_bytes(d));
  Status s = work ? lu(d, "inv", n, a, pivots) : error_code();
  if (s == OK) LAPACK(d, getri)(&n, a, &n, pivots, work, &size, &info);
  mem_free(work);
  mem_free(pivots);
  return s;
}

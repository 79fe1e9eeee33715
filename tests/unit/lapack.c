/* The factorisations give their inputs back, in both element types and both orientations. */
#include "linalg/lapack.h"

#include <stdlib.h>

#include "base/random.h"
#include "tests/tap.h"

enum { ROOM = 64 * 64 };
static double A[ROOM], B[ROOM], C[ROOM]; /* what the checks compute with */
static double tolerance;

/* Buffers of the element type under test, and their values as doubles. */
static void *typed(DType d, const double *x, int n) {
  void *p = malloc((size_t)n * 8);
  for (int i = 0; i < n; i++) {
    if (d == F64) ((double *)p)[i] = x[i];
    else ((float *)p)[i] = (float)x[i];
  }
  return p;
}
static double value(DType d, const void *p, int i) { return d == F64 ? ((const double *)p)[i] : (double)((const float *)p)[i]; }

static void fill(double *x, int n, const char *name) {
  Random r = random_stream(7, name);
  for (int i = 0; i < n; i++) x[i] = random_normal(&r);
}

/* max |sum_k x[i,k] y[k,j] - z[i,j]|, x (m, k) y (k, n), each optionally transposed in storage */
static double product_error(int m, int k, int n, const double *x, bool tx, const double *y, bool ty, const double *z) {
  double worst = 0;
  for (int i = 0; i < m; i++)
    for (int j = 0; j < n; j++) {
      double s = 0;
      for (int l = 0; l < k; l++) s += (tx ? x[l * m + i] : x[i * k + l]) * (ty ? y[j * k + l] : y[l * n + j]);
      worst = fmax(worst, fabs(s - z[i * n + j]));
    }
  return worst;
}

static void read_back(DType d, const void *p, int n, double *x) {
  for (int i = 0; i < n; i++) x[i] = value(d, p, i);
}

/* B = A A^T + I, positive definite (n, n) */
static void positive_definite(int n) {
  fill(A, n * n, "a");
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      double s = i == j;
      for (int l = 0; l < n; l++) s += A[i * n + l] * A[j * n + l];
      B[i * n + j] = s;
    }
}

static void test_eigh(DType d, int n) {
  positive_definite(n);
  void *v = typed(d, B, n * n), *w = typed(d, B, n);
  ok(lapack_eigh(d, n, v, w, true) == OK, "%s eigh of (%d, %d)", dtype_name(d), n, n);
  read_back(d, v, n * n, A);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) C[i * n + j] = A[i * n + j] * value(d, w, i);
  ok(product_error(n, n, n, A, true, C, false, B) < tolerance * n * 4, "rows are eigenvectors: V^T diag(w) V = A");
  int ascending = 1;
  for (int i = 1; i < n; i++) ascending &= value(d, w, i) >= value(d, w, i - 1);
  ok(ascending, "eigenvalues ascend");
  free(v);
  free(w);
}

static void test_cholesky(DType d, int n) {
  positive_definite(n);
  for (int upper = 0; upper < 2; upper++) {
    void *l = typed(d, B, n * n);
    if (n > 1) /* only the lower triangle counts */
      d == F64 ? (((double *)l)[1] = 99) : (((float *)l)[1] = 99);
    ok(lapack_cholesky(d, n, l, upper) == OK, "%s cholesky of (%d, %d)", dtype_name(d), n, n);
    read_back(d, l, n * n, A);
    ok(product_error(n, n, n, A, upper, A, !upper, B) < tolerance * n * 4, upper ? "U^T U = A" : "L L^T = A");
    ok(n < 2 || A[upper ? n : 1] == 0, "the other triangle is zero");
    free(l);
  }
  void *i = typed(d, B, n * n);
  ok(lapack_cholesky_inverse(d, n, i) == OK, "inverse through cholesky");
  read_back(d, i, n * n, A);
  for (int k = 0; k < n * n; k++) C[k] = k % (n + 1) == 0;
  ok(product_error(n, n, n, A, false, B, false, C) < tolerance * n * 40, "A^-1 A = I");
  free(i);
}

static void test_qr(DType d, int m, int n) {
  int k = m < n ? m : n;
  fill(B, m * n, "qr");
  void *a = typed(d, B, m * n), *q = typed(d, B, m * k), *r = typed(d, B, k * n);
  ok(lapack_qr(d, m, n, a, q, r) == OK, "%s qr of (%d, %d)", dtype_name(d), m, n);
  read_back(d, q, m * k, A);
  read_back(d, r, k * n, C);
  ok(product_error(m, k, n, A, false, C, false, B) < tolerance * m, "Q R = A");
  ok(k < 2 || C[n] == 0, "R is upper triangular");
  for (int i = 0; i < k * k; i++) C[i] = i % (k + 1) == 0;
  ok(product_error(k, m, k, A, true, A, false, C) < tolerance * m, "Q^T Q = I");
  if (m >= n) {
    void *b = typed(d, B, m * n);
    ok(lapack_qr(d, m, n, b, b, NULL) == OK && memcmp(b, q, (size_t)(m * n) * dtype_bytes(d)) == 0, "q in place of a");
    free(b);
  }
  free(a), free(q), free(r);
}

static void test_orthonormal_rows(DType d, int m, int n) {
  fill(B, m * n, "rows");
  void *a = typed(d, B, m * n);
  ok(lapack_orthonormal_rows(d, m, n, a) == OK, "%s orthonormal rows of (%d, %d)", dtype_name(d), m, n);
  read_back(d, a, m * n, A);
  for (int i = 0; i < m * m; i++) C[i] = i % (m + 1) == 0;
  ok(product_error(m, n, m, A, false, A, true, C) < tolerance * n, "Q Q^T = I");
  double along = 0, length = 0; /* the first row keeps its direction */
  for (int j = 0; j < n; j++) along += A[j] * B[j], length += B[j] * B[j];
  near_(fabs(along), sqrt(length), tolerance * 10, "the first row keeps its line");
  free(a);
}

static void test_svd(DType d, int m, int n) {
  int k = m < n ? m : n;
  fill(B, m * n, "svd");
  void *a = typed(d, B, m * n), *u = typed(d, B, m * k), *s = typed(d, B, k), *vt = typed(d, B, k * n);
  ok(lapack_svd(d, m, n, a, u, s, vt) == OK, "%s svd of (%d, %d)", dtype_name(d), m, n);
  read_back(d, u, m * k, A);
  for (int i = 0; i < m * k; i++) A[i] *= value(d, s, i % k);
  read_back(d, vt, k * n, C);
  ok(product_error(m, k, n, A, false, C, false, B) < tolerance * (m + n), "U diag(s) V^T = A");
  free(a);
  a = typed(d, B, m * n);
  double first = value(d, s, 0);
  ok(lapack_svd(d, m, n, a, NULL, s, NULL) == OK, "singular values alone");
  near_(value(d, s, 0), first, tolerance, "the same largest one");
  free(a), free(u), free(s), free(vt);
}

static void test_solve(DType d, int n, int k) {
  fill(B, n * n, "solve");
  for (int i = 0; i < n; i++) B[i * n + (i + 1) % n] += 3; /* far from diagonal dominance: pivots move */
  fill(C, n * k, "rhs");
  void *a = typed(d, B, n * n), *x = typed(d, C, n * k);
  ok(lapack_solve(d, n, k, a, x) == OK, "%s solve (%d, %d) for %d columns", dtype_name(d), n, n, k);
  read_back(d, x, n * k, A);
  ok(product_error(n, n, k, B, false, A, false, C) < tolerance * n * 20, "A x = b");
  free(a), free(x);
  a = typed(d, B, n * n);
  ok(lapack_inverse(d, n, a) == OK, "inv");
  read_back(d, a, n * n, A);
  for (int i = 0; i < n * n; i++) C[i] = i % (n + 1) == 0;
  ok(product_error(n, n, n, B, false, A, false, C) < tolerance * n * 20, "A A^-1 = I");
  free(a);
}

static void test_triangular(DType d, int n, int k) {
  for (int c = 0; c < 4; c++) {
    bool upper = c & 1, transpose = c & 2;
    fill(B, n * n, "triangle");
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++) B[i * n + j] = i == j ? 2 + fabs(B[i * n + j]) : (upper ? j > i : j < i) ? B[i * n + j] / n : 0;
    fill(C, n * k, "rhs");
    void *t = typed(d, B, n * n), *x = typed(d, C, n * k);
    ok(lapack_triangular_solve(d, n, k, t, x, upper, transpose) == OK, "%s triangular solve, upper %d transpose %d", dtype_name(d), upper, transpose);
    read_back(d, x, n * k, A);
    ok(product_error(n, n, k, B, transpose, A, false, C) < tolerance * n * 4, "op(T) x = b");
    ok(lapack_triangular_inverse(d, n, t, upper) == OK, "triangular inverse");
    read_back(d, t, n * n, A);
    for (int i = 0; i < n * n; i++) C[i] = i % (n + 1) == 0;
    ok(product_error(n, n, n, A, false, B, false, C) < tolerance * n * 4, "T^-1 T = I");
    free(t), free(x);
  }
}

static void test_failures(DType d) {
  double singular[4] = {1, 2, 2, 4}, indefinite[4] = {1, 2, 2, 1}, bad[4] = {1, NAN, NAN, 1}, rhs[2] = {1, 1};
  void *a = typed(d, singular, 4), *b = typed(d, rhs, 2), *w = typed(d, rhs, 2);
  ok(lapack_solve(d, 2, 1, a, b) == ERR_NUMERIC && strstr(error_message(), "singular"), "singular: %s", error_message());
  free(a), a = typed(d, singular, 4);
  ok(lapack_inverse(d, 2, a) == ERR_NUMERIC, "singular inverse: %s", error_message());
  free(a), a = typed(d, indefinite, 4);
  ok(lapack_cholesky(d, 2, a, false) == ERR_NUMERIC && strstr(error_message(), "positive definite"), "%s", error_message());
  free(a), a = typed(d, bad, 4);
  ok(lapack_eigh(d, 2, a, w, true) == ERR_NUMERIC && strstr(error_message(), "NaN"), "%s", error_message());
  ok(lapack_svd(d, 2, 2, a, NULL, w, NULL) == ERR_NUMERIC, "%s", error_message());
  ok(lapack_qr(d, 2, 2, a, a, NULL) == ERR_NUMERIC, "%s", error_message());
  double zero_diagonal[4] = {1, 0, 1, 0};
  free(a), a = typed(d, zero_diagonal, 4);
  ok(lapack_triangular_solve(d, 2, 1, a, b, false, false) == ERR_NUMERIC, "%s", error_message());
  ok(lapack_triangular_inverse(d, 2, a, false) == ERR_NUMERIC, "%s", error_message());
  ok(lapack_eigh(d, 0, a, w, true) == ERR_SHAPE, "%s", error_message());
  ok(lapack_eigh(I32, 2, a, w, true) == ERR_DTYPE, "%s", error_message());
  for (size_t n = 1; n < 3; n++) {
    free(a), a = typed(d, indefinite, 4);
    mem_fail_at(n);
    ok(lapack_svd(d, 2, 2, a, NULL, w, NULL) == ERR_MEMORY, "allocation %zu fails cleanly", n);
    mem_fail_at(0);
  }
  free(a), free(b), free(w);
}

int main(void) {
  for (int t = 0; t < 2; t++) {
    DType d = t ? F64 : F32;
    tolerance = t ? 1e-12 : 1e-4;
    const int sizes[] = {1, 2, 5, 33, 64};
    for (int i = 0; i < 5; i++) test_eigh(d, sizes[i]), test_cholesky(d, sizes[i]);
    const int shapes[][2] = {{1, 1}, {7, 3}, {3, 7}, {40, 40}, {64, 20}, {20, 64}};
    for (int i = 0; i < 6; i++) test_qr(d, shapes[i][0], shapes[i][1]), test_svd(d, shapes[i][0], shapes[i][1]);
    test_orthonormal_rows(d, 1, 1), test_orthonormal_rows(d, 3, 7), test_orthonormal_rows(d, 33, 33);
    test_solve(d, 1, 1), test_solve(d, 6, 3), test_solve(d, 40, 7), test_solve(d, 7, 40);
    test_triangular(d, 1, 2), test_triangular(d, 5, 3), test_triangular(d, 33, 8);
    test_failures(d);
  }
  return done();
}

/* lapack.h - factorisations of dense row-major matrices, through LAPACK.
 *
 * The functions below take raw buffers (not tensors; for those see linalg.h), an
 * element type (F32 or F64) and row-major sizes, get their own scratch memory and
 * check what comes back. Bad sizes give ERR_SHAPE, an entry that is not finite or a
 * factorisation that breaks down gives ERR_NUMERIC with name and sizes; the content
 * of the buffers is then unspecified.
 *
 * LAPACK counts by columns, so it sees the transpose of what we hand over. Each
 * routine is chosen so that nothing has to be turned round: A = QR comes from the LQ
 * factorisation of A^T, lower triangles are its upper ones, U and V change places.
 *
 * Sizes are int64_t here and must fit LAPACK's 32-bit integers. Results repeat bit
 * for bit at a fixed number of threads (docs/conventions.md).
 *
 * At the end of the file: the Fortran symbols themselves, for other rooms. */
#ifndef quench_lapack_h
#define quench_lapack_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "tensor/tensor.h"

/* Symmetric a (n, n), lower triangle read: w (n) gets the eigenvalues in ascending order,
 * a gets the eigenvectors as ROWS: a_in = a^T diag(w) a. w alone if vectors is false. */
Status lapack_eigh(DType d, int64_t n, void *a, void *w, bool vectors);

/* Symmetric positive definite a (n, n), lower triangle read: a becomes the factor L with a = L L^T
 * (upper: U with a = U^T U). The other triangle is set to zero. */
Status lapack_cholesky(DType d, int64_t n, void *a, bool upper);

/* The same with what lies above the diagonal left undefined; *bad is 0, or the number (from 1) of the first pivot that is
 * not above zero. Not LAPACK's but ours (kernel/cpu/cholesky.c): faster, with the same bits for any number of threads. */
Status lapack_cholesky_factor(DType d, int64_t n, void *a, int64_t *bad);

/* a (n, n) symmetric positive definite becomes its inverse (both triangles filled). */
Status lapack_cholesky_inverse(DType d, int64_t n, void *a);

/* a (n, n) triangular becomes its inverse; the other triangle is not touched. */
Status lapack_triangular_inverse(DType d, int64_t n, void *a, bool upper);

/* b (n, k) becomes the solution x of op(t) x = b, t (n, n) triangular, op = transpose or not. */
Status lapack_triangular_solve(DType d, int64_t n, int64_t k, const void *t, void *b, bool upper, bool transpose);

/* a (m, n), k = min(m, n): q (m, k) with orthonormal columns and r (k, n) upper triangular, a_in = q r, with the
 * signs LAPACK gives. r may be NULL. a is destroyed; q may be a itself when m >= n. */
Status lapack_qr(DType d, int64_t m, int64_t n, void *a, void *q, void *r);

/* a (m, n), m <= n: its rows become orthonormal, the first i spanning what the first i of a_in did (QR of a^T). */
Status lapack_orthonormal_rows(DType d, int64_t m, int64_t n, void *a);

/* a (m, n), k = min(m, n): u (m, k), s (k) descending, vt (k, n) with a_in = u diag(s) vt. a is destroyed.
 * u = vt = NULL: only s. */
Status lapack_svd(DType d, int64_t m, int64_t n, void *a, void *u, void *s, void *vt);

/* b (n, k) becomes the solution x of a x = b, by LU with partial pivoting. a (n, n) becomes its factors. */
Status lapack_solve(DType d, int64_t n, int64_t k, void *a, void *b);

/* a (n, n) becomes its inverse. */
Status lapack_inverse(DType d, int64_t n, void *a);

/* Clears what lies above (or below) the diagonal of a (n, n). */
Status lapack_clear_triangle(DType d, int64_t n, void *a, bool above);

/* ERR_NUMERIC naming op and the matrix when a (m, n) holds NaN or infinity. */
Status lapack_check_finite(DType d, const char *op, int64_t m, int64_t n, const void *a);

/* --- the Fortran symbols: column-major, everything by address, lengths of the character arguments last ---
 * Arrays of reals are void * so that LAPACK(d, potri) can pick a type at run time. */
#define LAPACK_PROTOTYPES(p)                                                                                                       \
  void p##syevd_(const char *jobz, const char *uplo, const int *n, void *a, const int *lda, void *w, void *work, const int *lwork, \
                 int *iwork, const int *liwork, int *info, size_t, size_t);                                                        \
  void p##potri_(const char *uplo, const int *n, void *a, const int *lda, int *info, size_t);                                      \
  void p##trtri_(const char *uplo, const char *diag, const int *n, void *a, const int *lda, int *info, size_t, size_t);            \
  void p##trtrs_(const char *uplo, const char *trans, const char *diag, const int *n, const int *k, const void *t, const int *ldt, \
                 void *b, const int *ldb, int *info, size_t, size_t, size_t);                                                      \
  void p##trsm_(const char *side, const char *uplo, const char *trans, const char *diag, const int *m, const int *n,               \
                const void *alpha, const void *t, const int *ldt, void *b, const int *ldb, size_t, size_t, size_t, size_t);        \
  void p##gelqf_(const int *m, const int *n, void *a, const int *lda, void *tau, void *work, const int *lwork, int *info);         \
  void p##orglq_(const int *m, const int *n, const int *k, void *a, const int *lda, const void *tau, void *work, const int *lwork, \
                 int *info);                                                                                                       \
  void p##geqrf_(const int *m, const int *n, void *a, const int *lda, void *tau, void *work, const int *lwork, int *info);         \
  void p##orgqr_(const int *m, const int *n, const int *k, void *a, const int *lda, const void *tau, void *work, const int *lwork, \
                 int *info);                                                                                                       \
  void p##gesdd_(const char *jobz, const int *m, const int *n, void *a, const int *lda, void *s, void *u, const int *ldu,          \
                 void *vt, const int *ldvt, void *work, const int *lwork, int *iwork, int *info, size_t);                          \
  void p##getrf_(const int *m, const int *n, void *a, const int *lda, int *pivots, int *info);                                     \
  void p##getrs_(const char *trans, const int *n, const int *k, const void *a, const int *lda, const int *pivots, void *b,         \
                 const int *ldb, int *info, size_t);                                                                               \
  void p##getri_(const int *n, void *a, const int *lda, const int *pivots, void *work, const int *lwork, int *info);               \
  void p##laset_(const char *uplo, const int *m, const int *n, const void *off, const void *diagonal, void *a, const int *lda,     \
                 size_t);                                                                                                          \
  void p##lacpy_(const char *uplo, const int *m, const int *n, const void *a, const int *lda, void *b, const int *ldb, size_t);    \
  void p##copy_(const int *n, const void *x, const int *step_x, void *y, const int *step_y);                                        \
  void p##swap_(const int *n, void *x, const int *step_x, void *y, const int *step_y);

LAPACK_PROTOTYPES(s)
LAPACK_PROTOTYPES(d)
float slange_(const char *norm, const int *m, const int *n, const void *a, const int *lda, void *work, size_t);
double dlange_(const char *norm, const int *m, const int *n, const void *a, const int *lda, void *work, size_t);
#undef LAPACK_PROTOTYPES

#define LAPACK(dtype, name) ((dtype) == F64 ? d##name##_ : s##name##_)

#endif

/* linalg.h - dense linear algebra on tensors of two axes, f32 and f64.
 *
 * Inputs are copied, results are fresh contiguous tensors that the caller owns (one
 * reference each). No gradient flows through them. Failures (not square, not finite,
 * singular, no convergence) name the function and the shapes. */
#ifndef quench_linalg_h
#define quench_linalg_h

#include "base/status.h"
#include "tensor/tensor.h"

/* a (n, n) symmetric, lower triangle read: w (n) ascending, rows (n, n) the eigenvectors as rows. rows may be NULL. */
Status linalg_eigh(const Tensor *a, Tensor **w, Tensor **rows);
/* a = l l^T, or u^T u if upper. */
Status linalg_cholesky(const Tensor *a, bool upper, Tensor **out);
/* a^-1 of a symmetric positive definite a, through Cholesky. */
Status linalg_cholesky_inverse(const Tensor *a, Tensor **out);
/* a (m, n), k = min(m, n): q (m, k), r (k, n). */
Status linalg_qr(const Tensor *a, Tensor **q, Tensor **r);
/* u (m, k), s (k) descending, vt (k, n). u and vt may be NULL together: values alone. */
Status linalg_svd(const Tensor *a, Tensor **u, Tensor **s, Tensor **vt);
/* x of a x = b; b (n) or (n, k). */
Status linalg_solve(const Tensor *a, const Tensor *b, Tensor **x);
Status linalg_triangular_solve(const Tensor *t, const Tensor *b, bool upper, bool transpose, Tensor **x);
Status linalg_inverse(const Tensor *a, Tensor **out);
Status linalg_identity(Tensor *a); /* ones on the diagonal of a (m, n), zeros elsewhere */
/* Largest singular value. */
Status linalg_spectral_norm(const Tensor *a, double *out);

/* (a + eps I)^(-1/root) of a symmetric positive semi-definite a. An eigenvalue below zero (rounding) shifts all of
 * them up by its size before eps is added, as published Shampoo does. eps > 0. */
Status linalg_inverse_root(const Tensor *a, double root, double eps, Tensor **out);

/* `count` vectors q and x, all dense, of one length and type: c_k = q_k . x, and x += sum c_k q_k in place, in one pass over q each,
 * summed in double. */
Status linalg_inner_products(int count, Tensor *const *q, const Tensor *x, double *c);
Status linalg_combine(int count, Tensor *const *q, const double *c, Tensor *x);

/* x (m, n) becomes x / (|x|_F + 1e-7), then `steps` times a x + (b A + c A A) x with A = x x^T, in place: the quintic
 * Newton-Schulz iteration that drives all singular values towards 1. abc NULL: Muon's (3.4445, -4.7750, 2.0315), which trades
 * accuracy (0.7 to 1.2) for speed. Works on the shorter side. (Jordan et al. 2024; Bernstein and Newhouse 2024.) */
Status linalg_newton_schulz(Tensor *x, int steps, const double *abc);

#endif

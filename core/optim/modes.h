/* modes.h - a tensor seen along one of its axes ("modes"), for the optimizers with one
 * matrix an axis (Shampoo, SOAP, PSGD). X_k is x as the matrix (n_k, all others).
 *
 * Results belong to the current pool; NULL on failure, as with operations. */
#ifndef quench_modes_h
#define quench_modes_h

#include "autograd/op.h"

Tensor *mode_unfold(Tensor *x, int k);                           /* X_k, dense */
Tensor *mode_fold(Tensor *matrix, const Tensor *like, int k);    /* back to the shape of like (a view, maybe strided) */
Tensor *mode_product(Tensor *x, int k, Tensor *q, bool transpose); /* Y_k = q X_k, or q^T X_k */
Status mode_gram(Tensor *x, int k, double alpha, double beta, Tensor *g); /* g = alpha X_k X_k^T + beta g; x dense */
Tensor *mode_squares(Tensor *x, int k);                          /* (n_k): the diagonal of X_k X_k^T */
Tensor *mode_scale(Tensor *x, int k, Tensor *d);                 /* Y_k = diag(d) X_k */

Status mode_store(Tensor *to, const Tensor *from);               /* tensor_copy; a NULL from passes its failure on */

/* Host arithmetic on the results. */
double tensor_norm(const Tensor *x);                             /* Frobenius, dense x */

#endif

/* psgd.h - what psgd.c (the optimizer) and psgd_fit.c (how Q is fitted) share. */
#ifndef quench_psgd_h
#define quench_psgd_h

#include "optim/optim.h"

enum { PSGD_TRIANGULAR, PSGD_Q05 };      /* geometry */
enum { PSGD_COUNTER, PSGD_DRAWS, PSGD_KEPT }; /* numbers: steps since the last update; place in the stream of noise; updates left out */

typedef struct Psgd {
  double lr, momentum, weight_decay, precond_lr, init_scale, max_size, min_ndim, geometry, balance, max_rms, seed;
} Psgd;

/* Q of axis k: (n, n), or (n) where it is diagonal. */
static inline Tensor *psgd_q(const Parameter *p, int k) { return p->slot[1 + k].tensor; }

/* Q x along every axis, or Q^T x. */
Tensor *psgd_apply(const Parameter *p, Tensor *x, bool transpose);

/* One update of all Q from the bias-corrected momentum m. */
Status psgd_fit(Parameter *p, Tensor *m);

#endif

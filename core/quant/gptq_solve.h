/* gptq_solve.h - the state of one run of GPTQ, shared by gptq.c and gptq_drift.c. */
#ifndef quench_gptq_solve_h
#define quench_gptq_solve_h

#include "kernel/kernel.h"
#include "quant/quant.h"

/* A group of columns that lie together in permuted order. */
typedef struct Run {
  int64_t start, length;
  int32_t slot;
} Run;

typedef struct Solve {
  const GptqOptions *o;
  const QuantKernels *q;
  const Kernels *k;
  DType d;
  int64_t rows, n, slots;
  int64_t widest;       /* columns that a block looks at, at most: its own and those of groups that start in it */
  double unit;
  int32_t *order, *slot;/* (n) */
  bool *dead;           /* (n), by the weight's columns */
  Run *run;             /* groups whose scales are taken on the way; none if all are known before */
  int64_t runs, next_run;
  double *diagonal, mean, damping;
  double *factor;       /* (n, n): the lower factor of reversed H; R reversed */
  double *panel;        /* (n, widest) */
  double *inverse;      /* (widest, widest) */
  double *drift;        /* (n, n): GPTAQ's P, or NULL */
  Tensor *work;         /* (rows, n): weights to come, w - q of those done */
  Tensor *done;         /* (rows, n): q */
  Tensor *current;      /* (rows, widest) */
  Tensor *coefficient;  /* (n, widest) */
  Tensor *corner;       /* (block, block): U of the block */
  Tensor *shift;        /* (rows, widest): GPTAQ: what the finished columns add */
  Tensor *drift_panel;  /* (n, widest): P[:b, b:b+m] */
  Tensor *drift_corner; /* (block, block): P[b:, b:] of the block */
  Tensor *scale, *zero; /* (rows, slots) */
  Tensor *extra;        /* as in Quantized */
  double *loss;         /* (rows) */
} Solve;

/* --- gptq_drift.c --- */
Status drift_prepare(Solve *s, const Tensor *drift); /* once the factor is there: P, and memory */
void drift_block(Solve *s, int64_t b, int64_t width, int64_t m); /* adds the drift's share to current and work */

#endif

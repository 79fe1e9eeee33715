/* quant.h - post-training quantization of one weight matrix. One file a method.
 *
 *   Format f;
 *   TRY(format_named("nf4", &f));
 *   Quantized q;
 *   TRY(rtn(&f, w, NULL, false, &q));
 *   ... q.value is w as the quantized model sees it ...
 *   quantized_release(&q);
 *
 * Weights are (out, in); groups run along the last axis. Work is done in the weight's
 * own type (F32 or F64); factorisations are in double. */
#ifndef quench_quant_h
#define quench_quant_h

#include "quant/format.h"

typedef struct Quantized {
  Tensor *value;       /* the dequantised weight, contiguous, shape of the weight */
  Tensor *scale, *zero;/* (rows, groups); one by one for a format with one scale for the tensor */
  Tensor *codes;       /* i32, shape of the weight; NULL unless asked for */
  Tensor *extra;       /* f32: what scales stored in a second level need: the unit, or block maxima and mean; else NULL */
  Tensor *group_index; /* i32 (in): the group of each column, where groups are not runs of columns; else NULL */
  double mse;          /* mean squared error of the weights */
  double bits;         /* stored bits a weight, scales included */
} Quantized;

void quantized_release(Quantized *q);

/* --- rtn.c: round to nearest, or stochastically where a stream is given (it is advanced) --- */
Status rtn(const Format *f, const Tensor *w, Random *random, bool codes, Quantized *out);

/* --- hessian.c: second moments of a layer's inputs --- */
/* h (n, n) += x^T x, x (..., n) any real type. h starts as zeros. */
Status hessian_add(Tensor *h, const Tensor *x);
/* h <- (2 / tokens) h: what gptq takes. */
Status hessian_finish(Tensor *h, int64_t tokens);
Status hessian_diagonal(const Tensor *h, Tensor **out); /* f64 (n) */
/* d (n, n) += (full - x)^T x: how far the inputs have drifted, for GPTAQ; scaled with hessian_scale. */
Status drift_add(Tensor *d, const Tensor *full, const Tensor *x);

/* --- gptq.c --- */
typedef enum GptqOrder {
  GPTQ_PLAIN,      /* columns as they come */
  GPTQ_ACTIVATION, /* by falling second moment (act_order) */
  GPTQ_GROUPED     /* by falling second moment inside each group, and the groups by their largest (act_group_aware) */
} GptqOrder;

typedef struct GptqOptions {
  Format format;
  GptqOrder order;
  bool static_groups;    /* scales of all groups from the weights as they were */
  double damp;           /* of the mean diagonal, added to the diagonal */
  double damp_increment; /* added to damp while the factorisation fails; 0: fail at once */
  int block;             /* columns a block, at most GPTQ_BLOCK */
  double drift;          /* GPTAQ's alpha; used if a drift matrix is given */
} GptqOptions;

typedef struct GptqReport {
  double loss;     /* sum of e^2 / 2 over all entries: GPTQ's own estimate of the output error */
  double damp;     /* the damping that worked */
  int64_t dead;    /* columns whose input is always zero; their weights become 0 */
  double pivot;    /* smallest pivot of the factorisation over the mean diagonal; the damping if inputs depend on each other */
} GptqReport;

/* h (in, in): (2 / tokens) x^T x. drift: NULL, or (2 / tokens) sum (x_full - x) x^T. */
Status gptq(const Tensor *w, const Tensor *h, const Tensor *drift, const GptqOptions *o, Quantized *out, GptqReport *report);

/* --- pack.c: the bits that are stored --- */
typedef struct Packed {
  Tensor *codes;       /* i32 words, codes one after the other, row by row */
  Tensor *scale;       /* f32, or i32 words */
  Tensor *zero;        /* i32 words; f32 for real zero points; NULL for formats without */
  Tensor *extra, *group_index; /* as in Quantized */
} Packed;

void packed_release(Packed *p);
/* q: value, scale, zero, extra, group_index of any method (f32). */
Status pack(const Format *f, const Quantized *q, Packed *out);
Status unpack(const Format *f, int ndim, const int64_t *shape, const Packed *p, Tensor **out);

/* --- fake.c: for quantization-aware training --- */
/* Round to nearest, and mask (shape of x): 1 where the gradient goes through. trust = 0: between the lowest and the highest level
 * of the group; else where |value - x| <= trust times the group's root mean square. */
Status fake_quant(const Format *f, const Tensor *x, double trust, Quantized *out, Tensor **mask);
/* The same with given scales (positive), one a group, for formats without a zero point. */
Status fake_quant_with(const Format *f, const Tensor *x, const Tensor *scale, Tensor **value, Tensor **mask);

/* --- hqq.c: integers with real zero points, fitted without data --- */
typedef struct HqqOptions {
  int bits, iterations;
  int64_t group;
  double p, beta;
} HqqOptions;

Status hqq(const Tensor *w, const HqqOptions *o, Quantized *out, int *iterations);

#endif

/* cpu.h - prototypes of the CPU's kernels, for the element type of real.h.
 *
 * One line a slot of the Kernels table (kernel.h says what each does); table.c
 * fills the table of each type from them. */
#ifndef quench_kernel_cpu_h
#define quench_kernel_cpu_h

#include "kernel/cpu/real.h"
#include "kernel/kernel.h"

extern const Kernels K(kernels), K(measured_kernels);

/* loops.c */
void K(fill)(const Loop *l, double value);
void K(copy)(const Loop *l);
void K(unary)(Unary op, const Loop *l, double p);
void K(binary)(Binary op, const Loop *l);
void K(select)(const Loop *l);
void K(multiply_add)(const Loop *l, double a, double b);
void K(uniform)(void *x, int64_t n, const Random *r, double low, double high);
void K(normal)(void *x, int64_t n, const Random *r, double mean, double deviation);
void K(arange)(void *x, int64_t n, double start, double step);

/* reduce.c */
void K(reduce)(Reduce op, int64_t outer, int64_t n, int64_t inner, const void *x, void *y);
void K(cumsum)(int64_t outer, int64_t n, int64_t inner, const void *x, void *y, bool reverse);
double K(dot)(int64_t n, const void *x, const void *y);
bool K(all_finite)(int64_t n, const void *x);
void K(logsumexp)(int64_t rows, int64_t n, const void *x, void *y);
void K(softmax)(int64_t rows, int64_t n, const void *x, void *y);
void K(softmax_backward)(int64_t rows, int64_t n, const void *y, const void *dy, void *dx);

/* product.c */
void K(gemm)(const Gemm *g);

/* order.c */
void K(select_rows)(int64_t rows, int64_t n, int64_t k, void *x, void *y);

/* index.c */
void K(gather_rows)(int64_t n, int64_t width, const void *table, const int32_t *ids, void *y);
void K(scatter_add_rows)(int64_t n, int64_t rows, int64_t width, const void *dy, const int32_t *ids, void *dtable);
void K(pick)(int64_t rows, int64_t n, const void *x, const int32_t *ids, void *y);
void K(unpick)(int64_t rows, int64_t n, const void *dy, const int32_t *ids, void *dx);

/* norm.c */
void K(layer_norm)(int64_t rows, int64_t n, double eps, const void *x, const void *w, const void *b, const void *add, void *y,
                   void *mean, void *rstd);
void K(layer_norm_backward)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *dy,
                            bool sums, void *dx, void *dw, void *db);
void K(rms_norm)(int64_t rows, int64_t n, double eps, const void *x, const void *w, const void *add, void *y, void *rstd);
void K(rms_norm_backward)(int64_t rows, int64_t n, const void *x, const void *w, const void *rstd, const void *dy, bool sums, void *dx,
                          void *dw);
void K(norm_tangent)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *tx,
                     const void *tw, const void *tb, const void *tadd, void *ty);
void K(norm_backward_tangent)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *dy,
                              const void *tx, const void *tw, const void *tdy, void *tdx, void *tdw, void *tdb);

/* loss.c */
double K(cross_entropy)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, void *lse, int64_t *counted);
void K(cross_entropy_backward)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse, double scale, void *dlogits);
void K(cross_entropy_backward_tangent)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse,
                                       const void *dl, double scale, double dscale, void *out);
void K(cross_entropy_pair)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse, double scale, double dscale,
                           void *dlogits, void *dl);

/* rotary.c */
void K(rotary)(int64_t batch, int64_t time, int64_t heads, int64_t width, int64_t rotated, bool interleaved, double sign,
               const void *cosines, const void *sines, const int64_t x_stride[3], const void *x, const int64_t y_stride[3], void *y);
void K(turn)(const Turn *t, int64_t rows, int64_t n, void *x);

/* attention.c */
void K(attention)(const Attention *a, Heads q, Heads k, Heads v, Heads o, void *lse);
void K(attention_backward)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o, Heads dq, Heads dk, Heads dv);
void K(attention_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads tq, Heads tk, Heads tv, Heads to,
                          void *tlse);
void K(attention_backward_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o, Heads tq, Heads tk,
                                   Heads tv, Heads to, const void *tlse, Heads t_do, Heads tdq, Heads tdk, Heads tdv);

/* activation.c */
void K(activation_backward)(Unary f, int64_t n, const void *x, const void *g, void *out);
void K(activation_backward_tangent)(Unary f, int64_t n, const void *x, const void *g, const void *tx, const void *tg, void *out);
void K(activation_pair)(Unary f, int64_t n, const void *x, const void *g, const void *tx, const void *tg, void *y, void *t);

/* dropout.c */
void K(dropout)(int64_t n, const void *x, const Random *r, double p, void *y);

/* conv.c */
void K(conv1d)(int64_t batch, int64_t time, int64_t channels, int64_t taps, const void *x, const void *w, void *y);
void K(conv1d_backward)(int64_t batch, int64_t time, int64_t channels, int64_t taps, const void *x, const void *w, const void *dy,
                        void *dx, void *dw);

/* scan.c */
void K(scan)(int64_t outer, int64_t n, int64_t inner, const void *a, const void *b, void *y, bool backward);

/* cholesky.c */
int64_t K(cholesky)(int64_t n, void *a, int64_t lda, void *scratch);

/* gram.c */
void K(gram)(bool transpose, int64_t n, int64_t k, double alpha, const void *a, double beta, void *c);

/* span.c */
void K(inner_products)(int64_t count, int64_t n, const void *const *q, const void *x, double *c);
void K(combine)(int64_t count, int64_t n, const void *const *q, const double *c, void *x);

/* optim.c */
void K(update)(UpdateRule rule, int64_t count, const Update *u);
void K(gradient_squares)(int64_t count, const Update *u, double *partial);

#endif

/* kernel.h - the primitive kernels, one table a device and element type.
 *
 * core/kernel/ is the only code that touches tensor data. Everything above
 * passes addresses and sizes and calls through the table, so a second device is
 * one more folder that fills the same table. Kernels get checked arguments, do
 * not allocate tensors, do not fail, and never call back. Scratch memory comes in
 * from the caller or from the stack.
 *
 * cpu/ is the reference. Its files are compiled once for float and once for
 * double (the type `real`, see cpu/real.h), and the two objects fill two tables.
 *
 * Determinism: a reduction is cut into blocks of fixed size, independent of the
 * thread count, and the partial sums are added in block order; so every kernel
 * here gives the same bits for any number of threads, matrix products included
 * (cpu/gemm.c). Factorisations go through OpenBLAS, which gives that only for a fixed
 * thread count (docs/conventions.md). */
#ifndef quench_kernel_h
#define quench_kernel_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/random.h"
#include "tensor/tensor.h"

enum { MAX_OPERANDS = 4 };

/* A strided loop over up to four operands that share a (broadcast, collapsed) shape.
 * Operand 0 is the output. Strides in elements. Made by loop_make. */
typedef struct Loop {
  int ndim, operands;
  int64_t shape[MAX_DIMS];
  int64_t stride[MAX_OPERANDS][MAX_DIMS];
  void *data[MAX_OPERANDS];
} Loop;

/* Elementwise functions of one argument; p is a parameter some of them use. */
typedef enum Unary {
  U_NEG, U_ABS, U_SIGN, U_SQUARE, U_SQRT, U_RSQRT, U_RECIPROCAL, U_EXP, U_EXPM1, U_LOG, U_LOG1P, U_SIN, U_COS, U_TANH,
  U_SIGMOID, U_SOFTPLUS, U_ERF, U_RELU, U_RELU2, U_SILU, U_GELU, U_GELU_TANH, U_FLOOR, U_CEIL, U_ROUND,
  U_GELU_GRAD, U_GELU_GRAD2, U_GELU_TANH_GRAD, U_SILU_GRAD,
  U_POW /* x^p */, U_ADD /* x + p */, U_MUL /* x p */, U_CLAMP_MIN, U_CLAMP_MAX, U_STEP /* x > 0 */, U_NOT, U_ISNAN, U_ISFINITE,
  UNARY_COUNT
} Unary;

typedef enum Binary {
  B_ADD, B_SUB, B_MUL, B_DIV, B_POW, B_MAX, B_MIN, B_EQ, B_NE, B_LT, B_LE, B_GT, B_GE, B_ATAN2, BINARY_COUNT
} Binary;

typedef enum Reduce { R_SUM, R_MAX, R_MIN, R_PROD, R_SUMSQ, R_ARGMAX, R_ARGMIN /* index as a number */, REDUCE_COUNT } Reduce;

/* Rotary positions on rows of heads, `width` values each: of every `group` heads the first `turned` turn by the angles of
 * position row mod time, as the kernel rotary does. */
typedef struct Turn {
  int64_t time, width, rotated, group, turned;
  bool interleaved;
  double sign;
  const void *cosines, *sines; /* (time, rotated/2) */
} Turn;
enum { TURN_MAX = 192 }; /* numbers of a group of heads that a product can turn: they must lie in one chunk of its columns */

/* A batch of products C = alpha op(A) op(B) + beta C, row-major; beta 0 overwrites C.
 * A bias (n values, added to each row) and a further addend (m x n, rows ld_add apart), where not NULL, join C in the
 * same pass; then activated (m x n, rows ldc apart), where not NULL, gets the activation of C, or the heads of C's rows turn.
 * All of these need batch = 1. Strides of the batch in elements; 0 repeats an operand. */
typedef struct Gemm {
  bool transpose_a, transpose_b;
  int64_t m, n, k, lda, ldb, ldc;
  double alpha, beta;
  const void *a, *b;
  void *c;
  int64_t batch, batch_a, batch_b, batch_c;
  const void *bias, *add;
  int64_t ld_add;
  Unary activation; /* U_GELU, U_GELU_TANH or U_SILU */
  void *activated;
  const Turn *turn; /* width x group at most TURN_MAX */
  bool lower;       /* m = n and batch = 1: only the lower triangle of C is wanted, at little more than half the work; what is above is undefined */
} Gemm;

/* Shape of a causal attention: batch x time x heads, each head `width` values. kv_heads
 * divides heads (grouped queries). window: 0, or how many keys a query sees. */
typedef struct Attention {
  int64_t batch, time, heads, kv_heads, width, window;
  double scale;
  bool bf16; /* f32 only: operands of its products are rounded to bf16 (cpu/bf16.c) */
} Attention;

/* A (batch, time, heads, width) operand of it: the strides of the first three axes in
 * elements; the last axis is dense. So parts of a packed projection need no copies. */
typedef struct Heads {
  void *data;
  int64_t stride[3];
} Heads;

/* One tensor of an optimizer's step and the coefficients of an elementwise rule; which of
 * them a rule uses is said in cpu/optim.c. All arrays are dense and hold n elements. */
typedef enum UpdateRule {
  UPDATE_SGD, UPDATE_SGD_PLAIN, UPDATE_ADAMW, UPDATE_LION, UPDATE_SOPHIA, UPDATE_SCHEDULE_FREE, UPDATE_ADEMAMIX,
  UPDATE_MOMENTUM, UPDATE_MOMENT2, UPDATE_NORMALISE, UPDATE_APPLY, UPDATE_APPLY_SIGN, UPDATE_RULES
} UpdateRule;

typedef struct Coefficients {
  double clip;                /* factor on the gradient */
  double lr, shrink, decay;   /* size of the step, factor on the weight, weight added to the gradient */
  double beta1, beta2, beta3; /* decay of moving averages */
  double scale1, scale2, eps; /* bias corrections, denominator */
  double alpha, mix;
} Coefficients;

typedef struct Update {
  int64_t n;
  void *w, *s[3];
  const void *g;
  Coefficients c;
} Update;

enum { UPDATE_BLOCK = 4096 }; /* elements a block, and a partial sum, whatever the thread count */

typedef struct Kernels {
  const char *name; /* "cpu f32" */
  size_t element;   /* bytes */

  /* --- loops.c: elementwise --- */
  void (*fill)(const Loop *l, double value);
  void (*copy)(const Loop *l);                       /* operand 0 <- operand 1, same type */
  void (*unary)(Unary op, const Loop *l, double p);
  void (*binary)(Binary op, const Loop *l);
  void (*select)(const Loop *l);                     /* 0 <- 1 != 0 ? 2 : 3 */
  void (*multiply_add)(const Loop *l, double a, double b); /* 0 <- a * 1 + b * 2 */
  void (*uniform)(void *x, int64_t n, const Random *r, double low, double high);
  void (*normal)(void *x, int64_t n, const Random *r, double mean, double deviation);
  void (*arange)(void *x, int64_t n, double start, double step);

  /* --- reduce.c: x is (outer, n, inner) dense, y is (outer, inner) --- */
  void (*reduce)(Reduce op, int64_t outer, int64_t n, int64_t inner, const void *x, void *y);
  void (*cumsum)(int64_t outer, int64_t n, int64_t inner, const void *x, void *y, bool reverse);
  double (*dot)(int64_t n, const void *x, const void *y);  /* dense, summed in double */
  bool (*all_finite)(int64_t n, const void *x);
  void (*logsumexp)(int64_t rows, int64_t n, const void *x, void *y);
  void (*softmax)(int64_t rows, int64_t n, const void *x, void *y);
  void (*softmax_backward)(int64_t rows, int64_t n, const void *y, const void *dy, void *dx); /* dx = y (dy - sum y dy) */

  /* --- order.c: y (rows) is the k-th smallest (from 0) of each row of x (rows, n), which is scrambled; NaN if there is one --- */
  void (*select_rows)(int64_t rows, int64_t n, int64_t k, void *x, void *y);

  /* --- product.c --- */
  void (*gemm)(const Gemm *g);
  /* c (n, n) = alpha a a^T + beta c, a (n, k) dense, or a^T a with a (k, n) if transpose; both triangles filled */
  void (*gram)(bool transpose, int64_t n, int64_t k, double alpha, const void *a, double beta, void *c);

  /* --- cholesky.c: the lower triangle of a (n, n; rows lda apart) becomes l with a = l l^T; scratch: cholesky_scratch(n) numbers.
   * Returns 0, or the number (from 1) of the first pivot that is not above zero. --- */
  int64_t (*cholesky)(int64_t n, void *a, int64_t lda, void *scratch);

  /* --- span.c: `count` dense vectors q of n elements, and x: c_k = q_k . x, and x += sum c_k q_k; summed in double --- */
  void (*inner_products)(int64_t count, int64_t n, const void *const *q, const void *x, double *c);
  void (*combine)(int64_t count, int64_t n, const void *const *q, const double *c, void *x);

  /* --- index.c: rows of width values; ids are i32, checked by the caller --- */
  void (*gather_rows)(int64_t n, int64_t width, const void *table, const int32_t *ids, void *y);
  void (*scatter_add_rows)(int64_t n, int64_t rows, int64_t width, const void *dy, const int32_t *ids, void *dtable); /* adds */
  void (*pick)(int64_t rows, int64_t n, const void *x, const int32_t *ids, void *y);          /* y[i] = x[i, ids[i]] */
  void (*unpick)(int64_t rows, int64_t n, const void *dy, const int32_t *ids, void *dx);      /* adds into dx */

  /* --- norm.c: x is (rows, n) dense; weight, bias and add (rows, n), which joins y in the same pass, may be NULL --- */
  void (*layer_norm)(int64_t rows, int64_t n, double eps, const void *x, const void *w, const void *b, const void *add, void *y,
                     void *mean, void *rstd);
  void (*layer_norm_backward)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *dy,
                              bool sums, void *dx, void *dw, void *db); /* any of the three may be NULL; all are overwritten, but where `sums`, dx is added to */
  void (*rms_norm)(int64_t rows, int64_t n, double eps, const void *x, const void *w, const void *add, void *y, void *rstd);
  void (*rms_norm_backward)(int64_t rows, int64_t n, const void *x, const void *w, const void *rstd, const void *dy, bool sums,
                            void *dx, void *dw);
  /* tangents of both norms (mean NULL: RMS) and of their backward passes; a NULL tangent is zero, a NULL result is not made */
  void (*norm_tangent)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd,
                       const void *tx, const void *tw, const void *tb, const void *tadd, void *ty);
  void (*norm_backward_tangent)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *dy,
                                const void *tx, const void *tw, const void *tdy, void *tdx, void *tdw, void *tdb);

  /* --- loss.c: mean over the rows whose target >= 0 --- */
  double (*cross_entropy)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, void *lse, int64_t *counted);
  void (*cross_entropy_backward)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse, double scale, void *dlogits);
  /* tangent of the above along dl: p * (dl - sum p dl) * scale + dscale (p - onehot); dl NULL: zero */
  void (*cross_entropy_backward_tangent)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse, const void *dl,
                                         double scale, double dscale, void *out);

  /* both at once: dlogits, which may be logits, of cross_entropy_backward, and dl becomes the tangent of that */
  void (*cross_entropy_pair)(int64_t rows, int64_t n, const void *logits, const int32_t *targets, const void *lse, double scale, double dscale,
                             void *dlogits, void *dl);

  /* --- rotary.c: x is (batch, time, heads, width) with strides; the first `rotated` values of each head turn --- */
  void (*rotary)(int64_t batch, int64_t time, int64_t heads, int64_t width, int64_t rotated, bool interleaved, double sign,
                 const void *cosines, const void *sines, /* (time, rotated/2) */
                 const int64_t x_stride[3], const void *x, const int64_t y_stride[3], void *y);
  void (*turn)(const Turn *t, int64_t rows, int64_t n, void *x); /* rows of n numbers, in place */

  /* --- attention.c: softmax(scale q k^T, causal) v, never storing time x time for the batch; lse (batch, heads, time) --- */
  void (*attention)(const Attention *a, Heads q, Heads k, Heads v, Heads o, void *lse);
  void (*attention_backward)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o,
                             Heads dq, Heads dk, Heads dv); /* overwritten */
  /* tangents of the two. The first gives those of o and lse; the second takes them in with the others. */
  void (*attention_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse,
                            Heads tq, Heads tk, Heads tv, Heads to, void *tlse);
  void (*attention_backward_tangent)(const Attention *a, Heads q, Heads k, Heads v, Heads o, const void *lse, Heads d_o,
                                     Heads tq, Heads tk, Heads tv, Heads to, const void *tlse, Heads t_do,
                                     Heads tdq, Heads tdk, Heads tdv);

  /* --- activation.c: f'(x) g, and its tangent f'(x) tg + f''(x) g tx, for f = U_GELU, U_GELU_TANH, U_SILU; tx or tg may be NULL --- */
  void (*activation_backward)(Unary f, int64_t n, const void *x, const void *g, void *out);
  void (*activation_backward_tangent)(Unary f, int64_t n, const void *x, const void *g, const void *tx, const void *tg, void *out);
  /* both at once: y may be g, and t, NULL where tx and tg are, may be tg */
  void (*activation_pair)(Unary f, int64_t n, const void *x, const void *g, const void *tx, const void *tg, void *y, void *t);

  /* --- dropout.c: zero with probability p, else x / (1 - p); takes (n + 3) / 4 blocks of the stream from its counter on --- */
  void (*dropout)(int64_t n, const void *x, const Random *r, double p, void *y);

  /* --- conv.c: depthwise causal convolution, x (batch, time, channels), w (channels, taps) --- */
  void (*conv1d)(int64_t batch, int64_t time, int64_t channels, int64_t taps, const void *x, const void *w, void *y);
  void (*conv1d_backward)(int64_t batch, int64_t time, int64_t channels, int64_t taps, const void *x, const void *w, const void *dy, void *dx, void *dw);

  /* --- scan.c: y_t = a_t y_{t-1} + b_t along n, or y_t = a_{t+1} y_{t+1} + b_t; all (outer, n, inner) dense --- */
  void (*scan)(int64_t outer, int64_t n, int64_t inner, const void *a, const void *b, void *y, bool backward);

  /* --- optim.c: the elementwise rules of the optimizers, many tensors in one parallel region --- */
  void (*update)(UpdateRule rule, int64_t count, const Update *u);
  void (*gradient_squares)(int64_t count, const Update *u, double *partial); /* one sum of g^2 a block, in order of tensors and blocks */
} Kernels;

/* Columns of the blocks that the kernel cholesky factors by plain loops, and its scratch memory, in numbers. */
enum { CHOLESKY_LEAF = 64 };
int64_t cholesky_scratch(int64_t n);

/* The table for a device and a real element type (F32 or F64); NULL if there is none. */
const Kernels *kernels_of(int device, DType d);
static inline const Kernels *kernels_for(const Tensor *t) { return kernels_of(t->storage->device, t->dtype); }

/* Conversions between any two element types, strided; not in the table since they join two types. */
void kernel_cast(DType to, DType from, const Loop *l); /* operand 0 <- operand 1 */
void kernel_fill_cast(DType to, const Loop *l, double value);
double kernel_read(DType d, const void *element); /* one element, as a double */
int64_t kernel_count_nonfinite(const Tensor *t);    /* NaN and infinite elements; 0 for integers */

/* Builds the loop for an output and 0 to 3 inputs, which must already have out's shape or broadcast to it. */
void loop_make(Loop *l, int operands, Tensor *const *tensors);

/* True if every id is in [low, high); else *bad is the first that is not. */
bool kernel_ids_in_range(int64_t n, const int32_t *ids, int64_t low, int64_t high, int32_t *bad);

/* How the f32 products of the table (slot gemm) read their operands: as they are, or rounded to bf16 with sums in f32,
 * which is what mixed-precision training means. One setting for the process; products inside attention stay f32. */
typedef enum Precision { PRECISION_F32, PRECISION_BF16 } Precision;
Precision precision_get(void);
Precision precision_set(Precision p); /* returns the old one */

/* Whether f32 products run on bf16 tiles here (cpu/amx.c). They need not: tiles that a machine shares, or throttles, can
 * be slower than multiply-adds, and the bits are then those of processors without. */
bool kernel_has_tiles(void);
void kernel_use_tiles(bool on); /* before the first product; bf16 products take them anyway, to the same bits */

/* Threads of the one OpenMP pool, shared with OpenBLAS. */
int threads_get(void);
void threads_set(int n);

#endif

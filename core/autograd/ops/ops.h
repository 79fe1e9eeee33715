/* ops.h - what the files of ops/ share: making results and recording them. */
#ifndef quench_ops_h
#define quench_ops_h

#include "autograd/op.h"
#include "kernel/kernel.h"

/* A fresh result in the current pool, or NULL. */
Tensor *op_new(DType d, int ndim, const int64_t *shape);
Tensor *op_new_zeros(DType d, int ndim, const int64_t *shape);
Tensor *op_new_like(const Tensor *t);
/* A view of t in the current pool (strides NULL: dense). */
Tensor *op_new_view(const Tensor *t, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset);
/* t itself when dense, else a dense copy without history, in the pool: what kernels of rows need. */
Tensor *op_dense(Tensor *t);

/* The tensor whose pieces along an axis these are, in this order, where they lie dense in one storage; else NULL without an error. */
Tensor *op_whole_of(int count, Tensor *const *pieces, int axis);

/* Records y = op(in...) and returns y, or NULL. attributes may be NULL. */
Tensor *op_done(const OpInfo *op, int inputs, Tensor *const *in, Tensor *y, const Attributes *attributes);

/* Checks for ops that take real numbers; false records the error. */
bool op_check_real(const char *op, const Tensor *t, const char *argument);
bool op_check_ids(const char *op, const Tensor *ids, int64_t low, int64_t high, const char *what);

/* f'(x) g for f = U_GELU, U_GELU_TANH, U_SILU (activation.c); takes the kernel table's names, so it is not in op.h. */
Tensor *op_activation_backward(Unary f, Tensor *x, Tensor *g);

/* --- linear, for the ops that join it (matmul.c) --- */

/* What joins a product in the same pass: y itself, a bias along the last axis, another tensor of y's shape, an activation that
 * goes to a tensor of its own, heads that turn. All but the first only where y has two axes. */
typedef struct Joined {
  bool self;
  Tensor *bias, *residual;
  Unary activation;
  Tensor *activated; /* dense, y's shape */
  const Turn *turn;
} Joined;

Tensor *op_linear_result(Tensor *x, Tensor *w, Tensor *b); /* checks the operands; uninitialised */
Status op_linear_into(Tensor *y, Tensor *x, Tensor *w, Joined join); /* y = x w^T + joined, x of any number of axes */
/* The rules of linear, for nodes whose first four inputs are its own: x, w, b, residual. */
Status op_linear_vjp(Node *n, Tensor *const *g, Tensor **gin);
Status op_linear_jvp(Node *n, Tensor *const *t, Tensor **out);

/* Rules for pairs (op.h). */
Status op_linear_pair(Node *n, const Pair *p, bool *applies);
Status op_linear_activated_pair(Node *n, const Pair *p, bool *applies);
Status op_linear_turned_pair(Node *n, const Pair *p, bool *applies);
Status op_mul_pair(Node *n, const Pair *p, bool *applies);
Status op_norm_pair(Node *n, const Pair *p, bool *applies);
Status op_attention_pair(Node *n, const Pair *p, bool *applies);
Status op_cross_entropy_pair(Node *n, const Pair *p, bool *applies);
Status op_linear_activated_again(Node *n, Tensor *const *tin, Tensor *const *tout, Tensor **out);

/* Rows of ops that other files need. */
extern const OpInfo add_op, mul_op, linear_op, matmul_op;

#endif

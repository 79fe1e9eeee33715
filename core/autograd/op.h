/* op.h - operations on tensors, and the graph they record.
 *
 * Every operation is a C function that returns a tensor, or NULL with the error
 * recorded; a NULL argument gives NULL back, so calls can be nested and only the
 * last result looked at. Results belong to the current pool (pool_open below).
 *
 *   Tensor *y = op_add(op_matmul(x, w), b);
 *   if (!y) return error_code();
 *
 * When recording is on and an input needs gradients, the call leaves a Node:
 * the row of the op table, the inputs, the attributes. Two rules per op make all
 * derivatives of all orders:
 *   vjp: gradients of the outputs -> gradients of the inputs (reverse mode)
 *   jvp: tangents of the inputs   -> tangents of the outputs (forward mode)
 * Both are written with operations, so they are recorded in turn where asked
 * ("create_graph"), and a Hessian-vector product is a tangent sweep (jvp) over the
 * recorded gradient: the primal values are computed once for any number of
 * vectors, and each product costs two gradients.
 *
 * A fused op may leave a rule out and give `compose` instead: the same function
 * written with simpler ops. It serves as the missing rule and as the test oracle. */
#ifndef quench_op_h
#define quench_op_h

#include "tensor/tensor.h"

enum { MAX_INPUTS = 64, MAX_OUTPUTS = 8, MAX_INTS = 24, MAX_REALS = 8 };

typedef struct Node Node;
typedef struct OpInfo OpInfo;

/* Attributes of a node: what is not a tensor. Meaning by op. */
typedef struct Attributes {
  int64_t ints[MAX_INTS];
  double reals[MAX_REALS];
  Random random;
  void *extra;                 /* owned by the node */
  void (*free_extra)(void *);
} Attributes;

struct OpInfo {
  const char *name;
  int inputs;   /* -1: any number */
  int outputs;
  const char *doc;
  Status (*vjp)(Node *n, Tensor *const *gout, Tensor **gin);  /* fills gin[i] where node_needs(n, i); gout[i] NULL: zero */
  Status (*jvp)(Node *n, Tensor *const *tin, Tensor **tout);  /* tin[i] NULL: zero; tout[i] may be left NULL for zero */
  Status (*compose)(Node *n, Tensor *const *in, Tensor **out); /* the same function from simpler ops */
  bool linear; /* y is linear in each input alone: lets tests be exact */
};

struct Node {
  int references;
  const OpInfo *op;
  uint64_t id;                 /* creation order = a topological order */
  int inputs, outputs;
  Tensor **in;                 /* retained */
  Tensor *out[MAX_OUTPUTS];    /* aliases of the outputs' data, without history (no cycle) */
  uint32_t *version;           /* of each input's storage when recorded */
  bool freed;                  /* a backward pass has passed it */
  Attributes attributes;
  Node *next;                  /* in the list of nodes waiting to be released */
};

/* --- pools: who owns results --- */
typedef struct Pool { size_t mark, base; } Pool;
Pool pool_open(void);
void pool_close(Pool p);              /* releases everything made since pool_open and not retained */
Tensor *pool_keep(Tensor *t);         /* hands a reference to the current pool; returns t; NULL stays NULL */
void pool_drain(void);                /* releases what the current level owns (bindings call it after pushing) */

/* --- recording --- */
bool grad_enabled(void);
bool grad_enable(bool on);            /* returns the old state */
bool tensor_needs_grad(const Tensor *t);

/* For writers of ops (autograd/ops/): makes the node for outputs just computed, if
 * recording is on and an input needs it. outs[i] are fresh tensors owned by the
 * pool. Takes attributes by value. Returns OK also when nothing had to be recorded. */
Status graph_record(const OpInfo *op, int inputs, Tensor *const *in, int outputs, Tensor *const *outs, const Attributes *attributes);
bool node_needs(const Node *n, int input);
void node_release(Node *n);
/* In a rule: the backward pass frees the graph behind it, this node alone sees the value of its input, and no rule to
 * come reads it: the gradient may take its place. */
bool node_may_overwrite(const Node *n, int input);
bool gradient_is_ours(const Tensor *gout); /* in a vjp rule: nobody but this pass holds the gradient, so it may be overwritten */
/* In a vjp rule: the gradients of an input that came before, dense, where only this pass holds them and nothing is recorded;
 * else NULL. A rule that adds its own to them, in place, says so and hands them back. */
Tensor *gradient_so_far(const Node *n, int input);
void gradient_is_sum(int input);
/* The i-th output as a tensor with history (for rules that use y). */
Tensor *node_output(Node *n, int i);

/* --- derivatives (autograd/graph.c, tangent.c) --- */
/* d(sum of gout . outputs)/d(inputs). gout NULL: ones (outputs must be scalars). create_graph: the
 * result can be differentiated again. Inputs that the outputs do not depend on get zeros.
 * results[i] are owned by the pool. */
Status graph_grad(int outputs, Tensor *const *out, Tensor *const *gout, int inputs, Tensor *const *in, bool create_graph, Tensor **results);
/* The same into .grad of every leaf (added); frees the graph as it goes unless retain. A rule may then write over what
 * nobody else can see (node_may_overwrite). */
Status graph_backward(Tensor *loss, Tensor *gout, bool retain);
/* Tangents of the gradient of a loss along tangents of its inputs: the product of its Hessian and tin, in one pass forward and one
 * back (autograd/dual.c). The gradient is not recorded. Unless retain, the loss is used up, and values go as the pass back leaves them but for
 * nodes that something else holds. The same bits as graph_jvp over graph_grad with create_graph. Results are dense. With a cache, which
 * must be the loss's own, the graph stays, and the cache takes what it shares with the products to come. */
typedef struct HvpCache HvpCache;
Status graph_hvp(Tensor *loss, int inputs, Tensor *const *in, Tensor *const *tin, bool retain, HvpCache *cache, Tensor **results);
/* For several products with one loss: the gradients of those results whose making takes most arithmetic a byte, up to a share of the bytes that
 * the forward pass holds (autograd/cache.c). */
Status hvp_cache_new(Tensor *loss, double share, HvpCache **out);
int64_t hvp_cache_bytes(const HvpCache *c); /* what it holds once a product has filled it */
void hvp_cache_free(HvpCache *c);
uint64_t graph_mark(void); /* nodes made from now on have this id or a larger one */
/* Tangents of outputs along tangents of inputs, through the recorded graph. results[i] may be NULL (zero) unless dense. */
Status graph_jvp(int outputs, Tensor *const *out, int inputs, Tensor *const *in, Tensor *const *tin, bool dense, Tensor **results);

/* Helpers for the rules of fused ops (autograd/compose.c): the rule taken from op->compose. */
Status node_vjp_by_compose(Node *n, Tensor *const *gout, Tensor **gin);
Status node_jvp_by_compose(Node *n, Tensor *const *tin, Tensor **tout);

/* A node's gradients and their tangents at once, for the few ops where that saves memory or products over the tangent of a recorded
 * vjp; with the same bits. Only tangents are wanted of inputs that are leaves or have a known gradient. *applies = false: nothing was done. */
typedef struct Pair {
  Tensor *const *gout, *const *tgout; /* of the outputs; a NULL tangent is zero */
  Tensor *const *tin, *const *tout;   /* tangents of inputs and outputs; tout NULL: not known, of the loss itself */
  const bool *wanted;                 /* whether gin[i] is; tgin[i] is where node_needs(n, i) */
  const bool *spent;                  /* whether no rule to come reads tin[i] */
  Tensor **gin, **tgin;               /* results */
} Pair;
typedef Status (*PairRule)(Node *n, const Pair *p, bool *applies);
PairRule pair_rule(const OpInfo *op); /* NULL: none */
bool pair_moves(const OpInfo *op);    /* its rule reads no values: where no gradient of an input is wanted, that of its results is not */
bool node_reads_alone(const Node *n, int input); /* in such a rule: nobody else reads the value of its input, nor its tangent */
bool tangent_may_overwrite(const Tensor *t);     /* nobody but this pass holds the tangent */

bool pair_reads(const Node *n, int input); /* whether leaving the node takes the tangent of an input (true where not known), */
bool pair_reads_own(const Node *n);        /* or of its first result */

/* Makes the tangent of a node's first result again, from those of its inputs and of its other results, by pointwise work. */
typedef Status (*AgainRule)(Node *n, Tensor *const *tin, Tensor *const *tout, Tensor **out);
AgainRule again_rule(const Node *n); /* NULL: that takes a product */

/* --- the table --- */
extern const OpInfo *const op_table[]; /* ends with NULL */
const OpInfo *op_find(const char *name);

/* --- ops: elementwise (ops/elementwise.c) --- */
Tensor *op_unary_named(const char *name, Tensor *x); /* "exp", "gelu", ... as in the table */
Tensor *op_add(Tensor *a, Tensor *b);
Tensor *op_sub(Tensor *a, Tensor *b);
Tensor *op_mul(Tensor *a, Tensor *b);
Tensor *op_div(Tensor *a, Tensor *b);
Tensor *op_pow(Tensor *a, Tensor *b);
Tensor *op_maximum(Tensor *a, Tensor *b);
Tensor *op_minimum(Tensor *a, Tensor *b);
Tensor *op_compare(const char *relation, Tensor *a, Tensor *b); /* "eq" ... : 0 or 1, no gradient */
Tensor *op_where(Tensor *condition, Tensor *a, Tensor *b);
Tensor *op_add_scalar(Tensor *x, double c);
Tensor *op_mul_scalar(Tensor *x, double c);
Tensor *op_pow_scalar(Tensor *x, double p);
Tensor *op_clamp(Tensor *x, double low, double high);
Tensor *op_neg(Tensor *x);
Tensor *op_exp(Tensor *x);
Tensor *op_log(Tensor *x);
Tensor *op_sqrt(Tensor *x);
Tensor *op_rsqrt(Tensor *x);
Tensor *op_reciprocal(Tensor *x);
Tensor *op_square(Tensor *x);
Tensor *op_tanh(Tensor *x);
Tensor *op_sigmoid(Tensor *x);

/* --- ops: shape (ops/shape.c): views where strides allow, copies otherwise --- */
Tensor *op_reshape(Tensor *x, int ndim, const int64_t *shape); /* one entry may be -1 */
Tensor *op_permute(Tensor *x, const int *axes);
Tensor *op_transpose(Tensor *x, int axis_a, int axis_b);
Tensor *op_narrow(Tensor *x, int axis, int64_t start, int64_t length);
Tensor *op_expand(Tensor *x, int ndim, const int64_t *shape);
Tensor *op_sum_to(Tensor *x, int ndim, const int64_t *shape);  /* the adjoint of expand */
Tensor *op_contiguous(Tensor *x);
Tensor *op_concat(int n, Tensor *const *x, int axis);
Status op_split(Tensor *x, int axis, int n, const int64_t *sizes, Tensor **out); /* views */
Tensor *op_pad(Tensor *x, int axis, int64_t before, int64_t after); /* zeros; the adjoint of narrow */
Tensor *op_cast(Tensor *x, DType d);
Tensor *op_detach(Tensor *x);
Tensor *op_identity(Tensor *x);                                /* the same data, a node of its own */

/* --- ops: reductions (ops/reduce.c); axis = ALL_AXES for everything --- */
enum { ALL_AXES = -1000 };
Tensor *op_sum(Tensor *x, int axis, bool keep);
Tensor *op_mean(Tensor *x, int axis, bool keep);
Tensor *op_max(Tensor *x, int axis, bool keep);
Tensor *op_min(Tensor *x, int axis, bool keep);
Tensor *op_argmax(Tensor *x, int axis, bool keep); /* i32, 0-based, no gradient */
Tensor *op_kth(Tensor *x, int64_t k);               /* k-th smallest (from 0) of each row of the last axis, no gradient */
Tensor *op_logsumexp(Tensor *x, int axis, bool keep);
Tensor *op_cumsum(Tensor *x, int axis);
Tensor *op_softmax(Tensor *x, int axis);
Tensor *op_softmax_backward(Tensor *y, Tensor *dy);                 /* last axis: y (dy - sum y dy) */
Tensor *op_log_softmax(Tensor *x, int axis);

/* --- ops: products (ops/matmul.c) --- */
Tensor *op_matmul(Tensor *a, Tensor *b);             /* batched, broadcasting; 1-d operands as in NumPy */
Tensor *op_linear(Tensor *x, Tensor *w, Tensor *b);  /* x (..., in), w (out, in), b (out) or NULL: x w^T + b */
Tensor *op_linear_add(Tensor *x, Tensor *w, Tensor *b, Tensor *r); /* + r (..., out), in the same pass; b, r may be NULL */
Tensor *op_linear_activated(Tensor *x, Tensor *w, Tensor *b, const char *function); /* gelu, gelu_tanh or silu of it, in the same pass */
/* Rotary positions on (..., time, N), N numbers being heads of `width`: the first `rotated` numbers turn of each of the first
 * `turned` heads of every `group`. So one packed projection [q k v] head by head turns at once: group 3, turned 2. */
typedef struct Heading { int64_t width, rotated, group, turned; bool interleaved; } Heading;
Tensor *op_turn_heads(Tensor *x, Tensor *cosines, Tensor *sines, Heading h);
Tensor *op_linear_turned(Tensor *x, Tensor *w, Tensor *b, Tensor *cosines, Tensor *sines, Heading h); /* of x w^T + b, in its output pass */

/* --- ops: indexing (ops/index.c) --- */
Tensor *op_embedding(Tensor *table, Tensor *ids);    /* (V, D), ids (...) i32 -> (..., D) */
Tensor *op_embedding_backward(Tensor *dy, Tensor *ids, int64_t rows);
Tensor *op_pick(Tensor *x, Tensor *ids);             /* x (..., n), ids (...) -> (...): one value a row */
Tensor *op_unpick(Tensor *dy, Tensor *ids, int64_t n); /* its adjoint: zeros but for the picked places */

/* --- ops: quantization (ops/surrogate.c, hadamard.c) --- */
Tensor *op_surrogate(Tensor *value, int count, Tensor *const *x, Tensor *const *partial); /* value, with dy = sum partial_i dx_i */
Tensor *op_hadamard(Tensor *x, int64_t block, bool transpose); /* blocks of the last axis; block 0: all of it */

/* --- ops: networks (ops/norm.c, loss.c, rotary.c, attention.c, dropout.c, conv.c) --- */
Tensor *op_layer_norm(Tensor *x, Tensor *w, Tensor *b, double eps); /* w, b may be NULL */
Tensor *op_rms_norm(Tensor *x, Tensor *w, double eps);
Tensor *op_layer_norm_add(Tensor *x, Tensor *w, Tensor *b, double eps, Tensor *r); /* + r (x's shape) in the same pass; r may be NULL */
Tensor *op_rms_norm_add(Tensor *x, Tensor *w, double eps, Tensor *r);
Tensor *op_cross_entropy(Tensor *logits, Tensor *targets);          /* (..., V), (...) i32, < 0 ignored -> mean nats */
Tensor *op_rotary(Tensor *x, Tensor *cosines, Tensor *sines, int64_t rotated, bool interleaved); /* x (B, T, H, W) */
Tensor *op_attention(Tensor *q, Tensor *k, Tensor *v, double scale, int64_t window); /* (B, T, H, W); causal */
Tensor *op_dropout(Tensor *x, double p, Random *stream);
Tensor *op_scan(Tensor *a, Tensor *b, int axis);                     /* y_t = a_t y_{t-1} + b_t (ops/scan.c) */
Tensor *op_conv1d(Tensor *x, Tensor *w, Tensor *b);                 /* causal, depthwise */

#endif

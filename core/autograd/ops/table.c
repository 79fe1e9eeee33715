/* table.c - the op table: one line an op; below it the rules for pairs of gradient and tangent. It drives the checks of gradients, tangents
 * and shapes, the reference pages and the timings; a new op is one file and one line. */
#include <math.h>

#include "autograd/graph.h"
#include "autograd/ops/ops.h"

extern const OpInfo *const unary_ops[];
extern const OpInfo add_op, sub_op, mul_op, div_op, pow_op, maximum_op, minimum_op, where_op;
extern const OpInfo reshape_op, permute_op, narrow_op, pad_op, expand_op, sum_to_op, identity_op, contiguous_op, cast_op, concat_op, split_op;
extern const OpInfo sum_op, max_op, min_op, softmax_op, softmax_backward_op, logsumexp_op, cumsum_op;
extern const OpInfo matmul_op, linear_op, linear_activated_op, linear_turned_op, turn_heads_op;
extern const OpInfo embedding_op, embedding_backward_op, pick_op, unpick_op;
extern const OpInfo layer_norm_op, rms_norm_op, norm_backward_op, cross_entropy_op, cross_entropy_backward_op, rotary_op;
extern const OpInfo activation_backward_op, attention_op, attention_backward_op, dropout_op, conv1d_op, conv1d_input_op, conv1d_weight_op, scan_op;
extern const OpInfo surrogate_op, hadamard_op;

const OpInfo *const op_table[] = {
  &add_op, &sub_op, &mul_op, &div_op, &pow_op, &maximum_op, &minimum_op, &where_op,
  &reshape_op, &permute_op, &narrow_op, &pad_op, &expand_op, &sum_to_op, &identity_op, &contiguous_op, &cast_op, &concat_op, &split_op,
  &sum_op, &max_op, &min_op, &softmax_op, &softmax_backward_op, &logsumexp_op, &cumsum_op,
  &matmul_op, &linear_op, &linear_activated_op, &linear_turned_op, &turn_heads_op,
  &embedding_op, &embedding_backward_op, &pick_op, &unpick_op,
  &layer_norm_op, &rms_norm_op, &norm_backward_op, &cross_entropy_op, &cross_entropy_backward_op, &rotary_op,
  &activation_backward_op, &attention_op, &attention_backward_op, &dropout_op, &conv1d_op, &conv1d_input_op, &conv1d_weight_op, &scan_op,
  &surrogate_op, &hadamard_op,
  NULL,
};

/* The gradient of what only moves and adds numbers is its vjp, whatever they are, and so is the tangent of that. */
static Status pair_by_vjp(Node *n, const Pair *p, bool *applies) {
  Tensor *const *both[] = {p->gout, p->tgout};
  Tensor **to[] = {p->gin, p->tgin};
  *applies = true;
  for (int pass = 0; pass < 2; pass++) {
    bool any = false;
    for (int k = 0; k < n->outputs; k++) any |= both[pass][k] != NULL;
    if (any) TRY(n->op->vjp(n, both[pass], to[pass]));
  }
  return OK;
}

bool pair_moves(const OpInfo *op) { return pair_rule(op) == pair_by_vjp; }

PairRule pair_rule(const OpInfo *op) {
  static const OpInfo *const movers[] = {&reshape_op, &split_op, &permute_op, &contiguous_op, &identity_op, &add_op, &narrow_op, &pad_op,
                                         &expand_op, &sum_to_op, &concat_op, &turn_heads_op, &rotary_op, &embedding_op};
  for (size_t i = 0; i < sizeof movers / sizeof *movers; i++)
    if (op == movers[i]) return pair_by_vjp;
  if (op == &attention_op) return op_attention_pair;
  if (op == &mul_op) return op_mul_pair;
  if (op == &layer_norm_op || op == &rms_norm_op) return op_norm_pair;
  if (op == &linear_op) return op_linear_pair;
  if (op == &linear_activated_op) return op_linear_activated_pair;
  if (op == &linear_turned_op) return op_linear_turned_pair;
  return op == &cross_entropy_op ? op_cross_entropy_pair : NULL;
}

static bool is_linear(const OpInfo *op) { return op == &linear_op || op == &linear_activated_op || op == &linear_turned_op; }

enum { RESIDUAL = 3 }; /* which input that is of linear layers and of norms */

/* A residual is only added. */
bool pair_reads(const Node *n, int input) { return !pair_moves(n->op) && !(is_linear(n->op) && input == RESIDUAL); }

bool pair_reads_own(const Node *n) { return !pair_moves(n->op) && !is_linear(n->op) && !again_rule(n); }

static Status again_by_jvp(Node *n, Tensor *const *tin, Tensor *const *tout, Tensor **out) {
  Tensor *all[MAX_OUTPUTS] = {0};
  (void)tout;
  TRY(n->op->jvp(n, tin, all));
  *out = all[0];
  return OK;
}

AgainRule again_rule(const Node *n) {
  if (n->op == &linear_activated_op) return op_linear_activated_again;
  const bool norm = (n->op == &layer_norm_op || n->op == &rms_norm_op) && !n->in[RESIDUAL]; /* without a residual: a sum of blocks would need all below */
  return norm || n->op == &mul_op ? again_by_jvp : NULL;
}

/* Attention's kernels run at half the rate of products. */
static double attention_dearness(const Node *n) {
  const Tensor *q = n->in[0], *k = n->in[1];
  const double time = (double)q->shape[1], window = (double)n->attributes.ints[0], keys = window && window < time / 2 ? window : time / 2;
  return 2 * 5 * keys * (double)tensor_numel(q) / (double)(tensor_numel(q) + 2 * tensor_numel(k));
}

double gradient_dearness(const Node *n, int input) {
  if (n->op == &attention_op) return attention_dearness(n);
  return is_linear(n->op) && input == 0 ? (double)n->in[1]->shape[0] : 0;
}

/* dual.c - a Hessian-vector product from nothing, in one pass forward and one back.
 *
 * graph_jvp over a recorded gradient serves many directions, but what the recording holds is as large again as the
 * forward pass. Here nothing of the backward pass is recorded: tangents of all results are computed first; then each node is left by a pair,
 * the gradient of its results and that gradient's tangent (Pearlmutter 1994). A node's rule for pairs comes from its vjp: that is run
 * on stand-ins of the node's inputs and recorded, a graph of a few nodes, the tangent of which is taken at once. So the ops are those of
 * the recorded way, in the same order, and so are the bits; what is held is the forward pass, its tangents (but for those of again.c), and one
 * node's worth more. Where more products follow, the graph stays, and the gradients in a cache (cache.c) are not made again. */
#include "autograd/graph.h"
#include "base/interrupt.h"
#include "base/mem.h"

typedef struct Dual {
  Reverse value, tangent; /* two passes over one walk */
  Forward forward;
  Again again;
  HvpCache *cache; /* or NULL */
  int *slot;       /* of it, by node and output */
  bool *blind;     /* nodes that only move numbers on to where their gradient is not wanted: theirs is not either */
  bool retain;
} Dual;

/* Gradients are not wanted at the leaves, nor where they are known, nor below. */
static bool wanted(const Dual *d, const Node *n, int input) {
  const Tensor *t = n->in[input];
  const int at = tensor_needs_grad(t) && t->node ? walk_find(&d->value.walk, t->node) : -1;
  if (at < 0 || d->blind[at]) return false;
  const int slot = d->slot[at * MAX_OUTPUTS + t->output];
  return !slot || !d->cache->of[slot - 1].gradient;
}

static Status find_blind(Dual *d) {
  if (!(d->blind = mem_calloc((size_t)d->value.walk.count + 1, sizeof *d->blind))) return error_code();
  for (int i = 0; i < d->value.walk.count; i++) {
    const Node *n = d->value.walk.nodes[i];
    bool any = !pair_moves(n->op);
    for (int k = 0; k < n->inputs && !any; k++) any = wanted(d, n, k);
    d->blind[i] = !any;
  }
  return OK;
}

/* What a small graph starts from, and the tangents there. */
typedef struct Given {
  int count;
  Tensor *in[MAX_INPUTS + 2 * MAX_OUTPUTS], *t[MAX_INPUTS + 2 * MAX_OUTPUTS];
} Given;

static void give(Given *g, Tensor *in, Tensor *t) {
  if (in && t) g->in[g->count] = in, g->t[g->count++] = t;
}

/* The results' tangents are known, so a stand-in's own rule is not asked for them. */
static Status given_jvp(Node *n, Tensor *const *tin, Tensor **tout) {
  (void)n, (void)tin, (void)tout;
  return OK;
}
static const OpInfo given_op = {"given", -1, -1, "stands for a node whose tangents are known", NULL, given_jvp, NULL, false};

/* Gradients as leaves that are followed where they have a tangent. */
static Status fresh_gradients(const Node *n, Tensor *const *gout, Tensor *const *tgout, Tensor **g, Given *given) {
  for (int k = 0; k < n->outputs; k++) {
    g[k] = NULL;
    if (!gout[k]) continue;
    TRY(tensor_alias(gout[k], &g[k]));
    if (!pool_keep(g[k])) return error_code();
    g[k]->requires_grad = tgout[k] != NULL;
    give(given, g[k], tgout[k]);
  }
  return OK;
}

/* The vjp of stand-in s of node i, recorded, and what its tangent depends on. */
static Status record_vjp(Dual *d, int i, Node *s, Tensor **gin, Given *given) {
  const Node *n = d->value.walk.nodes[i];
  Tensor *g[MAX_OUTPUTS], **known = d->forward.tangent + i * MAX_OUTPUTS;
  for (int k = 0; k < n->inputs; k++) give(given, s->in[k], forward_tangent(&d->forward, n->in[k]));
  TRY(fresh_gradients(n, d->value.gout + i * MAX_OUTPUTS, d->tangent.gout + i * MAX_OUTPUTS, g, given));
  TRY(s->op->vjp ? s->op->vjp(s, g, gin) : node_vjp_by_compose(s, g, gin));
  if (i + 1 == d->value.walk.count) return OK; /* the loss: nobody asked for its tangent; where the rule reads it, its op gives it */
  for (int k = 0; k < n->outputs; k++)
    if (known[k]) give(given, node_output(s, k), known[k]);
  s->op = &given_op;
  return OK;
}

/* Gradients of node i's inputs, without history, and their tangents. */
static Status run_pair(Dual *d, int i, Tensor **gin, Tensor **tgin) {
  const Node *n = d->value.walk.nodes[i];
  Node *s;
  Given given = {0};
  TRY(node_stand_in(n, &s));
  bool was = grad_enable(true);
  Status status = record_vjp(d, i, s, gin, &given);
  grad_enable(was);
  Tensor *out[MAX_INPUTS], *t[MAX_INPUTS];
  int index[MAX_INPUTS], outs = 0;
  for (int k = 0; k < n->inputs && status == OK; k++)
    if (gin[k] && node_needs(n, k)) out[outs] = gin[k], index[outs++] = k;
  if (status == OK) status = graph_jvp(outs, out, given.count, given.in, given.t, false, t);
  node_free_content(s); /* whoever kept something of it is told so */
  node_release(s);
  for (int k = 0; k < outs && status == OK; k++) tgin[index[k]] = t[k];
  return status;
}

static Status deliver_pair(Dual *d, const Node *n, int k, Tensor *g, Tensor *t) {
  Tensor *plain;
  if (g) TRY(node_check_gradient(n, k, g));
  if (g && wanted(d, n, k)) {
    TRY(tensor_alias(g, &plain));
    if (!pool_keep(plain)) return error_code();
    TRY(reverse_deliver(&d->value, n->in[k], plain));
  }
  return t ? reverse_deliver(&d->tangent, n->in[k], t) : OK;
}

/* By the op's own rule for pairs, where it has one that applies. */
static Status run_rule(Dual *d, int i, const bool *spent, Tensor **gin, Tensor **tgin, bool *applies) {
  Node *n = d->value.walk.nodes[i];
  const PairRule rule = pair_rule(n->op);
  Tensor *tin[MAX_INPUTS];
  bool wants[MAX_INPUTS];
  *applies = false;
  if (!rule) return OK;
  for (int k = 0; k < n->inputs; k++) tin[k] = forward_tangent(&d->forward, n->in[k]), wants[k] = wanted(d, n, k);
  const int at = i * MAX_OUTPUTS;
  const bool loss = i + 1 == d->value.walk.count;
  const Pair p = {d->value.gout + at, d->tangent.gout + at, tin, loss ? NULL : d->forward.tangent + at, wants, spent, gin, tgin};
  graph_consume(!d->retain);
  Status s = rule(n, &p, applies);
  graph_consume(false);
  return s;
}

static void store(Dual *d, int i) {
  for (int k = i * MAX_OUTPUTS; k < (i + 1) * MAX_OUTPUTS; k++)
    if (d->slot[k] && d->value.gout[k]) cache_store(d->cache, d->slot[k], d->value.gout[k]);
}

static Status deliver_pairs(Dual *d, const Node *n, Tensor **gin, Tensor **tgin) {
  for (int k = 0; k < n->inputs; k++)
    if ((gin[k] || tgin[k]) && node_needs(n, k)) TRY(deliver_pair(d, n, k, gin[k], tgin[k]));
  return OK;
}

static Status leave_node(Dual *d, int i) {
  Node *n = d->value.walk.nodes[i];
  Tensor *gin[MAX_INPUTS] = {0}, *tgin[MAX_INPUTS] = {0};
  bool applies, spent[MAX_INPUTS];
  TRY(interrupt_check());
  TRY(reverse_collect(&d->tangent, n, d->tangent.gout + i * MAX_OUTPUTS));
  if (!d->value.useful[i] && !n->freed) return OK;
  TRY(node_check(n));
  store(d, i);
  TRY(again_make(&d->again, &d->forward, i));
  again_spend(&d->again, &d->forward, i, spent);
  if (run_rule(d, i, spent, gin, tgin, &applies) != OK || (!applies && run_pair(d, i, gin, tgin) != OK))
    return fail_in("gradient of %s and its tangent", n->op->name);
  again_drop(&d->forward, n, spent);
  return deliver_pairs(d, n, gin, tgin);
}

static void drop(Tensor **list, int i) {
  for (int k = i * MAX_OUTPUTS; k < (i + 1) * MAX_OUTPUTS; k++) tensor_release(list[k]), list[k] = NULL;
}

static Status sweep_back(Dual *d) {
  for (int i = d->value.walk.count - 1; i >= 0; i--) {
    Node *n = d->value.walk.nodes[i];
    bool any = false;
    for (int k = i * MAX_OUTPUTS; k < i * MAX_OUTPUTS + n->outputs; k++) any |= d->value.gout[k] || (d->blind[i] && d->tangent.gout[k]);
    Pool p = pool_open();
    Status s = any ? leave_node(d, i) : OK;
    pool_close(p);
    drop(d->value.gout, i), drop(d->tangent.gout, i), drop(d->forward.tangent, i);
    if (s != OK) return s;
    if (d->retain) continue;
    if (n->references == 1 || i + 1 == d->value.walk.count) node_free_content(n); /* the walk's own reference; the loss */
  }
  return OK;
}

/* All but the loss itself. */
static Status sweep_forward(Dual *d) {
  for (int i = 0; i + 1 < d->value.walk.count; i++) {
    Pool p = pool_open();
    Status s = interrupt_check();
    if (s == OK) s = forward_step(&d->forward, i);
    if (s == OK) again_read(&d->again, &d->forward, i);
    pool_close(p);
    if (s != OK) return s;
  }
  return OK;
}

static Status begin(Dual *d, Tensor *loss) {
  if (!(d->value.result = mem_calloc((size_t)d->value.targets, sizeof(Tensor *)))) return error_code(); /* for a loss that is a leaf itself */
  TRY(reverse_begin(&d->value, 1, &loss, NULL));
  d->tangent.walk = d->forward.walk = d->value.walk;
  size_t n = ((size_t)d->value.walk.count + 1) * MAX_OUTPUTS;
  d->tangent.gout = mem_calloc(n, sizeof(Tensor *));
  d->forward.tangent = mem_calloc(n, sizeof(Tensor *));
  if (!d->tangent.gout || !d->forward.tangent) return error_code();
  TRY(again_begin(&d->again, &d->value.walk));
  TRY(cache_attach(d->cache, &d->value, &d->slot));
  TRY(find_blind(d));
  for (int k = 0; k < d->forward.inputs; k++)
    if (!tensor_same_shape(d->forward.tin[k], d->forward.in[k]))
      return fail(ERR_SHAPE, "hvp: input %d has shape %s, its tangent %s", k + 1, shape_text(d->forward.in[k]), shape_text(d->forward.tin[k]));
  return OK;
}

static void end(Dual *d) {
  for (int i = 0; d->tangent.gout && i < d->value.walk.count; i++) drop(d->tangent.gout, i);
  for (int i = 0; d->forward.tangent && i < d->value.walk.count; i++) drop(d->forward.tangent, i);
  for (int k = 0; d->value.result && k < d->value.targets; k++) tensor_release(d->value.result[k]);
  mem_free(d->value.result);
  mem_free(d->tangent.gout);
  mem_free(d->forward.tangent);
  mem_free(d->slot);
  mem_free(d->blind);
  again_end(&d->again);
  reverse_end(&d->value);
}

Status graph_hvp(Tensor *loss, int inputs, Tensor *const *in, Tensor *const *tin, bool retain, HvpCache *cache, Tensor **results) {
  TRY(graph_check_outputs("hvp", 1, &loss));
  if (cache && cache->loss->node != loss->node) return fail(ERR_ARGUMENT, "hvp: the cache belongs to another loss");
  for (int k = 0; k < inputs; k++) results[k] = NULL;
  if (inputs == 0) return OK;
  Dual d = {.value = {.targets = inputs, .target = in}, .tangent = {.targets = inputs, .target = in, .result = results},
            .forward = {.inputs = inputs, .in = in, .tin = tin}, .retain = retain || cache, .cache = cache};
  bool was = grad_enable(false), outer = graph_consume(false);
  Status s = begin(&d, loss);
  if (s == OK) s = sweep_forward(&d);
  if (s == OK) s = sweep_back(&d);
  end(&d);
  graph_consume(outer);
  grad_enable(was);
  for (int k = 0; k < inputs && s == OK; k++)
    if (!results[k]) s = tensor_zeros(in[k]->dtype, in[k]->ndim, in[k]->shape, &results[k]);
  for (int k = 0; k < inputs; k++) {
    if (s != OK) tensor_release(results[k]), results[k] = NULL;
    else if (!pool_keep(results[k])) s = error_code(), results[k] = NULL;
  }
  return s;
}

/* graph.c - gradients of recorded graphs: walks the nodes from the newest to the oldest and
 * hands each the gradients of its outputs. Only nodes on a path between the asked inputs and
 * outputs are visited. */
#include "autograd/graph.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "kernel/kernel.h"

/* --- helpers --- */

/* *sum += g. In place where nobody else can see *sum; recorded when recording is on. */
static Status accumulate(Tensor **sum, Tensor *g) {
  if (!*sum) {
    *sum = tensor_retain(g);
    return OK;
  }
  Tensor *t = *sum;
  bool ours = t->references == 1 && t->storage->references == 1 && !t->node && !grad_enabled() && t->dtype == g->dtype && tensor_same_shape(t, g) &&
              tensor_contiguous(t);
  if (ours) {
    Loop l;
    loop_make(&l, 3, (Tensor *[]){t, t, g});
    kernels_for(t)->binary(B_ADD, &l);
    tensor_touch(t);
    return OK;
  }
  Tensor *total = tensor_retain(op_add(t, g));
  if (!total) return error_code();
  tensor_release(t);
  *sum = total;
  return OK;
}

static Status ones_like(Tensor *t, Tensor **out) {
  TRY(tensor_like(t, out));
  return pool_keep(*out) ? tensor_fill(*out, 1) : error_code();
}

Status node_check_gradient(const Node *n, int i, const Tensor *g) {
  if (tensor_same_shape(g, n->in[i])) return OK;
  return fail(ERR_SHAPE, "gradient of %s: input %d has shape %s, its gradient %s", n->op->name, i + 1, shape_text(n->in[i]), shape_text(g));
}

bool gradient_is_ours(const Tensor *g) {
  return !grad_enabled() && !g->node && g->references == 1 && g->storage->references == 1 && !g->storage->release && tensor_contiguous(g);
}

static _Thread_local bool consuming; /* the pass that is under way frees the graph */

/* The value is held by the input and by its maker's alias of it, and by nobody else; linear rules never read their results. */
bool node_reads_alone(const Node *n, int input) {
  const Tensor *x = n->in[input];
  const Node *maker = x->node;
  return !grad_enabled() && x->references == 1 && x->storage->references == 2 && !x->storage->release && tensor_contiguous(x) && maker &&
         maker->op->linear && maker->out[x->output] && maker->out[x->output]->storage == x->storage;
}

bool node_may_overwrite(const Node *n, int input) { return consuming && node_reads_alone(n, input); }

bool tangent_may_overwrite(const Tensor *t) {
  return t->references == 1 && t->storage->references == 1 && !t->storage->release && tensor_contiguous(t);
}

bool graph_consume(bool on) {
  bool old = consuming;
  consuming = on;
  return old;
}

/* Which target this tensor is: leaves by identity, results by node and output; -1: none. */
static int target_of(const Reverse *r, const Tensor *t) {
  for (int k = 0; k < r->targets; k++) {
    const Tensor *x = r->target[k];
    if (x == t || (x->node && x->node == t->node && x->output == t->output)) return k;
  }
  return -1;
}

/* Targets can be many (all parameters): leaves are found through the walk's table. */
static int leaf_number(const Reverse *r, const Tensor *t) { return r->targets ? walk_find(&r->walk, t) : -1; }

static void mark_useful(Reverse *r) {
  for (int i = 0; i < r->walk.count; i++) {
    Node *n = r->walk.nodes[i];
    for (int k = 0; k < n->inputs && !r->useful[i]; k++) {
      Tensor *t = n->in[k];
      if (!tensor_needs_grad(t)) continue;
      if (!t->node) r->useful[i] = !r->targets || leaf_number(r, t) >= 0;
      else r->useful[i] = r->useful[walk_find(&r->walk, t->node)] || (r->targets && target_of(r, t) >= 0);
    }
  }
}

/* Where the gradients of a tensor are summed; NULL: nobody asks for them. */
static Tensor **sum_of(Reverse *r, Tensor *t) {
  if (t->node) {
    int at = walk_find(&r->walk, t->node);
    return at < 0 ? NULL : &r->gout[at * MAX_OUTPUTS + t->output];
  }
  int k = leaf_number(r, t);
  return !r->targets ? &t->grad : k < 0 ? NULL : &r->result[k];
}

Status reverse_deliver(Reverse *r, Tensor *t, Tensor *g) {
  Tensor **sum = sum_of(r, t);
  if (!sum) return OK;
  if (!t->node && !(g = op_contiguous(g))) return error_code(); /* who reads a gradient (optimizers) gets it dense */
  return accumulate(sum, g);
}

/* The rule that runs, and what it said of its results. */
typedef struct Rule {
  Reverse *pass;
  Node *node;
  bool is_sum[MAX_INPUTS];
} Rule;
static _Thread_local Rule *rule;

Tensor *gradient_so_far(const Node *n, int input) {
  Tensor *x = n->in[input], **sum = rule && rule->node == n && !grad_enabled() ? sum_of(rule->pass, x) : NULL;
  return sum && *sum && gradient_is_ours(*sum) && (*sum)->dtype == x->dtype && tensor_same_shape(*sum, x) ? *sum : NULL;
}
void gradient_is_sum(int input) { rule->is_sum[input] = true; }

static Status run_vjp(Reverse *r, Node *n, Tensor **gout) {
  Tensor *gin[MAX_INPUTS] = {0};
  TRY(node_check(n));
  Rule call = {.pass = r, .node = n}, *outer = rule;
  rule = &call;
  Status s = n->op->vjp ? n->op->vjp(n, gout, gin) : node_vjp_by_compose(n, gout, gin);
  rule = outer;
  if (s != OK) return fail_in("gradient of %s", n->op->name);
  for (int i = 0; i < n->inputs; i++) {
    if (!gin[i] || !node_needs(n, i)) continue;
    TRY(node_check_gradient(n, i, gin[i]));
    if (!call.is_sum[i]) TRY(reverse_deliver(r, n->in[i], gin[i]));
  }
  return OK;
}

/* Non-leaf targets are complete when their node's turn comes. */
Status reverse_collect(Reverse *r, const Node *n, Tensor *const *gout) {
  for (int k = 0; k < r->targets; k++) {
    const Tensor *t = r->target[k];
    if (t->node == n && gout[t->output]) TRY(accumulate(&r->result[k], gout[t->output]));
  }
  return OK;
}

static Status reverse_sweep(Reverse *r) {
  for (int i = r->walk.count - 1; i >= 0; i--) {
    Node *n = r->walk.nodes[i];
    Tensor **gout = r->gout + i * MAX_OUTPUTS;
    bool any = false;
    for (int k = 0; k < n->outputs; k++) any |= gout[k] != NULL;
    if (!any) continue;
    Pool p = pool_open();
    Status s = interrupt_check();
    if (s == OK) s = reverse_collect(r, n, gout);
    if (s == OK && (r->useful[i] || n->freed)) s = run_vjp(r, n, gout);
    pool_close(p);
    for (int k = 0; k < MAX_OUTPUTS; k++) tensor_release(gout[k]), gout[k] = NULL;
    if (s != OK) return s;
    if (r->free_nodes && r->useful[i]) node_free_content(n);
  }
  return OK;
}

Status reverse_begin(Reverse *r, int outputs, Tensor *const *out, Tensor *const *gout) {
  TRY(walk_make(&r->walk, outputs, out));
  size_t n = (size_t)r->walk.count + 1;
  r->gout = mem_calloc(n * MAX_OUTPUTS, sizeof *r->gout);
  r->useful = mem_calloc(n, sizeof *r->useful);
  if (!r->gout || !r->useful) return error_code();
  for (int k = 0; k < r->targets; k++)
    if (!r->target[k]->node) TRY(walk_put(&r->walk, r->target[k], k));
  mark_useful(r);
  for (int i = 0; i < r->walk.count; i++) r->walk.nodes[i]->references++; /* freeing as we go must not pull the rug */
  r->held = true;
  for (int i = 0; i < outputs; i++) {
    Tensor *g = gout ? gout[i] : NULL;
    if (g && !tensor_same_shape(g, out[i]))
      return fail(ERR_SHAPE, "grad: output %d has shape %s, its gradient %s", i + 1, shape_text(out[i]), shape_text(g));
    if (!g && tensor_numel(out[i]) != 1)
      return fail(ERR_SHAPE, "grad: output %d of shape %s is not a single number; pass its gradient", i + 1, shape_text(out[i]));
    if (!g) TRY(ones_like(out[i], &g));
    TRY(reverse_deliver(r, out[i], g));
  }
  return OK;
}

void reverse_end(Reverse *r) {
  size_t n = (size_t)r->walk.count;
  for (size_t i = 0; r->gout && i < n * MAX_OUTPUTS; i++) tensor_release(r->gout[i]);
  for (size_t i = 0; r->held && i < n; i++) node_release(r->walk.nodes[i]);
  mem_free(r->gout);
  mem_free(r->useful);
  walk_free(&r->walk);
}

Status graph_check_outputs(const char *what, int outputs, Tensor *const *out) {
  for (int i = 0; i < outputs; i++)
    if (!tensor_needs_grad(out[i]))
      return fail(ERR_ARGUMENT, "%s: output %d does not depend on any tensor that requires a gradient (was it made inside no_grad?)", what, i + 1);
  return OK;
}

Status graph_grad(int outputs, Tensor *const *out, Tensor *const *gout, int inputs, Tensor *const *in, bool create_graph, Tensor **results) {
  TRY(graph_check_outputs("grad", outputs, out));
  for (int k = 0; k < inputs; k++) results[k] = NULL;
  Reverse r = {.targets = inputs, .target = in, .result = results};
  if (inputs == 0) return OK;
  bool was = grad_enable(create_graph), outer = consuming;
  consuming = false;
  Status s = reverse_begin(&r, outputs, out, gout);
  if (s == OK) s = reverse_sweep(&r);
  reverse_end(&r);
  consuming = outer;
  for (int k = 0; k < inputs && s == OK; k++) {
    if (!results[k]) s = tensor_zeros(in[k]->dtype, in[k]->ndim, in[k]->shape, &results[k]);
  }
  for (int k = 0; k < inputs; k++) {
    if (s != OK) tensor_release(results[k]), results[k] = NULL;
    else if (!pool_keep(results[k])) s = error_code(), results[k] = NULL;
  }
  grad_enable(was);
  return s;
}

Status graph_backward(Tensor *loss, Tensor *gout, bool retain) {
  TRY(graph_check_outputs("backward", 1, &loss));
  Reverse r = {.free_nodes = !retain};
  bool was = grad_enable(false), outer = consuming;
  consuming = !retain;
  Status s = reverse_begin(&r, 1, &loss, &gout);
  if (s == OK) s = reverse_sweep(&r);
  reverse_end(&r);
  consuming = outer;
  grad_enable(was);
  return s;
}

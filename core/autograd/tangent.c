/* tangent.c - forward mode on recorded graphs: walks the nodes from the oldest to the newest
 * with the tangents of their inputs. Only nodes that a given tangent reaches do any work. */
#include "autograd/graph.h"
#include "base/interrupt.h"
#include "base/mem.h"

Tensor *forward_tangent(const Forward *f, const Tensor *t) {
  if (!tensor_needs_grad(t)) return NULL;
  if (!t->node) {
    int k = walk_find(&f->walk, t);
    return k >= 0 ? f->tin[k] : NULL;
  }
  for (int k = 0; k < f->inputs; k++)
    if (f->in[k]->node == t->node && f->in[k]->output == t->output) return f->tin[k];
  int at = walk_find(&f->walk, t->node);
  return at >= 0 ? f->tangent[at * MAX_OUTPUTS + t->output] : NULL;
}

static void release_use(Forward *f, const Tensor *t) {
  if (!f->uses || !t || !t->node) return;
  int at = walk_find(&f->walk, t->node);
  if (at < 0 || --f->uses[at] > 0) return;
  for (int k = 0; k < MAX_OUTPUTS; k++) tensor_release(f->tangent[at * MAX_OUTPUTS + k]), f->tangent[at * MAX_OUTPUTS + k] = NULL;
}

Status forward_step(Forward *f, int i) {
  Node *n = f->walk.nodes[i];
  Tensor *tin[MAX_INPUTS] = {0}, *tout[MAX_OUTPUTS] = {0};
  bool any = false;
  for (int k = 0; k < n->inputs; k++) any |= (tin[k] = forward_tangent(f, n->in[k])) != NULL;
  if (any) {
    TRY(node_check(n));
    Status s = n->op->jvp ? n->op->jvp(n, tin, tout) : node_jvp_by_compose(n, tin, tout);
    if (s != OK) return fail_in("tangent of %s", n->op->name);
    for (int k = 0; k < n->outputs; k++) f->tangent[i * MAX_OUTPUTS + k] = tensor_retain(tout[k]);
  }
  for (int k = 0; k < n->inputs; k++) release_use(f, n->in[k]);
  return OK;
}

static Status forward_begin(Forward *f, int outputs, Tensor *const *out) {
  TRY(walk_make(&f->walk, outputs, out));
  size_t n = (size_t)f->walk.count + 1;
  f->tangent = mem_calloc(n * MAX_OUTPUTS, sizeof *f->tangent);
  f->uses = mem_calloc(n, sizeof *f->uses);
  if (!f->tangent || !f->uses) return error_code();
  for (int i = 0; i < f->walk.count; i++) {
    Node *node = f->walk.nodes[i];
    for (int k = 0; k < node->inputs; k++)
      if (node->in[k] && node->in[k]->node) f->uses[walk_find(&f->walk, node->in[k]->node)]++;
  }
  for (int i = 0; i < outputs; i++)
    if (out[i]->node) f->uses[walk_find(&f->walk, out[i]->node)]++; /* outputs are read at the end */
  for (int k = 0; k < f->inputs; k++) {
    if (f->tin[k] && !tensor_same_shape(f->tin[k], f->in[k]))
      return fail(ERR_SHAPE, "jvp: input %d has shape %s, its tangent %s", k + 1, shape_text(f->in[k]), shape_text(f->tin[k]));
    if (!f->in[k]->node) TRY(walk_put(&f->walk, f->in[k], k));
  }
  return OK;
}

static void forward_end(Forward *f) {
  for (int i = 0; f->tangent && i < f->walk.count * MAX_OUTPUTS; i++) tensor_release(f->tangent[i]);
  mem_free(f->tangent);
  mem_free(f->uses);
  walk_free(&f->walk);
}

static Status forward_sweep(Forward *f) {
  for (int i = 0; i < f->walk.count; i++) {
    Pool p = pool_open();
    Status s = interrupt_check();
    if (s == OK) s = forward_step(f, i);
    pool_close(p);
    if (s != OK) return s;
  }
  return OK;
}

Status graph_jvp(int outputs, Tensor *const *out, int inputs, Tensor *const *in, Tensor *const *tin, bool dense, Tensor **results) {
  Forward f = {.inputs = inputs, .in = in, .tin = tin};
  bool was = grad_enable(false);
  Status s = forward_begin(&f, outputs, out);
  if (s == OK) s = forward_sweep(&f);
  for (int i = 0; i < outputs; i++) results[i] = s == OK ? tensor_retain(forward_tangent(&f, out[i])) : NULL;
  forward_end(&f);
  for (int i = 0; i < outputs && s == OK; i++)
    if (!results[i] && dense) s = tensor_zeros(out[i]->dtype, out[i]->ndim, out[i]->shape, &results[i]);
  for (int i = 0; i < outputs; i++)
    if (results[i] && !pool_keep(results[i])) s = error_code(), results[i] = NULL;
  grad_enable(was);
  return s;
}

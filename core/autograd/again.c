/* again.c - tangents that a Hessian-vector product lets go on the way forward and makes again on the way back.
 *
 * Where its two passes meet, the tangents of all results stand beside their values. Those of norms, of activations and of products of
 * numbers cost a pass over what is there anyway, so they go behind their last reader and come back, once, when a reader is left on the way
 * back. In a block of GPT-NeoX that is 6 d numbers a token of 16 d. */
#include "autograd/graph.h"
#include "base/mem.h"

enum { DEEPEST = 8 }; /* of tangents made from others that are made again: a long chain of products of numbers must not recurse */

static int maker(const Walk *w, const Tensor *t) { return t && t->node && t->output == 0 ? walk_find(w, t->node) : -1; }

/* uses first holds how deep a node stands, 0: it stays. */
static void find_depths(Again *a, const Walk *w) {
  for (int i = 0; i < w->count; i++) {
    const Node *n = w->nodes[i];
    int deepest = 0;
    for (int k = 0; k < n->inputs; k++) {
      int m = maker(w, n->in[k]);
      if (m >= 0 && a->uses[m] > deepest) deepest = a->uses[m];
    }
    if (again_rule(n) && deepest < DEEPEST) a->uses[i] = deepest + 1;
  }
}

Status again_begin(Again *a, const Walk *w) {
  const size_t n = (size_t)w->count + 1;
  a->uses = mem_calloc(n, sizeof *a->uses);
  a->gone = mem_calloc(n, sizeof *a->gone);
  if (!a->uses || !a->gone) return error_code();
  find_depths(a, w);
  for (int i = 0; i < w->count; i++) a->gone[i] = a->uses[i] > 0, a->uses[i] = 0; /* gone serves as a mark meanwhile */
  for (int i = 0; i < w->count; i++)
    for (int k = 0; k < w->nodes[i]->inputs; k++) {
      int m = maker(w, w->nodes[i]->in[k]);
      if (m >= 0 && a->gone[m]) a->uses[m]++;
    }
  for (int i = 0; i < w->count; i++) a->gone[i] = false;
  return OK;
}

void again_end(Again *a) {
  mem_free(a->uses);
  mem_free(a->gone);
}

void again_read(Again *a, Forward *f, int i) {
  const Node *n = f->walk.nodes[i];
  for (int k = 0; k < n->inputs; k++) {
    int m = maker(&f->walk, n->in[k]);
    if (m < 0 || !a->uses[m] || --a->uses[m] > 0) continue;
    Tensor **t = &f->tangent[m * MAX_OUTPUTS];
    a->gone[m] = *t != NULL;
    tensor_release(*t), *t = NULL;
  }
}

static Status make(Again *a, Forward *f, int i) {
  Node *n = f->walk.nodes[i];
  Tensor *tin[MAX_INPUTS], **tout = f->tangent + i * MAX_OUTPUTS, *t;
  if (!a->gone[i]) return OK;
  for (int k = 0; k < n->inputs; k++) {
    int m = maker(&f->walk, n->in[k]);
    if (m >= 0) TRY(make(a, f, m));
    tin[k] = forward_tangent(f, n->in[k]);
  }
  TRY(again_rule(n)(n, tin, tout, &t));
  tout[0] = tensor_retain(t);
  a->gone[i] = false;
  return OK;
}

Status again_make(Again *a, Forward *f, int i) {
  const Node *n = f->walk.nodes[i];
  for (int k = 0; k < n->inputs; k++) {
    int m = maker(&f->walk, n->in[k]);
    if (m >= 0) TRY(make(a, f, m));
  }
  return make(a, f, i);
}

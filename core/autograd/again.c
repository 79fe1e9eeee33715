/* again.c - tangents that a Hessian-vector product lets go on the way forward, and makes again on the way back where they are read there.
 *
 * Where its two passes meet, the tangents of all results stand beside their values. Those of norms, of activations and of products of
 * numbers cost a pass over what is there anyway, so they go behind their last reader and come back, once, when a reader is left on the way
 * back. In a block of GPT-NeoX that is 6 d numbers a token of 16 d. Sums that are only added to others are not read at all: another d. */
#include "autograd/graph.h"
#include "base/mem.h"

enum { DEEPEST = 8 }; /* of tangents made from others that are made again: a long chain of products of numbers must not recurse */

/* The node whose first result t is, or -1. */
static int maker(const Walk *w, const Tensor *t) { return t && t->node && t->output == 0 ? walk_find(w, t->node) : -1; }

/* How deep each node stands among those whose tangents come back, from 1; 0: it is none of them. */
static void find_depths(const Walk *w, int *depth) {
  for (int i = 0; i < w->count; i++) {
    const Node *n = w->nodes[i];
    int deepest = 0;
    for (int k = 0; k < n->inputs; k++) {
      int m = maker(w, n->in[k]);
      if (m >= 0 && depth[m] > deepest) deepest = depth[m];
    }
    depth[i] = again_rule(n) && deepest < DEEPEST ? deepest + 1 : 0;
  }
}

Status again_begin(Again *a, const Walk *w) {
  const size_t n = (size_t)w->count + 1;
  a->uses = mem_calloc(n, sizeof *a->uses);
  a->readers = mem_calloc(n, sizeof *a->readers);
  a->gone = mem_calloc(n, sizeof *a->gone);
  int *depth = mem_calloc(n, sizeof *depth);
  const bool good = a->uses && a->readers && a->gone && depth;
  if (good) find_depths(w, depth);
  for (int i = 0; good && i < w->count; i++)
    for (int k = 0; k < w->nodes[i]->inputs; k++) {
      int m = maker(w, w->nodes[i]->in[k]);
      if (m >= 0) a->uses[m]++, a->readers[m] += pair_reads(w->nodes[i], k);
    }
  for (int i = 0; good && i < w->count; i++) {
    const bool idle = !a->readers[i] && !pair_reads_own(w->nodes[i]);
    if (!depth[i] && !idle) a->uses[i] = 0;
    if (!depth[i] && pair_reads_own(w->nodes[i])) a->readers[i] = 0;
  }
  mem_free(depth);
  return good ? OK : error_code();
}

void again_end(Again *a) {
  mem_free(a->uses);
  mem_free(a->readers);
  mem_free(a->gone);
}

static void drop(Tensor **t) { tensor_release(*t), *t = NULL; }

void again_read(Again *a, Forward *f, int i) {
  const Node *n = f->walk.nodes[i];
  for (int k = 0; k < n->inputs; k++) {
    int m = maker(&f->walk, n->in[k]);
    if (m < 0 || !a->uses[m] || --a->uses[m] > 0) continue;
    Tensor **t = &f->tangent[m * MAX_OUTPUTS];
    a->gone[m] = *t && a->readers[m] && again_rule(f->walk.nodes[m]);
    drop(t);
  }
}

static Status make_here(Again *a, Forward *f, int i) {
  Node *n = f->walk.nodes[i];
  Tensor *tin[MAX_INPUTS], **tout = f->tangent + i * MAX_OUTPUTS, *t;
  TRY(again_make(a, f, i));
  for (int k = 0; k < n->inputs; k++) tin[k] = forward_tangent(f, n->in[k]);
  TRY(again_rule(n)(n, tin, tout, &t));
  tout[0] = tensor_retain(t);
  a->gone[i] = false;
  return OK;
}

/* Nobody but the sweep holds it then, so a rule may write over it. */
static Status make(Again *a, Forward *f, int i) {
  Pool p = pool_open();
  Status s = a->gone[i] ? make_here(a, f, i) : OK;
  pool_close(p);
  return s;
}

Status again_make(Again *a, Forward *f, int i) {
  const Node *n = f->walk.nodes[i];
  for (int k = 0; k < n->inputs; k++) {
    int m = maker(&f->walk, n->in[k]);
    if (m >= 0) TRY(make(a, f, m));
  }
  return OK;
}

void again_spend(Again *a, Forward *f, int i, bool *spent) {
  const Node *n = f->walk.nodes[i];
  for (int k = 0; k < n->inputs; k++) {
    int m = maker(&f->walk, n->in[k]);
    const bool last = m >= 0 && a->readers[m] && pair_reads(n, k) && --a->readers[m] == 0;
    Tensor *t = last ? f->tangent[m * MAX_OUTPUTS] : NULL;
    spent[k] = t && forward_tangent(f, n->in[k]) == t; /* not one that the caller has given */
  }
}

void again_drop(Forward *f, const Node *n, const bool *spent) {
  for (int k = 0; k < n->inputs; k++)
    if (spent[k]) drop(&f->tangent[maker(&f->walk, n->in[k]) * MAX_OUTPUTS]);
}

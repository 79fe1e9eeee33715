/* cache.c - gradients that the Hessian-vector products with one loss share.
 *
 * A product leaves each node by the gradient of its results and that gradient's tangent (dual.c). The gradient is the same for all
 * directions. All of them would be as large as the forward pass; kept are those whose making takes most multiply-adds a number, as many as
 * fit a budget. The gradient of the input of a linear layer with N outputs takes N a number: so that of the norm before the packed q, k, v
 * saves 3 d, before the first half of an MLP 4 d, before the unembedding V; of attention's result d; of the input of an MLP's second half,
 * which is wide, d as well, and those of q, k and v as much as there are positions. In a block of GPT-NeoX all but that wide
 * one take 6 d numbers a token, 3/8 of what the forward pass holds. The first product that meets them fills the cache. */
#include <stdlib.h>

#include "autograd/graph.h"
#include "base/mem.h"

typedef struct Choice {
  int at; /* node and output */
  int64_t bytes;
  double dearness;
} Choice;

/* Dearest first, then the small, then in order. */
static int by_dearness(const void *x, const void *y) {
  const Choice *a = x, *b = y;
  if (a->dearness != b->dearness) return a->dearness < b->dearness ? 1 : -1;
  return a->bytes != b->bytes ? (a->bytes > b->bytes ? 1 : -1) : (a->at > b->at) - (a->at < b->at);
}

static int64_t bytes_of(const Tensor *t) { return tensor_numel(t) * (int64_t)dtype_bytes(t->dtype); }

/* How dear the gradient of each result is, over all that read it. all: as many as results. Returns how many are dear at all. */
static int find_dear(const Walk *w, Choice *all) {
  int count = 0;
  for (int i = 0; i < w->count; i++)
    for (int k = 0; k < w->nodes[i]->inputs; k++) {
      const Tensor *x = w->nodes[i]->in[k];
      if (tensor_needs_grad(x) && x->node) all[walk_find(w, x->node) * MAX_OUTPUTS + x->output].dearness += gradient_dearness(w->nodes[i], k);
    }
  for (int i = 0; i < w->count * MAX_OUTPUTS; i++) {
    const Tensor *x = w->nodes[i / MAX_OUTPUTS]->out[i % MAX_OUTPUTS];
    if (x && all[i].dearness > 0) all[count++] = (Choice){i, bytes_of(x), all[i].dearness};
  }
  qsort(all, (size_t)count, sizeof *all, by_dearness);
  return count;
}

/* What the forward pass holds, parameters not counted. */
static Status forward_bytes(const Walk *w, int64_t *bytes) {
  Walk seen = {0}; /* for its table alone */
  Status s = OK;
  *bytes = 0;
  for (int i = 0; i < w->count * MAX_OUTPUTS && s == OK; i++) {
    const Tensor *x = w->nodes[i / MAX_OUTPUTS]->out[i % MAX_OUTPUTS];
    if (!x || walk_find(&seen, x->storage) >= 0) continue;
    *bytes += (int64_t)x->storage->bytes;
    s = walk_put(&seen, x->storage, 0);
  }
  walk_free(&seen);
  return s;
}

static Status choose(HvpCache *c, const Walk *w, double share) {
  int64_t left = 0;
  Choice *all = mem_calloc((size_t)w->count * MAX_OUTPUTS + 1, sizeof *all);
  Status s = all ? forward_bytes(w, &left) : error_code();
  const int count = s == OK ? find_dear(w, all) : 0;
  if (s == OK && !(c->of = mem_calloc((size_t)count + 1, sizeof *c->of))) s = error_code();
  if (s == OK) left = (int64_t)(share * (double)left);
  for (int i = 0; s == OK && i < count; i++) {
    if (all[i].bytes > left) continue;
    left -= all[i].bytes, c->bytes += all[i].bytes;
    c->of[c->count].node = w->nodes[all[i].at / MAX_OUTPUTS], c->of[c->count++].output = all[i].at % MAX_OUTPUTS;
  }
  mem_free(all);
  return s;
}

Status hvp_cache_new(Tensor *loss, double share, HvpCache **out) {
  TRY(graph_check_outputs("hvp_cache", 1, &loss));
  Walk w = {0};
  HvpCache *c = mem_calloc(1, sizeof *c);
  if (!c) return error_code();
  c->loss = tensor_retain(loss);
  Status s = walk_make(&w, 1, &loss);
  if (s == OK) s = choose(c, &w, share);
  walk_free(&w);
  if (s != OK) hvp_cache_free(c);
  else *out = c;
  return s;
}

void hvp_cache_free(HvpCache *c) {
  if (!c) return;
  for (int i = 0; i < c->count; i++) tensor_release(c->of[i].gradient);
  tensor_release(c->loss);
  mem_free(c->of);
  mem_free(c);
}

int64_t hvp_cache_bytes(const HvpCache *c) { return c->bytes; }

Status cache_attach(const HvpCache *c, Reverse *r, int **slot) {
  if (!(*slot = mem_calloc((size_t)r->walk.count * MAX_OUTPUTS + 1, sizeof **slot))) return error_code();
  for (int i = 0; c && i < c->count; i++) {
    int at = walk_find(&r->walk, c->of[i].node);
    if (at < 0) continue;
    (*slot)[at * MAX_OUTPUTS + c->of[i].output] = i + 1;
    if (c->of[i].gradient) r->gout[at * MAX_OUTPUTS + c->of[i].output] = tensor_retain(c->of[i].gradient);
  }
  return OK;
}

/* A view holds all that it is a view of: a piece of q, k and v together is kept, since the others are, but no small part of something large. */
void cache_store(HvpCache *c, int slot, Tensor *g) {
  Tensor **to = &c->of[slot - 1].gradient;
  if (!*to && (int64_t)g->storage->bytes <= 8 * bytes_of(g)) *to = tensor_retain(g);
}

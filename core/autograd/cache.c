/* cache.c - gradients that the Hessian-vector products with one loss share.
 *
 * A product leaves each node by the gradient of its results and that gradient's tangent (dual.c). The gradient is the same for all
 * directions. Kept as a whole it would be as large as the forward pass; kept are those of results whose making takes most arithmetic a
 * byte: the inputs of linear layers that together have at least as many outputs as inputs (the norms before the packed q, k, v and
 * before the first half of an MLP, attention's result, the input of the unembedding). There a gradient of d numbers saves a product with
 * d x N weights, N >= d. In a block of GPT-NeoX: 8 d^2 of the 12 d^2 multiply-adds a token that gradients of activations take, for 3 d
 * numbers where the forward pass holds 16 d. And that of the logits, which stands beside their tangent where memory is at its
 * peak, kept or not. The first product that meets them fills the cache. */
#include "autograd/graph.h"
#include "base/mem.h"

/* How dear each result of the walk is, and how many are worth being kept. */
static int find_dear(const Walk *w, double *dear) {
  int count = 0;
  for (int i = 0; i < w->count; i++) {
    const Tensor *x = w->nodes[i]->inputs ? w->nodes[i]->in[0] : NULL;
    if (tensor_needs_grad(x) && x->node) dear[walk_find(w, x->node) * MAX_OUTPUTS + x->output] += gradient_dearness(w->nodes[i]);
  }
  for (int i = 0; i < w->count * MAX_OUTPUTS; i++) {
    const Tensor *x = w->nodes[i / MAX_OUTPUTS]->out[i % MAX_OUTPUTS];
    if (x && dear[i] > 0 && dear[i] >= (double)tensor_numel(x)) count++;
    else dear[i] = 0;
  }
  return count;
}

static Status choose(HvpCache *c, const Walk *w, double *dear) {
  int count = find_dear(w, dear);
  if (!(c->of = mem_calloc((size_t)count + 1, sizeof *c->of))) return error_code();
  for (int i = 0; i < w->count * MAX_OUTPUTS; i++)
    if (dear[i] > 0) c->of[c->count].node = w->nodes[i / MAX_OUTPUTS], c->of[c->count++].output = i % MAX_OUTPUTS;
  return OK;
}

Status hvp_cache_new(Tensor *loss, HvpCache **out) {
  Walk w = {0};
  HvpCache *c = mem_calloc(1, sizeof *c);
  if (!c) return error_code();
  c->loss = tensor_retain(loss);
  Status s = walk_make(&w, 1, &loss);
  double *dear = s == OK ? mem_calloc((size_t)w.count * MAX_OUTPUTS + 1, sizeof *dear) : NULL;
  s = dear ? choose(c, &w, dear) : error_code();
  mem_free(dear);
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

int64_t hvp_cache_bytes(const HvpCache *c) {
  int64_t bytes = 0;
  for (int i = 0; i < c->count; i++) {
    const Tensor *x = c->of[i].node->out[c->of[i].output];
    if (x) bytes += tensor_numel(x) * (int64_t)dtype_bytes(x->dtype);
  }
  return bytes;
}

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

/* A view of something larger would hold all of that. */
Status cache_store(HvpCache *c, int slot, Tensor *g) {
  Tensor **to = &c->of[slot - 1].gradient;
  if (*to) return OK;
  if (tensor_contiguous(g) && g->storage->bytes < 2 * (size_t)tensor_numel(g) * dtype_bytes(g->dtype)) *to = tensor_retain(g);
  return OK;
}

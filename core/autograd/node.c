/* node.c - nodes of the graph: made when an op is recorded, released without recursion. */
#include <string.h>

#include "autograd/graph.h"
#include "base/mem.h"

static _Thread_local uint64_t next_id = 1;
static _Thread_local Node *waiting; /* nodes whose last reference is gone */
static _Thread_local bool releasing;

/* Drops what the node holds; the node itself stays. */
static void node_clear(Node *n) {
  for (int i = 0; i < n->inputs; i++) tensor_release(n->in[i]);
  for (int i = 0; i < n->outputs; i++) tensor_release(n->out[i]), n->out[i] = NULL;
  n->inputs = 0;
  if (n->attributes.extra && n->attributes.free_extra) n->attributes.free_extra(n->attributes.extra);
  n->attributes.extra = NULL;
}

/* A chain of a million nodes must not recurse a million deep: nested calls only queue. */
void node_release(Node *n) {
  if (!n || --n->references > 0) return;
  n->next = waiting;
  waiting = n;
  if (releasing) return;
  releasing = true;
  while (waiting) {
    Node *dead = waiting;
    waiting = dead->next;
    node_clear(dead);
    mem_free(dead->in);
    mem_free(dead->version);
    mem_free(dead);
  }
  releasing = false;
}

uint64_t graph_mark(void) { return next_id; }

void node_free_content(Node *n) {
  n->freed = true;
  node_clear(n);
}

static Node *node_new(const OpInfo *op, int inputs, Tensor *const *in, const Attributes *a) {
  Node *n = mem_calloc(1, sizeof *n);
  if (!n) return NULL;
  n->in = mem_calloc((size_t)inputs + 1, sizeof *n->in);
  n->version = mem_calloc((size_t)inputs + 1, sizeof *n->version);
  if (!n->in || !n->version) {
    mem_free(n->in);
    mem_free(n->version);
    mem_free(n);
    return NULL;
  }
  n->references = 1;
  n->op = op;
  n->id = next_id++;
  n->inputs = inputs;
  if (a) n->attributes = *a;
  for (int i = 0; i < inputs; i++) {
    n->in[i] = tensor_retain(in[i]);
    n->version[i] = in[i] ? in[i]->storage->version : 0;
  }
  return n;
}

Status graph_record(const OpInfo *op, int inputs, Tensor *const *in, int outputs, Tensor *const *outs, const Attributes *a) {
  bool needed = false;
  for (int i = 0; i < inputs && grad_enabled(); i++) needed |= tensor_needs_grad(in[i]);
  if (!needed) {
    if (a && a->extra && a->free_extra) a->free_extra(a->extra);
    return OK;
  }
  Node *n = node_new(op, inputs, in, a);
  if (!n) {
    if (a && a->extra && a->free_extra) a->free_extra(a->extra);
    return error_code();
  }
  n->outputs = outputs;
  Status s = OK;
  for (int i = 0; i < outputs && s == OK; i++) s = tensor_alias(outs[i], &n->out[i]);
  for (int i = 0; i < outputs && s == OK; i++) {
    outs[i]->node = n;
    outs[i]->output = i;
    outs[i]->requires_grad = dtype_is_real(outs[i]->dtype);
    n->references++;
  }
  node_release(n);
  return s;
}

Status node_stand_in(const Node *n, Node **out) {
  Tensor *in[MAX_INPUTS];
  for (int i = 0; i < n->inputs; i++) {
    in[i] = NULL;
    if (!n->in[i]) continue;
    TRY(tensor_alias(n->in[i], &in[i]));
    if (!pool_keep(in[i])) return error_code();
    in[i]->requires_grad = node_needs(n, i);
  }
  Node *s = node_new(n->op, n->inputs, in, &n->attributes);
  if (!s) return error_code();
  s->attributes.free_extra = NULL; /* n owns it */
  s->outputs = n->outputs;
  for (int i = 0; i < n->outputs; i++) {
    if (tensor_alias(n->out[i], &s->out[i]) == OK) continue;
    node_release(s);
    return error_code();
  }
  *out = s;
  return OK;
}

bool node_needs(const Node *n, int input) { return tensor_needs_grad(n->in[input]); }

Tensor *node_output(Node *n, int i) {
  Tensor *t;
  if (tensor_alias(n->out[i], &t) != OK) return NULL;
  if (grad_enabled()) {
    t->node = n;
    n->references++;
    t->output = i;
    t->requires_grad = true;
  }
  return pool_keep(t);
}

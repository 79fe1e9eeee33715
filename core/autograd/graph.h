/* graph.h - private to autograd/: walks over recorded nodes. */
#ifndef quench_graph_h
#define quench_graph_h

#include "autograd/op.h"

/* The nodes below some tensors, in order of creation, with a number for each. Inputs that
 * the caller asks about ("targets") are tensors: leaves by identity, results by node and output. */
typedef struct Walk {
  Node **nodes;
  int count, room;
  void **keys;       /* open-addressing table: node or leaf -> number */
  int *numbers, table;
  int used;
} Walk;

Status walk_make(Walk *w, int outputs, Tensor *const *out);
void walk_free(Walk *w);
int walk_find(const Walk *w, const void *node);                 /* -1: absent */
Status walk_put(Walk *w, void *key, int number);

/* A reverse pass under way. */
typedef struct Reverse {
  Walk walk;
  Tensor **gout;      /* MAX_OUTPUTS a node */
  bool *useful;       /* a node on the way to a target */
  int targets;        /* 0: every leaf collects into .grad */
  Tensor *const *target;
  Tensor **result;    /* retained */
  bool free_nodes, held; /* held: the walk has a reference to each node */
} Reverse;

Status reverse_begin(Reverse *r, int outputs, Tensor *const *out, Tensor *const *gout);
Status reverse_deliver(Reverse *r, Tensor *t, Tensor *g);                     /* adds g to the gradient of t, an input of a node */
Status reverse_collect(Reverse *r, const Node *n, Tensor *const *gout);       /* targets that are results are complete when their node's turn comes */
void reverse_end(Reverse *r);

/* A sweep of tangents under way. */
typedef struct Forward {
  Walk walk;
  Tensor **tangent;  /* MAX_OUTPUTS a node; NULL: zero */
  int *uses;         /* of each node's tangents still to come; NULL: all tangents stay */
  int inputs;
  Tensor *const *in, *const *tin;
} Forward;

Tensor *forward_tangent(const Forward *f, const Tensor *t); /* given, computed, or NULL for zero */
Status forward_step(Forward *f, int i);                     /* tangents of the results of node i */

bool graph_consume(bool on); /* whether rules may write over what nobody else can see (node_may_overwrite); returns the old state */
Status graph_check_outputs(const char *what, int outputs, Tensor *const *out);
Status node_check_gradient(const Node *n, int i, const Tensor *g);

/* A node like n whose inputs are leaves of the same values, so that what its vjp records ends there; to be released. */
Status node_stand_in(const Node *n, Node **out);

void node_free_content(Node *n);   /* drops inputs and outputs: a backward pass is done with it */
Status node_check(const Node *n);  /* not freed, inputs unchanged since */

#endif

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

/* Tangents of results that pointwise work makes again from others are let go behind their last reader of the pass forward (again.c). */
typedef struct Again {
  int *uses;    /* readers still to come of a node's first tangent on the way forward; 0 where it stays */
  int *readers; /* and on the way back; 0 where it stays until its node is left */
  bool *gone;   /* and is to be made again */
} Again;

Status again_begin(Again *a, const Walk *w);
void again_end(Again *a);
void again_read(Again *a, Forward *f, int i);   /* node i has read the tangents of its inputs */
Status again_make(Again *a, Forward *f, int i); /* those of node i's inputs are there again */
void again_spend(Again *a, Forward *f, int i, bool *spent);  /* which of them node i is the last to read on the way back, */
void again_drop(Forward *f, const Node *n, const bool *spent); /* and they go */

/* Gradients of some results of a loss's graph (cache.c). slot: by node of a walk and output, which of them it is, from 1; 0: none. */
struct HvpCache {
  Tensor *loss;
  int64_t bytes; /* when full */
  int count;
  struct { const Node *node; int output; Tensor *gradient; } *of; /* gradient NULL: not yet met */
};
Status cache_attach(const HvpCache *c, Reverse *r, int **slot); /* hands a pass what is known */
void cache_store(HvpCache *c, int slot, Tensor *g);
double gradient_dearness(const Node *n, int input); /* multiply-adds that a number of an input's gradient takes here; 0: few (ops/table.c) */

bool graph_consume(bool on); /* whether rules may write over what nobody else can see (node_may_overwrite); returns the old state */
Status graph_check_outputs(const char *what, int outputs, Tensor *const *out);
Status node_check_gradient(const Node *n, int i, const Tensor *g);

/* A node like n whose inputs are leaves of the same values, so that what its vjp records ends there; to be released. */
Status node_stand_in(const Node *n, Node **out);

void node_free_content(Node *n);   /* drops inputs and outputs: a backward pass is done with it */
Status node_check(const Node *n);  /* not freed, inputs unchanged since */

#endif

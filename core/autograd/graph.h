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

void node_free_content(Node *n);   /* drops inputs and outputs: a backward pass is done with it */
Status node_check(const Node *n);  /* not freed, inputs unchanged since */

#endif

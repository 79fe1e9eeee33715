/* hadamard.c - orthogonal Hadamard transform of blocks of the last axis. */
#include <stdlib.h>

#include "autograd/ops/ops.h"
#include "kernel/quant.h"
#include "linalg/hadamard.h"

static Tensor *apply(Tensor *x, const Hadamard *h, bool transpose);

static Status rule(Node *n, Tensor *const *v, Tensor **out, bool adjoint) {
  Hadamard h;
  TRY(hadamard_make(n->attributes.ints[0], &h));
  bool transpose = n->attributes.ints[1];
  out[0] = apply(v[0], &h, adjoint ? !transpose : transpose);
  hadamard_free(&h);
  return out[0] ? OK : error_code();
}
static Status hadamard_vjp(Node *n, Tensor *const *g, Tensor **gin) { return rule(n, g, gin, true); }
static Status hadamard_jvp(Node *n, Tensor *const *t, Tensor **out) { return rule(n, t, out, false); }

const OpInfo hadamard_op = {"hadamard", 1, 1, "orthogonal Hadamard transform of blocks of the last axis", hadamard_vjp, hadamard_jvp, NULL, true};

static Tensor *apply(Tensor *x, const Hadamard *h, bool transpose) {
  Tensor *dense = op_dense(x), *y = dense ? op_new_like(x) : NULL;
  if (!y) return NULL;
  int64_t cols = x->shape[x->ndim - 1], rows = cols ? tensor_numel(x) / cols : 0;
  quant_kernels_for(x)->hadamard(rows, cols, h->size, h->odd, h->base, transpose, tensor_data(dense), tensor_data(y));
  Attributes a = {.ints = {h->size, transpose}};
  return op_done(&hadamard_op, 1, &x, y, &a);
}

Tensor *op_hadamard(Tensor *x, int64_t block, bool transpose) {
  if (!x || !op_check_real("hadamard", x, "the input")) return NULL;
  if (x->ndim < 1) return fail(ERR_SHAPE, "hadamard: the input needs a last axis"), NULL;
  int64_t cols = x->shape[x->ndim - 1];
  if (block == 0) block = cols;
  if (block < 1 || cols % block) return fail(ERR_SHAPE, "hadamard: blocks of %lld do not divide the last axis of %s", (long long)block, shape_text(x)), NULL;
  Hadamard h;
  if (hadamard_make(block, &h)) return NULL;
  Tensor *y = apply(x, &h, transpose);
  hadamard_free(&h);
  return y;
}

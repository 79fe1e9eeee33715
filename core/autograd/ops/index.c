/* index.c - rows of a table by integer ids (embedding), one value a row (pick), and the
 * adjoints of both. All four are linear, so each one's rules are the others. */
#include <string.h>

#include "autograd/ops/ops.h"

/* Pushes ids' shape and one more axis. */
static int shape_with(const Tensor *ids, int64_t last, int64_t *shape) {
  memcpy(shape, ids->shape, (size_t)ids->ndim * sizeof *shape);
  shape[ids->ndim] = last;
  return ids->ndim + 1;
}

/* --- embedding --- */

static Status embedding_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  if (node_needs(n, 0)) gin[0] = op_embedding_backward(g[0], n->in[1], n->in[0]->shape[0]);
  return gin[0] ? OK : error_code();
}
static Status embedding_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_embedding(t[0], n->in[1]);
  return out[0] ? OK : error_code();
}
const OpInfo embedding_op = {"embedding", 2, 1, "rows of a table (V, D) by ids (...): (..., D)", embedding_vjp, embedding_jvp, NULL, true};

Tensor *op_embedding(Tensor *table, Tensor *ids) {
  if (!table || !ids) return NULL;
  if (table->ndim != 2) return fail(ERR_SHAPE, "embedding: the table must be (rows, width), got %s", shape_text(table)), NULL;
  if (!op_check_real("embedding", table, "the table") || !op_check_ids("embedding", ids, 0, table->shape[0], "ids")) return NULL;
  int64_t shape[MAX_DIMS], width = table->shape[1];
  Tensor *t = op_dense(table), *i = op_dense(ids), *y = t && i ? op_new(table->dtype, shape_with(ids, width, shape), shape) : NULL;
  if (!y) return NULL;
  kernels_for(y)->gather_rows(tensor_numel(ids), width, tensor_data(t), tensor_data(i), tensor_data(y));
  return op_done(&embedding_op, 2, (Tensor *[]){table, ids}, y, NULL);
}

static Status embedding_backward_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  if (node_needs(n, 0)) gin[0] = op_embedding(g[0], n->in[1]);
  return gin[0] ? OK : error_code();
}
static Status embedding_backward_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_embedding_backward(t[0], n->in[1], n->attributes.ints[0]);
  return out[0] ? OK : error_code();
}
const OpInfo embedding_backward_op = {"embedding_backward", 2, 1, "rows (..., D) added into a table (V, D) by ids",
                                      embedding_backward_vjp, embedding_backward_jvp, NULL, true};

Tensor *op_embedding_backward(Tensor *dy, Tensor *ids, int64_t rows) {
  if (!dy || !ids || !op_check_ids("embedding_backward", ids, 0, rows, "ids")) return NULL;
  int64_t width = dy->shape[dy->ndim - 1];
  if (tensor_numel(dy) != tensor_numel(ids) * width)
    return fail(ERR_SHAPE, "embedding_backward: gradient %s does not fit ids %s", shape_text(dy), shape_text(ids)), NULL;
  Tensor *g = op_dense(dy), *i = op_dense(ids), *table = g && i ? op_new_zeros(dy->dtype, 2, (int64_t[]){rows, width}) : NULL;
  if (!table) return NULL;
  kernels_for(dy)->scatter_add_rows(tensor_numel(ids), rows, width, tensor_data(g), tensor_data(i), tensor_data(table));
  Attributes a = {.ints = {rows}};
  return op_done(&embedding_backward_op, 2, (Tensor *[]){dy, ids}, table, &a);
}

/* --- pick --- */

static Status pick_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  const Tensor *x = n->in[0];
  if (node_needs(n, 0)) gin[0] = op_unpick(g[0], n->in[1], x->shape[x->ndim - 1]);
  return gin[0] ? OK : error_code();
}
static Status pick_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_pick(t[0], n->in[1]);
  return out[0] ? OK : error_code();
}
const OpInfo pick_op = {"pick", 2, 1, "one value of each row of x (..., n) by ids (...)", pick_vjp, pick_jvp, NULL, true};

Tensor *op_pick(Tensor *x, Tensor *ids) {
  if (!x || !ids || !op_check_real("pick", x, "x")) return NULL;
  if (x->ndim < 1 || tensor_numel(ids) * x->shape[x->ndim - 1] != tensor_numel(x))
    return fail(ERR_SHAPE, "pick: ids %s do not name one value for each row of %s", shape_text(ids), shape_text(x)), NULL;
  int64_t n = x->shape[x->ndim - 1];
  if (!op_check_ids("pick", ids, 0, n, "ids")) return NULL;
  Tensor *t = op_dense(x), *i = op_dense(ids), *y = t && i ? op_new(x->dtype, x->ndim - 1, x->shape) : NULL;
  if (!y) return NULL;
  kernels_for(y)->pick(tensor_numel(ids), n, tensor_data(t), tensor_data(i), tensor_data(y));
  return op_done(&pick_op, 2, (Tensor *[]){x, ids}, y, NULL);
}

static Status unpick_vjp(Node *n, Tensor *const *g, Tensor **gin) {
  if (node_needs(n, 0)) gin[0] = op_pick(g[0], n->in[1]);
  return gin[0] ? OK : error_code();
}
static Status unpick_jvp(Node *n, Tensor *const *t, Tensor **out) {
  out[0] = op_unpick(t[0], n->in[1], n->attributes.ints[0]);
  return out[0] ? OK : error_code();
}
const OpInfo unpick_op = {"unpick", 2, 1, "zeros but for one value a row", unpick_vjp, unpick_jvp, NULL, true};

Tensor *op_unpick(Tensor *dy, Tensor *ids, int64_t n) {
  if (!dy || !ids || !op_check_ids("unpick", ids, 0, n, "ids")) return NULL;
  if (tensor_numel(dy) != tensor_numel(ids)) return fail(ERR_SHAPE, "unpick: %s and ids %s differ", shape_text(dy), shape_text(ids)), NULL;
  int64_t shape[MAX_DIMS];
  Tensor *g = op_dense(dy), *i = op_dense(ids), *x = g && i ? op_new_zeros(dy->dtype, shape_with(dy, n, shape), shape) : NULL;
  if (!x) return NULL;
  kernels_for(dy)->unpick(tensor_numel(ids), n, tensor_data(g), tensor_data(i), tensor_data(x));
  Attributes a = {.ints = {n}};
  return op_done(&unpick_op, 2, (Tensor *[]){dy, ids}, x, &a);
}

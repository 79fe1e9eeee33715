/* tensor.c - life and geometry of tensors. See tensor.h. */
#include "tensor/tensor.h"

#include <stdio.h>
#include <string.h>

#include "autograd/op.h"
#include "base/mem.h"
#include "kernel/kernel.h"

static const struct { const char *name; size_t bytes; } dtypes[DTYPE_COUNT] = {
  [F32] = {"f32", 4}, [F64] = {"f64", 8}, [I32] = {"i32", 4}, [BF16] = {"bf16", 2},
};

size_t dtype_bytes(DType d) { return dtypes[d].bytes; }
const char *dtype_name(DType d) { return dtypes[d].name; }

Status dtype_parse(const char *name, DType *out) {
  for (int d = 0; d < DTYPE_COUNT; d++)
    if (strcmp(name, dtypes[d].name) == 0) return *out = (DType)d, OK;
  return fail(ERR_DTYPE, "unknown dtype '%s' (there are f32, f64, i32, bf16)", name);
}

/* --- life --- */

static void storage_release(Storage *s) {
  if (!s || --s->references > 0) return;
  if (s->release) s->release(s->owner);
  else mem_free(s->data);
  mem_free(s);
}

static Tensor *header(DType d, int ndim, const int64_t *shape) {
  Tensor *t = mem_calloc(1, sizeof *t);
  if (!t) return NULL;
  t->references = 1;
  t->dtype = d;
  t->ndim = ndim;
  int64_t stride = 1;
  for (int i = ndim - 1; i >= 0; i--) {
    t->shape[i] = shape[i];
    t->stride[i] = stride;
    stride *= shape[i];
  }
  return t;
}

/* The bytes of a dense tensor, with every product checked. */
static Status dense_bytes(DType d, int ndim, const int64_t *shape, size_t *bytes) {
  if (ndim < 0 || ndim > MAX_DIMS) return fail(ERR_SHAPE, "a tensor has at most %d axes, %d were asked for", MAX_DIMS, ndim);
  size_t n = dtype_bytes(d);
  for (int i = 0; i < ndim; i++) {
    if (shape[i] < 0) return fail(ERR_SHAPE, "negative size in shape %s", dims_text(ndim, shape));
    if (__builtin_mul_overflow(n, (size_t)shape[i], &n) || n > (size_t)1 << 46)
      return fail(ERR_SHAPE, "shape %s is too large to address", dims_text(ndim, shape));
  }
  *bytes = n;
  return OK;
}

Status tensor_wrap(DType d, int ndim, const int64_t *shape, void *data, size_t bytes, void (*release)(void *), void *owner, Tensor **out) {
  *out = NULL;
  size_t need;
  TRY(dense_bytes(d, ndim, shape, &need));
  if (need > bytes) return fail(ERR_SHAPE, "shape %s needs %zu bytes, the memory has %zu", dims_text(ndim, shape), need, bytes);
  Tensor *t = header(d, ndim, shape);
  Storage *s = mem_calloc(1, sizeof *s);
  if (!t || !s) {
    mem_free(t);
    mem_free(s);
    return error_code();
  }
  *s = (Storage){.references = 1, .bytes = bytes, .data = data, .release = release, .owner = owner};
  t->storage = s;
  *out = t;
  return OK;
}

Status tensor_new(DType d, int ndim, const int64_t *shape, Tensor **out) {
  *out = NULL;
  size_t bytes;
  TRY(dense_bytes(d, ndim, shape, &bytes));
  void *data = mem_alloc(bytes);
  if (!data) return error_code();
  Status s = tensor_wrap(d, ndim, shape, data, bytes, NULL, NULL, out);
  if (s != OK) mem_free(data);
  return s;
}

Status tensor_zeros(DType d, int ndim, const int64_t *shape, Tensor **out) {
  TRY(tensor_new(d, ndim, shape, out));
  return tensor_fill(*out, 0);
}

Status tensor_like(const Tensor *t, Tensor **out) { return tensor_new(t->dtype, t->ndim, t->shape, out); }

Status tensor_scalar(DType d, double value, Tensor **out) {
  TRY(tensor_new(d, 0, NULL, out));
  return tensor_fill(*out, value);
}

Tensor *tensor_retain(Tensor *t) {
  if (t) t->references++;
  return t;
}

void tensor_release(Tensor *t) {
  if (!t || --t->references > 0) return;
  tensor_release(t->grad);
  struct Node *node = t->node;
  storage_release(t->storage);
  mem_free(t);
  node_release(node); /* last: it may release a long chain of tensors in turn */
}

/* --- geometry --- */

int64_t tensor_numel(const Tensor *t) {
  int64_t n = 1;
  for (int i = 0; i < t->ndim; i++) n *= t->shape[i];
  return n;
}

bool tensor_contiguous(const Tensor *t) {
  int64_t stride = 1;
  for (int i = t->ndim - 1; i >= 0; i--) {
    if (t->shape[i] == 0) return true;
    if (t->shape[i] != 1 && t->stride[i] != stride) return false;
    stride *= t->shape[i];
  }
  return true;
}

bool tensor_same_shape(const Tensor *a, const Tensor *b) {
  return a->ndim == b->ndim && memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0;
}

Status tensor_view(const Tensor *t, int ndim, const int64_t *shape, const int64_t *stride, int64_t offset, Tensor **out) {
  Tensor *v = header(t->dtype, ndim, shape);
  *out = v;
  if (!v) return error_code();
  if (stride) memcpy(v->stride, stride, (size_t)ndim * sizeof *stride);
  v->offset = offset;
  v->storage = t->storage;
  v->storage->references++;
  return OK;
}

Status tensor_alias(const Tensor *t, Tensor **out) { return tensor_view(t, t->ndim, t->shape, t->stride, t->offset, out); }

Status tensor_axis(const Tensor *t, int axis, const char *op, int *out) {
  if (axis >= t->ndim || axis < -t->ndim)
    return fail(ERR_SHAPE, "%s: axis %d out of range for shape %s", op, axis >= 0 ? axis + 1 : axis, shape_text(t));
  *out = axis < 0 ? axis + t->ndim : axis;
  return OK;
}

Status tensor_broadcast(const char *op, const Tensor *a, const Tensor *b, int *ndim, int64_t *shape) {
  int n = a->ndim > b->ndim ? a->ndim : b->ndim;
  for (int i = 1; i <= n; i++) { /* from the last axis */
    int64_t x = i <= a->ndim ? a->shape[a->ndim - i] : 1, y = i <= b->ndim ? b->shape[b->ndim - i] : 1;
    if (x != y && x != 1 && y != 1)
      return fail(ERR_SHAPE, "%s: shapes %s and %s do not broadcast (axis %d from the end: %lld against %lld)", op, shape_text(a),
                  shape_text(b), i, (long long)x, (long long)y);
    shape[n - i] = x == 1 ? y : x;
  }
  *ndim = n;
  return OK;
}

const char *dims_text(int ndim, const int64_t *shape) {
  static _Thread_local char ring[8][160];
  static _Thread_local int turn;
  char *text = ring[turn++ & 7];
  size_t used = 0;
  used += (size_t)snprintf(text, 160, "(");
  for (int i = 0; i < ndim && used < 140; i++)
    used += (size_t)snprintf(text + used, 160 - used, i ? ", %lld" : "%lld", (long long)shape[i]);
  snprintf(text + used, 160 - used, ")");
  return text;
}

const char *shape_text(const Tensor *t) { return dims_text(t->ndim, t->shape); }

/* --- data, through the kernels --- */

void *tensor_data(const Tensor *t) { return (char *)t->storage->data + t->offset * (int64_t)dtype_bytes(t->dtype); }

void tensor_touch(Tensor *t) { t->storage->version++; }

/* The table for moving bytes about: i32 moves like f32, which only copies. */
static const Kernels *mover(const Tensor *t) { return kernels_of(t->storage->device, t->dtype == F64 ? F64 : F32); }

Status tensor_copy(Tensor *to, const Tensor *from) {
  int ndim;
  int64_t shape[MAX_DIMS];
  TRY(tensor_broadcast("copy", to, from, &ndim, shape));
  if (ndim != to->ndim || memcmp(shape, to->shape, (size_t)ndim * sizeof *shape) != 0)
    return fail(ERR_SHAPE, "copy: shape %s does not fit into %s", shape_text(from), shape_text(to));
  Loop l;
  loop_make(&l, 2, (Tensor *[]){to, (Tensor *)from});
  if (to->dtype == from->dtype && to->dtype != BF16) mover(to)->copy(&l);
  else kernel_cast(to->dtype, from->dtype, &l);
  tensor_touch(to);
  return OK;
}

Status tensor_fill(Tensor *t, double value) {
  Loop l;
  loop_make(&l, 1, (Tensor *[]){t});
  if (dtype_is_real(t->dtype)) kernels_for(t)->fill(&l, value);
  else kernel_fill_cast(t->dtype, &l, value);
  tensor_touch(t);
  return OK;
}

static Status element(const Tensor *t, const int64_t *index, Tensor **out) {
  int64_t offset = t->offset;
  for (int i = 0; i < t->ndim; i++) {
    if (index[i] < 0 || index[i] >= t->shape[i])
      return fail(ERR_SHAPE, "index %lld out of range for axis %d of shape %s", (long long)index[i] + 1, i + 1, shape_text(t));
    offset += index[i] * t->stride[i];
  }
  return tensor_view(t, 0, NULL, NULL, offset, out);
}

Status tensor_get(const Tensor *t, const int64_t *index, double *out) {
  Tensor *e;
  TRY(element(t, index, &e));
  *out = kernel_read(e->dtype, tensor_data(e));
  tensor_release(e);
  return OK;
}

Status tensor_set(Tensor *t, const int64_t *index, double value) {
  Tensor *e;
  TRY(element(t, index, &e));
  Status s = tensor_fill(e, value);
  tensor_release(e);
  return s;
}

Status tensor_contiguous_copy(const Tensor *t, Tensor **out) {
  if (tensor_contiguous(t)) return *out = tensor_retain((Tensor *)t), OK;
  return tensor_cast(t, t->dtype, out);
}

Status tensor_cast(const Tensor *t, DType d, Tensor **out) {
  TRY(tensor_new(d, t->ndim, t->shape, out));
  Status s = tensor_copy(*out, t);
  if (s != OK) tensor_release(*out), *out = NULL;
  return s;
}

/* Random fills go to dense memory; a strided target gets a copy of it. */
static Status random_fill(Tensor *t, Random *r, bool normal, double a, double b) {
  if (!dtype_is_real(t->dtype)) return fail(ERR_DTYPE, "random: dtype %s cannot hold real numbers", dtype_name(t->dtype));
  Tensor *dense = t;
  if (!tensor_contiguous(t)) TRY(tensor_like(t, &dense));
  int64_t n = tensor_numel(t);
  const Kernels *k = kernels_for(t);
  (normal ? k->normal : k->uniform)(tensor_data(dense), n, r, a, b);
  r->counter += (uint64_t)(n + 1) / 2; /* two numbers a block */
  Status s = OK;
  if (dense != t) {
    s = tensor_copy(t, dense);
    tensor_release(dense);
  }
  tensor_touch(t);
  return s;
}

Status tensor_fill_uniform(Tensor *t, Random *r, double low, double high) { return random_fill(t, r, false, low, high); }
Status tensor_fill_normal(Tensor *t, Random *r, double mean, double deviation) { return random_fill(t, r, true, mean, deviation); }

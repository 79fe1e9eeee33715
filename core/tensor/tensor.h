/* tensor.h - the tensor: a typed, strided window onto counted storage.
 *
 * Shapes are row-major; strides are in elements and may be 0 (broadcast) or any
 * positive or negative number. Axes are 0-based in C and 1-based in Lua; a
 * negative axis counts from the end in both. A tensor with ndim = 0 is a scalar.
 *
 *   Tensor *t;
 *   TRY(tensor_new(F32, 2, (int64_t[]){3, 4}, &t));   // uninitialised
 *   ...
 *   tensor_release(t);
 *
 * Ownership: tensor_new and friends hand the caller one reference. Operations
 * (autograd/op.h) return tensors that the current pool owns: tensor_retain keeps
 * one beyond the pool. Nothing here reads or writes elements except through the
 * kernel table of the tensor's device. */
#ifndef quench_tensor_h
#define quench_tensor_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/random.h"
#include "base/status.h"

enum { MAX_DIMS = 8 };

typedef enum DType { F32, F64, I32, BF16, DTYPE_COUNT } DType;

typedef struct Storage {
  int references;
  int device;        /* index into the devices of kernel.h; 0 is the CPU */
  size_t bytes;
  void *data;
  uint32_t version;  /* counts in-place writes; the graph checks it */
  void (*release)(void *owner); /* for memory we did not allocate (mapped files): called instead of freeing */
  void *owner;
} Storage;

struct Node;

typedef struct Tensor {
  int references;
  DType dtype;
  int ndim;
  int64_t shape[MAX_DIMS], stride[MAX_DIMS];
  int64_t offset;     /* of element (0, ..., 0), in elements */
  Storage *storage;
  /* graph */
  bool requires_grad; /* a leaf that collects .grad, or the result of a recorded operation */
  struct Node *node;  /* the operation that made it (NULL for leaves); one reference held */
  int output;         /* which of the node's outputs */
  struct Tensor *grad;/* leaves only, may be NULL */
} Tensor;

/* --- dtypes --- */
size_t dtype_bytes(DType d);
const char *dtype_name(DType d); /* "f32", ... */
Status dtype_parse(const char *name, DType *out);
static inline bool dtype_is_real(DType d) { return d == F32 || d == F64; }

/* --- life --- */
Status tensor_new(DType d, int ndim, const int64_t *shape, Tensor **out); /* uninitialised, contiguous */
Status tensor_zeros(DType d, int ndim, const int64_t *shape, Tensor **out);
Status tensor_like(const Tensor *t, Tensor **out);                        /* same dtype and shape, contiguous, uninitialised */
Status tensor_scalar(DType d, double value, Tensor **out);                /* ndim 0 */
/* Wraps memory that lives elsewhere; release(owner) runs when the last tensor lets go. */
Status tensor_wrap(DType d, int ndim, const int64_t *shape, void *data, size_t bytes, void (*release)(void *), void *owner, Tensor **out);
Tensor *tensor_retain(Tensor *t); /* returns t; NULL stays NULL */
void tensor_release(Tensor *t);   /* NULL is fine */

/* --- geometry (no copies; the result shares storage and has no history) --- */
int64_t tensor_numel(const Tensor *t);
bool tensor_contiguous(const Tensor *t);
bool tensor_same_shape(const Tensor *a, const Tensor *b);
Status tensor_alias(const Tensor *t, Tensor **out); /* same window, no history: "detached" */
Status tensor_view(const Tensor *t, int ndim, const int64_t *shape, int64_t const *stride, int64_t offset, Tensor **out);
Status tensor_axis(const Tensor *t, int axis, const char *op, int *out); /* normalises a negative axis, checks the range */
/* The shape two operands broadcast to, or ERR_SHAPE naming op and both shapes. */
Status tensor_broadcast(const char *op, const Tensor *a, const Tensor *b, int *ndim, int64_t *shape);
/* "(3, 4)" for error messages: a rotating set of eight static buffers a thread. */
const char *shape_text(const Tensor *t);
const char *dims_text(int ndim, const int64_t *shape);

/* --- data, through the kernels --- */
void *tensor_data(const Tensor *t);      /* address of element (0, ..., 0); to hand to kernels and to read results on the CPU */
Status tensor_fill(Tensor *t, double value);
Status tensor_copy(Tensor *to, const Tensor *from); /* broadcasts from, converts dtypes; counts as an in-place write */
Status tensor_get(const Tensor *t, const int64_t *index, double *out);
Status tensor_set(Tensor *t, const int64_t *index, double value);
Status tensor_contiguous_copy(const Tensor *t, Tensor **out); /* a retained t itself if it is contiguous already */
Status tensor_cast(const Tensor *t, DType d, Tensor **out);    /* contiguous copy in another dtype; no history */
Status tensor_fill_uniform(Tensor *t, Random *r, double low, double high);
Status tensor_fill_normal(Tensor *t, Random *r, double mean, double deviation);
void tensor_touch(Tensor *t);            /* notes an in-place write */

/* --- printing to a buffer (tensor/print.c) --- */
/* Writes at most room bytes, always terminated; returns the length it wanted. Lines are at most `columns` characters
 * long (and at least two numbers); 0: at most 12 numbers. */
size_t tensor_print(const Tensor *t, int columns, char *buffer, size_t room);

#endif

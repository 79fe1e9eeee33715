/* safetensors_tensor.c - between files and tensors. */
#include <string.h>

#include "base/mem.h"
#include "io/safetensors.h"

Status safetensors_read(const SafeEntry *e, const DType *dtype, Tensor **out) {
  *out = NULL;
  Tensor *t;
  TRY(tensor_new(dtype ? *dtype : element_dtype(e->type, e->data, e->numel), e->ndim, e->shape, &t));
  if (element_decode(e->type, e->data, e->numel, t->dtype, tensor_data(t)) != OK) {
    tensor_release(t);
    return fail_in("'%s': tensor '%s'", e->file, e->name);
  }
  *out = t;
  return OK;
}

Status safetensors_save(const char *path, int count, const char *const *names, Tensor *const *tensors, int pairs, const SafePair *metadata) {
  SafeItem *items = mem_calloc((size_t)count, sizeof *items);
  Tensor **dense = mem_calloc((size_t)count, sizeof *dense);
  Status s = items && dense ? OK : error_code();
  for (int i = 0; i < count && s == OK; i++) {
    s = tensor_contiguous_copy(tensors[i], &dense[i]);
    if (s != OK) break;
    const Tensor *t = dense[i];
    items[i] = (SafeItem){.name = names[i], .type = element_of_dtype(t->dtype), .ndim = t->ndim, .shape = t->shape, .data = tensor_data(t)};
  }
  if (s == OK) s = safetensors_write(path, count, items, pairs, metadata);
  for (int i = 0; dense && i < count; i++) tensor_release(dense[i]);
  mem_free(items);
  mem_free(dense);
  return s;
}

/* safetensors.h - the safetensors format: 8 bytes with the length of a JSON header,
 * the header {name: {dtype, shape, data_offsets}}, then the elements, little-endian,
 * row-major, without gaps (github.com/huggingface/safetensors).
 *
 * A file is mapped, never read whole, and believed in nothing: the header's length is
 * checked against the file before it is parsed, each tensor's offsets against its
 * shape and type, all offsets against each other (no overlap, no hole, nothing
 * behind the last). Errors name the file, the tensor and the reason. What the
 * elements hold is data: NaN is no error (element_nonfinite counts them).
 *
 *   SafeTensors *f;
 *   TRY(safetensors_open("model.safetensors", &f));
 *   const SafeEntry *e = safetensors_find(f, "lm_head.weight");
 *   ...
 *   safetensors_close(f); */
#ifndef quench_safetensors_h
#define quench_safetensors_h

#include "base/status.h"
#include "io/element.h"

typedef struct SafeEntry {
  const char *name;
  Element type;
  int ndim;
  int64_t shape[MAX_DIMS];
  int64_t numel;
  const uint8_t *data; /* in the mapped file; any alignment */
  uint64_t begin, end; /* in its file, from the end of the header */
  const char *file;    /* the path it lies in */
} SafeEntry;

typedef struct SafePair {
  const char *key, *value;
} SafePair;

typedef struct SafeTensors {
  int count;
  SafeEntry *entries; /* by name, in byte order */
  int pairs;
  SafePair *metadata; /* by key, in byte order */
  struct SafeFiles *files; /* private: maps and names */
} SafeTensors;

/* path: a .safetensors file; a model.safetensors.index.json (shards beside it); a folder
 * with model.safetensors or with that index; or, by their names' ends, a .gguf file (io/gguf.c)
 * or a .bin of llama2.c (io/llama2c.c), which are shown in the same way. */
Status safetensors_open(const char *path, SafeTensors **out);
/* The same on bytes that the caller keeps alive; name is what errors call them. */
Status safetensors_parse(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out);
void safetensors_close(SafeTensors *f); /* NULL is fine */
const SafeEntry *safetensors_find(const SafeTensors *f, const char *name); /* NULL if there is none */

/* --- for readers of other formats --- */
/* Makes entries and pairs (whose strings are copied) into a SafeTensors over bytes that the caller keeps alive. Checks that
 * names differ and sorts. */
Status safetensors_gather(int count, const SafeEntry *entries, int pairs, const SafePair *metadata, SafeTensors **out);
Status gguf_parse(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out);
Status llama2c_parse(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out);

/* --- writing --- */
typedef struct SafeItem {
  const char *name;
  Element type;
  int ndim;
  const int64_t *shape;
  const void *data; /* dense, row-major */
} SafeItem;

/* Writes a file as Hugging Face's writer does: larger element types first, then by name, so that each
 * tensor is aligned; header padded to 8 bytes. Atomic. Same content, same bytes. */
Status safetensors_write(const char *path, int count, const SafeItem *items, int pairs, const SafePair *metadata);

/* --- tensors --- */
/* A new tensor with the entry's elements; dtype NULL: element_dtype's choice. The caller gets the reference. */
Status safetensors_read(const SafeEntry *e, const DType *dtype, Tensor **out);
Status safetensors_save(const char *path, int count, const char *const *names, Tensor *const *tensors, int pairs, const SafePair *metadata);

#endif

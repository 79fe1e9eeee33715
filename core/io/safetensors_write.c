/* safetensors_write.c - the writer: layout, header, elements. */
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/safetensors.h"

/* Larger elements first keeps every tensor aligned to its own size; names break ties. */
static int by_layout(const void *a, const void *b) {
  const SafeItem *x = *(const SafeItem *const *)a, *y = *(const SafeItem *const *)b;
  size_t p = element_bytes(x->type), q = element_bytes(y->type);
  return p != q ? (p > q ? -1 : 1) : strcmp(x->name, y->name);
}

static int by_name(const void *a, const void *b) { return strcmp((*(const SafeItem *const *)a)->name, (*(const SafeItem *const *)b)->name); }
static int by_key(const void *a, const void *b) { return strcmp(((const SafePair *)a)->key, ((const SafePair *)b)->key); }

static uint64_t item_bytes(const SafeItem *t) {
  uint64_t n = element_bytes(t->type);
  for (int i = 0; i < t->ndim; i++) n *= (uint64_t)t->shape[i];
  return n;
}

static Status add_metadata(Buffer *b, int pairs, const SafePair *metadata) {
  TRY(buffer_text(b, "\"__metadata__\":{"));
  for (int i = 0; i < pairs; i++) {
    if (i) TRY(buffer_text(b, ","));
    TRY(json_quote(b, metadata[i].key, strlen(metadata[i].key)));
    TRY(buffer_text(b, ":"));
    TRY(json_quote(b, metadata[i].value, strlen(metadata[i].value)));
  }
  return buffer_text(b, "}");
}

static Status add_item(Buffer *b, const SafeItem *t, uint64_t *at) {
  TRY(json_quote(b, t->name, strlen(t->name)));
  TRY(buffer_print(b, ":{\"dtype\":\"%s\",\"shape\":[", element_name(t->type)));
  for (int i = 0; i < t->ndim; i++) TRY(buffer_print(b, "%s%lld", i ? "," : "", (long long)t->shape[i]));
  uint64_t end = *at + item_bytes(t);
  TRY(buffer_print(b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)end));
  *at = end;
  return OK;
}

static Status make_header(Buffer *b, int count, const SafeItem **order, int pairs, SafePair *metadata) {
  uint64_t length = 0, at = 0;
  if (pairs) qsort(metadata, (size_t)pairs, sizeof *metadata, by_key);
  TRY(buffer_add(b, &length, 8));
  TRY(buffer_text(b, "{"));
  if (pairs) TRY(add_metadata(b, pairs, metadata));
  for (int i = 0; i < count; i++) {
    if (i || pairs) TRY(buffer_text(b, ","));
    TRY(add_item(b, order[i], &at));
  }
  TRY(buffer_text(b, "}"));
  while (b->used % 8) TRY(buffer_text(b, " "));
  length = b->used - 8;
  memcpy(b->data, &length, 8);
  return OK;
}

/* In the order of the file; names must differ, also from the one that the format keeps for itself. */
static Status lay_out(int count, const SafeItem **order) {
  if (count == 0) return OK;
  qsort(order, (size_t)count, sizeof *order, by_name);
  for (int i = 0; i < count; i++) {
    if (i && strcmp(order[i]->name, order[i - 1]->name) == 0) return fail(ERR_ARGUMENT, "save: two tensors named '%s'", order[i]->name);
    if (strcmp(order[i]->name, "__metadata__") == 0) return fail(ERR_ARGUMENT, "save: a tensor must not be named '__metadata__'");
  }
  qsort(order, (size_t)count, sizeof *order, by_layout);
  return OK;
}

static Status write_file(const char *path, const Buffer *header, int count, const SafeItem **order) {
  FileWriter w;
  TRY(file_create(&w, path));
  if (file_write(&w, header->data, header->used) != OK) return file_abort(&w);
  for (int i = 0; i < count; i++) {
    if (file_write(&w, order[i]->data, item_bytes(order[i])) != OK) return file_abort(&w);
  }
  return file_commit(&w);
}

Status safetensors_write(const char *path, int count, const SafeItem *items, int pairs, const SafePair *metadata) {
  const SafeItem **order = mem_alloc((size_t)count * sizeof *order);
  SafePair *sorted = mem_alloc((size_t)pairs * sizeof *sorted);
  Buffer header = {0};
  Status s = order && sorted ? OK : error_code();
  if (s == OK) {
    for (int i = 0; i < count; i++) order[i] = &items[i];
    if (pairs) memcpy(sorted, metadata, (size_t)pairs * sizeof *sorted);
    s = lay_out(count, order);
    if (s == OK) s = make_header(&header, count, order, pairs, sorted);
  }
  if (s == OK) s = write_file(path, &header, count, order);
  buffer_free(&header);
  mem_free(order);
  mem_free(sorted);
  return s;
}

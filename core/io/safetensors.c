/* safetensors.c - the reader: header, checks, shards. */
#include "io/safetensors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"

enum { HEADER_LIMIT = 100 * 1000 * 1000 }; /* as the reference implementation */

typedef struct SafeFiles {
  Arena arena; /* names, entries, pairs */
  int maps;
  FileMap *map;
} SafeFiles;

static int by_name(const void *a, const void *b) { return strcmp(((const SafeEntry *)a)->name, ((const SafeEntry *)b)->name); }
static int by_key(const void *a, const void *b) { return strcmp(((const SafePair *)a)->key, ((const SafePair *)b)->key); }

static int by_offset(const void *a, const void *b) {
  const SafeEntry *x = *(SafeEntry *const *)a, *y = *(SafeEntry *const *)b;
  if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
  if (x->end != y->end) return x->end < y->end ? -1 : 1;
  return strcmp(x->name, y->name);
}

static Status new_file(SafeTensors **out) {
  SafeTensors *f = mem_calloc(1, sizeof *f);
  SafeFiles *files = f ? mem_calloc(1, sizeof *files) : NULL;
  if (!files) {
    mem_free(f);
    return error_code();
  }
  f->files = files;
  *out = f;
  return OK;
}

void safetensors_close(SafeTensors *f) {
  if (!f) return;
  for (int i = 0; i < f->files->maps; i++) file_unmap(&f->files->map[i]);
  mem_free(f->files->map);
  arena_free(&f->files->arena);
  mem_free(f->files);
  mem_free(f);
}

static Status bad(const SafeEntry *e, const char *reason) {
  return fail(ERR_FORMAT, "'%s': tensor '%s': %s", e->file, e->name, reason);
}

static Status read_shape(SafeEntry *e, const json_t *shape) {
  if (!json_is_array(shape)) return bad(e, "no shape");
  if (json_array_size(shape) > MAX_DIMS)
    return fail(ERR_UNSUPPORTED, "'%s': tensor '%s' has %zu axes, at most %d are supported", e->file, e->name, json_array_size(shape), MAX_DIMS);
  e->ndim = (int)json_array_size(shape);
  e->numel = 1;
  for (int i = 0; i < e->ndim; i++) {
    const json_t *n = json_array_get(shape, (size_t)i);
    if (!json_is_integer(n) || json_integer_value(n) < 0) return bad(e, "the shape holds something other than whole numbers >= 0");
    e->shape[i] = json_integer_value(n);
    if (__builtin_mul_overflow(e->numel, e->shape[i], &e->numel)) return bad(e, "the shape is too large");
  }
  return OK;
}

static Status read_offsets(SafeEntry *e, const json_t *offsets, uint64_t room) {
  const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
  if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end)) return bad(e, "data_offsets must be two whole numbers");
  int64_t b = json_integer_value(begin), n = json_integer_value(end);
  uint64_t bytes;
  if (b < 0 || n < b)
    return fail(ERR_FORMAT, "'%s': tensor '%s': data_offsets %lld, %lld are not a range", e->file, e->name, (long long)b, (long long)n);
  if ((uint64_t)n > room)
    return fail(ERR_FORMAT, "'%s': tensor '%s' ends at byte %lld, but the file has only %llu bytes of data (is it cut off?)", e->file, e->name,
                (long long)n, (unsigned long long)room);
  if (!element_size(e->type, e->numel, &bytes) || bytes != (uint64_t)(n - b))
    return fail(ERR_FORMAT, "'%s': tensor '%s': %lld elements of %s do not take the %lld bytes of its data_offsets", e->file, e->name,
                (long long)e->numel, element_name(e->type), (long long)(n - b));
  e->begin = (uint64_t)b;
  e->end = (uint64_t)n;
  return OK;
}

static Status read_entry(SafeEntry *e, json_t *info, const uint8_t *data, uint64_t room) {
  if (!json_is_object(info)) return bad(e, "its entry is not an object");
  const char *type = json_string_value(json_object_get(info, "dtype"));
  if (!type) return bad(e, "no dtype");
  if (!element_parse(type, &e->type)) return fail(ERR_UNSUPPORTED, "'%s': tensor '%s': unknown dtype '%s'", e->file, e->name, type);
  TRY(read_shape(e, json_object_get(info, "shape")));
  TRY(read_offsets(e, json_object_get(info, "data_offsets"), room));
  e->data = data + e->begin;
  return OK;
}

/* Sorted by offset, each tensor must begin where the one before it ended, the last at the file's end. */
static Status check_layout(const SafeTensors *f, uint64_t room, const char *name) {
  SafeEntry **order = mem_alloc((size_t)f->count * sizeof *order);
  if (!order) return error_code();
  for (int i = 0; i < f->count; i++) order[i] = &f->entries[i];
  if (f->count) qsort(order, (size_t)f->count, sizeof *order, by_offset);
  uint64_t at = 0;
  Status s = OK;
  for (int i = 0; i < f->count && s == OK; i++) {
    if (order[i]->begin < at) s = fail(ERR_FORMAT, "'%s': tensors '%s' and '%s' overlap", name, order[i - 1]->name, order[i]->name);
    else if (order[i]->begin > at)
      s = fail(ERR_FORMAT, "'%s': a hole of %llu bytes in front of tensor '%s'", name, (unsigned long long)(order[i]->begin - at), order[i]->name);
    at = order[i]->end;
  }
  if (s == OK && at != room) s = fail(ERR_FORMAT, "'%s': %llu bytes behind the last tensor", name, (unsigned long long)(room - at));
  mem_free(order);
  return s;
}

static Status read_metadata(SafeTensors *f, json_t *object, const char *name) {
  if (!json_is_object(object)) return fail(ERR_FORMAT, "'%s': __metadata__ is not an object", name);
  f->metadata = arena_calloc(&f->files->arena, json_object_size(object), sizeof *f->metadata);
  if (!f->metadata) return error_code();
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    if (!json_is_string(value)) return fail(ERR_FORMAT, "'%s': __metadata__: '%s' is not a string", name, key);
    SafePair *p = &f->metadata[f->pairs++];
    p->key = arena_copy(&f->files->arena, key, strlen(key));
    p->value = arena_copy(&f->files->arena, json_string_value(value), json_string_length(value));
    if (!p->key || !p->value) return error_code();
  }
  qsort(f->metadata, (size_t)f->pairs, sizeof *f->metadata, by_key);
  return OK;
}

static Status read_entries(SafeTensors *f, json_t *header, const char *name, const uint8_t *data, uint64_t room) {
  Arena *arena = &f->files->arena;
  const char *file = arena_copy(arena, name, strlen(name));
  f->entries = arena_calloc(arena, json_object_size(header), sizeof *f->entries);
  if (!file || !f->entries) return error_code();
  const char *key;
  json_t *value;
  json_object_foreach(header, key, value) {
    if (strcmp(key, "__metadata__") == 0) {
      TRY(read_metadata(f, value, name));
      continue;
    }
    SafeEntry *e = &f->entries[f->count++];
    *e = (SafeEntry){.file = file, .name = arena_copy(arena, key, strlen(key))};
    if (!e->name) return error_code();
    TRY(read_entry(e, value, data, room));
  }
  TRY(check_layout(f, room, name));
  qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
  return OK;
}

static Status parse_into(SafeTensors *f, const uint8_t *data, size_t bytes, const char *name) {
  if (bytes < 8) return fail(ERR_FORMAT, "'%s': no safetensors file: %zu bytes are too few for a header", name, bytes);
  uint64_t n;
  memcpy(&n, data, 8);
  if (n > HEADER_LIMIT)
    return fail(ERR_FORMAT, "'%s': no safetensors file: it claims a header of %llu bytes (at most %d)", name, (unsigned long long)n, HEADER_LIMIT);
  if (n > bytes - 8) return fail(ERR_FORMAT, "'%s': cut off: a header of %llu bytes in a file of %zu", name, (unsigned long long)n, bytes);
  if (n < 2 || data[8] != '{') return fail(ERR_FORMAT, "'%s': no safetensors file: the header does not begin with '{'", name);
  char label[512];
  snprintf(label, sizeof label, "'%s' (header)", name);
  JsonDoc header;
  TRY(jsondoc_parse(&header, (const char *)data + 8, (size_t)n, label, 0));
  Status s = json_is_object(header.root) ? read_entries(f, header.root, name, data + 8 + n, bytes - 8 - n)
                                         : fail(ERR_FORMAT, "'%s': the header is not a JSON object", name);
  jsondoc_free(&header);
  return s;
}

Status safetensors_parse(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out) {
  *out = NULL;
  SafeTensors *f;
  TRY(new_file(&f));
  Status s = parse_into(f, data, bytes, name);
  if (s != OK) safetensors_close(f);
  else *out = f;
  return s;
}

const SafeEntry *safetensors_find(const SafeTensors *f, const char *name) {
  SafeEntry key = {.name = name};
  return f->count ? bsearch(&key, f->entries, (size_t)f->count, sizeof key, by_name) : NULL;
}

static Status copy_pairs(SafeTensors *f, int pairs, const SafePair *from) {
  f->metadata = arena_calloc(&f->files->arena, (size_t)pairs, sizeof *f->metadata);
  if (!f->metadata) return error_code();
  for (; f->pairs < pairs; f->pairs++) {
    SafePair *to = &f->metadata[f->pairs];
    to->key = arena_copy(&f->files->arena, from[f->pairs].key, strlen(from[f->pairs].key));
    to->value = arena_copy(&f->files->arena, from[f->pairs].value, strlen(from[f->pairs].value));
    if (!to->key || !to->value) return error_code();
  }
  if (pairs) qsort(f->metadata, (size_t)pairs, sizeof *f->metadata, by_key);
  return OK;
}

static Status add_copy(SafeTensors *f, const SafeEntry *e) {
  SafeEntry *mine = &f->entries[f->count++];
  *mine = *e;
  mine->name = arena_copy(&f->files->arena, e->name, strlen(e->name));
  mine->file = arena_copy(&f->files->arena, e->file, strlen(e->file));
  return mine->name && mine->file ? OK : error_code();
}

static Status copy_entries(SafeTensors *f, int count, const SafeEntry *entries) {
  f->entries = arena_calloc(&f->files->arena, (size_t)count, sizeof *f->entries);
  if (!f->entries) return error_code();
  for (int i = 0; i < count; i++) TRY(add_copy(f, &entries[i]));
  if (count) qsort(f->entries, (size_t)count, sizeof *f->entries, by_name);
  for (int i = 1; i < count; i++)
    if (strcmp(f->entries[i].name, f->entries[i - 1].name) == 0)
      return fail(ERR_FORMAT, "'%s': two tensors named '%s'", f->entries[i].file, f->entries[i].name);
  return OK;
}

Status safetensors_gather(int count, const SafeEntry *entries, int pairs, const SafePair *metadata, SafeTensors **out) {
  *out = NULL;
  SafeTensors *f;
  TRY(new_file(&f));
  Status s = copy_entries(f, count, entries);
  if (s == OK) s = copy_pairs(f, pairs, metadata);
  if (s != OK) safetensors_close(f);
  else *out = f;
  return s;
}

typedef Status (*Parser)(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out);

static bool ends_with(const char *path, const char *end) {
  size_t n = strlen(path), m = strlen(end);
  return n > m && strcmp(path + n - m, end) == 0;
}

static Status open_single(const char *path, SafeTensors **out) {
  Parser parse = ends_with(path, ".gguf") ? gguf_parse : ends_with(path, ".bin") ? llama2c_parse : safetensors_parse;
  FileMap map;
  TRY(file_map(&map, path));
  SafeTensors *f;
  Status s = parse(map.data, map.bytes, path, &f);
  if (s == OK && !(f->files->map = mem_alloc(sizeof map))) {
    s = error_code();
    safetensors_close(f);
  }
  if (s != OK) {
    file_unmap(&map);
    return s;
  }
  f->files->map[f->files->maps++] = map;
  *out = f;
  return OK;
}

/* --- shards: model.safetensors.index.json names the file of each tensor --- */

typedef struct Shards {
  const char *index; /* path of the index */
  int folder;        /* bytes of it in front of the file name */
  int count;
  const char **name;
  SafeTensors **open;
} Shards;

static Status open_shard(Shards *s, const char *file, SafeTensors **out) {
  for (int i = 0; i < s->count; i++) {
    if (strcmp(s->name[i], file) == 0) return *out = s->open[i], OK;
  }
  if (strchr(file, '/') || file[0] == '\0') return fail(ERR_FORMAT, "'%s': shard '%s' must be a file name without a folder", s->index, file);
  char path[4096];
  if (snprintf(path, sizeof path, "%.*s%s", s->folder, s->index, file) >= (int)sizeof path)
    return fail(ERR_ARGUMENT, "'%s': path too long", s->index);
  s->name[s->count] = file;
  TRY(open_single(path, &s->open[s->count]));
  *out = s->open[s->count++];
  return OK;
}

static Status pick_entry(SafeTensors *f, Shards *shards, const char *name, const json_t *file) {
  if (!json_is_string(file)) return fail(ERR_FORMAT, "'%s': weight_map: the file of '%s' is not a string", shards->index, name);
  SafeTensors *shard;
  TRY(open_shard(shards, json_string_value(file), &shard));
  const SafeEntry *e = safetensors_find(shard, name);
  if (!e) return fail(ERR_FORMAT, "'%s': tensor '%s' is not in '%s'", shards->index, name, json_string_value(file));
  return add_copy(f, e);
}

/* The maps of the shards become the whole's; their metadata is the first shard's. */
static Status adopt(SafeTensors *f, Shards *shards) {
  f->files->map = mem_alloc((size_t)shards->count * sizeof(FileMap));
  if (!f->files->map) return error_code();
  if (shards->count) TRY(copy_pairs(f, shards->open[0]->pairs, shards->open[0]->metadata));
  for (int i = 0; i < shards->count; i++) {
    SafeFiles *theirs = shards->open[i]->files;
    f->files->map[f->files->maps++] = theirs->map[0];
    theirs->maps = 0;
  }
  return OK;
}

static Status read_index(SafeTensors *f, Shards *shards, json_t *root) {
  json_t *map = json_object_get(root, "weight_map");
  size_t n = json_object_size(map);
  if (!json_is_object(map)) return fail(ERR_FORMAT, "'%s': no weight_map", shards->index);
  f->entries = arena_calloc(&f->files->arena, n, sizeof *f->entries);
  shards->name = arena_calloc(&f->files->arena, n, sizeof *shards->name);
  shards->open = arena_calloc(&f->files->arena, n, sizeof *shards->open);
  if (!f->entries || !shards->name || !shards->open) return error_code();
  const char *name;
  json_t *file;
  json_object_foreach(map, name, file) TRY(pick_entry(f, shards, name, file));
  qsort(f->entries, (size_t)f->count, sizeof *f->entries, by_name);
  return adopt(f, shards);
}

static Status open_index(const char *path, SafeTensors **out) {
  const char *slash = strrchr(path, '/');
  Shards shards = {.index = path, .folder = slash ? (int)(slash - path) + 1 : 0};
  JsonDoc index;
  TRY(jsondoc_read(&index, path, 0));
  SafeTensors *f;
  Status s = new_file(&f);
  if (s == OK) {
    s = read_index(f, &shards, index.root);
    for (int i = 0; i < shards.count; i++) safetensors_close(shards.open[i]);
    if (s != OK) safetensors_close(f);
    else *out = f;
  }
  jsondoc_free(&index);
  return s;
}

static bool exists(const char *path) {
  struct stat st;
  return stat(path, &st) == 0;
}

Status safetensors_open(const char *path, SafeTensors **out) {
  *out = NULL;
  struct stat st;
  if (ends_with(path, ".json")) return open_index(path, out);
  if (stat(path, &st) != 0 || !S_ISDIR(st.st_mode)) return open_single(path, out);
  char whole[4096], index[4096];
  if (snprintf(whole, sizeof whole, "%s/model.safetensors", path) >= (int)sizeof whole ||
      snprintf(index, sizeof index, "%s/model.safetensors.index.json", path) >= (int)sizeof index)
    return fail(ERR_ARGUMENT, "'%s': path too long", path);
  if (exists(whole)) return open_single(whole, out);
  if (exists(index)) return open_index(index, out);
  return fail(ERR_IO, "'%s': no model.safetensors and no model.safetensors.index.json in this folder", path);
}

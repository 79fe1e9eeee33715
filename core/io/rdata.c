/* rdata.c - R's serialization ("R Internals", section 1.8), as far as data sets use it.
 *
 * Everything is big-endian. An item is a word of flags (type in the low byte, bit 9: attributes follow,
 * bit 10: a tag precedes) and then what the type asks for. Counts are checked against the bytes that are
 * left, nesting against a limit, so that a damaged file costs an error and no more. */
#include "io/rdata.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "io/inflate.h"

enum { /* types of items */
  R_SYMBOL = 1, R_PAIRLIST = 2, R_CHARS = 9, R_LOGICAL = 10, R_INTEGER = 13, R_REAL = 14, R_STRINGS = 16, R_LIST = 19,
  R_GLOBAL = 253, R_NIL = 254, R_REFERENCE = 255
};
enum { HAS_ATTRIBUTES = 512, HAS_TAG = 1024, DEEPEST = 32, NA_STRING = -1 };

typedef struct Item {
  int type;
  int64_t count;             /* elements, bytes of R_CHARS, pairs of R_PAIRLIST */
  const char *chars;         /* R_CHARS, R_SYMBOL: zero-terminated; NULL for NA */
  const uint8_t *words;      /* R_INTEGER, R_LOGICAL, R_REAL: big-endian, in the file */
  struct Item **items;       /* R_STRINGS, R_LIST, values of R_PAIRLIST */
  const char **tags;         /* names of the values of R_PAIRLIST (may be NULL each) */
  struct Item *attributes;   /* an R_PAIRLIST or NULL */
} Item;

typedef struct Reader {
  const uint8_t *p, *end;
  const char *name; /* for errors */
  Arena *arena;
  Item **symbols;   /* what references point to */
  int64_t symbol_count, symbol_room;
} Reader;

static Status damaged(const Reader *r, const char *what) { return fail(ERR_FORMAT, "%s: no R data that can be read: %s", r->name, what); }

static uint32_t word_at(const uint8_t *p) { return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]; }

static Status read_word(Reader *r, int32_t *out) {
  if (r->end - r->p < 4) return damaged(r, "it ends too early");
  *out = (int32_t)word_at(r->p);
  r->p += 4;
  return OK;
}

/* A count of things that take at least `each` bytes. */
static Status read_count(Reader *r, int64_t each, int64_t *out) {
  int32_t n = 0;
  TRY(read_word(r, &n));
  if (n < 0 || n * each > r->end - r->p) return damaged(r, "a length is beyond its end");
  *out = n;
  return OK;
}

static Status read_item(Reader *r, int depth, Item **out);

static Status remember_symbol(Reader *r, Item *symbol) {
  if (r->symbol_count == r->symbol_room) {
    int64_t room = r->symbol_room ? 2 * r->symbol_room : 16;
    Item **grown = arena_calloc(r->arena, (size_t)room, sizeof *grown);
    if (!grown) return error_code();
    if (r->symbol_count) memcpy(grown, r->symbols, (size_t)r->symbol_count * sizeof *grown);
    r->symbols = grown;
    r->symbol_room = room;
  }
  r->symbols[r->symbol_count++] = symbol;
  return OK;
}

static Status read_symbol(Reader *r, int depth, Item *it) {
  Item *name;
  TRY(read_item(r, depth + 1, &name));
  if (name->type != R_CHARS) return damaged(r, "a symbol without a name");
  it->chars = name->chars;
  return remember_symbol(r, it);
}

static Status read_reference(Reader *r, int32_t flags, Item **out) {
  int32_t index = (int32_t)((uint32_t)flags >> 8);
  if (index == 0) TRY(read_word(r, &index));
  if (index < 1 || index > r->symbol_count) return damaged(r, "a reference to nothing");
  *out = r->symbols[index - 1];
  return OK;
}

static Status read_chars(Reader *r, Item *it) {
  int32_t n = 0;
  TRY(read_word(r, &n));
  if (n == NA_STRING) return OK;
  if (n < 0 || n > r->end - r->p) return damaged(r, "a string beyond its end");
  it->chars = arena_copy(r->arena, r->p, (size_t)n);
  if (!it->chars) return error_code();
  it->count = n;
  r->p += n;
  return OK;
}

static Status read_numbers(Reader *r, Item *it, int bytes) {
  TRY(read_count(r, bytes, &it->count));
  it->words = r->p;
  r->p += it->count * bytes;
  return OK;
}

static Status read_items(Reader *r, int depth, Item *it) {
  TRY(read_count(r, 4, &it->count));
  it->items = arena_calloc(r->arena, (size_t)it->count, sizeof *it->items);
  if (!it->items) return error_code();
  for (int64_t i = 0; i < it->count; i++) TRY(read_item(r, depth + 1, &it->items[i]));
  return OK;
}

/* A pair is (attributes, tag, value) and then the rest of the list, which begins with its own flags. */
static Status read_pairs(Reader *r, int depth, int32_t flags, Item *it) {
  int64_t room = 0;
  Item *ignored, *tag;
  while ((flags & 255) == R_PAIRLIST) {
    if (it->count == room) {
      room = room ? 2 * room : 4;
      Item **items = arena_calloc(r->arena, (size_t)room, sizeof *items);
      const char **tags = arena_calloc(r->arena, (size_t)room, sizeof *tags);
      if (!items || !tags) return error_code();
      if (it->count) memcpy(items, it->items, (size_t)it->count * sizeof *items), memcpy(tags, it->tags, (size_t)it->count * sizeof *tags);
      it->items = items, it->tags = tags;
    }
    if (flags & HAS_ATTRIBUTES) TRY(read_item(r, depth + 1, &ignored));
    if (flags & HAS_TAG) {
      TRY(read_item(r, depth + 1, &tag));
      it->tags[it->count] = tag->chars;
    }
    TRY(read_item(r, depth + 1, &it->items[it->count++]));
    TRY(read_word(r, &flags));
  }
  return (flags & 255) == R_NIL ? OK : damaged(r, "a list without an end");
}

static Status read_item(Reader *r, int depth, Item **out) {
  int32_t flags;
  if (depth > DEEPEST) return damaged(r, "it is nested too deep");
  TRY(read_word(r, &flags));
  Item *it = *out = arena_calloc(r->arena, 1, sizeof *it);
  if (!it) return error_code();
  it->type = flags & 255;
  switch (it->type) {
    case R_NIL: case R_GLOBAL: return OK;
    case R_REFERENCE: return read_reference(r, flags, out);
    case R_SYMBOL: return read_symbol(r, depth, it);
    case R_PAIRLIST: return read_pairs(r, depth, flags, it);
    case R_CHARS: TRY(read_chars(r, it)); break;
    case R_LOGICAL: case R_INTEGER: TRY(read_numbers(r, it, 4)); break;
    case R_REAL: TRY(read_numbers(r, it, 8)); break;
    case R_STRINGS: case R_LIST: TRY(read_items(r, depth, it)); break;
    default: return fail(ERR_UNSUPPORTED, "%s: an R object of type %d, which is not read here", r->name, it->type);
  }
  return flags & HAS_ATTRIBUTES ? read_item(r, depth + 1, &it->attributes) : OK;
}

/* "X\n", version, two R versions, and from version 3 on the native encoding. */
static Status read_serialized(Reader *r, Item **out) {
  int32_t version, ignored;
  int64_t n;
  if (r->end - r->p < 2 || memcmp(r->p, "X\n", 2) != 0) return damaged(r, "no serialization in XDR format");
  r->p += 2;
  TRY(read_word(r, &version));
  TRY(read_word(r, &ignored));
  TRY(read_word(r, &ignored));
  if (version != 2 && version != 3) return damaged(r, "an unknown version of the format");
  if (version == 3) {
    TRY(read_count(r, 1, &n));
    r->p += n;
  }
  return read_item(r, 0, out);
}

static Reader reader(const void *data, size_t bytes, const char *name, Arena *arena) {
  return (Reader){.p = data, .end = (const uint8_t *)data + bytes, .name = name, .arena = arena};
}

static Item *attribute(const Item *it, const char *name) {
  for (int64_t i = 0; it->attributes && it->attributes->type == R_PAIRLIST && i < it->attributes->count; i++)
    if (it->attributes->tags[i] && strcmp(it->attributes->tags[i], name) == 0) return it->attributes->items[i];
  return NULL;
}

static Status join(RData *d, const char *name, const Item *strings) {
  size_t bytes = 0;
  for (int64_t i = 0; i < strings->count; i++) bytes += (size_t)strings->items[i]->count + 1;
  char *text = arena_alloc(&d->arena, bytes + 1), *at = text;
  if (!text) return error_code();
  for (int64_t i = 0; i < strings->count; i++) {
    const Item *line = strings->items[i];
    if (line->chars) memcpy(at, line->chars, (size_t)line->count);
    at += line->count;
    *at++ = '\n';
  }
  *at = '\0';
  d->item[d->count++] = (RText){.name = name, .text = text, .bytes = bytes};
  return OK;
}

static bool is_text(const Item *it) {
  if (it->type != R_STRINGS) return false;
  for (int64_t i = 0; i < it->count; i++)
    if (it->items[i]->type != R_CHARS) return false;
  return true;
}

/* One object of the database: 4 bytes with its unpacked length, then a zlib stream. */
static Status read_object(RData *d, const char *name, const uint8_t *object, int64_t bytes, const char *label) {
  if (bytes < 4) return fail(ERR_FORMAT, "%s: an object of %lld bytes", label, (long long)bytes);
  Buffer unpacked = {0};
  Item *it;
  Status s = inflate_all(&unpacked, object + 4, (size_t)bytes - 4, label);
  if (s == OK) {
    Reader r = reader(unpacked.data, unpacked.used, label, &d->arena);
    s = read_serialized(&r, &it);
    if (s == OK && is_text(it)) s = join(d, name, it);
  }
  buffer_free(&unpacked);
  return s;
}

/* The index is list(variables = list(name = c(offset, bytes), ...), ...). */
static Status read_pair(RData *d, const Item *index, const uint8_t *rdb, size_t bytes, const char *name) {
  const Item *names = attribute(index, "names"), *variables = NULL;
  for (int64_t i = 0; index->type == R_LIST && names && is_text(names) && i < names->count && i < index->count; i++)
    if (names->items[i]->chars && strcmp(names->items[i]->chars, "variables") == 0) variables = index->items[i];
  const Item *keys = variables && variables->type == R_LIST ? attribute(variables, "names") : NULL;
  if (!keys || !is_text(keys) || keys->count != variables->count) return fail(ERR_FORMAT, "%s.rdx: no list of variables", name);
  d->item = arena_calloc(&d->arena, (size_t)keys->count, sizeof *d->item);
  if (!d->item) return error_code();
  for (int64_t i = 0; i < keys->count; i++) {
    const Item *place = variables->items[i];
    const char *key = keys->items[i]->chars ? keys->items[i]->chars : "NA";
    char label[512];
    snprintf(label, sizeof label, "%s.rdb: '%s'", name, key);
    if (place->type != R_INTEGER || place->count != 2) return fail(ERR_FORMAT, "%s: the index does not say where it is", label);
    int32_t offset = (int32_t)word_at(place->words), length = (int32_t)word_at(place->words + 4);
    if (offset < 0 || length < 0 || (uint64_t)offset + (uint64_t)length > bytes) return fail(ERR_FORMAT, "%s: lies beyond the end of the file", label);
    TRY(read_object(d, key, rdb + offset, length, label));
  }
  return OK;
}

Status rdata_parse_pair(const void *rdx, size_t rdx_bytes, const void *rdb, size_t rdb_bytes, const char *name, RData *out) {
  *out = (RData){0};
  Buffer unpacked = {0};
  Item *index;
  char label[512];
  snprintf(label, sizeof label, "%s.rdx", name);
  Status s = inflate_all(&unpacked, rdx, rdx_bytes, label);
  if (s == OK) {
    Reader r = reader(unpacked.data, unpacked.used, label, &out->arena);
    s = read_serialized(&r, &index);
    if (s == OK) s = read_pair(out, index, rdb, rdb_bytes, name); /* the index's numbers lie in the buffer */
  }
  buffer_free(&unpacked);
  if (s != OK) rdata_free(out);
  return s;
}

/* A .rda file: "RDX2\n" or "RDX3\n", then a pairlist of the objects. */
static Status read_file(RData *d, const char *data, size_t bytes, const char *name) {
  Reader r = reader(data, bytes, name, &d->arena);
  Item *list;
  if (bytes < 5 || memcmp(data, "RDX", 3) != 0 || data[4] != '\n')
    return fail(ERR_FORMAT, "%s: no .rda file (unpack it first if it is compressed with bzip2 or xz)", name);
  r.p += 5;
  TRY(read_serialized(&r, &list));
  if (list->type != R_PAIRLIST) return damaged(&r, "no list of objects");
  d->item = arena_calloc(&d->arena, (size_t)list->count, sizeof *d->item);
  if (!d->item) return error_code();
  for (int64_t i = 0; i < list->count; i++)
    if (is_text(list->items[i])) TRY(join(d, list->tags[i] ? list->tags[i] : "NA", list->items[i]));
  return OK;
}

Status rdata_parse_file(const void *rda, size_t bytes, const char *name, RData *out) {
  *out = (RData){0};
  Buffer unpacked = {0};
  bool packed = bytes > 2 && memcmp(rda, "\x1f\x8b", 2) == 0;
  Status s = packed ? inflate_all(&unpacked, rda, bytes, name) : OK;
  if (s == OK) s = packed ? read_file(out, unpacked.data, unpacked.used, name) : read_file(out, rda, bytes, name);
  buffer_free(&unpacked);
  if (s != OK) rdata_free(out);
  return s;
}

static Status map_pair(const char *path, RData *out) {
  char name[4096];
  FileMap rdx, rdb;
  if (snprintf(name, sizeof name, "%s.rdx", path) >= (int)sizeof name) return fail(ERR_ARGUMENT, "'%s': path too long", path);
  TRY(file_map(&rdx, name));
  snprintf(name, sizeof name, "%s.rdb", path);
  Status s = file_map(&rdb, name);
  if (s == OK) {
    s = rdata_parse_pair(rdx.data, rdx.bytes, rdb.data, rdb.bytes, path, out);
    file_unmap(&rdb);
  }
  file_unmap(&rdx);
  return s;
}

Status rdata_read(const char *path, RData *out) {
  *out = (RData){0};
  size_t n = strlen(path);
  if (n < 4 || strcmp(path + n - 4, ".rda") != 0) return map_pair(path, out);
  FileMap m;
  TRY(file_map(&m, path));
  Status s = rdata_parse_file(m.data, m.bytes, path, out);
  file_unmap(&m);
  return s;
}

void rdata_free(RData *d) {
  arena_free(&d->arena);
  d->item = NULL;
  d->count = 0;
}

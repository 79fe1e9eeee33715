/* gguf.c - GGUF files (github.com/ggml-org/ggml, docs/gguf.md), versions 2 and 3: keys with typed values, the tensors'
 * names, sizes, types and places, then aligned data.
 *
 * Values are shown as text: numbers in decimal, arrays as JSON. Sizes there are listed fastest first, so
 * shapes are reversed. Every length is checked against what is left of the file. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "io/json.h"
#include "io/safetensors.h"

enum { V_U8, V_I8, V_U16, V_I16, V_U32, V_I32, V_F32, V_BOOL, V_STRING, V_ARRAY, V_U64, V_I64, V_F64, VALUE_TYPES };
static const uint8_t value_bytes[VALUE_TYPES] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

typedef struct Cursor {
  const uint8_t *start, *p, *end;
  const char *name;
  Arena arena;
  Buffer text; /* scratch */
} Cursor;

static Status damaged(const Cursor *c, const char *what) { return fail(ERR_FORMAT, "'%s': no GGUF file that can be read: %s", c->name, what); }

static Status take(Cursor *c, void *out, size_t bytes) {
  if ((size_t)(c->end - c->p) < bytes) return damaged(c, "it is cut off");
  memcpy(out, c->p, bytes);
  c->p += bytes;
  return OK;
}

static Status take_string(Cursor *c, const char **out, size_t *bytes) {
  uint64_t n = 0;
  TRY(take(c, &n, 8));
  if (n > (uint64_t)(c->end - c->p)) return damaged(c, "a string is longer than the file");
  *out = (const char *)c->p;
  *bytes = (size_t)n;
  c->p += n;
  return OK;
}

static Status keep_string(Cursor *c, const char **out) {
  const char *text;
  size_t bytes;
  TRY(take_string(c, &text, &bytes));
  *out = arena_copy(&c->arena, text, bytes);
  if (!*out) return error_code();
  return strlen(*out) == bytes ? OK : damaged(c, "a name with a zero byte");
}

/* One number as text. */
static Status add_number(Cursor *c, uint32_t type) {
  uint64_t bits = 0;
  double d;
  float f;
  TRY(take(c, &bits, value_bytes[type]));
  switch (type) {
    case V_I8: return buffer_print(&c->text, "%d", (int8_t)bits);
    case V_I16: return buffer_print(&c->text, "%d", (int16_t)bits);
    case V_I32: return buffer_print(&c->text, "%d", (int32_t)bits);
    case V_I64: return buffer_print(&c->text, "%lld", (long long)bits);
    case V_BOOL: return buffer_text(&c->text, bits ? "true" : "false");
    case V_F32: return memcpy(&f, &bits, 4), buffer_print(&c->text, "%.9g", (double)f);
    case V_F64: return memcpy(&d, &bits, 8), buffer_print(&c->text, "%.17g", d);
    default: return buffer_print(&c->text, "%llu", (unsigned long long)bits);
  }
}

static Status add_array(Cursor *c) {
  uint32_t type = 0;
  uint64_t n = 0;
  const char *text;
  size_t bytes;
  TRY(take(c, &type, 4));
  TRY(take(c, &n, 8));
  if (type >= VALUE_TYPES || type == V_ARRAY) return damaged(c, "an array of an unknown type");
  if (n > (uint64_t)(c->end - c->p)) return damaged(c, "an array is longer than the file");
  TRY(buffer_text(&c->text, "["));
  for (uint64_t i = 0; i < n; i++) {
    if (i) TRY(buffer_text(&c->text, ","));
    if (type == V_STRING) {
      TRY(take_string(c, &text, &bytes));
      TRY(json_quote(&c->text, text, bytes));
    } else {
      TRY(add_number(c, type));
    }
  }
  return buffer_text(&c->text, "]");
}

static Status read_pair(Cursor *c, SafePair *pair) {
  uint32_t type = 0;
  const char *text;
  size_t bytes;
  c->text.used = 0;
  TRY(keep_string(c, &pair->key));
  TRY(take(c, &type, 4));
  if (type >= VALUE_TYPES) return damaged(c, "a value of an unknown type");
  if (type == V_STRING) {
    TRY(take_string(c, &text, &bytes));
    TRY(buffer_add(&c->text, text, bytes));
  } else {
    TRY(type == V_ARRAY ? add_array(c) : add_number(c, type));
  }
  pair->value = arena_copy(&c->arena, c->text.used ? c->text.data : "", c->text.used);
  return pair->value ? OK : error_code();
}

static Status element_of(const Cursor *c, uint32_t type, const char *tensor, Element *out) {
  static const struct { uint32_t number; Element element; } known[] = {
    {0, E_F32}, {1, E_F16}, {2, E_Q4_0}, {8, E_Q8_0}, {12, E_Q4_K}, {14, E_Q6_K},
    {24, E_I8}, {25, E_I16}, {26, E_I32}, {27, E_I64}, {28, E_F64}, {30, E_BF16}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i].number == type) return *out = known[i].element, OK;
  return fail(ERR_UNSUPPORTED, "'%s': tensor '%s' has ggml's type %u; read are F32, F16, BF16, F64, integers, Q8_0, Q4_0, Q4_K and Q6_K", c->name,
              tensor, type);
}

/* The place is still from the start of the data, which is known only behind the last entry. */
static Status read_entry(Cursor *c, SafeEntry *e) {
  uint32_t axes = 0, type = 0;
  uint64_t size[MAX_DIMS], bytes;
  TRY(keep_string(c, &e->name));
  TRY(take(c, &axes, 4));
  if (axes > 4) return damaged(c, "a tensor of more than 4 axes");
  TRY(take(c, size, 8 * axes));
  TRY(take(c, &type, 4));
  TRY(take(c, &e->begin, 8));
  TRY(element_of(c, type, e->name, &e->type));
  e->file = c->name;
  e->ndim = (int)axes;
  e->numel = 1;
  for (uint32_t i = 0; i < axes; i++) {
    e->shape[i] = (int64_t)size[axes - 1 - i];
    if (size[axes - 1 - i] > INT64_MAX || __builtin_mul_overflow(e->numel, e->shape[i], &e->numel)) return damaged(c, "a tensor is too large");
  }
  bool whole = axes == 0 || e->shape[e->ndim - 1] % element_block(e->type) == 0;
  if (!whole || !element_size(e->type, e->numel, &bytes) || __builtin_add_overflow(e->begin, bytes, &e->end))
    return fail(ERR_FORMAT, "'%s': tensor '%s': its shape does not fit blocks of %s", c->name, e->name, element_name(e->type));
  return OK;
}

static uint64_t alignment_of(const SafePair *pairs, uint64_t count) {
  unsigned value = 32;
  for (uint64_t i = 0; i < count; i++)
    if (strcmp(pairs[i].key, "general.alignment") == 0 && sscanf(pairs[i].value, "%u", &value) != 1) value = 0;
  return value > 0 && value <= 1 << 20 ? value : 0;
}

static Status place(Cursor *c, SafeEntry *entries, uint64_t count, uint64_t alignment) {
  uint64_t start = (uint64_t)(c->p - c->start), room = (uint64_t)(c->end - c->start);
  if (!alignment) return damaged(c, "general.alignment makes no sense");
  start = (start + alignment - 1) / alignment * alignment;
  for (uint64_t i = 0; i < count; i++) {
    if (start > room || entries[i].end > room - start)
      return fail(ERR_FORMAT, "'%s': tensor '%s' ends beyond the file (is it cut off?)", c->name, entries[i].name);
    entries[i].data = c->start + start + entries[i].begin;
  }
  return OK;
}

static Status read_all(Cursor *c, SafeTensors **out) {
  struct { uint32_t magic, version; uint64_t tensors, pairs; } head;
  TRY(take(c, &head, sizeof head));
  if (memcmp(&head.magic, "GGUF", 4) != 0) return damaged(c, "it does not begin with GGUF");
  if (head.version != 2 && head.version != 3) return fail(ERR_UNSUPPORTED, "'%s': GGUF of version %u; 2 and 3 are read", c->name, head.version);
  uint64_t left = (uint64_t)(c->end - c->p); /* a pair takes 12 bytes at least, an entry 24 */
  if (head.pairs > left / 12 || head.tensors > left / 24 || head.pairs > INT32_MAX || head.tensors > INT32_MAX)
    return damaged(c, "more entries than fit its bytes");
  SafePair *pairs = arena_calloc(&c->arena, (size_t)head.pairs, sizeof *pairs);
  SafeEntry *entries = arena_calloc(&c->arena, (size_t)head.tensors, sizeof *entries);
  if (!pairs || !entries) return error_code();
  for (uint64_t i = 0; i < head.pairs; i++) TRY(read_pair(c, &pairs[i]));
  for (uint64_t i = 0; i < head.tensors; i++) TRY(read_entry(c, &entries[i]));
  TRY(place(c, entries, head.tensors, alignment_of(pairs, head.pairs)));
  return safetensors_gather((int)head.tensors, entries, (int)head.pairs, pairs, out);
}

Status gguf_parse(const uint8_t *data, size_t bytes, const char *name, SafeTensors **out) {
  *out = NULL;
  Cursor c = {.start = data, .p = data, .end = data + bytes, .name = name};
  Status s = read_all(&c, out);
  arena_free(&c.arena);
  buffer_free(&c.text);
  return s;
}

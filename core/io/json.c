/* json.c - jansson with an arena under it, and the limits that it does not have. */
#include "io/json.h"

#include "base/file.h"
#include "base/mem.h"
#include "io/utf8.h"

/* jansson takes its allocator from a process-wide pair of functions. They serve the
 * document that this thread parses now; nothing else here calls into jansson in a
 * way that allocates. Freeing is left to the arena. */
static _Thread_local Arena *parsing;

static void *take(size_t bytes) { return parsing ? arena_alloc(parsing, bytes) : NULL; }
static void leave(void *block) { (void)block; }

static int depth(const json_t *v) {
  int most = 0;
  size_t i;
  const char *key;
  json_t *item;
  if (json_is_array(v)) {
    json_array_foreach(v, i, item) {
      int d = depth(item);
      if (d > most) most = d;
    }
  } else if (json_is_object(v)) {
    json_object_foreach((json_t *)(uintptr_t)v, key, item) {
      int d = depth(item);
      if (d > most) most = d;
    }
  } else {
    return 0;
  }
  return most + 1;
}

Status jsondoc_parse(JsonDoc *out, const char *text, size_t bytes, const char *name, int flags) {
  *out = (JsonDoc){0};
  json_error_t e = {.line = -1};
  json_set_alloc_funcs(take, leave);
  error_clear();
  parsing = &out->arena;
  size_t options = JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_ALLOW_NUL;
  out->root = json_loadb(text, bytes, options | (flags & JSONDOC_REALS ? JSON_DECODE_INT_AS_REAL : 0), &e);
  parsing = NULL;
  Status s = OK;
  if (!out->root && error_code() == ERR_MEMORY) s = fail_in("%s", name);
  else if (!out->root) s = fail(ERR_FORMAT, "%s:%d:%d: not JSON: %s", name, e.line, e.column, e.text);
  else if (depth(out->root) > JSON_DEPTH) s = fail(ERR_FORMAT, "%s: JSON nested deeper than %d levels", name, JSON_DEPTH);
  if (s != OK) jsondoc_free(out);
  return s;
}

Status jsondoc_read(JsonDoc *out, const char *path, int flags) {
  *out = (JsonDoc){0};
  char *text;
  size_t bytes;
  TRY(file_read(path, &text, &bytes));
  Status s = jsondoc_parse(out, text, bytes, path, flags);
  mem_free(text);
  return s;
}

void jsondoc_free(JsonDoc *d) {
  arena_free(&d->arena);
  d->root = NULL;
}

static Status quote_ascii(Buffer *b, unsigned char c) {
  static const char names[] = "btn-fr"; /* of 8 to 13; 11 has none */
  if (c == '"' || c == '\\') return buffer_print(b, "\\%c", c);
  if (c >= 8 && c <= 13 && c != 11) return buffer_print(b, "\\%c", names[c - 8]);
  if (c < 0x20 || c == 0x7F) return buffer_print(b, "\\u%04x", c);
  return buffer_add(b, &c, 1);
}

Status json_quote(Buffer *b, const char *text, size_t bytes) {
  Buffer repaired = {0};
  if (utf8_valid(text, bytes) < bytes) {
    if (utf8_repair(&repaired, text, bytes) != OK) {
      buffer_free(&repaired);
      return error_code();
    }
    text = repaired.data, bytes = repaired.used;
  }
  Status s = buffer_text(b, "\"");
  for (size_t i = 0; i < bytes && s == OK; i++) s = quote_ascii(b, (unsigned char)text[i]);
  if (s == OK) s = buffer_text(b, "\"");
  buffer_free(&repaired);
  return s;
}

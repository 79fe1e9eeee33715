/* json.h - JSON text to a tree, strictly (RFC 8259), through jansson.
 *
 * Strict: one value, UTF-8, no duplicate names, at most JSON_DEPTH levels. Errors
 * give the source's name, line and column. The nodes live in one arena, so a
 * document is freed in one go and a vocabulary of 10^5 names costs no 10^5
 * allocations; the tree is read with jansson's own accessors (json_object_get,
 * json_array_get, ...) and must not be changed or json_decref'ed.
 *
 *   JsonDoc d;
 *   TRY(jsondoc_read(&d, "config.json", 0));
 *   json_t *v = json_object_get(d.root, "hidden_size");
 *   ...
 *   jsondoc_free(&d); */
#ifndef quench_json_h
#define quench_json_h

#include <jansson.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/status.h"

enum { JSON_DEPTH = 200 };
/* Numbers all as reals: integers beyond 64 bits are then rounded as a double, not refused. */
enum { JSONDOC_REALS = 1 };

typedef struct JsonDoc {
  json_t *root; /* owned by the arena */
  Arena arena;
} JsonDoc;

/* name is what errors call the text: a file's path, or "JSON text". */
Status jsondoc_parse(JsonDoc *out, const char *text, size_t bytes, const char *name, int flags);
Status jsondoc_read(JsonDoc *out, const char *path, int flags);
void jsondoc_free(JsonDoc *d);

/* Appends text as a JSON string with its quotes; what is not UTF-8 becomes U+FFFD. */
Status json_quote(Buffer *b, const char *text, size_t bytes);

#endif

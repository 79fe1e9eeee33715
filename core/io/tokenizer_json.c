/* tokenizer_json.c - reads a tokenizer.json. Whatever would change the ids and is not known here is an
 * error that names it: a tokenizer that is nearly right is worse than none. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "io/json.h"
#include "io/tokenizer_parts.h"
#include "io/utf8.h"

enum { MOST_IDS = 16 << 20, SPARSEST = 16 /* ids for each token, at most; a few more are always fine */, FEW = 4096 };

static const char *string_of(const json_t *object, const char *key) { return json_string_value(json_object_get(object, key)); }
static bool true_of(const json_t *object, const char *key) { return json_is_true(json_object_get(object, key)); }
static bool absent(const json_t *v) { return !v || json_is_null(v); }

static Status unsupported(const char *part, const char *what) {
  return fail(ERR_UNSUPPORTED, "%s '%s' is not supported", part, what ? what : "(no type)");
}

/* Calls read for an object, or for each of the objects that a Sequence lists under `list`. */
static Status each(Tokenizer *t, const json_t *v, const char *list, Status (*read)(Tokenizer *, const json_t *)) {
  const char *type = string_of(v, "type");
  if (absent(v)) return OK;
  if (!type || strcmp(type, "Sequence") != 0) return read(t, v);
  size_t i;
  json_t *item;
  if (!json_is_array(json_object_get(v, list))) return fail(ERR_FORMAT, "a Sequence without '%s'", list);
  json_array_foreach(json_object_get(v, list), i, item) TRY(each(t, item, list, read));
  return OK;
}

static Status keep(Tokenizer *t, const json_t *string, const char **text, size_t *bytes) {
  if (!json_is_string(string)) return fail(ERR_FORMAT, "a string is missing");
  *bytes = json_string_length(string);
  *text = arena_copy(&t->arena, json_string_value(string), *bytes);
  return *text ? OK : error_code();
}

/* --- normalizer and decoder: rewrites --- */

static Status read_replace(Tokenizer *t, const json_t *v, Rewrite *r) {
  const json_t *from = json_object_get(json_object_get(v, "pattern"), "String");
  if (!from) return unsupported("the pattern of Replace", "Regex");
  r->kind = REPLACE;
  TRY(keep(t, from, &r->from, &r->from_bytes));
  if (r->from_bytes == 0) return fail(ERR_FORMAT, "Replace: nothing to replace");
  return keep(t, json_object_get(v, "content"), &r->to, &r->to_bytes);
}

static Status read_normalizer(Tokenizer *t, const json_t *v) {
  const char *type = string_of(v, "type");
  if (t->rewrites == MAX_REWRITES) return unsupported("a normalizer of", "more than 8 steps");
  Rewrite *r = &t->rewrite[t->rewrites++];
  if (type && strcmp(type, "Replace") == 0) return read_replace(t, v, r);
  r->kind = type && strcmp(type, "NFC") == 0 ? NFC : PREPEND;
  if (r->kind == NFC) return OK;
  if (!type || strcmp(type, "Prepend") != 0) return unsupported("the normalizer", type);
  return keep(t, json_object_get(v, "prepend"), &r->to, &r->to_bytes);
}

static Scheme scheme_of(const json_t *v) {
  const char *scheme = string_of(v, "prepend_scheme");
  if (scheme) return strcmp(scheme, "always") == 0 ? ALWAYS : strcmp(scheme, "first") == 0 ? FIRST : NEVER;
  return json_is_false(json_object_get(v, "add_prefix_space")) ? NEVER : ALWAYS;
}

static Status read_metaspace_decoder(Tokenizer *t, const json_t *v, Rewrite *r) {
  *r = (Rewrite){.kind = REPLACE, .to = " ", .to_bytes = 1};
  t->decode_rewrites++;
  t->drop_first_space = scheme_of(v) != NEVER;
  return keep(t, json_object_get(v, "replacement"), &r->from, &r->from_bytes);
}

static Status read_decoder(Tokenizer *t, const json_t *v) {
  const char *type = string_of(v, "type");
  if (!type) return unsupported("the decoder", type);
  if (strcmp(type, "ByteLevel") == 0 || strcmp(type, "Fuse") == 0) return OK; /* tokens are bytes here, joining them is all */
  if (strcmp(type, "ByteFallback") == 0) return t->decode_bytes = true, OK;
  if (strcmp(type, "Strip") == 0) {
    t->strip_start = (int)json_integer_value(json_object_get(v, "start"));
    t->strip_stop = (int)json_integer_value(json_object_get(v, "stop"));
    TRY(keep(t, json_object_get(v, "content"), &t->strip, &t->strip_bytes));
    return t->strip_bytes ? OK : fail(ERR_FORMAT, "Strip: no content");
  }
  if (t->decode_rewrites == MAX_REWRITES) return unsupported("a decoder of", "more than 8 steps");
  Rewrite *r = &t->decode_rewrite[t->decode_rewrites];
  if (strcmp(type, "Metaspace") == 0) return read_metaspace_decoder(t, v, r);
  if (strcmp(type, "Replace") != 0) return unsupported("the decoder", type);
  t->decode_rewrites++;
  return read_replace(t, v, r);
}

/* --- pre-tokenizer: steps --- */

static Status add_step(Tokenizer *t, const char *regex, Behaviour behaviour, bool invert) {
  return splitter_add(&t->splitter, regex, strlen(regex), behaviour, invert);
}

/* A String pattern is the same as the regular expression with every character quoted. */
static Status add_literal(Tokenizer *t, const json_t *string, Behaviour behaviour, bool invert) {
  Buffer b = {0};
  const char *text = json_string_value(string);
  Status s = OK;
  for (size_t i = 0; i < json_string_length(string) && s == OK; i++) {
    bool mark = (uint8_t)text[i] < 128 && !strchr("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", text[i]);
    s = mark ? buffer_print(&b, "\\x%02x", (uint8_t)text[i]) : buffer_add(&b, text + i, 1);
  }
  if (s == OK) s = splitter_add(&t->splitter, b.data, b.used, behaviour, invert);
  buffer_free(&b);
  return s;
}

static Status read_split(Tokenizer *t, const json_t *v) {
  const char *name = string_of(v, "behavior");
  const json_t *pattern = json_object_get(v, "pattern"), *regex = json_object_get(pattern, "Regex"), *string = json_object_get(pattern, "String");
  Behaviour behaviour;
  bool invert = true_of(v, "invert");
  if (!name || !behaviour_parse(name, &behaviour)) return unsupported("the behavior", name);
  if (json_is_string(string) && json_string_length(string)) return add_literal(t, string, behaviour, invert);
  if (!json_is_string(regex)) return fail(ERR_FORMAT, "Split: no pattern");
  return splitter_add(&t->splitter, json_string_value(regex), json_string_length(regex), behaviour, invert);
}

static Status read_metaspace(Tokenizer *t, const json_t *v) {
  size_t bytes;
  TRY(keep(t, json_object_get(v, "replacement"), &t->marker, &bytes));
  if (bytes == 0) return fail(ERR_FORMAT, "Metaspace: no replacement");
  t->marker_scheme = scheme_of(v);
  return json_is_false(json_object_get(v, "split")) ? OK : add_literal(t, json_object_get(v, "replacement"), WITH_NEXT, false);
}

static Status read_byte_level(Tokenizer *t, const json_t *v) {
  if (true_of(v, "add_prefix_space")) {
    if (t->splitter.steps) return unsupported("add_prefix_space behind", "Split");
    t->prefix_space = true;
  }
  t->bpe.byte_level = true;
  return json_is_false(json_object_get(v, "use_regex")) ? OK : add_step(t, pattern_named("gpt2"), ISOLATED, false);
}

static Status read_pretokenizer(Tokenizer *t, const json_t *v) {
  const char *type = string_of(v, "type");
  if (!type) return unsupported("the pre_tokenizer", type);
  if (strcmp(type, "ByteLevel") == 0) return read_byte_level(t, v);
  if (strcmp(type, "Split") == 0) return read_split(t, v);
  if (strcmp(type, "Metaspace") == 0) return read_metaspace(t, v);
  if (strcmp(type, "Digits") == 0) return add_step(t, "\\p{N}", true_of(v, "individual_digits") ? ISOLATED : CONTIGUOUS, false);
  if (strcmp(type, "Whitespace") == 0) return add_step(t, "\\w+|[^\\w\\s]+", REMOVED, true);
  if (strcmp(type, "WhitespaceSplit") == 0) return add_step(t, "\\s", REMOVED, false);
  if (strcmp(type, "Punctuation") == 0) {
    Behaviour behaviour = ISOLATED;
    const char *name = string_of(v, "behavior");
    if (name && !behaviour_parse(name, &behaviour)) return unsupported("the behavior", name);
    return add_step(t, "[!-/:-@\\[-`{-~\\p{P}]", behaviour, false);
  }
  return unsupported("the pre_tokenizer", type);
}

/* --- post-processor: ids in front and behind --- */

static Status add_special(Tokenizer *t, const json_t *specials, const char *name, Ids *out) {
  const json_t *ids = json_object_get(json_object_get(specials, name), "ids");
  size_t i;
  json_t *id;
  if (!json_is_array(ids)) return fail(ERR_FORMAT, "TemplateProcessing: no ids for '%s'", name);
  json_array_foreach(ids, i, id) {
    if (!tokenizer_token(t, (int32_t)json_integer_value(id))) return fail(ERR_FORMAT, "TemplateProcessing: no token has the id of '%s'", name);
    TRY(ids_add(out, (int32_t)json_integer_value(id)));
  }
  return OK;
}

static Status read_template(Tokenizer *t, const json_t *v) {
  Ids *out = &t->before;
  size_t i;
  json_t *piece;
  json_array_foreach(json_object_get(v, "single"), i, piece) {
    const char *name = string_of(json_object_get(piece, "SpecialToken"), "id");
    if (name) TRY(add_special(t, json_object_get(v, "special_tokens"), name, out));
    else if (json_object_get(piece, "Sequence")) out = &t->after;
    else return fail(ERR_FORMAT, "TemplateProcessing: an unknown piece");
  }
  return OK;
}

static Status read_pair_token(Tokenizer *t, const json_t *pair, Ids *out) {
  int32_t id = (int32_t)json_integer_value(json_array_get(pair, 1));
  if (!tokenizer_token(t, id)) return fail(ERR_FORMAT, "post_processor: no token has the id %d", id);
  return ids_add(out, id);
}

static Status read_postprocessor(Tokenizer *t, const json_t *v) {
  const char *type = string_of(v, "type");
  if (!type) return unsupported("the post_processor", type);
  if (strcmp(type, "ByteLevel") == 0) return OK; /* changes offsets only */
  if (strcmp(type, "TemplateProcessing") == 0) return read_template(t, v);
  if (strcmp(type, "RobertaProcessing") != 0 && strcmp(type, "BertProcessing") != 0) return unsupported("the post_processor", type);
  TRY(read_pair_token(t, json_object_get(v, "cls"), &t->before));
  return read_pair_token(t, json_object_get(v, "sep"), &t->after);
}

/* --- model: vocabulary and merges --- */

/* The visible characters that stand for bytes in byte-level vocabularies: printable Latin-1 for itself, the
 * other 68 bytes from U+0100 on, in order. */
static void byte_characters(int16_t byte_of[512]) {
  for (int i = 0; i < 512; i++) byte_of[i] = -1;
  for (int byte = 0, next = 256; byte < 256; byte++) {
    bool itself = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
    byte_of[itself ? byte : next++] = (int16_t)byte;
  }
}

/* A token's text as the bytes that it stands for; text that is no such code stays as it is. */
static Status token_bytes(const Tokenizer *t, const int16_t byte_of[512], const char *text, size_t bytes, Buffer *out) {
  out->used = 0;
  uint32_t c;
  for (size_t at = 0; t->bpe.byte_level && at < bytes;) {
    int n = utf8_next(text + at, bytes - at, &c);
    if (!n || c >= 512 || byte_of[c] < 0) {
      out->used = 0;
      break;
    }
    TRY(buffer_add(out, (char[]){(char)byte_of[c]}, 1));
    at += (size_t)n;
  }
  return out->used ? OK : buffer_add(out, text, bytes);
}

typedef struct Loading {
  Tokenizer *t;
  int16_t byte_of[512];
  Buffer first, second; /* scratch for tokens */
} Loading;

static Status id_in_range(const json_t *id, const char *token) {
  if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= MOST_IDS)
    return fail(ERR_FORMAT, "the id of '%s' is not a whole number from 0 to %d", token, MOST_IDS - 1);
  return OK;
}

static Status count_ids(const json_t *vocab, const json_t *added, int32_t *count) {
  const char *key;
  json_t *id;
  size_t i;
  *count = 0;
  json_object_foreach((json_t *)(uintptr_t)vocab, key, id) {
    TRY(id_in_range(id, key));
    if (json_integer_value(id) >= *count) *count = (int32_t)json_integer_value(id) + 1;
  }
  json_array_foreach(added, i, id) {
    const json_t *value = json_object_get(id, "id");
    const char *content = string_of(id, "content");
    if (!content || !content[0]) return fail(ERR_FORMAT, "added_tokens: one without content");
    TRY(id_in_range(value, content));
    if (json_integer_value(value) >= *count) *count = (int32_t)json_integer_value(value) + 1;
  }
  size_t tokens = json_object_size(vocab) + json_array_size(added);
  return (size_t)*count <= tokens * SPARSEST + FEW ? OK : fail(ERR_FORMAT, "%zu tokens, but ids up to %d", tokens, *count - 1);
}

static Status read_vocab(Loading *l, json_t *vocab) {
  const char *key;
  json_t *id;
  json_object_foreach(vocab, key, id) {
    TRY(token_bytes(l->t, l->byte_of, key, strlen(key), &l->first));
    TRY(bpe_set(&l->t->bpe, (int32_t)json_integer_value(id), l->first.data, l->first.used));
  }
  return OK;
}

static Status find_token(Loading *l, const char *text, size_t bytes, int32_t *id) {
  TRY(token_bytes(l->t, l->byte_of, text, bytes, &l->second));
  *id = bpe_find(&l->t->bpe, l->second.data, l->second.used);
  return *id >= 0 ? OK : fail(ERR_FORMAT, "'%.*s' is no token", (int)bytes, text);
}

/* "a b", or ["a", "b"]. */
static Status read_merge(Loading *l, const json_t *merge, int32_t rank) {
  int32_t first, second;
  const char *text = json_string_value(merge), *space = text ? strchr(text, ' ') : NULL;
  const json_t *a = json_array_get(merge, 0), *b = json_array_get(merge, 1);
  bool pair = json_is_string(a) && json_is_string(b) && json_array_size(merge) == 2;
  if (!pair && (!space || strchr(space + 1, ' '))) return fail(ERR_FORMAT, "it is no pair of tokens");
  TRY(pair ? find_token(l, json_string_value(a), json_string_length(a), &first) : find_token(l, text, (size_t)(space - text), &first));
  TRY(pair ? find_token(l, json_string_value(b), json_string_length(b), &second) : find_token(l, space + 1, strlen(space + 1), &second));
  return bpe_merge(&l->t->bpe, first, second, rank);
}

static void find_bytes(Tokenizer *t) {
  char text[8];
  for (int byte = 0; byte < 256; byte++) {
    int n = t->bpe.byte_level ? 1 : snprintf(text, sizeof text, "<0x%02X>", byte);
    if (t->bpe.byte_level) text[0] = (char)byte;
    t->bpe.byte_id[byte] = bpe_find(&t->bpe, text, (size_t)n);
  }
}

static Status read_model(Loading *l, const json_t *model) {
  Tokenizer *t = l->t;
  size_t rank;
  json_t *merge, *merges = json_object_get(model, "merges");
  const char *unknown = string_of(model, "unk_token"), *suffix = string_of(model, "end_of_word_suffix");
  const char *prefix = string_of(model, "continuing_subword_prefix");
  if (json_number_value(json_object_get(model, "dropout")) > 0) return unsupported("the model's", "dropout");
  if (suffix && suffix[0]) return unsupported("the model's", "end_of_word_suffix");
  if (prefix && prefix[0]) return unsupported("the model's", "continuing_subword_prefix");
  if (!json_is_array(merges)) return fail(ERR_FORMAT, "model: no merges");
  t->bpe.byte_fallback = true_of(model, "byte_fallback");
  t->bpe.fuse_unknown = true_of(model, "fuse_unk");
  t->bpe.ignore_merges = true_of(model, "ignore_merges");
  TRY(read_vocab(l, json_object_get(model, "vocab")));
  json_array_foreach(merges, rank, merge) {
    if (read_merge(l, merge, (int32_t)rank) != OK) return fail_in("merge %zu", rank + 1);
  }
  if (unknown && find_token(l, unknown, strlen(unknown), &t->bpe.unknown) != OK) return fail_in("unk_token");
  find_bytes(t);
  return OK;
}

static Status read_added_token(Loading *l, const json_t *v) {
  Tokenizer *t = l->t;
  int32_t id = (int32_t)json_integer_value(json_object_get(v, "id"));
  Token *token = &t->bpe.token[id];
  AddedSet *set = json_is_false(json_object_get(v, "normalized")) || t->rewrites == 0 ? &t->raw : &t->normal;
  Added *a = &set->item[set->count++];
  if (true_of(v, "single_word")) return unsupported("added_tokens:", "single_word");
  *a = (Added){.id = id, .eat_left = true_of(v, "lstrip"), .eat_right = true_of(v, "rstrip")};
  TRY(keep(t, json_object_get(v, "content"), &a->bytes, &a->length));
  *token = (Token){.bytes = a->bytes, .length = (int32_t)a->length, .added = true, .special = true_of(v, "special")};
  if (set == &t->raw) return OK;
  TRY(tokenizer_normalize(t, a->bytes, a->length, &l->first, &l->second)); /* it is looked for in normalized text */
  a->bytes = arena_copy(&t->arena, l->first.data, l->first.used);
  a->length = l->first.used;
  return !a->bytes ? error_code() : a->length ? OK : fail(ERR_FORMAT, "added_tokens: one that the normalizer makes empty");
}

static Status read_added(Loading *l, const json_t *added) {
  Tokenizer *t = l->t;
  size_t i;
  json_t *v;
  t->raw.item = arena_calloc(&t->arena, json_array_size(added), sizeof(Added));
  t->normal.item = arena_calloc(&t->arena, json_array_size(added), sizeof(Added));
  if (!t->raw.item || !t->normal.item) return error_code();
  json_array_foreach(added, i, v) TRY(read_added_token(l, v));
  added_sort(&t->raw);
  added_sort(&t->normal);
  return OK;
}

/* SentencePiece vocabularies have the space marker in front of a token only. Then no merge reaches across the
 * beginning of a run of markers, and text can be cut there: words that repeat come from the cache. */
static bool marker_leads(const Bpe *b, const char *marker, size_t n) {
  if (bpe_find(b, marker, n) < 0) return false;
  for (int32_t id = 0; id < b->count; id++) {
    const Token *t = &b->token[id];
    int32_t at = 0;
    if (!t->bytes || t->added) continue;
    while (t->length - at >= (int32_t)n && memcmp(t->bytes + at, marker, n) == 0) at += (int32_t)n;
    for (; t->length - at >= (int32_t)n; at++)
      if (memcmp(t->bytes + at, marker, n) == 0) return false;
  }
  return true;
}

static void cut_at_markers(Tokenizer *t) {
  static const char marker[] = "\xE2\x96\x81"; /* U+2581 */
  if (t->bpe.byte_level || t->bpe.ignore_merges || !marker_leads(&t->bpe, marker, 3)) return;
  t->splitter.marker = marker;
  t->splitter.marker_bytes = 3;
}

static Status read_root(Loading *l, const json_t *root) {
  Tokenizer *t = l->t;
  const json_t *model = json_object_get(root, "model"), *vocab = json_object_get(model, "vocab"), *added = json_object_get(root, "added_tokens");
  const char *type = string_of(model, "type");
  int32_t count;
  if (!json_is_object(model)) return fail(ERR_FORMAT, "no model");
  if (type && strcmp(type, "BPE") != 0) return unsupported("the model", type);
  if (!json_is_object(vocab)) return fail(ERR_FORMAT, "model: no vocab");
  TRY(count_ids(vocab, added, &count));
  TRY(bpe_init(&t->bpe, count));
  TRY(each(t, json_object_get(root, "normalizer"), "normalizers", read_normalizer));
  TRY(each(t, json_object_get(root, "pre_tokenizer"), "pretokenizers", read_pretokenizer));
  TRY(each(t, json_object_get(root, "decoder"), "decoders", read_decoder));
  TRY(read_model(l, model));
  TRY(read_added(l, added));
  cut_at_markers(t);
  return each(t, json_object_get(root, "post_processor"), "processors", read_postprocessor);
}

Status tokenizer_parse(const char *json, size_t bytes, const char *name, Tokenizer **out) {
  *out = NULL;
  JsonDoc d;
  TRY(jsondoc_parse(&d, json, bytes, name, 0));
  Loading l = {.t = mem_calloc(1, sizeof *l.t)};
  byte_characters(l.byte_of);
  Status s = l.t ? read_root(&l, d.root) : error_code();
  if (s == OK) s = buffer_add(&l.t->source, json, bytes);
  if (s != OK && l.t) fail_in("%s", name);
  jsondoc_free(&d);
  buffer_free(&l.first), buffer_free(&l.second);
  if (s != OK) tokenizer_free(l.t);
  else *out = l.t;
  return s;
}

Status tokenizer_load(const char *path, Tokenizer **out) {
  *out = NULL;
  char *text;
  size_t bytes;
  TRY(file_read(path, &text, &bytes));
  Status s = tokenizer_parse(text, bytes, path, out);
  mem_free(text);
  return s;
}

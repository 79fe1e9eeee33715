/* tokenizer.c - encoding and decoding. */
#include "io/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/interrupt.h"
#include "base/mem.h"
#include "io/nfc.h"
#include "io/tokenizer_parts.h"
#include "io/utf8.h"

void tokenizer_free(Tokenizer *t) {
  if (!t) return;
  bpe_free(&t->bpe);
  splitter_free(&t->splitter);
  ids_free(&t->before), ids_free(&t->after);
  buffer_free(&t->scratch), buffer_free(&t->second), buffer_free(&t->source);
  arena_free(&t->arena);
  mem_free(t);
}

/* --- normalizer --- */

Status rewrite_apply(const Rewrite *r, const char *text, size_t bytes, Buffer *out) {
  if (bytes == 0) return OK;
  if (r->kind == NFC) return nfc(text, bytes, out);
  if (r->kind == PREPEND) {
    TRY(buffer_add(out, r->to, r->to_bytes));
    return buffer_add(out, text, bytes);
  }
  for (size_t at = 0; at < bytes;) {
    bool hit = bytes - at >= r->from_bytes && memcmp(text + at, r->from, r->from_bytes) == 0;
    TRY(hit ? buffer_add(out, r->to, r->to_bytes) : buffer_add(out, text + at, 1));
    at += hit ? r->from_bytes : 1;
  }
  return OK;
}

/* Into out, through other; both are overwritten. */
Status tokenizer_normalize(const Tokenizer *t, const char *text, size_t bytes, Buffer *out, Buffer *other) {
  out->used = 0;
  TRY(buffer_add(out, text, bytes));
  for (int i = 0; i < t->rewrites; i++) {
    Buffer swap = *out;
    *out = *other, *other = swap;
    out->used = 0;
    TRY(rewrite_apply(&t->rewrite[i], other->data, other->used, out));
  }
  return OK;
}

/* --- added tokens --- */

static int by_first_byte(const void *a, const void *b) {
  const Added *x = a, *y = b;
  if (x->bytes[0] != y->bytes[0]) return (uint8_t)x->bytes[0] < (uint8_t)y->bytes[0] ? -1 : 1;
  if (x->length != y->length) return x->length > y->length ? -1 : 1;
  return x->id < y->id ? -1 : x->id > y->id;
}

void added_sort(AddedSet *s) {
  if (s->count) qsort(s->item, (size_t)s->count, sizeof *s->item, by_first_byte);
  for (int byte = 0, i = 0; byte <= 256; byte++) {
    while (i < s->count && (uint8_t)s->item[i].bytes[0] < byte) i++;
    s->begin[byte] = i;
  }
}

/* White space by Unicode's property, the code point that starts at p. */
static int space_bytes(const char *p, size_t room) {
  uint32_t c;
  int n = utf8_next(p, room, &c);
  bool space = n && (c == ' ' || (c >= 9 && c <= 13) || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
                     c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000);
  return space ? n : 0;
}

int added_next(const AddedSet *s, const char *text, size_t bytes, size_t *start, size_t *end) {
  size_t from = *start;
  if (s->count == 0) return -1;
  for (size_t at = from; at < bytes; at++) {
    uint8_t byte = (uint8_t)text[at];
    for (int i = s->begin[byte]; i < s->begin[byte + 1]; i++) {
      const Added *a = &s->item[i];
      if (a->length > bytes - at || memcmp(text + at, a->bytes, a->length) != 0) continue;
      *start = at, *end = at + a->length;
      for (int n; a->eat_right && *end < bytes && (n = space_bytes(text + *end, bytes - *end)); *end += (size_t)n) continue;
      while (a->eat_left && *start > from) {
        size_t back = *start - 1;
        while (back > from && ((uint8_t)text[back] & 0xC0) == 0x80) back--;
        if ((size_t)space_bytes(text + back, *start - back) != *start - back) break;
        *start = back;
      }
      return i;
    }
  }
  return -1;
}

/* --- encoding --- */

typedef struct Encoding {
  Tokenizer *t;
  Ids *out;
  size_t bytes; /* since the last look for an interrupt */
} Encoding;

static Status encode_word(void *context, const char *word, size_t bytes) {
  Encoding *e = context;
  e->bytes += bytes;
  if (e->bytes > 1 << 20) {
    e->bytes = 0;
    TRY(interrupt_check());
  }
  return bpe_word(&e->t->bpe, word, bytes, e->out);
}

/* Text without added tokens. first: nothing was in front of it. */
static Status encode_plain(Encoding *e, const char *text, size_t bytes, bool first) {
  Tokenizer *t = e->t;
  if (bytes == 0) return OK;
  bool space = t->prefix_space && text[0] != ' ';
  bool marker = t->marker && (t->marker_scheme == ALWAYS || (t->marker_scheme == FIRST && first));
  if (!space && !t->marker) return splitter_run(&t->splitter, text, bytes, encode_word, e);
  Buffer changed = {0}; /* text may lie in one of the scratch buffers */
  Status s = space ? buffer_text(&changed, " ") : OK;
  if (s == OK && !t->marker) s = buffer_add(&changed, text, bytes);
  if (s == OK && t->marker) {
    size_t n = strlen(t->marker);
    Rewrite spaces = {.kind = REPLACE, .from = " ", .from_bytes = 1, .to = t->marker, .to_bytes = n};
    bool has_one = text[0] == ' ' || (bytes >= n && memcmp(text, t->marker, n) == 0);
    if (marker && !has_one) s = buffer_text(&changed, t->marker);
    if (s == OK) s = rewrite_apply(&spaces, text, bytes, &changed);
  }
  if (s == OK) s = splitter_run(&t->splitter, changed.data, changed.used, encode_word, e);
  buffer_free(&changed);
  return s;
}

/* A stretch between added tokens of the first set: normalized, then searched for those of the second. */
static Status encode_stretch(Encoding *e, const char *text, size_t bytes, bool first) {
  Tokenizer *t = e->t;
  if (bytes == 0) return OK;
  if (t->rewrites) {
    TRY(tokenizer_normalize(t, text, bytes, &t->scratch, &t->second));
    text = t->scratch.data, bytes = t->scratch.used;
  }
  for (size_t at = 0; at < bytes;) {
    size_t start = at, end = bytes;
    int hit = added_next(&t->normal, text, bytes, &start, &end);
    TRY(encode_plain(e, text + at, (hit < 0 ? bytes : start) - at, first && at == 0));
    if (hit >= 0) TRY(ids_add(e->out, t->normal.item[hit].id));
    at = end;
  }
  return OK;
}

Status tokenizer_encode(Tokenizer *t, const char *text, size_t bytes, bool special, Ids *out) {
  Encoding e = {.t = t, .out = out};
  if (special) TRY(ids_append(out, t->before.id, t->before.count));
  for (size_t at = 0; at < bytes;) {
    size_t start = at, end = bytes;
    int hit = added_next(&t->raw, text, bytes, &start, &end);
    TRY(encode_stretch(&e, text + at, (hit < 0 ? bytes : start) - at, at == 0));
    if (hit >= 0) TRY(ids_add(out, t->raw.item[hit].id));
    at = end;
  }
  return special ? ids_append(out, t->after.id, t->after.count) : OK;
}

/* --- decoding --- */

bool is_byte_token(const char *p, size_t length, uint8_t *value) {
  if (length != 6 || memcmp(p, "<0x", 3) != 0 || p[5] != '>') return false;
  char digits[3] = {p[3], p[4], 0}, *end;
  *value = (uint8_t)strtoul(digits, &end, 16);
  return end == digits + 2 && p[3] != '+' && p[3] != '-' && p[3] != ' ';
}

static Status decode_token(const Tokenizer *t, const Token *token, bool first, Buffer *out, Buffer work[2]) {
  const char *text = token->bytes;
  size_t bytes = (size_t)token->length;
  uint8_t byte;
  if (t->decode_bytes && is_byte_token(text, bytes, &byte)) return buffer_add(out, &byte, 1);
  for (int i = 0; i < t->decode_rewrites; i++) {
    Buffer *to = &work[i % 2];
    to->used = 0;
    TRY(rewrite_apply(&t->decode_rewrite[i], text, bytes, to));
    text = to->data, bytes = to->used;
  }
  bool drop = first && t->drop_first_space && bytes && text[0] == ' ';
  return buffer_add(out, text + drop, bytes - drop);
}

static bool starts(const char *text, size_t bytes, const char *with, size_t length) {
  return bytes >= length && memcmp(text, with, length) == 0;
}

static void strip(const Tokenizer *t, Buffer *b, size_t from) {
  size_t n = t->strip_bytes, drop = 0;
  for (int i = 0; i < t->strip_stop && b->used - from >= n && starts(b->data + b->used - n, n, t->strip, n); i++) b->used -= n;
  for (int i = 0; i < t->strip_start && starts(b->data + from + drop, b->used - from - drop, t->strip, n); i++) drop += n;
  if (!drop) return;
  memmove(b->data + from, b->data + from + drop, b->used - from - drop);
  b->used -= drop;
}

Status tokenizer_decode(const Tokenizer *t, const int32_t *ids, int64_t n, bool skip, Buffer *out) {
  Buffer work[2] = {{0}, {0}};
  size_t from = out->used;
  bool first = true;
  Status s = OK;
  for (int64_t i = 0; i < n && s == OK; i++) {
    const Token *token = tokenizer_token(t, ids[i]);
    if (!token) s = fail(ERR_ARGUMENT, "decode: no token has the id %d (position %lld); ids are 0 to %d", ids[i], (long long)i + 1, t->bpe.count - 1);
    else if (!(skip && token->special)) {
      s = decode_token(t, token, first, out, work);
      first = false;
    }
  }
  buffer_free(&work[0]), buffer_free(&work[1]);
  if (s == OK && t->strip) strip(t, out, from);
  return s;
}

/* --- the rest --- */

int32_t tokenizer_vocab_size(const Tokenizer *t) { return t->bpe.count; }

const Token *tokenizer_token(const Tokenizer *t, int32_t id) {
  return id >= 0 && id < t->bpe.count && t->bpe.token[id].bytes ? &t->bpe.token[id] : NULL;
}

int32_t tokenizer_id(const Tokenizer *t, const char *bytes, size_t length) {
  int32_t id = bpe_find(&t->bpe, bytes, length);
  for (int32_t i = 0; id < 0 && i < t->bpe.count; i++) { /* added tokens are not in the table of words */
    const Token *token = &t->bpe.token[i];
    if (token->added && (size_t)token->length == length && memcmp(token->bytes, bytes, length) == 0) id = i;
  }
  return id;
}

Status tokenizer_save(const Tokenizer *t, const char *path) { return file_write_all(path, t->source.data, t->source.used); }

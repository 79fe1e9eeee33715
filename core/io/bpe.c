/* bpe.c - the vocabulary and the merging of one word. */
#include "io/bpe.h"

#include <string.h>

#include "base/mem.h"
#include "io/utf8.h"

/* --- growing list of ids --- */

static Status ids_reserve(Ids *ids, int64_t more) {
  if (ids->count + more <= ids->room) return OK;
  int64_t room = 2 * ids->room > ids->count + more ? 2 * ids->room : ids->count + more + 64;
  int32_t *grown = mem_realloc(ids->id, (size_t)room * sizeof *grown);
  if (!grown) return error_code();
  ids->id = grown;
  ids->room = room;
  return OK;
}

Status ids_add(Ids *ids, int32_t id) {
  TRY(ids_reserve(ids, 1));
  ids->id[ids->count++] = id;
  return OK;
}

Status ids_append(Ids *ids, const int32_t *id, int64_t n) {
  if (n == 0) return OK;
  TRY(ids_reserve(ids, n));
  memcpy(ids->id + ids->count, id, (size_t)n * sizeof *id);
  ids->count += n;
  return OK;
}

void ids_free(Ids *ids) {
  mem_free(ids->id);
  *ids = (Ids){0};
}

/* --- vocabulary --- */

Status bpe_init(Bpe *b, int32_t count) {
  *b = (Bpe){.unknown = -1, .slots = 64};
  memset(b->byte_id, -1, sizeof b->byte_id);
  while (b->slots < 2 * (size_t)count) b->slots *= 2;
  b->token = arena_calloc(&b->arena, (size_t)count, sizeof *b->token);
  b->slot = arena_alloc(&b->arena, b->slots * sizeof *b->slot);
  if (!b->token || !b->slot) return error_code();
  memset(b->slot, -1, b->slots * sizeof *b->slot);
  b->count = count;
  return OK;
}

static size_t place_of(const Bpe *b, const char *bytes, size_t length) {
  size_t i = hash_bytes(bytes, length) & (b->slots - 1);
  for (; b->slot[i] >= 0; i = (i + 1) & (b->slots - 1)) {
    const Token *t = &b->token[b->slot[i]];
    if ((size_t)t->length == length && memcmp(t->bytes, bytes, length) == 0) break;
  }
  return i;
}

int32_t bpe_find(const Bpe *b, const char *bytes, size_t length) { return b->slot[place_of(b, bytes, length)]; }

Status bpe_set(Bpe *b, int32_t id, const char *bytes, size_t length) {
  if (b->token[id].bytes) return fail(ERR_FORMAT, "two tokens have the id %d", id);
  size_t i = place_of(b, bytes, length);
  if (b->slot[i] >= 0) return fail(ERR_FORMAT, "the tokens %d and %d are the same", b->slot[i], id);
  b->token[id] = (Token){.bytes = arena_copy(&b->arena, bytes, length), .length = (int32_t)length};
  if (!b->token[id].bytes) return error_code();
  b->slot[i] = id;
  return OK;
}

Status bpe_merge(Bpe *b, int32_t first, int32_t second, int32_t rank) {
  const Token *x = &b->token[first], *y = &b->token[second];
  Buffer joint = {0};
  Status s = buffer_add(&joint, x->bytes, (size_t)x->length);
  if (s == OK) s = buffer_add(&joint, y->bytes, (size_t)y->length);
  int32_t id = s == OK ? bpe_find(b, joint.data, joint.used) : -1;
  buffer_free(&joint);
  TRY(s);
  if (id < 0) return fail(ERR_FORMAT, "merge %d: '%s' and '%s' together are no token", rank, x->bytes, y->bytes);
  uint64_t *v = map_slot(&b->merges, (uint64_t)first << 32 | (uint32_t)second);
  if (!v) return error_code();
  if (*v == 0) *v = ((uint64_t)rank << 32 | (uint32_t)id) + 1; /* a pair listed twice keeps its first rank; 0 means new */
  return OK;
}

/* --- one word: a linked list of symbols and a heap of the pairs that could merge --- */

typedef struct Symbol {
  int32_t id, previous, next; /* indices, -1 at the ends; id -1: gone */
} Symbol;

typedef struct Candidate {
  uint64_t order;     /* rank << 32 | position: the heap's key, leftmost first */
  int32_t id, first, second; /* what it makes, and the ids it was made for */
} Candidate;

typedef struct Work {
  Symbol *symbol;
  Candidate *heap;
  int64_t symbols, symbol_room, heaped, heap_room;
} Work;

static Status reserve_symbol(Work *w) {
  if (w->symbols < w->symbol_room) return OK;
  Symbol *grown = mem_realloc(w->symbol, (size_t)(2 * w->symbol_room + 64) * sizeof *grown);
  if (!grown) return error_code();
  w->symbol = grown;
  w->symbol_room = 2 * w->symbol_room + 64;
  return OK;
}

static Status reserve_candidate(Work *w) {
  if (w->heaped < w->heap_room) return OK;
  Candidate *grown = mem_realloc(w->heap, (size_t)(2 * w->heap_room + 64) * sizeof *grown);
  if (!grown) return error_code();
  w->heap = grown;
  w->heap_room = 2 * w->heap_room + 64;
  return OK;
}

static void sift_down(Candidate *heap, int64_t n) {
  Candidate moving = heap[0];
  int64_t i = 0;
  for (int64_t child; (child = 2 * i + 1) < n; i = child) {
    if (child + 1 < n && heap[child + 1].order < heap[child].order) child++;
    if (moving.order <= heap[child].order) break;
    heap[i] = heap[child];
  }
  heap[i] = moving;
}

static Status consider(const Bpe *b, Work *w, int32_t at) {
  const Symbol *s = &w->symbol[at];
  if (s->next < 0) return OK;
  int32_t second = w->symbol[s->next].id;
  const uint64_t *v = map_find(&b->merges, (uint64_t)s->id << 32 | (uint32_t)second);
  if (!v) return OK;
  TRY(reserve_candidate(w));
  uint64_t rank = (*v - 1) >> 32;
  Candidate c = {.order = rank << 32 | (uint32_t)at, .id = (int32_t)(uint32_t)(*v - 1), .first = s->id, .second = second};
  int64_t i = w->heaped++;
  for (; i > 0 && w->heap[(i - 1) / 2].order > c.order; i = (i - 1) / 2) w->heap[i] = w->heap[(i - 1) / 2];
  w->heap[i] = c;
  return OK;
}

static Status merge_all(const Bpe *b, Work *w) {
  w->heaped = 0;
  for (int32_t i = 0; i + 1 < w->symbols; i++) TRY(consider(b, w, i));
  while (w->heaped > 0) {
    Candidate c = w->heap[0];
    w->heap[0] = w->heap[--w->heaped];
    if (w->heaped) sift_down(w->heap, w->heaped);
    int32_t at = (int32_t)(uint32_t)c.order;
    Symbol *s = &w->symbol[at];
    if (s->id != c.first || s->next < 0 || w->symbol[s->next].id != c.second) continue; /* overtaken by another merge */
    Symbol *gone = &w->symbol[s->next];
    s->id = c.id;
    s->next = gone->next;
    gone->id = -1;
    if (s->next >= 0) w->symbol[s->next].previous = at;
    if (s->previous >= 0) TRY(consider(b, w, s->previous));
    TRY(consider(b, w, at));
  }
  return OK;
}

static Status add_symbol(Work *w, int32_t id) {
  if (w->symbols >= INT32_MAX - 1) return fail(ERR_ARGUMENT, "encode: a word of more than 2^31 symbols");
  TRY(reserve_symbol(w));
  int32_t at = (int32_t)w->symbols++;
  w->symbol[at] = (Symbol){.id = id, .previous = at - 1, .next = -1};
  if (at > 0) w->symbol[at - 1].next = at;
  return OK;
}

static Status add_bytes(const Bpe *b, Work *w, const char *bytes, size_t length) {
  for (size_t i = 0; i < length; i++) {
    int32_t id = b->byte_id[(uint8_t)bytes[i]];
    if (id < 0) id = b->unknown;
    if (id < 0) return fail(ERR_FORMAT, "encode: this tokenizer has no token for the byte 0x%02X and none for unknown text", (uint8_t)bytes[i]);
    TRY(add_symbol(w, id));
  }
  return OK;
}

static bool has_all(const Bpe *b, const char *bytes, size_t length) {
  for (size_t i = 0; i < length; i++)
    if (b->byte_id[(uint8_t)bytes[i]] < 0) return false;
  return true;
}

static Status add_points(const Bpe *b, Work *w, const char *bytes, size_t length) {
  uint32_t point;
  bool after_unknown = false;
  for (size_t i = 0, n; i < length; i += n) {
    n = (size_t)utf8_next(bytes + i, length - i, &point);
    int32_t id = n ? bpe_find(b, bytes + i, n) : -1;
    if (!n) n = (size_t)utf8_bad(bytes + i, length - i);
    bool unknown = id < 0 && !(b->byte_fallback && has_all(b, bytes + i, n));
    if (id >= 0) TRY(add_symbol(w, id));
    else if (!unknown) TRY(add_bytes(b, w, bytes + i, n));
    else if (b->unknown < 0) return fail(ERR_FORMAT, "encode: this tokenizer has no token for '%.*s' and none for unknown text", (int)n, bytes + i);
    else if (!(b->fuse_unknown && after_unknown)) TRY(add_symbol(w, b->unknown));
    after_unknown = unknown;
  }
  return OK;
}

static Status merge_word(Bpe *b, const char *bytes, size_t length, Ids *out) {
  if (!b->work && !(b->work = mem_calloc(1, sizeof *b->work))) return error_code();
  Work *w = b->work;
  w->symbols = 0;
  TRY(b->byte_level ? add_bytes(b, w, bytes, length) : add_points(b, w, bytes, length));
  TRY(merge_all(b, w));
  for (int64_t i = 0; i < w->symbols; i++)
    if (w->symbol[i].id >= 0) TRY(ids_add(out, w->symbol[i].id));
  return OK;
}

/* --- the cache: words of up to 32 bytes with up to 12 ids --- */

enum { CACHE_SLOTS = 1 << 15, CACHE_WORD = 32, CACHE_IDS = 12 };

typedef struct Cached {
  uint8_t length, count; /* length 0: empty */
  char bytes[CACHE_WORD];
  int32_t id[CACHE_IDS];
} Cached;

typedef struct Cache {
  Cached word[CACHE_SLOTS];
} Cache;

Status bpe_word(Bpe *b, const char *bytes, size_t length, Ids *out) {
  if (length == 0) return OK;
  if (b->ignore_merges) {
    int32_t id = bpe_find(b, bytes, length);
    if (id >= 0) return ids_add(out, id);
  }
  if (length > CACHE_WORD) return merge_word(b, bytes, length, out);
  if (!b->cache && !(b->cache = mem_calloc(1, sizeof *b->cache))) return error_code();
  Cached *c = &b->cache->word[hash_bytes(bytes, length) & (CACHE_SLOTS - 1)]; /* one place a hash: a newer word evicts */
  if (c->length == length && memcmp(c->bytes, bytes, length) == 0) return ids_append(out, c->id, c->count);
  int64_t before = out->count;
  TRY(merge_word(b, bytes, length, out));
  if (out->count - before > CACHE_IDS) return OK;
  c->length = (uint8_t)length;
  c->count = (uint8_t)(out->count - before);
  memcpy(c->bytes, bytes, length);
  memcpy(c->id, out->id + before, c->count * sizeof *c->id);
  return OK;
}

void bpe_free(Bpe *b) {
  if (b->work) {
    mem_free(b->work->symbol);
    mem_free(b->work->heap);
  }
  mem_free(b->work);
  mem_free(b->cache);
  map_free(&b->merges);
  arena_free(&b->arena);
  *b = (Bpe){0};
}

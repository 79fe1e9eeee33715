/* bpe_train.c - counts of adjacent pairs, kept up to date as merges happen.
 *
 * Each distinct word is stored once with its count. A pair knows its total count and the words it was
 * seen in, so that a merge touches those words only. A heap gives the best pair; counts in it may be
 * out of date (too large, never too small), which shows when a pair comes up and is then put right.
 * Order: larger count first; then the pair whose first token is greater in byte order, then the second. */
#include "io/bpe_train.h"

#include <string.h>

#include "base/arena.h"
#include "base/interrupt.h"
#include "base/map.h"
#include "base/mem.h"

typedef struct Word {
  struct Word *next; /* with the same hash */
  const char *bytes;
  int64_t count;
  int32_t *symbol; /* ids; merged in place */
  int32_t length, byte_length;
} Word;

typedef struct Place {
  struct Place *next;
  Word *word;
} Place;

typedef struct Pair {
  int32_t first, second;
  int64_t count;
  Place *places; /* newest first; a word may be listed although the pair has left it */
} Pair;

typedef struct Best {
  int64_t count; /* as it was when put here */
  int32_t pair;
} Best;

struct Trainer {
  Arena arena;
  Map words;  /* hash -> Word * */
  Map index;  /* first << 32 | second -> index of the pair + 1 */
  Pair *pair;
  Best *heap;
  int32_t pairs, pair_room;
  int64_t heaped, heap_room;
  Map tokens; /* hash of the bytes -> id + 1 */
  const char **text;
  int32_t *length, *merge;
  int32_t count, merges, merge_room;
};

Status trainer_new(Trainer **out) {
  *out = mem_calloc(1, sizeof **out);
  return *out ? OK : error_code();
}

void trainer_free(Trainer *t) {
  if (!t) return;
  map_free(&t->words);
  map_free(&t->index);
  map_free(&t->tokens);
  mem_free(t->merge);
  mem_free(t->pair);
  mem_free(t->heap);
  arena_free(&t->arena);
  mem_free(t);
}

Status trainer_word(void *trainer, const char *bytes, size_t length) {
  Trainer *t = trainer;
  if (length > INT32_MAX) return fail(ERR_ARGUMENT, "train: a word of %zu bytes", length);
  uint64_t *slot = map_slot(&t->words, hash_bytes(bytes, length));
  if (!slot) return error_code();
  for (Word *w = (Word *)(uintptr_t)*slot; w; w = w->next)
    if ((size_t)w->byte_length == length && memcmp(w->bytes, bytes, length) == 0) return w->count++, OK;
  Word *w = arena_calloc(&t->arena, 1, sizeof *w);
  if (!w || !(w->bytes = arena_copy(&t->arena, bytes, length))) return error_code();
  w->byte_length = (int32_t)length;
  w->count = 1;
  w->next = (Word *)(uintptr_t)*slot;
  *slot = (uint64_t)(uintptr_t)w;
  return OK;
}

/* --- the order of pairs --- */

static int compare_tokens(const Trainer *t, int32_t a, int32_t b) {
  int32_t n = t->length[a] < t->length[b] ? t->length[a] : t->length[b];
  int c = memcmp(t->text[a], t->text[b], (size_t)n);
  return c ? c : (t->length[a] > t->length[b]) - (t->length[a] < t->length[b]);
}

static bool better(const Trainer *t, Best x, Best y) {
  if (x.count != y.count) return x.count > y.count;
  const Pair *p = &t->pair[x.pair], *q = &t->pair[y.pair];
  int c = compare_tokens(t, p->first, q->first);
  return c ? c > 0 : compare_tokens(t, p->second, q->second) > 0;
}

static Status push(Trainer *t, Best b) {
  if (t->heaped == t->heap_room) {
    Best *grown = mem_realloc(t->heap, (size_t)(2 * t->heap_room + 1024) * sizeof *grown);
    if (!grown) return error_code();
    t->heap = grown;
    t->heap_room = 2 * t->heap_room + 1024;
  }
  int64_t i = t->heaped++;
  for (; i > 0 && better(t, b, t->heap[(i - 1) / 2]); i = (i - 1) / 2) t->heap[i] = t->heap[(i - 1) / 2];
  t->heap[i] = b;
  return OK;
}

static Best pop(Trainer *t) {
  Best top = t->heap[0], moving = t->heap[--t->heaped];
  int64_t i = 0;
  for (int64_t child; (child = 2 * i + 1) < t->heaped; i = child) {
    if (child + 1 < t->heaped && better(t, t->heap[child + 1], t->heap[child])) child++;
    if (!better(t, t->heap[child], moving)) break;
    t->heap[i] = t->heap[child];
  }
  t->heap[i] = moving;
  return top;
}

/* --- counts --- */

static Status pair_of(Trainer *t, int32_t first, int32_t second, int32_t *out) {
  uint64_t *slot = map_slot(&t->index, (uint64_t)first << 32 | (uint32_t)second);
  if (!slot) return error_code();
  if (*slot) return *out = (int32_t)*slot - 1, OK;
  if (t->pairs == t->pair_room) {
    Pair *grown = mem_realloc(t->pair, (size_t)(2 * t->pair_room + 1024) * sizeof *grown);
    if (!grown) return error_code();
    t->pair = grown;
    t->pair_room = 2 * t->pair_room + 1024;
  }
  t->pair[t->pairs] = (Pair){.first = first, .second = second};
  *out = t->pairs++;
  *slot = (uint64_t)t->pairs;
  return OK;
}

/* Adds sign * count for every pair of the word; with a place for those that have `fresh` in them (all if -1). */
static Status count_word(Trainer *t, Word *w, int sign, int32_t fresh, bool place) {
  for (int32_t i = 0; i + 1 < w->length; i++) {
    int32_t p = 0;
    TRY(pair_of(t, w->symbol[i], w->symbol[i + 1], &p));
    Pair *pair = &t->pair[p];
    pair->count += sign * w->count;
    bool new = fresh < 0 || pair->first == fresh || pair->second == fresh;
    if (!place || !new || (pair->places && pair->places->word == w)) continue;
    Place *here = arena_alloc(&t->arena, sizeof *here);
    if (!here) return error_code();
    *here = (Place){.next = pair->places, .word = w};
    pair->places = here;
  }
  return OK;
}

static Status push_fresh(Trainer *t, const Word *w, int32_t fresh) {
  for (int32_t i = 0; i + 1 < w->length; i++) {
    int32_t p = 0;
    if (w->symbol[i] != fresh && w->symbol[i + 1] != fresh) continue;
    TRY(pair_of(t, w->symbol[i], w->symbol[i + 1], &p));
    TRY(push(t, (Best){.count = t->pair[p].count, .pair = p}));
  }
  return OK;
}

static Status merge_in(Trainer *t, Word *w, int32_t first, int32_t second, int32_t id) {
  int32_t n = 0, found = 0;
  for (int32_t i = 0; i + 1 < w->length && !found; i++) found = w->symbol[i] == first && w->symbol[i + 1] == second;
  if (!found) return OK;
  TRY(count_word(t, w, -1, -1, false));
  for (int32_t i = 0; i < w->length; i++) {
    bool here = i + 1 < w->length && w->symbol[i] == first && w->symbol[i + 1] == second;
    w->symbol[n++] = here ? id : w->symbol[i];
    i += here;
  }
  w->length = n;
  return count_word(t, w, 1, id, true);
}

/* --- the run --- */

/* The id of a token with these bytes: two merges can make the same one. */
static Status token_id(Trainer *t, const char *text, int32_t length, int32_t *out) {
  uint64_t *slot = map_slot(&t->tokens, hash_bytes(text, (size_t)length));
  if (!slot) return error_code();
  *out = (int32_t)*slot - 1;
  if (*slot && t->length[*out] == length && memcmp(t->text[*out], text, (size_t)length) == 0) return OK;
  *out = t->count++;
  *slot = (uint64_t)t->count;
  t->text[*out] = text;
  t->length[*out] = length;
  return OK;
}

static Status name_bytes(Trainer *t, int32_t tokens) {
  t->text = arena_calloc(&t->arena, (size_t)tokens + 1, sizeof *t->text);
  t->length = arena_calloc(&t->arena, (size_t)tokens + 1, sizeof *t->length);
  char *bytes = arena_alloc(&t->arena, 256);
  if (!t->text || !t->length || !bytes) return error_code();
  int32_t id;
  for (int i = 0; i < 256; i++) {
    bytes[i] = (char)i;
    TRY(token_id(t, bytes + i, 1, &id));
  }
  return OK;
}

static Status count_pairs(Trainer *t) {
  for (size_t i = 0; i < t->words.room; i++) {
    if (!t->words.full[i]) continue;
    for (Word *w = (Word *)(uintptr_t)t->words.entry[i].value; w; w = w->next) {
      w->symbol = arena_alloc(&t->arena, (size_t)w->byte_length * sizeof *w->symbol);
      if (!w->symbol) return error_code();
      for (w->length = 0; w->length < w->byte_length; w->length++) w->symbol[w->length] = (uint8_t)w->bytes[w->length];
      TRY(count_word(t, w, 1, -1, true));
    }
  }
  for (int32_t p = 0; p < t->pairs; p++) TRY(push(t, (Best){.count = t->pair[p].count, .pair = p}));
  return OK;
}

static Status note_merge(Trainer *t, int32_t first, int32_t second) {
  if (t->merges == t->merge_room) {
    int32_t *grown = mem_realloc(t->merge, (size_t)(2 * t->merge_room + 1024) * 2 * sizeof *grown);
    if (!grown) return error_code();
    t->merge = grown;
    t->merge_room = 2 * t->merge_room + 1024;
  }
  t->merge[2 * t->merges] = first;
  t->merge[2 * t->merges + 1] = second;
  t->merges++;
  return OK;
}

static Status merge_pair(Trainer *t, int32_t p) {
  int32_t first = t->pair[p].first, second = t->pair[p].second, id = 0; /* the array of pairs may move */
  int32_t a = t->length[first], b = t->length[second];
  char *joint = arena_alloc(&t->arena, (size_t)(a + b));
  if (!joint) return error_code();
  memcpy(joint, t->text[first], (size_t)a);
  memcpy(joint + a, t->text[second], (size_t)b);
  TRY(token_id(t, joint, a + b, &id));
  TRY(note_merge(t, first, second));
  for (Place *place = t->pair[p].places; place; place = place->next) TRY(merge_in(t, place->word, first, second, id));
  for (Place *place = t->pair[p].places; place; place = place->next) TRY(push_fresh(t, place->word, id));
  return OK;
}

Status trainer_run(Trainer *t, int32_t tokens, int64_t min_count, Learned *out) {
  TRY(name_bytes(t, tokens));
  TRY(count_pairs(t));
  while (t->count < tokens && t->heaped > 0) {
    Best best = pop(t);
    int64_t count = t->pair[best.pair].count;
    if (count == best.count && (count < min_count || count <= 0)) break;
    if (count == best.count) TRY(merge_pair(t, best.pair));
    else if (count > 0 && count < best.count) TRY(push(t, (Best){.count = count, .pair = best.pair}));
    if (t->merges % 64 == 0) TRY(interrupt_check());
  }
  *out = (Learned){.tokens = t->count, .merges = t->merges, .text = t->text, .length = t->length, .pair = t->merge};
  return OK;
}

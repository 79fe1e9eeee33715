/* map.c - linear probing, at most two thirds full. */
#include "base/map.h"

#include <string.h>

#include "base/mem.h"

/* The finalizer of MurmurHash3: neighbouring keys land far apart. */
static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
  x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
  return x ^ x >> 33;
}

uint64_t hash_bytes(const void *data, size_t bytes) {
  const uint8_t *p = data;
  uint64_t h = bytes, word;
  for (; bytes >= 8; bytes -= 8, p += 8) {
    memcpy(&word, p, 8);
    h = mix(h ^ word);
  }
  word = 0;
  memcpy(&word, p, bytes);
  return mix(h ^ word ^ 0x9e3779b97f4a7c15u);
}

static size_t probe(const Map *m, uint64_t key) {
  size_t i = mix(key) & (m->room - 1);
  while (m->full[i] && m->entry[i].key != key) i = (i + 1) & (m->room - 1);
  return i;
}

uint64_t *map_find(const Map *m, uint64_t key) {
  if (!m->room) return NULL;
  size_t i = probe(m, key);
  return m->full[i] ? &m->entry[i].value : NULL;
}

static int grow(Map *m) {
  Map larger = {.room = m->room ? 2 * m->room : 64};
  larger.entry = mem_alloc(larger.room * sizeof *larger.entry);
  larger.full = mem_calloc(larger.room, 1);
  if (!larger.entry || !larger.full) {
    map_free(&larger);
    return 0;
  }
  for (size_t i = 0; i < m->room; i++) {
    if (!m->full[i]) continue;
    size_t at = probe(&larger, m->entry[i].key);
    larger.entry[at] = m->entry[i];
    larger.full[at] = 1;
  }
  larger.used = m->used;
  map_free(m);
  *m = larger;
  return 1;
}

uint64_t *map_slot(Map *m, uint64_t key) {
  if (3 * (m->used + 1) > 2 * m->room && !grow(m)) return NULL;
  size_t i = probe(m, key);
  if (!m->full[i]) {
    m->full[i] = 1;
    m->used++;
    m->entry[i] = (MapEntry){.key = key};
  }
  return &m->entry[i].value;
}

void map_free(Map *m) {
  mem_free(m->entry);
  mem_free(m->full);
  *m = (Map){0};
}

/* arena.c - chunks that double in size, so that any content costs few allocations. */
#include "base/arena.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

enum { FIRST_CHUNK = 4096, LARGEST_CHUNK = 4 << 20, ROUND = 16 };

typedef struct ArenaChunk {
  struct ArenaChunk *next;
  size_t bytes;
} ArenaChunk;
_Static_assert(sizeof(ArenaChunk) % ROUND == 0, "what follows the header must be aligned");

static int grow(Arena *a, size_t bytes) {
  size_t room = a->room ? 2 * a->room : FIRST_CHUNK;
  if (room > LARGEST_CHUNK) room = LARGEST_CHUNK;
  if (room < bytes) room = bytes;
  ArenaChunk *c = mem_alloc(sizeof *c + room);
  if (!c) return 0;
  *c = (ArenaChunk){.next = a->chunks, .bytes = room};
  *a = (Arena){.chunks = c, .used = 0, .room = room};
  return 1;
}

void *arena_alloc(Arena *a, size_t bytes) {
  if (bytes > SIZE_MAX / 4) {
    fail(ERR_MEMORY, "out of memory: %zu bytes asked for", bytes);
    return NULL;
  }
  bytes = (bytes + ROUND - 1) / ROUND * ROUND;
  if (a->room - a->used < bytes && !grow(a, bytes)) return NULL;
  void *p = (char *)(a->chunks + 1) + a->used;
  a->used += bytes;
  return p;
}

void *arena_calloc(Arena *a, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) bytes = SIZE_MAX;
  void *p = arena_alloc(a, bytes);
  if (p) memset(p, 0, bytes);
  return p;
}

char *arena_copy(Arena *a, const void *text, size_t bytes) {
  char *p = arena_alloc(a, bytes + 1);
  if (!p) return NULL;
  memcpy(p, text, bytes);
  p[bytes] = '\0';
  return p;
}

void arena_free(Arena *a) {
  for (ArenaChunk *c = a->chunks, *next; c; c = next) {
    next = c->next;
    mem_free(c);
  }
  *a = (Arena){0};
}

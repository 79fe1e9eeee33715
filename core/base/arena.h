/* arena.h - many small blocks with one life: taken one by one, freed together.
 *
 * A parsed file is thousands of strings and nodes that live and die as one; an
 * arena gives each for the price of an addition, where mem_alloc would spend a
 * 64-byte header on it. Blocks come from mem_alloc and are 16-byte aligned.
 *
 *   Arena a = {0};
 *   char *s = arena_copy(&a, "name", 4);
 *   ...
 *   arena_free(&a); */
#ifndef quench_arena_h
#define quench_arena_h

#include <stddef.h>

typedef struct Arena {
  struct ArenaChunk *chunks; /* newest first */
  size_t used, room;         /* of the newest chunk */
} Arena;

void *arena_alloc(Arena *a, size_t bytes); /* uninitialised, or NULL with ERR_MEMORY recorded */
void *arena_calloc(Arena *a, size_t count, size_t size); /* zeroed; checks the product */
char *arena_copy(Arena *a, const void *text, size_t bytes); /* a copy with a zero byte behind it */
void arena_free(Arena *a); /* everything; the arena is empty and usable again */

#endif

/* map.h - a hash table from 64-bit keys to 64-bit values, open addressing, that only grows.
 *
 *   Map m = {0};
 *   uint64_t *v = map_slot(&m, key);   // inserted with 0 if new; NULL: no memory
 *   (*v)++;
 *   map_free(&m);
 * Pointers into it hold until the next map_slot. Iteration follows the slots, which is
 * the same order for the same sequence of insertions. */
#ifndef quench_map_h
#define quench_map_h

#include <stddef.h>
#include <stdint.h>

typedef struct MapEntry {
  uint64_t key, value;
} MapEntry;

typedef struct Map {
  MapEntry *entry;
  uint8_t *full; /* one byte a slot */
  size_t used, room; /* room is a power of two */
} Map;

uint64_t *map_find(const Map *m, uint64_t key); /* NULL if it is not there */
uint64_t *map_slot(Map *m, uint64_t key);
void map_free(Map *m);

uint64_t hash_bytes(const void *data, size_t bytes);

#endif

/* mem.h - memory: counted, pooled, 64-byte aligned, and able to fail on request.
 *
 * Every byte the core owns comes from here. Freed blocks are kept by size class
 * and reused, because first touch of fresh pages is dear (2 us a page measured
 * in virtual machines): a steady training step asks the system for nothing.
 * Blocks of 2 MiB and more are mapped with huge pages where the system has them.
 *
 * Thread-safe, but meant to be called outside parallel regions. */
#ifndef quench_mem_h
#define quench_mem_h

#include <stdbool.h>
#include <stddef.h>

/* Uninitialised memory, or NULL with ERR_MEMORY recorded. bytes = 0 gives a valid pointer. */
void *mem_alloc(size_t bytes);
/* Zeroed memory for count items of size bytes; checks the product for overflow. */
void *mem_calloc(size_t count, size_t size);
/* Grows or shrinks, keeping the content; on failure the old block is unchanged. */
void *mem_realloc(void *block, size_t bytes);
void mem_free(void *block); /* NULL is fine */

char *mem_strdup(const char *text);

typedef struct MemStats {
  size_t live;      /* bytes handed out and not yet freed */
  size_t peak;      /* largest live since mem_reset_peak */
  size_t cached;    /* bytes kept for reuse */
  size_t blocks;    /* blocks handed out and not yet freed */
  size_t system;    /* calls to the operating system for memory so far */
  size_t requests;  /* allocations so far */
} MemStats;

MemStats mem_stats(void);
void mem_reset_peak(void);
void mem_trim(void); /* gives all cached blocks back to the system */

/* A hard limit on live bytes (0: none): an allocation beyond it fails cleanly. */
void mem_set_limit(size_t bytes);

/* Called when the system has no memory, before an allocation fails; it may free
 * things (the Lua binding runs its collector). Returns true if a retry is worthwhile. */
void mem_set_reclaim(bool (*reclaim)(void *context), void *context);

/* For tests: the n-th allocation from now fails (n = 1: the next), once. 0 switches it off. */
void mem_fail_at(size_t n);

#endif

/* mem.c - size classes over malloc and mmap.
 *
 * A block carries a 64-byte header in front of the bytes handed out, so that
 * freeing needs no size and alignment is that of a cache line. Sizes are rounded
 * to classes four to an octave (waste at most 25 %, 12 % on average); each class
 * has a list of free blocks. The lists hold at most a quarter more bytes than the largest
 * live total seen so far (or a floor), so memory follows the work that is done; beyond
 * that go the classes that were asked for longest ago, which other shapes left behind. */
#include "base/mem.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/status.h"

/* Under the address sanitizer nothing is kept for reuse, and the slack behind a block is out of
 * bounds, so that a block used after its end or its freeing is seen. */
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
enum { POOLED = 0 };
#else
#define ASAN_POISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(start, bytes) ((void)(start), (void)(bytes))
enum { POOLED = 1 };
#endif

enum { ALIGN = 64, CLASSES = 4 * 48 };
static const size_t huge_page = (size_t)2 << 20;
static const size_t cache_floor = (size_t)64 << 20;

typedef struct Block {
  struct Block *next; /* in its free list */
  size_t bytes;       /* capacity behind the header */
  size_t used;        /* bytes asked for, what live counts */
  int class;
  uint32_t magic;
} Block;
_Static_assert(sizeof(Block) <= ALIGN, "the header must fit in front of an aligned block");
enum { MAGIC_LIVE = 0x51454e43, MAGIC_FREE = 0x46524545 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static Block *free_list[CLASSES];
static size_t asked[CLASSES]; /* number of the last request for each class */
static MemStats stats;
static size_t most_live; /* never reset, bounds the cache */
static size_t limit, fail_at;
static bool (*reclaim)(void *);
static void *reclaim_context;

/* Class c holds blocks of 2^(c/4 + 6) * {1, 1.25, 1.5, 1.75}[c % 4] bytes. */
static size_t class_bytes(int class) {
  size_t base = (size_t)64 << (class / 4);
  return base + (base / 4) * (size_t)(class % 4);
}

static int class_of(size_t bytes) {
  if (bytes <= 64) return 0;
  int octave = 63 - __builtin_clzll((unsigned long long)bytes) - 6;
  for (int class = octave * 4; class < CLASSES; class++)
    if (class_bytes(class) >= bytes) return class;
  return -1;
}

/* Fresh pages of a block of medium size come in one call instead of one fault each: here 2 us a page (a figure's pixels are
 * 1,500 of them). Not of large ones, which the threads that fill them clear in parallel, huge page by huge page. */
static void touch(void *p, size_t bytes) {
#ifdef MADV_POPULATE_WRITE
  if (bytes < (size_t)16 << 20) madvise(p, bytes, MADV_POPULATE_WRITE); /* a hint, too */
#else
  (void)p, (void)bytes;
#endif
}

/* Fresh memory from the border of a huge page on. Where mappings lie one behind the other instead, a large block shares its first and last
 * huge page with its neighbours, and the system gave it small pages there: half of a model's numbers in blocks of 2 to 8 MB, which cost
 * passes over them two to eight times the time. */
static void *map(size_t total) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE), pages = (total + page - 1) / page * page;
  char *raw = mmap(NULL, pages + huge_page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) return NULL;
  const size_t before = (huge_page - (uintptr_t)raw % huge_page) % huge_page;
  if (before) munmap(raw, before);
  munmap(raw + before + pages, huge_page - before);
  return raw + before;
}

static Block *system_alloc(size_t capacity, size_t bytes) {
  size_t total = capacity + ALIGN;
  if (total < huge_page) return aligned_alloc(ALIGN, (total + ALIGN - 1) / ALIGN * ALIGN);
  void *p = map(total);
  if (!p) return NULL;
#ifdef MADV_HUGEPAGE
  madvise(p, total, MADV_HUGEPAGE); /* a hint: failure changes nothing */
#endif
  touch(p, bytes + ALIGN);
  return p;
}

static void system_free(Block *b) {
  size_t total = b->bytes + ALIGN;
  if (total < huge_page) free(b);
  else munmap(b, total);
}

/* The class with free blocks that was asked for longest ago; -1: none. */
static int stalest(void) {
  int oldest = -1;
  for (int class = 0; class < CLASSES; class++)
    if (free_list[class] && (oldest < 0 || asked[class] < asked[oldest])) oldest = class;
  return oldest;
}

/* Frees cached blocks, stale classes first, until at most keep bytes stay. Lock held. */
static void trim_to(size_t keep) {
  for (int class; stats.cached > keep && (class = stalest()) >= 0;) {
    while (free_list[class] && stats.cached > keep) {
      Block *b = free_list[class];
      free_list[class] = b->next;
      stats.cached -= b->bytes;
      system_free(b);
    }
  }
}

/* *injected: this is the failure that mem_fail_at ordered, final. */
static Block *take(int class, size_t bytes, bool *injected) {
  Block *b = NULL;
  pthread_mutex_lock(&lock);
  asked[class] = ++stats.requests;
  *injected = fail_at && --fail_at == 0;
  if (!*injected && !(limit && stats.live + bytes > limit)) {
    size_t capacity = class_bytes(class);
    b = free_list[class];
    if (b) {
      free_list[class] = b->next;
      stats.cached -= b->bytes;
    } else {
      stats.system++;
      b = system_alloc(capacity, bytes);
      if (!b) {
        trim_to(0);
        b = system_alloc(capacity, bytes);
      }
      if (b) b->bytes = capacity;
    }
  }
  if (b) {
    b->class = class;
    b->used = bytes;
    b->magic = MAGIC_LIVE;
    ASAN_POISON_MEMORY_REGION((char *)b + ALIGN + bytes, b->bytes - bytes);
    stats.blocks++;
    stats.live += bytes;
    if (stats.live > stats.peak) stats.peak = stats.live;
    if (stats.live > most_live) most_live = stats.live;
  }
  pthread_mutex_unlock(&lock);
  return b;
}

void *mem_alloc(size_t bytes) {
  int class = bytes > SIZE_MAX / 2 ? -1 : class_of(bytes);
  bool injected = false;
  Block *b = class < 0 ? NULL : take(class, bytes, &injected);
  if (!b && class >= 0 && !injected && reclaim && reclaim(reclaim_context)) b = take(class, bytes, &injected);
  if (!b) {
    fail(ERR_MEMORY, "out of memory: %.1f MB asked for, %.1f MB in use", (double)bytes / 1e6, (double)stats.live / 1e6);
    return NULL;
  }
  return (char *)b + ALIGN;
}

void *mem_calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    fail(ERR_MEMORY, "out of memory: %zu items of %zu bytes overflow", count, size);
    return NULL;
  }
  void *p = mem_alloc(bytes);
  if (p) memset(p, 0, bytes);
  return p;
}

static Block *header(void *block) { return (Block *)((char *)block - ALIGN); }

void *mem_realloc(void *block, size_t bytes) {
  if (!block) return mem_alloc(bytes);
  void *p = mem_alloc(bytes);
  if (!p) return NULL;
  size_t old = header(block)->used;
  memcpy(p, block, old < bytes ? old : bytes);
  mem_free(block);
  return p;
}

void mem_free(void *block) {
  if (!block) return;
  Block *b = header(block);
  if (b->magic != MAGIC_LIVE) __builtin_trap(); /* freed twice, or written before its start */
  ASAN_UNPOISON_MEMORY_REGION((char *)b + ALIGN, b->bytes);
  pthread_mutex_lock(&lock);
  b->magic = MAGIC_FREE;
  stats.live -= b->used;
  stats.blocks--;
  b->next = free_list[b->class];
  free_list[b->class] = b;
  stats.cached += b->bytes;
  size_t keep = !POOLED ? 0 : most_live + most_live / 4 > cache_floor ? most_live + most_live / 4 : cache_floor; /* classes round up */
  if (stats.cached > keep) trim_to(keep);
  pthread_mutex_unlock(&lock);
}

char *mem_strdup(const char *text) {
  size_t n = strlen(text) + 1;
  char *copy = mem_alloc(n);
  if (copy) memcpy(copy, text, n);
  return copy;
}

MemStats mem_stats(void) {
  pthread_mutex_lock(&lock);
  MemStats s = stats;
  pthread_mutex_unlock(&lock);
  return s;
}

void mem_reset_peak(void) {
  pthread_mutex_lock(&lock);
  stats.peak = stats.live;
  pthread_mutex_unlock(&lock);
}

void mem_trim(void) {
  pthread_mutex_lock(&lock);
  trim_to(0);
  pthread_mutex_unlock(&lock);
}

void mem_set_limit(size_t bytes) { limit = bytes; }

void mem_set_reclaim(bool (*function)(void *), void *context) {
  reclaim = function;
  reclaim_context = context;
}

void mem_fail_at(size_t n) { fail_at = n; }

/* The pool of base/mem.h: a steady loop asks the system for nothing, also after work of other shapes. */
#include <stdint.h>

#include "base/mem.h"
#include "tests/tap.h"

enum { MB = 1 << 20, BLOCKS = 8, STEPS = 10 };

/* Under the address sanitizer nothing is kept for reuse (base/mem.c): every request reaches the system. */
#ifdef __SANITIZE_ADDRESS__
enum { EXPECTED = STEPS * 2 * BLOCKS };
#else
enum { EXPECTED = 0 };
#endif

/* Takes blocks of two sizes and frees them, as a training step does. */
static void step(size_t large, size_t small) {
  void *p[2 * BLOCKS];
  for (size_t i = 0; i < 2 * BLOCKS; i++) p[i] = mem_alloc((i % 2 ? small : large) - i * 1000);
  for (int i = 0; i < 2 * BLOCKS; i++) mem_free(p[i]);
}

/* What STEPS steps ask of the system. */
static size_t system_requests(size_t large, size_t small) {
  size_t before = mem_stats().system;
  for (int i = 0; i < STEPS; i++) step(large, small);
  return mem_stats().system - before;
}

#ifndef __SANITIZE_ADDRESS__
/* Large blocks lie so that the system can give them huge pages of 2 MB, neighbours or not. */
static int on_the_border(void) {
  void *p[BLOCKS];
  int good = 0;
  mem_trim();
  for (size_t i = 0; i < BLOCKS; i++) p[i] = mem_alloc(2 * MB + i * 300000);
  for (int i = 0; i < BLOCKS; i++) good += ((uintptr_t)p[i] - 64) % (2 * MB) == 0, mem_free(p[i]);
  return good;
}
#endif

int main(void) {
  system_requests(7 * MB, 2 * MB);
  ok(system_requests(7 * MB, 2 * MB) == EXPECTED, "a steady loop");
  system_requests(4 * MB, 3 * MB);
  ok(system_requests(4 * MB, 3 * MB) == EXPECTED, "other sizes, after their first round");
  system_requests(5 * MB, 6 * MB);
  ok(system_requests(5 * MB, 6 * MB) == EXPECTED, "and others again");
  ok(mem_stats().cached <= 110 * (size_t)MB, "what is kept is bounded (%zu MB)", mem_stats().cached / MB);
#ifndef __SANITIZE_ADDRESS__
  ok(on_the_border() == BLOCKS, "large blocks begin at the border of a huge page");
#endif
  mem_trim();
  ok(mem_stats().cached == 0, "and can be given back");
  return done();
}

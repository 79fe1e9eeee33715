/* The pool of base/mem.h: a steady loop asks the system for nothing, also after work of other shapes. */
#include "base/mem.h"
#include "tests/tap.h"

enum { MB = 1 << 20, BLOCKS = 8 };

/* Takes blocks of two sizes and frees them, as a training step does. */
static void step(size_t large, size_t small) {
  void *p[2 * BLOCKS];
  for (size_t i = 0; i < 2 * BLOCKS; i++) p[i] = mem_alloc((i % 2 ? small : large) - i * 1000);
  for (int i = 0; i < 2 * BLOCKS; i++) mem_free(p[i]);
}

/* What ten steps ask of the system. */
static size_t system_requests(size_t large, size_t small) {
  size_t before = mem_stats().system;
  for (int i = 0; i < 10; i++) step(large, small);
  return mem_stats().system - before;
}

int main(void) {
  system_requests(7 * MB, 2 * MB);
  ok(system_requests(7 * MB, 2 * MB) == 0, "a steady loop");
  system_requests(4 * MB, 3 * MB);
  ok(system_requests(4 * MB, 3 * MB) == 0, "other sizes, after their first round");
  system_requests(5 * MB, 6 * MB);
  ok(system_requests(5 * MB, 6 * MB) == 0, "and others again");
  ok(mem_stats().cached <= 110 * (size_t)MB, "what is kept is bounded (%zu MB)", mem_stats().cached / MB);
  mem_trim();
  ok(mem_stats().cached == 0, "and can be given back");
  return done();
}

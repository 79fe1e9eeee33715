/* tap.h - C unit tests that print TAP. A test program:
 *
 *   #include "tests/tap.h"
 *   int main(void) {
 *     ok(1 + 1 == 2, "one and one is %d", 2);
 *     near_(sqrt(2.0), 1.41421356, 1e-8, "root of two");
 *     return done();
 *   }
 * ok() and near_() return whether they held, so that a failure can print more. */
#ifndef quench_tap_h
#define quench_tap_h

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"

static int tap_count, tap_failed;

__attribute__((format(printf, 2, 3), unused)) static int ok(int condition, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("%s %d - ", condition ? "ok" : "not ok", ++tap_count);
  vprintf(format, arguments);
  va_end(arguments);
  printf("\n");
  tap_failed += !condition;
  return condition;
}

/* |a - b| <= tolerance * max(1, |b|); NaN never passes. */
__attribute__((unused)) static int near_(double a, double b, double tolerance, const char *what) {
  double room = tolerance * fmax(1, fabs(b));
  int good = fabs(a - b) <= room;
  ok(good, "%s", what);
  if (!good) printf("#   got %.17g, expected %.17g within %g\n", a, b, room);
  return good;
}

/* Prints the plan; checks that nothing of mem.h is still live. */
__attribute__((unused)) static int done(void) {
  MemStats s = mem_stats();
  ok(s.blocks == 0, "all memory returned (%zu bytes in %zu blocks live)", s.live, s.blocks);
  printf("1..%d\n", tap_count);
  return tap_failed != 0;
}

#endif

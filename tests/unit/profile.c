/* The measuring table: it has every kernel that the plain one has, computes the same, and counts. */
#include "kernel/profile.h"

#include "kernel/kernel.h"
#include "tests/tap.h"

#include <stddef.h>

/* Every slot from the first kernel on is a pointer. */
static void check_complete(DType d) {
  const Kernels *plain = kernels_of(0, d);
  profile_switch(true);
  const Kernels *measured = kernels_of(0, d);
  profile_switch(false);
  ok(measured != plain, "%s: another table while measuring", plain->name);
  size_t first = offsetof(Kernels, fill) / sizeof(void *), last = sizeof(Kernels) / sizeof(void *);
  void *a[sizeof(Kernels) / sizeof(void *)], *b[sizeof(Kernels) / sizeof(void *)];
  memcpy(a, plain, sizeof a), memcpy(b, measured, sizeof b);
  for (size_t i = first; i < last; i++) ok(a[i] && b[i] && a[i] != b[i], "%s: kernel %zu is measured", plain->name, i - first);
}

static void check_counts(void) {
  float a[6] = {1, 2, 3, 4, 5, 6}, b[6] = {1, 0, 0, 1, 1, 1}, c[4], plain[4];
  Gemm g = {.m = 2, .n = 2, .k = 3, .lda = 3, .ldb = 2, .ldc = 2, .alpha = 1, .batch = 1, .a = a, .b = b, .c = plain};
  kernels_of(0, F32)->gemm(&g);
  profile_switch(true);
  g.c = c;
  kernels_of(0, F32)->gemm(&g);
  kernels_of(0, F32)->gemm(&g);
  double dot = kernels_of(0, F32)->dot(6, a, a);
  profile_switch(false);
  kernels_of(0, F32)->gemm(&g);
  const ProfileEntry *e;
  ok(profile_entries(&e) == 2, "two kernels were called");
  ok(!strcmp(e[0].name, "gemm") && e[0].calls == 2 && e[0].flops == 2 * 24 && e[0].bytes == 2 * 4 * (6 + 6 + 4) && e[0].seconds > 0, "calls, flops and bytes of gemm");
  ok(!strcmp(e[1].name, "dot") && e[1].calls == 1 && dot == 91, "a kernel that returns a number");
  ok(!memcmp(c, plain, sizeof c), "the results are the same");
  profile_switch(true);
  ok(profile_entries(&e) == 0, "switching on starts from zero");
  profile_switch(false);
}

int main(void) {
  check_complete(F32);
  check_complete(F64);
  check_counts();
  return done();
}

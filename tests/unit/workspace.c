/* Memory of a thread's products: grows with the threads, never fails, and the products do not depend on it. */
#include <omp.h>
#include <sys/resource.h>

#include "kernel/kernel.h"
#include "kernel/workspace.h"
#include "tests/tap.h"

enum { M = 300, N = 200, K_ = 150 };
static float a[M * K_], b[K_ * N], c[2][M * N];

static void multiply(float *to) {
  const Gemm g = {.m = M, .n = N, .k = K_, .lda = K_, .ldb = N, .ldc = N, .alpha = 1, .a = a, .b = b, .c = to, .batch = 1};
  kernels_of(0, F32)->gemm(&g);
}

static void fill(int64_t n, float *x, int step) {
  for (int64_t i = 0; i < n; i++) x[i] = (float)((i * step) % 31) / 7 - 2;
}

static void apart(void) {
  void *left[4] = {0}, *right[4] = {0};
#pragma omp parallel num_threads(4)
  left[omp_get_thread_num()] = workspace_a(), right[omp_get_thread_num()] = workspace_b();
  bool good = true;
  for (int i = 0; i < 4; i++) {
    good &= left[i] && (char *)right[i] == (char *)left[i] + WORKSPACE_A && (uintptr_t)left[i] % 64 == 0;
    for (int j = 0; j < i; j++) good &= (char *)left[i] >= (char *)right[j] + WORKSPACE_B || (char *)left[j] >= (char *)right[i] + WORKSPACE_B;
  }
  ok(good, "each thread has its own piece, on a cache line's border");
}

/* No address left: threads that have no piece stay away. */
static void without_memory(void) {
  struct rlimit old, none;
  getrlimit(RLIMIT_AS, &old);
  none = old, none.rlim_cur = 1 << 20;
  omp_set_num_threads(8);
  setrlimit(RLIMIT_AS, &none);
  int threads = workspace_threads();
  multiply(c[1]);
  setrlimit(RLIMIT_AS, &old);
  ok(threads == 4, "with no memory left there are as many threads as have a piece: %d of 8", threads);
  ok(memcmp(c[0], c[1], sizeof c[0]) == 0, "and products are the same, bit for bit");
  ok(workspace_threads() == 8, "later there are more again");
}

int main(void) {
  fill(M * K_, a, 7);
  fill(K_ * N, b, 11);
  omp_set_num_threads(1);
  ok(workspace_threads() == 1, "one thread");
  multiply(c[0]);
  omp_set_num_threads(4);
  ok(workspace_threads() == 4, "four threads");
  int inside = 0;
#pragma omp parallel num_threads(2)
#pragma omp single
  inside = workspace_threads();
  ok(inside == 1, "one inside a parallel region");
  apart();
  multiply(c[1]);
  ok(memcmp(c[0], c[1], sizeof c[0]) == 0, "four threads give the product of one, bit for bit");
  without_memory();
  return done();
}

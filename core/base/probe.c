/* probe.c - see probe.h. The FMA loops are written with vector types of the compiler and
 * compiled for their instruction set one by one, so they do not depend on ARCH. */
#include "base/probe.h"

#include <cblas.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/blas.h"
#include "base/mem.h"

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* 12 independent chains hide the latency of 4 cycles on 2 (or 3) units. Each value runs to
 * the fixed point 1, far from denormal numbers. Twelve variables rather than an array, which
 * GCC would keep in memory; the empty asm keeps each step, in its register. */
enum { CHAINS = 12, ROUNDS = 20000 };

#define STEP(x) x = x * scale + shift; __asm__ volatile("" : CONSTRAINT(x));

#define FMA_LOOP(name, features, bytes)                                                  \
  typedef float name##_vector __attribute__((vector_size(bytes)));                       \
  features static float name(void) {                                                     \
    name##_vector scale, shift, a, b, c, d, e, f, g, h, i, j, k, l;                      \
    for (int n = 0; n < bytes / 4; n++) scale[n] = 0.9999f, shift[n] = 0.0001f;          \
    a = b = c = d = e = f = g = h = i = j = k = l = shift;                               \
    for (int r = 0; r < ROUNDS; r++) {                                                   \
      STEP(a) STEP(b) STEP(c) STEP(d) STEP(e) STEP(f) STEP(g) STEP(h) STEP(i) STEP(j) STEP(k) STEP(l) \
    }                                                                                    \
    a += b + c + d + e + f + g + h + i + j + k + l;                                      \
    return a[0];                                                                         \
  }

#if defined(__x86_64__)
#define CONSTRAINT(v) "+v"(v)
FMA_LOOP(fma_avx512, __attribute__((target("avx512f,fma"), optimize("O3,fp-contract=fast"))), 64)
FMA_LOOP(fma_avx2, __attribute__((target("avx2,fma"), optimize("O3,fp-contract=fast"))), 32)
#elif defined(__aarch64__)
#define CONSTRAINT(v) "+w"(v)
#else
#define CONSTRAINT(v) "+m"(v)
#endif
FMA_LOOP(fma_base, __attribute__((optimize("O3,fp-contract=fast"))), 16)

double probe_fma(double seconds) {
  float (*loop)(void) = fma_base;
  int lanes = 4;
#if defined(__x86_64__)
  BlasLevel level = blas_processor_level();
  if (level == BLAS_AVX512) loop = fma_avx512, lanes = 16;
  else if (level == BLAS_AVX2) loop = fma_avx2, lanes = 8;
#endif
  double best = 0, end = now() + seconds;
  volatile float keep = 0;
  do {
    double start = now();
    keep = keep + loop();
    double rate = 2.0 * CHAINS * ROUNDS * lanes / (now() - start) * 1e-9;
    if (rate > best) best = rate;
  } while (now() < end);
  return best;
}

#if defined(__x86_64__) && defined(__GNUC__) && __GNUC__ >= 11 && !defined(__clang__)
#define DOT(x) __asm__ volatile("vdpbf16ps %1, %1, %0" : "+v"(x) : "v"(one));
typedef float dot_vector __attribute__((vector_size(64)));

/* Twelve chains of the dot instruction: 32 multiply-adds each. */
__attribute__((target("avx512f,avx512bf16"), optimize("O3"))) static float dot_loop(void) {
  dot_vector one = {0}, a, b, c, d, e, f, g, h, i, j, k, l;
  a = b = c = d = e = f = g = h = i = j = k = l = one;
  for (int r = 0; r < ROUNDS; r++) {
    DOT(a) DOT(b) DOT(c) DOT(d) DOT(e) DOT(f) DOT(g) DOT(h) DOT(i) DOT(j) DOT(k) DOT(l)
  }
  a += b + c + d + e + f + g + h + i + j + k + l;
  return a[0];
}
static bool has_dot(void) { return blas_processor_level() == BLAS_AVX512 && __builtin_cpu_supports("avx512bf16"); }
#else
static float dot_loop(void) { return 0; }
static bool has_dot(void) { return false; }
#endif

double probe_bf16(double seconds) {
  double best = 0, end = now() + seconds;
  volatile float keep = 0;
  if (!has_dot()) return 0;
  do {
    double start = now();
    keep = keep + dot_loop();
    double rate = 2.0 * CHAINS * ROUNDS * 32 / (now() - start) * 1e-9;
    if (rate > best) best = rate;
  } while (now() < end);
  return best;
}

double probe_sgemm(int n, int repeats) {
  size_t area = (size_t)n * (size_t)n;
  float *a = mem_calloc(3 * area, sizeof(float));
  if (!a) return -1;
  float *b = a + area, *c = b + area;
  for (size_t i = 0; i < 2 * area; i++) a[i] = (float)(i % 17) - 8;
  double best = 0;
  for (int r = 0; r <= repeats; r++) { /* the first warms up */
    double start = now();
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, n, 1, a, n, b, n, 0, c, n);
    double rate = 2.0 * (double)n * (double)n * (double)n / (now() - start) * 1e-9;
    if (r && rate > best) best = rate;
  }
  mem_free(a);
  return best;
}

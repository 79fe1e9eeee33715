/* blas.c - see blas.h.
 *
 * The choice walks down: AVX-512 kernels (SkylakeX) if the processor has them, AVX2
 * (Haswell) if those fail the self-check, OpenBLAS's own choice if both do. blas_choose
 * takes the steps inside the process, as a library that was built to choose at run time
 * (DYNAMIC_ARCH) lets us; without that each step is one start of the program, and the
 * marker says which step we are at. */
#include "base/blas.h"

#include <cblas.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

static const char *const level_core[] = {"Prescott", "Sandybridge", "Haswell", "SkylakeX"};
static const char gave_up[] = "none";

BlasLevel blas_processor_level(void) {
#if defined(__x86_64__)
  __builtin_cpu_init(); /* the tests below include what the operating system saves */
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
    return BLAS_AVX512;
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return BLAS_AVX2;
  if (__builtin_cpu_supports("avx")) return BLAS_AVX;
#endif
  return BLAS_SSE;
}

BlasLevel blas_core_level(const char *core) {
  static const struct { const char *name; BlasLevel level; } known[] = {
    {"SkylakeX", BLAS_AVX512}, {"Cooperlake", BLAS_AVX512}, {"SapphireRapids", BLAS_AVX512},
    {"Haswell", BLAS_AVX2}, {"Zen", BLAS_AVX2}, {"Excavator", BLAS_AVX2},
    {"Sandybridge", BLAS_AVX}, {"Bulldozer", BLAS_AVX}, {"Piledriver", BLAS_AVX}, {"Steamroller", BLAS_AVX},
  };
  for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
    if (strcasecmp(core, known[i].name) == 0) return known[i].level;
  return BLAS_SSE;
}

const char *blas_core(void) { return openblas_get_corename(); }
const char *blas_config(void) { return openblas_get_config(); }

/* --- self-check --- */

enum { LARGEST = 104 }; /* edge of the largest matrix below */

/* Small whole numbers: every product and sum is exact in float, so equality is exact too. */
static double sample(uint32_t *state) {
  *state = *state * 1664525u + 1013904223u;
  return (double)(*state >> 29) - 3;
}

typedef struct Product { int m, n, k; } Product;

/* Entry (i, j) of op(A) op(B) by a plain loop. */
static double plain(const double *a, const double *b, bool ta, bool tb, Product p, int i, int j) {
  double sum = 0;
  for (int l = 0; l < p.k; l++) sum += (ta ? a[l * p.m + i] : a[i * p.k + l]) * (tb ? b[j * p.k + l] : b[l * p.n + j]);
  return sum;
}

static Status check_product(Product p, bool ta, bool tb, double *work) {
  enum { AREA = LARGEST * LARGEST };
  double *a = work, *b = a + AREA, *c = b + AREA;
  float *fa = (float *)(c + AREA), *fb = fa + AREA, *fc = fb + AREA;
  uint32_t state = (uint32_t)(p.m * 4 + ta * 2 + tb);
  for (int i = 0; i < p.m * p.k; i++) fa[i] = (float)(a[i] = sample(&state));
  for (int i = 0; i < p.k * p.n; i++) fb[i] = (float)(b[i] = sample(&state));
  for (int i = 0; i < p.m * p.n; i++) c[i] = fc[i] = 1;
  int lda = ta ? p.m : p.k, ldb = tb ? p.k : p.n;
  CBLAS_TRANSPOSE oa = ta ? CblasTrans : CblasNoTrans, ob = tb ? CblasTrans : CblasNoTrans;
  cblas_dgemm(CblasRowMajor, oa, ob, p.m, p.n, p.k, 2, a, lda, b, ldb, -1, c, p.n);
  cblas_sgemm(CblasRowMajor, oa, ob, p.m, p.n, p.k, 2, fa, lda, fb, ldb, -1, fc, p.n);
  /* every entry of small products; of large ones a seventh of the entries, other columns in each row */
  int stride = p.m * p.n > 4096 ? 7 : 1;
  for (int i = 0; i < p.m; i++)
    for (int j = i % stride; j < p.n; j += stride) {
      double right = 2 * plain(a, b, ta, tb, p, i, j) - 1;
      if (c[i * p.n + j] != right || fc[i * p.n + j] != (float)right)
        return fail(ERR_NUMERIC, "OpenBLAS (%s kernels): wrong %s of %d x %d x %d (%c%c): got %g, expected %g", blas_core(),
                    c[i * p.n + j] != right ? "dgemm" : "sgemm", p.m, p.n, p.k, ta ? 'T' : 'N', tb ? 'T' : 'N',
                    c[i * p.n + j] != right ? c[i * p.n + j] : (double)fc[i * p.n + j], right);
    }
  return OK;
}

Status blas_self_check(void) {
  /* edges around the register blocks (16, 24, 48), the small-matrix path, and the blocked path (m n k > 10^6) */
  static const Product shapes[] = {{1, 17, 33}, {16, 16, 16}, {31, 49, 7}, {101, 100, 101}};
  double *work = mem_alloc((3 * sizeof(double) + 3 * sizeof(float)) * LARGEST * LARGEST);
  if (!work) return error_code();
  Status s = OK;
  for (size_t i = 0; i < sizeof shapes / sizeof shapes[0] && s == OK; i++)
    for (int t = 0; t < 4 && s == OK; t++) s = check_product(shapes[i], t & 1, t & 2, work);
  mem_free(work);
  return s;
}

/* --- the choice --- */

static const char checked[] = "chosen by Quench for this processor, which OpenBLAS does not know; products checked";
static const char unchanged[] = "OpenBLAS's own choice; its faster kernels computed wrong products here";

static BlasPlan stay(const char *why) { return (BlasPlan){.action = BLAS_STAY, .why = why}; }

BlasPlan blas_plan(const char *set, const char *marker) {
  BlasLevel level = blas_core_level(blas_core()), possible = blas_processor_level();
  if (!marker) {
    if (set && *set) return stay("as OPENBLAS_CORETYPE says");
    /* Zen: OpenBLAS knows that processor and prefers AVX2 kernels on it */
    if (level >= possible || possible < BLAS_AVX2 || strcasecmp(blas_core(), "Zen") == 0) return stay("OpenBLAS's own choice");
    return (BlasPlan){BLAS_RESTART, level_core[possible], blas_core(), NULL};
  }
  if (strcmp(marker, gave_up) == 0) return stay(unchanged);
  if (blas_self_check() == OK) return stay(checked);
  if (level == BLAS_AVX512) return (BlasPlan){BLAS_RESTART, level_core[BLAS_AVX2], marker, NULL};
  return (BlasPlan){BLAS_RESTART, NULL, gave_up, NULL};
}

/* In the library where it chooses at run time, though in no header: what its constructor calls. */
extern void gotoblas_dynamic_init(void) __attribute__((weak));
extern void gotoblas_dynamic_quit(void) __attribute__((weak));

/* NULL: its own choice. False if it took others. */
static bool choose(const char *core) {
  if (core) setenv("OPENBLAS_CORETYPE", core, 1);
  gotoblas_dynamic_quit();
  gotoblas_dynamic_init();
  unsetenv("OPENBLAS_CORETYPE");
  return !core || strcasecmp(blas_core(), core) == 0;
}

bool blas_choose(BlasPlan *plan) {
  if (plan->action != BLAS_RESTART || !gotoblas_dynamic_init || !gotoblas_dynamic_quit) return false;
  for (int level = (int)blas_processor_level(); level >= BLAS_AVX2; level--)
    if (choose(level_core[level]) && blas_self_check() == OK) return *plan = stay(checked), true;
  choose(NULL);
  *plan = stay(unchanged);
  return true;
}

/* blas.h - which kernels OpenBLAS runs, whether they suit this processor, and whether they compute right.
 *
 * Debian's OpenBLAS 0.3.21 does not know processors younger than itself and falls
 * back to its SSE3 kernels ("Prescott"), four to five times slower than its AVX-512
 * ones. The kernels are chosen from OPENBLAS_CORETYPE when the library loads; we have it
 * choose again, or, where it cannot, start the program once more. lua/libraries.c does that:
 *
 *   BlasPlan plan = blas_plan(getenv("OPENBLAS_CORETYPE"), getenv("QUENCH_BLAS"));
 *   if (plan.action == BLAS_RESTART && !blas_choose(&plan)) setenv(...), exec(...);
 *
 * A value the user has set is never touched. */
#ifndef quench_blas_h
#define quench_blas_h

#include <stdbool.h>

#include "base/status.h"

/* The instruction sets that OpenBLAS has kernels for, in rising order of speed. */
typedef enum BlasLevel { BLAS_SSE, BLAS_AVX, BLAS_AVX2, BLAS_AVX512 } BlasLevel;

BlasLevel blas_processor_level(void);         /* what processor and system support */
BlasLevel blas_core_level(const char *core);  /* what the kernels named "Haswell", ... use */
const char *blas_core(void);                  /* the kernels in use */
const char *blas_config(void);                /* version and build options of the library */

/* Compares sgemm and dgemm with plain loops on small and blocked shapes, all four
 * transpositions (under 2 ms). ERR_NUMERIC names the first product that is wrong. */
Status blas_self_check(void);

typedef enum BlasAction { BLAS_STAY, BLAS_RESTART } BlasAction;
typedef struct BlasPlan {
  BlasAction action;
  const char *core;  /* for a restart: the value of OPENBLAS_CORETYPE, or NULL to unset it */
  const char *marker;/* for a restart: the value of QUENCH_BLAS, the note to the next start */
  const char *why;   /* one phrase for `quench doctor` */
} BlasPlan;

/* What to do at start. set: OPENBLAS_CORETYPE; marker: QUENCH_BLAS as left by an earlier start
 * of ours (NULL for the first). Runs the self-check where the choice was ours. */
BlasPlan blas_plan(const char *set, const char *marker);

/* Does what a plan of BLAS_RESTART wants in this process and sets the plan to BLAS_STAY, with the self-check behind it; takes
 * OPENBLAS_CORETYPE out of the environment. False, and nothing done, if the library cannot choose again. No product may be running. */
bool blas_choose(BlasPlan *plan);

#endif

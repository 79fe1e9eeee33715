/* The choice of OpenBLAS's kernels. The program starts itself again with the slowest kernels,
 * as an OpenBLAS that does not know the processor would take them. */
#include <stdlib.h>
#include <unistd.h>

#include "base/blas.h"
#include "base/probe.h"
#include "tests/tap.h"

/* The library chooses again where it can: what a restart would have brought. */
static void chosen_here(void) {
  BlasPlan plan = {.action = BLAS_STAY};
  ok(!blas_choose(&plan) && strcmp(blas_core(), "Prescott") == 0, "a plan to stay changes nothing");
  plan = (BlasPlan){.action = BLAS_RESTART, .core = "Haswell"};
  if (!blas_choose(&plan)) {
    ok(plan.action == BLAS_RESTART && strcmp(blas_core(), "Prescott") == 0, "a library that cannot choose again is left alone");
    return;
  }
  ok(plan.action == BLAS_STAY && strstr(plan.why, "checked"), "chosen in this process, and checked: %s", plan.why);
  ok(blas_core_level(blas_core()) == blas_processor_level(), "the kernels of the processor: %s", blas_core());
  ok(!getenv("OPENBLAS_CORETYPE"), "the variable is gone again");
  ok(probe_sgemm(300, 1) > 0 && blas_self_check() == OK, "products of the new kernels are right: %s", error_message());
}

static void from_the_slowest(void) {
  BlasLevel can = blas_processor_level();
  ok(strcmp(blas_core(), "Prescott") == 0, "OpenBLAS took the kernels it was told to: %s", blas_core());
  BlasPlan plan = blas_plan("Prescott", NULL);
  ok(plan.action == BLAS_STAY, "a value the user has set stays");
  plan = blas_plan(NULL, NULL);
  if (can >= BLAS_AVX2) {
    ok(plan.action == BLAS_RESTART && blas_core_level(plan.core) == can, "a restart with the kernels of the processor");
    ok(strcmp(plan.marker, "Prescott") == 0, "the marker says where we came from");
  } else {
    ok(plan.action == BLAS_STAY, "an old processor keeps OpenBLAS's choice");
  }
  plan = blas_plan("", NULL);
  ok((plan.action == BLAS_RESTART) == (can >= BLAS_AVX2), "an empty value counts as unset");
  plan = blas_plan("SkylakeX", "Prescott");
  ok(plan.action == BLAS_STAY && strstr(plan.why, "checked"), "after the restart it stays, checked");
  plan = blas_plan(NULL, "none");
  ok(plan.action == BLAS_STAY, "no further restart once we gave up");
}

int main(int argc, char **argv) {
  (void)argc;
  const char *set = getenv("OPENBLAS_CORETYPE");
  if (!set || strcmp(set, "Prescott") != 0) {
    setenv("OPENBLAS_CORETYPE", "Prescott", 1);
    execv("/proc/self/exe", argv);
  }
  from_the_slowest();
  ok(blas_self_check() == OK, "products of the plain kernels are right: %s", error_message());
  mem_fail_at(1);
  ok(blas_self_check() == ERR_MEMORY, "no memory is an error, not a crash");
  ok(blas_core_level("skylakex") == BLAS_AVX512 && blas_core_level("Zen") == BLAS_AVX2 && blas_core_level("Prescott") == BLAS_SSE,
     "levels of the kernels by name");
  ok(probe_fma(0.001) > 0.1 && probe_sgemm(64, 1) > 0, "probes give a rate");
  ok(probe_bf16(0.001) == 0 || probe_bf16(0.001) > 0.1, "so does that of bf16, where the processor has the instruction");
  if (blas_processor_level() >= BLAS_AVX2) chosen_here();
  return done();
}

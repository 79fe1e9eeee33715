/* libraries.c - see libraries.h.
 *
 * OpenBLAS chooses its kernels when it is loaded (base/blas.h), libgomp how long a thread without
 * work spins before it sleeps. Its 3 ms slow everything down by 5 to 7 times as soon as another
 * program wants a core; 20 us bridge the gaps between our kernels as well. Both ask the environment.
 * What the user has set stays; what we have set is taken away again, for the programs we start.
 *
 * Where the libraries allow it that happens in this process: OpenBLAS can be told to choose again, and
 * libgomp (up to gcc 12) asks getenv(), which is ours, since a program's own symbols come before those of
 * the libraries. Where not, the program starts once more with the environment set, which costs 10 ms. */
#include "libraries.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/blas.h"

extern char **environ;

static char spins[] = "2000"; /* of libgomp, 100 a microsecond by its own estimate */
static bool in_main, asked;   /* asked: libgomp came for its setting, and took ours */

static char *variable(const char *name) {
  size_t n = strlen(name);
  for (char **e = environ; e && *e; e++)
    if (strncmp(*e, name, n) == 0 && (*e)[n] == '=') return *e + n + 1;
  return NULL;
}

/* The C library's, but for what libgomp asks before main. */
char *getenv(const char *name) {
  char *value = variable(name);
  if (value || in_main || strcmp(name, "GOMP_SPINCOUNT") != 0 || variable("OMP_WAIT_POLICY")) return value;
  asked = true;
  return spins;
}

/* Starts this program again, under its own name (through /proc/self/exe it would be called "exe"). */
static void start_again(char **argv) {
  char path[4096];
  ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
  if (n > 0) {
    path[n] = '\0';
    execv(path, argv);
  }
  execvp(argv[0], argv); /* where /proc is not mounted */
}

const char *settle_libraries(char **argv) {
  in_main = true;
  bool again = getenv("QUENCH_STARTED") != NULL;
  bool spin = !again && !asked && !getenv("OMP_WAIT_POLICY") && !getenv("GOMP_SPINCOUNT");
  BlasPlan plan = blas_plan(getenv("OPENBLAS_CORETYPE"), getenv("QUENCH_BLAS"));
  if (spin || (plan.action == BLAS_RESTART && !blas_choose(&plan))) {
    if (!again) setenv("QUENCH_STARTED", spin ? "spin" : "", 1);
    if (spin) setenv("GOMP_SPINCOUNT", spins, 1);
    if (plan.action == BLAS_RESTART) {
      if (plan.core) setenv("OPENBLAS_CORETYPE", plan.core, 1);
      else unsetenv("OPENBLAS_CORETYPE");
      setenv("QUENCH_BLAS", plan.marker, 1);
    }
    start_again(argv);
    if (plan.action == BLAS_RESTART)
      plan.why = "slow kernels: this processor is unknown to OpenBLAS and the program could not start itself again; "
                 "set OPENBLAS_CORETYPE=Haswell (or SkylakeX)";
  }
  const char *started = getenv("QUENCH_STARTED");
  if (started && strcmp(started, "spin") == 0) unsetenv("GOMP_SPINCOUNT");
  if (getenv("QUENCH_BLAS")) unsetenv("OPENBLAS_CORETYPE");
  unsetenv("QUENCH_BLAS");
  unsetenv("QUENCH_STARTED");
  return plan.why;
}

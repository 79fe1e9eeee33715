/* workspace.c - see workspace.h. */
#include "kernel/workspace.h"

#include <omp.h>
#include <stddef.h>
#include <sys/mman.h>

static char first[WORKSPACE_A + WORKSPACE_B] __attribute__((aligned(4096)));
static char *of_thread[WORKSPACE_MOST] = {first};
static int ready = 1;

static char *map(void) {
  void *p = mmap(NULL, WORKSPACE_A + WORKSPACE_B, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return p == MAP_FAILED ? NULL : p;
}

int workspace_threads(void) {
  if (omp_in_parallel()) return 1;
  int wanted = omp_get_max_threads();
  while (ready < wanted && ready < WORKSPACE_MOST && (of_thread[ready] = map())) ready++;
  return wanted < ready ? wanted : ready;
}

void *workspace_a(void) { return of_thread[omp_get_thread_num()]; }
void *workspace_b(void) { return of_thread[omp_get_thread_num()] + WORKSPACE_A; }

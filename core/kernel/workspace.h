/* workspace.h - memory in which a thread lays out the operands of a product, one piece a thread for all kernels.
 *
 * Not thread-local arrays: those are cleared at every start of the program and of each thread, 5 MB of them took a third
 * of the start-up. These are mapped when a thread is first needed, and cost only the pages that a product touches.
 * A region that calls products asks first how many threads have a piece:
 *
 *   #pragma omp parallel for num_threads(workspace_threads())
 *
 * so that a product never fails: with no memory left there is one thread, whose piece is part of the program. */
#ifndef quench_workspace_h
#define quench_workspace_h

enum {
  WORKSPACE_A = 1 << 19,    /* bytes for the left operand */
  WORKSPACE_B = 3 << 19,    /* and for the right one */
  WORKSPACE_MOST = 1024     /* threads */
};

int workspace_threads(void); /* how many threads may multiply: those of OpenMP, 1 inside a parallel region; call it from the thread that opens the region */
void *workspace_a(void);     /* of the calling thread, on a cache line's border */
void *workspace_b(void);

#endif

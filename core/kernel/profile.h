/* profile.h - time, calls, arithmetic and traffic of each kernel, while switched on.
 *
 * Switching on makes kernels_of() hand out a second table whose kernels measure
 * themselves (cpu/profile.c); switched off it costs nothing. */
#ifndef quench_kernel_profile_h
#define quench_kernel_profile_h

#include <stdbool.h>
#include <stdint.h>

typedef struct ProfileEntry {
  const char *name; /* of the table's slot, for example "gemm" */
  int64_t calls;
  double seconds;
  double flops;     /* additions and multiplications of the definition, not what the kernel may do besides */
  double bytes;     /* operands read and results written once each */
} ProfileEntry;

bool profile_switch(bool on);                 /* on: from zero; returns the old state */
bool profile_on(void);
int profile_entries(const ProfileEntry **out); /* in the order of their first call */

/* For cpu/profile.c. */
double profile_clock(void);
void profile_note(const char *name, double seconds, double flops, double bytes);

#endif

/* profile.c - see profile.h. Kernels are called by one thread at a time. */
#include "kernel/profile.h"

#include <string.h>
#include <time.h>

enum { ROOM = 128 };

static ProfileEntry entries[ROOM];
static int count;
static bool on_;

bool profile_switch(bool on) {
  bool before = on_;
  if (on && !before) count = 0;
  on_ = on;
  return before;
}

bool profile_on(void) { return on_; }

int profile_entries(const ProfileEntry **out) {
  *out = entries;
  return count;
}

double profile_clock(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void profile_note(const char *name, double seconds, double flops, double bytes) {
  int i = 0;
  while (i < count && entries[i].name != name && strcmp(entries[i].name, name) != 0) i++;
  if (i == ROOM) return;
  if (i == count) entries[count++] = (ProfileEntry){.name = name};
  entries[i].calls++;
  entries[i].seconds += seconds;
  entries[i].flops += flops;
  entries[i].bytes += bytes;
}

/* interrupt.c - three flags, written by a signal handler. */
#include "base/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t pending, deferring, noted;

void interrupt_request(void) {
  if (deferring && !noted) noted = 1;
  else pending = 1;
}

void interrupt_defer(bool on) {
  deferring = on;
  if (!on && noted) noted = 0, pending = 1;
}

void interrupt_clear(void) { pending = noted = 0; }
bool interrupt_pending(void) { return pending != 0; }
bool interrupt_noted(void) { return noted != 0; }
Status interrupt_check(void) { return pending ? fail(ERR_INTERRUPT, "interrupted") : OK; }

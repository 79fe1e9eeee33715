/* interrupt.c - four flags, written by a signal handler. */
#include "base/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t pending, deferring, noted, raised;

void interrupt_request(void) {
  raised = 0; /* a new wish */
  if (deferring && !noted) noted = 1;
  else pending = 1;
}

void interrupt_defer(bool on) {
  deferring = on;
  if (!on && noted) noted = 0, pending = 1;
}

void interrupt_raise(void) { pending = noted = 0, raised = 1; }
void interrupt_clear(void) { pending = noted = raised = 0; }
bool interrupt_raised(void) { return raised != 0; }
bool interrupt_pending(void) { return pending != 0; }
bool interrupt_noted(void) { return noted != 0; }
Status interrupt_check(void) { return pending ? fail(ERR_INTERRUPT, "interrupted") : OK; }

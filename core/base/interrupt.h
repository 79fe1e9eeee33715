/* interrupt.h - the user's wish to stop. A signal handler sets it, long loops
 * ask for it between blocks of work (never inside a parallel region). */
#ifndef quench_interrupt_h
#define quench_interrupt_h

#include <stdbool.h>

#include "base/status.h"

void interrupt_request(void); /* safe in a signal handler */
void interrupt_clear(void);   /* who calls it takes the responsibility: the wish has been met */

/* Turns the request into an error, of which the caller makes one: it is no longer pending, so that cleaning
 * up (a last save) is not stopped too, but raised until somebody clears it. Code that catches every error
 * must not go on: lua/main.c raises again. */
void interrupt_raise(void);
bool interrupt_raised(void);

/* While on, a first request is only noted, for work that must end at a boundary (a training
 * step); a second one becomes pending at once. Switching off makes a noted request pending. */
void interrupt_defer(bool on);
bool interrupt_noted(void);

bool interrupt_pending(void);
/* ERR_INTERRUPT if a request is pending (it stays pending until cleared), else OK. */
Status interrupt_check(void);

#endif

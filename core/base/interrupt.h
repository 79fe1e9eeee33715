/* interrupt.h - the user's wish to stop. A signal handler sets it, long loops
 * ask for it between blocks of work (never inside a parallel region). */
#ifndef quench_interrupt_h
#define quench_interrupt_h

#include <stdbool.h>

#include "base/status.h"

void interrupt_request(void); /* safe in a signal handler */
void interrupt_clear(void);

/* While on, a first request is only noted, for work that must end at a boundary (a training
 * step); a second one becomes pending at once. Switching off makes a noted request pending. */
void interrupt_defer(bool on);
bool interrupt_noted(void);

bool interrupt_pending(void);
/* ERR_INTERRUPT if a request is pending (it stays pending until cleared), else OK. */
Status interrupt_check(void);

#endif

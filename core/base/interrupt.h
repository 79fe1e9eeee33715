/* interrupt.h - the user's wish to stop. A signal handler sets it, long loops
 * ask for it between blocks of work (never inside a parallel region). */
#ifndef quench_interrupt_h
#define quench_interrupt_h

#include <stdbool.h>

#include "base/status.h"

void interrupt_request(void); /* safe in a signal handler */
void interrupt_clear(void);
bool interrupt_pending(void);
/* ERR_INTERRUPT if a request is pending (it stays pending until cleared), else OK. */
Status interrupt_check(void);

#endif

/* interrupt.c - one flag. */
#include "base/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t pending;

void interrupt_request(void) { pending = 1; }
void interrupt_clear(void) { pending = 0; }
bool interrupt_pending(void) { return pending != 0; }
Status interrupt_check(void) { return pending ? fail(ERR_INTERRUPT, "interrupted") : OK; }

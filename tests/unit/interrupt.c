/* Requests to stop: at once, deferred to a boundary, and twice while deferred. */
#include "base/interrupt.h"
#include "tests/tap.h"

int main(void) {
  ok(!interrupt_pending() && interrupt_check() == OK, "nothing asked for");
  interrupt_request();
  ok(interrupt_pending() && interrupt_check() == ERR_INTERRUPT, "a request is pending at once");
  interrupt_clear();
  ok(!interrupt_pending(), "and can be cleared");
  interrupt_request();
  interrupt_raise();
  ok(interrupt_raised() && !interrupt_pending() && interrupt_check() == OK, "raised, it stops no further work");
  interrupt_request();
  ok(interrupt_pending(), "but a new one does");
  interrupt_clear();
  ok(!interrupt_raised() && !interrupt_pending(), "until it is met");
  interrupt_defer(true);
  interrupt_request();
  ok(!interrupt_pending() && interrupt_noted() && interrupt_check() == OK, "while deferred it is only noted");
  interrupt_defer(false);
  ok(interrupt_pending() && !interrupt_noted(), "and pending afterwards");
  interrupt_clear();
  interrupt_defer(true);
  interrupt_request();
  interrupt_request();
  ok(interrupt_pending(), "a second request does not wait");
  interrupt_clear();
  interrupt_defer(false);
  ok(!interrupt_pending() && !interrupt_noted(), "cleared, both are gone");
  return done();
}

/* pool.c - who owns the results of operations, and whether they are recorded.
 *
 * A pool is a level on one stack of references. Rules of ops, bindings and graph walks
 * open a level, compute freely with temporaries, keep (retain) what they want, and
 * close the level. */
#include "autograd/op.h"
#include "base/mem.h"

static _Thread_local Tensor **items;
static _Thread_local size_t count, room, base;
static _Thread_local bool recording = true;

Pool pool_open(void) {
  Pool p = {.mark = count, .base = base};
  base = count;
  return p;
}

static void release_to(size_t mark) {
  while (count > mark) tensor_release(items[--count]);
  if (count == 0 && room > 0) { /* nothing is held between calls, so that leak checks see zero */
    mem_free(items);
    items = NULL;
    room = 0;
  }
}

void pool_close(Pool p) {
  release_to(p.mark);
  base = p.base;
}

void pool_drain(void) { release_to(base); }

Tensor *pool_keep(Tensor *t) {
  if (!t) return NULL;
  if (count == room) {
    size_t bigger = room ? 2 * room : 256;
    Tensor **grown = mem_realloc(items, bigger * sizeof *items);
    if (!grown) {
      tensor_release(t);
      return NULL;
    }
    items = grown;
    room = bigger;
  }
  return items[count++] = t;
}

bool grad_enabled(void) { return recording; }

bool grad_enable(bool on) {
  bool old = recording;
  recording = on;
  return old;
}

bool tensor_needs_grad(const Tensor *t) { return t && t->requires_grad; }

/* splitter.c - the steps, each a walk over matches and gaps in order. */
#define _GNU_SOURCE /* memmem */
#include "io/splitter.h"

#include <string.h>

#include "io/utf8.h"

typedef struct Run {
  const Splitter *splitter;
  WordFunction word;
  void *context;
} Run;

bool behaviour_parse(const char *name, Behaviour *out) {
  static const char *names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
  for (int i = 0; i < BEHAVIOUR_COUNT; i++) {
    if (strcmp(names[i], name) != 0) continue;
    *out = (Behaviour)i;
    return true;
  }
  return false;
}

Status splitter_add(Splitter *s, const char *regex, size_t bytes, Behaviour behaviour, bool invert) {
  if (s->steps == MAX_STEPS) return fail(ERR_UNSUPPORTED, "more than %d steps that split text", MAX_STEPS);
  TRY(pattern_compile(regex, bytes, &s->step[s->steps].pattern));
  s->step[s->steps].behaviour = behaviour;
  s->step[s->steps++].invert = invert;
  return OK;
}

void splitter_free(Splitter *s) {
  for (int i = 0; i < s->steps; i++) pattern_free(s->step[i].pattern);
  *s = (Splitter){0};
}

/* Where the next word begins: at a marker whose neighbour to the left is no marker. */
static size_t next_cut(const Splitter *s, const char *text, size_t bytes, size_t from) {
  for (size_t at = from + 1; at < bytes; at++) {
    const char *hit = memmem(text + at, bytes - at, s->marker, s->marker_bytes);
    if (!hit) return bytes;
    at = (size_t)(hit - text);
    bool follows = at >= s->marker_bytes && memcmp(hit - s->marker_bytes, s->marker, s->marker_bytes) == 0;
    if (!follows) return at;
  }
  return bytes;
}

static Status emit(const Run *r, const char *text, size_t bytes) {
  if (bytes == 0) return OK;
  if (!r->splitter->marker) return r->word(r->context, text, bytes);
  for (size_t at = 0, end; at < bytes; at = end) {
    end = next_cut(r->splitter, text, bytes, at);
    TRY(r->word(r->context, text + at, end - at));
  }
  return OK;
}

static Status run_step(const Run *r, int step, const char *text, size_t bytes);

/* One match or gap. *pending is the start of a piece that waits for its neighbour, or SIZE_MAX. */
static Status take_span(const Run *r, int step, const char *text, size_t start, size_t end, bool match, size_t *pending, bool *last_match) {
  const size_t none = (size_t)-1;
  bool waits = *pending != none, same = waits && *last_match == match;
  size_t from = start;
  *last_match = match;
  switch (r->splitter->step[step].behaviour) {
    case REMOVED:
      return match ? OK : run_step(r, step + 1, text + start, end - start);
    case CONTIGUOUS:
      if (same) return OK;
      from = *pending, *pending = start;
      return waits ? run_step(r, step + 1, text + from, start - from) : OK;
    case WITH_NEXT: /* a match waits for the gap behind it */
      from = waits ? *pending : start;
      *pending = match ? start : none;
      if (!match) return run_step(r, step + 1, text + from, end - from);
      return waits ? run_step(r, step + 1, text + from, start - from) : OK;
    case WITH_PREVIOUS: /* a gap waits for the match behind it */
      from = waits ? *pending : start;
      *pending = match ? none : start;
      return match ? run_step(r, step + 1, text + from, end - from) : OK;
    default:
      return run_step(r, step + 1, text + start, end - start);
  }
}

static Status run_step(const Run *r, int step, const char *text, size_t bytes) {
  if (bytes == 0) return OK;
  if (step == r->splitter->steps) return emit(r, text, bytes);
  bool invert = r->splitter->step[step].invert, last = false;
  size_t pending = (size_t)-1;
  for (size_t at = 0; at < bytes;) {
    size_t start = at, end;
    TRY(pattern_next(r->splitter->step[step].pattern, text, bytes, &start, &end));
    if (start > at) TRY(take_span(r, step, text, at, start, invert, &pending, &last));
    if (end > start) TRY(take_span(r, step, text, start, end, !invert, &pending, &last));
    at = end;
  }
  return pending == (size_t)-1 ? OK : run_step(r, step + 1, text + pending, bytes - pending);
}

Status splitter_run(const Splitter *s, const char *text, size_t bytes, WordFunction word, void *context) {
  Run r = {.splitter = s, .word = word, .context = context};
  if (s->steps == 0) return emit(&r, text, bytes);
  for (size_t at = 0; at < bytes;) {
    size_t good = utf8_valid(text + at, bytes - at), bad = 0;
    TRY(run_step(&r, 0, text + at, good));
    at += good;
    while (at + bad < bytes && utf8_valid(text + at + bad, bytes - at - bad < 4 ? bytes - at - bad : 4) == 0)
      bad += (size_t)utf8_bad(text + at + bad, bytes - at - bad);
    if (bad) TRY(word(context, text + at, bad));
    at += bad;
  }
  return OK;
}

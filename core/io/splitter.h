/* splitter.h - cuts text into words: the pre-tokenizer of tokenizer.json.
 *
 * A splitter is a list of steps; each cuts the pieces of the one before it with a
 * pattern. What a step does with matches and with what lies between them follows
 * the names of Hugging Face's tokenizers. Bytes that are not UTF-8 are cut out first,
 * each run of them a word of its own, so that no byte is lost and no pattern fails. */
#ifndef quench_splitter_h
#define quench_splitter_h

#include <stdbool.h>
#include <stddef.h>

#include "io/pattern.h"

typedef enum Behaviour { ISOLATED, REMOVED, WITH_PREVIOUS, WITH_NEXT, CONTIGUOUS, BEHAVIOUR_COUNT } Behaviour;

enum { MAX_STEPS = 8 };

typedef struct Splitter {
  int steps;
  struct {
    Pattern *pattern; /* owned */
    Behaviour behaviour;
    bool invert; /* matches and what lies between them change places */
  } step[MAX_STEPS];
  const char *marker; /* SentencePiece's space, or NULL: words are also cut in front of a run of it */
  size_t marker_bytes;
} Splitter;

typedef Status (*WordFunction)(void *context, const char *word, size_t bytes);

bool behaviour_parse(const char *name, Behaviour *out); /* "Isolated", ... */
Status splitter_add(Splitter *s, const char *regex, size_t bytes, Behaviour behaviour, bool invert);
/* Calls word for each word of the text, in order; stops at the first error. */
Status splitter_run(const Splitter *s, const char *text, size_t bytes, WordFunction word, void *context);
void splitter_free(Splitter *s);

#endif

/* bpe_train.h - learning the merges of a byte-level BPE from counted words. */
#ifndef quench_bpe_train_h
#define quench_bpe_train_h

#include <stdint.h>

#include "base/status.h"
#include "io/splitter.h"

typedef struct Trainer Trainer;

/* What was learned; the arrays belong to the trainer. Tokens 0 .. 255 are the bytes. */
typedef struct Learned {
  int32_t tokens, merges;
  const char *const *text; /* of each token */
  const int32_t *length;
  const int32_t *pair;     /* pair[2k], pair[2k + 1]: the tokens that merge k joins */
} Learned;

Status trainer_new(Trainer **out);
Status trainer_word(void *trainer, const char *word, size_t bytes); /* counts one; fits splitter_run */
/* Merges until there are so many tokens or no pair occurs min_count times. Once for a trainer. */
Status trainer_run(Trainer *t, int32_t tokens, int64_t min_count, Learned *out);
void trainer_free(Trainer *t); /* NULL is fine */

#endif

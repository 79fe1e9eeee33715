/* tokenizer.h - text to token ids and back, for the tokenizers of tokenizer.json
 * (Hugging Face): byte-level BPE and SentencePiece-style BPE with byte fallback.
 *
 *   Tokenizer *t;
 *   TRY(tokenizer_load("tokenizer.json", &t));
 *   Ids ids = {0};
 *   TRY(tokenizer_encode(t, text, bytes, true, &ids));
 *   ...
 *   ids_free(&ids), tokenizer_free(t);
 *
 * Encoding: added tokens are cut out first (longest at the leftmost place), the rest is
 * normalized, cut into words and merged; the post-processor adds what it adds (a
 * beginning-of-text token, say) if `special` is true. Byte-level tokenizers take any
 * bytes, UTF-8 or not, and decoding gives the same bytes back.
 * A tokenizer holds a cache of words: not for two threads at once. */
#ifndef quench_tokenizer_h
#define quench_tokenizer_h

#include <stdbool.h>

#include "base/buffer.h"
#include "io/bpe.h"

typedef struct Tokenizer Tokenizer;

Status tokenizer_load(const char *path, Tokenizer **out);
Status tokenizer_parse(const char *json, size_t bytes, const char *name, Tokenizer **out);
void tokenizer_free(Tokenizer *t); /* NULL is fine */

/* 256 tokens, one a byte; ids are the bytes' values. */
Status tokenizer_bytes(Tokenizer **out);

typedef struct TrainOptions {
  int32_t vocab_size;   /* 256 bytes + merges + special tokens; fewer if the text has no more pairs */
  int64_t min_count;    /* pairs seen less often are not merged */
  const char *pattern;  /* regular expression that cuts words */
  int specials;
  const char *const *special; /* their ids are the last ones, in this order */
} TrainOptions;
/* Byte-level BPE from text. The pair seen most often is merged first; among equals the one that is greater
 * in byte order, first element before second (as in GPT-2 course material; see tests). */
Status tokenizer_train(const char *text, size_t bytes, const TrainOptions *options, Tokenizer **out);

Status tokenizer_encode(Tokenizer *t, const char *text, size_t bytes, bool special, Ids *out); /* appends */
/* skip: leaves special tokens out. An id that no token has is an error. */
Status tokenizer_decode(const Tokenizer *t, const int32_t *ids, int64_t n, bool skip, Buffer *out); /* appends */
Status tokenizer_save(const Tokenizer *t, const char *path); /* a tokenizer.json */

int32_t tokenizer_vocab_size(const Tokenizer *t); /* largest id + 1: rows an embedding needs */
const Token *tokenizer_token(const Tokenizer *t, int32_t id); /* NULL if no token has this id */
int32_t tokenizer_id(const Tokenizer *t, const char *bytes, size_t length); /* -1 if it is no token */

#endif

/* tokenizer_parts.h - what a Tokenizer is made of; shared by tokenizer*.c only. */
#ifndef quench_tokenizer_parts_h
#define quench_tokenizer_parts_h

#include "io/splitter.h"
#include "io/tokenizer.h"

enum { MAX_REWRITES = 8 };

/* A change of text: from -> to everywhere (Replace), to put in front (Prepend), or NFC. */
typedef struct Rewrite {
  enum { REPLACE, PREPEND, NFC } kind;
  const char *from, *to;
  size_t from_bytes, to_bytes;
} Rewrite;

/* Added tokens, found in text before anything else happens to it. */
typedef struct Added {
  const char *bytes;
  size_t length;
  int32_t id;
  bool eat_left, eat_right; /* takes the white space beside it along */
} Added;

typedef struct AddedSet {
  int count;
  Added *item;         /* by first byte, then longest first */
  int begin[257];      /* of each first byte */
} AddedSet;

typedef enum Scheme { NEVER, FIRST, ALWAYS } Scheme;

struct Tokenizer {
  Arena arena;
  Bpe bpe;
  AddedSet raw, normal; /* matched in the text as given; matched in the normalized text */
  int rewrites;
  Rewrite rewrite[MAX_REWRITES]; /* the normalizer */
  bool prefix_space;             /* a space in front of each stretch of text that has none */
  const char *marker;            /* Metaspace: what stands for a space, or NULL */
  Scheme marker_scheme;          /* ... and whether one is put in front of the text */
  Splitter splitter;
  Ids before, after;             /* what the post-processor adds */
  int decode_rewrites;           /* the decoder: on each token ... */
  Rewrite decode_rewrite[MAX_REWRITES];
  bool decode_bytes;             /* <0xNN> is a byte */
  const char *strip;             /* ... and at the ends of the whole */
  size_t strip_bytes;
  int strip_start, strip_stop;
  bool drop_first_space;         /* of the first token (Metaspace) */
  Buffer scratch, second;        /* of one stretch of text while it is encoded */
  Buffer source;                 /* the tokenizer.json it came from, for saving */
};

Status rewrite_apply(const Rewrite *r, const char *text, size_t bytes, Buffer *out); /* appends */
Status tokenizer_normalize(const Tokenizer *t, const char *text, size_t bytes, Buffer *out, Buffer *other);
/* Index of the first added token in text behind *start, or -1; its place in *start, *end. */
int added_next(const AddedSet *s, const char *text, size_t bytes, size_t *start, size_t *end);
void added_sort(AddedSet *s);
bool is_byte_token(const char *bytes, size_t length, uint8_t *value); /* "<0x0A>" */

#endif

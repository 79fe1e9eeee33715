/* bpe.h - byte-pair encoding (Sennrich et al., 2016): a vocabulary, ranked merges, and their
 * application to one word.
 *
 * Tokens are byte strings. A word starts as single bytes (byte-level, Radford et al., 2019) or
 * as code points that fall back to bytes (SentencePiece); then the adjacent pair of lowest
 * rank is merged, leftmost first, until none is left. Words repeat: a cache holds their ids. */
#ifndef quench_bpe_h
#define quench_bpe_h

#include <stdbool.h>

#include "base/arena.h"
#include "base/map.h"
#include "base/status.h"

typedef struct Ids {
  int32_t *id; /* from mem_alloc */
  int64_t count, room;
} Ids;
Status ids_add(Ids *ids, int32_t id);
Status ids_append(Ids *ids, const int32_t *id, int64_t n);
void ids_free(Ids *ids);

typedef struct Token {
  const char *bytes; /* NULL: no token has this id */
  int32_t length;
  bool added, special;
} Token;

typedef struct Bpe {
  Arena arena;
  Token *token;         /* by id */
  int32_t count;        /* largest id + 1 */
  int32_t *slot;        /* hash table of ids by bytes, -1: empty */
  size_t slots;
  Map merges;           /* a << 32 | b -> rank << 32 | id */
  bool byte_level;      /* words start as bytes, not as code points */
  bool byte_fallback;   /* unknown code points become the tokens <0x00> ... <0xFF> */
  bool ignore_merges;   /* a word that is a token needs no merging */
  bool fuse_unknown;
  int32_t unknown;      /* id or -1 */
  int32_t byte_id[256]; /* of the single bytes, or of <0xNN>; -1: none */
  struct Cache *cache;
  struct Work *work;
} Bpe;

Status bpe_init(Bpe *b, int32_t count); /* count: room for ids 0 .. count - 1 */
Status bpe_set(Bpe *b, int32_t id, const char *bytes, size_t length); /* ids and bytes must be new */
int32_t bpe_find(const Bpe *b, const char *bytes, size_t length);      /* id or -1 */
Status bpe_merge(Bpe *b, int32_t first, int32_t second, int32_t rank); /* their joint bytes must be a token */
Status bpe_word(Bpe *b, const char *bytes, size_t length, Ids *out);   /* appends; not for two threads at once */
void bpe_free(Bpe *b);

#endif

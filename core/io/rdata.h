/* rdata.h - texts out of R's data files, without R.
 *
 * R packages hold data either as Rdata.rdx + Rdata.rdb (an index and zlib-packed
 * objects) or as a .rda file (one packed list of objects). Both contain R's XDR
 * serialization. We want its character vectors: each becomes one text, its elements
 * joined by newlines, with one behind the last. Other objects are skipped.
 *
 *   RData d;
 *   TRY(rdata_read("janeaustenr/data/Rdata", &d));   // or "emma.rda"
 *   ... d.item[i].name, .text, .bytes ...
 *   rdata_free(&d); */
#ifndef quench_rdata_h
#define quench_rdata_h

#include "base/arena.h"
#include "base/status.h"

typedef struct RText {
  const char *name, *text;
  size_t bytes;
} RText;

typedef struct RData {
  int count;
  RText *item; /* in the file's order */
  Arena arena;
} RData;

/* path: a .rda file (plain or gzip; unpack bzip2 and xz first), else the base name of an .rdx/.rdb pair. */
Status rdata_read(const char *path, RData *out);
/* The same on bytes, for the pair and for a .rda file; name is what errors call them. */
Status rdata_parse_pair(const void *rdx, size_t rdx_bytes, const void *rdb, size_t rdb_bytes, const char *name, RData *out);
Status rdata_parse_file(const void *rda, size_t bytes, const char *name, RData *out);
void rdata_free(RData *d);

#endif

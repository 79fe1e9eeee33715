/* inflate.h - zlib and gzip streams in memory, with a limit on what may come out. */
#ifndef quench_inflate_h
#define quench_inflate_h

#include "base/buffer.h"

enum { INFLATE_LIMIT = 1 << 26 }; /* bytes: a small file must not fill the memory */

/* Appends the content of the zlib or gzip stream (told apart by its header). name is what errors call it. */
Status inflate_all(Buffer *out, const void *data, size_t bytes, const char *name);

#endif

/* utf8.h - UTF-8, byte by byte (Unicode 15, table 3-7): no overlong forms, no surrogates, at most U+10FFFF. */
#ifndef quench_utf8_h
#define quench_utf8_h

#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"

/* Bytes of the code point that starts at p (1 to 4), or 0 if none starts there. room >= 1. */
int utf8_next(const char *p, size_t room, uint32_t *point);
/* Writes a code point; returns its bytes. */
int utf8_put(uint32_t point, char out[4]);
/* Bytes of the longest valid prefix. */
size_t utf8_valid(const char *text, size_t bytes);
/* Bytes (1 to 3) of the ill-formed start at p: the longest prefix of some code point, which U+FFFD stands for. */
int utf8_bad(const char *p, size_t room);
/* Appends text with each ill-formed part replaced by U+FFFD, as web browsers do. */
Status utf8_repair(Buffer *b, const char *text, size_t bytes);

#endif

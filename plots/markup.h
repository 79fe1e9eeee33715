/* markup.h - reads the mark-up of font.h into a run of characters with a size and a rise each. */
#ifndef quench_markup_h
#define quench_markup_h

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

typedef struct Glyph {
  uint32_t code;      /* Unicode */
  float scale, rise;  /* size relative to the text; baseline above the text's, in text sizes */
  int8_t level;       /* 0 plain, > 0 raised, < 0 lowered */
} Glyph;

enum { MARKUP_GLYPHS = 1024 }; /* longer texts are cut */

typedef struct Markup {
  Glyph glyph[MARKUP_GLYPHS];
  int count;
} Markup;

/* Bytes that are not UTF-8 become U+FFFD. */
void markup_read(const char *text, Markup *out);

#endif

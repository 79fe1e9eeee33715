/* font.h - text as outlines: one font file, FreeType outlines without hinting, kerning,
 * super- and subscripts, Greek by name, a true minus sign.
 *
 *   TextSize size;
 *   TRY(text_measure("loss \\propto N^{-0.34}", 9, false, &size));
 *   TRY(text_path("10^-3", 9, false, &path));      // from the origin, along y = 0
 *
 * Mark-up:  ^{...} _{...}     raised and lowered, nested as needed
 *           x^2  10^-3        a caret before digits (with a sign) or one letter or sign
 *           \alpha \Delta \times \pm \infty \sqrt ...   Greek letters and signs by their TeX names
 *           $...$             inside, _x works without braces, names need no backslash
 *                             ($eta$, $rho_4$) and - is a minus sign
 * Everything else is itself, underscores included: "weight_decay" stays "weight_decay".
 *
 * The font is DejaVu Sans, from QUENCH_FONT or the usual folders. Outlines are scaled from
 * the font's own units in doubles, so text is the same on every machine with the same file. */
#ifndef quench_font_h
#define quench_font_h

#include <stdbool.h>
#include <stddef.h>

#include "base/status.h"
#include "path.h"

typedef struct TextSize {
  double width, ascent, descent; /* of the ink's line: superscripts raise the ascent */
} TextSize;

Status text_measure(const char *text, double size, bool bold, TextSize *out);
/* Appends the outlines, y pointing down, baseline at y = 0, starting at x = 0. */
Status text_path(const char *text, double size, bool bold, Path *out);
/* The same text in plain Unicode, superscript digits as ¹²³, for terminals; from mem_alloc. */
Status text_plain(const char *text, char **out);
/* The file in use, or an error that names the package. */
Status font_file(const char **path);
void font_close(void); /* forgets the open files; the next use opens them again */

#endif

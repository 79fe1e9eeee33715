/* pngfile.h - PNG files: pictures out, with dpi and texts; texts and pixels back in.
 *
 *   PngText note = {"parameters", "lr=0.01"};
 *   TRY(png_write("a.png", &(PngImage){640, 480, rgb, 150}, &note, 1));
 *   PngTexts texts;
 *   TRY(png_read_texts("a.png", &texts));
 *
 * The same picture gives the same bytes: fixed zlib level and row filter, no time stamp.
 * Texts are iTXt chunks (UTF-8, compressed when long), in front of the pixels.
 * The reader of texts trusts nothing: lengths, checksums and the size of what it inflates are checked. */
#ifndef quench_pngfile_h
#define quench_pngfile_h

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct PngImage {
  int width, height;
  const uint8_t *rgb; /* 3 bytes a pixel, rows from the top */
  double dpi;         /* 0: not stored */
} PngImage;

typedef struct PngText {
  char *key;          /* 1-79 characters of printable ASCII */
  char *text;         /* UTF-8, zero-terminated */
  size_t bytes;
} PngText;

typedef struct PngTexts {
  PngText *item;
  size_t count, room;
} PngTexts;

/* The encoded file in memory from mem_alloc. */
Status png_encode(const PngImage *image, const PngText *texts, size_t count, uint8_t **out, size_t *bytes);
Status png_write(const char *path, const PngImage *image, const PngText *texts, size_t count);

Status png_read_texts(const char *path, PngTexts *out);
Status png_parse_texts(const uint8_t *data, size_t bytes, const char *name, PngTexts *out);
void png_texts_free(PngTexts *t);

/* Any PNG to 4 bytes a pixel (RGBA, alpha not multiplied in), from mem_alloc. */
Status png_decode(const char *path, int *width, int *height, uint8_t **rgba);

typedef struct PngDifference {
  size_t pixels; /* that differ in any channel; all of them if the sizes differ */
  int largest;   /* difference of a channel, 0..255 */
} PngDifference;

/* Compares two files; where they differ and `picture` is not NULL, writes there the
 * expected file's pixels in pale grey with the differences in red. */
Status png_compare(const char *expected, const char *actual, const char *picture, PngDifference *out);

#endif

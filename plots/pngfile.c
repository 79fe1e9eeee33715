/* pngfile.c - writing and decoding through libpng; see pngfile.h. Reading texts is in pngtext.c. */
#include "pngfile.h"

#include <math.h>
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/mem.h"

/* level 6 with the filter "none": drawings are mostly runs of one colour, where filters do not pay */
enum { ZLIB_LEVEL = 6, LONG_TEXT = 200, MAX_SIDE = 1 << 16, MAX_PIXELS = 1 << 28 };

static void on_error(png_structp png, png_const_charp message) {
  if (error_code() != ERR_MEMORY) fail(ERR_FORMAT, "png: %s", message);
  png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message) { (void)png, (void)message; }

static void on_write(png_structp png, png_bytep data, size_t n) {
  Buffer *b = png_get_io_ptr(png);
  if (buffer_add(b, data, n) != OK) png_error(png, "no memory");
}

static void on_flush(png_structp png) { (void)png; }

static Status check_texts(const PngText *texts, size_t count) {
  for (size_t i = 0; i < count; i++) {
    size_t n = strlen(texts[i].key);
    int bad = n < 1 || n > 79 || texts[i].key[0] == ' ' || texts[i].key[n - 1] == ' ';
    for (size_t k = 0; k < n && !bad; k++) bad = texts[i].key[k] < 32 || texts[i].key[k] > 126;
    if (bad) return fail(ERR_ARGUMENT, "png: the key of a text must be 1-79 printable ASCII characters, got '%.90s'", texts[i].key);
    if (strlen(texts[i].text) != texts[i].bytes) return fail(ERR_ARGUMENT, "png: the text '%s' holds a zero byte", texts[i].key);
  }
  return OK;
}

static void put_texts(png_structp png, png_infop info, const PngText *texts, size_t count) {
  png_set_text_compression_level(png, 9);
  for (size_t i = 0; i < count; i++) {
    png_text t = {.compression = texts[i].bytes > LONG_TEXT ? PNG_ITXT_COMPRESSION_zTXt : PNG_ITXT_COMPRESSION_NONE,
                  .key = texts[i].key, .text = texts[i].text, .itxt_length = texts[i].bytes, .lang = "", .lang_key = ""};
    png_set_text(png, info, &t, 1);
  }
}

/* Everything between setjmp and here lives in *b, so that nothing leaks on a jump. */
static Status encode(const PngImage *im, const PngText *texts, size_t count, Buffer *b) {
  png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_error, on_warning);
  png_infop info = png ? png_create_info_struct(png) : NULL;
  if (!info) {
    png_destroy_write_struct(&png, NULL);
    return fail(ERR_MEMORY, "png: libpng does not start");
  }
  if (setjmp(png_jmpbuf(png))) {
    png_destroy_write_struct(&png, &info);
    return error_code();
  }
  png_set_write_fn(png, b, on_write, on_flush);
  png_set_compression_level(png, ZLIB_LEVEL);
  png_set_filter(png, 0, PNG_FILTER_NONE);
  png_set_IHDR(png, info, (png_uint_32)im->width, (png_uint_32)im->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
               PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
  if (im->dpi > 0) {
    png_uint_32 per_metre = (png_uint_32)lrint(im->dpi / 0.0254);
    png_set_pHYs(png, info, per_metre, per_metre, PNG_RESOLUTION_METER);
  }
  png_set_sRGB(png, info, PNG_sRGB_INTENT_RELATIVE);
  put_texts(png, info, texts, count);
  png_write_info(png, info);
  for (int y = 0; y < im->height; y++) png_write_row(png, im->rgb + (size_t)y * (size_t)im->width * 3);
  png_write_end(png, NULL);
  png_destroy_write_struct(&png, &info);
  return OK;
}

Status png_encode(const PngImage *image, const PngText *texts, size_t count, uint8_t **out, size_t *bytes) {
  *out = NULL;
  TRY(check_texts(texts, count));
  error_clear();
  Buffer b = {0};
  if (encode(image, texts, count, &b) != OK) {
    buffer_free(&b);
    return error_code();
  }
  *out = (uint8_t *)b.data;
  *bytes = b.used;
  return OK;
}

Status png_write(const char *path, const PngImage *image, const PngText *texts, size_t count) {
  uint8_t *data;
  size_t bytes;
  TRY(png_encode(image, texts, count, &data, &bytes));
  Status s = file_write_all(path, data, bytes);
  mem_free(data);
  return s;
}

Status png_decode(const char *path, int *width, int *height, uint8_t **rgba) {
  *rgba = NULL;
  FileMap map;
  TRY(file_map(&map, path));
  png_image image = {.version = PNG_IMAGE_VERSION};
  Status s = OK;
  if (!png_image_begin_read_from_memory(&image, map.data, map.bytes)) {
    s = fail(ERR_FORMAT, "png: '%s': %s", path, image.message);
  } else if (image.width > MAX_SIDE || image.height > MAX_SIDE || (uint64_t)image.width * image.height > MAX_PIXELS) {
    s = fail(ERR_FORMAT, "png: '%s': %u x %u pixels are too many to read", path, image.width, image.height);
  } else {
    image.format = PNG_FORMAT_RGBA;
    *rgba = mem_alloc(PNG_IMAGE_SIZE(image));
    if (!*rgba) s = error_code();
    else if (!png_image_finish_read(&image, NULL, *rgba, 0, NULL)) s = fail(ERR_FORMAT, "png: '%s': %s", path, image.message);
  }
  *width = (int)image.width, *height = (int)image.height;
  png_image_free(&image);
  file_unmap(&map);
  if (s != OK) {
    mem_free(*rgba);
    *rgba = NULL;
  }
  return s;
}

/* --- comparing --- */

/* rgb: grey where the same, red where not. Returns the counts. */
static PngDifference mark_differences(const uint8_t *a, const uint8_t *b, size_t pixels, uint8_t *rgb) {
  PngDifference d = {0};
  for (size_t i = 0; i < pixels; i++) {
    int most = 0;
    for (int k = 0; k < 4; k++) {
      int difference = abs(a[4 * i + (size_t)k] - b[4 * i + (size_t)k]);
      if (difference > most) most = difference;
    }
    int grey = 191 + (a[4 * i] + a[4 * i + 1] + a[4 * i + 2]) / 12;
    for (int k = 0; k < 3; k++) rgb[3 * i + (size_t)k] = (uint8_t)(most == 0 ? grey : k == 0 ? 200 : 120 - most * 120 / 255);
    d.pixels += most > 0;
    if (most > d.largest) d.largest = most;
  }
  return d;
}

static Status compare_pixels(const uint8_t *a, const uint8_t *b, int w, int h, const char *picture, PngDifference *out) {
  uint8_t *rgb = mem_alloc((size_t)w * (size_t)h * 3);
  if (!rgb) return error_code();
  *out = mark_differences(a, b, (size_t)w * (size_t)h, rgb);
  Status s = OK;
  if (picture && out->pixels) s = png_write(picture, &(PngImage){w, h, rgb, 0}, NULL, 0);
  mem_free(rgb);
  return s;
}

Status png_compare(const char *expected, const char *actual, const char *picture, PngDifference *out) {
  *out = (PngDifference){0};
  uint8_t *a = NULL, *b = NULL;
  int wa, ha, wb, hb;
  TRY(png_decode(expected, &wa, &ha, &a));
  Status s = png_decode(actual, &wb, &hb, &b);
  if (s == OK && (wa != wb || ha != hb)) *out = (PngDifference){(size_t)wa * (size_t)ha, 255};
  else if (s == OK) s = compare_pixels(a, b, wa, ha, picture, out);
  mem_free(a);
  mem_free(b);
  return s;
}

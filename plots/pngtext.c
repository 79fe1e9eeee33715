/* pngtext.c - reads the texts of a PNG without decoding pixels; see pngfile.h.
 *
 * Own code rather than libpng's, because files come from strangers and only four facts
 * of the format matter: chunks are length, type, data, checksum (RFC 2083, 3.2); tEXt, zTXt
 * and iTXt hold a key and a text (4.2.7, PNG 1.2 4.2.3.3). */
#include <stdbool.h>
#include <string.h>
#include <zlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "path.h"
#include "pngfile.h"

enum { MAX_TEXT = 1 << 26, MAX_TEXTS = 1000, MAX_KEY = 79 };

typedef struct Reader {
  const uint8_t *data;
  size_t bytes, at;
  const char *name; /* of the file, for messages */
  size_t inflated;  /* so far, all texts together */
  PngTexts *out;
} Reader;

static uint32_t big_endian(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static Status inflate_text(Reader *r, const uint8_t *data, size_t bytes, char **text, size_t *length) {
  z_stream z = {.next_in = (Bytef *)(uintptr_t)data, .avail_in = (uInt)bytes};
  if (inflateInit(&z) != Z_OK) return fail(ERR_MEMORY, "png: zlib does not start");
  char *buffer = NULL;
  size_t room = 0, used = 0;
  int code = Z_OK;
  Status s = OK;
  while (s == OK && code == Z_OK) {
    if (r->inflated + used > MAX_TEXT) {
      s = fail(ERR_FORMAT, "png: '%s': texts inflate to more than %d MiB; refused", r->name, MAX_TEXT >> 20);
    } else if ((s = array_room((void **)&buffer, &room, used + 4096, 1)) == OK) {
      z.next_out = (Bytef *)buffer + used;
      z.avail_out = (uInt)(room - used - 1);
      code = inflate(&z, Z_NO_FLUSH);
      used = room - 1 - z.avail_out;
    }
  }
  inflateEnd(&z);
  if (s == OK && code != Z_STREAM_END) s = fail(ERR_FORMAT, "png: '%s': a compressed text is damaged", r->name);
  if (s != OK) {
    mem_free(buffer);
    return s;
  }
  buffer[used] = '\0';
  *text = buffer, *length = used;
  r->inflated += used;
  return OK;
}

static Status copy_text(const uint8_t *data, size_t bytes, char **text) {
  *text = mem_alloc(bytes + 1);
  if (!*text) return error_code();
  memcpy(*text, data, bytes);
  (*text)[bytes] = '\0';
  return OK;
}

/* Where the text begins and whether it is compressed; 0 if the chunk is malformed. */
static size_t text_start(const uint8_t *type, const uint8_t *data, size_t bytes, size_t key, int *compressed) {
  size_t at = key + 1;
  *compressed = 0;
  if (memcmp(type, "tEXt", 4) == 0) return at;
  if (memcmp(type, "zTXt", 4) == 0) return *compressed = 1, at < bytes && data[at] == 0 ? at + 1 : 0;
  if (at + 2 > bytes || data[at] > 1 || data[at + 1] != 0) return 0; /* iTXt: flag, method, language, translated key */
  *compressed = data[at];
  at += 2;
  for (int i = 0; i < 2; i++) {
    const uint8_t *end = memchr(data + at, 0, bytes - at);
    if (!end) return 0;
    at = (size_t)(end - data) + 1;
  }
  return at;
}

static Status read_text(Reader *r, const uint8_t *type, const uint8_t *data, size_t bytes) {
  const uint8_t *end = memchr(data, 0, bytes < MAX_KEY + 1 ? bytes : MAX_KEY + 1);
  int compressed;
  size_t key = end ? (size_t)(end - data) : 0, start = end ? text_start(type, data, bytes, key, &compressed) : 0;
  if (key == 0 || start == 0) return fail(ERR_FORMAT, "png: '%s': a malformed %.4s chunk", r->name, (const char *)type);
  if (r->out->count == MAX_TEXTS) return fail(ERR_FORMAT, "png: '%s': more than %d texts; refused", r->name, MAX_TEXTS);
  TRY(array_room((void **)&r->out->item, &r->out->room, r->out->count + 1, sizeof *r->out->item));
  PngText *t = &r->out->item[r->out->count];
  *t = (PngText){.bytes = bytes - start};
  TRY(copy_text(data, key, &t->key));
  r->out->count++; /* from here on png_texts_free frees it */
  if (compressed) return inflate_text(r, data + start, bytes - start, &t->text, &t->bytes);
  return copy_text(data + start, bytes - start, &t->text);
}

static Status read_chunk(Reader *r, bool *last) {
  const uint8_t *p = r->data + r->at;
  size_t left = r->bytes - r->at;
  if (left < 12) return fail(ERR_FORMAT, "png: '%s' is cut short after %zu bytes", r->name, r->bytes);
  uint32_t n = big_endian(p);
  if (n > left - 12) return fail(ERR_FORMAT, "png: '%s': a chunk claims %u bytes where %zu are left", r->name, n, left - 12);
  const uint8_t *type = p + 4;
  *last = memcmp(type, "IEND", 4) == 0;
  r->at += 12 + (size_t)n;
  if (memcmp(type, "tEXt", 4) != 0 && memcmp(type, "zTXt", 4) != 0 && memcmp(type, "iTXt", 4) != 0) return OK;
  if (crc32(crc32(0, NULL, 0), type, n + 4) != big_endian(p + 8 + n))
    return fail(ERR_FORMAT, "png: '%s': wrong checksum of a text chunk (the file is damaged)", r->name);
  return read_text(r, type, p + 8, n);
}

Status png_parse_texts(const uint8_t *data, size_t bytes, const char *name, PngTexts *out) {
  static const uint8_t signature[8] = {137, 'P', 'N', 'G', 13, 10, 26, 10};
  *out = (PngTexts){0};
  if (bytes < 8 || memcmp(data, signature, 8) != 0) return fail(ERR_FORMAT, "png: '%s' is not a PNG file", name);
  Reader r = {.data = data, .bytes = bytes, .at = 8, .name = name, .out = out};
  Status s = OK;
  for (bool last = false; s == OK && !last;) s = read_chunk(&r, &last);
  if (s != OK) png_texts_free(out);
  return s;
}

Status png_read_texts(const char *path, PngTexts *out) {
  *out = (PngTexts){0};
  FileMap map;
  TRY(file_map(&map, path));
  Status s = png_parse_texts(map.data, map.bytes, path, out);
  file_unmap(&map);
  return s;
}

void png_texts_free(PngTexts *t) {
  for (size_t i = 0; i < t->count; i++) {
    mem_free(t->item[i].key);
    mem_free(t->item[i].text);
  }
  mem_free(t->item);
  *t = (PngTexts){0};
}

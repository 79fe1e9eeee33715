/* plot_files.c - PNG files: round trips, and files that are not what they claim. */
#include "tests/tap.h"

#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include "base/random.h"
#include "pngfile.h"

static uint8_t rgb[3 * 7 * 5];

static Status make(const PngText *texts, size_t count, uint8_t **out, size_t *bytes) {
  for (size_t i = 0; i < sizeof rgb; i++) rgb[i] = (uint8_t)(i * 37);
  return png_encode(&(PngImage){7, 5, rgb, 150}, texts, count, out, bytes);
}

static void round_trip(void) {
  char path[] = "/tmp/quench_plot_XXXXXX";
  close(mkstemp(path));
  size_t n = 40000;
  char *recipe = malloc(n + 1);
  for (size_t i = 0; i < n; i++) recipe[i] = (char)("local x = 1\n"[i % 12]);
  recipe[n] = '\0';
  PngText texts[] = {{"recipe", recipe, n}, {"name", "\xce\xb1\xce\xb2 \xe2\x88\x92", 8}, {"empty", "", 0}};
  uint8_t *a, *b;
  size_t na, nb;
  ok(make(texts, 3, &a, &na) == OK && make(texts, 3, &b, &nb) == OK && na == nb && memcmp(a, b, na) == 0, "the same picture, the same bytes");
  ok(na < 2000, "a long text is stored compressed (%zu bytes in all)", na);
  ok(png_write(path, &(PngImage){7, 5, rgb, 150}, texts, 3) == OK, "written");
  PngTexts got;
  ok(png_read_texts(path, &got) == OK && got.count == 3, "three texts come back");
  int same = got.count == 3;
  for (size_t i = 0; same && i < 3; i++)
    same = strcmp(got.item[i].key, texts[i].key) == 0 && got.item[i].bytes == texts[i].bytes &&
           memcmp(got.item[i].text, texts[i].text, texts[i].bytes) == 0;
  ok(same, "as they were");
  png_texts_free(&got);
  int w = 0, h = 0;
  uint8_t *rgba = NULL;
  ok(png_decode(path, &w, &h, &rgba) == OK && w == 7 && h == 5, "the picture comes back");
  int right = rgba != NULL;
  for (int i = 0; right && i < 35; i++) right = memcmp(rgba + 4 * i, rgb + 3 * i, 3) == 0 && rgba[4 * i + 3] == 255;
  ok(right, "pixel by pixel");
  mem_free(rgba);
  mem_free(a);
  mem_free(b);
  free(recipe);
  unlink(path);
  ok(png_read_texts(path, &got) == ERR_IO && strstr(error_message(), path), "no file: %s", error_message());
}

static Status parse(const uint8_t *data, size_t n) {
  PngTexts t;
  Status s = png_parse_texts(data, n, "a.png", &t);
  png_texts_free(&t);
  return s;
}

/* Appends a chunk with a right checksum. */
static size_t chunk(uint8_t *out, const char *type, const void *data, size_t n) {
  for (int i = 0; i < 4; i++) out[i] = (uint8_t)(n >> (24 - 8 * i));
  memcpy(out + 4, type, 4);
  memcpy(out + 8, data, n);
  uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), out + 4, (uInt)n + 4);
  for (int i = 0; i < 4; i++) out[8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
  return n + 12;
}

static uint8_t file[1 << 18];

static size_t with_chunk(const char *type, const void *data, size_t n) {
  memcpy(file, "\211PNG\r\n\032\n", 8);
  size_t at = 8 + chunk(file + 8, type, data, n);
  return at + chunk(file + at, "IEND", "", 0);
}

static void malformed(void) {
  ok(parse((const uint8_t *)"GIF89a..", 8) == ERR_FORMAT && strstr(error_message(), "not a PNG"), "not a PNG: %s", error_message());
  ok(parse(file, 0) == ERR_FORMAT, "an empty file");
  size_t n = with_chunk("tEXt", "key\0value", 9);
  ok(parse(file, n) == OK, "a small good file");
  int all = 1;
  for (size_t cut = 0; cut < n; cut++) all = all && parse(file, cut) == ERR_FORMAT;
  ok(all, "cut anywhere, it is an error");
  file[8] = 0xff;
  ok(parse(file, n) == ERR_FORMAT && strstr(error_message(), "claims"), "a length beyond the file: %s", error_message());
  n = with_chunk("tEXt", "key\0value", 9);
  file[20] ^= 1;
  ok(parse(file, n) == ERR_FORMAT && strstr(error_message(), "checksum"), "a changed byte: %s", error_message());
  ok(parse(file, with_chunk("tEXt", "no zero byte", 12)) == ERR_FORMAT, "a key without end");
  ok(parse(file, with_chunk("tEXt", "\0value", 6)) == ERR_FORMAT, "an empty key");
  ok(parse(file, with_chunk("zTXt", "key\0", 4)) == ERR_FORMAT, "zTXt without method");
  ok(parse(file, with_chunk("zTXt", "key\0\0rubbish", 12)) == ERR_FORMAT && strstr(error_message(), "damaged"), "zTXt with rubbish: %s",
     error_message());
  ok(parse(file, with_chunk("iTXt", "key\0\1\0en", 8)) == ERR_FORMAT, "iTXt that stops in its language");
  ok(parse(file, with_chunk("iTXt", "key\0\5\0\0\0x", 9)) == ERR_FORMAT, "iTXt with an unknown flag");
  /* 200 MB of zeros compress to 200 kB: refused before they fill the memory */
  size_t zeros = 200 << 20, room = 1 << 18;
  uint8_t *bomb = malloc(room), block[1 << 16] = {0};
  memcpy(bomb, "key\0\0", 5);
  z_stream z = {.next_out = bomb + 5, .avail_out = (uInt)(room - 5)};
  deflateInit(&z, 9);
  for (size_t i = 0; i < zeros; i += sizeof block) z.next_in = block, z.avail_in = sizeof block, deflate(&z, Z_NO_FLUSH);
  deflate(&z, Z_FINISH);
  deflateEnd(&z);
  size_t used = room - z.avail_out;
  ok(used < sizeof file - 64 && parse(file, with_chunk("zTXt", bomb, used)) == ERR_FORMAT && strstr(error_message(), "refused"), "a bomb: %s",
     error_message());
  free(bomb);
}

static void bad_input(void) {
  uint8_t *out;
  size_t n;
  PngText zero = {"key", "a\0b", 3}, odd = {"k\n", "x", 1}, none = {"", "x", 1};
  ok(make(&zero, 1, &out, &n) == ERR_ARGUMENT, "a text with a zero byte: %s", error_message());
  ok(make(&odd, 1, &out, &n) == ERR_ARGUMENT && make(&none, 1, &out, &n) == ERR_ARGUMENT, "keys that PNG does not allow");
  ok(png_write("/nowhere/a.png", &(PngImage){7, 5, rgb, 0}, NULL, 0) == ERR_IO, "no such folder: %s", error_message());
}

/* Random damage must end in an error or in texts, never in a crash; the sanitizers watch. */
static void damage(void) {
  PngText texts[] = {{"recipe", "return 1", 8}, {"note", "x", 1}};
  uint8_t *data;
  size_t n;
  make(texts, 2, &data, &n);
  Random r = random_stream(7, "damage");
  int errors = 0;
  for (int k = 0; k < 2000; k++) {
    memcpy(file, data, n);
    for (int i = 0; i < 3; i++) file[random_below(&r, n)] = (uint8_t)random_u32(&r);
    errors += parse(file, random_below(&r, 4) ? n : random_below(&r, n)) != OK;
  }
  ok(errors > 400, "2000 damaged files: %d refused, none crashed", errors);
  mem_free(data);
}

int main(void) {
  round_trip();
  malformed();
  bad_input();
  damage();
  return done();
}

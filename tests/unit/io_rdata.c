/* NFC against Python's unicodedata (Unicode 14), and the reader of R data against files built here. */
#include <arpa/inet.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/sha256.h"
#include "io/inflate.h"
#include "io/nfc.h"
#include "io/rdata.h"
#include "io/utf8.h"
#include "tests/tap.h"

static void normalize(Sha256 *h, Buffer *b, const uint32_t *points, int n) {
  char text[16];
  size_t bytes = 0;
  for (int i = 0; i < n; i++) bytes += (size_t)utf8_put(points[i], text + bytes);
  b->used = 0;
  nfc(text, bytes, b);
  sha256_add(h, b->data, b->used);
}

static void digest_is(Sha256 *h, const char *expected, const char *what) {
  uint8_t digest[32];
  char hex[65];
  sha256_end(h, digest);
  for (int i = 0; i < 32; i++) snprintf(hex + 2 * i, 3, "%02x", digest[i]);
  ok(strcmp(hex, expected) == 0, "%s", what);
}

typedef struct Range { uint32_t from, to; } Range;

/* The digests are of the same texts normalized by Python 3.11's unicodedata. */
static void test_nfc(void) {
  static const Range bases[] = {{0x41, 0x17f}, {0x391, 0x450}, {0x915, 0x940}, {0x1100, 0x1113}, {0xac00, 0xac01}, {0x9c7, 0x9c8}};
  static const Range marks[] = {{0x300, 0x346}, {0x93c, 0x93d}, {0x9be, 0x9bf}, {0x9d7, 0x9d8}, {0x1161, 0x1176}, {0x11a7, 0x11c3}};
  static const uint32_t last[] = {0x301, 0x323, 0x345, 0x11a8};
  Buffer b = {0};
  Sha256 h;
  sha256_begin(&h);
  for (uint32_t c = 0; c < 0x110000; c++)
    if (c < 0xD800 || c > 0xDFFF) normalize(&h, &b, &c, 1);
  digest_is(&h, "1ffc8e6ce9e83df8e49fd62d6abb68f981775aed0b5101b88c213d4653e9b540", "every code point");
  sha256_begin(&h);
  for (int i = 0; i < 6; i++)
    for (uint32_t base = bases[i].from; base < bases[i].to; base++)
      for (int j = 0; j < 6; j++)
        for (uint32_t mark = marks[j].from; mark < marks[j].to; mark++)
          for (int k = 0; k < 4; k++) normalize(&h, &b, (uint32_t[]){base, mark, last[k]}, 3);
  digest_is(&h, "ce2d5bb6f9e8e3b2943826420072dd060ec93429baf786bf04f58fae130f5e52", "bases with two marks");
  b.used = 0;
  ok(nfc("e\xCC\x81\xFF\xCC\x81\n\xE2\x84\xAB", 10, &b) == OK && b.used == 8 && memcmp(b.data, "\xC3\xA9\xFF\xCC\x81\n\xC3\x85", 8) == 0, "bytes that are no UTF-8 stay and block");
  buffer_free(&b);
}

/* --- R data, written as R writes it --- */

static void word(Buffer *b, int32_t v) {
  uint32_t big = htonl((uint32_t)v);
  buffer_add(b, &big, 4);
}

static void chars(Buffer *b, const char *text) {
  word(b, 0x00040009); /* a string, UTF-8 or ASCII */
  word(b, text ? (int32_t)strlen(text) : -1);
  if (text) buffer_text(b, text);
}

static void strings(Buffer *b, int n, const char *const *text) {
  word(b, 16);
  word(b, n);
  for (int i = 0; i < n; i++) chars(b, text[i]);
}

static void header(Buffer *b) {
  buffer_add(b, "X\n", 2);
  word(b, 3), word(b, 0x40201), word(b, 0x30500);
  word(b, 5), buffer_text(b, "UTF-8");
}

static void names(Buffer *b, int n, const char *const *text) { /* attributes: a pairlist with the tag "names" */
  word(b, 1026), word(b, 1), chars(b, "names");
  strings(b, n, text);
  word(b, 254);
}

static void deflated(Buffer *out, const Buffer *plain) {
  uLongf n = compressBound(plain->used);
  buffer_reserve(out, n);
  compress2((Bytef *)out->data + out->used, &n, (Bytef *)plain->data, plain->used, 9);
  out->used += n;
}

/* list(variables = list(poem = c(0, length)), references = list()) and one object. */
static void make_pair(Buffer *rdx, Buffer *rdb) {
  Buffer object = {0}, index = {0};
  header(&object);
  strings(&object, 3, (const char *const[]){"a line", NULL, "caf\xC3\xA9"});
  word(rdb, (int32_t)object.used);
  deflated(rdb, &object);
  header(&index);
  word(&index, 531), word(&index, 2);
  word(&index, 531), word(&index, 1);
  word(&index, 13), word(&index, 2), word(&index, 0), word(&index, (int32_t)rdb->used);
  names(&index, 1, (const char *const[]){"poem"});
  word(&index, 19), word(&index, 0);
  /* the second "names" is a reference to the first symbol */
  word(&index, 1026), word(&index, 0x1FF);
  strings(&index, 2, (const char *const[]){"variables", "references"});
  word(&index, 254);
  deflated(rdx, &index);
  buffer_free(&object);
  buffer_free(&index);
}

static void test_pair(void) {
  Buffer rdx = {0}, rdb = {0};
  RData d;
  make_pair(&rdx, &rdb);
  Status s = rdata_parse_pair(rdx.data, rdx.used, rdb.data, rdb.used, "Rdata", &d);
  if (!ok(s == OK && d.count == 1 && strcmp(d.item[0].name, "poem") == 0, "an index and its object")) printf("#   %s\n", error_message());
  ok(d.count == 1 && strcmp(d.item[0].text, "a line\n\ncaf\xC3\xA9\n") == 0, "lines joined, a missing one empty");
  rdata_free(&d);
  ok(rdata_parse_pair(rdx.data, rdx.used, rdb.data, rdb.used - 1, "Rdata", &d) == ERR_FORMAT && strstr(error_message(), "'poem'"), "an object beyond the end");
  ok(rdata_parse_pair(rdx.data, rdx.used - 4, rdb.data, rdb.used, "Rdata", &d) == ERR_FORMAT && strstr(error_message(), "cut off"), "a cut-off index");
  rdb.data[12] ^= 0x55;
  ok(rdata_parse_pair(rdx.data, rdx.used, rdb.data, rdb.used, "Rdata", &d) == ERR_FORMAT, "a damaged object");
  ok(rdata_parse_pair("hello", 5, rdb.data, rdb.used, "Rdata", &d) == ERR_FORMAT, "no index at all");
  int failures = 0, others = 0;
  rdb.data[12] ^= 0x55;
  for (size_t n = 1; n < 100; n++) {
    mem_fail_at(n);
    s = rdata_parse_pair(rdx.data, rdx.used, rdb.data, rdb.used, "Rdata", &d);
    mem_fail_at(0);
    if (s == OK) {
      rdata_free(&d);
      break;
    }
    failures++, others += s != ERR_MEMORY;
  }
  ok(failures > 3 && others == 0, "%d failing allocations are reported as such", failures);
  buffer_free(&rdx);
  buffer_free(&rdb);
}

static void test_file(void) {
  Buffer rda = {0};
  RData d;
  buffer_text(&rda, "RDX3\n");
  header(&rda);
  word(&rda, 1026), word(&rda, 1), chars(&rda, "x");
  word(&rda, 14), word(&rda, 1), word(&rda, 0x3FF00000), word(&rda, 0); /* a number, which is skipped */
  word(&rda, 1026), word(&rda, 1), chars(&rda, "poem");
  strings(&rda, 1, (const char *const[]){"one"});
  word(&rda, 254);
  ok(rdata_parse_file(rda.data, rda.used, "a.rda", &d) == OK && d.count == 1 && strcmp(d.item[0].name, "poem") == 0 && strcmp(d.item[0].text, "one\n") == 0, "a .rda file");
  rdata_free(&d);
  ok(rdata_parse_file(rda.data, rda.used - 5, "a.rda", &d) == ERR_FORMAT && strstr(error_message(), "a.rda"), "cut off");
  ok(rdata_parse_file("BZh91AY", 7, "a.rda", &d) == ERR_FORMAT && strstr(error_message(), "unpack"), "packed with bzip2: says so");
  rda.used = 5;
  header(&rda);
  for (int i = 0; i < 100; i++) word(&rda, 19), word(&rda, 1);
  ok(rdata_parse_file(rda.data, rda.used, "a.rda", &d) == ERR_FORMAT && strstr(error_message(), "too deep"), "nested too deep");
  rda.used = 5;
  header(&rda);
  word(&rda, 16), word(&rda, 0x7FFFFFFF);
  ok(rdata_parse_file(rda.data, rda.used, "a.rda", &d) == ERR_FORMAT && strstr(error_message(), "length"), "a length beyond the end");
  ok(rdata_read("/no/such/Rdata", &d) == ERR_IO && strstr(error_message(), "/no/such/Rdata.rdx"), "a missing file");
  buffer_free(&rda);
}

static void test_bomb(void) {
  Buffer zeros = {0}, packed = {0}, out = {0};
  buffer_reserve(&zeros, 1 << 20);
  memset(zeros.data, 0, 1 << 20), zeros.used = 1 << 20;
  z_stream z = {0};
  deflateInit(&z, 9);
  buffer_reserve(&packed, 1 << 20);
  z.next_out = (Bytef *)packed.data, z.avail_out = 1 << 20;
  for (int i = 0; i <= INFLATE_LIMIT >> 20; i++) z.next_in = (Bytef *)zeros.data, z.avail_in = 1 << 20, deflate(&z, Z_NO_FLUSH);
  deflate(&z, Z_FINISH);
  packed.used = z.total_out;
  deflateEnd(&z);
  ok(inflate_all(&out, packed.data, packed.used, "bomb") == ERR_FORMAT && strstr(error_message(), "more than"), "%zu bytes that unpack to more than the limit", packed.used);
  buffer_free(&zeros), buffer_free(&packed), buffer_free(&out);
}

int main(void) {
  test_nfc();
  test_pair();
  test_file();
  test_bomb();
  return done();
}

/* UTF-8, SHA-256, buffers, arenas and the strict JSON reader. */
#include <stdlib.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/sha256.h"
#include "io/json.h"
#include "io/utf8.h"
#include "tests/tap.h"

static void digest_is(const char *text, size_t n, const char *expected) {
  char hex[65];
  sha256_hex(text, n, hex);
  ok(strcmp(hex, expected) == 0, "sha256 of %zu bytes", n);
}

/* Examples of FIPS 180-4 (NIST CAVP): one block, two blocks, many blocks. */
static void test_sha256(void) {
  digest_is("", 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  digest_is("abc", 3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  digest_is("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  char *a = mem_alloc(1000000);
  memset(a, 'a', 1000000);
  digest_is(a, 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  mem_free(a);
}

static void test_utf8(void) {
  uint32_t p = 0;
  ok(utf8_next("\xE6\x9D\xB1", 3, &p) == 3 && p == 0x6771, "three bytes");
  ok(utf8_next("\xF0\x9F\x99\x82", 4, &p) == 4 && p == 0x1F642, "four bytes");
  ok(utf8_next("\xC0\x80", 2, &p) == 0 && utf8_next("\xE0\x80\x80", 3, &p) == 0, "overlong forms are refused");
  ok(utf8_next("\xED\xA0\x80", 3, &p) == 0, "surrogates are refused");
  ok(utf8_next("\xF4\x90\x80\x80", 4, &p) == 0, "beyond U+10FFFF is refused");
  ok(utf8_next("\xE6\x9D", 2, &p) == 0, "a cut-off code point is refused");
  char text[4];
  int wrong = 0;
  for (uint32_t c = 0; c <= 0x10FFFF; c++) {
    int surrogate = c >= 0xD800 && c <= 0xDFFF, n = utf8_put(c, text);
    wrong += surrogate ? utf8_next(text, 4, &p) != 0 : utf8_next(text, (size_t)n, &p) != n || p != c;
  }
  ok(wrong == 0, "all code points go there and back");
  /* Unicode 15, table 3-8: U+FFFD for each maximal subpart */
  Buffer b = {0};
  ok(utf8_repair(&b, "\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64", 13) == OK, "repair");
  const char *expected = "a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD" "b\xEF\xBF\xBD" "c\xEF\xBF\xBD\xEF\xBF\xBD" "d";
  ok(b.used == strlen(expected) && memcmp(b.data, expected, b.used) == 0, "as in the Unicode standard's example");
  buffer_free(&b);
}

static void test_memory(void) {
  Arena a = {0};
  int aligned = 1;
  for (size_t i = 1; i < 3000; i++) {
    char *p = arena_alloc(&a, i);
    aligned &= p && (uintptr_t)p % 16 == 0;
    memset(p, 1, i);
  }
  ok(aligned, "arena blocks are 16-byte aligned");
  ok(arena_calloc(&a, (size_t)1 << 62, 8) == NULL && error_code() == ERR_MEMORY, "an overflowing size is refused");
  arena_free(&a);
  Buffer b = {0};
  for (int i = 0; i < 1000; i++) buffer_print(&b, "%d,", i);
  ok(b.used == 3890 && memcmp(b.data + b.used - 8, "998,999,", 8) == 0, "buffer grows");
  mem_fail_at(1);
  ok(buffer_reserve(&b, 1 << 20) == ERR_MEMORY && b.used == 3890, "a refused growth leaves the content");
  buffer_free(&b);
}

static void refused(const char *text, const char *reason, const char *what) {
  JsonDoc d;
  Status s = jsondoc_parse(&d, text, strlen(text), "x.json", 0);
  if (!ok(s == ERR_FORMAT && strstr(error_message(), reason) && !strncmp(error_message(), "x.json", 6), "refused: %s", what))
    printf("#   %s\n", s == OK ? "no error" : error_message());
  if (s == OK) jsondoc_free(&d);
}

static void test_json(void) {
  JsonDoc d;
  const char *text = "{\"a\": [1, 2.5, true, null, \"x\\u00e9\"], \"b\": {\"c\": 9007199254740993}}";
  ok(jsondoc_parse(&d, text, strlen(text), "text", 0) == OK, "parses");
  ok(json_integer_value(json_object_get(json_object_get(d.root, "b"), "c")) == 9007199254740993, "64-bit integers are exact");
  ok(json_real_value(json_array_get(json_object_get(d.root, "a"), 1)) == 2.5, "reals");
  jsondoc_free(&d);
  ok(jsondoc_parse(&d, "123456789012345678901234567890", 30, "text", JSONDOC_REALS) == OK && json_real_value(d.root) == 123456789012345678901234567890.0, "integers as reals");
  jsondoc_free(&d);
  refused("{\"a\": 1,\n \"a\": 2}", ":2:", "duplicate names, with the line");
  refused("{\"a\": 1,\n \"b\": }", "x.json:2:", "a missing value");
  refused("[1, 2", "x.json:1:5", "cut off, with the column");
  refused("[1] 2", "x.json:1:", "something behind the value");
  refused("", "not JSON", "nothing");
  refused("[01]", "not JSON", "leading zeros");
  refused("[NaN]", "not JSON", "a bare NaN");
  refused("[1e999]", "not JSON", "a number beyond doubles");
  refused("\"\xC0\x80\"", "not JSON", "text that is no UTF-8");
  refused("[12345678901234567890123]", "not JSON", "an integer beyond 64 bits where integers are asked for");
  char deep[4097];
  memset(deep, '[', 2048), memset(deep + 2048, ']', 2048), deep[4096] = 0;
  deep[2048 + JSON_DEPTH + 1] = 0;
  refused(deep + 2048 - JSON_DEPTH - 1, "deeper than 200", "201 levels");
  deep[2048 + JSON_DEPTH] = 0;
  ok(jsondoc_parse(&d, deep + 2048 - JSON_DEPTH, 2 * JSON_DEPTH, "text", 0) == OK, "200 levels");
  jsondoc_free(&d);
  char *deepest = mem_alloc(1 << 20);
  memset(deepest, '[', 1 << 20);
  ok(jsondoc_parse(&d, deepest, 1 << 20, "text", 0) == ERR_FORMAT, "a million levels");
  mem_free(deepest);
  ok(jsondoc_read(&d, "/no/such/file.json", 0) == ERR_IO && strstr(error_message(), "/no/such/file.json"), "a missing file is named");
}

/* Every allocation of a parse fails once: an error each time, and nothing leaks (done() checks). */
static void test_no_memory(void) {
  const char *text = "{\"a\": [1, 2.5, true, null, \"x\"], \"b\": {\"c\": 1}}";
  int failures = 0, others = 0;
  for (size_t n = 1; n < 100; n++) {
    JsonDoc d;
    mem_fail_at(n);
    Status s = jsondoc_parse(&d, text, strlen(text), "text", 0);
    mem_fail_at(0);
    if (s == OK) {
      jsondoc_free(&d);
      break;
    }
    failures++;
    others += s != ERR_MEMORY;
  }
  ok(failures > 0 && others == 0, "%d failing allocations are reported as such", failures);
}

static void test_quote(void) {
  Buffer b = {0};
  json_quote(&b, "a\"b\\c\n\t\x01\x0b\xC3\xA9\xFF", 12);
  const char *expected = "\"a\\\"b\\\\c\\n\\t\\u0001\\u000b\xC3\xA9\xEF\xBF\xBD\"";
  ok(b.used == strlen(expected) && memcmp(b.data, expected, b.used) == 0, "quoting");
  buffer_free(&b);
}

int main(void) {
  test_sha256();
  test_utf8();
  test_memory();
  test_json();
  test_no_memory();
  test_quote();
  return done();
}

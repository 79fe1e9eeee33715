/* readers.c - damaged files for every reader: safetensors, GGUF, llama2.c, JSON, tokenizer.json, R data, PNG texts.
 *
 * Good files are mutated (bits, bytes, chunks, numbers, pieces of the format's own words) from a counter-based
 * stream, so a failing case is named by its number and comes again. What must hold: no crash (run it under
 * make asan as well), an error has a message, and all memory comes back. What is accepted is used: elements
 * are decoded, text is encoded.
 *
 * QUENCH_FUZZ=n: n cases a reader (default 2000); QUENCH_FUZZ_FROM=k: starts at case k. */
#include <stdlib.h>
#include <zlib.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/random.h"
#include "io/json.h"
#include "io/rdata.h"
#include "io/safetensors.h"
#include "io/tokenizer.h"
#include "pngfile.h"
#include "tests/tap.h"

typedef Status (*Reader)(const char *data, size_t bytes); /* tries the bytes as its format */

/* --- mutations --- */

static const char *const words[] = {
  "{", "}", "[", "]", "\"", ":", ",", "null", "true", "-1", "0", "1e999", "18446744073709551615", "9223372036854775807", "4294967296",
  "\"F32\"", "\"I64\"", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"__metadata__\"", "\\u0000", "\\ud800", "\xff", "\xed\xa0\x80",
  "\"type\"", "\"BPE\"", "\"Sequence\"", "\"ByteLevel\"", "\"Split\"", "\"Regex\"", "\"Replace\"", "\"NFC\"", "(a+)+$", "\\p{L}+", "\"merges\"", "\"vocab\"",
  "\"Metaspace\"", "\"ByteFallback\"", "\"Strip\"", "\"special\"", "\"content\"", "\"lstrip\": true"};

static const uint64_t numbers[] = {0, 1, 0x7f, 0x80, 0xff, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff};

static void insert(Buffer *b, size_t at, const void *data, size_t n) {
  char copy[4096];
  if (n > sizeof copy || b->used + n > 1 << 20) return;
  memcpy(copy, data, n); /* it may lie in the buffer */
  buffer_reserve(b, n);
  memmove(b->data + at + n, b->data + at, b->used - at);
  memcpy(b->data + at, copy, n);
  b->used += n;
}

/* Puts another word in the place of a quoted one: the text stays JSON and changes its meaning. */
static void replace_quoted(Buffer *b, Random *r, size_t at) {
  char *first = memchr(b->data + at, '"', b->used - at);
  char *last = first ? memchr(first + 1, '"', (size_t)(b->data + b->used - first) - 1) : NULL;
  const char *word = words[random_below(r, sizeof words / sizeof *words)];
  if (!last) return;
  memmove(first, last + 1, (size_t)(b->data + b->used - last) - 1);
  b->used -= (size_t)(last + 1 - first);
  insert(b, (size_t)(first - b->data), word, strlen(word));
}

static void mutate(Buffer *b, Random *r) {
  size_t head = b->used < 1024 ? b->used : 1024; /* where the structure of most formats is */
  size_t at = random_below(r, random_below(r, 2) ? head : b->used), n = 1 + random_below(r, 16);
  if (n > b->used - at) n = b->used - at;
  switch (random_below(r, 11)) {
    case 9: case 10: replace_quoted(b, r, at); break;
    case 0: b->data[at] ^= (char)(1 << random_below(r, 8)); break;
    case 1: b->data[at] = (char)random_below(r, 256); break;
    case 2: memmove(b->data + at, b->data + at + n, b->used - at - n), b->used -= n; break;
    case 3: insert(b, random_below(r, b->used), b->data + at, n); break;
    case 4: b->used = at; break;
    case 5: {
      uint64_t v = numbers[random_below(r, sizeof numbers / sizeof *numbers)];
      if (random_below(r, 2)) v = __builtin_bswap64(v);
      memcpy(b->data + at, &v, n < 8 ? n : 8);
      break;
    }
    case 6: b->data[at] = (char)('0' + random_below(r, 10)); break;
    default: {
      const char *word = words[random_below(r, sizeof words / sizeof *words)];
      insert(b, at, word, strlen(word));
    }
  }
}

static long count_of(const char *name, long otherwise) { return getenv(name) ? atol(getenv(name)) : otherwise; }

static void fuzz(const char *what, Reader reader, int seeds, const Buffer *seed) {
  long first = count_of("QUENCH_FUZZ_FROM", 0), cases = count_of("QUENCH_FUZZ", 2000), accepted = 0, silent = 0, leaks = 0;
  Buffer b = {0};
  buffer_reserve(&b, 1 << 21); /* so that it does not move the count of live bytes */
  for (long i = first; i < first + cases; i++) {
    Random r = random_stream((uint64_t)i, what);
    const Buffer *from = &seed[random_below(&r, (uint64_t)seeds)];
    b.used = 0;
    buffer_add(&b, from->data, from->used);
    for (uint64_t k = 1 + random_below(&r, 4); k > 0 && b.used > 0; k--) mutate(&b, &r);
    char *tight = malloc(b.used + !b.used); /* so that a sanitizer sees the first byte behind it */
    memcpy(tight, b.data, b.used);
    size_t before = mem_stats().live;
    error_clear();
    Status s = reader(tight, b.used);
    free(tight);
    accepted += s == OK;
    if (s != OK && !error_message()[0]) silent++, printf("#   %s, case %ld: an error without a message\n", what, i);
    if (mem_stats().live != before) leaks++, printf("#   %s, case %ld: %zu bytes kept\n", what, i, mem_stats().live - before);
  }
  ok(silent == 0, "%s: %ld damaged files, every error has a message (%ld were accepted)", what, cases, accepted);
  ok(leaks == 0, "%s: all memory came back", what);
  buffer_free(&b);
}

/* --- readers --- */

static void use_weights(SafeTensors *f) {
  double out[256];
  for (int i = 0; i < f->count; i++) {
    const SafeEntry *e = &f->entries[i];
    int64_t n = e->numel < 256 ? e->numel : 256;
    element_nonfinite(e->type, e->data, e->numel);
    if (element_decode(e->type, e->data, n, element_dtype(e->type, e->data, n), out) != OK) error_clear();
    if (safetensors_find(f, e->name) != e) abort();
  }
  safetensors_close(f);
}

static Status read_safetensors(const char *data, size_t bytes) {
  SafeTensors *f;
  TRY(safetensors_parse((const uint8_t *)data, bytes, "fuzzed", &f));
  return use_weights(f), OK;
}

static Status read_gguf(const char *data, size_t bytes) {
  SafeTensors *f;
  TRY(gguf_parse((const uint8_t *)data, bytes, "fuzzed", &f));
  return use_weights(f), OK;
}

static Status read_llama2c(const char *data, size_t bytes) {
  SafeTensors *f;
  TRY(llama2c_parse((const uint8_t *)data, bytes, "fuzzed", &f));
  return use_weights(f), OK;
}

static Status read_json(const char *data, size_t bytes) {
  JsonDoc d;
  TRY(jsondoc_parse(&d, data, bytes, "fuzzed", JSONDOC_REALS));
  jsondoc_free(&d);
  return OK;
}

static Status read_tokenizer(const char *data, size_t bytes) {
  static const char text[] = "It's a  test <|endoftext|> of 123 caf\xC3\xA9 e\xCC\x81 \xF0\x9F\x99\x82\n\n \xFF<s> \xE2\x96\x81x";
  Tokenizer *t;
  TRY(tokenizer_parse(data, bytes, "fuzzed", &t));
  Ids ids = {0};
  Buffer back = {0};
  if (tokenizer_encode(t, text, sizeof text - 1, true, &ids) == OK && tokenizer_decode(t, ids.id, ids.count, false, &back) != OK) abort();
  ids_free(&ids);
  buffer_free(&back);
  tokenizer_free(t);
  return OK;
}

static Status read_rda(const char *data, size_t bytes) {
  RData d;
  TRY(rdata_parse_file(data, bytes, "fuzzed", &d));
  rdata_free(&d);
  return OK;
}

/* The object of a pair is mutated before it is packed: behind zlib's checksum, damage would end there. */
static Status read_pair(const char *data, size_t bytes) {
  char packed[8192];
  uLongf n = sizeof packed - 4;
  if (compress2((Bytef *)packed + 4, &n, (const Bytef *)data, bytes, 1) != Z_OK) return fail(ERR_ARGUMENT, "too large for this test");
  RData d;
  TRY(rdata_parse_pair(packed + 4, n, packed, n + 4, "fuzzed", &d));
  rdata_free(&d);
  return OK;
}

/* --- good files --- */

static void make_safetensors(Buffer *b) {
  char path[] = "/tmp/quench-fuzz-XXXXXX", *text;
  float w[6] = {1, 2, 3, 4, 5, 6};
  int64_t shape[2] = {2, 3}, one = 3, big[] = {1, -2, (int64_t)1 << 40};
  SafeItem items[] = {{"a.weight", E_F32, 2, shape, w}, {"b", E_I64, 1, &one, big}, {"c", E_F16, 1, &one, w}, {"scalar", E_F64, 0, NULL, big}, {"d", E_F8_E4M3, 1, &one, w}};
  SafePair meta = {"format", "pt"};
  int descriptor = mkstemp(path);
  safetensors_write(path, 5, items, 1, &meta);
  if (file_read(path, &text, &b->used) == OK) b->data = text, b->room = b->used;
  remove(path);
  if (descriptor >= 0) fclose(fdopen(descriptor, "r"));
}

static void add_u64(Buffer *b, uint64_t v) { buffer_add(b, &v, 8); }
static void add_u32(Buffer *b, uint32_t v) { buffer_add(b, &v, 4); }
static void add_string(Buffer *b, const char *text) { add_u64(b, strlen(text)), buffer_text(b, text); }

static void make_gguf(Buffer *b) {
  static const uint32_t types[] = {0, 1, 8, 2, 12, 14}, bytes[] = {1024, 512, 272, 144, 144, 210}; /* of 256 elements */
  char data[1024] = {1, 2, 3};
  uint64_t at = 0;
  buffer_text(b, "GGUF"), add_u32(b, 3), add_u64(b, 6), add_u64(b, 3);
  add_string(b, "general.alignment"), add_u32(b, 4), add_u32(b, 32);
  add_string(b, "tokens"), add_u32(b, 9), add_u32(b, 8), add_u64(b, 2), add_string(b, "a"), add_string(b, "\xE2\x96\x81");
  add_string(b, "eps"), add_u32(b, 6), add_u32(b, 0x3F800000);
  for (int i = 0; i < 6; i++) {
    char name[2] = {(char)('a' + i), 0};
    add_string(b, name), add_u32(b, 2), add_u64(b, 256), add_u64(b, 1), add_u32(b, types[i]), add_u64(b, at);
    at += (bytes[i] + 31) / 32 * 32;
  }
  while (b->used % 32) buffer_add(b, "", 1);
  for (int i = 0; i < 6; i++) buffer_add(b, data, (bytes[i] + 31) / 32 * 32);
}

static void make_llama2c(Buffer *b) {
  static const int32_t sizes[7] = {4, 4, 1, 2, 1, 3, 2};
  char zeros[1024] = {0};
  buffer_add(b, sizes, sizeof sizes);
  buffer_add(b, zeros, 4 * (3 * 4 + 4 + 16 + 8 + 8 + 16 + 4 + 3 * 16 + 4 + 2 * 2));
}

static void load(Buffer *b, const char *path) {
  char *text;
  if (file_read(path, &text, &b->used) == OK) b->data = text, b->room = b->used;
  else printf("Bail out! %s\n", error_message());
}

/* A small tokenizer keeps mutations near the structure and cases fast. */
static void make_tokenizer(Buffer *b, const char *pattern) {
  char path[] = "/tmp/quench-fuzz-XXXXXX";
  int descriptor = mkstemp(path);
  Tokenizer *t;
  static const char *const special[] = {"<|endoftext|>"};
  TrainOptions o = {.vocab_size = 262, .min_count = 1, .pattern = pattern, .specials = 1, .special = special};
  if (tokenizer_train("a test of a test of tests", 25, &o, &t) == OK && tokenizer_save(t, path) == OK) load(b, path);
  tokenizer_free(t);
  remove(path);
  if (descriptor >= 0) fclose(fdopen(descriptor, "r"));
}

static const char rda[] =
  "RDX3\nX\n\0\0\0\3\0\4\2\1\0\3\5\0\0\0\0\5UTF-8\0\0\4\2\0\0\0\1\0\4\0\11\0\0\0\5novel\0\0\0\20\0\0\0\2\0\4\0\11\0\0\0\4line\0\4\0\11\377\377\377\377"
  "\0\0\4\2\0\0\0\1\0\4\0\11\0\0\0\1n\0\0\2\15\0\0\0\2\0\0\0\1\0\0\0\2\0\0\4\2\0\0\1\377\0\0\0\20\0\0\0\1\0\4\0\11\0\0\0\1z\0\0\0\376\0\0\0\376";

/* list(variables = list(x = c(0, 12))) serialized, for the index. */
static const char index_of[] =
  "X\n\0\0\0\3\0\4\2\1\0\3\5\0\0\0\0\5UTF-8\0\0\2\23\0\0\0\1\0\0\2\23\0\0\0\1\0\0\0\15\0\0\0\2\0\0\0\0\0\0\0\14"
  "\0\0\4\2\0\0\0\1\0\4\0\11\0\0\0\5names\0\0\0\20\0\0\0\1\0\4\0\11\0\0\0\1x\0\0\0\376"
  "\0\0\4\2\0\0\1\377\0\0\0\20\0\0\0\1\0\4\0\11\0\0\0\11variables\0\0\0\376";

/* A small picture with a short text and a compressed one. */
static void make_png(Buffer *b) {
  static uint8_t rgb[3 * 4 * 4];
  char recipe[600];
  for (size_t i = 0; i < sizeof recipe; i++) recipe[i] = "local x = 1\n"[i % 12];
  recipe[sizeof recipe - 1] = '\0';
  PngText texts[] = {{"key", "value", 5}, {"recipe", recipe, sizeof recipe - 1}};
  uint8_t *data;
  size_t n;
  if (png_encode(&(PngImage){4, 4, rgb, 72}, texts, 2, &data, &n) != OK) return;
  buffer_add(b, data, n);
  mem_free(data);
}

/* Puts checksums right before reading, so that damage gets past them. */
static Status read_png(const char *data, size_t bytes) {
  uint8_t *copy = mem_alloc(bytes);
  memcpy(copy, data, bytes);
  for (size_t at = 8; at + 12 <= bytes;) {
    size_t n = (size_t)copy[at] << 24 | (size_t)copy[at + 1] << 16 | (size_t)copy[at + 2] << 8 | copy[at + 3];
    if (n > bytes - at - 12) break;
    uint32_t crc = (uint32_t)crc32(crc32(0, NULL, 0), copy + at + 4, (uInt)n + 4);
    for (int i = 0; i < 4; i++) copy[at + 8 + n + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
    at += 12 + n;
  }
  PngTexts texts;
  Status s = png_parse_texts(copy, bytes, "fuzz.png", &texts);
  png_texts_free(&texts);
  mem_free(copy);
  return s;
}

int main(void) {
  Buffer weights = {0}, json[2] = {{0}, {0}}, tokenizers[4] = {{0}, {0}, {0}, {0}}, r[2] = {{0}, {0}}, others[2] = {{0}, {0}};
  make_safetensors(&weights);
  buffer_text(&json[0], "{\"a\": [1, -2.5e-3, true, null, \"x\\u00e9\\n\"], \"b\": {\"c\": {}}, \"d\": [[[]]]}");
  buffer_text(&json[1], "[0.1, 1e300, \"\xE6\x9D\xB1\", {\"k\": \"v\"}]");
  make_tokenizer(&tokenizers[0], "'s| ?\\p{L}+|\\s+(?!\\S)|\\s+");
  make_tokenizer(&tokenizers[1], NULL);
  load(&tokenizers[2], "tests/parity/tok/llama2_style.tokenizer.json");
  load(&tokenizers[3], "tests/parity/tok/neox_style.tokenizer.json");
  make_gguf(&others[0]);
  make_llama2c(&others[1]);
  buffer_add(&r[0], rda, sizeof rda - 1);
  buffer_add(&r[1], index_of, sizeof index_of - 1);
  ok(read_safetensors(weights.data, weights.used) == OK && read_json(json[0].data, json[0].used) == OK && read_json(json[1].data, json[1].used) == OK &&
       read_rda(r[0].data, r[0].used) == OK && read_gguf(others[0].data, others[0].used) == OK && read_llama2c(others[1].data, others[1].used) == OK, "the undamaged files are read");
  for (int i = 0; i < 4; i++) ok(read_tokenizer(tokenizers[i].data, tokenizers[i].used) == OK, "and tokenizer %d", i + 1);
  fuzz("safetensors", read_safetensors, 1, &weights);
  fuzz("json", read_json, 2, json);
  fuzz("tokenizer.json", read_tokenizer, 4, tokenizers);
  fuzz("rda", read_rda, 1, r);
  fuzz("rdx and rdb", read_pair, 1, &r[1]);
  fuzz("gguf", read_gguf, 1, &others[0]);
  fuzz("llama2.c", read_llama2c, 1, &others[1]);
  Buffer picture = {0};
  make_png(&picture);
  ok(read_png(picture.data, picture.used) == OK, "the undamaged picture is read");
  fuzz("texts of a png", read_png, 1, &picture);
  buffer_free(&picture);
  buffer_free(&others[0]), buffer_free(&others[1]), buffer_free(&weights), buffer_free(&json[0]), buffer_free(&json[1]), buffer_free(&r[0]), buffer_free(&r[1]);
  for (int i = 0; i < 4; i++) buffer_free(&tokenizers[i]);
  return done();
}

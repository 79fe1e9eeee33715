/* The safetensors reader and writer: round trips, element types, and what must be refused. */
#include <stdlib.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/file.h"
#include "io/safetensors.h"
#include "tests/tap.h"

static char folder[] = "/tmp/quench-test-XXXXXX";

static const char *path_of(const char *name) {
  static char path[256];
  snprintf(path, sizeof path, "%s/%s", folder, name);
  return path;
}

/* A file in memory: header text and bytes of data (all zero). */
static void make(Buffer *b, const char *header, size_t data) {
  uint64_t n = strlen(header);
  b->used = 0;
  buffer_add(b, &n, 8);
  buffer_add(b, header, n);
  while (data--) buffer_add(b, "", 1);
}

static void refused(const char *header, size_t data, const char *reason) {
  Buffer b = {0};
  SafeTensors *f;
  make(&b, header, data);
  Status s = safetensors_parse((uint8_t *)b.data, b.used, "w.safetensors", &f);
  if (!ok(s != OK && strstr(error_message(), reason) && strstr(error_message(), "w.safetensors"), "refused: %s", reason))
    printf("#   %s\n", s == OK ? "no error" : error_message());
  if (s == OK) safetensors_close(f);
  buffer_free(&b);
}

static void test_malformed(void) {
  SafeTensors *f;
  ok(safetensors_parse((const uint8_t *)"abc", 3, "w", &f) == ERR_FORMAT, "three bytes");
  ok(safetensors_parse((const uint8_t *)"\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "w", &f) == ERR_FORMAT && strstr(error_message(), "claims a header"), "a huge header");
  ok(safetensors_parse((const uint8_t *)"\x10\0\0\0\0\0\0\0{}", 10, "w", &f) == ERR_FORMAT && strstr(error_message(), "cut off"), "a header longer than the file");
  refused("[]", 0, "begin with '{'");
  refused("{\"a\":", 0, "not JSON");
  refused("{\"a\":1}", 0, "not an object");
  refused("{\"a\":{\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "no dtype");
  refused("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype 'F33'");
  refused("{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "no shape");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "whole numbers");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}", 4, "whole numbers");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", 4, "9 axes");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,4]}}", 4, "too large");
  refused("{\"a\":{\"dtype\":\"F64\",\"shape\":[2305843009213693952],\"data_offsets\":[0,0]}}", 0, "do not take");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", 4, "two whole numbers");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,0]}}", 4, "not a range");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[-4,0]}}", 4, "not a range");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 4, "cut off");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "do not take the 4 bytes");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 8, "4 bytes behind the last tensor");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "a hole of 4 bytes in front of tensor 'a'");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "'a' and 'b' overlap");
  refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "duplicate");
  refused("{\"__metadata__\":{\"a\":1}}", 0, "not a string");
  refused("{\"__metadata__\":[]}", 0, "not an object");
  Buffer b = {0};
  make(&b, "{\"z\":{\"dtype\":\"F32\",\"shape\":[0,3],\"data_offsets\":[0,0]},\"s\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}   ", 4);
  ok(safetensors_parse((uint8_t *)b.data, b.used, "w", &f) == OK && f->count == 2 && f->entries[0].numel == 1 && f->entries[1].numel == 0,
     "an empty tensor, a scalar and trailing spaces are fine");
  safetensors_close(f);
  buffer_free(&b);
}

static void test_roundtrip(void) {
  float w[6] = {1, 2, 3, 4, 5, 6};
  double d[2] = {0.1, -1e300};
  uint8_t u[3] = {1, 2, 255};
  SafeItem items[] = {
    {"u", E_U8, 1, (int64_t[]){3}, u}, {"layer.w", E_F32, 2, (int64_t[]){2, 3}, w}, {"a \"quoted\" name", E_F64, 1, (int64_t[]){2}, d}};
  SafePair meta[] = {{"format", "pt"}, {"note", "line\nbreak"}};
  ok(safetensors_write(path_of("a.safetensors"), 3, items, 2, meta) == OK, "writes");
  SafeTensors *f;
  ok(safetensors_open(path_of("a.safetensors"), &f) == OK && f->count == 3, "reads back");
  const SafeEntry *e = safetensors_find(f, "layer.w");
  ok(e && e->ndim == 2 && e->shape[0] == 2 && e->shape[1] == 3 && memcmp(e->data, w, sizeof w) == 0, "shape and elements");
  ok(e->begin == 16 && e->begin % 4 == 0, "larger element types lie in front");
  e = safetensors_find(f, "a \"quoted\" name");
  ok(e && (uintptr_t)e->data % 8 == 0 && memcmp(e->data, d, sizeof d) == 0, "doubles are aligned in the file");
  ok(f->pairs == 2 && strcmp(f->metadata[1].value, "line\nbreak") == 0, "metadata");
  ok(safetensors_find(f, "nothing") == NULL, "a name that is not there");
  safetensors_close(f);

  SafeItem twice[] = {items[0], items[0]};
  ok(safetensors_write(path_of("b.safetensors"), 2, twice, 0, NULL) == ERR_ARGUMENT && access(path_of("b.safetensors"), F_OK) != 0, "two tensors of one name are refused, no file is left");
  ok(safetensors_write(path_of("empty.safetensors"), 0, NULL, 0, NULL) == OK && safetensors_open(path_of("empty.safetensors"), &f) == OK && f->count == 0, "no tensors at all");
  safetensors_close(f);
  ok(safetensors_write("/no/such/folder/a.safetensors", 0, NULL, 0, NULL) == ERR_IO, "a folder that is not there");
  ok(safetensors_open("/no/such/file.safetensors", &f) == ERR_IO && f == NULL, "a file that is not there");
}

static void write_text(const char *name, const char *text) { file_write_all(path_of(name), text, strlen(text)); }

static void test_shards(void) {
  float w[2] = {1, 2};
  SafeItem one = {"x", E_F32, 1, (int64_t[]){2}, w}, two = {"y", E_F32, 1, (int64_t[]){2}, w};
  safetensors_write(path_of("m-00001-of-00002.safetensors"), 1, &one, 1, (SafePair[]){{"format", "pt"}});
  safetensors_write(path_of("m-00002-of-00002.safetensors"), 1, &two, 0, NULL);
  write_text("model.safetensors.index.json", "{\"weight_map\":{\"x\":\"m-00001-of-00002.safetensors\",\"y\":\"m-00002-of-00002.safetensors\"}}");
  SafeTensors *f;
  ok(safetensors_open(path_of("model.safetensors.index.json"), &f) == OK && f->count == 2 && f->pairs == 1, "opens the shards of an index");
  ok(memcmp(safetensors_find(f, "y")->data, w, sizeof w) == 0 && strstr(safetensors_find(f, "y")->file, "00002-of"), "each from its own file");
  safetensors_close(f);
  ok(safetensors_open(folder, &f) == OK && f->count == 2, "opens the folder");
  safetensors_close(f);
  write_text("bad.index.json", "{\"weight_map\":{\"z\":\"m-00001-of-00002.safetensors\"}}");
  ok(safetensors_open(path_of("bad.index.json"), &f) == ERR_FORMAT && strstr(error_message(), "'z' is not in"), "a tensor that its shard lacks");
  write_text("bad.index.json", "{\"weight_map\":{\"x\":\"../m.safetensors\"}}");
  ok(safetensors_open(path_of("bad.index.json"), &f) == ERR_FORMAT && strstr(error_message(), "without a folder"), "a shard outside the folder");
  write_text("bad.index.json", "{\"weight_map\":{\"x\":\"gone.safetensors\"}}");
  ok(safetensors_open(path_of("bad.index.json"), &f) == ERR_IO && strstr(error_message(), "gone.safetensors"), "a missing shard is named");
  write_text("bad.index.json", "{}");
  ok(safetensors_open(path_of("bad.index.json"), &f) == ERR_FORMAT, "an index without a map");
}

/* All 65536 halves against the definition, and the marked values of the 8-bit floats (OCP FP8, table 1). */
static void test_elements(void) {
  int wrong = 0;
  for (int h = 0; h < 65536; h++) {
    uint16_t bits = (uint16_t)h;
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? NAN : INFINITY) : e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    if (h >> 15) v = -v;
    float got;
    element_decode(E_F16, (uint8_t *)&bits, 1, F32, &got);
    wrong += isnan(v) ? !isnan(got) : (got != (float)v || !signbit(got) != !signbit(v));
  }
  ok(wrong == 0, "all halves");
  const uint8_t e4m3[] = {0x7e, 0x7f, 0x08, 0x01, 0xbc, 0x80}, e5m2[] = {0x7b, 0x7c, 0x7d, 0x04, 0x01}, e8m0[] = {127, 130, 0};
  float v[6];
  element_decode(E_F8_E4M3, e4m3, 6, F32, v);
  ok(v[0] == 448 && isnan(v[1]) && v[2] == 0x1p-6f && v[3] == 0x1p-9f && v[4] == -1.5f && v[5] == 0 && signbit(v[5]), "E4M3: 448, NaN, smallest normal, smallest, -1.5, -0");
  element_decode(E_F8_E5M2, e5m2, 5, F32, v);
  ok(v[0] == 57344 && isinf(v[1]) && isnan(v[2]) && v[3] == 0x1p-14f && v[4] == 0x1p-16f, "E5M2: 57344, infinity, NaN, smallest normal, smallest");
  element_decode(E_F8_E8M0, e8m0, 3, F32, v);
  ok(v[0] == 1 && v[1] == 8 && v[2] == 0x1p-127f, "E8M0: powers of two");
  const uint8_t odd[] = {0, 0x80, 0x3f, 0xc0, 0x7f}; /* two BF16 at an odd address: 1.0 and NaN */
  element_decode(E_BF16, odd + 1, 2, F32, v);
  ok(v[0] == 1 && isnan(v[1]) && element_nonfinite(E_BF16, odd + 1, 2) == 1, "BF16, unaligned, and the count of non-finite values");
  double d[2];
  element_decode(E_BF16, odd + 1, 1, F64, d);
  ok(d[0] == 1, "through f32 to f64");
}

static void test_nans(void) {
  const uint8_t f32[] = {0xff, 0xff, 0xff, 0xff, 0, 0, 0x80, 0x7f}, bf16[] = {0xfa, 0xff}, f64[] = {1, 0, 0, 0, 0, 0, 0xfe, 0xff};
  float v[2];
  double d;
  uint32_t bits;
  element_decode(E_F32, f32, 2, F32, v);
  memcpy(&bits, v, 4);
  ok(bits == 0x7fc00000 && isinf(v[1]), "a NaN loses its payload, infinity stays");
  element_decode(E_BF16, bf16, 1, F32, v);
  memcpy(&bits, v, 4);
  ok(bits == 0x7fc00000, "also from BF16");
  element_decode(E_F64, f64, 1, F64, &d);
  uint64_t wide;
  memcpy(&wide, &d, 8);
  ok(wide == 0x7ff8000000000000, "also in doubles");
}

static void test_integers(void) {
  int64_t small[] = {-5, 2147483647}, large[] = {1, 9007199254740992}, beyond[] = {9007199254740993};
  int32_t i[2];
  double d[2];
  ok(element_dtype(E_I64, (uint8_t *)small, 2) == I32 && element_decode(E_I64, (uint8_t *)small, 2, I32, i) == OK && i[0] == -5 && i[1] == 2147483647, "64-bit integers that fit become i32");
  ok(element_dtype(E_I64, (uint8_t *)large, 2) == F64 && element_decode(E_I64, (uint8_t *)large, 2, F64, d) == OK && d[1] == 9007199254740992, "larger ones f64");
  ok(element_decode(E_I64, (uint8_t *)beyond, 1, F64, d) == ERR_DTYPE && element_decode(E_I64, (uint8_t *)large, 2, I32, i) == ERR_DTYPE, "what does not fit is refused");
  const uint8_t bytes[] = {0xff, 0x80};
  ok(element_decode(E_I8, bytes, 2, I32, i) == OK && i[0] == -1 && i[1] == -128, "I8");
  ok(element_decode(E_U8, bytes, 2, I32, i) == OK && i[0] == 255 && i[1] == 128, "U8");
  ok(element_decode(E_U16, bytes, 1, I32, i) == OK && i[0] == 0x80ff, "U16");
}

int main(void) {
  if (!mkdtemp(folder)) return 1;
  test_malformed();
  test_roundtrip();
  test_shards();
  test_elements();
  test_nans();
  test_integers();
  char command[300];
  snprintf(command, sizeof command, "rm -r '%s'", folder);
  ok(system(command) == 0, "the folder is removed");
  return done();
}

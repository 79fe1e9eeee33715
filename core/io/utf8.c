/* utf8.c - see utf8.h. */
#include "io/utf8.h"

/* Bytes promised by a first byte (0: none), and the range its second byte must lie in. */
static int promised(uint8_t first, uint8_t *low, uint8_t *high) {
  *low = 0x80, *high = 0xBF;
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first == 0xE0) *low = 0xA0;
  if (first == 0xED) *high = 0x9F; /* surrogates */
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first == 0xF0) *low = 0x90;
  if (first == 0xF4) *high = 0x8F; /* beyond U+10FFFF */
  return first >= 0xF0 && first <= 0xF4 ? 4 : 0;
}

/* How many bytes at p go as far as they can towards one code point; *whole tells whether they get there. */
static int scan(const uint8_t *p, size_t room, int *whole) {
  uint8_t low, high;
  int n = promised(p[0], &low, &high), i = 1;
  for (; i < n && (size_t)i < room; i++, low = 0x80, high = 0xBF)
    if (p[i] < low || p[i] > high) break;
  *whole = n > 0 && i == n;
  return i;
}

int utf8_next(const char *p, size_t room, uint32_t *point) {
  const uint8_t *u = (const uint8_t *)p;
  int whole, n = scan(u, room, &whole);
  if (!whole) return 0;
  uint32_t c = n == 1 ? u[0] : u[0] & (0x7Fu >> n);
  for (int i = 1; i < n; i++) c = c << 6 | (u[i] & 0x3F);
  *point = c;
  return n;
}

int utf8_bad(const char *p, size_t room) {
  int whole;
  return scan((const uint8_t *)p, room, &whole);
}

int utf8_put(uint32_t c, char out[4]) {
  if (c < 0x80) return out[0] = (char)c, 1;
  int n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
  for (int i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3F));
  out[0] = (char)(0xF00 >> n | c);
  return n;
}

size_t utf8_valid(const char *text, size_t bytes) {
  size_t at = 0;
  uint32_t point;
  for (int n; at < bytes && (n = utf8_next(text + at, bytes - at, &point)); at += (size_t)n) continue;
  return at;
}

Status utf8_repair(Buffer *b, const char *text, size_t bytes) {
  while (bytes) {
    size_t good = utf8_valid(text, bytes);
    TRY(buffer_add(b, text, good));
    text += good, bytes -= good;
    if (!bytes) break;
    int n = utf8_bad(text, bytes);
    TRY(buffer_add(b, "\xEF\xBF\xBD", 3));
    text += n, bytes -= (size_t)n;
  }
  return OK;
}

/* nfc.c - decompose, order the marks, compose. Text below U+0300 is in form C already, and a
 * line feed takes part in nothing, so the work is done line by line and only where needed. */
#include "io/nfc.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "io/nfc_table.h"
#include "io/utf8.h"

/* Hangul syllables go by arithmetic (The Unicode Standard, 3.12). */
enum { HANGUL = 0xAC00, LEAD = 0x1100, VOWEL = 0x1161, TRAIL = 0x11A7, LEADS = 19, VOWELS = 21, TRAILS = 28 };

/* A code point; NOT_TEXT + byte stands for a byte that is not UTF-8. */
enum { NOT_TEXT = 0x200000 };

typedef struct Points {
  uint32_t *point;
  size_t count, room;
} Points;

static Status add(Points *p, uint32_t c) {
  if (p->count == p->room) {
    size_t room = 2 * p->room + 256;
    uint32_t *grown = mem_realloc(p->point, room * sizeof *grown);
    if (!grown) return error_code();
    p->point = grown, p->room = room;
  }
  p->point[p->count++] = c;
  return OK;
}

static const NfcDecomposition *decomposition_of(uint32_t c) {
  int low = 0, high = nfc_decomposition_count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (nfc_decompositions[middle].point < c) low = middle + 1;
    else high = middle;
  }
  return low < nfc_decomposition_count && nfc_decompositions[low].point == c ? &nfc_decompositions[low] : NULL;
}

static int class_of(uint32_t c) {
  int low = 0, high = nfc_class_count;
  while (low < high) {
    int middle = (low + high) / 2;
    if (nfc_classes[middle].to < c) low = middle + 1;
    else high = middle;
  }
  return low < nfc_class_count && nfc_classes[low].from <= c ? nfc_classes[low].class : 0;
}

static Status decompose(Points *p, uint32_t c) {
  if (c >= HANGUL && c < HANGUL + LEADS * VOWELS * TRAILS) {
    uint32_t s = c - HANGUL;
    TRY(add(p, LEAD + s / (VOWELS * TRAILS)));
    TRY(add(p, VOWEL + s % (VOWELS * TRAILS) / TRAILS));
    return s % TRAILS ? add(p, TRAIL + s % TRAILS) : OK;
  }
  const NfcDecomposition *d = decomposition_of(c);
  if (!d) return add(p, c);
  TRY(decompose(p, d->first));
  return d->second ? decompose(p, d->second) : OK;
}

/* Marks behind a starter, ordered by class; a stable insertion sort since runs are short. */
static void order_marks(Points *p) {
  for (size_t i = 1; i < p->count; i++) {
    uint32_t c = p->point[i];
    int class = class_of(c);
    size_t at = i;
    for (; class && at > 0 && class_of(p->point[at - 1]) > class; at--) p->point[at] = p->point[at - 1];
    p->point[at] = c;
  }
}

/* The composite of a pair, or 0. */
static uint32_t composite(uint32_t a, uint32_t b) {
  if (a >= LEAD && a < LEAD + LEADS && b >= VOWEL && b < VOWEL + VOWELS) return HANGUL + ((a - LEAD) * VOWELS + (b - VOWEL)) * TRAILS;
  bool pair = a >= HANGUL && a < HANGUL + LEADS * VOWELS * TRAILS && (a - HANGUL) % TRAILS == 0;
  if (pair && b > TRAIL && b < TRAIL + TRAILS) return a + (b - TRAIL);
  int low = 0, high = nfc_pair_count;
  while (low < high) {
    int middle = (low + high) / 2;
    const NfcDecomposition *d = &nfc_decompositions[nfc_pairs[middle]];
    if (d->first < a || (d->first == a && d->second < b)) low = middle + 1;
    else high = middle;
  }
  const NfcDecomposition *d = low < nfc_pair_count ? &nfc_decompositions[nfc_pairs[low]] : NULL;
  return d && d->first == a && d->second == b ? d->point : 0;
}

/* A mark joins the last starter unless a mark of its class or above, or another starter, stands between. */
static void compose(Points *p) {
  size_t starter = SIZE_MAX, out = 0;
  int last = -1; /* class of what was kept behind the starter; -1: nothing */
  for (size_t i = 0; i < p->count; i++) {
    uint32_t c = p->point[i], joint = 0;
    int class = class_of(c);
    if (starter != SIZE_MAX && (last == -1 || (last != 0 && last < class))) joint = composite(p->point[starter], c);
    if (joint) {
      p->point[starter] = joint;
      continue;
    }
    if (class == 0) starter = out, last = -1;
    else last = class;
    p->point[out++] = c;
  }
  p->count = out;
}

static Status read_points(Points *p, const char *text, size_t bytes) {
  uint32_t c;
  for (size_t at = 0; at < bytes;) {
    int n = utf8_next(text + at, bytes - at, &c);
    TRY(n ? decompose(p, c) : add(p, NOT_TEXT + (uint8_t)text[at]));
    at += n ? (size_t)n : 1;
  }
  return OK;
}

static Status write_points(const Points *p, Buffer *out) {
  char utf8[4];
  for (size_t i = 0; i < p->count; i++) {
    uint32_t c = p->point[i];
    if (c >= NOT_TEXT) utf8[0] = (char)(c - NOT_TEXT);
    TRY(buffer_add(out, utf8, c >= NOT_TEXT ? 1 : (size_t)utf8_put(c, utf8)));
  }
  return OK;
}

static bool plain(const char *text, size_t bytes) {
  for (size_t i = 0; i < bytes; i++)
    if ((uint8_t)text[i] >= 0xCC) return false; /* first bytes of U+0300 and above */
  return true;
}

Status nfc(const char *text, size_t bytes, Buffer *out) {
  Points p = {0};
  Status s = OK;
  for (size_t at = 0, n; at < bytes && s == OK; at += n) {
    const char *feed = memchr(text + at, '\n', bytes - at);
    n = feed ? (size_t)(feed - text) - at + 1 : bytes - at;
    if (plain(text + at, n)) {
      s = buffer_add(out, text + at, n);
      continue;
    }
    p.count = 0;
    s = read_points(&p, text + at, n);
    if (s != OK) break;
    order_marks(&p);
    compose(&p);
    s = write_points(&p, out);
  }
  mem_free(p.point);
  return s;
}

/* sixel.c - pictures for terminals that know DEC's sixel graphics: six rows of pixels a line of text, one colour at a
 * time (VT330/VT340 Programmer Reference, chapter 14). Figures have few colours: the 255 most frequent of a 5-bit
 * histogram are kept, every other takes the nearest of them. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "terminal.h"

enum { BINS = 1 << 15, MOST = 255 };

typedef struct Palette {
  int count[BINS];
  uint8_t index[BINS]; /* bin -> colour number */
  int bins[MOST], colours;
} Palette;

static int bin_of(const uint8_t *p) { return p[0] >> 3 << 10 | p[1] >> 3 << 5 | p[2] >> 3; }

static int distance(int a, int b) {
  int r = (a >> 10) - (b >> 10), g = (a >> 5 & 31) - (b >> 5 & 31), v = (a & 31) - (b & 31);
  return 2 * r * r + 4 * g * g + v * v;
}

/* Keeps the fullest bins: each new one pushes the list's tail down. */
static void choose(Palette *p) {
  for (int b = 0; b < BINS; b++) {
    if (!p->count[b]) continue;
    int at = p->colours < MOST ? p->colours++ : MOST - 1;
    if (at == MOST - 1 && p->colours == MOST && p->bins[at] && p->count[p->bins[at]] >= p->count[b]) continue;
    for (; at > 0 && p->count[p->bins[at - 1]] < p->count[b]; at--) p->bins[at] = p->bins[at - 1];
    p->bins[at] = b;
  }
  for (int b = 0; b < BINS; b++) {
    int best = 0;
    for (int i = 1; p->count[b] && i < p->colours; i++)
      if (distance(p->bins[i], b) < distance(p->bins[best], b)) best = i;
    p->index[b] = (uint8_t)best;
  }
}

static Status write_run(Buffer *out, char c, int n) {
  if (n > 3) return buffer_print(out, "!%d%c", n, c);
  while (n-- > 0) TRY(buffer_add(out, &c, 1));
  return OK;
}

/* One colour of one band of six rows. */
static Status write_band(Buffer *out, const uint8_t *pixels, int width, int rows, int colour) {
  char last = 0;
  int n = 0;
  for (int x = 0; x < width; x++) {
    int bits = 0;
    for (int y = 0; y < rows; y++) bits |= (pixels[y * width + x] == colour) << y;
    char c = (char)(63 + bits);
    if (n && c != last) {
      TRY(write_run(out, last, n));
      n = 0;
    }
    last = c;
    n++;
  }
  return last == 63 ? OK : write_run(out, last, n);
}

static Status write_picture(Buffer *out, const Palette *p, const uint8_t *pixels, int width, int height) {
  TRY(buffer_print(out, "\033P0;1q\"1;1;%d;%d", width, height));
  for (int i = 0; i < p->colours; i++) {
    int b = p->bins[i];
    TRY(buffer_print(out, "#%d;2;%d;%d;%d", i, (b >> 10) * 100 / 31, (b >> 5 & 31) * 100 / 31, (b & 31) * 100 / 31));
  }
  for (int top = 0; top < height; top += 6) {
    int rows = height - top < 6 ? height - top : 6;
    bool used[MOST] = {false};
    for (int i = 0; i < rows * width; i++) used[pixels[top * width + i]] = true;
    for (int i = 0; i < p->colours; i++) {
      if (!used[i]) continue;
      TRY(buffer_print(out, "#%d", i));
      TRY(write_band(out, pixels + top * width, width, rows, i));
      TRY(buffer_text(out, "$"));
    }
    TRY(buffer_text(out, "-"));
  }
  return buffer_text(out, "\033\\\n");
}

static Status encode(const uint8_t *rgb, int width, int height, Buffer *out) {
  size_t n = (size_t)width * (size_t)height;
  Palette *p = mem_calloc(1, sizeof *p);
  uint8_t *pixels = mem_alloc(n);
  Status s = p && pixels ? OK : error_code();
  if (s == OK) {
    for (size_t i = 0; i < n; i++) p->count[bin_of(rgb + 3 * i)]++;
    choose(p);
    for (size_t i = 0; i < n; i++) pixels[i] = p->index[bin_of(rgb + 3 * i)];
    s = write_picture(out, p, pixels, width, height);
  }
  mem_free(p);
  mem_free(pixels);
  return s;
}

Status scene_sixel(const Scene *s, double dpi, Buffer *out) {
  Raster *r;
  TRY(scene_raster(s, dpi, 0, &r));
  uint8_t *rgb = mem_alloc((size_t)r->width * (size_t)r->height * 3);
  Status status = rgb ? OK : error_code();
  if (rgb) {
    raster_rgb8(r, rgb);
    status = encode(rgb, r->width, r->height, out);
  }
  raster_free(r);
  mem_free(rgb);
  return status;
}

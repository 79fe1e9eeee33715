/* raster.c - see raster.h. */
#include "raster.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* --- sRGB (IEC 61966-2-1) in 16 bits both ways --- */

/* Values that were asked for, else 0: a picture has few of the 65536, whose powers would take longer than the rest of it. */
static uint16_t linear[65536], encoded[65536];

static uint16_t to_linear(int i) {
  if (linear[i]) return linear[i];
  double v = i / 65535.0;
  return linear[i] = (uint16_t)lrint((v <= 0.04045 ? v / 12.92 : pow((v + 0.055) / 1.055, 2.4)) * 65535);
}

static uint16_t to_encoded(int i) {
  if (encoded[i]) return encoded[i];
  double v = i / 65535.0;
  return encoded[i] = (uint16_t)lrint((v <= 0.0031308 ? v * 12.92 : 1.055 * pow(v, 1 / 2.4) - 0.055) * 65535);
}

static inline int channel(Colour c, int k) { return (int)((c >> (24 - 8 * k)) & 0xff) * 257; } /* 16 bits */

/* --- life --- */

Status raster_new(int width, int height, Colour background, Raster **out) {
  *out = NULL;
  if (width < 1 || height < 1 || width > RASTER_MAX_SIDE || height > RASTER_MAX_SIDE)
    return fail(ERR_ARGUMENT, "picture: size must be 1..%d pixels a side, got %d x %d (smaller width, height or dpi)", RASTER_MAX_SIDE,
                width, height);
  Raster *r = mem_calloc(1, sizeof *r);
  if (!r) return error_code();
  size_t pixels = (size_t)width * (size_t)height;
  r->width = width, r->height = height;
  r->rgb = mem_alloc(pixels * 3 * sizeof *r->rgb);
  r->cover = mem_calloc((size_t)(width + 2) * (size_t)height, sizeof *r->cover);
  r->low = mem_alloc((size_t)height * sizeof *r->low);
  r->high = mem_alloc((size_t)height * sizeof *r->high);
  if (!r->rgb || !r->cover || !r->low || !r->high) {
    raster_free(r);
    return error_code();
  }
  uint16_t back[3];
  for (int k = 0; k < 3; k++) back[k] = to_linear(channel(background, k));
  const size_t row = 3 * (size_t)width;
  for (size_t i = 0; i < row; i++) r->rgb[i] = back[i % 3];
  for (size_t y = 1; y < (size_t)height; y++) memcpy(r->rgb + y * row, r->rgb, row * sizeof *r->rgb);
  for (int y = 0; y < height; y++) r->low[y] = width + 2, r->high[y] = -1;
  r->top = height, r->bottom = 0;
  raster_clip(r, 0, 0, width, height);
  *out = r;
  return OK;
}

void raster_free(Raster *r) {
  if (!r) return;
  mem_free(r->rgb);
  mem_free(r->cover);
  mem_free(r->low);
  mem_free(r->high);
  mem_free(r);
}

static int clamp(int v, int low, int high) { return v < low ? low : v > high ? high : v; }

void raster_clip(Raster *r, int x0, int y0, int x1, int y1) {
  r->clip_x0 = clamp(x0, 0, r->width), r->clip_x1 = clamp(x1, r->clip_x0, r->width);
  r->clip_y0 = clamp(y0, 0, r->height), r->clip_y1 = clamp(y1, r->clip_y0, r->height);
}

/* --- gathering edges --- */

/* One edge inside one row: enters at x0, leaves at x1 (either order), and covers `d` of
 * the row's height, signed by direction. Adds to each pixel the area to the right of the edge. */
static void row_piece(Raster *r, int y, double x0, double x1, double d) {
  float *row = r->cover + (size_t)y * (size_t)(r->width + 2);
  double left = fmin(x0, x1), right = fmax(x0, x1);
  int first = (int)left, last = (int)right;
  if (first < r->low[y]) r->low[y] = first;
  if (last + 1 > r->high[y]) r->high[y] = last + 1;
  if (first == last) { /* a trapezoid within one pixel */
    double beyond = 0.5 * (left + right) - first;
    row[first] += (float)(d * (1 - beyond));
    row[first + 1] += (float)(d * beyond);
    return;
  }
  double slope = d / (right - left); /* signed height covered per pixel of x */
  double into = first + 1 - left, before = 0.5 * slope * into * into;
  row[first] += (float)before;
  for (int x = first + 1; x < last; x++) {
    double here = slope * (x + 0.5 - left); /* area up to and including pixel x */
    row[x] += (float)(here - before);
    before = here;
  }
  double rest = right - last, here = d - 0.5 * slope * rest * rest; /* the last pixel lacks a triangle of the whole height */
  row[last] += (float)(here - before);
  row[last + 1] += (float)(d - here);
}

/* An edge with x inside the clip and y inside the clip, going down; sign is its direction. */
static void inner_edge(Raster *r, double x0, double y0, double x1, double y1, double sign) {
  if (y0 == y1) return;
  int first = (int)y0, last = (int)ceil(y1);
  if (first < r->top) r->top = first;
  if (last > r->bottom) r->bottom = last;
  double slope = (x1 - x0) / (y1 - y0), low = fmin(x0, x1), high = fmax(x0, x1);
  double x = x0;
  for (int y = first; y < last; y++) {
    double from = y > y0 ? y : y0, to = y + 1 < y1 ? y + 1 : y1;
    double next = y + 1 < y1 ? x0 + slope * (to - y0) : x1;
    next = next < low ? low : next > high ? high : next; /* rounding must not leave the clip */
    row_piece(r, y, x, next, sign * (to - from));
    x = next;
  }
}

/* Cuts at x = at (a side of the clip): the part beyond becomes a vertical edge on the side. */
static void cut_x(Raster *r, double x0, double y0, double x1, double y1, double sign) {
  double sides[2] = {r->clip_x0, r->clip_x1};
  double t[4] = {0, 1, 1, 1};
  int n = 1;
  if (x0 != x1) {
    double ta = (sides[0] - x0) / (x1 - x0), tb = (sides[1] - x0) / (x1 - x0);
    double near = fmin(ta, tb), far = fmax(ta, tb);
    if (near > 0 && near < 1) t[n++] = near;
    if (far > 0 && far < 1) t[n++] = far;
  }
  t[n] = 1;
  for (int i = 0; i < n; i++) {
    double ya = y0 + t[i] * (y1 - y0), yb = i + 1 == n ? y1 : y0 + t[i + 1] * (y1 - y0);
    double xa = x0 + t[i] * (x1 - x0), xb = i + 1 == n ? x1 : x0 + t[i + 1] * (x1 - x0);
    xa = fmin(fmax(xa, sides[0]), sides[1]);
    xb = fmin(fmax(xb, sides[0]), sides[1]);
    inner_edge(r, xa, fmin(fmax(ya, r->clip_y0), r->clip_y1), xb, fmin(fmax(yb, r->clip_y0), r->clip_y1), sign);
  }
}

void raster_edge(Raster *r, double x0, double y0, double x1, double y1) {
  double sign = 1;
  if (y0 > y1) {
    double x = x0, y = y0;
    x0 = x1, y0 = y1, x1 = x, y1 = y;
    sign = -1;
  }
  if (y0 == y1 || y1 <= r->clip_y0 || y0 >= r->clip_y1 || r->clip_x0 == r->clip_x1) return;
  double slope = (x1 - x0) / (y1 - y0);
  if (y0 < r->clip_y0) x0 += slope * (r->clip_y0 - y0), y0 = r->clip_y0;
  if (y1 > r->clip_y1) x1 = x0 + slope * (r->clip_y1 - y0), y1 = r->clip_y1;
  if (x0 >= r->clip_x0 && x1 >= r->clip_x0 && x0 <= r->clip_x1 && x1 <= r->clip_x1) inner_edge(r, x0, y0, x1, y1, sign);
  else cut_x(r, x0, y0, x1, y1, sign);
}

void raster_polygon(Raster *r, const double *xy, size_t points) {
  for (size_t i = 0, last = points - 1; i < points; last = i++)
    raster_edge(r, xy[2 * last], xy[2 * last + 1], xy[2 * i], xy[2 * i + 1]);
}

void raster_lines(Raster *r, const Lines *l) {
  for (size_t i = 0; i < l->run_count; i++)
    if (l->runs[i].count > 2) raster_polygon(r, l->xy + 2 * l->runs[i].first, l->runs[i].count);
}

/* --- painting --- */

static inline float winding_coverage(float sum, FillRule rule) {
  float a = fabsf(sum);
  if (rule == RULE_EVENODD) {
    a = fmodf(a, 2);
    return a > 1 ? 2 - a : a;
  }
  return a > 1 ? 1 : a;
}

static inline uint16_t mix(int from, int to, int weight) { /* weight 0..65536 */
  return (uint16_t)(from + (int)(((int64_t)(to - from) * weight + 32768) >> 16));
}

typedef struct Ink {
  int encoded[3], linear[3], alpha; /* alpha 0..65536 */
} Ink;

static Ink ink_of(Colour c) {
  Ink k = {.alpha = (int)lrint((c & 0xff) * 65536 / 255.0)};
  for (int i = 0; i < 3; i++) k.encoded[i] = channel(c, i), k.linear[i] = to_linear(k.encoded[i]);
  return k;
}

static inline void blend(uint16_t *pixel, const Ink *k, int coverage) {
  for (int i = 0; i < 3; i++) {
    int goal = k->alpha == 65536 ? k->linear[i] : to_linear(mix(to_encoded(pixel[i]), k->encoded[i], k->alpha));
    pixel[i] = mix(pixel[i], goal, coverage);
  }
}

#define EACH_ROW(r, y) for (int y = (r)->top; y < (r)->bottom; y++)

static void reset_touched(Raster *r) { r->top = r->height, r->bottom = 0; }

/* Bends coverage: 0 and 1 stay, one half becomes (1 + k) / (2 + k). */
static inline float bend(float coverage, float k) { return coverage * (1 + k) / (1 + k * coverage); }

static void paint(Raster *r, Colour c, FillRule rule, float k) {
  Ink ink = ink_of(c);
  EACH_ROW(r, y) {
    float *row = r->cover + (size_t)y * (size_t)(r->width + 2), sum = 0;
    uint16_t *pixels = r->rgb + (size_t)y * (size_t)r->width * 3;
    int high = r->high[y];
    for (int x = r->low[y]; x <= high; x++) {
      sum += row[x];
      row[x] = 0;
      int coverage = (int)(bend(winding_coverage(sum, rule), k) * 65536 + 0.5f);
      if (coverage > 32 && x < r->clip_x1) blend(pixels + 3 * x, &ink, coverage); /* 32: rounding left over after a shape */
    }
    r->low[y] = r->width + 2, r->high[y] = -1;
  }
  reset_touched(r);
}

void raster_paint(Raster *r, Colour c, FillRule rule) { paint(r, c, rule, 0); }

void raster_paint_text(Raster *r, Colour c) {
  int light = 2 * channel(c, 0) + 3 * channel(c, 1) + channel(c, 2); /* of 6 x 65535 */
  paint(r, c, RULE_NONZERO, light < 3 * 65535 ? 0.5f : -0.25f);
}

void raster_visit(Raster *r, FillRule rule, RasterVisit visit, void *context) {
  EACH_ROW(r, y) {
    float *row = r->cover + (size_t)y * (size_t)(r->width + 2), sum = 0;
    for (int x = r->low[y]; x <= r->high[y]; x++) {
      sum += row[x];
      row[x] = 0;
      float coverage = winding_coverage(sum, rule);
      if (coverage > 0 && x < r->clip_x1) visit(context, x, y, coverage);
    }
    r->low[y] = r->width + 2, r->high[y] = -1;
  }
  reset_touched(r);
}

void raster_image(Raster *r, Box to, const Colour *cells, int cols, int rows) {
  for (int j = 0; j < rows; j++) {
    int y0 = (int)lrint(to.y0 + (to.y1 - to.y0) * j / rows), y1 = (int)lrint(to.y0 + (to.y1 - to.y0) * (j + 1) / rows);
    y0 = clamp(y0, r->clip_y0, r->clip_y1), y1 = clamp(y1, r->clip_y0, r->clip_y1);
    if (y0 == y1) continue;
    for (int i = 0; i < cols; i++) {
      int x0 = (int)lrint(to.x0 + (to.x1 - to.x0) * i / cols), x1 = (int)lrint(to.x0 + (to.x1 - to.x0) * (i + 1) / cols);
      x0 = clamp(x0, r->clip_x0, r->clip_x1), x1 = clamp(x1, r->clip_x0, r->clip_x1);
      Ink ink = ink_of(cells[(size_t)j * (size_t)cols + (size_t)i]);
      for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) blend(r->rgb + ((size_t)y * (size_t)r->width + (size_t)x) * 3, &ink, 65536);
    }
  }
}

void raster_rgb8(const Raster *r, uint8_t *out) {
  size_t n = (size_t)r->width * (size_t)r->height;
  const uint16_t *p = r->rgb;
  for (size_t i = 0; i < n; i++, p += 3, out += 3) {
    if (i > 0 && p[0] == p[-3] && p[1] == p[-2] && p[2] == p[-1]) { /* most pixels repeat their neighbour */
      out[0] = out[-3], out[1] = out[-2], out[2] = out[-1];
      continue;
    }
    for (int k = 0; k < 3; k++) out[k] = (uint8_t)((to_encoded(p[k]) + 128) / 257);
  }
}

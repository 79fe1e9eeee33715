/* raster.h - fills polygons into a picture, anti-aliased by exact area coverage.
 *
 *   Raster *r;
 *   TRY(raster_new(640, 480, 0xffffffff, &r));
 *   raster_polygon(r, xy, n);                 // any number of polygons ...
 *   raster_paint(r, 0x0072b2ff, RULE_NONZERO);// ... painted as one shape
 *   raster_rgb8(r, bytes);
 *   raster_free(r);
 *
 * How: each edge adds, in every pixel it crosses, the signed area between itself and
 * the pixel's right side; the running sum along a row is then the winding number
 * weighted by area, which is the coverage of the shape. No sampling, no sorting.
 *
 * Light: pixels hold linear light in 16 bits. Coverage mixes linearly, because half a
 * pixel of ink removes half of the light; a line keeps its weight wherever it falls
 * between pixels. The transparency of a colour mixes in encoded sRGB, as SVG viewers
 * and CSS do, so that a band has the same colour in both outputs. */
#ifndef quench_raster_h
#define quench_raster_h

#include <stdint.h>

#include "base/status.h"
#include "path.h"

typedef uint32_t Colour; /* 0xRRGGBBAA, encoded sRGB, alpha not multiplied in */

typedef enum FillRule { RULE_NONZERO, RULE_EVENODD } FillRule;

typedef struct Raster {
  int width, height;
  uint16_t *rgb;     /* linear light, 3 a pixel, rows from the top */
  float *cover;      /* (width + 2) x height, zero between two paints */
  int *low, *high;   /* touched columns of each row */
  int top, bottom;   /* touched rows: top <= y < bottom */
  int clip_x0, clip_y0, clip_x1, clip_y1;
} Raster;

enum { RASTER_MAX_SIDE = 20000 };

Status raster_new(int width, int height, Colour background, Raster **out);
void raster_free(Raster *r);

void raster_clip(Raster *r, int x0, int y0, int x1, int y1); /* cut to the picture */

void raster_edge(Raster *r, double x0, double y0, double x1, double y1); /* finite coordinates */
void raster_polygon(Raster *r, const double *xy, size_t points);         /* closes itself */
void raster_lines(Raster *r, const Lines *l);                            /* every run as a polygon */
void raster_paint(Raster *r, Colour c, FillRule rule);
/* The same for letters: thin dark strokes get a little more ink than their area and light ones a little less,
 * because linear light makes small dark text look thin and small light text look bold. */
void raster_paint_text(Raster *r, Colour c);
/* Hands the coverage (above 0, up to 1) of every touched pixel to visit instead of painting; clears the shape. */
typedef void (*RasterVisit)(void *context, int x, int y, float coverage);
void raster_visit(Raster *r, FillRule rule, RasterVisit visit, void *context);

/* A picture of cols x rows colours into the rectangle, every cell a block with edges on pixels. */
void raster_image(Raster *r, Box to, const Colour *cells, int cols, int rows);

void raster_rgb8(const Raster *r, uint8_t *out); /* 3 x width x height, encoded sRGB */

#endif

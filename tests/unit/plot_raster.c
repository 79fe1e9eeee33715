/* plot_raster.c - the rasteriser and the pen: coverage is area, whatever the shape. */
#include "tests/tap.h"

#include "base/random.h"
#include "raster.h"
#include "stroke.h"

enum { W = 60, H = 50 };

static void add_coverage(void *sum, int x, int y, float coverage) {
  (void)x, (void)y;
  *(double *)sum += (double)coverage;
}

/* Sum of the coverage gathered in r: the area of the shape in pixels. */
static double area(Raster *r, FillRule rule) {
  double sum = 0;
  raster_visit(r, rule, add_coverage, &sum);
  return sum;
}

static double shoelace(const double *xy, size_t n) {
  double sum = 0;
  for (size_t i = 0, j = n - 1; i < n; j = i++) sum += xy[2 * j] * xy[2 * i + 1] - xy[2 * i] * xy[2 * j + 1];
  return fabs(sum) / 2;
}

static void polygons(Raster *r) {
  double triangle[] = {3.3, 4.7, 51.2, 12.9, 20.1, 47.6};
  raster_polygon(r, triangle, 3);
  near_(area(r, RULE_NONZERO), shoelace(triangle, 3), 1e-5, "coverage of a triangle sums to its area");
  double reversed[] = {20.1, 47.6, 51.2, 12.9, 3.3, 4.7};
  raster_polygon(r, reversed, 3);
  near_(area(r, RULE_NONZERO), shoelace(triangle, 3), 1e-5, "the other direction gives the same");
  double concave[] = {5.5, 5.5, 50.25, 5.5, 50.25, 40, 28, 12.125, 5.5, 40};
  raster_polygon(r, concave, 5);
  near_(area(r, RULE_NONZERO), shoelace(concave, 5), 1e-5, "a concave polygon");
  double sliver[] = {1.2, 20.01, 58.9, 20.02, 58.9, 20.05};
  raster_polygon(r, sliver, 3);
  near_(area(r, RULE_NONZERO), shoelace(sliver, 3), 1e-5, "a sliver thinner than a pixel");
}

static void random_polygons(Raster *r) {
  Random stream = random_stream(1, "polygons");
  double worst = 0;
  for (int k = 0; k < 300; k++) {
    double xy[6];
    for (int i = 0; i < 6; i++) xy[i] = random_uniform(&stream) * (i % 2 ? H : W);
    raster_polygon(r, xy, 3);
    worst = fmax(worst, fabs(area(r, RULE_NONZERO) - shoelace(xy, 3)));
  }
  ok(worst < 1e-3, "300 random triangles: area off by at most %g", worst);
}

static void windings(Raster *r) {
  double outer[] = {10, 10, 40, 10, 40, 40, 10, 40}, inner[] = {20, 20, 30, 20, 30, 30, 20, 30}, hole[] = {20, 20, 20, 30, 30, 30, 30, 20};
  raster_polygon(r, outer, 4), raster_polygon(r, inner, 4);
  near_(area(r, RULE_NONZERO), 900, 1e-6, "same direction: filled under the nonzero rule");
  raster_polygon(r, outer, 4), raster_polygon(r, inner, 4);
  near_(area(r, RULE_EVENODD), 800, 1e-6, "a hole under the even-odd rule");
  raster_polygon(r, outer, 4), raster_polygon(r, hole, 4);
  near_(area(r, RULE_NONZERO), 800, 1e-6, "opposite direction: a hole under the nonzero rule");
}

static void clipping(Raster *r) {
  double large[] = {-1000, -1000, 5000, -1000, 5000, 5000, -1000, 5000};
  raster_polygon(r, large, 4);
  near_(area(r, RULE_NONZERO), W * H, 1e-6, "a polygon around the picture covers all of it");
  raster_clip(r, 10, 5, 30, 25);
  raster_polygon(r, large, 4);
  near_(area(r, RULE_NONZERO), 400, 1e-6, "the clip cuts");
  double across[] = {0, 15, 20, 5, 60, 15, 20, 25}; /* a kite over the clip's left and right sides */
  raster_polygon(r, across, 4);
  /* inside x = 10..30: left wing from height 10 at x = 10 to 20 at 20, right wing from 20 to 15 at 30 */
  near_(area(r, RULE_NONZERO), 10 * 15.0 + 10 * 17.5, 1e-4, "edges that cross the clip's sides keep their inner part exact");
  raster_clip(r, 0, 0, W, H);
  double far[] = {70, 10, 90, 10, 90, 20};
  raster_polygon(r, far, 3);
  near_(area(r, RULE_NONZERO), 0, 0, "a polygon on the right of everything leaves nothing");
}

static void emit(void *context, const double *xy, size_t n) { raster_polygon(context, xy, n); }

static double stroked(Raster *r, const double *xy, size_t n, bool closed, Pen pen) {
  Path p = {0};
  Lines l = {0};
  for (size_t i = 0; i < n; i++) path_add(&p, i ? PATH_LINE : PATH_MOVE, xy[2 * i], xy[2 * i + 1]);
  if (closed) path_add(&p, PATH_CLOSE, 0, 0);
  path_flatten(&p, path_whole(&p), matrix_scale(1), 0.05, &l);
  stroke_lines(&l, &pen, &(Box){0, 0, W, H}, emit, r);
  path_free(&p);
  lines_free(&l);
  return area(r, RULE_NONZERO);
}

static void strokes(Raster *r) {
  double slanted[] = {10, 10, 40, 35}, length = hypot(30, 25);
  near_(stroked(r, slanted, 2, false, (Pen){.width = 3}), 3 * length, 1e-4, "a butt stroke covers width x length");
  near_(stroked(r, slanted, 2, false, (Pen){.width = 3, .cap = CAP_SQUARE}), 3 * (length + 3), 1e-4, "square caps add a width");
  near_(stroked(r, slanted, 2, false, (Pen){.width = 3, .cap = CAP_ROUND}), 3 * length + M_PI * 2.25, 2e-3, "round caps add a disc");
  near_(stroked(r, slanted, 2, false, (Pen){.width = 0.2}), 0.2 * length, 1e-4, "a hair line keeps its weight");
  double corner[] = {10, 40, 10, 10, 40, 10};
  near_(stroked(r, corner, 3, false, (Pen){.width = 4, .join = JOIN_MITER}), 4 * 60 - 4 + 4, 1e-4, "a miter fills the corner's square");
  near_(stroked(r, corner, 3, false, (Pen){.width = 4, .join = JOIN_BEVEL}), 4 * 60 - 4 + 2, 1e-4, "a bevel fills half of it");
  near_(stroked(r, corner, 3, false, (Pen){.width = 4, .join = JOIN_ROUND}), 4 * 60 - 4 + M_PI, 5e-4, "a round join a quarter disc");
  double square[] = {10, 10, 40, 10, 40, 40, 10, 40};
  near_(stroked(r, square, 4, true, (Pen){.width = 2, .join = JOIN_MITER}), 32 * 32 - 28 * 28, 1e-4, "a closed run joins its ends");
  double level[] = {5, 20, 45, 20};
  near_(stroked(r, level, 2, false, (Pen){.width = 2, .dash = {3, 2}, .dashes = 2}), 2 * 24, 1e-4, "dashes 3 on 2 off cover three fifths");
  near_(stroked(r, level, 2, false, (Pen){.width = 2, .dash = {3}, .dashes = 1}), 2 * 21, 1e-4, "one number: as long on as off");
  near_(stroked(r, level, 2, false, (Pen){.width = 2, .dash = {3, 2}, .dashes = 2, .phase = 3}), 2 * 24, 1e-4, "a phase starts in the gap");
  double through[] = {-1e7, 20, 1e7, 20};
  near_(stroked(r, through, 2, false, (Pen){.width = 2}), 2 * W, 1e-4, "a segment far beyond the picture on both sides");
  double dashed = stroked(r, through, 2, false, (Pen){.width = 2, .dash = {3, 3}, .dashes = 2});
  ok(dashed > 2 * W * 0.45 && dashed < 2 * W * 0.56, "and dashed, without walking all its dashes (%g)", dashed);
  double broken[] = {10, 10, NAN, 10, 30, 10, 40, 10};
  near_(stroked(r, broken, 4, false, (Pen){.width = 2}), 20, 1e-4, "NaN breaks a line");
}

static void circle(Raster *r) {
  Path p = {0};
  Lines l = {0};
  path_ellipse(&p, 30, 25, 20, 20);
  path_flatten(&p, path_whole(&p), matrix_scale(1), 0.01, &l);
  raster_lines(r, &l);
  near_(area(r, RULE_NONZERO), M_PI * 400, 8e-4, "a circle of four cubics");
  double worst = 0;
  for (size_t i = 0; i < l.points; i++) worst = fmax(worst, fabs(hypot(l.xy[2 * i] - 30, l.xy[2 * i + 1] - 25) - 20));
  ok(worst < 0.01, "its points lie on the circle (off by %g of 20)", worst);
  lines_free(&l);
  path_free(&p);
}

static void painting(void) {
  Raster *r;
  raster_new(4, 1, 0xffffffff, &r);
  uint8_t rgb[12];
  double half[] = {0.5, 0, 2, 0, 2, 1, 0.5, 1};
  raster_polygon(r, half, 4);
  raster_paint(r, 0x000000ff, RULE_NONZERO);
  raster_rgb8(r, rgb);
  ok(rgb[0] == 188 && rgb[3] == 0 && rgb[6] == 255, "half a pixel of black on white removes half of the light: %d", rgb[0]);
  raster_polygon(r, (double[]){2, 0, 3, 0, 3, 1, 2, 1}, 4);
  raster_paint(r, 0x00000080, RULE_NONZERO);
  raster_rgb8(r, rgb);
  ok(rgb[6] == 127, "half transparent black on white is the grey that a browser shows: %d", rgb[6]);
  ok(rgb[9] == 255, "the pixel beside is untouched");
  raster_free(r);
  ok(raster_new(0, 5, 0, &r) == ERR_ARGUMENT && strstr(error_message(), "0 x 5"), "no empty picture: %s", error_message());
  ok(raster_new(30000, 30000, 0, &r) == ERR_ARGUMENT, "no picture beyond all sense");
  mem_fail_at(3);
  ok(raster_new(40, 40, 0, &r) == ERR_MEMORY && r == NULL, "no memory: an error, nothing leaks");
  mem_fail_at(0);
}

int main(void) {
  Raster *r;
  if (raster_new(W, H, 0xffffffff, &r) != OK) return 1;
  polygons(r);
  random_polygons(r);
  windings(r);
  clipping(r);
  strokes(r);
  circle(r);
  raster_free(r);
  painting();
  return done();
}

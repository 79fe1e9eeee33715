/* stroke.h - turns polylines into the area that a pen covers.
 *
 *   Pen pen = {.width = 1.5, .join = JOIN_ROUND, .cap = CAP_BUTT, .dash = {6, 3}, .dashes = 2};
 *   stroke_lines(&lines, &pen, &clip, emit, raster);
 *
 * The area comes as convex polygons, one a segment and one a join or cap, all turning
 * the same way, so that their winding numbers add up and never cancel; painted with
 * RULE_NONZERO they make one shape. Nothing is allocated and nothing can fail. */
#ifndef quench_stroke_h
#define quench_stroke_h

#include "path.h"

typedef enum Join { JOIN_MITER, JOIN_ROUND, JOIN_BEVEL } Join;
typedef enum Cap { CAP_BUTT, CAP_ROUND, CAP_SQUARE } Cap;

enum { PEN_DASHES = 8 };

typedef struct Pen {
  double width;
  Join join;
  Cap cap;
  double dash[PEN_DASHES]; /* on, off, on, ...; in the units of the lines */
  int dashes;              /* 0: a full line; odd numbers repeat, as in SVG */
  double phase;            /* where in the pattern the line starts */
} Pen;

/* Receives one convex polygon (x, y pairs), positively oriented in y-down coordinates. */
typedef void (*StrokeEmit)(void *context, const double *xy, size_t points);

/* Segments wholly outside `visible` (grown by the pen's reach) are skipped, their length counted into the dashes. */
void stroke_lines(const Lines *lines, const Pen *pen, const Box *visible, StrokeEmit emit, void *context);

#endif

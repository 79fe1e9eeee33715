/* path.h - paths of lines and Bezier curves, and the polylines they flatten to.
 *
 *   Path p = {0};
 *   TRY(path_add(&p, PATH_MOVE, 0, 0));
 *   TRY(path_curve(&p, 0, 5, 5, 10, 10, 10));
 *   TRY(path_flatten(&p, whole(&p), matrix_scale(2), 0.1, &lines));
 *   path_free(&p);
 *
 * A Path only grows; a Span names a part of it, so that one Path holds all paths of
 * a scene without an allocation each. Coordinates are doubles, y pointing down. */
#ifndef quench_path_h
#define quench_path_h

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef enum PathOp { PATH_MOVE, PATH_LINE, PATH_QUAD, PATH_CUBIC, PATH_CLOSE } PathOp;

typedef struct Path {
  uint8_t *op;
  double *xy; /* 2, 2, 4, 6, 0 numbers an operation */
  size_t ops, numbers, op_room, number_room;
} Path;

typedef struct Span {
  size_t op, ops, number; /* first operation, how many, first coordinate */
} Span;

/* x' = a x + c y + e, y' = b x + d y + f */
typedef struct Matrix {
  double a, b, c, d, e, f;
} Matrix;

typedef struct Box {
  double x0, y0, x1, y1;
} Box;

Status path_add(Path *p, PathOp op, double x, double y); /* MOVE, LINE, CLOSE */
Status path_quad(Path *p, double x1, double y1, double x, double y);
Status path_curve(Path *p, double x1, double y1, double x2, double y2, double x, double y);
Status path_rectangle(Path *p, double x, double y, double width, double height);
/* Four cubics; the radius is off by 0.03 % at most. */
Status path_ellipse(Path *p, double cx, double cy, double rx, double ry);
Span path_whole(const Path *p);
void path_free(Path *p);

static inline Matrix matrix_scale(double s) { return (Matrix){s, 0, 0, s, 0, 0}; }

/* Subpaths as runs of points. */
typedef struct Run {
  size_t first, count;
  bool closed;
} Run;

typedef struct Lines {
  double *xy;
  Run *runs;
  size_t points, run_count, point_room, run_room;
} Lines;

/* Appends the flattened path: no point of a curve is further than tolerance (in the
 * units after the matrix) from its chords. A point that is not finite ends its run. */
Status path_flatten(const Path *p, Span part, Matrix m, double tolerance, Lines *out);
void lines_clear(Lines *l); /* keeps the memory */
void lines_free(Lines *l);

/* Makes room for one more item of a growing array. */
Status array_room(void **data, size_t *room, size_t needed, size_t item_bytes);

#endif

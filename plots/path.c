/* path.c - see path.h. */
#include "path.h"

#include <math.h>

#include "base/mem.h"

Status array_room(void **data, size_t *room, size_t needed, size_t item_bytes) {
  if (needed <= *room) return OK;
  size_t wanted = *room ? *room : 64;
  while (wanted < needed) wanted *= 2;
  void *grown = mem_realloc(*data, wanted * item_bytes);
  if (!grown) return error_code();
  *data = grown;
  *room = wanted;
  return OK;
}

static Status add(Path *p, PathOp op, const double *xy, size_t numbers) {
  TRY(array_room((void **)&p->op, &p->op_room, p->ops + 1, 1));
  TRY(array_room((void **)&p->xy, &p->number_room, p->numbers + numbers, sizeof *p->xy));
  p->op[p->ops++] = (uint8_t)op;
  for (size_t i = 0; i < numbers; i++) p->xy[p->numbers++] = xy[i];
  return OK;
}

Status path_add(Path *p, PathOp op, double x, double y) {
  return add(p, op, (double[]){x, y}, op == PATH_CLOSE ? 0 : 2);
}

Status path_quad(Path *p, double x1, double y1, double x, double y) {
  return add(p, PATH_QUAD, (double[]){x1, y1, x, y}, 4);
}

Status path_curve(Path *p, double x1, double y1, double x2, double y2, double x, double y) {
  return add(p, PATH_CUBIC, (double[]){x1, y1, x2, y2, x, y}, 6);
}

Status path_rectangle(Path *p, double x, double y, double width, double height) {
  TRY(path_add(p, PATH_MOVE, x, y));
  TRY(path_add(p, PATH_LINE, x + width, y));
  TRY(path_add(p, PATH_LINE, x + width, y + height));
  TRY(path_add(p, PATH_LINE, x, y + height));
  return path_add(p, PATH_CLOSE, 0, 0);
}

Status path_ellipse(Path *p, double cx, double cy, double rx, double ry) {
  const double k = 0.5522847498307936; /* 4/3 (sqrt 2 - 1): the cubic meets the arc in its middle */
  TRY(path_add(p, PATH_MOVE, cx + rx, cy));
  TRY(path_curve(p, cx + rx, cy + k * ry, cx + k * rx, cy + ry, cx, cy + ry));
  TRY(path_curve(p, cx - k * rx, cy + ry, cx - rx, cy + k * ry, cx - rx, cy));
  TRY(path_curve(p, cx - rx, cy - k * ry, cx - k * rx, cy - ry, cx, cy - ry));
  TRY(path_curve(p, cx + k * rx, cy - ry, cx + rx, cy - k * ry, cx + rx, cy));
  return path_add(p, PATH_CLOSE, 0, 0);
}

Span path_whole(const Path *p) { return (Span){0, p->ops, 0}; }

void path_free(Path *p) {
  mem_free(p->op);
  mem_free(p->xy);
  *p = (Path){0};
}

void lines_clear(Lines *l) { l->points = l->run_count = 0; }

void lines_free(Lines *l) {
  mem_free(l->xy);
  mem_free(l->runs);
  *l = (Lines){0};
}

/* --- flattening --- */

typedef struct Flattener {
  Lines *out;
  double tolerance;
  double x, y;   /* the current point */
  bool open;     /* a run is being written */
} Flattener;

static Status begin_run(Flattener *f) {
  Lines *l = f->out;
  TRY(array_room((void **)&l->runs, &l->run_room, l->run_count + 1, sizeof *l->runs));
  l->runs[l->run_count++] = (Run){.first = l->points};
  f->open = true;
  return OK;
}

static Status put_point(Flattener *f, double x, double y) {
  Lines *l = f->out;
  f->x = x, f->y = y;
  if (!isfinite(x) || !isfinite(y)) {
    f->open = false;
    return OK;
  }
  if (!f->open) TRY(begin_run(f));
  TRY(array_room((void **)&l->xy, &l->point_room, 2 * (l->points + 1), sizeof *l->xy));
  l->xy[2 * l->points] = x;
  l->xy[2 * l->points + 1] = y;
  l->points++;
  l->runs[l->run_count - 1].count++;
  return OK;
}

/* A cubic's distance from n chords is at most sqrt(3)/18 * max|second difference| * 6/n^2... the usual
 * bound: n = sqrt(d (d-1) / 8 * M / tolerance), M the largest second difference of the control points (Wang, 1984). */
static int pieces(double m, double degree, double tolerance) {
  if (!isfinite(m)) return 1;
  double n = ceil(sqrt(degree * (degree - 1) / 8 * m / tolerance));
  return n < 1 ? 1 : n > 500 ? 500 : (int)n;
}

static Status flatten_cubic(Flattener *f, const double *c) {
  double x0 = f->x, y0 = f->y;
  double m = fmax(hypot(x0 - 2 * c[0] + c[2], y0 - 2 * c[1] + c[3]), hypot(c[0] - 2 * c[2] + c[4], c[1] - 2 * c[3] + c[5]));
  int n = pieces(m, 3, f->tolerance);
  for (int i = 1; i < n; i++) {
    double t = (double)i / n, s = 1 - t;
    double b0 = s * s * s, b1 = 3 * s * s * t, b2 = 3 * s * t * t, b3 = t * t * t;
    TRY(put_point(f, b0 * x0 + b1 * c[0] + b2 * c[2] + b3 * c[4], b0 * y0 + b1 * c[1] + b2 * c[3] + b3 * c[5]));
  }
  return put_point(f, c[4], c[5]);
}

static Status flatten_quad(Flattener *f, const double *c) {
  double x0 = f->x, y0 = f->y;
  int n = pieces(hypot(x0 - 2 * c[0] + c[2], y0 - 2 * c[1] + c[3]), 2, f->tolerance);
  for (int i = 1; i < n; i++) {
    double t = (double)i / n, s = 1 - t;
    TRY(put_point(f, s * s * x0 + 2 * s * t * c[0] + t * t * c[2], s * s * y0 + 2 * s * t * c[1] + t * t * c[3]));
  }
  return put_point(f, c[2], c[3]);
}

Status path_flatten(const Path *p, Span part, Matrix m, double tolerance, Lines *out) {
  Flattener f = {.out = out, .tolerance = tolerance};
  const double *xy = p->xy + part.number;
  for (size_t i = part.op; i < part.op + part.ops; i++) {
    int numbers = (const int[]){2, 2, 4, 6, 0}[p->op[i]];
    double c[6];
    for (int k = 0; k < numbers; k += 2) {
      c[k] = m.a * xy[k] + m.c * xy[k + 1] + m.e;
      c[k + 1] = m.b * xy[k] + m.d * xy[k + 1] + m.f;
    }
    xy += numbers;
    switch ((PathOp)p->op[i]) {
      case PATH_MOVE: f.open = false; TRY(put_point(&f, c[0], c[1])); break;
      case PATH_LINE: TRY(put_point(&f, c[0], c[1])); break;
      case PATH_QUAD: TRY(flatten_quad(&f, c)); break;
      case PATH_CUBIC: TRY(flatten_cubic(&f, c)); break;
      case PATH_CLOSE:
        if (f.open) out->runs[out->run_count - 1].closed = true;
        f.open = false;
        break;
    }
  }
  return OK;
}

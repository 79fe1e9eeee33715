/* stroke.c - see stroke.h. The pen walks along each run with two states, down or up;
 * whatever it needs to know about the past is the last point and the last direction. */
#include "stroke.h"

#include <math.h>

static const double miter_limit = 4; /* SVG's: longer spikes become bevels */

enum { ARC_POINTS = 40 };

typedef struct Stroker {
  const Pen *pen;
  StrokeEmit emit;
  void *context;
  double radius, arc_step; /* arc_step: angle between points of a round join or cap */
  Box reach;
  /* the piece being drawn */
  bool down, started;      /* started: has a segment */
  double x, y;             /* its end so far */
  double dx, dy;           /* direction of its last segment */
  double first_x, first_y, first_dx, first_dy;
  /* dashes */
  int dash;
  double left;             /* of the current dash or gap */
} Stroker;

/* A fan about (x, y) from angle a over `turn` >= 0, positively oriented. */
static void emit_arc(Stroker *s, double x, double y, double a, double turn) {
  double xy[2 * (ARC_POINTS + 2)];
  int steps = (int)ceil(turn / s->arc_step), n = 0;
  if (steps > ARC_POINTS) steps = ARC_POINTS;
  if (steps < 1) steps = 1;
  xy[n++] = x, xy[n++] = y;
  for (int i = 0; i <= steps; i++) {
    double angle = a + turn * i / steps;
    xy[n++] = x + s->radius * cos(angle), xy[n++] = y + s->radius * sin(angle);
  }
  s->emit(s->context, xy, (size_t)n / 2);
}

/* The end of a piece at (x, y), looking outwards along (dx, dy). */
static void emit_cap(Stroker *s, double x, double y, double dx, double dy) {
  double r = s->radius;
  if (s->pen->cap == CAP_ROUND) {
    emit_arc(s, x, y, atan2(-dx, dy), M_PI);
  } else if (s->pen->cap == CAP_SQUARE) {
    double xy[8] = {x + r * dy, y - r * dx, x + r * (dy + dx), y + r * (dy - dx), x + r * (dx - dy), y + r * (dx + dy), x - r * dy, y + r * dx};
    s->emit(s->context, xy, 4);
  }
}

/* Fills the outer wedge where direction a turns into direction b at (x, y). */
static void emit_join(Stroker *s, double x, double y, double ax, double ay, double bx, double by) {
  double cross = ax * by - ay * bx, dot = ax * bx + ay * by, r = s->radius;
  if (fabs(cross) < 1e-9 && dot > 0) return;
  double side = cross > 0 ? 1 : -1; /* turning to positive angles opens the gap on the other side */
  double px = x + side * r * ay, py = y - side * r * ax, qx = x + side * r * by, qy = y - side * r * bx;
  if (s->pen->join == JOIN_ROUND) {
    double turn = atan2(fabs(cross), dot);
    double start = side > 0 ? atan2(py - y, px - x) : atan2(qy - y, qx - x);
    emit_arc(s, x, y, start, turn);
    return;
  }
  double xy[8] = {x, y, px, py, qx, qy};
  size_t n = 3;
  double half = sqrt(fmax(0, (1 + dot) / 2)); /* cosine of half the turn; the miter is 1/half radii long */
  if (s->pen->join == JOIN_MITER && half * miter_limit >= 1) {
    double mx = side * (ay + by), my = -side * (ax + bx), length = hypot(mx, my);
    xy[4] = x + mx / length * r / half, xy[5] = y + my / length * r / half, xy[6] = qx, xy[7] = qy;
    n = 4;
  }
  if (side < 0) /* keep the orientation */
    for (size_t i = 1, j = n - 1; i < j; i++, j--)
      for (int k = 0; k < 2; k++) {
        double kept = xy[2 * i + (size_t)k];
        xy[2 * i + (size_t)k] = xy[2 * j + (size_t)k], xy[2 * j + (size_t)k] = kept;
      }
  s->emit(s->context, xy, n);
}

static void pen_down(Stroker *s, double x, double y) {
  s->down = true, s->started = false;
  s->x = s->first_x = x, s->y = s->first_y = y;
}

static void pen_to(Stroker *s, double x, double y) {
  double dx = x - s->x, dy = y - s->y, length = hypot(dx, dy);
  if (length < 1e-9) return;
  dx /= length, dy /= length;
  if (s->started) emit_join(s, s->x, s->y, s->dx, s->dy, dx, dy);
  else s->first_dx = dx, s->first_dy = dy;
  double nx = -dy * s->radius, ny = dx * s->radius;
  double xy[8] = {s->x - nx, s->y - ny, x - nx, y - ny, x + nx, y + ny, s->x + nx, s->y + ny};
  s->emit(s->context, xy, 4);
  s->x = x, s->y = y, s->dx = dx, s->dy = dy, s->started = true;
}

static void pen_up(Stroker *s) {
  if (!s->down) return;
  s->down = false;
  if (s->started) {
    emit_cap(s, s->x, s->y, s->dx, s->dy);
    emit_cap(s, s->first_x, s->first_y, -s->first_dx, -s->first_dy);
  } else if (s->pen->cap != CAP_BUTT) { /* a point: a dot or a square */
    emit_cap(s, s->x, s->y, 1, 0);
    emit_cap(s, s->x, s->y, -1, 0);
  }
}

/* --- dashes --- */

static double pattern_length(const Pen *p) {
  double sum = 0;
  for (int i = 0; i < p->dashes; i++) sum += p->dash[i];
  return p->dashes & 1 ? 2 * sum : sum;
}

static bool dash_is_on(const Stroker *s) { return s->dash % 2 == 0; }

static void dash_next(Stroker *s) {
  int period = s->pen->dashes & 1 ? 2 * s->pen->dashes : s->pen->dashes;
  s->dash = (s->dash + 1) % period;
  s->left = s->pen->dash[s->dash % s->pen->dashes];
}

/* Moves on in the pattern without drawing. */
static void dash_skip(Stroker *s, double length) {
  double total = pattern_length(s->pen);
  length = fmod(length, total);
  if (!(length >= 0)) return; /* an endless segment */
  for (int guard = 0; length >= s->left && guard < 4 * PEN_DASHES; guard++) {
    length -= s->left;
    dash_next(s);
  }
  s->left -= length;
}

static void dash_start(Stroker *s) {
  s->dash = 0;
  s->left = s->pen->dash[0];
  if (s->pen->phase > 0) dash_skip(s, s->pen->phase);
}

static void dashed_to(Stroker *s, double x0, double y0, double x1, double y1) {
  double length = hypot(x1 - x0, y1 - y0), done = 0;
  if (length == 0) return;
  while (length - done > s->left) {
    done += s->left;
    double x = x0 + (x1 - x0) * done / length, y = y0 + (y1 - y0) * done / length;
    if (dash_is_on(s)) pen_to(s, x, y), pen_up(s);
    dash_next(s);
    if (dash_is_on(s)) pen_down(s, x, y);
  }
  s->left -= length - done;
  if (dash_is_on(s)) pen_to(s, x1, y1);
}

/* --- clipping and the walk --- */

/* Cuts a segment to the box (Liang and Barsky, 1984): false if nothing is left. */
static bool cut_segment(const Box *b, double x0, double y0, double x1, double y1, double *t0, double *t1) {
  double p[4] = {x0 - x1, x1 - x0, y0 - y1, y1 - y0}, q[4] = {x0 - b->x0, b->x1 - x0, y0 - b->y0, b->y1 - y0};
  *t0 = 0, *t1 = 1;
  for (int i = 0; i < 4; i++) {
    if (p[i] == 0 && q[i] < 0) return false;
    if (p[i] < 0) *t0 = fmax(*t0, q[i] / p[i]);
    if (p[i] > 0) *t1 = fmin(*t1, q[i] / p[i]);
  }
  return *t0 <= *t1;
}

static void segment(Stroker *s, double x0, double y0, double x1, double y1, bool dashed) {
  double t0, t1, length = hypot(x1 - x0, y1 - y0);
  if (!cut_segment(&s->reach, x0, y0, x1, y1, &t0, &t1)) {
    pen_up(s);
    if (dashed) dash_skip(s, length);
    return;
  }
  double ax = x0 + t0 * (x1 - x0), ay = y0 + t0 * (y1 - y0);
  double bx = t1 < 1 ? x0 + t1 * (x1 - x0) : x1, by = t1 < 1 ? y0 + t1 * (y1 - y0) : y1;
  if (t0 > 0) {
    pen_up(s);
    if (dashed) dash_skip(s, t0 * length);
  }
  if (!s->down && (!dashed || dash_is_on(s))) pen_down(s, ax, ay);
  if (dashed) dashed_to(s, ax, ay, bx, by);
  else pen_to(s, bx, by);
  if (t1 < 1) {
    pen_up(s);
    if (dashed) dash_skip(s, (1 - t1) * length);
  }
}

static void stroke_run(Stroker *s, const double *xy, size_t n, bool closed, bool dashed) {
  if (n == 0) return;
  if (dashed) dash_start(s);
  if (n == 1) {
    pen_down(s, xy[0], xy[1]);
    pen_up(s);
    return;
  }
  size_t segments = closed ? n : n - 1;
  bool whole = true; /* no segment was cut: a closed run can be joined with its start */
  for (size_t i = 0; i < segments; i++) {
    const double *a = xy + 2 * i, *b = xy + 2 * ((i + 1) % n);
    segment(s, a[0], a[1], b[0], b[1], dashed);
    whole = whole && s->down;
  }
  if (closed && whole && !dashed && s->started) {
    emit_join(s, s->x, s->y, s->dx, s->dy, s->first_dx, s->first_dy);
    s->down = false;
  }
  pen_up(s);
}

void stroke_lines(const Lines *lines, const Pen *pen, const Box *visible, StrokeEmit emit, void *context) {
  double r = pen->width / 2, margin = r * miter_limit + 1;
  if (!(r > 0)) return;
  Stroker s = {.pen = pen, .emit = emit, .context = context, .radius = r};
  s.arc_step = 2 * acos(fmax(0.5, 1 - 0.03 / r)); /* chords within 0.03 of the circle */
  s.reach = (Box){visible->x0 - margin, visible->y0 - margin, visible->x1 + margin, visible->y1 + margin};
  bool dashed = pen->dashes > 0 && pattern_length(pen) > 1e-3;
  for (size_t i = 0; i < lines->run_count; i++) {
    const Run *run = &lines->runs[i];
    stroke_run(&s, lines->xy + 2 * run->first, run->count, run->closed, dashed);
  }
}

/* draw.c - see draw.h; and the two plain targets: pixels and ink. */
#include "draw.h"

#include <math.h>
#include <string.h>

#include "base/interrupt.h"
#include "base/mem.h"

enum { CLIP_DEPTH = 16 };

typedef struct Drawer {
  const Scene *scene;
  Target *to;
  Raster *raster;
  Lines lines; /* scratch */
  Path path;   /* scratch */
  Box clips[CLIP_DEPTH];
  int depth;
} Drawer;

static const double tolerance = 0.05; /* raster units between a curve and its chords */

static Matrix to_raster(const Drawer *d) { return (Matrix){d->to->sx, 0, 0, d->to->sy, d->to->ox, d->to->oy}; }

/* first `in`, then `out` */
static Matrix matrix_then(Matrix in, Matrix out) {
  return (Matrix){in.a * out.a + in.b * out.c, in.a * out.b + in.b * out.d, in.c * out.a + in.d * out.c,
                  in.c * out.b + in.d * out.d, in.e * out.a + in.f * out.c + out.e, in.e * out.b + in.f * out.d + out.f};
}

static Box box_to_raster(const Drawer *d, const Box *b) {
  const Target *t = d->to;
  return (Box){t->sx * b->x0 + t->ox, t->sy * b->y0 + t->oy, t->sx * b->x1 + t->ox, t->sy * b->y1 + t->oy};
}

static Status flatten(Drawer *d, const Path *p, Span part, Matrix m) {
  lines_clear(&d->lines);
  return path_flatten(p, part, m, tolerance, &d->lines);
}

static void emit(void *context, const double *xy, size_t n) { raster_polygon(context, xy, n); }

static void stroke(Drawer *d, Colour c, const Pen *points, int flags) {
  Pen pen = *points;
  double scale = sqrt(d->to->sx * d->to->sy);
  pen.width = fmax(pen.width * scale, d->to->least_width);
  for (int i = 0; i < pen.dashes; i++) pen.dash[i] *= scale;
  pen.phase *= scale;
  if (flags & SNAP) { /* whole pixels wide, with the edges between pixels */
    pen.width = fmax(1, round(pen.width));
    double shift = fmod(pen.width, 2) == 1 ? 0.5 : 0;
    for (size_t i = 0; i < 2 * d->lines.points; i++) d->lines.xy[i] = round(d->lines.xy[i] - shift) + shift;
  }
  const Raster *r = d->raster;
  Box visible = {r->clip_x0, r->clip_y0, r->clip_x1, r->clip_y1};
  stroke_lines(&d->lines, &pen, &visible, emit, d->raster);
  d->to->paint(d->to->context, c, RULE_NONZERO, SHAPE_LINE);
}

static Status draw_path(Drawer *d, const Item *i) {
  TRY(flatten(d, &d->scene->path, i->path, to_raster(d)));
  if (i->kind == ITEM_STROKE) {
    if (i->colour & 0xff) stroke(d, i->colour, &i->pen, i->flags);
    return OK;
  }
  if (i->flags & SNAP)
    for (size_t k = 0; k < 2 * d->lines.points; k++) d->lines.xy[k] = round(d->lines.xy[k]);
  raster_lines(d->raster, &d->lines);
  d->to->paint(d->to->context, i->colour, i->rule, SHAPE_AREA);
  return OK;
}

static Status draw_text(Drawer *d, const Item *i) {
  const char *text = d->scene->bytes + i->data;
  if (d->to->text) return d->to->text(d->to->context, i, text);
  Matrix m;
  TRY(scene_text_matrix(i, text, &m));
  d->path.ops = d->path.numbers = 0;
  TRY(text_path(text, i->text.size, i->text.bold, &d->path));
  TRY(flatten(d, &d->path, path_whole(&d->path), matrix_then(m, to_raster(d))));
  if (i->text.halo & 0xff) {
    for (size_t k = 0; k < d->lines.run_count; k++) d->lines.runs[k].closed = true;
    stroke(d, i->text.halo, &(Pen){.width = 0.3 * i->text.size, .join = JOIN_ROUND}, 0);
  }
  raster_lines(d->raster, &d->lines);
  d->to->paint(d->to->context, i->text.colour, RULE_NONZERO, SHAPE_LETTERS);
  return OK;
}

static Status draw_marker(Drawer *d, const Item *i, double x, double y, bool open) {
  if (d->to->marker) return d->to->marker(d->to->context, i, x, y), OK;
  TRY(flatten(d, &d->path, path_whole(&d->path), matrix_then((Matrix){1, 0, 0, 1, x, y}, to_raster(d))));
  if (!open && (i->marker.fill & 0xff)) {
    raster_lines(d->raster, &d->lines);
    d->to->paint(d->to->context, i->marker.fill, RULE_NONZERO, SHAPE_AREA);
  }
  if (i->marker.stroke & 0xff && i->marker.width > 0)
    stroke(d, i->marker.stroke, &(Pen){.width = i->marker.width, .join = JOIN_MITER, .cap = open ? CAP_ROUND : CAP_BUTT}, 0);
  return OK;
}

static Status draw_markers(Drawer *d, const Item *i) {
  bool open;
  d->path.ops = d->path.numbers = 0;
  TRY(marker_path(&i->marker, &d->path, &open));
  const double *xy = d->scene->numbers + i->data;
  for (size_t k = 0; k < i->count; k++) {
    if (k % 4096 == 4095) TRY(interrupt_check());
    TRY(draw_marker(d, i, xy[2 * k], xy[2 * k + 1], open));
  }
  return OK;
}

static Status draw_clip(Drawer *d, const Item *i) {
  if (i->kind == ITEM_UNCLIP) {
    if (d->depth > 0) d->depth--;
  } else {
    if (d->depth + 1 == CLIP_DEPTH) return fail(ERR_ARGUMENT, "plot: more than %d clip groups inside each other", CLIP_DEPTH - 1);
    const Box *outer = &d->clips[d->depth];
    Box b = box_to_raster(d, &i->box);
    d->clips[++d->depth] = (Box){fmax(b.x0, outer->x0), fmax(b.y0, outer->y0), fmin(b.x1, outer->x1), fmin(b.y1, outer->y1)};
  }
  const Box *b = &d->clips[d->depth];
  raster_clip(d->raster, (int)lrint(b->x0), (int)lrint(b->y0), (int)lrint(b->x1), (int)lrint(b->y1));
  return OK;
}

static Status draw_item(Drawer *d, const Item *i) {
  switch (i->kind) {
    case ITEM_TEXT: return draw_text(d, i);
    case ITEM_MARKERS: return draw_markers(d, i);
    case ITEM_IMAGE:
      d->to->image(d->to->context, box_to_raster(d, &i->box), (const Colour *)(const void *)(d->scene->bytes + i->data), i->cols, i->rows);
      return OK;
    case ITEM_CLIP:
    case ITEM_UNCLIP: return draw_clip(d, i);
    default: return draw_path(d, i);
  }
}

Status draw_scene(const Scene *s, size_t first, Target *target) {
  Drawer d = {.scene = s, .to = target, .raster = target->raster};
  d.clips[0] = (Box){0, 0, d.raster->width, d.raster->height};
  Status status = OK;
  for (size_t i = first; i < s->count && status == OK; i++) {
    status = draw_item(&d, &s->items[i]);
    if (status == OK && i % 256 == 255) status = interrupt_check();
  }
  lines_free(&d.lines);
  path_free(&d.path);
  return status;
}

/* --- pixels --- */

static void paint_pixels(void *raster, Colour c, FillRule rule, ShapeKind kind) {
  if (kind == SHAPE_LETTERS) raster_paint_text(raster, c);
  else raster_paint(raster, c, rule);
}

static void image_pixels(void *raster, Box to, const Colour *cells, int cols, int rows) { raster_image(raster, to, cells, cols, rows); }

Status scene_raster(const Scene *s, double dpi, size_t first, Raster **out) {
  *out = NULL;
  if (!(dpi >= 10 && dpi <= 2400)) return fail(ERR_ARGUMENT, "plot: dpi must be 10..2400, got %g", dpi);
  double scale = dpi / 72;
  Raster *r;
  TRY(raster_new((int)lrint(fmin(s->width * scale, 1e6)), (int)lrint(fmin(s->height * scale, 1e6)), s->background, &r));
  Target t = {.raster = r, .sx = scale, .sy = scale, .context = r, .paint = paint_pixels, .image = image_pixels};
  if (draw_scene(s, first, &t) != OK) {
    raster_free(r);
    return error_code();
  }
  *out = r;
  return OK;
}

/* --- ink: every visible shape in full black on a coarse grid --- */

static void paint_ink(void *raster, Colour c, FillRule rule, ShapeKind kind) {
  (void)kind;
  raster_paint(raster, c & 0xff ? 0xff : 0, rule);
}

static void image_ink(void *raster, Box to, const Colour *cells, int cols, int rows) {
  (void)cells, (void)cols, (void)rows;
  raster_image(raster, to, (const Colour[]){0xff}, 1, 1);
}

Status scene_ink(const Scene *s, size_t first, Box box, int cols, int rows, float *out) {
  double sx = cols / (box.x1 - box.x0), sy = rows / (box.y1 - box.y0);
  Raster *r;
  TRY(raster_new(cols, rows, 0xffffffff, &r));
  Target t = {.raster = r, .sx = sx, .sy = sy, .ox = -sx * box.x0, .oy = -sy * box.y0, .least_width = 0.5, .context = r,
              .paint = paint_ink, .image = image_ink};
  Status status = draw_scene(s, first, &t);
  for (int i = 0; i < cols * rows; i++) out[i] = 1 - (float)r->rgb[3 * i] / 65535;
  raster_free(r);
  return status;
}

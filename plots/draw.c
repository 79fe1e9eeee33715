/* draw.c - a scene to pixels; see scene.h. */
#include <math.h>
#include <string.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "scene.h"

enum { CLIP_DEPTH = 16 };

typedef struct Drawer {
  const Scene *scene;
  Raster *raster;
  double sx, sy;    /* pixels a point; differ only for scene_ink */
  double ox, oy;    /* pixel of the scene's origin */
  Lines lines;      /* scratch */
  Path path;        /* scratch */
  Box clips[CLIP_DEPTH];
  int depth;
  bool mask;        /* paint everything as if opaque and dark */
} Drawer;

static const double tolerance = 0.05; /* pixels between a curve and its chords */

static Matrix to_pixels(const Drawer *d) { return (Matrix){d->sx, 0, 0, d->sy, d->ox, d->oy}; }

/* first `inner`, then `outer` */
static Matrix matrix_then(Matrix in, Matrix out) {
  return (Matrix){in.a * out.a + in.b * out.c, in.a * out.b + in.b * out.d, in.c * out.a + in.d * out.c,
                  in.c * out.b + in.d * out.d, in.e * out.a + in.f * out.c + out.e, in.e * out.b + in.f * out.d + out.f};
}

static void paint(Drawer *d, Colour c, FillRule rule) { raster_paint(d->raster, d->mask && (c & 0xff) ? 0xff : c, rule); }

static Status flatten(Drawer *d, const Path *p, Span part, Matrix m) {
  lines_clear(&d->lines);
  return path_flatten(p, part, m, tolerance, &d->lines);
}

static void emit(void *context, const double *xy, size_t n) { raster_polygon(context, xy, n); }

static Box visible(const Drawer *d) {
  const Raster *r = d->raster;
  return (Box){r->clip_x0, r->clip_y0, r->clip_x1, r->clip_y1};
}

static void stroke(Drawer *d, Colour c, const Pen *points, int flags) {
  Pen pen = *points;
  double scale = sqrt(d->sx * d->sy);
  pen.width = fmax(pen.width * scale, d->mask ? 0.5 : 0);
  for (int i = 0; i < pen.dashes; i++) pen.dash[i] *= scale;
  pen.phase *= scale;
  if (flags & SNAP) { /* whole pixels wide, with the edges between pixels */
    pen.width = fmax(1, round(pen.width));
    double shift = fmod(pen.width, 2) == 1 ? 0.5 : 0;
    for (size_t i = 0; i < 2 * d->lines.points; i++) d->lines.xy[i] = round(d->lines.xy[i] - shift) + shift;
  }
  Box box = visible(d);
  stroke_lines(&d->lines, &pen, &box, emit, d->raster);
  paint(d, c, RULE_NONZERO);
}

static Status draw_path(Drawer *d, const Item *i) {
  TRY(flatten(d, &d->scene->path, i->path, to_pixels(d)));
  if (i->kind == ITEM_STROKE) {
    stroke(d, i->colour, &i->pen, i->flags);
    return OK;
  }
  if (i->flags & SNAP)
    for (size_t k = 0; k < 2 * d->lines.points; k++) d->lines.xy[k] = round(d->lines.xy[k]);
  raster_lines(d->raster, &d->lines);
  paint(d, i->colour, i->rule);
  return OK;
}

static Status draw_text(Drawer *d, const Item *i) {
  const char *text = d->scene->bytes + i->data;
  Matrix m;
  TRY(scene_text_matrix(i, text, &m));
  d->path.ops = d->path.numbers = 0;
  TRY(text_path(text, i->text.size, i->text.bold, &d->path));
  TRY(flatten(d, &d->path, path_whole(&d->path), matrix_then(m, to_pixels(d))));
  if (i->text.halo & 0xff) {
    for (size_t k = 0; k < d->lines.run_count; k++) d->lines.runs[k].closed = true;
    stroke(d, i->text.halo, &(Pen){.width = 0.3 * i->text.size, .join = JOIN_ROUND}, 0);
  }
  raster_lines(d->raster, &d->lines);
  if (d->mask) paint(d, i->text.colour, RULE_NONZERO);
  else raster_paint_text(d->raster, i->text.colour);
  return OK;
}

static Status draw_markers(Drawer *d, const Item *i) {
  bool open;
  d->path.ops = d->path.numbers = 0;
  TRY(marker_path(&i->marker, &d->path, &open));
  const double *xy = d->scene->numbers + i->data;
  for (size_t k = 0; k < i->count; k++) {
    if (k % 4096 == 4095) TRY(interrupt_check());
    Matrix m = matrix_then((Matrix){1, 0, 0, 1, xy[2 * k], xy[2 * k + 1]}, to_pixels(d));
    TRY(flatten(d, &d->path, path_whole(&d->path), m));
    if (!open && (i->marker.fill & 0xff)) raster_lines(d->raster, &d->lines), paint(d, i->marker.fill, RULE_NONZERO);
    if (i->marker.stroke & 0xff && i->marker.width > 0)
      stroke(d, i->marker.stroke, &(Pen){.width = i->marker.width, .join = JOIN_MITER, .cap = open ? CAP_ROUND : CAP_BUTT}, 0);
  }
  return OK;
}

static void apply_clip(Drawer *d) {
  const Box *b = &d->clips[d->depth];
  raster_clip(d->raster, (int)lrint(b->x0), (int)lrint(b->y0), (int)lrint(b->x1), (int)lrint(b->y1));
}

static Status draw_clip(Drawer *d, const Item *i) {
  if (i->kind == ITEM_UNCLIP) {
    if (d->depth > 0) d->depth--;
  } else {
    if (d->depth + 1 == CLIP_DEPTH) return fail(ERR_ARGUMENT, "plot: more than %d clip groups inside each other", CLIP_DEPTH - 1);
    const Box *outer = &d->clips[d->depth];
    Box b = {d->sx * i->box.x0 + d->ox, d->sy * i->box.y0 + d->oy, d->sx * i->box.x1 + d->ox, d->sy * i->box.y1 + d->oy};
    d->clips[++d->depth] = (Box){fmax(b.x0, outer->x0), fmax(b.y0, outer->y0), fmin(b.x1, outer->x1), fmin(b.y1, outer->y1)};
  }
  apply_clip(d);
  return OK;
}

static Status draw_image(Drawer *d, const Item *i) {
  Box b = {d->sx * i->box.x0 + d->ox, d->sy * i->box.y0 + d->oy, d->sx * i->box.x1 + d->ox, d->sy * i->box.y1 + d->oy};
  raster_image(d->raster, b, (const Colour *)(const void *)(d->scene->bytes + i->data), i->cols, i->rows);
  return OK;
}

static Status draw_item(Drawer *d, const Item *i) {
  switch (i->kind) {
    case ITEM_TEXT: return draw_text(d, i);
    case ITEM_MARKERS: return draw_markers(d, i);
    case ITEM_IMAGE: return draw_image(d, i);
    case ITEM_CLIP:
    case ITEM_UNCLIP: return draw_clip(d, i);
    default: return draw_path(d, i);
  }
}

static Status draw_items(Drawer *d, size_t first) {
  const Raster *r = d->raster;
  d->clips[0] = (Box){0, 0, r->width, r->height};
  Status s = OK;
  for (size_t i = first; i < d->scene->count && s == OK; i++) {
    s = draw_item(d, &d->scene->items[i]);
    if (s == OK && i % 256 == 255) s = interrupt_check();
  }
  lines_free(&d->lines);
  path_free(&d->path);
  return s;
}

Status scene_raster(const Scene *s, double dpi, size_t first, Raster **out) {
  *out = NULL;
  if (!(dpi >= 10 && dpi <= 2400)) return fail(ERR_ARGUMENT, "plot: dpi must be 10..2400, got %g", dpi);
  double scale = dpi / 72;
  Drawer d = {.scene = s, .sx = scale, .sy = scale};
  TRY(raster_new((int)lrint(fmin(s->width * scale, 1e6)), (int)lrint(fmin(s->height * scale, 1e6)), s->background, &d.raster));
  if (draw_items(&d, first) != OK) {
    raster_free(d.raster);
    return error_code();
  }
  *out = d.raster;
  return OK;
}

Status scene_ink(const Scene *s, size_t first, Box box, int cols, int rows, float *out) {
  double sx = cols / (box.x1 - box.x0), sy = rows / (box.y1 - box.y0);
  Drawer d = {.scene = s, .sx = sx, .sy = sy, .ox = -sx * box.x0, .oy = -sy * box.y0, .mask = true};
  TRY(raster_new(cols, rows, 0xffffffff, &d.raster));
  Status status = draw_items(&d, first);
  for (int i = 0; i < cols * rows; i++) out[i] = 1 - (float)d.raster->rgb[3 * i] / 65535;
  raster_free(d.raster);
  return status;
}

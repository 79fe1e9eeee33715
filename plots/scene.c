/* scene.c - building the list of primitives; see scene.h. Drawing is in draw.c, svg.c, terminal.c. */
#include "scene.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

Status scene_new(double width, double height, Colour background, Scene **out) {
  *out = NULL;
  if (!(width > 0 && height > 0 && width < 1e5 && height < 1e5))
    return fail(ERR_ARGUMENT, "plot: width and height must be positive, got %g x %g points", width, height);
  Scene *s = mem_calloc(1, sizeof *s);
  if (!s) return error_code();
  s->width = width, s->height = height, s->background = background;
  *out = s;
  return OK;
}

void scene_free(Scene *s) {
  if (!s) return;
  path_free(&s->path);
  mem_free(s->items);
  mem_free(s->bytes);
  mem_free(s->numbers);
  mem_free(s);
}

static Status new_item(Scene *s, ItemKind kind, Item **out) {
  TRY(array_room((void **)&s->items, &s->item_room, s->count + 1, sizeof *s->items));
  *out = &s->items[s->count++];
  **out = (Item){.kind = kind};
  return OK;
}

/* The path drawn since the last fill or stroke. */
static Span take_path(Scene *s, int flags) {
  Span p = s->pending;
  p.ops = s->path.ops - p.op;
  if (!(flags & KEEP)) s->pending = (Span){.op = s->path.ops, .number = s->path.numbers};
  return p;
}

Status scene_fill(Scene *s, Colour c, FillRule rule, int flags) {
  Item *i;
  TRY(new_item(s, ITEM_FILL, &i));
  i->path = take_path(s, flags);
  i->colour = c, i->rule = rule, i->flags = flags;
  return OK;
}

Status scene_stroke(Scene *s, Colour c, const Pen *pen, int flags) {
  Item *i;
  TRY(new_item(s, ITEM_STROKE, &i));
  i->path = take_path(s, flags);
  i->colour = c, i->pen = *pen, i->flags = flags;
  return OK;
}

Status scene_polyline(Scene *s, const double *xy, size_t points) {
  bool down = false;
  for (size_t i = 0; i < points; i++) {
    double x = xy[2 * i], y = xy[2 * i + 1];
    bool good = isfinite(x) && isfinite(y);
    if (good) TRY(path_add(&s->path, down ? PATH_LINE : PATH_MOVE, x, y));
    down = good;
  }
  return OK;
}

static Status put_bytes(Scene *s, const void *data, size_t n, size_t *at) {
  size_t start = (s->byte_count + 7) & ~(size_t)7; /* cells are 4-byte numbers */
  TRY(array_room((void **)&s->bytes, &s->byte_room, start + n, 1));
  memcpy(s->bytes + start, data, n);
  s->byte_count = start + n;
  *at = start;
  return OK;
}

Status scene_text(Scene *s, const char *text, double x, double y, const TextStyle *style) {
  Item *i;
  size_t at;
  TRY(put_bytes(s, text, strlen(text) + 1, &at));
  TRY(new_item(s, ITEM_TEXT, &i));
  i->data = at, i->count = strlen(text), i->x = x, i->y = y, i->text = *style;
  return OK;
}

Status scene_markers(Scene *s, const double *xy, size_t points, const MarkerStyle *style) {
  Item *i;
  TRY(array_room((void **)&s->numbers, &s->number_room, s->number_count + 2 * points, sizeof *s->numbers));
  TRY(new_item(s, ITEM_MARKERS, &i));
  i->data = s->number_count, i->marker = *style;
  for (size_t k = 0; k < points; k++) {
    if (!isfinite(xy[2 * k]) || !isfinite(xy[2 * k + 1])) continue;
    s->numbers[s->number_count++] = xy[2 * k];
    s->numbers[s->number_count++] = xy[2 * k + 1];
    i->count++;
  }
  return OK;
}

Status scene_image(Scene *s, Box to, const Colour *cells, int cols, int rows) {
  Item *i;
  size_t at, n = (size_t)cols * (size_t)rows;
  TRY(put_bytes(s, cells, n * sizeof *cells, &at));
  TRY(new_item(s, ITEM_IMAGE, &i));
  i->data = at, i->count = n, i->box = to, i->cols = cols, i->rows = rows;
  return OK;
}

Status scene_clip(Scene *s, Box box) {
  Item *i;
  TRY(new_item(s, ITEM_CLIP, &i));
  i->box = box;
  s->clips++;
  return OK;
}

Status scene_unclip(Scene *s) {
  if (s->clips == 0) return fail(ERR_ARGUMENT, "plot: unclip without clip");
  Item *i;
  TRY(new_item(s, ITEM_UNCLIP, &i));
  s->clips--;
  return OK;
}

Status scene_text_matrix(const Item *item, const char *text, Matrix *out) {
  const TextStyle *t = &item->text;
  TextSize size;
  TRY(text_measure(text, t->size, t->bold, &size));
  double dx = -t->align * size.width, dy = t->valign >= 0 ? t->valign * size.ascent : t->valign * size.descent;
  double a = -t->angle * M_PI / 180, c = cos(a), s = sin(a);
  if (fabs(c) < 1e-12) c = 0; /* a right angle exactly */
  *out = (Matrix){c, s, -s, c, item->x + c * dx - s * dy, item->y + s * dx + c * dy};
  return OK;
}

/* --- markers: the shapes have about the area of the circle, so that they weigh the same --- */

static const char *const marker_names[MARKER_SHAPES] = {"circle", "square", "diamond", "up", "down", "plus", "cross", "star"};

Status marker_shape(const char *name, MarkerShape *out) {
  for (int i = 0; i < MARKER_SHAPES; i++)
    if (strcmp(name, marker_names[i]) == 0) return *out = (MarkerShape)i, OK;
  return fail(ERR_ARGUMENT, "plot: no marker '%s'; markers: circle, square, diamond, up, down, plus, cross, star", name);
}

static Status polygon(Path *p, const double *xy, int n, double scale) {
  for (int i = 0; i < n; i++) TRY(path_add(p, i ? PATH_LINE : PATH_MOVE, xy[2 * i] * scale, xy[2 * i + 1] * scale));
  return path_add(p, PATH_CLOSE, 0, 0);
}

static Status star(Path *p, double r) {
  double xy[20];
  for (int i = 0; i < 10; i++) {
    double angle = M_PI * i / 5, length = i % 2 ? 0.5 : 1.25;
    xy[2 * i] = length * sin(angle), xy[2 * i + 1] = -length * cos(angle);
  }
  return polygon(p, xy, 10, r);
}

static Status segment(Path *p, double x0, double y0, double x1, double y1) {
  TRY(path_add(p, PATH_MOVE, x0, y0));
  return path_add(p, PATH_LINE, x1, y1);
}

Status marker_path(const MarkerStyle *m, Path *out, bool *open) {
  double r = m->size / 2, q = 0.75 * r;
  *open = m->shape == MARKER_PLUS || m->shape == MARKER_CROSS;
  switch (m->shape) {
    case MARKER_SQUARE: return path_rectangle(out, -0.886 * r, -0.886 * r, 1.772 * r, 1.772 * r);
    case MARKER_DIAMOND: return polygon(out, (double[]){0, -1.25, 1.25, 0, 0, 1.25, -1.25, 0}, 4, r);
    case MARKER_UP: return polygon(out, (double[]){0, -1.3, 1.17, 0.73, -1.17, 0.73}, 3, r);
    case MARKER_DOWN: return polygon(out, (double[]){0, 1.3, -1.17, -0.73, 1.17, -0.73}, 3, r);
    case MARKER_PLUS: TRY(segment(out, -r, 0, r, 0)); return segment(out, 0, -r, 0, r);
    case MARKER_CROSS: TRY(segment(out, -q, -q, q, q)); return segment(out, -q, q, q, -q);
    case MARKER_STAR: return star(out, r);
    default: return path_ellipse(out, 0, 0, r, r);
  }
}

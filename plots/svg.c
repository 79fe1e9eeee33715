/* svg.c - a scene as SVG 1.1 text; see scene.h. Texts become outlines, so that the file
 * looks the same without our font; each carries its words in aria-label. Images are
 * embedded PNGs. One unit is one point. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/buffer.h"
#include "base/mem.h"
#include "base64.h"
#include "pngfile.h"
#include "scene.h"

typedef struct Writer {
  const Scene *scene;
  Buffer out;
  Path path; /* scratch */
  int ids;   /* clip paths and markers so far */
  int depth; /* open clip groups */
} Writer;

/* A length with at most two decimals and no needless zeros; a hundredth of a point is a thirty-fifth of a millimetre. */
static Status number(Writer *w, double v) {
  char text[40];
  int n = snprintf(text, sizeof text, "%.2f", fabs(v) < 0.005 ? 0 : fmax(-1e6, fmin(1e6, v)));
  while (text[n - 1] == '0') n--;
  if (text[n - 1] == '.') n--;
  return buffer_add(&w->out, text, (size_t)n);
}

static Status pair(Writer *w, const char *before, double x, double y) {
  TRY(buffer_text(&w->out, before));
  TRY(number(w, x));
  TRY(buffer_text(&w->out, " "));
  return number(w, y);
}

static Status escaped(Writer *w, const char *text) {
  for (; *text; text++) {
    const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : *text == '"' ? "&quot;" : NULL;
    if (entity) TRY(buffer_text(&w->out, entity));
    else if ((unsigned char)*text >= 32 || *text == '\t') TRY(buffer_add(&w->out, text, 1));
  }
  return OK;
}

/* d="..." of a part of a path under a matrix. */
static Status outline(Writer *w, const Path *p, Span part, Matrix m) {
  static const char *const letters[] = {"M", "L", "Q", "C"};
  const double *xy = p->xy + part.number;
  TRY(buffer_text(&w->out, " d=\""));
  for (size_t i = part.op; i < part.op + part.ops; i++) {
    int numbers = (const int[]){2, 2, 4, 6, 0}[p->op[i]];
    if (numbers == 0) TRY(buffer_text(&w->out, "Z"));
    for (int k = 0; k < numbers; k += 2) {
      double x = m.a * xy[k] + m.c * xy[k + 1] + m.e, y = m.b * xy[k] + m.d * xy[k + 1] + m.f;
      TRY(pair(w, k ? " " : letters[p->op[i]], x, y));
    }
    xy += numbers;
  }
  return buffer_text(&w->out, "\"");
}

/* fill="#rrggbb" and, if it is transparent, fill-opacity; name is fill or stroke. */
static Status paint(Writer *w, const char *name, Colour c) {
  if ((c & 0xff) == 0) return buffer_print(&w->out, " %s=\"none\"", name);
  TRY(buffer_print(&w->out, " %s=\"#%06x\"", name, c >> 8));
  if ((c & 0xff) < 255) TRY(buffer_print(&w->out, " %s-opacity=\"%.3g\"", name, (c & 0xff) / 255.0));
  return OK;
}

static Status pen_attributes(Writer *w, const Pen *pen, int flags) {
  static const char *const joins[] = {"miter", "round", "bevel"}, *const caps[] = {"butt", "round", "square"};
  TRY(buffer_text(&w->out, " stroke-width=\""));
  TRY(number(w, pen->width));
  TRY(buffer_text(&w->out, "\""));
  if (pen->join != JOIN_MITER) TRY(buffer_print(&w->out, " stroke-linejoin=\"%s\"", joins[pen->join]));
  if (pen->cap != CAP_BUTT) TRY(buffer_print(&w->out, " stroke-linecap=\"%s\"", caps[pen->cap]));
  for (int i = 0; i < pen->dashes; i++) {
    TRY(buffer_text(&w->out, i ? " " : " stroke-dasharray=\""));
    TRY(number(w, pen->dash[i]));
  }
  if (pen->dashes) TRY(buffer_text(&w->out, "\""));
  if (flags & SNAP) TRY(buffer_text(&w->out, " shape-rendering=\"crispEdges\""));
  return OK;
}

static Status write_path(Writer *w, const Item *i) {
  TRY(buffer_text(&w->out, "<path"));
  TRY(outline(w, &w->scene->path, i->path, matrix_scale(1)));
  if (i->kind == ITEM_FILL) {
    TRY(paint(w, "fill", i->colour));
    if (i->rule == RULE_EVENODD) TRY(buffer_text(&w->out, " fill-rule=\"evenodd\""));
  } else {
    TRY(buffer_text(&w->out, " fill=\"none\""));
    TRY(paint(w, "stroke", i->colour));
    TRY(pen_attributes(w, &i->pen, i->flags));
  }
  return buffer_text(&w->out, "/>\n");
}

static Status write_text(Writer *w, const Item *i) {
  const char *text = w->scene->bytes + i->data;
  Matrix m;
  TRY(scene_text_matrix(i, text, &m));
  w->path.ops = w->path.numbers = 0;
  TRY(text_path(text, i->text.size, i->text.bold, &w->path));
  TRY(buffer_text(&w->out, "<path aria-label=\""));
  TRY(escaped(w, text));
  TRY(buffer_text(&w->out, "\""));
  TRY(paint(w, "fill", i->text.colour));
  if (i->text.halo & 0xff) {
    TRY(buffer_text(&w->out, " paint-order=\"stroke\" stroke-linejoin=\"round\" stroke-width=\""));
    TRY(number(w, 0.3 * i->text.size));
    TRY(buffer_text(&w->out, "\""));
    TRY(paint(w, "stroke", i->text.halo));
  }
  TRY(outline(w, &w->path, path_whole(&w->path), m));
  return buffer_text(&w->out, "/>\n");
}

static Status write_markers(Writer *w, const Item *i) {
  bool open;
  int id = w->ids++;
  w->path.ops = w->path.numbers = 0;
  TRY(marker_path(&i->marker, &w->path, &open));
  TRY(buffer_print(&w->out, "<defs><path id=\"m%d\"", id));
  TRY(outline(w, &w->path, path_whole(&w->path), matrix_scale(1)));
  TRY(buffer_text(&w->out, "/></defs><g"));
  TRY(paint(w, "fill", open ? 0 : i->marker.fill));
  if (i->marker.width > 0) {
    TRY(paint(w, "stroke", i->marker.stroke));
    TRY(pen_attributes(w, &(Pen){.width = i->marker.width, .cap = open ? CAP_ROUND : CAP_BUTT}, 0));
  }
  TRY(buffer_text(&w->out, ">\n"));
  const double *xy = w->scene->numbers + i->data;
  for (size_t k = 0; k < i->count; k++) {
    TRY(buffer_print(&w->out, "<use href=\"#m%d\" x=\"", id));
    TRY(number(w, xy[2 * k]));
    TRY(buffer_text(&w->out, "\" y=\""));
    TRY(number(w, xy[2 * k + 1]));
    TRY(buffer_text(&w->out, "\"/>\n"));
  }
  return buffer_text(&w->out, "</g>\n");
}

/* The cells as a PNG, each `times` pixels wide and high: some viewers blur pictures that they enlarge,
 * whatever image-rendering says, and then only the rims of the cells are soft. */
static Status encode_cells(const Colour *cells, int cols, int rows, int times, uint8_t **png, size_t *bytes) {
  size_t width = (size_t)(cols * times), height = (size_t)(rows * times);
  uint8_t *rgb = mem_alloc(3 * width * height);
  if (!rgb) return error_code();
  for (size_t y = 0; y < height; y++)
    for (size_t x = 0; x < width; x++) {
      Colour c = cells[y / (size_t)times * (size_t)cols + x / (size_t)times];
      for (int k = 0; k < 3; k++) rgb[3 * (y * width + x) + (size_t)k] = (uint8_t)(c >> (24 - 8 * k));
    }
  Status s = png_encode(&(PngImage){(int)width, (int)height, rgb, 0}, NULL, 0, png, bytes);
  mem_free(rgb);
  return s;
}

static Status write_image(Writer *w, const Item *i) {
  const Colour *cells = (const Colour *)(const void *)(w->scene->bytes + i->data);
  uint8_t *png = NULL;
  size_t bytes = 0;
  int times = 1000 / (i->cols > i->rows ? i->cols : i->rows);
  Status s = encode_cells(cells, i->cols, i->rows, times < 1 ? 1 : times > 16 ? 16 : times, &png, &bytes);
  if (s == OK)
    s = buffer_print(&w->out, "<image x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" preserveAspectRatio=\"none\" "
                              "image-rendering=\"optimizeSpeed\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,",
                     i->box.x0, i->box.y0, i->box.x1 - i->box.x0, i->box.y1 - i->box.y0);
  if (s == OK) s = base64_add(&w->out, png, bytes);
  mem_free(png);
  return s == OK ? buffer_text(&w->out, "\"/>\n") : s;
}

static Status write_clip(Writer *w, const Item *i) {
  int id = w->ids++;
  w->depth++;
  return buffer_print(&w->out, "<clipPath id=\"c%d\"><rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\"/></clipPath>"
                               "<g clip-path=\"url(#c%d)\">\n",
                      id, i->box.x0, i->box.y0, i->box.x1 - i->box.x0, i->box.y1 - i->box.y0, id);
}

static Status write_item(Writer *w, const Item *i) {
  switch (i->kind) {
    case ITEM_TEXT: return write_text(w, i);
    case ITEM_MARKERS: return write_markers(w, i);
    case ITEM_IMAGE: return write_image(w, i);
    case ITEM_CLIP: return write_clip(w, i);
    case ITEM_UNCLIP: w->depth--; return buffer_text(&w->out, "</g>\n");
    default: return write_path(w, i);
  }
}

static Status write_scene(Writer *w, const char *title) {
  const Scene *s = w->scene;
  TRY(buffer_print(&w->out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%gpt\" height=\"%gpt\" viewBox=\"0 0 %g %g\">\n", s->width, s->height,
                   s->width, s->height));
  if (title) {
    TRY(buffer_text(&w->out, "<title>"));
    TRY(escaped(w, title));
    TRY(buffer_text(&w->out, "</title>\n"));
  }
  TRY(buffer_print(&w->out, "<rect width=\"%g\" height=\"%g\"", s->width, s->height));
  TRY(paint(w, "fill", s->background));
  TRY(buffer_text(&w->out, "/>\n"));
  for (size_t i = 0; i < s->count; i++) TRY(write_item(w, &s->items[i]));
  while (w->depth-- > 0) TRY(buffer_text(&w->out, "</g>\n"));
  return buffer_text(&w->out, "</svg>\n");
}

Status scene_svg(const Scene *s, const char *title, char **out, size_t *bytes) {
  Writer w = {.scene = s};
  *out = NULL;
  Status status = write_scene(&w, title);
  path_free(&w.path);
  if (status != OK) {
    buffer_free(&w.out);
    return status;
  }
  *out = w.out.data;
  *bytes = w.out.used;
  return OK;
}

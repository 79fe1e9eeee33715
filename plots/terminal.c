/* terminal.c - a scene as character cells; see terminal.h. */
#include "terminal.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "draw.h"
#include "io/utf8.h"

typedef struct Cell {
  uint8_t dots;      /* braille: bits 0-2 left column, 3-5 right column, 6 and 7 the lowest row */
  bool image;        /* upper and lower are set */
  uint32_t letter;   /* Unicode, 0: none */
  Colour ink;        /* of dots or letter */
  Colour upper, lower;
} Cell;

typedef struct Cells {
  const Scene *scene;
  Cell *cell;
  int columns, rows;
  Raster *raster;    /* 2 x 4 dots a cell */
  Colour colour;     /* of the shape being painted */
  int pattern;       /* 0 clear, 1 thin, 2 full */
  float threshold;
} Cells;

static const Colour default_ink = 0xffffffff;

static uint8_t dot_bit(int x, int y) {
  static const uint8_t bits[4][2] = {{0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
  return bits[y & 3][x & 1];
}

static Cell *cell_at(Cells *c, int column, int row) {
  if (column < 0 || row < 0 || column >= c->columns || row >= c->rows) return NULL;
  return &c->cell[row * c->columns + column];
}

static void put_dot(void *context, int x, int y, float coverage) {
  Cells *c = context;
  Cell *k = cell_at(c, x / 2, y / 4);
  if (!k || coverage < c->threshold) return;
  if (c->pattern == 0) {
    k->dots &= (uint8_t)~dot_bit(x, y);
    k->letter = 0;
    return;
  }
  if (c->pattern == 1 && (y % 2 != 0 || (x + y / 2) % 2 != 0)) return; /* a quarter of the dots: a pale area */
  if (c->pattern == 1 && k->dots && k->ink != c->colour) return;
  k->dots |= dot_bit(x, y);
  k->ink = c->colour | 0xff;
}

static bool same_rgb(Colour a, Colour b) { return a >> 8 == b >> 8; }

static void paint_cells(void *context, Colour colour, FillRule rule, ShapeKind kind) {
  Cells *c = context;
  bool hides = same_rgb(colour, c->scene->background), visible = (colour & 0xff) >= 16;
  c->colour = colour;
  c->threshold = kind == SHAPE_LINE ? 0.4f : 0.5f;
  c->pattern = hides ? 0 : (colour & 0xff) > 150 || kind == SHAPE_LINE ? 2 : 1;
  if (!visible || (hides && kind == SHAPE_LINE)) c->threshold = 2; /* only clears the raster */
  raster_visit(c->raster, rule, put_dot, c);
}

/* The colour of an image at a place of the raster. */
static bool sample(const Box *to, const Colour *cells, int cols, int rows, double x, double y, Colour *out) {
  double u = (x - to->x0) / (to->x1 - to->x0), v = (y - to->y0) / (to->y1 - to->y0);
  if (!(u >= 0 && u < 1 && v >= 0 && v < 1)) return false;
  *out = cells[(size_t)(v * rows) * (size_t)cols + (size_t)(u * cols)];
  return true;
}

static void image_cells(void *context, Box to, const Colour *cells, int cols, int rows) {
  Cells *c = context;
  if (to.x1 - to.x0 < 3) to.x1 = to.x0 + 3; /* a colour bar is one cell wide at least */
  const Raster *r = c->raster;
  for (int row = r->clip_y0 / 4; row * 4 < r->clip_y1; row++)
    for (int column = r->clip_x0 / 2; column * 2 < r->clip_x1; column++) {
      Cell *k = cell_at(c, column, row);
      Colour upper, lower;
      bool a = sample(&to, cells, cols, rows, 2 * column + 1, 4 * row + 1, &upper);
      bool b = sample(&to, cells, cols, rows, 2 * column + 1, 4 * row + 3, &lower);
      if (!k || !(a || b)) continue;
      k->image = true;
      k->upper = a ? upper : lower, k->lower = b ? lower : upper;
    }
}

static Status text_cells(void *context, const Item *item, const char *text) {
  Cells *c = context;
  char *plain;
  TRY(text_plain(text, &plain));
  size_t bytes = strlen(plain);
  int letters = 0;
  for (size_t i = 0; i < bytes; i++) letters += (plain[i] & 0xc0) != 0x80;
  double lift = item->text.valign >= 0.75 ? 0.5 : item->text.valign > 0.25 ? 0 : -0.5; /* the middle of the line, in cells below the anchor */
  bool down = fabs(item->text.angle) == 90; /* turned texts read downwards */
  int column = (int)lrint(item->x / CELL_WIDTH - (down ? 0.5 : item->text.align * letters));
  int row = (int)floor(item->y / CELL_HEIGHT + (down ? 0 : lift));
  for (size_t at = 0; at < bytes;) {
    uint32_t code;
    int n = utf8_next(plain + at, bytes - at, &code);
    if (n == 0) break;
    at += (size_t)n;
    Cell *k = cell_at(c, column, row);
    if (k && code != ' ') k->letter = code, k->ink = item->text.colour | 0xff, k->dots = 0;
    else if (k && !k->image) k->dots = 0;
    if (down) row++;
    else column++;
  }
  mem_free(plain);
  return OK;
}

static void marker_cells(void *context, const Item *item, double x, double y) {
  static const uint32_t shapes[MARKER_SHAPES] = {0x25cf, 0x25a0, 0x25c6, 0x25b2, 0x25bc, '+', 0xd7, 0x2605};
  Cells *c = context;
  Colour colour = item->marker.fill & 0xff && item->marker.shape != MARKER_PLUS && item->marker.shape != MARKER_CROSS ? item->marker.fill
                                                                                                                        : item->marker.stroke;
  int px = (int)floor(x / 3), py = (int)floor(y / 3);
  Cell *k = cell_at(c, px / 2, py / 4);
  if (!k || px < 0 || py < 0) return;
  k->ink = colour | 0xff;
  if (item->count <= 60) k->letter = shapes[item->marker.shape];
  else k->dots |= dot_bit(px, py);
}

/* --- writing --- */

static int cube_level(int v) { return v < 48 ? 0 : v < 115 ? 1 : (v - 35) / 40; }

static Status write_colour(Buffer *out, Colour c, bool behind, TerminalColours colours) {
  int r = (int)(c >> 24), g = (int)(c >> 16 & 0xff), b = (int)(c >> 8 & 0xff);
  if (colours == COLOURS_TRUE) return buffer_print(out, "\033[%d;2;%d;%d;%dm", behind ? 48 : 38, r, g, b);
  return buffer_print(out, "\033[%d;5;%dm", behind ? 48 : 38, 16 + 36 * cube_level(r) + 6 * cube_level(g) + cube_level(b));
}

static Status put_code(Buffer *out, uint32_t code) {
  char bytes[4];
  return buffer_add(out, bytes, (size_t)utf8_put(code, bytes));
}

/* Without colour an image is shaded by lightness. */
static uint32_t shade(const Cell *k) {
  static const uint32_t shades[] = {' ', 0x2591, 0x2592, 0x2593, 0x2588};
  double light = 0;
  for (int i = 0; i < 2; i++) {
    Colour c = i ? k->lower : k->upper;
    light += (0.3 * (c >> 24) + 0.59 * (c >> 16 & 0xff) + 0.11 * (c >> 8 & 0xff)) / 510;
  }
  return shades[(int)fmin(4, light * 5)];
}

static Status write_cell(Buffer *out, const Cell *k, TerminalColours colours) {
  if (k->image && colours != COLOURS_NONE) {
    TRY(write_colour(out, k->upper, k->letter != 0, colours));
    if (!k->letter) TRY(write_colour(out, k->lower, true, colours));
    else TRY(write_colour(out, k->ink, false, colours));
    TRY(put_code(out, k->letter ? k->letter : 0x2580));
    return buffer_text(out, "\033[0m");
  }
  uint32_t code = k->letter ? k->letter : k->image ? shade(k) : k->dots ? 0x2800 + (uint32_t)k->dots : ' ';
  bool plain = colours == COLOURS_NONE || code == ' ' || k->ink == default_ink;
  if (!plain) TRY(write_colour(out, k->ink, false, colours));
  TRY(put_code(out, code));
  return plain ? OK : buffer_text(out, "\033[0m");
}

static Status write_cells(const Cells *c, TerminalColours colours, Buffer *out) {
  for (int row = 0; row < c->rows; row++) {
    const Cell *line = &c->cell[row * c->columns];
    int end = c->columns;
    while (end > 0 && !line[end - 1].letter && !line[end - 1].dots && !line[end - 1].image) end--;
    for (int i = 0; i < end; i++) TRY(write_cell(out, &line[i], colours));
    TRY(buffer_text(out, "\n"));
  }
  return OK;
}

Status scene_terminal(const Scene *s, TerminalColours colours, Buffer *out) {
  Cells c = {.scene = s, .columns = (int)(s->width / CELL_WIDTH), .rows = (int)(s->height / CELL_HEIGHT)};
  if (c.columns < 1 || c.rows < 1) return fail(ERR_ARGUMENT, "plot: %g x %g points hold no character cell", s->width, s->height);
  TRY(raster_new(2 * c.columns, 4 * c.rows, s->background, &c.raster));
  c.cell = mem_calloc((size_t)c.columns * (size_t)c.rows, sizeof *c.cell);
  Status status = c.cell ? OK : error_code();
  Target t = {.raster = c.raster, .sx = 2.0 / CELL_WIDTH, .sy = 4.0 / CELL_HEIGHT, .least_width = 1, .context = &c, .paint = paint_cells,
              .image = image_cells, .text = text_cells, .marker = marker_cells};
  if (status == OK) status = draw_scene(s, 0, &t);
  if (status == OK) status = write_cells(&c, colours, out);
  raster_free(c.raster);
  mem_free(c.cell);
  return status;
}

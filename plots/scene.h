/* scene.h - a picture as a flat list of primitives, before anyone has decided on pixels.
 *
 *   Scene *s;
 *   TRY(scene_new(432, 288, 0xffffffff, &s));         // points of 1/72 inch, y pointing down
 *   TRY(path_add(&s->path, PATH_MOVE, 10, 10)); ...   // a path is begun and extended in s->path ...
 *   TRY(scene_stroke(s, 0x000000ff, &pen, 0));        // ... and taken by stroke or fill
 *   TRY(scene_text(s, "loss", 40, 20, &style));
 *   TRY(scene_raster(s, 150, 0, &raster));            // pixels; svg.c and terminal.c take the same list
 *
 * Items keep to the order of drawing. Numbers that are not finite break lines. */
#ifndef quench_scene_h
#define quench_scene_h

#include "font.h"
#include "path.h"
#include "raster.h"
#include "stroke.h"

typedef enum ItemKind { ITEM_FILL, ITEM_STROKE, ITEM_TEXT, ITEM_MARKERS, ITEM_IMAGE, ITEM_CLIP, ITEM_UNCLIP } ItemKind;

/* Flags: SNAP moves horizontal and vertical edges onto pixels, for axes and grids. */
enum { SNAP = 1, KEEP = 2 /* the path stays for a second use: fill, then stroke */ };

typedef enum MarkerShape {
  MARKER_CIRCLE, MARKER_SQUARE, MARKER_DIAMOND, MARKER_UP, MARKER_DOWN, MARKER_PLUS, MARKER_CROSS, MARKER_STAR, MARKER_SHAPES
} MarkerShape;

typedef struct TextStyle {
  double size;
  bool bold;
  double align;    /* 0 left, 0.5 centre, 1 right of the anchor */
  double valign;   /* 0 baseline, 0.5 middle of the capitals, 1 top of the capitals, -1 foot of the descenders */
  double angle;    /* degrees, turning against the clock */
  Colour colour, halo; /* halo: a soft edge behind the letters; 0 none */
} TextStyle;

typedef struct MarkerStyle {
  MarkerShape shape;
  double size;     /* diameter of the circle of equal weight */
  Colour fill, stroke;
  double width;    /* of the stroke */
} MarkerStyle;

typedef struct Item {
  ItemKind kind;
  int flags;
  Span path;             /* fill, stroke */
  Colour colour;         /* fill, stroke */
  FillRule rule;
  Pen pen;
  size_t data, count;    /* text: bytes; markers: points; image: cells (offset into the scene's bytes or numbers) */
  TextStyle text;
  MarkerStyle marker;
  double x, y;           /* text */
  Box box;               /* image, clip */
  int cols, rows;        /* image */
} Item;

typedef struct Scene {
  double width, height;
  Colour background;
  Item *items;
  size_t count, item_room;
  Path path;             /* all paths; the tail since `pending` is under construction */
  Span pending;
  char *bytes;           /* texts, image cells */
  size_t byte_count, byte_room;
  double *numbers;       /* marker coordinates, x and y by turns */
  size_t number_count, number_room;
  int clips;             /* open clip groups */
} Scene;

Status scene_new(double width, double height, Colour background, Scene **out);
void scene_free(Scene *s);

Status scene_fill(Scene *s, Colour c, FillRule rule, int flags);
Status scene_stroke(Scene *s, Colour c, const Pen *pen, int flags);
Status scene_polyline(Scene *s, const double *xy, size_t points); /* appends to the pending path; NaN breaks it */
Status scene_text(Scene *s, const char *text, double x, double y, const TextStyle *style);
Status scene_markers(Scene *s, const double *xy, size_t points, const MarkerStyle *style);
Status scene_image(Scene *s, Box to, const Colour *cells, int cols, int rows);
Status scene_clip(Scene *s, Box box);
Status scene_unclip(Scene *s);

/* Where a text item's origin is and how it is turned. */
Status scene_text_matrix(const Item *item, const char *text, Matrix *out);
/* The outline of a marker about the origin. Crosses and pluses are strokes: *open is set. */
Status marker_path(const MarkerStyle *m, Path *out, bool *open);
Status marker_shape(const char *name, MarkerShape *out);

/* Draws the items from number `first` on (0-based). */
Status scene_raster(const Scene *s, double dpi, size_t first, Raster **out);
/* How much of each cell of a cols x rows grid over the box the items first.. cover, 0..1, rows from the top. */
Status scene_ink(const Scene *s, size_t first, Box box, int cols, int rows, float *out);

/* The scene as SVG text, from mem_alloc; texts become outlines. title may be NULL. */
Status scene_svg(const Scene *s, const char *title, char **out, size_t *bytes);

#endif

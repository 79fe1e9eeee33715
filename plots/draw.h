/* draw.h - walks over a scene's items and hands their shapes to a target: pixels, a mask of ink, character cells. */
#ifndef quench_draw_h
#define quench_draw_h

#include "scene.h"

typedef enum ShapeKind { SHAPE_AREA, SHAPE_LINE, SHAPE_LETTERS } ShapeKind;

typedef struct Target {
  Raster *raster;        /* gathers each shape; its size is the target's */
  double sx, sy, ox, oy; /* raster units a point, and where the scene's origin is */
  double least_width;    /* of strokes, in raster units */
  void *context;
  /* The shape is in the raster, which paint must clear (raster_paint, raster_visit). */
  void (*paint)(void *context, Colour c, FillRule rule, ShapeKind kind);
  void (*image)(void *context, Box to, const Colour *cells, int cols, int rows);
  /* NULL: texts and markers are drawn as shapes */
  Status (*text)(void *context, const Item *item, const char *text);
  void (*marker)(void *context, const Item *item, double x, double y);
} Target;

/* Draws the items from number `first` (0-based) on. */
Status draw_scene(const Scene *s, size_t first, Target *target);

#endif

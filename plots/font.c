/* font.c - see font.h. */
#include "font.h"

#include <ft2build.h>
#include FT_FREETYPE_H
#include FT_ADVANCES_H
#include FT_OUTLINE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/utf8.h"
#include "markup.h"

static const char *const folders[] = {
  "/usr/share/fonts/truetype/dejavu/", "/usr/share/fonts/dejavu-sans-fonts/", "/usr/share/fonts/dejavu/", "/usr/share/fonts/TTF/",
  "/usr/share/fonts/ttf-dejavu/", "/usr/local/share/fonts/", "/usr/local/share/fonts/dejavu/", "/opt/homebrew/share/fonts/", "/Library/Fonts/",
};
enum { FOLDERS = sizeof folders / sizeof *folders, PATH_ROOM = 1024 };

static FT_Library library;
static FT_Face faces[2]; /* regular, bold (the regular one where there is no bold file) */
static char file[PATH_ROOM];

static bool find(const char *name, char *out) {
  const char *home = getenv("HOME");
  for (int i = -1; i < FOLDERS; i++) {
    if (i < 0 && !home) continue;
    if (i < 0) snprintf(out, PATH_ROOM, "%s/.local/share/fonts/%s", home, name);
    else snprintf(out, PATH_ROOM, "%s%s", folders[i], name);
    if (access(out, R_OK) == 0) return true;
  }
  return false;
}

void font_close(void) {
  if (faces[1] && faces[1] != faces[0]) FT_Done_Face(faces[1]);
  if (faces[0]) FT_Done_Face(faces[0]);
  if (library) FT_Done_FreeType(library);
  faces[0] = faces[1] = NULL;
  library = NULL;
}

static Status open_faces(void) {
  if (faces[1]) return OK;
  font_close();
  const char *wish = getenv("QUENCH_FONT");
  if (wish && *wish) snprintf(file, sizeof file, "%s", wish);
  else if (!find("DejaVuSans.ttf", file))
    return fail(ERR_IO, "plot: no font: DejaVuSans.ttf is in none of the usual folders; install the package fonts-dejavu-core "
                        "(dejavu-sans-fonts, ttf-dejavu), or set QUENCH_FONT to a .ttf file");
  if (FT_Init_FreeType(&library) != 0) return fail(ERR_IO, "plot: FreeType does not start");
  if (FT_New_Face(library, file, 0, &faces[0]) != 0 || !FT_IS_SCALABLE(faces[0])) {
    font_close();
    return fail(ERR_IO, "plot: '%s' is not a readable outline font%s", file,
                wish && *wish ? " (QUENCH_FONT); unset it to use DejaVu Sans from the package fonts-dejavu-core" : "");
  }
  char bold[PATH_ROOM];
  faces[1] = faces[0];
  if (!(wish && *wish) && find("DejaVuSans-Bold.ttf", bold) && FT_New_Face(library, bold, 0, &faces[1]) != 0) faces[1] = faces[0];
  return OK;
}

Status font_file(const char **path) {
  TRY(open_faces());
  *path = file;
  return OK;
}

/* --- layout --- */

static double advance_of(FT_Face face, FT_UInt glyph) {
  FT_Fixed v = 0;
  if (FT_Get_Advance(face, glyph, FT_LOAD_NO_SCALE, &v) != 0) return 0;
  return (double)v;
}

/* Calls visit for each glyph with its origin and its scale (font units to the text's units). Returns the width. */
typedef Status (*Visit)(void *context, FT_Face face, FT_UInt glyph, double x, double y, double scale);

static Status lay_out(const char *text, double size, bool bold, double *width, Visit visit, void *context) {
  TRY(open_faces());
  Markup *m = mem_alloc(sizeof *m);
  if (!m) return error_code();
  markup_read(text, m);
  FT_Face face = faces[bold];
  double x = 0, widest = 0, script_start = 0;
  FT_UInt before = 0;
  Status s = OK;
  for (int i = 0; i < m->count && s == OK; i++) {
    const Glyph *g = &m->glyph[i], *last = i ? g - 1 : NULL;
    double scale = size * (double)g->scale / face->units_per_EM;
    FT_UInt glyph = FT_Get_Char_Index(face, g->code);
    if (last && last->level == 0 && g->level != 0) script_start = x;
    if (last && last->level * g->level < 0) x = script_start; /* x_i^2: one above the other */
    FT_Vector kern = {0};
    if (last && last->level == g->level && before && glyph) FT_Get_Kerning(face, before, glyph, FT_KERNING_UNSCALED, &kern);
    x += (double)kern.x * scale;
    if (visit) s = visit(context, face, glyph, x, -(double)g->rise * size, scale);
    x += advance_of(face, glyph) * scale;
    if (x > widest) widest = x;
    else if (g->level == 0 || i + 1 == m->count || m->glyph[i + 1].level == 0) x = widest;
    before = glyph;
  }
  *width = widest;
  mem_free(m);
  return s;
}

Status text_measure(const char *text, double size, bool bold, TextSize *out) {
  *out = (TextSize){0};
  TRY(lay_out(text, size, bold, &out->width, NULL, NULL));
  /* the line's height, not the ink's: labels of one row share a baseline. Cap height and depth of DejaVu Sans. */
  out->ascent = 0.73 * size;
  out->descent = 0.24 * size;
  return OK;
}

/* --- outlines --- */

typedef struct Outliner {
  Path *path;
  double x, y, scale;
  bool open;
  Status status;
} Outliner;

static double px(const Outliner *o, const FT_Vector *v) { return o->x + (double)v->x * o->scale; }
static double py(const Outliner *o, const FT_Vector *v) { return o->y - (double)v->y * o->scale; }

/* FreeType leaves contours open; each move closes the one before. */
static int outline_move(const FT_Vector *to, void *context) {
  Outliner *o = context;
  if (o->open) o->status = path_add(o->path, PATH_CLOSE, 0, 0);
  if (o->status == OK) o->status = path_add(o->path, PATH_MOVE, px(o, to), py(o, to));
  o->open = true;
  return o->status;
}

static int outline_line(const FT_Vector *to, void *context) {
  Outliner *o = context;
  return o->status = path_add(o->path, PATH_LINE, px(o, to), py(o, to));
}

static int outline_quad(const FT_Vector *c, const FT_Vector *to, void *context) {
  Outliner *o = context;
  return o->status = path_quad(o->path, px(o, c), py(o, c), px(o, to), py(o, to));
}

static int outline_cubic(const FT_Vector *a, const FT_Vector *b, const FT_Vector *to, void *context) {
  Outliner *o = context;
  return o->status = path_curve(o->path, px(o, a), py(o, a), px(o, b), py(o, b), px(o, to), py(o, to));
}

static Status outline(void *context, FT_Face face, FT_UInt glyph, double x, double y, double scale) {
  static const FT_Outline_Funcs functions = {outline_move, outline_line, outline_quad, outline_cubic, 0, 0};
  Outliner o = {.path = context, .x = x, .y = y, .scale = scale};
  if (FT_Load_Glyph(face, glyph, FT_LOAD_NO_SCALE | FT_LOAD_NO_BITMAP) != 0) return OK; /* a damaged glyph: a gap */
  FT_Outline_Decompose(&face->glyph->outline, &functions, &o);
  if (o.status == OK && o.open) o.status = path_add(o.path, PATH_CLOSE, 0, 0);
  return o.status;
}

Status text_path(const char *text, double size, bool bold, Path *out) {
  double width;
  return lay_out(text, size, bold, &width, outline, out);
}

/* --- plain Unicode --- */

static uint32_t raised(uint32_t c) {
  if (c >= '0' && c <= '9') return c == '1' ? 0xb9 : c == '2' ? 0xb2 : c == '3' ? 0xb3 : 0x2070 + (c - '0');
  return c == 0x2212 ? 0x207b : c == '+' ? 0x207a : c == 'n' ? 0x207f : c == 'i' ? 0x2071 : 0;
}

static uint32_t lowered(uint32_t c) {
  if (c >= '0' && c <= '9') return 0x2080 + (c - '0');
  return c == 0x2212 ? 0x208b : c == '+' ? 0x208a : 0;
}

Status text_plain(const char *text, char **out) {
  Markup *m = mem_alloc(sizeof *m);
  *out = m ? mem_alloc(8 * MARKUP_GLYPHS + 1) : NULL;
  if (!*out) {
    mem_free(m);
    return error_code();
  }
  markup_read(text, m);
  size_t n = 0;
  for (int i = 0; i < m->count; i++) {
    const Glyph *g = &m->glyph[i];
    uint32_t small = g->level > 0 ? raised(g->code) : g->level < 0 ? lowered(g->code) : g->code;
    if (!small && (i == 0 || m->glyph[i - 1].level == 0)) (*out)[n++] = g->level > 0 ? '^' : '_'; /* no small form: keep the mark */
    n += (size_t)utf8_put(small ? small : g->code, *out + n);
  }
  (*out)[n] = '\0';
  mem_free(m);
  return OK;
}

/* plot.c - scenes, text extents and PNG texts for the plotting language in plots/.lua files.
 *
 *   local scene = plot.scene(432, 288, 0xffffffff)
 *   scene:polyline(xs, ys)
 *   scene:stroke(0x0072b2ff, 1.5, {dash = {4, 2}, join = "round"})
 *   scene:save_png("a.png", 150, {recipe = "..."})
 * Lengths are points of 1/72 inch, y points down, colours are 0xRRGGBBAA. */
#include <string.h>

#include "base/buffer.h"
#include "base/file.h"
#include "base/mem.h"
#include "base64.h"
#include "bind/bind.h"
#include "bind/modules.h"
#include "pngfile.h"
#include "scene.h"
#include "terminal.h"

static const char *const scene_type = "quench.scene";

static Scene *scene_at(lua_State *L) {
  Scene **box = luaL_checkudata(L, 1, scene_type);
  return *box;
}

static Colour colour_at(lua_State *L, int arg) { return (Colour)luaL_optnumber(L, arg, 0); }

static Colour field_colour(lua_State *L, int arg, const char *key, Colour otherwise) {
  return (Colour)bind_field_number(L, arg, key, otherwise);
}

/* The methods return the scene, so that calls can be chained. */
static int done(lua_State *L, Status s) {
  bind_check(L, s);
  lua_settop(L, 1);
  return 1;
}

static int plot_scene(lua_State *L) {
  double width = luaL_checknumber(L, 1), height = luaL_checknumber(L, 2);
  Colour background = (Colour)luaL_optnumber(L, 3, 0xffffffff);
  Scene **box = lua_newuserdata(L, sizeof *box);
  *box = NULL;
  luaL_getmetatable(L, scene_type), lua_setmetatable(L, -2);
  bind_check(L, scene_new(width, height, background, box));
  return 1;
}

static int scene_gc(lua_State *L) {
  Scene **box = luaL_checkudata(L, 1, scene_type);
  scene_free(*box);
  *box = NULL;
  return 0;
}

/* --- paths --- */

static int scene_move(lua_State *L) {
  return done(L, path_add(&scene_at(L)->path, PATH_MOVE, luaL_checknumber(L, 2), luaL_checknumber(L, 3)));
}

static int scene_line(lua_State *L) {
  return done(L, path_add(&scene_at(L)->path, PATH_LINE, luaL_checknumber(L, 2), luaL_checknumber(L, 3)));
}

static int scene_curve(lua_State *L) {
  return done(L, path_curve(&scene_at(L)->path, luaL_checknumber(L, 2), luaL_checknumber(L, 3), luaL_checknumber(L, 4),
                            luaL_checknumber(L, 5), luaL_checknumber(L, 6), luaL_checknumber(L, 7)));
}

static int scene_close(lua_State *L) { return done(L, path_add(&scene_at(L)->path, PATH_CLOSE, 0, 0)); }

static int scene_rectangle(lua_State *L) {
  return done(L, path_rectangle(&scene_at(L)->path, luaL_checknumber(L, 2), luaL_checknumber(L, 3), luaL_checknumber(L, 4),
                                luaL_checknumber(L, 5)));
}

static int scene_circle(lua_State *L) {
  double r = luaL_checknumber(L, 4);
  return done(L, path_ellipse(&scene_at(L)->path, luaL_checknumber(L, 2), luaL_checknumber(L, 3), r, r));
}

/* Two lists of numbers at arg and arg + 1 as x, y pairs in a userdata buffer left on the stack. */
static double *points_at(lua_State *L, int arg, size_t *points) {
  luaL_checktype(L, arg, LUA_TTABLE);
  luaL_checktype(L, arg + 1, LUA_TTABLE);
  size_t n = lua_objlen(L, arg), m = lua_objlen(L, arg + 1);
  if (m != n) luaL_argerror(L, arg + 1, lua_pushfstring(L, "x has %d numbers, y has %d", (int)n, (int)m));
  double *xy = lua_newuserdata(L, (2 * n + 1) * sizeof *xy);
  for (size_t i = 0; i < 2 * n; i++) {
    lua_rawgeti(L, arg + (int)(i & 1), (int)(i / 2 + 1));
    xy[i] = lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  *points = n;
  return xy;
}

static int scene_add_polyline(lua_State *L) {
  size_t n;
  Scene *s = scene_at(L);
  const double *xy = points_at(L, 2, &n);
  return done(L, scene_polyline(s, xy, n));
}

/* --- painting --- */

static int flags_at(lua_State *L, int arg) {
  if (!lua_istable(L, arg)) return 0;
  return (bind_field_boolean(L, arg, "snap", 0) ? SNAP : 0) | (bind_field_boolean(L, arg, "keep", 0) ? KEEP : 0);
}

static int scene_do_fill(lua_State *L) {
  const char *rule = lua_istable(L, 3) ? bind_field_string(L, 3, "rule", "nonzero") : "nonzero";
  FillRule r = strcmp(rule, "evenodd") == 0 ? RULE_EVENODD : RULE_NONZERO;
  return done(L, scene_fill(scene_at(L), colour_at(L, 2), r, flags_at(L, 3)));
}

static int option_index(lua_State *L, int arg, const char *key, const char *const names[]) {
  const char *given = bind_field_string(L, arg, key, names[0]);
  for (int i = 0; names[i]; i++)
    if (strcmp(names[i], given) == 0) return i;
  return luaL_argerror(L, arg, lua_pushfstring(L, "no %s '%s'", key, given));
}

static void read_dashes(lua_State *L, int arg, Pen *pen) {
  lua_getfield(L, arg, "dash");
  int n = lua_istable(L, -1) ? (int)lua_objlen(L, -1) : 0;
  if (n > PEN_DASHES) luaL_argerror(L, arg, lua_pushfstring(L, "dash: at most %d lengths", PEN_DASHES));
  for (int i = 0; i < n; i++) {
    lua_rawgeti(L, -1, i + 1);
    pen->dash[i] = lua_tonumber(L, -1);
    if (!(pen->dash[i] >= 0)) luaL_argerror(L, arg, "dash: lengths must not be negative");
    lua_pop(L, 1);
  }
  pen->dashes = n;
  lua_pop(L, 1);
}

static int scene_do_stroke(lua_State *L) {
  static const char *const joins[] = {"miter", "round", "bevel", NULL}, *const caps[] = {"butt", "round", "square", NULL};
  Pen pen = {.width = luaL_optnumber(L, 3, 1)};
  if (lua_istable(L, 4)) {
    pen.join = (Join)option_index(L, 4, "join", joins);
    pen.cap = (Cap)option_index(L, 4, "cap", caps);
    pen.phase = bind_field_number(L, 4, "phase", 0);
    read_dashes(L, 4, &pen);
  }
  return done(L, scene_stroke(scene_at(L), colour_at(L, 2), &pen, flags_at(L, 4)));
}

static int scene_add_text(lua_State *L) {
  luaL_checktype(L, 5, LUA_TTABLE);
  TextStyle t = {.size = bind_field_number(L, 5, "size", 9), .bold = bind_field_boolean(L, 5, "bold", 0),
                 .align = bind_field_number(L, 5, "align", 0), .valign = bind_field_number(L, 5, "valign", 0),
                 .angle = bind_field_number(L, 5, "angle", 0), .colour = field_colour(L, 5, "colour", 0xff),
                 .halo = field_colour(L, 5, "halo", 0)};
  return done(L, scene_text(scene_at(L), luaL_checkstring(L, 4), luaL_checknumber(L, 2), luaL_checknumber(L, 3), &t));
}

static int scene_add_markers(lua_State *L) {
  size_t n;
  Scene *s = scene_at(L);
  luaL_checktype(L, 5, LUA_TTABLE);
  MarkerStyle m = {.size = bind_field_number(L, 5, "size", 4), .fill = field_colour(L, 5, "fill", 0),
                   .stroke = field_colour(L, 5, "stroke", 0), .width = bind_field_number(L, 5, "width", 0)};
  bind_check(L, marker_shape(luaL_checkstring(L, 2), &m.shape));
  const double *xy = points_at(L, 3, &n);
  return done(L, scene_markers(s, xy, n, &m));
}

/* scene:image(x, y, width, height, columns, rows, list of colours, row by row from the top) */
static int scene_add_image(lua_State *L) {
  Scene *s = scene_at(L);
  double x = luaL_checknumber(L, 2), y = luaL_checknumber(L, 3);
  Box to = {x, y, x + luaL_checknumber(L, 4), y + luaL_checknumber(L, 5)};
  int64_t cols = bind_integer(L, 6, "columns"), rows = bind_integer(L, 7, "rows");
  luaL_checktype(L, 8, LUA_TTABLE);
  luaL_argcheck(L, cols > 0 && rows > 0 && cols * rows == (int64_t)lua_objlen(L, 8), 8, "needs columns x rows colours");
  Colour *cells = lua_newuserdata(L, (size_t)(cols * rows) * sizeof *cells);
  for (int64_t i = 0; i < cols * rows; i++) {
    lua_rawgeti(L, 8, (int)i + 1);
    cells[i] = (Colour)lua_tonumber(L, -1);
    lua_pop(L, 1);
  }
  return done(L, scene_image(s, to, cells, (int)cols, (int)rows));
}

static int scene_do_clip(lua_State *L) {
  double x = luaL_checknumber(L, 2), y = luaL_checknumber(L, 3);
  return done(L, scene_clip(scene_at(L), (Box){x, y, x + luaL_checknumber(L, 4), y + luaL_checknumber(L, 5)}));
}

static int scene_do_unclip(lua_State *L) { return done(L, scene_unclip(scene_at(L))); }

static int scene_size(lua_State *L) {
  lua_pushnumber(L, scene_at(L)->width);
  lua_pushnumber(L, scene_at(L)->height);
  return 2;
}

static int scene_count(lua_State *L) {
  lua_pushinteger(L, (lua_Integer)scene_at(L)->count);
  return 1;
}

/* scene:ink(first item, x, y, width, height, columns, rows) -> list of coverages, row by row */
static int scene_get_ink(lua_State *L) {
  double x = luaL_checknumber(L, 3), y = luaL_checknumber(L, 4);
  int cols = (int)bind_integer(L, 7, "columns"), rows = (int)bind_integer(L, 8, "rows");
  luaL_argcheck(L, cols > 0 && rows > 0 && cols < 2000 && rows < 2000, 7, "1..2000 columns and rows");
  float *ink = lua_newuserdata(L, (size_t)(cols * rows) * sizeof *ink);
  bind_check(L, scene_ink(scene_at(L), (size_t)bind_integer(L, 2, "first"),
                          (Box){x, y, x + luaL_checknumber(L, 5), y + luaL_checknumber(L, 6)}, cols, rows, ink));
  lua_createtable(L, cols * rows, 0);
  for (int i = 0; i < cols * rows; i++) lua_pushnumber(L, (double)ink[i]), lua_rawseti(L, -2, i + 1);
  return 1;
}

/* --- output --- */

/* The table at arg, key -> text, as a list in a userdata buffer left on the stack, in order of the keys. */
static PngText *texts_at(lua_State *L, int arg, size_t *count) {
  *count = 0;
  if (lua_isnoneornil(L, arg)) return NULL;
  luaL_checktype(L, arg, LUA_TTABLE);
  for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
    if (lua_type(L, -2) != LUA_TSTRING || lua_type(L, -1) != LUA_TSTRING) luaL_argerror(L, arg, "texts: keys and values must be strings");
    ++*count;
  }
  PngText *list = lua_newuserdata(L, (*count + 1) * sizeof *list);
  size_t n = 0;
  for (lua_pushnil(L); lua_next(L, arg); lua_pop(L, 1)) {
    PngText t = {.key = (char *)(uintptr_t)lua_tostring(L, -2)};
    t.text = (char *)(uintptr_t)lua_tolstring(L, -1, &t.bytes);
    size_t at = n++;
    for (; at > 0 && strcmp(list[at - 1].key, t.key) > 0; at--) list[at] = list[at - 1]; /* the order of a Lua table is not fixed */
    list[at] = t;
  }
  return list;
}

/* Draws the scene at dpi and encodes it. */
static Status scene_png(const Scene *s, double dpi, const PngText *texts, size_t count, uint8_t **out, size_t *bytes) {
  Raster *r;
  TRY(scene_raster(s, dpi, 0, &r));
  PngImage image = {.width = r->width, .height = r->height, .dpi = dpi};
  uint8_t *rgb = mem_alloc((size_t)r->width * (size_t)r->height * 3);
  if (rgb) raster_rgb8(r, rgb);
  raster_free(r);
  if (!rgb) return error_code();
  image.rgb = rgb;
  Status status = png_encode(&image, texts, count, out, bytes);
  mem_free(rgb);
  return status;
}

static int scene_save_png(lua_State *L) {
  size_t count, bytes;
  uint8_t *data;
  const char *path = luaL_checkstring(L, 2);
  const PngText *texts = texts_at(L, 4, &count);
  bind_check(L, scene_png(scene_at(L), luaL_checknumber(L, 3), texts, count, &data, &bytes));
  Status s = file_write_all(path, data, bytes);
  mem_free(data);
  bind_check(L, s);
  return 0;
}

/* scene:png(dpi, texts) -> the file as a string */
static int scene_get_png(lua_State *L) {
  size_t count, bytes;
  uint8_t *data;
  const PngText *texts = texts_at(L, 3, &count);
  bind_check(L, scene_png(scene_at(L), luaL_checknumber(L, 2), texts, count, &data, &bytes));
  lua_pushlstring(L, (const char *)data, bytes);
  mem_free(data);
  return 1;
}

static int push_buffer(lua_State *L, Status s, Buffer *b) {
  if (s == OK) lua_pushlstring(L, b->data ? b->data : "", b->used);
  buffer_free(b);
  bind_check(L, s);
  return 1;
}

/* scene:svg(title or nil) -> text */
static int scene_get_svg(lua_State *L) {
  Buffer b = {0};
  Status s = scene_svg(scene_at(L), luaL_optstring(L, 2, NULL), &b.data, &b.used);
  return push_buffer(L, s, &b);
}

/* scene:terminal(colours: 0 none, 1 256, 2 all) -> text */
static int scene_get_terminal(lua_State *L) {
  Buffer b = {0};
  Status s = scene_terminal(scene_at(L), (TerminalColours)luaL_checkinteger(L, 2), &b);
  return push_buffer(L, s, &b);
}

static int scene_get_sixel(lua_State *L) {
  Buffer b = {0};
  Status s = scene_sixel(scene_at(L), luaL_checknumber(L, 2), &b);
  return push_buffer(L, s, &b);
}

/* --- terminal --- */

/* plot.terminal_ask(question, last character of the answer, milliseconds) -> answer */
static int plot_terminal_ask(lua_State *L) {
  Buffer b = {0};
  Status s = terminal_ask(luaL_checkstring(L, 1), *luaL_checkstring(L, 2), (int)luaL_checkinteger(L, 3), &b);
  return push_buffer(L, s, &b);
}

static int plot_base64(lua_State *L) {
  Buffer b = {0};
  size_t bytes;
  const char *data = luaL_checklstring(L, 1, &bytes);
  Status s = base64_add(&b, (const uint8_t *)data, bytes);
  return push_buffer(L, s, &b);
}

/* --- text and files --- */

static int plot_text_extent(lua_State *L) {
  TextSize size;
  bind_check(L, text_measure(luaL_checkstring(L, 1), luaL_checknumber(L, 2), lua_toboolean(L, 3), &size));
  lua_pushnumber(L, size.width), lua_pushnumber(L, size.ascent), lua_pushnumber(L, size.descent);
  return 3;
}

static int plot_text_plain(lua_State *L) {
  char *text;
  bind_check(L, text_plain(luaL_checkstring(L, 1), &text));
  lua_pushstring(L, text);
  mem_free(text);
  return 1;
}

static int plot_font_file(lua_State *L) {
  const char *path;
  bind_check(L, font_file(&path));
  lua_pushstring(L, path);
  return 1;
}

static int plot_font_close(lua_State *L) {
  (void)L;
  font_close();
  return 0;
}

static int plot_read_text(lua_State *L) {
  PngTexts t;
  bind_check(L, png_read_texts(luaL_checkstring(L, 1), &t));
  lua_createtable(L, 0, (int)t.count);
  for (size_t i = 0; i < t.count; i++) lua_pushlstring(L, t.item[i].text, t.item[i].bytes), lua_setfield(L, -2, t.item[i].key);
  png_texts_free(&t);
  return 1;
}

/* plot.decode(path) -> width, height, string of RGBA bytes */
static int plot_decode(lua_State *L) {
  int width, height;
  uint8_t *rgba;
  bind_check(L, png_decode(luaL_checkstring(L, 1), &width, &height, &rgba));
  lua_pushinteger(L, width), lua_pushinteger(L, height);
  lua_pushlstring(L, (const char *)rgba, (size_t)width * (size_t)height * 4);
  mem_free(rgba);
  return 3;
}

/* plot.compare(a.png, b.png, difference.png or nil) -> pixels that differ, largest difference 0..255; sizes that differ count as all */
static int plot_compare(lua_State *L) {
  PngDifference d;
  bind_check(L, png_compare(luaL_checkstring(L, 1), luaL_checkstring(L, 2), luaL_optstring(L, 3, NULL), &d));
  lua_pushnumber(L, (double)d.pixels), lua_pushinteger(L, d.largest);
  return 2;
}

static const luaL_Reg methods[] = {
  {"move", scene_move}, {"line", scene_line}, {"curve", scene_curve}, {"close", scene_close}, {"rectangle", scene_rectangle},
  {"circle", scene_circle}, {"polyline", scene_add_polyline}, {"fill", scene_do_fill}, {"stroke", scene_do_stroke},
  {"text", scene_add_text}, {"markers", scene_add_markers}, {"image", scene_add_image}, {"clip", scene_do_clip},
  {"unclip", scene_do_unclip}, {"size", scene_size}, {"count", scene_count}, {"ink", scene_get_ink},
  {"save_png", scene_save_png}, {"png", scene_get_png}, {"svg", scene_get_svg}, {"terminal", scene_get_terminal},
  {"sixel", scene_get_sixel}, {"__gc", scene_gc}, {NULL, NULL},
};

static const luaL_Reg functions[] = {
  {"scene", plot_scene}, {"text_extent", plot_text_extent}, {"text_plain", plot_text_plain}, {"font_file", plot_font_file},
  {"font_close", plot_font_close}, {"read_text", plot_read_text}, {"decode", plot_decode}, {"compare", plot_compare},
  {"terminal_ask", plot_terminal_ask}, {"base64", plot_base64}, {NULL, NULL},
};

int bind_open_plot(lua_State *L) {
  luaL_newmetatable(L, scene_type);
  luaL_register(L, NULL, methods);
  lua_pushvalue(L, -1), lua_setfield(L, -2, "__index");
  lua_newtable(L); /* a name here would become a global */
  luaL_register(L, NULL, functions);
  return 1;
}

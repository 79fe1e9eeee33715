/* plot_text.c - mark-up, text extents, the font file, scenes. */
#include "tests/tap.h"

#include <stdlib.h>

#include "font.h"
#include "markup.h"
#include "scene.h"

static double width(const char *text, double size) {
  TextSize t = {0};
  text_measure(text, size, false, &t);
  return t.width;
}

static const char *plain(const char *text) {
  static char kept[256];
  char *out;
  if (text_plain(text, &out) != OK) return error_message();
  snprintf(kept, sizeof kept, "%s", out);
  mem_free(out);
  return kept;
}

static void same(const char *marked, const char *expected) {
  const char *got = plain(marked);
  ok(strcmp(got, expected) == 0, "%s reads as %s%s%s", marked, expected, strcmp(got, expected) ? ", got " : "", strcmp(got, expected) ? got : "");
}

static void markup(void) {
  same("weight_decay", "weight_decay");
  same("10^-3", "10⁻³");
  same("x^{10}+1", "x¹⁰+1");
  same("a^", "a^");
  same("a ^ b", "a ^ b");
  same("\\alpha\\beta \\times 2", "αβ × 2");
  same("\\unknown", "\\unknown");
  same("$eta$ and $rho_4$", "η and ρ₄");
  same("costs 5$", "costs 5$");
  same("$Delta w$ of $alpha$ w", "Δw of α w");
  same("$x-1$ a-b", "x−1 a-b");
  same("N^{-0.34}", "N⁻⁰.³⁴");
  same("x_{ab", "x_ab");
  same("\xff\xfe", "��");
  Markup m;
  markup_read("x_{i}^2", &m);
  ok(m.count == 3 && m.glyph[1].level < 0 && m.glyph[2].level > 0, "lowered and raised");
  ok(m.glyph[1].rise < 0 && m.glyph[2].rise > 0 && m.glyph[1].scale < 1, "with their heights and sizes");
  markup_read("a^{b^{c^{d^{e^{f^{g^{h^{i^{j}}}}}}}}}", &m);
  ok(m.count > 8, "nested deeper than anybody reads, without harm");
  char *longest = malloc(5001);
  memset(longest, 'x', 5000), longest[5000] = '\0';
  markup_read(longest, &m);
  ok(m.count == MARKUP_GLYPHS, "a text without end is cut");
  free(longest);
}

static void extents(void) {
  near_(width("", 9), 0, 0, "nothing has no width");
  near_(width("loss", 18), 2 * width("loss", 9), 1e-12, "width is proportional to size");
  ok(width("loss and", 9) > width("loss", 9), "more text is wider");
  ok(width("10^{-3}", 9) < width("10−3", 9), "superscripts are smaller");
  ok(width("AV", 9) < width("A", 9) + width("V", 9), "A and V are kerned");
  near_(width("x_{i}^{2}", 9), width("x_{i}", 9) + fmax(0, width("x^{2}", 9) - width("x_{i}", 9)), 1e-9, "index and power stand one above the other");
  /* DejaVu Sans 2.37: '0' advances 1303 of 2048 units */
  near_(width("0", 2048), 1303, 1e-9, "the advance of a digit");
  Path p = {0};
  Lines l = {0};
  text_path("0", 100, false, &p);
  path_flatten(&p, path_whole(&p), matrix_scale(1), 0.01, &l);
  double low = 1e9, high = -1e9;
  for (size_t i = 0; i < l.points; i++) low = fmin(low, l.xy[2 * i + 1]), high = fmax(high, l.xy[2 * i + 1]);
  ok(low > -75.5 && low < -73 && high > 0.5 && high < 2.5, "a zero stands on the baseline: %g to %g", low, high);
  path_free(&p);
  lines_free(&l);
}

static void fonts(void) {
  const char *path = "";
  ok(font_file(&path) == OK && strstr(path, ".ttf"), "found %s", path);
  font_close();
  setenv("QUENCH_FONT", "/nowhere.ttf", 1);
  ok(font_file(&path) == ERR_IO && strstr(error_message(), "fonts-dejavu-core") && strstr(error_message(), "/nowhere.ttf"),
     "no font, one clear error: %s", error_message());
  setenv("QUENCH_FONT", "/proc/self/exe", 1);
  ok(font_file(&path) == ERR_IO, "not a font: %s", error_message());
  unsetenv("QUENCH_FONT");
  ok(font_file(&path) == OK, "and found again");
}

static void scenes(void) {
  Scene *s;
  Raster *r;
  scene_new(40, 20, 0xffffffff, &s);
  path_rectangle(&s->path, 10, 5, 20, 10);
  scene_fill(s, 0x000000ff, RULE_NONZERO, 0);
  ok(scene_raster(s, 72, 0, &r) == OK && r->width == 40 && r->height == 20, "72 dpi: a pixel a point");
  ok(r->rgb[3 * (10 * 40 + 20)] == 0 && r->rgb[3 * (2 * 40 + 20)] == 65535, "the rectangle is where it should be");
  raster_free(r);
  float ink[4];
  scene_ink(s, 0, (Box){0, 0, 40, 20}, 2, 2, ink);
  for (int i = 0; i < 4; i++) near_((double)ink[i], 0.25, 1e-3, "a quarter of each quarter is inked");
  scene_ink(s, 1, (Box){0, 0, 40, 20}, 2, 2, ink);
  near_((double)ink[0], 0, 0, "nothing was drawn after the first item");
  ok(scene_unclip(s) == ERR_ARGUMENT, "unclip without clip: %s", error_message());
  for (int i = 0; i < 20; i++) scene_clip(s, (Box){0, 0, 1, 1});
  ok(scene_raster(s, 72, 0, &r) == ERR_ARGUMENT, "too many clips: %s", error_message());
  ok(scene_raster(s, 1e9, 0, &r) == ERR_ARGUMENT, "no dpi like that: %s", error_message());
  scene_free(s);
  scene_new(40, 20, 0xffffffff, &s);
  scene_text(s, "a", 5, 15, &(TextStyle){.size = 9, .colour = 0xff});
  path_rectangle(&s->path, 1, 1, 5, 5);
  scene_stroke(s, 0xff, &(Pen){.width = 1}, 0);
  int failures = 0;
  for (size_t n = 1; n < 100; n++) { /* every allocation fails once */
    mem_fail_at(n);
    Status status = scene_raster(s, 72, 0, &r);
    mem_fail_at(0);
    if (status == OK) {
      raster_free(r);
      break;
    }
    failures += status == ERR_MEMORY;
  }
  ok(failures > 5, "%d failing allocations: an error each", failures);
  scene_free(s);
  ok(scene_new(-1, 5, 0, &s) == ERR_ARGUMENT, "no negative size: %s", error_message());
}

int main(void) {
  markup();
  extents();
  fonts();
  scenes();
  font_close();
  return done();
}

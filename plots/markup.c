/* markup.c - see markup.h; the language is described in font.h. */
#include "markup.h"

#include <ctype.h>
#include <string.h>

#include "io/utf8.h"

static const struct { const char *name; uint32_t code; } symbols[] = {
  {"alpha", 0x3b1}, {"beta", 0x3b2}, {"gamma", 0x3b3}, {"delta", 0x3b4}, {"epsilon", 0x3b5}, {"varepsilon", 0x3b5},
  {"zeta", 0x3b6}, {"eta", 0x3b7}, {"theta", 0x3b8}, {"iota", 0x3b9}, {"kappa", 0x3ba}, {"lambda", 0x3bb}, {"mu", 0x3bc},
  {"nu", 0x3bd}, {"xi", 0x3be}, {"omicron", 0x3bf}, {"pi", 0x3c0}, {"rho", 0x3c1}, {"sigma", 0x3c3}, {"tau", 0x3c4},
  {"upsilon", 0x3c5}, {"phi", 0x3c6}, {"varphi", 0x3d5}, {"chi", 0x3c7}, {"psi", 0x3c8}, {"omega", 0x3c9},
  {"Alpha", 0x391}, {"Beta", 0x392}, {"Gamma", 0x393}, {"Delta", 0x394}, {"Epsilon", 0x395}, {"Zeta", 0x396}, {"Eta", 0x397},
  {"Theta", 0x398}, {"Iota", 0x399}, {"Kappa", 0x39a}, {"Lambda", 0x39b}, {"Mu", 0x39c}, {"Nu", 0x39d}, {"Xi", 0x39e},
  {"Omicron", 0x39f}, {"Pi", 0x3a0}, {"Rho", 0x3a1}, {"Sigma", 0x3a3}, {"Tau", 0x3a4}, {"Upsilon", 0x3a5}, {"Phi", 0x3a6},
  {"Chi", 0x3a7}, {"Psi", 0x3a8}, {"Omega", 0x3a9},
  {"times", 0xd7}, {"cdot", 0xb7}, {"pm", 0xb1}, {"minus", 0x2212}, {"le", 0x2264}, {"ge", 0x2265}, {"ne", 0x2260},
  {"approx", 0x2248}, {"propto", 0x221d}, {"sim", 0x223c}, {"infty", 0x221e}, {"sqrt", 0x221a}, {"sum", 0x2211},
  {"prod", 0x220f}, {"partial", 0x2202}, {"nabla", 0x2207}, {"in", 0x2208}, {"to", 0x2192}, {"rightarrow", 0x2192},
  {"leftarrow", 0x2190}, {"norm", 0x2016}, {"ell", 0x2113}, {"degree", 0xb0}, {"dots", 0x2026},
};

enum { SYMBOLS = sizeof symbols / sizeof *symbols, LEVELS = 8 };

typedef struct Level {
  float scale, rise;
  int8_t level;
} Level;

typedef struct Reader {
  const char *p, *end;
  Markup *out;
  Level at[LEVELS];
  int depth;
  bool maths;
} Reader;

static void put(Reader *r, uint32_t code) {
  if (r->out->count == MARKUP_GLYPHS) return;
  if (code == '-' && (r->maths || r->at[r->depth].level != 0)) code = 0x2212;
  const Level *l = &r->at[r->depth];
  r->out->glyph[r->out->count++] = (Glyph){code, l->scale, l->rise, l->level};
}

static void put_character(Reader *r) {
  uint32_t code;
  int n = utf8_next(r->p, (size_t)(r->end - r->p), &code);
  put(r, n ? code : 0xfffd);
  r->p += n ? n : utf8_bad(r->p, (size_t)(r->end - r->p));
}

/* Opens a raised (+1) or lowered (-1) level. 0.7 of the size, a third of a size up or a sixth down. */
static bool open_level(Reader *r, int direction) {
  if (r->depth + 1 == LEVELS) return false;
  Level l = r->at[r->depth];
  l.rise += l.scale * (direction > 0 ? 0.38f : -0.16f);
  l.scale *= 0.7f;
  l.level = (int8_t)direction;
  r->at[++r->depth] = l;
  return true;
}

/* The symbol whose name starts at p (letters only, the longest run), or 0. */
static uint32_t symbol_at(const char *p, size_t *length) {
  size_t n = 0;
  while (isalpha((unsigned char)p[n])) n++;
  *length = n;
  for (int i = 0; n && i < SYMBOLS; i++)
    if (strlen(symbols[i].name) == n && memcmp(symbols[i].name, p, n) == 0) return symbols[i].code;
  return 0;
}

/* In formulas the space that ends a name is no space: $Delta w$. */
static void put_symbol(Reader *r, uint32_t code) {
  put(r, code);
  if (r->maths && *r->p == ' ' && isalpha((unsigned char)r->p[1])) r->p++;
}

static void read_one(Reader *r);

/* What follows a ^ or _ without braces: a sign with digits, or one character or symbol. */
static void read_short(Reader *r) {
  const char *p = r->p;
  if ((*p == '-' || *p == '+') && isdigit((unsigned char)p[1])) put(r, (unsigned char)*r->p++);
  if (isdigit((unsigned char)*r->p)) {
    while (isdigit((unsigned char)*r->p) || (*r->p == '.' && isdigit((unsigned char)r->p[1]))) put(r, (unsigned char)*r->p++);
  } else if (r->p == p) {
    read_one(r);
  }
}

static bool starts_script(const Reader *r) {
  char mark = r->p[0], next = r->p[1];
  if (mark != '^' && mark != '_') return false;
  if (next == '{') return true;
  if (next == '\0' || next == ' ') return false;
  return r->maths || (mark == '^' && (isalnum((unsigned char)next) || strchr("-+*\\", next)));
}

static void read_script(Reader *r) {
  int direction = *r->p == '^' ? 1 : -1;
  bool braces = r->p[1] == '{';
  r->p += 1 + braces;
  if (!open_level(r, direction)) return;
  int depth = r->depth;
  if (!braces) {
    read_short(r);
  } else {
    while (*r->p && *r->p != '}') read_one(r);
    if (*r->p) r->p++;
  }
  r->depth = depth - 1;
}

static void read_one(Reader *r) {
  size_t n;
  uint32_t code;
  if (starts_script(r)) {
    read_script(r);
  } else if (*r->p == '$' && (r->maths || strchr(r->p + 1, '$'))) {
    r->maths = !r->maths;
    r->p++;
  } else if (*r->p == '\\' && (code = symbol_at(r->p + 1, &n)) != 0) {
    r->p += 1 + n;
    put_symbol(r, code);
  } else if (r->maths && (code = symbol_at(r->p, &n)) != 0) {
    r->p += n;
    put_symbol(r, code);
  } else if (r->maths && isalpha((unsigned char)*r->p)) { /* a whole word, so that "beta" is not sought in "alphabeta" */
    symbol_at(r->p, &n);
    while (n--) put(r, (unsigned char)*r->p++);
  } else {
    put_character(r);
  }
}

void markup_read(const char *text, Markup *out) {
  out->count = 0;
  Reader r = {.p = text, .end = text + strlen(text), .out = out, .at = {{1, 0, 0}}};
  while (*r.p) read_one(&r);
}

/* format.c - the table of number formats.
 *
 * Sources: integers: GPTQ (Frantar et al., 2022), AWQ (Lin et al., 2023), QuaRot (Ashkboos et al., 2024);
 * NF4: QLoRA (Dettmers et al., 2023); FP4: bitsandbytes; small floats and MX: OCP Microscaling 1.0;
 * NVFP4: NVIDIA; ternary: BitNet b1.58 (Ma et al., 2024); Gaussian grid: QuEST (Panferov et al., 2025). */
#include "quant/format.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct Row {
  const char *name, *doc;
  double bits;
  int exponent_min, fraction, exponent_max; /* small floats; fraction < 0: a list of levels */
  double reach;
  const double *level;
  int count;
  ScaleStore store;
  int64_t group;
} Row;

static const double nf4[] = {
  -1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0,
  0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
  0.7229568362236023, 1};
static const double bnb_fp4[] = {-1, -8 / 12.0, -0.5, -4 / 12.0, -0.25, -2 / 12.0, -0.0625 / 12, 0,
                                 0.0625 / 12, 2 / 12.0, 0.25, 4 / 12.0, 0.5, 8 / 12.0, 1};


#define LIST(x) 0, -1, 0, 1, x, sizeof x / sizeof *x
#define FLOAT_E2M1 0, 1, 2, 6, NULL, 0
#define FLOAT_E2M3 0, 3, 2, 7.5, NULL, 0
#define FLOAT_E3M2 -2, 2, 4, 28, NULL, 0
#define FLOAT_E4M3 -6, 3, 8, 448, NULL, 0
#define FLOAT_E5M2 -14, 2, 15, 57344, NULL, 0

static const Row table[] = {
  {"nf4", "quantiles of a normal distribution (QLoRA), blocks of 64", 4, LIST(nf4), STORE_EXACT, 64},
  {"nf4_double", "nf4 whose scales are quantized to 8 bits in turn", 4, LIST(nf4), STORE_DYNAMIC8, 64},
  {"fp4", "bitsandbytes' 4-bit float (its default type), blocks of 64", 4, LIST(bnb_fp4), STORE_EXACT, 64},
  {"fp4_e2m1", "4-bit float with 1 fraction bit", 4, FLOAT_E2M1, STORE_EXACT, GROUP_ROW},
  {"fp6_e2m3", "6-bit float with 3 fraction bits", 6, FLOAT_E2M3, STORE_EXACT, GROUP_ROW},
  {"fp6_e3m2", "6-bit float with 2 fraction bits", 6, FLOAT_E3M2, STORE_EXACT, GROUP_ROW},
  {"fp8_e4m3", "8-bit float with 3 fraction bits, largest number 448", 8, FLOAT_E4M3, STORE_EXACT, GROUP_ROW},
  {"fp8_e5m2", "8-bit float with 2 fraction bits, largest number 57344", 8, FLOAT_E5M2, STORE_EXACT, GROUP_ROW},
  {"mxfp4", "E2M1 under a power of two every 32", 4, FLOAT_E2M1, STORE_E8M0, 32},
  {"mxfp6_e2m3", "E2M3 under a power of two every 32", 6, FLOAT_E2M3, STORE_E8M0, 32},
  {"mxfp6_e3m2", "E3M2 under a power of two every 32", 6, FLOAT_E3M2, STORE_E8M0, 32},
  {"mxfp8", "E4M3 under a power of two every 32", 8, FLOAT_E4M3, STORE_E8M0, 32},
  {"mxfp8_e5m2", "E5M2 under a power of two every 32", 8, FLOAT_E5M2, STORE_E8M0, 32},
  {"nvfp4", "E2M1 under an E4M3 scale every 16 and one scale for the tensor", 4, FLOAT_E2M1, STORE_E4M3_TENSOR, 16},
  {"nvfp4_one_level", "E2M1 under an E4M3 scale every 16", 4, FLOAT_E2M1, STORE_E4M3, 16},
};
enum { ROWS = sizeof table / sizeof *table };

static void format_clear(Format *f, const char *name, double bits) {
  memset(f, 0, sizeof *f);
  snprintf(f->name, sizeof f->name, "%s", name);
  f->bits = bits;
  f->grid.reach = 1;
  f->range = RANGE_ABSMAX;
  f->factor = f->clip = 1;
  f->norm = 2;
  f->search_steps = 100;
}

static void from_row(const Row *row, Format *f) {
  format_clear(f, row->name, row->bits);
  f->grid.kind = row->level ? GRID_LEVELS : GRID_FLOAT;
  f->grid.exponent_min = row->exponent_min;
  f->grid.exponent_max = row->exponent_max;
  f->grid.fraction = row->fraction;
  f->grid.reach = row->reach;
  f->grid.count = row->count;
  if (row->level) memcpy(f->grid.level, row->level, (size_t)row->count * sizeof *row->level);
  f->store = row->store;
  f->group = row->group;
}

static void make_ternary(Format *f) {
  format_clear(f, "ternary", log2(3));
  f->grid.kind = GRID_INTEGER;
  f->grid.low = -1, f->grid.high = 1;
  f->range = RANGE_ABSMEAN;
}

static void make_binary(Format *f) {
  format_clear(f, "binary", 1);
  f->grid = (Grid){.kind = GRID_INTEGER, .low = 0, .high = 1, .reach = 0.5};
  f->zero = 0.5;
  f->range = RANGE_ABSMEAN;
}

/* A power of two over signed integers: step 2^-6 under the scale, so that 64 of 127 is the binade of m. */
static void make_mxint8(Format *f) {
  format_clear(f, "mxint8", 8);
  f->grid = (Grid){.kind = GRID_INTEGER, .low = -127, .high = 127, .exponent_max = 6, .fraction = 6, .reach = 127};
  f->store = STORE_E8M0;
  f->group = 32;
}

static const struct {
  const char *name, *doc;
  void (*make)(Format *);
} special[] = {
  {"ternary", "-1, 0, 1 times the mean magnitude (BitNet b1.58)", make_ternary},
  {"binary", "plus or minus the mean magnitude", make_binary},
  {"mxint8", "8-bit integers under a power of two every 32", make_mxint8},
};
enum { SPECIAL = sizeof special / sizeof *special };

const char *format_name(int i) { return i < 0 || i >= ROWS + SPECIAL ? NULL : i < ROWS ? table[i].name : special[i - ROWS].name; }
const char *format_doc(int i) { return i < 0 || i >= ROWS + SPECIAL ? NULL : i < ROWS ? table[i].doc : special[i - ROWS].doc; }

Status format_named(const char *name, Format *out) {
  for (int i = 0; i < ROWS; i++)
    if (strcmp(name, table[i].name) == 0) return from_row(&table[i], out), OK;
  for (int i = 0; i < SPECIAL; i++)
    if (strcmp(name, special[i].name) == 0) return special[i].make(out), OK;
  int bits, used = 0;
  if (sscanf(name, "int%d%n", &bits, &used) == 1 && (name[used] == '\0' || name[used] == '_'))
    return format_int(bits, name[used] ? name + used + 1 : "asymmetric", out);
  if (sscanf(name, "gaussian%d%n", &bits, &used) == 1 && name[used] == '\0') return format_gaussian(bits, out);
  char names[512] = "int1 .. int8 (int4_full, ...), gaussian1 .. gaussian8";
  for (int i = 0; i < ROWS + SPECIAL; i++) snprintf(names + strlen(names), sizeof names - strlen(names), ", %s", format_name(i));
  return fail(ERR_ARGUMENT, "quant: no format '%s'; there are %s", name, names);
}

static bool convention_of(Format *f, const char *name, int bits) {
  int half = 1 << (bits - 1);
  Grid *g = &f->grid;
  g->kind = GRID_INTEGER;
  g->whole_zero = true;
  g->low = 0, g->high = 2 * half - 1;
  if (strcmp(name, "asymmetric") == 0) return f->range = RANGE_MINMAX, true;
  if (strcmp(name, "awq") == 0) return f->range = RANGE_MINMAX_RAW, true;
  if (strcmp(name, "real") == 0) return f->range = RANGE_MINMAX_REAL, g->whole_zero = false, true;
  if (strcmp(name, "gptq") == 0) return f->range = RANGE_GPTQ, f->zero = half, true;
  g->low = -half, g->high = half - 1, g->reach = half - 1;
  f->range = RANGE_ABSMAX;
  if (strcmp(name, "full") == 0) return true;
  if (strcmp(name, "restricted") == 0) return g->low = 1 - half, true;
  g->low = 1 - half, g->high = half, g->reach = half - 0.5;
  g->whole_zero = false, f->zero = 0.5;
  return strcmp(name, "midrise") == 0;
}

Status format_int(int bits, const char *convention, Format *out) {
  if (bits < 1 || bits > 8) return fail(ERR_ARGUMENT, "quant.int: bits must be 1 to 8, got %d", bits);
  format_clear(out, "int", bits);
  if (!convention_of(out, convention, bits))
    return fail(ERR_ARGUMENT, "quant.int: convention '%s' is none of asymmetric, awq, real, gptq, full, restricted, midrise", convention);
  if (out->grid.reach <= 0)
    return fail(ERR_ARGUMENT, "quant.int: convention '%s' has no positive level at 1 bit; use 2 bits or more, or 'midrise'", convention);
  snprintf(out->name, sizeof out->name, "int%d_%s", bits, convention);
  return OK;
}

Status format_levels(const char *name, int count, const double *levels, Format *out) {
  if (count < 2 || count > MAX_LEVELS) return fail(ERR_ARGUMENT, "quant.levels: 2 to %d levels, got %d", MAX_LEVELS, count);
  format_clear(out, name, ceil(log2(count)));
  out->grid.kind = GRID_LEVELS;
  out->grid.count = count;
  out->grid.reach = fmax(-levels[0], levels[count - 1]);
  for (int i = 0; i < count; i++) {
    if (!isfinite(levels[i])) return fail(ERR_NUMERIC, "quant.levels: level %d is not finite", i + 1);
    if (i && !(levels[i] > levels[i - 1]))
      return fail(ERR_ARGUMENT, "quant.levels: levels must ascend, but level %d is %g after %g", i + 1, levels[i], levels[i - 1]);
    out->grid.level[i] = levels[i];
  }
  return OK;
}

Status format_staircase(const char *name, int count, const double *levels, const double *steps, double reach, Format *out) {
  TRY(format_levels(name, count, levels, out));
  if (!(reach > 0 && isfinite(reach))) return fail(ERR_ARGUMENT, "quant.rule: reach must be above 0, got %g", reach);
  out->grid.own_steps = true;
  out->grid.reach = reach;
  for (int i = 0; i + 1 < count; i++) {
    if (!isfinite(steps[i]) || (i && !(steps[i] > steps[i - 1]))) return fail(ERR_ARGUMENT, "quant.rule: steps must be finite and ascend (step %d is %g)", i + 1, steps[i]);
    out->grid.step[i] = steps[i];
  }
  return OK;
}

Status format_gaussian(int bits, Format *out) {
  /* argmin_c E (x - Q_c(x))^2, x normal, Q_c the 2^bits half-integer levels up to c (QuEST's table) */
  static const double clip[] = {0.79788, 1.49353, 2.05107, 2.51393, 2.91609, 3.27660, 3.60105, 3.88494};
  if (bits < 1 || bits > 8) return fail(ERR_ARGUMENT, "quant.gaussian: bits must be 1 to 8, got %d", bits);
  TRY(format_int(bits, "midrise", out));
  snprintf(out->name, sizeof out->name, "gaussian%d", bits);
  out->range = RANGE_RMS;
  out->factor = clip[bits - 1];
  return OK;
}

Status format_check(const Format *f) {
  if (f->group < GROUP_TENSOR) return fail(ERR_ARGUMENT, "quant: group must be positive, 0 (a row) or -1 (the tensor), got %lld", (long long)f->group);
  if (!(f->clip > 0 && f->clip <= 1)) return fail(ERR_ARGUMENT, "quant: clip must be above 0 and at most 1, got %g", f->clip);
  if (f->search < 0 || f->search_steps < 1 || f->search > f->search_steps)
    return fail(ERR_ARGUMENT, "quant: %d search candidates do not fit %d steps", f->search, f->search_steps);
  if (!(f->norm > 0)) return fail(ERR_ARGUMENT, "quant: norm must be above 0, got %g", f->norm);
  if (f->store == STORE_E8M0 && f->range != RANGE_ABSMAX)
    return fail(ERR_ARGUMENT, "quant: a power-of-two scale needs a format scaled by its largest magnitude, not %s", f->name);
  return OK;
}

void format_search(Format *f) {
  f->search = 80;
  f->search_steps = 100;
  f->norm = 2.4;
}

Groups format_groups(const Format *f, int64_t rows, int64_t cols) {
  if (f->group == GROUP_TENSOR) cols *= rows, rows = 1;
  int64_t size = f->group > 0 && f->group < cols ? f->group : cols > 0 ? cols : 1;
  return (Groups){.rows = rows, .cols = cols, .ld = cols, .size = size, .slots = cols > 0 ? (cols + size - 1) / size : 0};
}

double format_scale_bits(const Format *f) {
  static const double bits[] = {[STORE_EXACT] = 32, [STORE_F16] = 16, [STORE_BF16] = 16, [STORE_E8M0] = 8, [STORE_E4M3] = 8,
                                [STORE_E4M3_TENSOR] = 8, [STORE_DYNAMIC8] = 8 + 32.0 / 256};
  double zero = f->range == RANGE_MINMAX || f->range == RANGE_MINMAX_RAW ? f->bits : f->range == RANGE_MINMAX_REAL ? bits[f->store] : 0;
  return bits[f->store] + zero;
}

double format_bits(const Format *f, int64_t rows, int64_t cols) {
  Groups g = format_groups(f, rows, cols);
  double weights = (double)rows * (double)cols, scales = (double)g.rows * (double)g.slots;
  double tensor = f->store == STORE_E4M3_TENSOR || f->store == STORE_DYNAMIC8 ? 32 : 0;
  double element = f->grid.kind == GRID_INTEGER && f->grid.high - f->grid.low == 2 ? 1.6 : ceil(f->bits); /* five ternary digits a byte */
  return weights > 0 ? element + (scales * format_scale_bits(f) + tensor) / weights : element;
}

static int float_levels(const Grid *g, int room, double *levels) {
  int count = 0;
  double step = ldexp(1, g->exponent_min - g->fraction), x = 0;
  double positive[MAX_LEVELS * 4];
  for (int n = 0; x <= g->reach && n < MAX_LEVELS * 4; n++) {
    positive[n] = x;
    count = n + 1;
    double e = x > 0 ? ldexp(1, ilogb(x) - g->fraction) : step;
    x += e > step ? e : step;
  }
  int total = 2 * count - 1;
  for (int i = 0; i < total && i < room; i++) levels[i] = i < count - 1 ? -positive[count - 1 - i] : positive[i - count + 1];
  return total < room ? total : room;
}

int format_level_list(const Format *f, int room, double *levels) {
  const Grid *g = &f->grid;
  if (g->kind == GRID_FLOAT) return float_levels(g, room, levels);
  int count = g->kind == GRID_LEVELS ? g->count : g->high - g->low + 1;
  for (int i = 0; i < count && i < room; i++) levels[i] = g->kind == GRID_LEVELS ? g->level[i] : g->low + i - f->zero;
  return count < room ? count : room;
}

static const char *const stores[] = {"exact", "f16", "bf16", "e8m0", "e4m3", "e4m3_tensor", "dynamic8"};
static const char *const powers[] = {"floor", "rceil", "ceil", "even"};

const char *format_store_name(const Format *f) { return stores[f->store]; }
const char *format_power_name(const Format *f) { return powers[f->power]; }

static int find(const char *const *names, int count, const char *name) {
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0) return i;
  return -1;
}

Status format_store_parse(const char *name, ScaleStore *out) {
  int i = find(stores, sizeof stores / sizeof *stores, name);
  if (i < 0) return fail(ERR_ARGUMENT, "quant: scales are stored as exact, f16, bf16, e8m0, e4m3, e4m3_tensor or dynamic8, not '%s'", name);
  return *out = (ScaleStore)i, OK;
}

Status format_power_parse(const char *name, PowerRounding *out) {
  int i = find(powers, sizeof powers / sizeof *powers, name);
  if (i < 0) return fail(ERR_ARGUMENT, "quant: powers of two are rounded by floor, rceil, ceil or even, not '%s'", name);
  return *out = (PowerRounding)i, OK;
}

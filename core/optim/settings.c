/* settings.c - the settings tables: counting, defaults, ranges. */
#include "optim/settings.h"

#include <string.h>

#include "base/mem.h"

static int setting_count(const Setting *s) { return s->count ? s->count : 1; }

int optim_settings_count(const OptimInfo *info) {
  int n = 0;
  for (const Setting *s = info->settings; s->name; s++) n += setting_count(s);
  return n;
}

/* Refuses what the table does not allow; everything is finite. */
static Status check_value(const OptimInfo *info, const Setting *s, double v) {
  double low = s->low, high = s->high;
  if (s->kind == SETTING_CHOICE)
    for (high = -1; s->choices[(int)high + 1]; high++) {}
  bool any = s->kind != SETTING_CHOICE && low == 0 && high == 0;
  bool good = isfinite(v) && (any || ((s->open & OPEN_LOW ? v > low : v >= low) && (s->open & OPEN_HIGH ? v < high : v <= high)));
  if (good && (s->kind == SETTING_INTEGER || s->kind == SETTING_BOOLEAN || s->kind == SETTING_CHOICE)) good = v == floor(v);
  if (good) return OK;
  if (any) return fail(ERR_ARGUMENT, "%s: %s must be a finite number, got %g", info->name, s->name, v);
  return fail(ERR_ARGUMENT, "%s: %s must be %sin %c%g, %g%c, got %g", info->name, s->name,
              s->kind == SETTING_NUMBER || s->kind == SETTING_LIST ? "" : "a whole number ", s->open & OPEN_LOW ? '(' : '[', low, high,
              s->open & OPEN_HIGH || isinf(high) ? ')' : ']', v);
}

Status settings_make(const OptimInfo *info, const double *given, double **out) {
  double *values = mem_alloc((size_t)optim_settings_count(info) * sizeof *values);
  if (!values) return error_code();
  int n = 0;
  for (const Setting *s = info->settings; s->name; s++)
    for (int i = 0; i < setting_count(s); i++, n++) {
      values[n] = given ? given[n] : s->value[i];
      if (check_value(info, s, values[n]) == OK) continue;
      mem_free(values);
      return error_code();
    }
  *out = values;
  return OK;
}

Status settings_set(const OptimInfo *info, double *values, const char *name, double value) {
  for (const Setting *s = info->settings; s->name; s++) {
    if (strcmp(s->name, name) == 0 && setting_count(s) == 1) {
      TRY(check_value(info, s, value));
      *values = value;
      return OK;
    }
    values += setting_count(s);
  }
  return fail(ERR_ARGUMENT, "%s: there is no number called '%s' among the settings", info->name, name);
}

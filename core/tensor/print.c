/* print.c - tensors as text: a header (dtype, shape, bytes), aligned columns with a
 * common scale, the edges only of large ones, and the count of NaN and infinities. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "kernel/kernel.h"
#include "tensor/tensor.h"

enum { EDGE = 3, WHOLE = 12 }; /* an axis longer than WHOLE shows EDGE + EDGE entries */

typedef struct Printer {
  const Tensor *t;
  char *buffer;
  size_t room, used;
  double scale;    /* common factor of all numbers */
  int width, digits;
  int columns;     /* characters that a line may have; 0: as many as it takes */
  bool whole_numbers, exponent;
} Printer;

__attribute__((format(printf, 2, 3))) static void put(Printer *p, const char *format, ...) {
  char text[128];
  va_list arguments;
  va_start(arguments, format);
  int n = vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  size_t left = p->used < p->room ? p->room - p->used : 0;
  if (left > 0) snprintf(p->buffer + p->used, left, "%s", text);
  p->used += (size_t)n;
}

static double value_at(const Tensor *t, const int64_t *index) {
  int64_t at = 0;
  for (int i = 0; i < t->ndim; i++) at += index[i] * t->stride[i];
  return kernel_read(t->dtype, (char *)tensor_data(t) + at * (int64_t)dtype_bytes(t->dtype));
}

/* Calls visit for each shown entry, in order. */
static void each_shown(const Tensor *t, int axis, int64_t *index, void (*visit)(void *, double), void *context) {
  if (axis == t->ndim) {
    visit(context, value_at(t, index));
    return;
  }
  int64_t n = t->shape[axis];
  for (int64_t i = 0; i < n; i++) {
    if (n > WHOLE && i == EDGE) i = n - EDGE;
    index[axis] = i;
    each_shown(t, axis + 1, index, visit, context);
  }
}

/* How many entries of an axis stand before the gap, and behind it: all n where there is none. */
static int64_t edge_of(const Printer *p, int axis, int64_t n) {
  int64_t edge = n > WHOLE ? EDGE : n;
  if (axis < p->t->ndim - 1 || p->columns == 0) return edge;
  int64_t cell = p->width + 1;
  if (edge == n && n * cell <= p->columns) return n;
  int64_t fit = (p->columns - 5) / (2 * cell); /* the gap is "  ... ", in place of a space */
  return fit < 1 ? 1 : fit < EDGE ? fit : EDGE;
}

typedef struct Range {
  double largest, smallest; /* magnitudes, zero excluded */
  bool whole, negative, special;
} Range;

static void widen(void *context, double v) {
  Range *r = context;
  if (!isfinite(v)) {
    r->special = true;
    return;
  }
  double a = fabs(v);
  if (v < 0) r->negative = true;
  if (a > r->largest) r->largest = a;
  if (a > 0 && a < r->smallest) r->smallest = a;
  if (a != floor(a) || a >= 1e7) r->whole = false;
}

static void choose_format(Printer *p) {
  Range r = {0, INFINITY, true, false, false};
  int64_t index[MAX_DIMS] = {0};
  each_shown(p->t, 0, index, widen, &r);
  p->scale = 1;
  p->whole_numbers = r.whole;
  int before = r.largest >= 1 ? (int)floor(log10(r.largest)) + 1 : 1;
  if (r.whole) {
    p->width = before + r.negative;
  } else if (r.largest >= 1e5 || (r.largest > 0 && r.largest < 1e-3)) { /* one factor for all, in front */
    p->scale = pow(10, floor(log10(r.largest)));
    p->digits = 4;
    p->width = 6 + r.negative;
  } else if (r.smallest < 2e-5 * fmin(r.largest, 10)) { /* four digits behind the point would hide the small ones */
    p->exponent = true;
    p->digits = 3;
    p->width = 9 + r.negative;
  } else {
    p->digits = 4;
    p->width = before + 5 + r.negative;
  }
  if (r.special && p->width < 4) p->width = 4;
}

static void put_value(Printer *p, double v) {
  if (isnan(v)) put(p, "%*s", p->width, "nan");
  else if (isinf(v)) put(p, "%*s", p->width, v > 0 ? "inf" : "-inf");
  else if (p->whole_numbers) put(p, "%*.0f", p->width, v);
  else if (p->exponent) put(p, "%*.*e", p->width, p->digits, v);
  else put(p, "%*.*f", p->width, p->digits, v / p->scale);
}

/* The last axis runs along the line, the one before it down the page, further ones as blocks. */
static void put_rows(Printer *p, int axis, int64_t *index) {
  const Tensor *t = p->t;
  int64_t n = axis < t->ndim ? t->shape[axis] : 1;
  bool row = axis >= t->ndim - 1;
  int64_t edge = edge_of(p, axis, n);
  for (int64_t i = 0; i < n; i++) {
    bool gap = n > 2 * edge && i == edge;
    if (gap) i = n - edge;
    if (axis < t->ndim) index[axis] = i;
    if (row) {
      put(p, "%s", gap ? "  ... " : " ");
      put_value(p, value_at(t, index));
      continue;
    }
    if (gap) put(p, "%s", axis == t->ndim - 2 ? "  ...\n" : "...\n");
    if (axis < t->ndim - 2) {
      if (axis == t->ndim - 3) {
        put(p, "(");
        for (int a = 0; a <= axis; a++) put(p, "%lld, ", (long long)index[a] + 1);
        put(p, ":, :)\n");
      }
      put_rows(p, axis + 1, index);
    } else {
      put_rows(p, axis + 1, index);
      put(p, "\n");
    }
  }
}

static const char *bytes_text(double bytes, char *text, size_t room) {
  const char *units[] = {"B", "kB", "MB", "GB", "TB"};
  int u = 0;
  for (; bytes >= 1000 && u < 4; u++) bytes /= 1000;
  snprintf(text, room, u && bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
  return text;
}

size_t tensor_print(const Tensor *t, int columns, char *buffer, size_t room) {
  Printer p = {.t = t, .columns = columns, .buffer = buffer, .room = room};
  if (room) buffer[0] = '\0';
  char size[32];
  int64_t n = tensor_numel(t), index[MAX_DIMS] = {0};
  put(&p, "%s %s %s", dtype_name(t->dtype), t->ndim ? shape_text(t) : "scalar",
      bytes_text((double)n * (double)dtype_bytes(t->dtype), size, sizeof size));
  if (t->requires_grad) put(&p, ", grad");
  int64_t bad = kernel_count_nonfinite(t);
  if (bad) put(&p, ", %lld not finite", (long long)bad);
  if (n == 0) return p.used;
  choose_format(&p);
  if (p.scale != 1) put(&p, ", x %g", p.scale);
  put(&p, "\n");
  put_rows(&p, 0, index);
  if (t->ndim <= 1) put(&p, "\n");
  while (p.used && p.used < room && buffer[p.used - 1] == '\n') buffer[--p.used] = '\0';
  return p.used;
}

/* kernel.c - the devices, the building of loops, and the few kernels that join
 * element types (casts, single reads, index checks). */
#include "kernel/kernel.h"

#include <math.h>
#include <omp.h>
#include <string.h>

#include "kernel/profile.h"

extern const Kernels cpu_f32_kernels, cpu_f64_kernels, cpu_f32_measured_kernels, cpu_f64_measured_kernels;

static const Kernels *const devices[][2] = {{&cpu_f32_kernels, &cpu_f64_kernels}};
static const Kernels *const measured[][2] = {{&cpu_f32_measured_kernels, &cpu_f64_measured_kernels}};

const Kernels *kernels_of(int device, DType d) {
  if (device < 0 || device >= (int)(sizeof devices / sizeof *devices) || !dtype_is_real(d)) return NULL;
  return (profile_on() ? measured : devices)[device][d == F64];
}

bool amx_for_f32(void); /* cpu/amx.h, which is for one element type */
/* The inverses of its diagonal blocks, and a band as wide as one. */
int64_t cholesky_scratch(int64_t n) {
  const int64_t leaf = CHOLESKY_LEAF, blocks = (n + leaf - 1) / leaf;
  return blocks * leaf * leaf + n * leaf;
}

bool kernel_has_tiles(void) { return amx_for_f32(); }

int threads_get(void) { return omp_get_max_threads(); }
void threads_set(int n) { omp_set_num_threads(n < 1 ? 1 : n); }

static Precision precision = PRECISION_F32;
Precision precision_get(void) { return precision; }
Precision precision_set(Precision p) {
  Precision old = precision;
  precision = p;
  return old;
}

/* --- loops --- */

/* True if axis i can be merged into axis i + 1: for every operand one step of i is a whole walk of i + 1. */
static bool mergeable(const Loop *l, int i) {
  for (int k = 0; k < l->operands; k++)
    if (l->stride[k][i] != l->stride[k][i + 1] * l->shape[i + 1]) return false;
  return true;
}

static void drop_axis(Loop *l, int i) {
  for (int j = i; j + 1 < l->ndim; j++) {
    l->shape[j] = l->shape[j + 1];
    for (int k = 0; k < l->operands; k++) l->stride[k][j] = l->stride[k][j + 1];
  }
  l->ndim--;
}

void loop_make(Loop *l, int operands, Tensor *const *tensors) {
  const Tensor *out = tensors[0];
  memset(l, 0, sizeof *l);
  l->operands = operands;
  l->ndim = out->ndim;
  memcpy(l->shape, out->shape, sizeof l->shape);
  for (int k = 0; k < operands; k++) {
    const Tensor *t = tensors[k];
    l->data[k] = tensor_data(t);
    int lead = out->ndim - t->ndim; /* missing leading axes repeat */
    for (int i = lead; i < out->ndim; i++) l->stride[k][i] = t->shape[i - lead] == 1 ? 0 : t->stride[i - lead];
  }
  for (int i = l->ndim - 1; i >= 0; i--)
    if (l->shape[i] == 1) drop_axis(l, i);
  for (int i = l->ndim - 2; i >= 0; i--)
    if (mergeable(l, i)) {
      l->shape[i + 1] *= l->shape[i];
      drop_axis(l, i);
    }
  if (l->ndim == 0) { /* one element */
    l->ndim = 1;
    l->shape[0] = 1;
  }
}

/* --- casts --- */

static uint16_t to_bf16(float x) { /* round to nearest even; NaN stays NaN */
  uint32_t u;
  memcpy(&u, &x, 4);
  if (x != x) return (uint16_t)(u >> 16 | 0x40);
  return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float from_bf16(uint16_t h) {
  uint32_t u = (uint32_t)h << 16;
  float x;
  memcpy(&x, &u, 4);
  return x;
}

double kernel_read(DType d, const void *p) {
  switch (d) {
    case F32: return *(const float *)p;
    case F64: return *(const double *)p;
    case I32: return *(const int32_t *)p;
    default: return from_bf16(*(const uint16_t *)p);
  }
}

/* Numbers outside the range of i32 saturate; NaN becomes 0. Fractions are cut off. */
static int32_t to_i32(double v) {
  if (v != v) return 0;
  return v >= 2147483647.0 ? INT32_MAX : v <= -2147483648.0 ? INT32_MIN : (int32_t)v;
}

static void write_element(DType d, void *p, double v) {
  switch (d) {
    case F32: *(float *)p = (float)v; break;
    case F64: *(double *)p = v; break;
    case I32: *(int32_t *)p = to_i32(v); break;
    default: *(uint16_t *)p = to_bf16((float)v);
  }
}

/* Calls row(context, data of each operand) for every innermost run of the loop. */
static void each_run(const Loop *l, void (*row)(void *, char *const *), void *context, const size_t *bytes) {
  int64_t index[MAX_DIMS] = {0}, runs = 1;
  for (int i = 0; i + 1 < l->ndim; i++) runs *= l->shape[i];
  for (int64_t r = 0; r < runs; r++) {
    char *p[MAX_OPERANDS];
    for (int k = 0; k < l->operands; k++) {
      int64_t at = 0;
      for (int i = 0; i + 1 < l->ndim; i++) at += index[i] * l->stride[k][i];
      p[k] = (char *)l->data[k] + at * (int64_t)bytes[k];
    }
    row(context, p);
    for (int i = l->ndim - 2; i >= 0 && ++index[i] == l->shape[i]; i--) index[i] = 0;
  }
}

typedef struct Cast {
  DType to, from;
  int64_t n, to_step, from_step; /* in bytes */
  double value;
} Cast;

static void cast_row(void *context, char *const *p) {
  const Cast *c = context;
  char *to = p[0];
  const char *from = p[1];
  bool dense_bf16 = c->to == BF16 && c->from == F32 && c->to_step == 2 && c->from_step == 4;
  bool dense_f32 = c->to == F32 && c->from == BF16 && c->to_step == 4 && c->from_step == 2;
  if (dense_bf16) {
    uint16_t *y = (uint16_t *)to;
    const float *x = (const float *)from;
    for (int64_t i = 0; i < c->n; i++) y[i] = to_bf16(x[i]);
  } else if (dense_f32) {
    float *y = (float *)to;
    const uint16_t *x = (const uint16_t *)from;
    for (int64_t i = 0; i < c->n; i++) y[i] = from_bf16(x[i]);
  } else {
    for (int64_t i = 0; i < c->n; i++) write_element(c->to, to + i * c->to_step, kernel_read(c->from, from + i * c->from_step));
  }
}

static void fill_row(void *context, char *const *p) {
  const Cast *c = context;
  for (int64_t i = 0; i < c->n; i++) write_element(c->to, p[0] + i * c->to_step, c->value);
}

static bool loop_empty(const Loop *l) {
  for (int i = 0; i < l->ndim; i++)
    if (l->shape[i] == 0) return true;
  return false;
}

void kernel_cast(DType to, DType from, const Loop *l) {
  if (loop_empty(l)) return;
  size_t bytes[] = {dtype_bytes(to), dtype_bytes(from)};
  int last = l->ndim - 1;
  Cast c = {to, from, l->shape[last], l->stride[0][last] * (int64_t)bytes[0], l->stride[1][last] * (int64_t)bytes[1], 0};
  each_run(l, cast_row, &c, bytes);
}

void kernel_fill_cast(DType to, const Loop *l, double value) {
  if (loop_empty(l)) return;
  size_t bytes[] = {dtype_bytes(to)};
  int last = l->ndim - 1;
  Cast c = {to, to, l->shape[last], l->stride[0][last] * (int64_t)bytes[0], 0, value};
  each_run(l, fill_row, &c, bytes);
}

/* --- checks --- */

typedef struct Count {
  DType d;
  int64_t n, step, bad;
} Count;

static void count_row(void *context, char *const *p) {
  Count *c = context;
  for (int64_t i = 0; i < c->n; i++) c->bad += !isfinite(kernel_read(c->d, p[0] + i * c->step));
}

int64_t kernel_count_nonfinite(const Tensor *t) {
  if (t->dtype == I32 || tensor_numel(t) == 0) return 0;
  Loop l;
  loop_make(&l, 1, (Tensor *[]){(Tensor *)t});
  size_t bytes[] = {dtype_bytes(t->dtype)};
  int last = l.ndim - 1;
  Count c = {t->dtype, l.shape[last], l.stride[0][last] * (int64_t)bytes[0], 0};
  each_run(&l, count_row, &c, bytes);
  return c.bad;
}

bool kernel_ids_in_range(int64_t n, const int32_t *ids, int64_t low, int64_t high, int32_t *bad) {
  for (int64_t i = 0; i < n; i++)
    if (ids[i] < low || ids[i] >= high) return *bad = ids[i], false;
  return true;
}

/* gptq.c - GPTQ (Frantar et al., 2022): columns are rounded one after the other, and each
 * rounding error is spread over the columns still to come so that the layer's output
 * changes least.
 *
 * With inv(H) = U^T U, U upper triangular, the published rule is
 *   e_i = (c_i - q_i) / U_ii,   c_j -= e_i U_ij for j > i,   c starting as w.
 * We factor H = R R^T instead, R = U^-1 upper triangular: the Cholesky factor of H with
 * rows and columns reversed. That needs no inverse of H (a third of the work), and since
 * w - q = e U the value of a column when the blocks before b are done is
 *   c_j = w_j + D C_j,   D = (w - q)[:, :b],   C = R[:b, b:] inv(R[b:, b:]),
 * of which a block needs only its own columns: one triangular solve in double and one
 * product a block. Inside a block U's diagonal block is inv(R[block, block]).
 *
 * Scales of a group that starts inside a block come from the values before any error of
 * that block was spread, as in the reference implementation (IST-DASLab/gptq): for
 * blocks of 128 and groups of 32 this is not the same as the newest values.
 *
 * GPTAQ adds a term for the drift of the inputs: see gptq_drift.c.
 * Everything works on permuted columns: order[j] is the weight's column at place j. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/interrupt.h"
#include "base/mem.h"
#include "linalg/lapack.h"
#include "quant/gptq_solve.h"
#include "quant/parts.h"

/* --- checks --- */

static Status check(const Tensor *w, const Tensor *h, const Tensor *drift, const GptqOptions *o) {
  TRY(format_check(&o->format));
  TRY(weight_check("quant.gptq", w));
  if (w->ndim != 2) return fail(ERR_SHAPE, "quant.gptq: weight must be (out, in), got %s", shape_text(w));
  const Tensor *square[] = {h, drift};
  for (int i = 0; i < 2 && square[i]; i++) {
    const Tensor *t = square[i];
    if (t->ndim != 2 || t->shape[0] != w->shape[1] || t->shape[1] != w->shape[1])
      return fail(ERR_SHAPE, "quant.gptq: %s %s does not fit weight %s; it must be (in, in)", i ? "drift" : "Hessian", shape_text(t), shape_text(w));
    if (t->dtype != w->dtype || !tensor_contiguous(t))
      return fail(ERR_DTYPE, "quant.gptq: %s must be dense and of the weight's type %s, got %s", i ? "drift" : "Hessian",
                  dtype_name(w->dtype), dtype_name(t->dtype));
    TRY(finite_check("quant.gptq", i ? "drift" : "Hessian", t));
  }
  if (!(o->damp >= 0 && o->damp < 1)) return fail(ERR_ARGUMENT, "quant.gptq: damp must be at least 0 and below 1, got %g", o->damp);
  if (o->block < 1 || o->block > GPTQ_BLOCK) return fail(ERR_ARGUMENT, "quant.gptq: block must be 1 to %d, got %d", GPTQ_BLOCK, o->block);
  bool late = o->format.group > 0 && !o->static_groups;
  if (o->format.store == STORE_DYNAMIC8 && late)
    return fail(ERR_ARGUMENT, "quant.gptq: scales quantized in turn must be known before; use static_groups = true");
  return OK;
}

/* --- order of columns, groups --- */

typedef struct Key {
  double value;
  int32_t index;
} Key;

static int falling(const void *a, const void *b) { /* equal keys keep their order */
  const Key *x = a, *y = b;
  if (x->value != y->value) return x->value < y->value ? 1 : -1;
  return x->index - y->index;
}

static void sort_columns(const Solve *s, Key *key, int64_t from, int64_t end) {
  for (int64_t j = from; j < end; j++) key[j] = (Key){s->diagonal[j], (int32_t)j};
  qsort(key + from, (size_t)(end - from), sizeof *key, falling);
}

static int64_t group_size(const Solve *s) { return s->o->format.group > 0 ? s->o->format.group : s->n; }

static Status order_by_groups(Solve *s, Key *key) {
  int64_t size = group_size(s), place = 0;
  Key *group = mem_alloc((size_t)s->slots * sizeof *group);
  if (!group) return error_code();
  for (int64_t g = 0; g < s->slots; g++) {
    int64_t end = (g + 1) * size < s->n ? (g + 1) * size : s->n;
    sort_columns(s, key, g * size, end);
    group[g] = (Key){key[g * size].value, (int32_t)g};
  }
  qsort(group, (size_t)s->slots, sizeof *group, falling);
  for (int64_t g = 0; g < s->slots; g++) {
    int64_t start = group[g].index * size, end = start + size < s->n ? start + size : s->n;
    for (int64_t j = start; j < end; j++) s->order[place++] = key[j].index;
  }
  mem_free(group);
  return OK;
}

static Status order_columns(Solve *s) {
  for (int64_t j = 0; j < s->n; j++) s->order[j] = (int32_t)j;
  if (s->o->order == GPTQ_PLAIN) return OK;
  Key *key = mem_alloc((size_t)s->n * sizeof *key);
  if (!key) return error_code();
  Status status = OK;
  if (s->o->order == GPTQ_GROUPED && s->slots > 1) {
    status = order_by_groups(s, key);
  } else {
    sort_columns(s, key, 0, s->n);
    for (int64_t j = 0; j < s->n; j++) s->order[j] = key[j].index;
  }
  mem_free(key);
  return status;
}

/* Where each column's scale is: by the weight's own columns if the scales are known before or the order keeps
 * groups together, else by place. */
static void place_groups(Solve *s) {
  int64_t size = group_size(s);
  bool own = s->o->static_groups || s->o->order == GPTQ_GROUPED;
  for (int64_t j = 0; j < s->n; j++) s->slot[j] = (int32_t)((own ? s->order[j] : j) / size);
  s->widest = s->o->block < s->n ? s->o->block : s->n;
  if (s->slots < 2 || s->o->static_groups) return;
  for (int64_t j = 0; j < s->n; j++) {
    if (j == 0 || s->slot[j] != s->slot[j - 1]) s->run[s->runs++] = (Run){j, 0, s->slot[j]};
    Run *last = &s->run[s->runs - 1];
    last->length++;
    int64_t reach = last->start % s->o->block + last->length;
    if (reach > s->widest) s->widest = reach;
  }
}

/* --- memory --- */

static Status matrix(DType d, int64_t rows, int64_t cols, Tensor **out) { return tensor_new(d, 2, (int64_t[]){rows, cols}, out); }

static Status take_small(Solve *s) {
  size_t n = (size_t)s->n;
  if (!(s->order = mem_alloc(n * sizeof *s->order)) || !(s->slot = mem_alloc(n * sizeof *s->slot)) || !(s->dead = mem_calloc(n, 1)) ||
      !(s->run = mem_alloc(n * sizeof *s->run)) || !(s->diagonal = mem_alloc(n * sizeof *s->diagonal)) ||
      !(s->loss = mem_calloc((size_t)s->rows, sizeof *s->loss)))
    return error_code();
  TRY(matrix(s->d, s->rows, s->slots, &s->scale));
  return matrix(s->d, s->rows, s->slots, &s->zero);
}

static Status take_large(Solve *s) {
  size_t n = (size_t)s->n, m = (size_t)s->widest;
  int64_t block = s->o->block < s->n ? s->o->block : s->n;
  if (!(s->factor = mem_alloc(n * n * sizeof(double))) || !(s->panel = mem_alloc(n * m * sizeof(double))) ||
      !(s->inverse = mem_alloc(m * m * sizeof(double))))
    return error_code();
  TRY(matrix(s->d, s->rows, s->n, &s->work));
  TRY(matrix(s->d, s->rows, s->n, &s->done));
  TRY(matrix(s->d, s->rows, s->widest, &s->current));
  TRY(matrix(s->d, s->n, s->widest, &s->coefficient));
  return matrix(s->d, block, block, &s->corner);
}

static void solve_release(Solve *s) {
  void *blocks[] = {s->order, s->slot, s->dead, s->run, s->diagonal, s->factor, s->panel, s->inverse, s->drift, s->loss};
  Tensor *tensors[] = {s->work, s->done, s->current, s->coefficient, s->corner, s->shift, s->drift_panel, s->drift_corner, s->scale, s->zero, s->extra};
  for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) mem_free(blocks[i]);
  for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) tensor_release(tensors[i]);
}

/* --- the Hessian --- */

/* Dead columns (no input ever) count as independent with a mean second moment. */
static Status read_diagonal(Solve *s, const Tensor *h, GptqReport *report) {
  double sum = 0;
  s->q->diagonal(s->n, tensor_data(h), s->diagonal);
  for (int64_t j = 0; j < s->n; j++) {
    if (s->diagonal[j] < 0) return fail(ERR_NUMERIC, "quant.gptq: Hessian has %g on its diagonal, in column %lld", s->diagonal[j], (long long)j + 1);
    s->dead[j] = s->diagonal[j] == 0;
    report->dead += s->dead[j];
    sum += s->diagonal[j];
  }
  int64_t live = s->n - report->dead;
  s->mean = live ? sum / (double)live : 1;
  for (int64_t j = 0; j < s->n; j++)
    if (s->dead[j]) s->diagonal[j] = s->mean;
  return OK;
}

static void read_pivots(const Solve *s, GptqReport *report) {
  report->pivot = INFINITY;
  for (int64_t j = 0; j < s->n; j++) {
    double pivot = s->factor[j * s->n + j];
    report->pivot = fmin(report->pivot, pivot * pivot / s->mean);
  }
}

static Status factorise(Solve *s, const Tensor *h, GptqReport *report) {
  int64_t bad;
  for (report->damp = s->o->damp;; report->damp += s->o->damp_increment) {
    s->damping = report->damp * s->mean;
    s->q->reverse(s->n, tensor_data(h), s->order, s->diagonal, s->damping, s->factor);
    TRY(lapack_cholesky_factor(F64, s->n, s->factor, &bad));
    if (!bad) break;
    if (s->o->damp_increment <= 0 || report->damp + s->o->damp_increment >= 1)
      return fail(ERR_NUMERIC, "quant.gptq: the Hessian of %lld inputs cannot be factorised with damp = %g (its inputs depend on each other: "
                  "too few calibration tokens?); give more tokens, a larger damp, or damp_increment > 0", (long long)s->n, report->damp);
    TRY(interrupt_check());
  }
  read_pivots(s, report);
  return OK;
}

/* --- weights and scales --- */

static void gather(const Solve *s, const void *x, int64_t ld, const int32_t *order, Tensor *to) {
  s->q->gather_columns(s->rows, s->n, x, ld, order, tensor_data(to), s->n);
}

/* Scales that depend on the weights as they were. w (rows, n) dense. */
static Status first_scales(Solve *s, const void *w) {
  const Format *f = &s->o->format;
  Groups g = format_groups(f, s->rows, s->n);
  return tensor_scales(f, s->q, s->unit, &g, w, s->scale, s->zero, &s->extra);
}

/* One scale for the tensor: every row gets it. */
static Status spread_tensor_scale(Solve *s) {
  if (s->o->format.group != GROUP_TENSOR) return OK;
  Tensor *both[] = {s->scale, s->zero};
  for (int i = 0; i < 2; i++) {
    double v;
    TRY(tensor_get(both[i], (int64_t[]){0, 0}, &v));
    TRY(tensor_fill(both[i], v));
  }
  return OK;
}

/* Fills work with the permuted weights. Scales of whole rows see dead columns, as in the reference; those of groups do not. */
static Status place_weights(Solve *s, const Tensor *w) {
  TRY(scale_unit(&s->o->format, s->q, tensor_numel(w), tensor_data(w), &s->unit, &s->extra));
  if (s->slots < 2) TRY(first_scales(s, tensor_data(w)));
  int32_t *source = mem_alloc((size_t)s->n * sizeof *source);
  if (!source) return error_code();
  if (s->slots > 1 && s->o->static_groups) {
    for (int64_t j = 0; j < s->n; j++) source[j] = s->dead[j] ? -1 : (int32_t)j;
    gather(s, tensor_data(w), s->n, source, s->work);
    Status status = first_scales(s, tensor_data(s->work));
    if (status) return mem_free(source), status;
  }
  for (int64_t j = 0; j < s->n; j++) source[j] = s->dead[s->order[j]] ? -1 : s->order[j];
  gather(s, tensor_data(w), s->n, source, s->work);
  mem_free(source);
  return spread_tensor_scale(s);
}

/* --- blocks --- */

static char *column(const Solve *s, const Tensor *t, int64_t j) { return (char *)tensor_data(t) + (size_t)j * s->k->element; }

/* inverse (m, m) = that of the factor's rows and columns from `from` on. */
static void invert_corner(Solve *s, int64_t from, int64_t m) {
  const double *corner = s->factor + from * s->n + from;
  int im = (int)m, info;
  memset(s->inverse, 0, (size_t)(m * m) * sizeof(double));
  for (int64_t i = 0; i < m; i++) memcpy(s->inverse + i * m, corner + i * s->n, (size_t)(i + 1) * sizeof(double));
  LAPACK(F64, trtri)("U", "N", &im, s->inverse, &im, &info, 1, 1); /* row-major lower is LAPACK's upper */
}

/* coefficient (b, m) = R[:b, b:b+m] inv(R[b:b+m, b:b+m]) and corner (n_b, n_b) = inv(R[b:b+n_b, b:b+n_b]). In the reversed
 * factor L these are the rows n-b.. and n-b-m..n-b of columns n-b-m..n-b, last to first; the second inverse is the last rows and
 * columns of the first. A product with the inverse takes a third of the time of OpenBLAS's solve. */
static void block_factors(Solve *s, int64_t b, int64_t width, int64_t m) {
  const int64_t n = s->n, from = n - b - m, skip = m - width;
  invert_corner(s, from, m);
  const Gemm g = {.m = b, .n = m, .k = m, .lda = n, .ldb = m, .ldc = m, .alpha = 1, .a = s->factor + (n - b) * n + from, .b = s->inverse,
                  .c = s->panel, .batch = 1};
  if (b) kernels_of(0, F64)->gemm(&g);
  s->q->reverse_cast(b * m, s->panel, tensor_data(s->coefficient));
  for (int64_t i = 0; i < width && skip; i++) memmove(s->inverse + i * width, s->inverse + (skip + i) * m + skip, (size_t)width * sizeof(double));
  s->q->reverse_cast(width * width, s->inverse, tensor_data(s->corner));
}

/* current (rows, m) = work[:, b:b+m] + work[:, :b] coefficient */
static void bring_up_to_date(Solve *s, int64_t b, int64_t m) {
  int64_t shape[] = {s->rows, m}, from[] = {s->n, 1}, to[] = {m, 1};
  Loop l = {.ndim = 2, .operands = 2, .shape = {shape[0], shape[1]}, .stride = {{to[0], to[1]}, {from[0], from[1]}},
            .data = {tensor_data(s->current), column(s, s->work, b)}};
  s->k->copy(&l);
  Gemm g = {.m = s->rows, .n = m, .k = b, .lda = s->n, .ldb = m, .ldc = m, .alpha = 1, .beta = 1, .a = tensor_data(s->work),
            .b = tensor_data(s->coefficient), .c = tensor_data(s->current), .batch = 1};
  if (b) s->k->gemm(&g);
}

/* Scales of the groups that start in columns b..end. */
static void scales_of_block(Solve *s, int64_t b, int64_t end, int64_t m) {
  for (; s->next_run < s->runs && s->run[s->next_run].start < end; s->next_run++) {
    const Run *run = &s->run[s->next_run];
    Groups g = {.rows = s->rows, .cols = run->length, .ld = m, .size = run->length, .slots = s->slots};
    s->q->params(&s->o->format, s->unit, &g, column(s, s->current, run->start - b), column(s, s->scale, run->slot), column(s, s->zero, run->slot));
  }
}

static int64_t looked_at(const Solve *s, int64_t b, int64_t end) {
  int64_t last = end;
  for (int64_t r = s->next_run; r < s->runs && s->run[r].start < end; r++)
    if (s->run[r].start + s->run[r].length > last) last = s->run[r].start + s->run[r].length;
  return last - b;
}

static void one_block(Solve *s, int64_t b, int64_t end) {
  int64_t m = looked_at(s, b, end);
  block_factors(s, b, end - b, m);
  bring_up_to_date(s, b, m);
  if (s->drift) drift_block(s, b, end - b, m);
  scales_of_block(s, b, end, m);
  GptqBlock block = {.rows = s->rows, .n = end - b, .current = tensor_data(s->current), .ld_current = m, .w = column(s, s->work, b),
                     .q = column(s, s->done, b), .ld = s->n, .inverse = tensor_data(s->corner),
                     .drift = s->drift ? tensor_data(s->drift_corner) : NULL, .slot = s->slot + b,
                     .scale = tensor_data(s->scale), .zero = tensor_data(s->zero), .slots = s->slots, .loss = s->loss};
  s->q->gptq_block(&s->o->format, &block);
}

static Status all_blocks(Solve *s) {
  for (int64_t b = 0; b < s->n; b += s->o->block) {
    TRY(interrupt_check());
    one_block(s, b, b + s->o->block < s->n ? b + s->o->block : s->n);
  }
  return OK;
}

/* --- results --- */

/* The group of each of the weight's columns, where the order of the columns decided it. */
static Status hand_over_index(const Solve *s, Quantized *out) {
  if (s->slots < 2 || s->o->order != GPTQ_ACTIVATION || s->o->static_groups) return OK;
  size_t bytes = (size_t)s->n * sizeof(int32_t);
  int32_t *index = mem_alloc(bytes);
  if (!index) return error_code();
  for (int64_t j = 0; j < s->n; j++) index[s->order[j]] = s->slot[j];
  out->bits += 32.0 / (double)s->rows;
  Status status = tensor_wrap(I32, 1, &s->n, index, bytes, mem_free, index, &out->group_index);
  if (status) mem_free(index);
  return status;
}

static Status hand_over(Solve *s, const Tensor *w, Quantized *out, GptqReport *report) {
  int32_t *back = mem_alloc((size_t)s->n * sizeof *back);
  if (!back) return error_code();
  for (int64_t j = 0; j < s->n; j++) back[s->order[j]] = (int32_t)j;
  gather(s, tensor_data(s->done), s->n, back, s->work);
  mem_free(back);
  out->value = s->work, out->scale = s->scale, out->zero = s->zero, out->extra = s->extra;
  s->work = s->scale = s->zero = s->extra = NULL;
  for (int64_t r = 0; r < s->rows; r++) report->loss += s->loss[r];
  TRY(value_error("quant.gptq", s->q, w, out->value, &out->mse));
  out->bits = format_bits(&s->o->format, s->rows, s->n);
  return hand_over_index(s, out);
}

static Status run(Solve *s, const Tensor *w, const Tensor *h, const Tensor *drift, Quantized *out, GptqReport *report) {
  TRY(take_small(s));
  TRY(read_diagonal(s, h, report));
  TRY(order_columns(s));
  place_groups(s);
  TRY(take_large(s));
  TRY(factorise(s, h, report));
  if (drift) TRY(drift_prepare(s, drift));
  TRY(place_weights(s, w));
  TRY(all_blocks(s));
  return hand_over(s, w, out, report);
}

Status gptq(const Tensor *w, const Tensor *h, const Tensor *drift, const GptqOptions *o, Quantized *out, GptqReport *report) {
  *out = (Quantized){0};
  *report = (GptqReport){0};
  TRY(check(w, h, drift, o));
  Tensor *dense;
  TRY(tensor_contiguous_copy(w, &dense));
  Solve s = {.o = o, .q = quant_kernels_for(w), .k = kernels_for(w), .d = w->dtype, .rows = w->shape[0], .n = w->shape[1]};
  s.slots = format_groups(&o->format, s.rows, s.n).slots;
  if (o->format.group == GROUP_TENSOR) s.slots = 1;
  Status status = s.n && s.rows ? run(&s, dense, h, drift, out, report) : fail(ERR_SHAPE, "quant.gptq: weight %s is empty", shape_text(w));
  solve_release(&s);
  tensor_release(dense);
  if (status) quantized_release(out);
  return status;
}

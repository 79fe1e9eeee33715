/* norm.c - layer norm (Ba et al. 2016) and RMS norm (Zhang and Sennrich 2019), with
 * backward passes and the tangents of both.
 *
 * Per row of n values, with r = 1/sqrt(variance + eps):
 *   z = (x - mean) r,   y = w z + b,
 * plus a residual, where there is one, with the bits of a sum made after it.
 * RMS norm is the same with the mean left out, so both share every function here and
 * a NULL mean selects it. Rows run in parallel; a gradient of w or b is a sum over
 * rows and runs in parallel over slabs of columns instead, each summed by one thread
 * in row order: no scratch memory and the same bits for any number of threads. */
#include "kernel/cpu/cpu.h"

enum {
  SLAB = 64,      /* columns of a weight gradient that one thread sums at a time: four 512-bit registers each for w and b */
  ROW_BLOCK = 64, /* rows summed before their sum joins the total, which keeps rounding errors from growing with the rows */
  PIECE = 256,    /* numbers of a row that are made aside before they join a sum */
  STATS = 1024    /* rows whose tangent statistics fit on the stack */
};

static real row_sum(int64_t n, const real *x) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) sum += x[j];
  return sum;
}

/* sum of (x - m)^2 */
static real row_spread(int64_t n, const real *x, real m) {
  real sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < n; j++) sum += (x[j] - m) * (x[j] - m);
  return sum;
}

static void row_scale(int64_t n, const real *x, real m, real r, const real *w, const real *b, real *y) {
  if (w && b) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = (x[j] - m) * r * w[j] + b[j];
  } else if (w) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = (x[j] - m) * r * w[j];
  } else if (b) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = (x[j] - m) * r + b[j];
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) y[j] = (x[j] - m) * r;
  }
}

/* y = the scaled row + add. The row is rounded before it joins: one expression could round once. */
static void row_scale_add(int64_t n, const real *x, real m, real r, const real *w, const real *b, const real *add, real *y) {
  for (int64_t k = 0; k < n; k += PIECE) {
    real piece[PIECE];
    const int64_t width = n - k < PIECE ? n - k : PIECE;
    row_scale(width, x + k, m, r, w ? w + k : NULL, b ? b + k : NULL, piece);
#pragma omp simd
    for (int64_t j = 0; j < width; j++) y[k + j] = add[k + j] + piece[j];
  }
}

/* mean NULL: RMS norm */
static void norm(int64_t rows, int64_t n, double eps, const real *x, const real *w, const real *b, const real *add, real *y, real *mean, real *rstd) {
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) {
    const real *xi = x + i * n;
    real m = mean ? row_sum(n, xi) / (real)n : 0;
    real r = 1 / real_sqrt(row_spread(n, xi, m) / (real)n + (real)eps);
    if (mean) mean[i] = m;
    rstd[i] = r;
    if (add) row_scale_add(n, xi, m, r, w, b, add + i * n, y + i * n);
    else row_scale(n, xi, m, r, w, b, y + i * n);
  }
}

void K(layer_norm)(int64_t rows, int64_t n, double eps, const void *x, const void *w, const void *b, const void *add, void *y, void *mean,
                   void *rstd) {
  norm(rows, n, eps, x, w, b, add, y, mean, rstd);
}

void K(rms_norm)(int64_t rows, int64_t n, double eps, const void *x, const void *w, const void *add, void *y, void *rstd) {
  norm(rows, n, eps, x, w, NULL, add, y, NULL, rstd);
}

/* ---- backward: with g = w dy, dx = r (g - mean(g) - z mean(g z)) ---- */

/* dx = r (g - a - z c); w NULL is all ones */
static void row_gradient(int64_t n, const real *x, real m, real r, real a, real c, const real *w, const real *dy, real *dx) {
  if (w) {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dx[j] = r * (w[j] * dy[j] - a - (x[j] - m) * r * c);
  } else {
#pragma omp simd
    for (int64_t j = 0; j < n; j++) dx[j] = r * (dy[j] - a - (x[j] - m) * r * c);
  }
}

/* The row of dx, or sums: added to it, as rounded when made apart (one expression could round once). */
static void row_backward(int64_t n, const real *x, real m, real r, bool centred, const real *w, const real *dy, bool sums, real *dx) {
  real a = 0, c = 0;
  if (w) {
#pragma omp simd reduction(+ : a, c)
    for (int64_t j = 0; j < n; j++) a += w[j] * dy[j], c += w[j] * dy[j] * ((x[j] - m) * r);
  } else {
#pragma omp simd reduction(+ : a, c)
    for (int64_t j = 0; j < n; j++) a += dy[j], c += dy[j] * ((x[j] - m) * r);
  }
  a = centred ? a / (real)n : 0;
  c /= (real)n;
  if (!sums) row_gradient(n, x, m, r, a, c, w, dy, dx);
  for (int64_t k = 0; sums && k < n; k += PIECE) {
    real piece[PIECE];
    const int64_t width = n - k < PIECE ? n - k : PIECE;
    row_gradient(width, x + k, m, r, a, c, w ? w + k : NULL, dy + k, piece);
#pragma omp simd
    for (int64_t j = 0; j < width; j++) dx[k + j] += piece[j];
  }
}

/* Adds one slab of columns [c, c + width) over rows [first, last): dw += dy z, db += dy. */
static void slab_backward(int64_t first, int64_t last, int64_t n, int64_t c, int64_t width, const real *x, const real *mean,
                          const real *rstd, const real *dy, real *dw, real *db) {
  for (int64_t start = first; start < last; start += ROW_BLOCK) {
    int64_t end = start + ROW_BLOCK < last ? start + ROW_BLOCK : last;
    real sw[SLAB] = {0}, sb[SLAB] = {0};
    for (int64_t i = start; i < end; i++) {
      const real *xi = x + i * n + c, *di = dy + i * n + c;
      real m = mean ? mean[i] : 0, r = rstd[i];
#pragma omp simd
      for (int64_t j = 0; j < width; j++) sw[j] += di[j] * ((xi[j] - m) * r), sb[j] += di[j];
    }
    for (int64_t j = 0; j < width; j++) {
      if (dw) dw[c + j] += sw[j];
      if (db) db[c + j] += sb[j];
    }
  }
}

static void clear(int64_t n, real *x) {
  for (int64_t j = 0; x && j < n; j++) x[j] = 0;
}

static void norm_backward(int64_t rows, int64_t n, const real *x, const real *w, const real *mean, const real *rstd, const real *dy,
                          bool sums, real *dx, real *dw, real *db) {
  if (dx) {
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
    for (int64_t i = 0; i < rows; i++) row_backward(n, x + i * n, mean ? mean[i] : 0, rstd[i], mean != NULL, w, dy + i * n, sums, dx + i * n);
  }
  if (!dw && !db) return;
  clear(n, dw);
  clear(n, db);
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t c = 0; c < n; c += SLAB) {
    int64_t width = n - c < SLAB ? n - c : SLAB;
    slab_backward(0, rows, n, c, width, x, mean, rstd, dy, dw, db);
  }
}

void K(layer_norm_backward)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *dy,
                            bool sums, void *dx, void *dw, void *db) {
  norm_backward(rows, n, x, w, mean, rstd, dy, sums, dx, dw, db);
}

void K(rms_norm_backward)(int64_t rows, int64_t n, const void *x, const void *w, const void *rstd, const void *dy, bool sums, void *dx,
                          void *dw) {
  norm_backward(rows, n, x, w, NULL, rstd, dy, sums, dx, dw, NULL);
}

/* ---- tangents. Along tx: with s = mean(z tx),
 *   tz = r (tx - mean(tx) - z s),   tr = -r^2 s. ---- */

/* mean(tx) and s of a row */
static void row_direction(int64_t n, const real *x, real m, real r, bool centred, const real *tx, real *tm, real *s) {
  real a = 0, c = 0;
#pragma omp simd reduction(+ : a, c)
  for (int64_t j = 0; j < n; j++) a += tx[j], c += tx[j] * ((x[j] - m) * r);
  *tm = centred ? a / (real)n : 0;
  *s = c / (real)n;
}

/* ty = w tz + tw z + tb + tadd; any of the tangents may be NULL: zero */
void K(norm_tangent)(int64_t rows, int64_t n, const void *x_, const void *w_, const void *mean_, const void *rstd_, const void *tx_,
                     const void *tw_, const void *tb_, const void *tadd_, void *ty_) {
  const real *x = x_, *w = w_, *mean = mean_, *rstd = rstd_, *tx = tx_, *tw = tw_, *tb = tb_, *tadd = tadd_;
  real *ty = ty_;
#pragma omp parallel for if (rows * n > PARALLEL_GRAIN)
  for (int64_t i = 0; i < rows; i++) {
    const real *xi = x + i * n, *ti = tx ? tx + i * n : NULL;
    real *yi = ty + i * n, m = mean ? mean[i] : 0, r = rstd[i], tm = 0, s = 0;
    if (ti) {
      row_direction(n, xi, m, r, mean != NULL, ti, &tm, &s);
#pragma omp simd
      for (int64_t j = 0; j < n; j++) yi[j] = r * (ti[j] - tm - (xi[j] - m) * r * s);
      for (int64_t j = 0; w && j < n; j++) yi[j] *= w[j];
    } else {
      clear(n, yi);
    }
    for (int64_t j = 0; tw && j < n; j++) yi[j] += tw[j] * ((xi[j] - m) * r);
    for (int64_t j = 0; tb && j < n; j++) yi[j] += tb[j];
    for (int64_t j = 0; tadd && j < n; j++) yi[j] += tadd[i * n + j];
  }
}

/* What the tangent of the backward pass takes in and gives out; NULL tangents are zero. */
typedef struct Second {
  int64_t n;
  const real *x, *w, *mean, *rstd, *dy, *tx, *tw, *tdy;
  real *tdx, *tdw, *tdb;
} Second;

/* tdx of row i. With g = w dy, a = mean(g), c = mean(g z) and tg = tw dy + w tdy,
 *   tdx = r (tg - mean(tg) - tz c - z mean(tg z + g tz) - r s (g - a - z c)).
 * So that one loop serves all combinations, an absent operand is read from the row of x
 * and multiplied by zero. */
static void row_second(const Second *k, int64_t i, real tm, real s) {
  int64_t n = k->n;
  const real *x = k->x + i * n, *dy = k->dy + i * n, *tx = k->tx ? k->tx + i * n : x, *tdy = k->tdy ? k->tdy + i * n : dy;
  const real *w = k->w ? k->w : x, *tw = k->tw ? k->tw : x;
  const real has_tx = k->tx ? 1 : 0, has_tdy = k->tdy ? 1 : 0, has_w = k->w ? 1 : 0, has_tw = k->tw ? 1 : 0;
  real m = k->mean ? k->mean[i] : 0, r = k->rstd[i], a = 0, c = 0, ta = 0, tc = 0;
#define ROW_TERMS                                                                    \
  real z = (x[j] - m) * r, tz = has_tx * (r * (tx[j] - tm - z * s));                 \
  real wj = has_w * w[j] + (1 - has_w), g = wj * dy[j];                              \
  real tg = has_tw * tw[j] * dy[j] + wj * (has_tdy * tdy[j]);
#pragma omp simd reduction(+ : a, c, ta, tc)
  for (int64_t j = 0; j < n; j++) {
    ROW_TERMS
    a += g, c += g * z, ta += tg, tc += tg * z + g * tz;
  }
  const real inverse = 1 / (real)n, centred = k->mean ? inverse : 0;
  a *= centred, ta *= centred, c *= inverse, tc *= inverse;
  real *tdx = k->tdx + i * n;
#pragma omp simd
  for (int64_t j = 0; j < n; j++) {
    ROW_TERMS
    tdx[j] = r * (tg - ta - tz * c - z * tc - r * s * (g - a - z * c));
  }
#undef ROW_TERMS
}

/* Adds one slab over rows [first, last): tdw += tdy z + dy tz, tdb += tdy. tm and s start at row first. */
static void slab_second(const Second *k, int64_t first, int64_t last, int64_t c, int64_t width, const real *tm, const real *s) {
  for (int64_t start = first; start < last; start += ROW_BLOCK) {
    int64_t end = start + ROW_BLOCK < last ? start + ROW_BLOCK : last;
    real sw[SLAB] = {0}, sb[SLAB] = {0};
    for (int64_t i = start; i < end; i++) {
      int64_t at = i * k->n + c;
      const real *x = k->x + at, *dy = k->dy + at;
      real m = k->mean ? k->mean[i] : 0, r = k->rstd[i];
      if (k->tdy) {
        const real *tdy = k->tdy + at;
#pragma omp simd
        for (int64_t j = 0; j < width; j++) sw[j] += tdy[j] * ((x[j] - m) * r), sb[j] += tdy[j];
      }
      if (k->tx) {
        const real *tx = k->tx + at;
        real mi = tm[i - first], si = s[i - first];
#pragma omp simd
        for (int64_t j = 0; j < width; j++) sw[j] += dy[j] * (r * (tx[j] - mi - (x[j] - m) * r * si));
      }
    }
    for (int64_t j = 0; j < width; j++) {
      if (k->tdw) k->tdw[c + j] += sw[j];
      if (k->tdb) k->tdb[c + j] += sb[j];
    }
  }
}

void K(norm_backward_tangent)(int64_t rows, int64_t n, const void *x, const void *w, const void *mean, const void *rstd, const void *dy,
                              const void *tx, const void *tw, const void *tdy, void *tdx, void *tdw, void *tdb) {
  const Second k = {n, x, w, mean, rstd, dy, tx, tw, tdy, tdx, tdw, tdb};
  real tm[STATS], s[STATS];
  clear(n, k.tdw);
  clear(n, k.tdb);
  for (int64_t first = 0; first < rows; first += STATS) {
    int64_t last = first + STATS < rows ? first + STATS : rows;
#pragma omp parallel for if ((last - first) * n > PARALLEL_GRAIN)
    for (int64_t i = first; i < last; i++) {
      real *tmi = tm + (i - first), *si = s + (i - first);
      *tmi = *si = 0;
      if (k.tx) row_direction(n, k.x + i * n, k.mean ? k.mean[i] : 0, k.rstd[i], k.mean != NULL, k.tx + i * n, tmi, si);
      if (k.tdx) row_second(&k, i, *tmi, *si);
    }
    if (!k.tdw && !k.tdb) continue;
#pragma omp parallel for if ((last - first) * n > PARALLEL_GRAIN)
    for (int64_t c = 0; c < n; c += SLAB) slab_second(&k, first, last, c, n - c < SLAB ? n - c : SLAB, tm, s);
  }
}

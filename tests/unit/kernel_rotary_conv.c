/* Rotary and convolution kernels against their definitions, and their adjoints against
 * the inner product: <y, A x> = <A^T y, x>. */
#include "tests/unit/kernel_reference.h"

/* --- rotary --- */

static void reference_rotary(int64_t rows, int64_t time, int64_t heads, int64_t width, int64_t rotated, bool interleaved, const double *c,
                             const double *s, const double *x, double *y) {
  for (int64_t r = 0; r < rows; r++) {
    int64_t t = r / heads % time, half = rotated / 2;
    memcpy(y + r * width, x + r * width, (size_t)width * sizeof *y);
    for (int64_t i = 0; i < half; i++) {
      int64_t a = r * width + (interleaved ? 2 * i : i), b = r * width + (interleaved ? 2 * i + 1 : i + half);
      y[a] = x[a] * c[t * half + i] - x[b] * s[t * half + i];
      y[b] = x[a] * s[t * half + i] + x[b] * c[t * half + i];
    }
  }
}

static void check_rotary(const Kernels *k, int64_t batch, int64_t time, int64_t heads, int64_t width, int64_t rotated, bool interleaved) {
  int64_t size = batch * time * heads * width, angles = time * (rotated / 2), gap = heads * width + 3;
  double *x = random_array(size, 2), *y = zero_array(size), *c = zero_array(angles), *s = zero_array(angles);
  for (int64_t i = 0; i < angles; i++) c[i] = cos((double)i), s[i] = sin((double)i);
  reference_rotary(batch * time * heads, time, heads, width, rotated, interleaved, c, s, x, y);
  void *rx = to_real(k, size, x), *ry = to_real(k, size, NULL), *rc = to_real(k, angles, c), *rs = to_real(k, angles, s);
  void *wide = to_real(k, batch * time * gap, NULL), *back = to_real(k, size, NULL);
  int64_t dense[3] = {time * heads * width, heads * width, width}, spread[3] = {time * gap, gap, width};
  k->rotary(batch, time, heads, width, rotated, interleaved, 1, rc, rs, dense, rx, dense, ry);
  k->rotary(batch, time, heads, width, rotated, interleaved, 1, rc, rs, dense, rx, spread, wide);
  k->rotary(batch, time, heads, width, rotated, interleaved, -1, rc, rs, spread, wide, dense, back);
  k->rotary(batch, time, heads, width, rotated, interleaved, 1, rc, rs, dense, rx, dense, rx); /* in place */
  ok(!memcmp(rx, ry, (size_t)size * k->element), "%s: rotary in place is the same", k->name);
  char what[96];
  snprintf(what, sizeof what, "rotary B %ld T %ld H %ld W %ld, %ld turned%s", (long)batch, (long)time, (long)heads, (long)width, (long)rotated,
           interleaved ? ", interleaved" : "");
  same_values(k, size, ry, y, tolerance_of(k, 3e-7, 1e-15), what);
  same_values(k, size, back, x, tolerance_of(k, 5e-7, 2e-15), "turned back, through other strides");
  mem_free(x), mem_free(y), mem_free(c), mem_free(s), mem_free(rx), mem_free(rc), mem_free(rs), mem_free(wide);
}

/* Four pairs at once have the bits of each pair alone. */
static void check_four(const Kernels *k) {
  enum { T = 9, W = 11 };
  double *x = random_array(T * W, 2), *c = random_array(T * 4, 1), *s = random_array(T * 4, 1), part[T * 2], pc[T], ps[T];
  void *rx = to_real(k, T * W, x), *rc = to_real(k, T * 4, c), *rs = to_real(k, T * 4, s);
  const int64_t dense[3] = {T * W, W, W}, two[3] = {T * 2, 2, 2};
  k->rotary(1, T, 1, W, 8, false, -1, rc, rs, dense, rx, dense, rx);
  int different = 0;
  for (int i = 0; i < 4; i++) {
    for (int t = 0; t < T; t++) part[2 * t] = x[t * W + i], part[2 * t + 1] = x[t * W + i + 4], pc[t] = c[t * 4 + i], ps[t] = s[t * 4 + i];
    void *rp = to_real(k, T * 2, part), *c1 = to_real(k, T, pc), *s1 = to_real(k, T, ps);
    k->rotary(1, T, 1, 2, 2, false, -1, c1, s1, two, rp, two, rp);
    for (int t = 0; t < 2 * T; t++)
      different += memcmp((char *)rp + (size_t)t * k->element, (char *)rx + (size_t)(t / 2 * W + i + t % 2 * 4) * k->element, k->element) != 0;
    mem_free(rp), mem_free(c1), mem_free(s1);
  }
  ok(different == 0, "%s: four pairs of a head have the bits of each alone (%d differ)", k->name, different);
  mem_free(x), mem_free(c), mem_free(s), mem_free(rx), mem_free(rc), mem_free(rs);
}

/* --- convolution --- */

static void check_conv(const Kernels *k, int64_t batch, int64_t time, int64_t channels, int64_t taps) {
  int64_t size = batch * time * channels;
  double *x = random_array(size, 1), *w = random_array(channels * taps, 1), *dy = random_array(size, 1);
  double *y = zero_array(size), *dx = zero_array(size), *dw = zero_array(channels * taps);
  for (int64_t b = 0; b < batch; b++)
    for (int64_t t = 0; t < time; t++)
      for (int64_t c = 0; c < channels; c++)
        for (int64_t j = 0; j < taps; j++) {
          int64_t from = t - (taps - 1) + j, at = (b * time + t) * channels + c, source = (b * time + from) * channels + c;
          if (from < 0) continue;
          y[at] += w[c * taps + j] * x[source];
          dx[source] += w[c * taps + j] * dy[at];
          dw[c * taps + j] += dy[at] * x[source];
        }
  void *rx = to_real(k, size, x), *rw = to_real(k, channels * taps, w), *rd = to_real(k, size, dy);
  void *ry = to_real(k, size, NULL), *rdx = to_real(k, size, NULL), *rdw = to_real(k, channels * taps, NULL);
  k->conv1d(batch, time, channels, taps, rx, rw, ry);
  k->conv1d_backward(batch, time, channels, taps, rx, rw, rd, rdx, rdw);
  char what[96];
  snprintf(what, sizeof what, "convolution B %ld T %ld C %ld, %ld taps", (long)batch, (long)time, (long)channels, (long)taps);
  same_values(k, size, ry, y, tolerance_of(k, 1e-6, 1e-14), what);
  same_values(k, size, rdx, dx, tolerance_of(k, 1e-6, 1e-14), "dx");
  same_values(k, channels * taps, rdw, dw, tolerance_of(k, 3e-6, 1e-14), "dw");
  mem_free(x), mem_free(w), mem_free(dy), mem_free(y), mem_free(dx), mem_free(dw), mem_free(rx), mem_free(rw), mem_free(rd);
}

static void threads_body(void *context, void *out) {
  const Kernels *k = kernels_of(0, F32);
  float *x = context, *o = out;
  int64_t size = 3 * 50 * 150;
  k->conv1d(3, 50, 150, 4, x, x, o);
  k->conv1d_backward(3, 50, 150, 4, x, x, o, o + size, o + 2 * size);
  int64_t dense[3] = {50 * 150, 150, 15};
  k->rotary(3, 50, 10, 15, 8, false, 1, x, x, dense, x, dense, o + 2 * size + 600);
}

int main(void) {
  const int64_t turns[][5] = {{1, 1, 1, 2, 2}, {2, 5, 3, 8, 8}, {1, 9, 2, 10, 4}, {2, 3, 1, 64, 64}, {1, 4, 2, 7, 6}, {3, 70, 4, 32, 8}};
  for (int i = 0; i < 6; i++)
    for (int pair = 0; pair < 2; pair++)
      for (int type = 0; type < 2; type++)
        check_rotary(kernels_of(0, type ? F64 : F32), turns[i][0], turns[i][1], turns[i][2], turns[i][3], turns[i][4], pair);
  check_four(kernels_of(0, F32)), check_four(kernels_of(0, F64));
  const int64_t filters[][4] = {{1, 1, 1, 1}, {1, 1, 3, 4}, {2, 9, 5, 3}, {1, 30, 64, 4}, {2, 11, 65, 8}, {1, 40, 131, 9}, {3, 5, 2, 20}};
  for (int i = 0; i < 7; i++) {
    check_conv(kernels_of(0, F32), filters[i][0], filters[i][1], filters[i][2], filters[i][3]);
    check_conv(kernels_of(0, F64), filters[i][0], filters[i][1], filters[i][2], filters[i][3]);
  }
  double *x = random_array(3 * 50 * 150, 1);
  void *r = to_real(kernels_of(0, F32), 3 * 50 * 150, x);
  same_bits("convolution and rotary", threads_body, r, (3 * 3 * 50 * 150 + 600) * 4);
  mem_free(x), mem_free(r);
  return done();
}

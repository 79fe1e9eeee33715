/* cholesky.c - a = l l^T, recursively, so that nearly all of the work is products (Gustavson, "Recursion
 * leads to automatic variable blocking for dense linear-algebra algorithms", 1997):
 *
 *   |A11     |   L11 = factor of A11,   L21 = A21 L11^-T,   L22 = factor of A22 - L21 L21^T
 *   |A21  A22|
 *
 * and L21 by halves of L11 likewise. Blocks of LEAF columns are factored by plain loops; the inverse of
 * each is kept, so that solving with it is a product, too. Unlike LAPACK's on OpenBLAS, the bits do not
 * depend on the number of threads, and on two of them it takes half the time (docs/performance.md). */
#include <string.h>

#include "kernel/cpu/cpu.h"
#include "kernel/cpu/gemm.h"

enum { LEAF = CHOLESKY_LEAF };

typedef struct Factor {
  real *a;        /* (n, n), rows ld apart */
  int64_t n, ld;
  real *inverse;  /* LEAF x LEAF an entry: inverse of the diagonal block of columns LEAF i.. */
  real *band;     /* (n, LEAF): a block of columns before it is solved */
} Factor;

static real *place(const Factor *f, int64_t i, int64_t j) { return f->a + i * f->ld + j; }
static real *inverse_of(const Factor *f, int64_t j) { return f->inverse + j / LEAF * (LEAF * LEAF); }

/* Half of n, on a border of leaves. */
static int64_t first_half(int64_t n) { return (n / 2 + LEAF - 1) / LEAF * LEAF; }

/* ---- leaves: n <= LEAF ---- */

/* Row by row: l_ij = (a_ij - sum_k l_ik l_jk) / l_jj. */
static int64_t factor_leaf(int64_t n, real *a, int64_t ld) {
  for (int64_t i = 0; i < n; i++) {
    real *row = a + i * ld;
    for (int64_t j = 0; j <= i; j++) {
      const real *other = a + j * ld;
      real sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < j; k++) sum += row[k] * other[k];
      sum = row[j] - sum;
      if (j < i) row[j] = sum / other[j];
      else if (!(sum > 0) || sum > REAL_MAX) return i + 1;
      else row[i] = real_sqrt(sum);
    }
  }
  return 0;
}

/* inverse (n, n; zeros above) of the lower triangle l: row i is (e_i - sum_k l_ik row k) / l_ii. */
static void invert_leaf(int64_t n, const real *l, int64_t ld, real *inverse) {
  memset(inverse, 0, LEAF * LEAF * sizeof *inverse);
  for (int64_t i = 0; i < n; i++) {
    real *row = inverse + i * LEAF;
    const real scale = 1 / l[i * ld + i];
    for (int64_t k = 0; k < i; k++)
#pragma omp simd
      for (int64_t j = 0; j < LEAF; j++) row[j] -= l[i * ld + k] * inverse[k * LEAF + j];
    row[i] = 1;
#pragma omp simd
    for (int64_t j = 0; j < LEAF; j++) row[j] *= scale;
  }
}

/* ---- L21: rows [i, i + m) of columns [j, j + n) of what was A, solved with the factor at (j, j) ---- */

static void solve_leaf(const Factor *f, int64_t i, int64_t m, int64_t j, int64_t n) {
#pragma omp parallel for schedule(static) if (m * n > PARALLEL_GRAIN)
  for (int64_t r = 0; r < m; r++) memcpy(f->band + r * LEAF, place(f, i + r, j), (size_t)n * sizeof(real));
  K(product)(&(Product){.transpose_b = true, .m = m, .n = n, .k = n, .lda = LEAF, .ldb = LEAF, .ldc = f->ld, .alpha = 1, .a = f->band,
                        .b = inverse_of(f, j), .c = place(f, i, j)});
}

static void solve(const Factor *f, int64_t i, int64_t m, int64_t j, int64_t n) {
  if (n <= LEAF) {
    solve_leaf(f, i, m, j, n);
    return;
  }
  const int64_t h = first_half(n);
  solve(f, i, m, j, h);
  K(product)(&(Product){.transpose_b = true, .m = m, .n = n - h, .k = h, .lda = f->ld, .ldb = f->ld, .ldc = f->ld, .alpha = -1, .beta = 1,
                        .a = place(f, i, j), .b = place(f, j + h, j), .c = place(f, i, j + h)});
  solve(f, i, m, j + h, n - h);
}

/* ---- the whole ---- */

static int64_t factor(const Factor *f, int64_t j, int64_t n) {
  if (n <= LEAF) {
    int64_t bad = factor_leaf(n, place(f, j, j), f->ld);
    if (!bad) invert_leaf(n, place(f, j, j), f->ld, inverse_of(f, j));
    return bad ? j + bad : 0;
  }
  const int64_t h = first_half(n), rest = n - h;
  int64_t bad = factor(f, j, h);
  if (bad) return bad;
  solve(f, j + h, rest, j, h);
  const real *l = place(f, j + h, j);
  K(product)(&(Product){.transpose_b = true, .m = rest, .n = rest, .k = h, .lda = f->ld, .ldb = f->ld, .ldc = f->ld, .alpha = -1, .beta = 1,
                        .a = l, .b = l, .c = place(f, j + h, j + h), .lower = true});
  return factor(f, j + h, rest);
}

int64_t K(cholesky)(int64_t n, void *a, int64_t lda, void *scratch) {
  const int64_t leaves = (n + LEAF - 1) / LEAF;
  const Factor f = {a, n, lda, scratch, (real *)scratch + leaves * LEAF * LEAF};
  return n ? factor(&f, 0, n) : 0;
}

/* hadamard.c - Hadamard matrices from their constructions.
 *
 * Paley (1933): with X(i, j) = chi(i - j) the quadratic character of a field of q elements, q = 3 mod 4 gives
 * size q + 1, q = 1 mod 4 gives size 2 (q + 1). Fields here: q prime, and q = p^2 (52 needs 25).
 * Goethals and Seidel (1967): four circulant matrices A, B, C, D of size n with A A^T + B B^T + C C^T + D D^T = 4n I
 * give size 4n. Where a row of A is constant on the orbits of a subgroup of the units mod n, four rows are a few
 * bits each and are found by trying all of them: 156 and 172, which Paley's constructions leave out. */
#include "linalg/hadamard.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

enum { LARGEST_BASE = 512 };

/* --- Paley --- */

static bool is_prime(int64_t n) {
  for (int64_t d = 2; d * d <= n; d++)
    if (n % d == 0) return false;
  return n > 1;
}

/* p where q = p or q = p^2 for a prime p, else 0. */
static int64_t prime_below(int64_t q) {
  if (is_prime(q)) return q;
  for (int64_t p = 3; p * p <= q; p++)
    if (p * p == q && is_prime(p)) return p;
  return 0;
}

typedef struct Field {
  int64_t q, p;
  int64_t root;              /* q = p^2: elements a + b sqrt(root), numbered a + p b; root is no square mod p */
  int8_t chi[LARGEST_BASE];  /* quadratic character mod p: 1 for squares, -1 for others, 0 for 0 */
} Field;

static void field_make(int64_t q, Field *f) {
  f->q = q, f->p = prime_below(q), f->root = 0;
  memset(f->chi, -1, sizeof f->chi);
  for (int64_t x = 1; x < f->p; x++) f->chi[x * x % f->p] = 1;
  f->chi[0] = 0;
  while (f->p != q && f->chi[f->root] != -1) f->root++;
}

/* chi(x - y). In a field of p^2 elements z is a square if its norm z^(p+1) = a^2 - root b^2 is one mod p. */
static int character(const Field *f, int64_t x, int64_t y) {
  int64_t p = f->p, a = (x % p - y % p + p) % p, b = (x / p - y / p + p) % p;
  return f->q == p ? f->chi[a] : f->chi[((a * a - f->root * b * b) % p + p) % p];
}

/* The bordered matrix of characters (q + 1, q + 1): first row ones, first column sign, corner 0. */
static int bordered(const Field *f, int64_t i, int64_t j, int sign) {
  if (i == 0 || j == 0) return i == j ? 0 : i == 0 ? 1 : sign;
  return character(f, i - 1, j - 1);
}

static void paley_one(int64_t m, int8_t *h) { /* I + S, S skew */
  Field f;
  field_make(m - 1, &f);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < m; j++) h[i * m + j] = (int8_t)(bordered(&f, i, j, -1) + (i == j));
}

static void paley_two(int64_t m, int8_t *h) { /* each entry of the symmetric C becomes a 2 x 2 block */
  static const int8_t off[2][2] = {{1, 1}, {1, -1}}, diagonal[2][2] = {{1, -1}, {-1, -1}};
  Field f;
  field_make(m / 2 - 1, &f);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < m; j++) {
      int c = bordered(&f, i / 2, j / 2, 1);
      h[i * m + j] = c ? (int8_t)(c * off[i % 2][j % 2]) : diagonal[i % 2][j % 2];
    }
}

/* --- Goethals and Seidel --- */

/* A row of n values is 1 at 0 and constant on the orbits of `generator` mod n, numbered by their smallest member: bit o of
 * a mask set means -1 on orbit o. The four masks of a size are the first that a search over all quadruples meets. */
typedef struct Circulants {
  int n, generator;
  uint16_t mask[4];
} Circulants;

static const Circulants circulants[] = {
  {39, 29, {240, 244, 118, 410}}, /* 9 orbits */
  {43, 4, {13, 27, 7, 7}},        /* 6 orbits */
};
enum { CIRCULANTS = sizeof circulants / sizeof *circulants, LARGEST_CIRCULANT = 43 };

static const Circulants *circulants_for(int64_t m) {
  for (int i = 0; i < CIRCULANTS; i++)
    if (4 * circulants[i].n == m) return &circulants[i];
  return NULL;
}

static void orbits(const Circulants *c, int *orbit) { /* of each number mod n; that of 0 is -1 */
  for (int x = 0; x < c->n; x++) orbit[x] = -1;
  for (int x = 1, count = 0; x < c->n; x++) {
    if (orbit[x] >= 0) continue;
    for (int y = x; orbit[y] < 0; y = y * c->generator % c->n) orbit[y] = count;
    count++;
  }
}

/* Blocks (n, n) of H: A on the diagonal, else M R or M^T R, R the reversal of the columns. */
static void goethals_seidel(int64_t m, int8_t *h) {
  static const struct { int8_t part, sign, transpose; } block[4][4] = {
    {{0, 1, 0}, {1, 1, 0}, {2, 1, 0}, {3, 1, 0}},
    {{1, -1, 0}, {0, 1, 0}, {3, 1, 1}, {2, -1, 1}},
    {{2, -1, 0}, {3, -1, 1}, {0, 1, 0}, {1, 1, 1}},
    {{3, -1, 0}, {2, 1, 1}, {1, -1, 1}, {0, 1, 0}},
  };
  const Circulants *c = circulants_for(m);
  int n = c->n, orbit[LARGEST_CIRCULANT];
  orbits(c, orbit);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < m; j++) {
      int part = block[i / n][j / n].part, sign = block[i / n][j / n].sign, row = (int)(i % n), column = (int)(j % n);
      if (part) column = n - 1 - column;
      int k = (column - row + n) % n; /* the circulant's entry is its first row at k; transposed, at -k */
      if (block[i / n][j / n].transpose) k = (n - k) % n;
      h[i * m + j] = (int8_t)(k && c->mask[part] >> orbit[k] & 1 ? -sign : sign);
    }
}

/* --- all --- */

typedef void (*Construction)(int64_t m, int8_t *h);

/* What makes size m, or NULL. */
static Construction construction(int64_t m) {
  if (m % 4) return NULL;
  if (is_prime(m - 1)) return paley_one; /* m - 1 = 3 mod 4 */
  if (m % 8 == 4 && prime_below(m / 2 - 1)) return paley_two; /* m/2 - 1 = 1 mod 4 */
  return circulants_for(m) ? goethals_seidel : NULL;
}

Status hadamard_make(int64_t size, Hadamard *out) {
  *out = (Hadamard){.size = size, .odd = 1};
  int64_t m = size;
  while (m > 1 && m % 2 == 0) m /= 2;
  if (size < 1) return fail(ERR_ARGUMENT, "hadamard: size must be positive, got %lld", (long long)size);
  if (m == 1) return OK;
  while (m <= LARGEST_BASE && m < size && !construction(m)) m *= 2;
  Construction make = m <= LARGEST_BASE ? construction(m) : NULL;
  if (!make || size % m)
    return fail(ERR_UNSUPPORTED, "hadamard: no matrix of size %lld here (2^k, or 2^k times 12, 20, 28, 36, 44, 52, 60, ...); give a block size that is", (long long)size);
  if (!(out->base = mem_alloc((size_t)(m * m)))) return error_code();
  out->odd = m;
  make(m, out->base);
  return OK;
}

void hadamard_free(Hadamard *h) {
  mem_free(h->base);
  h->base = NULL;
}

/* hadamard.c - Paley's constructions (1933). With q prime and X(i, j) = chi(i - j) the quadratic
 * character: q = 3 mod 4 gives size q + 1, q = 1 mod 4 gives size 2 (q + 1). */
#include "linalg/hadamard.h"

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"

enum { LARGEST_BASE = 512 };

static bool is_prime(int64_t n) {
  for (int64_t d = 2; d * d <= n; d++)
    if (n % d == 0) return false;
  return n > 1;
}

/* 1 if a is a square modulo the prime q, -1 if not, 0 if a = 0. */
static int character(int64_t a, int64_t q) {
  a = (a % q + q) % q;
  if (a == 0) return 0;
  for (int64_t x = 1; x <= q / 2; x++)
    if (x * x % q == a) return 1;
  return -1;
}

/* The bordered matrix of characters (q + 1, q + 1): first row ones, first column sign, corner 0. */
static int bordered(int64_t i, int64_t j, int64_t q, int sign) {
  if (i == 0 || j == 0) return i == j ? 0 : i == 0 ? 1 : sign;
  return character(i - j, q);
}

static void paley_one(int64_t q, int8_t *h) { /* I + S, S skew */
  for (int64_t i = 0; i <= q; i++)
    for (int64_t j = 0; j <= q; j++) h[i * (q + 1) + j] = (int8_t)(bordered(i, j, q, -1) + (i == j));
}

static void paley_two(int64_t q, int8_t *h) { /* each entry of the symmetric C becomes a 2 x 2 block */
  static const int8_t off[2][2] = {{1, 1}, {1, -1}}, diagonal[2][2] = {{1, -1}, {-1, -1}};
  int64_t m = 2 * (q + 1);
  for (int64_t i = 0; i < m; i++)
    for (int64_t j = 0; j < m; j++) {
      int c = bordered(i / 2, j / 2, q, 1);
      h[i * m + j] = c ? (int8_t)(c * off[i % 2][j % 2]) : diagonal[i % 2][j % 2];
    }
}

/* Which construction makes size m: 1, 2, or 0 for neither. */
static int construction(int64_t m) {
  if (m % 4) return 0;
  if (is_prime(m - 1)) return 1; /* m - 1 = 3 mod 4 */
  return is_prime(m / 2 - 1) && m / 2 % 4 == 2 ? 2 : 0;
}

Status hadamard_make(int64_t size, Hadamard *out) {
  *out = (Hadamard){.size = size, .odd = 1};
  int64_t m = size;
  while (m > 1 && m % 2 == 0) m /= 2;
  if (size < 1) return fail(ERR_ARGUMENT, "hadamard: size must be positive, got %lld", (long long)size);
  if (m == 1) return OK;
  while (m <= LARGEST_BASE && m < size && !construction(m)) m *= 2;
  int kind = m <= LARGEST_BASE ? construction(m) : 0;
  if (!kind || size % m)
    return fail(ERR_UNSUPPORTED, "hadamard: no matrix of size %lld here (2^k, or 2^k times 12, 20, 28, 36, 44, 60, ...); give a block size that is", (long long)size);
  if (!(out->base = mem_alloc((size_t)(m * m)))) return error_code();
  out->odd = m;
  if (kind == 1) paley_one(m - 1, out->base);
  else paley_two(m / 2 - 1, out->base);
  return OK;
}

void hadamard_free(Hadamard *h) {
  mem_free(h->base);
  h->base = NULL;
}

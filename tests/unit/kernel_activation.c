/* Gradients of activations and their tangents at once, against the two kernels that they join: the same bits, also in place. */
#include <string.h>

#include "tests/unit/kernel_reference.h"

static void check(const Kernels *k, Unary f, int64_t n, bool with_tx, bool with_tg) {
  const size_t bytes = (size_t)n * k->element;
  double *numbers[4];
  void *real[4], *y = to_real(k, n, NULL), *t = to_real(k, n, NULL);
  for (int i = 0; i < 4; i++) numbers[i] = random_array(n, 3), real[i] = to_real(k, n, numbers[i]);
  void *x = real[0], *g = real[1], *tx = with_tx ? real[2] : NULL, *tg = with_tg ? real[3] : NULL;
  void *y2 = to_real(k, n, NULL), *t2 = to_real(k, n, NULL);
  k->activation_backward(f, n, x, g, y);
  if (tx || tg) k->activation_backward_tangent(f, n, x, g, tx, tg, t);
  k->activation_pair(f, n, x, g, tx, tg, y2, tx || tg ? t2 : NULL);
  ok(!memcmp(y, y2, bytes) && (!(tx || tg) || !memcmp(t, t2, bytes)), "%s %d of %d: both at once", k->name, (int)f, (int)n);
  k->activation_pair(f, n, x, g, tx, tg, g, tg ? tg : tx ? t2 : NULL);
  ok(!memcmp(y, g, bytes) && (!tg || !memcmp(t, tg, bytes)) && (tg || !tx || !memcmp(t, t2, bytes)), "in place");
  for (int i = 0; i < 4; i++) mem_free(numbers[i]), mem_free(real[i]);
  mem_free(y), mem_free(t), mem_free(y2), mem_free(t2);
}

int main(void) {
  const Unary functions[] = {U_GELU, U_GELU_TANH, U_SILU};
  const int64_t sizes[] = {1, 7, 64, 1000, 40001};
  for (int d = 0; d < 2; d++)
    for (int f = 0; f < 3; f++)
      for (int i = 0; i < 5; i++)
        for (int with = 0; with < 4; with++) check(kernels_of(0, d ? F64 : F32), functions[f], sizes[i], with & 1, with & 2);
  return done();
}

/* optim.c - the elementwise rules of the optimizers, each one pass over memory.
 *
 * A step hands over all its tensors at once. They are cut into blocks of UPDATE_BLOCK
 * elements, numbered through, and every thread takes one run of blocks: many
 * small tensors cost one parallel region. Rules are elementwise, so any split gives
 * the same bits. Formulas and sources: core/optim/<rule>.c. */
#include "kernel/cpu/cpu.h"
#include "kernel/cpu/real.h"

#include <omp.h>

#define RULE(name) static void name(const Update *u, int64_t from, int64_t to)
#define MAYBE __attribute__((unused))

/* What most rules need: the operands as arrays, the coefficients in the element type. */
#define OPERANDS                                                                                             \
  MAYBE real *restrict w = u->w, *restrict s0 = u->s[0], *restrict s1 = u->s[1], *restrict s2 = u->s[2];     \
  MAYBE const real *restrict grad = u->g;                                                                    \
  MAYBE const Coefficients *c = &u->c;                                                                       \
  MAYBE const real clip = (real)c->clip, lr = (real)c->lr, shrink = (real)c->shrink, decay = (real)c->decay; \
  MAYBE const real b1 = (real)c->beta1, b2 = (real)c->beta2, b3 = (real)c->beta3, eps = (real)c->eps;        \
  MAYBE const real n1 = (real)(1 - c->beta1), n2 = (real)(1 - c->beta2), n3 = (real)(1 - c->beta3);          \
  MAYBE const real c1 = (real)c->scale1, c2 = (real)c->scale2, alpha = (real)c->alpha, mix = (real)c->mix
#define EACH for (int64_t i = from; i < to; i++)

static inline real sign(real x) { return (real)((x > 0) - (x < 0)); }

/* s0: velocity; alpha and beta3 weigh gradient and velocity in the step (Nesterov: 1 and beta1) */
RULE(sgd) {
  OPERANDS;
  EACH {
    real g = clip * grad[i] + decay * w[i];
    s0[i] = b1 * s0[i] + mix * g;
    w[i] -= lr * (alpha * g + b3 * s0[i]);
  }
}

RULE(sgd_plain) {
  OPERANDS;
  EACH w[i] -= lr * (clip * grad[i] + decay * w[i]);
}

/* s0, s1: first and second moment */
RULE(adamw) {
  OPERANDS;
  EACH {
    real g = clip * grad[i];
    real m = s0[i] + n1 * (g - s0[i]);
    real v = b2 * s1[i] + n2 * g * g;
    s0[i] = m, s1[i] = v;
    w[i] = shrink * w[i] - lr * c1 * m / (c2 * real_sqrt(v) + eps);
  }
}

/* s0: momentum */
RULE(lion) {
  OPERANDS;
  EACH {
    real g = clip * grad[i];
    w[i] = shrink * w[i] - lr * sign(b1 * s0[i] + n1 * g);
    s0[i] = b2 * s0[i] + n2 * g;
  }
}

/* s0: momentum, s1: curvature; alpha: rho times the batch */
RULE(sophia) {
  OPERANDS;
  EACH {
    real m = b1 * s0[i] + n1 * clip * grad[i];
    real ratio = real_abs(m) / (alpha * s1[i] + eps);
    s0[i] = m;
    w[i] = shrink * w[i] - lr * sign(m) * real_min(ratio, 1);
  }
}

/* w: the point y of the gradients, s0: the base iterate z, s1: second moment, s2: the average x */
RULE(schedule_free) {
  OPERANDS;
  EACH {
    real g = clip * grad[i];
    real v = b2 * s1[i] + n2 * g * g;
    real z = s0[i] - lr * (decay * w[i] + g / (real_sqrt(v * c2) + eps));
    real x = (1 - mix) * s2[i] + mix * z;
    s0[i] = z, s1[i] = v, s2[i] = x;
    w[i] = b1 * x + n1 * z;
  }
}

/* s0, s2: fast and slow momentum, s1: second moment */
RULE(ademamix) {
  OPERANDS;
  EACH {
    real g = clip * grad[i];
    real m = b1 * s0[i] + n1 * g;
    real v = b2 * s1[i] + n2 * g * g;
    real slow = b3 * s2[i] + n3 * g;
    s0[i] = m, s1[i] = v, s2[i] = slow;
    w[i] = shrink * w[i] - lr * (c1 * m + alpha * slow) / (c2 * real_sqrt(v) + eps);
  }
}

/* s0 <- beta1 s0 + mix g; where s1 is given, s1 <- alpha g + beta3 s0 */
RULE(momentum) {
  OPERANDS;
  if (s1) {
    EACH {
      real g = clip * grad[i];
      s0[i] = b1 * s0[i] + mix * g;
      s1[i] = alpha * g + b3 * s0[i];
    }
  } else {
    EACH s0[i] = b1 * s0[i] + mix * clip * grad[i];
  }
}

/* s0 <- beta2 s0 + mix g^2 */
RULE(moment2) {
  OPERANDS;
  EACH {
    real g = clip * grad[i];
    s0[i] = b2 * s0[i] + mix * g * g;
  }
}

/* s2 <- scale1 s0 / (scale2 sqrt(s1) + eps) */
RULE(normalise) {
  OPERANDS;
  EACH s2[i] = c1 * s0[i] / (c2 * real_sqrt(s1[i]) + eps);
}

/* w <- shrink w - lr s0 */
RULE(apply) {
  OPERANDS;
  EACH w[i] = shrink * w[i] - lr * s0[i];
}

RULE(apply_sign) {
  OPERANDS;
  EACH w[i] = shrink * w[i] - lr * sign(s0[i]);
}

static void (*const rules[])(const Update *, int64_t, int64_t) = {
  [UPDATE_SGD] = sgd, [UPDATE_SGD_PLAIN] = sgd_plain, [UPDATE_ADAMW] = adamw, [UPDATE_LION] = lion, [UPDATE_SOPHIA] = sophia,
  [UPDATE_SCHEDULE_FREE] = schedule_free, [UPDATE_ADEMAMIX] = ademamix, [UPDATE_MOMENTUM] = momentum, [UPDATE_MOMENT2] = moment2,
  [UPDATE_NORMALISE] = normalise, [UPDATE_APPLY] = apply, [UPDATE_APPLY_SIGN] = apply_sign,
};

static int64_t blocks_of(const Update *u) { return (u->n + UPDATE_BLOCK - 1) / UPDATE_BLOCK; }

/* This thread's run of blocks: the tensor and block it starts at, and how many follow. */
static int64_t share(int64_t count, const Update *u, int64_t total, int64_t *tensor, int64_t *block) {
  int64_t threads = omp_get_num_threads(), me = omp_get_thread_num();
  int64_t first = total * me / threads, last = total * (me + 1) / threads;
  *tensor = 0, *block = first;
  while (*tensor < count && *block >= blocks_of(&u[*tensor])) *block -= blocks_of(&u[(*tensor)++]);
  return last - first;
}

void K(update)(UpdateRule rule, int64_t count, const Update *u) {
  int64_t total = 0, elements = 0;
  for (int64_t i = 0; i < count; i++) total += blocks_of(&u[i]), elements += u[i].n;
#pragma omp parallel if (elements > PARALLEL_GRAIN)
  {
    int64_t i, block, left = share(count, u, total, &i, &block);
    for (; left > 0; left--, block++) {
      while (block >= blocks_of(&u[i])) i++, block = 0;
      int64_t from = block * UPDATE_BLOCK, to = from + UPDATE_BLOCK;
      rules[rule](&u[i], from, to < u[i].n ? to : u[i].n);
    }
  }
}

/* Sum of squares of n values, in eight double lanes added in a fixed order. */
static double block_squares(int64_t n, const real *x) {
  double lane[8] = {0};
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int j = 0; j < 8; j++) lane[j] += (double)x[i + j] * (double)x[i + j];
  for (; i < n; i++) lane[0] += (double)x[i] * (double)x[i];
  return ((lane[0] + lane[1]) + (lane[2] + lane[3])) + ((lane[4] + lane[5]) + (lane[6] + lane[7]));
}

void K(gradient_squares)(int64_t count, const Update *u, double *partial) {
  int64_t total = 0, elements = 0;
  for (int64_t i = 0; i < count; i++) total += blocks_of(&u[i]), elements += u[i].n;
#pragma omp parallel if (elements > PARALLEL_GRAIN)
  {
    int64_t i, block, left = share(count, u, total, &i, &block), slot = total * omp_get_thread_num() / omp_get_num_threads();
    for (; left > 0; left--, block++, slot++) {
      while (block >= blocks_of(&u[i])) i++, block = 0;
      int64_t from = block * UPDATE_BLOCK, n = u[i].n - from;
      partial[slot] = block_squares(n < UPDATE_BLOCK ? n : UPDATE_BLOCK, (const real *)u[i].g + from);
    }
  }
}

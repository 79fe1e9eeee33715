/* quant.h - number formats as plain data, and the kernels that quantize.
 *
 * A format is a grid (the values an element can take before its scale), a rule that
 * gives a group of weights its scale, and the way the scale itself is stored:
 *
 *   w is replaced by s * level(w / s),  s from the group's values, rounded as stored.
 *
 * There is one definition of each format's rounding (cpu/quant_round.h); round to
 * nearest, GPTQ, the searches and quantization-aware training all call it. */
#ifndef quench_kernel_quant_h
#define quench_kernel_quant_h

#include <stdbool.h>
#include <stdint.h>

#include "base/random.h"
#include "tensor/tensor.h"

enum { MAX_LEVELS = 256, GPTQ_BLOCK = 256, SCALE_BLOCK = 256 };

typedef enum GridKind {
  GRID_INTEGER, /* codes low..high; the level is code - zero */
  GRID_FLOAT,   /* a small float, with subnormals, without infinities */
  GRID_LEVELS   /* any ascending list */
} GridKind;

typedef struct Grid {
  GridKind kind;
  int low, high;              /* INTEGER */
  bool whole_zero;            /* INTEGER: the zero point is added after rounding (GPTQ); else before (a real offset) */
  int exponent_min, fraction; /* FLOAT: exponent of the smallest normal number, bits of the fraction */
  int exponent_max;           /* FLOAT: exponent of the largest number */
  double reach;               /* the largest level: what a group's largest magnitude is mapped to */
  int count;                  /* LEVELS */
  double level[MAX_LEVELS];
  bool own_steps;             /* LEVELS: step[i] is the largest value that goes to level i; else half way to the next level */
  double step[MAX_LEVELS];
} Grid;

/* How the scale follows from a group's values; m = max |w|. */
typedef enum Range {
  RANGE_MINMAX,   /* s = (hi - lo) / (high - low), zero = round(-lo / s), with lo <= 0 <= hi */
  RANGE_MINMAX_RAW, /* the same with the plain extremes, hi - lo at least 1e-5, zero kept within the codes (AWQ) */
  RANGE_MINMAX_REAL, /* the plain extremes, zero = -lo / s as a real number (HQQ); spans up to 1e-4 give s = 1, s at least 5e-5 */
  RANGE_GPTQ,     /* s = 2 m / (high - low): the largest positive level falls short of m by one step */
  RANGE_ABSMAX,   /* s = m / reach */
  RANGE_ABSMEAN,  /* s = factor * mean |w| */
  RANGE_RMS       /* s = factor * sqrt(mean w^2) */
} Range;

typedef enum ScaleStore {
  STORE_EXACT,    /* as computed, in the tensor's own type */
  STORE_F16, STORE_BF16,
  STORE_E8M0,     /* a power of two (OCP microscaling); see PowerRounding */
  STORE_E4M3,     /* an 8-bit float */
  STORE_E4M3_TENSOR, /* an 8-bit float times one number for the tensor, `unit` = max |w| / (448 reach) */
  STORE_DYNAMIC8  /* mean removed, then bitsandbytes' 8-bit dynamic code in blocks of 256 */
} ScaleStore;

/* How a group's m becomes a power of two; e = exponent of the grid's largest number. */
typedef enum PowerRounding {
  POWER_FLOOR, /* 2^(floor(log2 m) - e): OCP; the largest values may saturate */
  POWER_RCEIL, /* 2^ceil(log2(m / reach)): never saturates */
  POWER_CEIL,  /* 2^(ceil(log2 m) - e) */
  POWER_EVEN   /* as FLOOR, after rounding m to the grid's fraction */
} PowerRounding;

typedef struct Format {
  char name[48];
  double bits;       /* of one element; log2 of the levels where they are no power of two */
  Grid grid;
  Range range;
  double zero;       /* the zero point where range does not give one */
  double factor;     /* ABSMEAN, RMS */
  ScaleStore store;
  PowerRounding power;
  int64_t group;     /* columns that share a scale; 0: a row; -1: the tensor */
  double clip;       /* the range is multiplied by it before the scale is taken; 1: none */
  int search;        /* candidates of the clip search: clip * (1 - i / steps), i < search; 0: no search */
  int search_steps;
  double norm;       /* the search minimises sum |error|^norm */
} Format;

/* Rows of a matrix cut into groups of `size` columns (the last may be short).
 * Scale and zero of row r, group j sit at [r * slots + j]. */
typedef struct Groups {
  int64_t rows, cols, ld, size, slots;
} Groups;

/* One block of columns of GPTQ; see gptq.c for the meaning of the matrices. */
typedef struct GptqBlock {
  int64_t rows, n;
  void *current;        /* (rows, n), stride ld_current: values with the finished blocks' errors compensated; scratch */
  int64_t ld_current;
  void *w;              /* (rows, n), stride ld: in the weights, out weight - quantized */
  void *q;              /* (rows, n), stride ld: out the quantized values */
  int64_t ld;
  const void *inverse;  /* (n, n): this block of the inverse factor, upper triangular */
  const void *drift;    /* (n, n) or NULL: GPTAQ's correction, strictly upper */
  const int32_t *slot;  /* (n): where each column's scale is */
  const void *scale, *zero; /* (rows, slots) */
  int64_t slots;
  double *loss;         /* (rows): adds e^2 / 2 */
} GptqBlock;

typedef struct QuantKernels {
  /* Scale and zero of every group; unit is that of STORE_E4M3_TENSOR, 1 otherwise. STORE_DYNAMIC8 is left to store_scales. */
  void (*params)(const Format *f, double unit, const Groups *g, const void *w, void *scale, void *zero);
  /* Second step of STORE_DYNAMIC8, for all n scales of a tensor. extra (one a SCALE_BLOCK, and one): gets the blocks' largest
   * magnitudes and, last, the mean. */
  void (*store_scales)(int64_t n, void *scale, float *extra);
  /* The stored numbers of scales (F16, BF16, E8M0, E4M3, DYNAMIC8), and back. extra: of store_scales; the unit of
   * STORE_E4M3_TENSOR; NULL for the others. */
  void (*encode_scales)(const Format *f, const float *extra, int64_t n, const void *scale, int32_t *codes);
  void (*decode_scales)(const Format *f, const float *extra, int64_t n, const int32_t *codes, void *scale);
  /* codes <- zero - base, and back: whole zero points. */
  void (*encode_zeros)(int64_t n, const void *zero, int base, int32_t *codes);
  void (*decode_zeros)(int64_t n, const int32_t *codes, int base, void *zero);
  /* y <- dequantised w (may be the same memory; stride g->ld both). codes (rows, cols) dense, or NULL. random: NULL rounds to nearest. */
  void (*round)(const Format *f, const Groups *g, const void *w, const void *scale, const void *zero, const Random *random, void *y, int32_t *codes);
  /* The codes of quantized values y less base, and back. slot: the group of each column, NULL where groups are runs of columns. */
  void (*encode)(const Format *f, const Groups *g, const int32_t *slot, const void *y, const void *scale, const void *zero, int base,
                 int32_t *codes);
  void (*decode)(const Format *f, const Groups *g, const int32_t *slot, const int32_t *codes, int base, const void *scale, const void *zero, void *y);

  /* mask <- 1 where w is between the lowest and the highest level of its group, else 0. */
  void (*inside)(const Format *f, const Groups *g, const void *w, const void *scale, const void *zero, void *mask);
  /* mask <- 1 where |q - w| <= trust times the group's root mean square (RANGE_RMS formats), else 0. */
  void (*trust)(const Format *f, const Groups *g, double trust, const void *w, const void *q, const void *scale, void *mask);

  /* y <- blocks of x's rows times an orthogonal Hadamard matrix of size block (linalg/hadamard.h). */
  void (*hadamard)(int64_t rows, int64_t cols, int64_t block, int64_t odd, const int8_t *base, bool transpose, const void *x, void *y);

  /* One step of HQQ: moves the zero points, adds each row's sum |error| (before the move) to error. */
  void (*hqq_step)(const Format *f, const Groups *g, const void *w, const void *scale, void *zero, double p, double beta, double *error);

  double (*absmax)(int64_t n, const void *x);
  double (*squared_error)(int64_t n, const void *x, const void *y);

  void (*diagonal)(int64_t n, const void *h, double *d);
  /* out (n, n), lower triangle: rows and columns in the order n-1 .. 0 of order[]; diagonal d[order] + add. */
  void (*reverse)(int64_t n, const void *h, const int32_t *order, const double *d, double add, double *out);
  /* out (n, n): rows and columns of h in the given order */
  void (*permute)(int64_t n, const void *h, const int32_t *order, double *out);
  /* y (rows, cols) dense <- x with row stride ld */
  void (*cast_rows)(int64_t rows, int64_t cols, const double *x, int64_t ld, void *y);
  /* y[i] <- x[n - 1 - i] */
  void (*reverse_cast)(int64_t n, const double *x, void *y);
  /* y[:, j] <- x[:, order[j]]; order[j] < 0 gives zeros */
  void (*gather_columns)(int64_t rows, int64_t cols, const void *x, int64_t ldx, const int32_t *order, void *y, int64_t ldy);

  void (*gptq_block)(const Format *f, const GptqBlock *b);
} QuantKernels;

/* Codes 0 .. 2^bits - 1 to a stream of 32-bit words, lowest bits first, and back. */
int64_t packed_words(int64_t n, int bits);
void pack_bits(int64_t n, int bits, const int32_t *codes, int32_t *words);
void unpack_bits(int64_t n, int bits, const int32_t *words, int32_t *codes);
/* Codes 0 .. 2, twenty to a word. */
int64_t packed_words_ternary(int64_t n);
void pack_ternary(int64_t n, const int32_t *codes, int32_t *words);
void unpack_ternary(int64_t n, const int32_t *words, int32_t *codes);

/* The table for a device and a real element type; NULL if there is none. */
const QuantKernels *quant_kernels_of(int device, DType d);
static inline const QuantKernels *quant_kernels_for(const Tensor *t) { return quant_kernels_of(t->storage->device, t->dtype); }

#endif

/* format.h - the number formats, by name. A format is plain data (kernel/quant.h); the
 * rows of the table in format.c are the only place that knows one from another.
 *
 *   Format f;
 *   TRY(format_int(4, "asymmetric", &f));
 *   f.group = 128;                        // columns that share a scale; GROUP_ROW, GROUP_TENSOR
 *   TRY(format_check(&f));
 */
#ifndef quench_format_h
#define quench_format_h

#include "base/status.h"
#include "kernel/quant.h"

enum { GROUP_ROW = 0, GROUP_TENSOR = -1 };

/* A row of the table: "nf4", "fp8_e4m3", "mxfp4", "nvfp4", "ternary", ...; int1 to int8, with "_" and a convention; gaussian1 to gaussian8. */
Status format_named(const char *name, Format *out);

/* Integers of 1 to 8 bits. Conventions: "asymmetric" (as GPTQ), "awq" (asymmetric on the plain extremes), "real"
 * (the same with a real zero point, HQQ's), "gptq" (GPTQ's
 * symmetric), "full" (full range), "restricted" (without the lowest code), "midrise" (half-integer levels, none at zero). */
Status format_int(int bits, const char *convention, Format *out);

/* A grid of 2 to 256 ascending levels; a group's largest magnitude goes to the largest magnitude among them. */
Status format_levels(const char *name, int count, const double *levels, Format *out);

/* A staircase: values up to step[i] go to level[i], those above the last step to the last level; count - 1 steps. */
Status format_staircase(const char *name, int count, const double *levels, const double *steps, double reach, Format *out);

/* QuEST's Gaussian grid: half-integer levels, clipped at the multiple of the root mean square that is best for a normal distribution. */
Status format_gaussian(int bits, Format *out);

Status format_check(const Format *f);

/* GPTQ's clip search: ranges shrunk by 1 - i/100 for i < 80, sum |error|^2.4. */
void format_search(Format *f);

/* The groups that a (rows, cols) matrix has: size in columns, slots a row. GROUP_TENSOR is seen as one row. */
Groups format_groups(const Format *f, int64_t rows, int64_t cols);

/* Stored bits a weight of a (rows, cols) matrix, scales and zero points included. */
double format_bits(const Format *f, int64_t rows, int64_t cols);
double format_scale_bits(const Format *f); /* of one group's scale and zero point */

/* The levels of the grid, ascending; returns their number (at most 65536 for room). */
int format_level_list(const Format *f, int room, double *levels);

/* Names and one-line meanings of the table, for help and tests; NULL past the end. */
const char *format_name(int index);
const char *format_doc(int index);

Status format_store_parse(const char *name, ScaleStore *out);   /* "exact", "f16", "bf16", "e8m0", "e4m3", "dynamic8" */
Status format_power_parse(const char *name, PowerRounding *out); /* "floor", "rceil", "ceil", "even" */
const char *format_store_name(const Format *f);
const char *format_power_name(const Format *f);

#endif

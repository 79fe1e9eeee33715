/* probe.h - how fast this processor could go at best, to judge measured speed by.
 *
 * Shared machines change speed by a factor of two within the hour, so a rate means
 * something only beside a probe taken at the same moment. */
#ifndef quench_probe_h
#define quench_probe_h

/* GFLOP/s of one thread that only multiplies and adds in registers, in float, with the
 * widest vectors the processor has. Runs for about `seconds`. */
double probe_fma(double seconds);

/* The same of the processor's dot instruction on bf16 numbers (AVX-512 BF16); 0 where there is none. */
double probe_bf16(double seconds);

/* GFLOP/s of an n x n x n product of floats through OpenBLAS with the threads set now;
 * the best of `repeats`. Negative if there is no memory (the error is recorded). */
double probe_sgemm(int n, int repeats);

#endif

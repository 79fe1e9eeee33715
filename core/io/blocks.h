/* blocks.h - the quantized blocks of GGUF files, into floats (formats of github.com/ggml-org/ggml).
 *
 *   Q8_0  32 values: f16 scale d, 32 signed bytes          x = d q
 *   Q4_0  32 values: f16 scale d, 16 bytes of two 4-bit q  x = d (q - 8); low halves first
 *   Q4_K  256 values: f16 d, f16 m, 8 pairs of 6-bit (s, t) in 12 bytes, 128 bytes of 4-bit q
 *         sub-block j of 32: x = d s_j q - m t_j
 *   Q6_K  256 values: 128 bytes of low 4 bits, 64 bytes of high 2 bits, 16 signed scales s, f16 d
 *         sub-block j of 16: x = d s_j (q - 32) */
#ifndef quench_blocks_h
#define quench_blocks_h

#include "io/element.h"

float element_half(uint16_t h); /* IEEE half to float */

void blocks_decode(Element e, const uint8_t *data, int64_t blocks, float *out);

#endif

/* quant.c - the quantization tables of the devices. */
#include "kernel/quant.h"

extern const QuantKernels cpu_f32_quant_kernels, cpu_f64_quant_kernels;

static const QuantKernels *const devices[][2] = {{&cpu_f32_quant_kernels, &cpu_f64_quant_kernels}};

const QuantKernels *quant_kernels_of(int device, DType d) {
  if (device < 0 || device >= (int)(sizeof devices / sizeof *devices) || !dtype_is_real(d)) return NULL;
  return devices[device][d == F64];
}

/* table.c - the CPU's table of kernels for one element type. */
#include "kernel/cpu/cpu.h"

const Kernels K(kernels) = {
  .name = "cpu " REAL_NAME,
  .element = sizeof(real),
  .fill = K(fill), .copy = K(copy), .unary = K(unary), .binary = K(binary), .select = K(select), .multiply_add = K(multiply_add),
  .uniform = K(uniform), .normal = K(normal), .arange = K(arange),
  .reduce = K(reduce), .cumsum = K(cumsum), .dot = K(dot), .all_finite = K(all_finite),
  .logsumexp = K(logsumexp), .softmax = K(softmax), .softmax_backward = K(softmax_backward),
  .gemm = K(gemm),
  .gather_rows = K(gather_rows), .scatter_add_rows = K(scatter_add_rows), .pick = K(pick), .unpick = K(unpick),
};

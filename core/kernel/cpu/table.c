/* table.c - the CPU's table of kernels for one element type. */
#include "kernel/cpu/cpu.h"

const Kernels K(kernels) = {
  .name = "cpu " REAL_NAME,
  .element = sizeof(real),
  .fill = K(fill), .copy = K(copy), .unary = K(unary), .binary = K(binary), .select = K(select), .multiply_add = K(multiply_add),
  .uniform = K(uniform), .normal = K(normal), .arange = K(arange),
  .reduce = K(reduce), .cumsum = K(cumsum), .dot = K(dot), .all_finite = K(all_finite),
  .logsumexp = K(logsumexp), .softmax = K(softmax), .softmax_backward = K(softmax_backward),
  .select_rows = K(select_rows),
  .gemm = K(gemm), .gram = K(gram), .cholesky = K(cholesky),
  .inner_products = K(inner_products), .combine = K(combine),
  .gather_rows = K(gather_rows), .scatter_add_rows = K(scatter_add_rows), .pick = K(pick), .unpick = K(unpick),
  .layer_norm = K(layer_norm), .layer_norm_backward = K(layer_norm_backward), .rms_norm = K(rms_norm), .rms_norm_backward = K(rms_norm_backward),
  .norm_tangent = K(norm_tangent), .norm_backward_tangent = K(norm_backward_tangent),
  .cross_entropy = K(cross_entropy), .cross_entropy_backward = K(cross_entropy_backward),
  .cross_entropy_backward_tangent = K(cross_entropy_backward_tangent), .cross_entropy_pair = K(cross_entropy_pair),
  .rotary = K(rotary), .turn = K(turn),
  .attention = K(attention), .attention_backward = K(attention_backward), .attention_tangent = K(attention_tangent),
  .attention_backward_tangent = K(attention_backward_tangent),
  .activation_backward = K(activation_backward), .activation_backward_tangent = K(activation_backward_tangent),
  .activation_pair = K(activation_pair),
  .dropout = K(dropout),
  .conv1d = K(conv1d), .conv1d_backward = K(conv1d_backward),
  .scan = K(scan),
  .update = K(update), .gradient_squares = K(gradient_squares),
};

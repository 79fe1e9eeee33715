/* quant_table.c - the table of quantization kernels of this element type. */
#include "kernel/cpu/quant.h"

const QuantKernels K(quant_kernels) = {
  .params = K(quant_params), .store_scales = K(quant_store_scales), .round = K(quant_round),
  .encode_scales = K(quant_encode_scales), .decode_scales = K(quant_decode_scales), 
  .encode_zeros = K(quant_encode_zeros), .decode_zeros = K(quant_decode_zeros),
  .encode = K(quant_encode), .decode = K(quant_decode),
  .inside = K(quant_inside), .trust = K(quant_trust), .hadamard = K(quant_hadamard),
  .hqq_step = K(quant_hqq_step),
  .absmax = K(quant_absmax), .squared_error = K(quant_squared_error),
  .diagonal = K(quant_diagonal), .reverse = K(quant_reverse), .permute = K(quant_permute),
  .cast_rows = K(quant_cast_rows), .reverse_cast = K(quant_reverse_cast), .gather_columns = K(quant_gather_columns),
  .gptq_block = K(quant_gptq_block),
};

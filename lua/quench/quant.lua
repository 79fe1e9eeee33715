--- q.quant: number formats, post-training quantization, quantization-aware training.
-- One file a method in quant/; this table is all of them.

local M = {}

local function add(module)
  for _, name in ipairs(module.public) do M[name] = module[name] end
end

add(require "quench.quant.format")
M.rtn = require "quench.quant.rtn"
M.gptq = require("quench.quant.gptq").gptq
M.hessian = require("quench.quant.inputs").hessian
add(require "quench.quant.hqq")
add(require "quench.quant.awq")
add(require "quench.quant.smoothquant")
add(require "quench.quant.fake")
add(require "quench.quant.qat")
add(require "quench.quant.pack")
add(require "quench.quant.packed")
add(require "quench.quant.calibration")
add(require "quench.quant.model")
add(require "quench.quant.rotate")
add(require "quench.quant.sensitivity")
add(require "quench.quant.probe")
add(require "quench.quant.figure")

return M

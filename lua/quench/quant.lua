--- q.quant: number formats, post-training quantization, quantization-aware training.
-- One file a method in quant/; this table is all of them.

local M = {}

local function add(module)
  for name, value in pairs(module) do M[name] = value end
end

add(require "quench.quant.format")
M.rtn = require "quench.quant.rtn"
local gptq = require "quench.quant.gptq"
M.gptq, M.hessian = gptq.gptq, gptq.hessian

return M

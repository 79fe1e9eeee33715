--- hqq.lua - half-quadratic quantization: no calibration, zero points fitted to the bulk of the weights.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"

local M = {public = {"hqq"}}

local own = {
  {"iterations", "integer", default = 20, min = 0, doc = "at most; it stops when the mean |error| stops falling"},
  {"p", "number", default = 0.7, above = 0, max = 1, doc = "sum |error|^p is made small"},
  {"beta", "number", default = 10, above = 0, doc = "how hard errors are shrunk"},
}

local function with_grid(group)
  local entries = {
    {"bits", "integer", default = 4, min = 1, max = 8, doc = "bits"},
    {"group", "integer|string", default = group, doc = "columns that share a scale and a zero point; 'row' (or -1) or 'tensor'"},
  }
  for _, e in ipairs(own) do entries[#entries + 1] = e end
  return entries
end

M.entries = with_grid "row" -- of q.quant.quantize, as its other methods
local spec = options.spec("q.quant.hqq", with_grid(64))

--- The same with checked options.
function M.run(w, o)
  local y, report = c.hqq(w, {bits = o.bits, group = format.group_number(o.group), iterations = o.iterations, p = o.p, beta = o.beta})
  report.format = format.plain(format.int(o.bits, {convention = "real", group = o.group}))
  return y, report
end

--- q.quant.hqq(w, options) -> w as quantized, report.
function M.hqq(w, o) return M.run(w, spec(o)) end

help.add{"q.quant.hqq", M.hqq, "hqq(w, options) -> tensor, report",
  "Integers with real zero points, moved so that most weights fit well and few fit badly.", options = spec,
  shapes = "w (..., in); groups run along the last axis", returns = "the dequantised tensor; {scale=, zero=, mse=, bits=, iterations=}",
  errors = "NaN or infinity in w", source = "Badri and Shaji 2023, the default loop of mobiusml/hqq",
  example = "local y, report = q.quant.hqq(q.randn(64, 256), {bits = 3})\nprint(report.mse)", see = {"q.quant.rtn"}}

return M

--- rtn.lua - round to nearest, each weight by itself.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"

local spec = options.spec("q.quant.rtn", {
  {"stream", "any", doc = "a random stream (q.stream): round up or down at random, right on average; the stream advances"},
  {"codes", "boolean", default = false, doc = "report.codes: the stored integer of each weight"},
})

--- q.quant.rtn(w, format, options) -> w as quantized, report.
local function rtn(w, what, o)
  o = spec(o)
  return c.rtn(w, format.format(what), o.stream, o.codes)
end

help.add{"q.quant.rtn", rtn, "rtn(w, format, options) -> tensor, report",
  "Quantizes to the nearest level and gives the values the quantized weight stands for.",
  options = spec, shapes = "w (..., in); groups run along the last axis",
  returns = "the dequantised tensor; {scale=, zero=, mse=, bits=, codes=}: scales (rows, groups), mean squared error, stored bits a weight",
  errors = "NaN or infinity in w", source = "training-dynamics notes 3.1; formats: q.quant.formats()",
  example = "local y, report = q.quant.rtn(q.randn(64, 256), 'nf4')\nprint(report.mse, report.bits)", see = {"q.quant.gptq", "q.quant.int"}}

return rtn

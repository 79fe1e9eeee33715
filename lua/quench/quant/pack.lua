--- pack.lua - quantized weights as the bits that are stored.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"

local M = {public = {"pack", "unpack"}}

local parts = {"codes", "scale", "zero", "extra", "group_index"}

--- q.quant.pack(value, format, report) -> {codes=, scale=, zero=, extra=, group_index=, shape=, format=, bytes=}
function M.pack(value, what, report)
  local f = format.format(what)
  if type(report) ~= "table" or not report.scale then options.fail("q.quant.pack: the report that came with the value is needed (its scales)") end
  local packed = c.pack(value:contiguous(), f, report)
  packed.shape, packed.format, packed.bytes = value:shape(), f, 0
  for _, key in ipairs(parts) do
    if packed[key] then packed.bytes = packed.bytes + packed[key]:nbytes() end
  end
  return packed
end

help.add{"q.quant.pack", M.pack, "pack(value, format, report) -> parts",
  "What a quantized weight takes on disk: its codes bit after bit, its scales and zero points as stored.",
  shapes = "value (..., in) f32, as a method gave it with its report",
  returns = "{codes = i32 words, scale =, zero =, extra =, group_index =, shape =, format =, bytes =}",
  errors = "f64 values; a report of another weight",
  example = "local y, report = q.quant.rtn(q.randn(64, 256), 'nf4')\nlocal parts = q.quant.pack(y, 'nf4', report)\n"
    .. "print(parts.bytes * 8 / y:numel(), report.bits)", see = {"q.quant.unpack"}}

--- q.quant.unpack(parts) -> value
function M.unpack(packed)
  if type(packed) ~= "table" or not packed.codes then options.fail("q.quant.unpack: the parts that q.quant.pack gave are needed") end
  return c.unpack(packed, format.format(packed.format), packed.shape)
end

help.add{"q.quant.unpack", M.unpack, "unpack(parts) -> tensor", "The values of a packed weight, to the last bit those that were packed.",
  errors = "parts that do not fit the shape and the format",
  example = "local y, report = q.quant.rtn(q.randn(64, 256), 'int4')\nprint(q.quant.unpack(q.quant.pack(y, 'int4', report)) - y)",
  see = {"q.quant.pack"}}

return M

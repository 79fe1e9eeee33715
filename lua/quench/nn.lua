--- nn.lua - what models are made of: linear layers that can be watched and replaced, and rotary tables.
--
-- A linear layer is a record {name=, weight=, bias=, layer=, group=}. Every model calls it
-- through nn.linear, so that one hook sees all inputs (calibration, outlier metrics) and a
-- record may carry a `forward` of its own (quantized activations, QAT).

local q = require "quench"
local c = require "quench.c.nn"

local nn = {}
for name, fn in pairs(c) do nn[name] = fn end

--- Called as observe(record, x) before each linear layer while set; see nn.watching.
nn.observe = nil

--- x (..., in) times the record's weight (out, in), plus its bias.
function nn.linear(record, x)
  if nn.observe then nn.observe(record, x) end
  if record.forward then return record.forward(record, x) end
  return q.linear(x, record.weight, record.bias)
end

--- Calls fn(...) with observe(record, x) set, and takes it away again whatever happens.
function nn.watching(observe, fn, ...)
  local before = nn.observe
  nn.observe = observe
  local function finish(ok, ...)
    nn.observe = before
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn, ...))
end

--- Cosines and sines (time, rotated/2) of positions 0 .. time-1; frequencies theta^(-2j/rotated),
-- or the list `frequencies` (radians a position) for scaled variants.
function nn.rotary_table(time, rotated, theta, dtype, frequencies)
  local half = rotated / 2
  local f = {}
  for j = 0, half - 1 do f[j + 1] = frequencies and frequencies[j + 1] or theta ^ (-2 * j / rotated) end
  local angles = q.arange(time, "f64"):view(time, 1) * q.tensor(f, "f64"):view(1, half)
  return angles:cos():to(dtype), angles:sin():to(dtype)
end

return nn

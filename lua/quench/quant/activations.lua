--- activations.lua - quantized inputs, keys and values in a model's forward pass.

local q = require "quench"
local nn = require "quench.nn"
local c = require "quench.c.quant"
local fake = require "quench.quant.fake"
local format = require "quench.quant.format"
local options = require "quench.options"

local M = {}

-- What the inputs of a layer go through, by its kind in a report's `inputs` (plain values, which files keep). scale: the
-- layer's channel scales.
local kinds = {}

--- Each token rounded to a format.
function kinds.format(inputs)
  local f = format.format(inputs.format)
  return function(x) return fake.ste(x, f) end
end

--- SmoothQuant: Q(x / s) s.
function kinds.smooth(inputs, scale)
  local f, s, inverse = format.format(inputs.format), q.keep(scale), q.keep(1 / scale)
  return function(x) return fake.ste(x * inverse, f) * s end
end

--- LLM.int8: channels with an |x| of the threshold or more in the batch stay as they are.
function kinds.outlier(inputs)
  local f = format.format(inputs.format)
  return function(x)
    if x:numel() == 0 then return x end
    local calm = x:detach():abs():view(-1, x:size(-1)):max(1):lt(inputs.threshold)
    local rest = x * calm
    return fake.ste(rest, f) + (x - rest)
  end
end

--- The function of x that {kind =, format =, ...} describes.
function M.input(inputs, scale)
  if not kinds[inputs.kind] then options.fail("quant: no way '%s' to quantize inputs is known here", tostring(inputs.kind)) end
  return kinds[inputs.kind](inputs, scale)
end

--- Puts f in front of a linear layer: from now on it multiplies f(x).
function M.install(record, f)
  record.forward = function(r, x) return q.linear(f(x), r.weight, r.bias) end
end

--- f between a Hadamard transform of x and its inverse. block 0: no transform.
function M.rotated(f, block)
  if not block then return f end
  return function(x) return c.hadamard(f(c.hadamard(x, block)), block, true) end
end

--- Makes the model's attention see keys and values rounded to the format, a scale for each token and head. hadamard: in a
-- Hadamard basis of the head (queries are turned with the keys, so that their products stay).
function M.quantize_cache(model, f, hadamard)
  local plain, absorbed = nn.attention, model.rotations and model.rotations.values -- then values are in that basis already
  local function round(x) return fake.ste(x:contiguous(), f) end
  local function attention(query, key, value, ...)
    if not hadamard then return plain(query, round(key), round(value), ...) end
    value = absorbed and round(value) or c.hadamard(round(c.hadamard(value)), nil, true)
    return plain(c.hadamard(query), round(c.hadamard(key)), value, ...)
  end
  local block = model.block
  function model:block(i, h)
    nn.attention = attention
    local function finish(ok, ...)
      nn.attention = plain
      if not ok then error((...), 0) end
      return ...
    end
    return finish(pcall(block, self, i, h))
  end
end

return M

--- activations.lua - quantized inputs, keys and values in a model's forward pass.

local q = require "quench"
local nn = require "quench.nn"
local c = require "quench.c.quant"
local fake = require "quench.quant.fake"

local M = {}

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
function M.quantize_cache(model, format, hadamard)
  local plain = nn.attention
  local function round(x) return fake.ste(x:contiguous(), format) end
  local function attention(query, key, value, ...)
    if not hadamard then return plain(query, round(key), round(value), ...) end
    local turned = round(c.hadamard(value))
    return plain(c.hadamard(query), round(c.hadamard(key)), c.hadamard(turned, nil, true), ...)
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

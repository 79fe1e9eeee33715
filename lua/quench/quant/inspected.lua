--- inspected.lua - the module around some layers (attention, mixer; for an MLP its block), run with other weights in
-- their place: how far its output moves is what AWQ chooses its scales by.

local q = require "quench"
local nn = require "quench.nn"
local system = require "quench.c.system"

local Inspected = {}
Inspected.__index = Inspected

--- model: its blocks before `layer` are done; h: the inputs (B, T, D) of the block, a list of batches; records: the
-- layers, which share one input. nil for layers inside experts, which see a choice of tokens each.
local function new(model, layer, h, records) return setmetatable({model = model, layer = layer, h = h, records = records}, Inspected) end

--- Runs the block on x and gives {record, fn, arguments} of the innermost module that calls the layer; a parallel block
-- adds attention and MLP to the stream, so that for an MLP the block's output moves as the MLP's does.
function Inspected:call(x)
  local model, layer, target = self.model, self.layer, self.records[1]
  local stack, found = {}, nil
  local function trace(record, fn, ...)
    if record == target and not found then found = stack[#stack] end
    stack[#stack + 1] = {record = record, fn = fn, n = select("#", ...), ...}
    local out = fn(record, ...)
    stack[#stack] = nil
    return out
  end
  nn.tracing(trace, model.block, model, layer, x)
  if not found then return function() return model:block(layer, x) end end
  return function() return found.fn(found.record, unpack(found, 1, found.n)) end, found.record.kind
end

--- Puts values into the layers, calls fn, and puts the weights back whatever happens.
local function with_weights(records, values, fn)
  local before = {}
  for i, r in ipairs(records) do before[i] = r.weight:detach():clone() end
  for i, r in ipairs(records) do r.weight:copy_(values[i]) end
  local ok, result = pcall(fn)
  for i, r in ipairs(records) do r.weight:copy_(before[i]) end
  if not ok then error(result, 0) end
  return result
end

--- Which of `count` candidates moves the output least: candidate(k) gives the layers' weights, k from 1. Sums of squares
-- over all batches; the first of equals. Gives its number and its mean squared error, or nil inside experts.
function Inspected:search(count, candidate)
  local totals, values = {}, 0
  for k = 1, count do totals[k] = 0 end
  for _, x in ipairs(self.h) do
    local known = q.scope(function()
      local call, kind = self:call(x)
      if kind == "experts" then return false end
      local expected = call()
      values = values + expected:numel()
      for k = 1, count do
        totals[k] = totals[k] + q.scope(function()
          return with_weights(self.records, candidate(k), function() return (call() - expected):square():sum():item() end)
        end)
      end
      return true
    end)
    if not known then return nil end
    system.check_interrupt()
  end
  local best = 1
  for k = 2, count do
    if totals[k] < totals[best] then best = k end
  end
  return best, totals[best] / values
end

return {new = new}

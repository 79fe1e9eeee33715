--- recompute.lua - activation checkpointing (Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016).
--
-- A block runs without a graph and keeps its input alone; the backward pass runs it again, with the same dropout and
-- precision, and takes the gradients of that. The same bits as without, for about a third more time: of a block's
-- activations only those of the block under way exist. First derivatives only.

local options = require "quench.options"
local nn = require "quench.nn"
local q = require "quench"

local LIMIT = 63 -- inputs that a node of the graph can have beside the block's own

--- The parameters of block i, which the gradients go to.
local function parameters_of(m, i)
  local list = {}
  for _, r in ipairs(m.records) do
    if r.part == i then list[#list + 1] = r.tensor end
  end
  if #list > LIMIT then
    options.fail("recompute: block %d has %d parameters; activation checkpointing takes up to %d a block", i, #list, LIMIT)
  end
  return list
end

--- A function that runs fn(...) as it ran the first time: the draws of dropout, the precision, nobody watching.
local function again(m, precision)
  local stream = m.dropout_stream
  local start = stream and stream:counter()
  return function(fn, ...)
    local now = stream and stream:counter()
    local before, observe = m.dropout_stream, nn.observe
    m.dropout_stream, nn.observe = stream, nil
    if stream then stream:counter(start) end
    local ok, result = pcall(nn.with_precision, precision, fn, ...)
    if stream then stream:counter(now) end
    m.dropout_stream, nn.observe = before, observe
    if not ok then error(result, 0) end
    return result
  end
end

--- m:block(i, h), of which the graph keeps h alone.
return function(m, i, h)
  local parameters = parameters_of(m, i)
  local run = again(m, nn.precision())
  local block = q.custom{
    name = "block",
    forward = function(_, input) return q.scope(m.block, m, i, input) end,
    vjp = function(ctx, g)
      local input = ctx.inputs[1]:detach():requires_grad()
      local targets = {input, unpack(parameters)}
      return unpack(run(q.scope, function()
        local y = q.with_grad(m.block, m, i, input)
        return q.grad(y, targets, {gradient = g})
      end))
    end,
    jvp = function() options.fail("recompute: activation checkpointing gives first derivatives only; leave it out here") end,
  }
  return block(h, unpack(parameters))
end

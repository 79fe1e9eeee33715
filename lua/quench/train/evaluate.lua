--- evaluate.lua - the loss of a model on held-out text, in nats a token and bits a byte.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

local spec = options.spec("q.train.evaluate", {
  {"split", "string", default = "validation", doc = "which part of the data"},
  {"tokens", "integer", default = 16384, min = 1, doc = "how many tokens, from the start of the split", unit = "tokens"},
  {"batch", "integer", default = 8, min = 1, doc = "sequences at a time"},
  {"context", "integer", default = 128, min = 2, doc = "tokens a sequence"},
})

--- Blocks of context + 1 tokens at stride context from the start of a split: every token but the first is
-- predicted once. Returns a list of id tensors (B, context + 1); a short last batch is kept.
function M.blocks(data, o)
  local ids = data:tokens(o.split)
  local count = math.min(math.floor((ids:numel() - 1) / o.context), math.max(1, math.floor(o.tokens / o.context)))
  if count < 1 then
    options.fail("evaluate: the %s split has %d tokens, too few for one context of %d", o.split, ids:numel(), o.context)
  end
  local list = {}
  for first = 0, count - 1, o.batch do
    local rows = {}
    for i = first, math.min(first + o.batch, count) - 1 do
      rows[#rows + 1] = ids:narrow(1, i * o.context + 1, o.context + 1)
    end
    list[#list + 1] = q.stack(rows)
  end
  return list
end

--- {loss = nats a token, bits_per_byte =, tokens = predictions counted}. The mean is over tokens, not batches.
function M.evaluate(model, data, given)
  local o = spec(given)
  return q.scope(q.no_grad, function()
    local total, counted = 0, 0
    for _, ids in ipairs(M.blocks(data, o)) do
      local n = ids:size(1) * (ids:size(2) - 1)
      total = total + model:loss(ids):item() * n
      counted = counted + n
      q.system.check_interrupt()
    end
    local loss = total / counted
    local bytes = data.bytes_per_token and data:bytes_per_token(o.split)
    return {loss = loss, bits_per_byte = bytes and loss / math.log(2) / bytes, tokens = counted}
  end)
end

help.add{"q.train.evaluate", M.evaluate, "q.train.evaluate(model, data, options) -> {loss=, bits_per_byte=, tokens=}",
  "Mean cross-entropy on held-out text, in nats a token and bits a byte.", options = spec,
  example = "print(q.train.evaluate(run.model, data, {tokens = 65536}).bits_per_byte)"}

return M

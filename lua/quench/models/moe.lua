--- moe.lua - mixtures of experts: a router scores the experts, each token goes through its best few.
--
-- The choice of experts is data (which rows go where), the weights of the sum are differentiable.
-- Each expert runs on the rows that chose it, through nn.linear, so that calibration sees for
-- each expert the inputs it really gets.

local blocks = require "quench.models.blocks"
local nn = require "quench.nn"
local q = require "quench"

local moe = {}

--- Declares a router and experts. names: {router, experts, gate, up, down}, experts with a %d.
-- how: experts, chosen (experts a token), inner, act, std, normalise (weights of the chosen sum to 1).
function moe.make(m, prefix, layer, names, how)
  local record = {name = prefix:gsub("%.$", ""), layer = layer, kind = "experts", chosen = how.chosen,
    normalise = how.normalise, experts = {}}
  -- the router is small and decides everything: it is not quantized
  record.router = m:add_linear(prefix .. names[1], layer, how.experts, m.config.hidden_size, {std = how.std, quantize = false})
  for e = 1, how.experts do
    record.experts[e] = blocks.glu(m, prefix .. names[2]:format(e - 1), layer, {names[3], names[4], names[5]}, how)
  end
  return record
end

--- The chosen experts of each row of probabilities (N, E): per expert a list of rows (from 0), best
-- first, equal ones by number; and the mask (N, E) of what was chosen.
local function choose(p, count)
  local rows, experts = p:size(1), p:size(2)
  local values, lists, mask = p:detach():totable(), {}, {}
  for e = 1, experts do lists[e] = {} end
  for r = 1, rows do
    local row, taken = values[r], {}
    for _ = 1, count do
      local best
      for e = 1, experts do
        if not taken[e] and (not best or row[e] > row[best]) then best = e end
      end
      taken[best] = true
      table.insert(lists[best], r - 1)
    end
    local line = {}
    for e = 1, experts do line[e] = taken[e] and 1 or 0 end
    mask[r] = line
  end
  return lists, q.tensor(mask, p:dtype())
end

local function feed(record, x)
  local B, T, D = x:size(1), x:size(2), x:size(3)
  local flat = x:view(B * T, D)
  local p = nn.linear(record.router, flat):softmax(2)
  local lists, mask = choose(p, record.chosen)
  local weights = p * mask
  if record.normalise then weights = weights / weights:sum(2, true) end
  local total
  for e, expert in ipairs(record.experts) do
    if #lists[e] > 0 then
      local ids = q.tensor(lists[e], "i32")
      local share = q.embedding(weights:narrow(2, e, 1):contiguous(), ids)
      local part = nn.scatter_rows(blocks.feed_glu(expert, q.embedding(flat, ids)) * share, ids, B * T)
      total = total and total + part or part
    end
  end
  return total:view(B, T, D)
end

--- x (B, T, D) to (B, T, D).
function moe.feed(record, x) return nn.module(record, feed, x) end

return moe

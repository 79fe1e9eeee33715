--- score.lua - log-probabilities of given tokens, in bounded memory.
--
-- A model in memory goes batch by batch, a lazy one (q.models.load with lazy = true) layer by layer over all
-- batches, so that each weight is read once. The head runs on a few rows at a time: its logits would be
-- the largest tensor of all.

local q = require "quench"
local nn = require "quench.nn"

local M = {}

local LOGITS = 2 ^ 23 -- numbers of logits kept at a time

--- Calls visit(k, h) with the output (B, T, D) of the last block for each of a list of id tensors (B, T).
function M.through(model, batches, visit)
  if not model.lazy then
    for k, ids in ipairs(batches) do
      q.scope(function()
        local h = model:embed(ids)
        for i = 1, model:layers() do h = model:block(i, h) end
        visit(k, h)
      end)
      q.system.check_interrupt()
    end
    return
  end
  local h = q.scope(function()
    local list = {}
    for k, ids in ipairs(batches) do list[k] = model:embed(ids) end
    model:close("input")
    return list
  end)
  for i = 1, model:layers() do
    h = q.scope(function()
      local next_h = {}
      model:open(i)
      for k, x in ipairs(h) do
        next_h[k] = q.scope(function() return model:block(i, x) end)
        x:free()
      end
      model:close(i)
      return next_h
    end)
    q.system.check_interrupt()
  end
  for k, x in ipairs(h) do
    q.scope(visit, k, x)
    x:free()
  end
  model:close("output")
  model:close("input")
end

--- Calls each(logits (n, V), targets (n), first) on slices of the rows of h (N, D) with their targets (N).
local function by_slices(model, h, targets, each)
  local rows = h:size(1)
  local step = math.max(1, math.floor(LOGITS / model.config.vocab_size))
  for first = 1, rows, step do
    local n = math.min(step, rows - first + 1)
    q.scope(function()
      local logits = model:head(h:narrow(1, first, n):contiguous():view(1, n, h:size(2)))
      each(logits:view(n, logits:size(3)), targets:narrow(1, first, n):contiguous(), first)
    end)
  end
end

--- Sum of -log p over the targets >= 0 of batches {ids (B, T), targets (B, T)}, and how many there are.
function M.total(model, batches)
  local total, counted, inputs = 0, 0, {}
  for k, b in ipairs(batches) do inputs[k] = b[1] end
  M.through(model, inputs, function(k, h)
    local targets = batches[k][2]:contiguous():view(-1)
    by_slices(model, h:view(-1, h:size(3)), targets, function(logits, wanted)
      local n = wanted:ge(0):sum():item()
      if n > 0 then total = total + nn.cross_entropy(logits, wanted):item() * n end
      counted = counted + n
    end)
  end)
  return total, counted
end

--- Batches of items of similar length, at most `tokens` numbers each: lists of indices into items.
local function batches_of(items, tokens)
  local order, out = {}, {}
  for i = 1, #items do order[i] = i end
  table.sort(order, function(a, b)
    local m, n = #items[a].ids, #items[b].ids
    if m ~= n then return m > n end
    return a < b
  end)
  for _, i in ipairs(order) do
    local last = out[#out]
    if not last or (#last + 1) * #items[last[1]].ids > tokens then
      last = {}
      out[#out + 1] = last
    end
    last[#last + 1] = i
  end
  return out
end

--- Ids of a batch, filled up at the end (a causal model does not look there).
local function padded(items, list)
  local length, rows = #items[list[1]].ids, {}
  for r, i in ipairs(list) do
    local row = {}
    for t = 1, length do row[t] = items[i].ids[t] or 0 end
    rows[r] = row
  end
  return q.tensor(rows, "i32")
end

--- Log-probability of the end of each sequence. items: {ids = list, from = first token that is predicted (2 or more)}.
-- Returns a list of {logp = sum in nats, greedy = all of them the most likely, tokens = how many}.
function M.sequences(model, items, tokens)
  local lists, inputs, out = batches_of(items, tokens or 4096), {}, {}
  for k, list in ipairs(lists) do inputs[k] = padded(items, list) end
  M.through(model, inputs, function(k, h)
    local length, at, wanted, owner = h:size(2), {}, {}, {}
    for r, i in ipairs(lists[k]) do
      local item = items[i]
      out[i] = {logp = 0, greedy = true, tokens = #item.ids - item.from + 1}
      for t = item.from, #item.ids do
        at[#at + 1], wanted[#wanted + 1], owner[#owner + 1] = (r - 1) * length + t - 2, item.ids[t], out[i]
      end
    end
    if #at == 0 then return end
    local rows = q.embedding(h:view(-1, h:size(3)), q.tensor(at, "i32"))
    by_slices(model, rows, q.tensor(wanted, "i32"), function(logits, targets, first)
      local logp = (logits:pick(targets) - logits:logsumexp(2)):totable()
      local best = logits:argmax(2):totable()
      for n = 1, #logp do
        local result = owner[first + n - 1]
        result.logp = result.logp + logp[n]
        result.greedy = result.greedy and best[n] == wanted[first + n - 1]
      end
    end)
  end)
  return out
end

return M

--- moe.lua - mixtures of experts: a router scores the experts, each token goes through its best few.
--
-- The choice of experts is data (which rows go where), the weights of the sum are differentiable.
-- Each expert runs on the rows that chose it, through nn.linear, so that calibration sees for
-- each expert the inputs it really gets. In training a term of the loss keeps the load even.

local blocks = require "quench.models.blocks"
local decoder = require "quench.models.decoder"
local nn = require "quench.nn"
local options = require "quench.options"
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

local function feed(record, x, m)
  local B, T, D = x:size(1), x:size(2), x:size(3)
  local flat = x:view(B * T, D)
  local p = nn.linear(record.router, flat):softmax(2)
  local lists, mask = choose(p, record.chosen)
  if m.routed then table.insert(m.routed, {p, mask}) end
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
function moe.feed(m, record, x) return nn.module(record, feed, x, m) end

-- ---- an even load ---------------------------------------------------------

--- E sum_e f_e P_e over the rows of all blocks: f_e is how often expert e was chosen, a row (the sum over e is the number
-- of choices), P_e its mean probability (Fedus et al., 2021, eq. 4, for several choices as in Mixtral's published code).
-- routed: a list of {probabilities, mask}, each (rows, E). The least value, at an even load, is the number of choices.
function moe.imbalance(routed)
  local shares, chances
  for _, pair in ipairs(routed) do
    local chance, share = pair[1]:mean(1), pair[2]:mean(1)
    chances, shares = chances and chances + chance or chance, shares and shares + share or share
  end
  return (chances * shares):sum() * (chances:numel() / (#routed) ^ 2)
end

--- loss(m, ids, targets), the cross-entropy, and router_aux_loss_coef times the imbalance.
local function training_loss(m, ids, targets, loss)
  if m.config.router_aux_loss_coef == 0 then return loss(m, ids, targets) end
  m.routed = {}
  local good, value = pcall(loss, m, ids, targets)
  local routed = m.routed
  m.routed = nil
  if not good then error(value, 0) end
  return value + moe.imbalance(routed) * m.config.router_aux_loss_coef
end

-- ---- families -------------------------------------------------------------

--- A Llama-like family whose MLPs are mixtures of experts: def is decoder.new's, and
--   experts      {option that counts them, default};  chosen, coefficient: defaults
--   place        the tensors' names behind the block's: {prefix, router, experts with a %d, gate, up, down}
--   normalise    function(c): do the weights of the chosen sum to 1?
function moe.family(def)
  local count = def.experts[1]
  table.insert(def.extra, 1, {count, "integer", default = def.experts[2], min = 1, max = 4096, doc = "experts a block"})
  table.insert(def.extra, 2, {"num_experts_per_tok", "integer", default = def.chosen, min = 1, doc = "experts a token goes through"})
  table.insert(def.extra, 3, {"router_aux_loss_coef", "number", default = def.coefficient, min = 0,
    doc = "weight of the imbalance of the experts' load in training"})
  function def.complete(c)
    if c.num_experts_per_tok > c[count] then
      options.fail("models.%s: num_experts_per_tok %d is more than the %d experts", def.name, c.num_experts_per_tok, c[count])
    end
  end
  function def.mlp(m, c, i, prefix, std)
    return moe.make(m, prefix .. def.place[1], i, {unpack(def.place, 2)}, {
      experts = c[count], chosen = c.num_experts_per_tok, inner = c.intermediate_size, act = c.hidden_act, std = std,
      normalise = def.normalise(c),
    })
  end
  def.feed = moe.feed
  local family = decoder.new(def)
  family.training_loss = training_loss
  return family
end

return moe

--- cooldown_length.lua - does a longer cooldown give a model that quantizes better?
--
-- People who race small models say that it does; "Training Dynamics Impact Post-Training Quantization Robustness" (2025) ties
-- the error to the decay itself, and its runs with cooldowns of 9.5 % and 20 % end at 9.4e-3 and 1.04e-2 (Figs. 4 and 6). Here
-- cooldowns of several lengths from one constant rate all end at the same step, so that the data are equal.

local q = require "quench"
local lab = q.lab

--- Lengths of the cooldowns in steps, shortest first: multiples of p.every, so that each starts at a checkpoint.
local function lengths(p)
  local list, sum = {}, 0
  for _, share in ipairs(p.shares) do
    local n = math.max(1, math.floor(share * p.steps / p.every + 0.5)) * p.every
    if n ~= list[#list] then
      list[#list + 1] = n
      sum = sum + n
    end
  end
  return list, sum
end

local function plan(p)
  local _, sum = lengths(p)
  return lab.plan(p, p.steps + sum)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local stable, trunk = lab.trunk(ctx, p, data)
  local results = {constant = lab.last(stable.points), points = {}}
  for i, n in ipairs(lengths(p)) do
    local c = lab.cooldown(ctx, p, data, {folder = trunk, from = p.steps - n, decay = n, formats = lab.formats(p), points = {},
      label = ("cooldown of %d steps"):format(n)})
    results.points[i] = lab.last(c.points)
    results.points[i].length = n
  end
  return results
end

-- ---- what the claims measure ----------------------------------------------

local function three(point) return lab.quantized(point, "gptq3") end

--- The longest cooldown against the shortest: difference over sum.
local function longest(key)
  return function(result) return lab.contrast(lab.last(result.points)[key], result.points[1][key]) end
end

local function gain(pick)
  return function(result) return pick(lab.last(result.points)) - pick(result.points[1]) end
end

-- ---- the figure -----------------------------------------------------------

local function panel(runs, p, label, picks)
  local layers = {x = "cooldown (% of the run)", y = label, log = "x"}
  for i, entry in ipairs(picks) do
    local pick = entry[2]
    lab.add_line(layers, runs, function(r) return r.points end, function(point) return 100 * point.length / p.steps end, pick,
      {label = entry[1], colour = i, marker = "circle"})
  end
  return layers
end

local function percent(key)
  return function(point) return 100 * point[key] end
end

local function figure(runs, p)
  return q.plot.grid{columns = 1, share = "x",
    panel(runs, p, "4-bit error (%)", {{nil, percent "gptq4"}}),
    panel(runs, p, "3-bit error (%)", {{nil, percent "gptq3"}}),
    panel(runs, p, "loss (nats)", {{"full precision", function(point) return point.loss end}, {"3 bits", three}})}
end

local function report(runs)
  local r = runs[1]
  return ("At the constant rate, without a cooldown, the 3-bit error of the first seed is %.2f %%, its loss %.3f nats.")
    :format(100 * r.constant.gptq3, r.constant.loss)
end

local SOURCE = "speed-run communities; Training Dynamics, Figs. 4 and 6: difference over sum +.05 from 9.5 % to 20 %"

return q.recipe{
  name = "cooldown_length",
  doc = "Does a longer cooldown give a model that quantizes better?",
  params = lab.trunk_params{
    {"shares", "list", default = {0.04, 0.08, 0.16, 0.32, 0.64}, doc = "lengths of the cooldowns, parts of the run, shortest first"},
  },
  scales = lab.trunk_scales{smoke = {shares = {0.1, 0.5}}},
  run = run, plan = plan, figures = {cooldown_length = figure}, report = report,
  claims = {
    {"longer, 4 bits", "the longest cooldown has a lower 4-bit error than the shortest: difference over sum", measure = longest "gptq4",
      below = -0.05, source = SOURCE},
    {"longer, 3 bits", "the same at 3 bits", measure = longest "gptq3", below = -0.05, source = SOURCE},
    {"longer, 3-bit loss", "it has a lower 3-bit loss, too: nats", measure = gain(three), below = 0, source = SOURCE},
    {"longer, loss", "and in full precision: nats", measure = gain(function(point) return point.loss end), below = 0, source = SOURCE},
  },
}

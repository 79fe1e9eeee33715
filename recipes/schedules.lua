--- schedules.lua - does the quantization error grow with the data because of the data, or because of the cosine?
--
-- Figure 5 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): scaling laws for quantization were
-- fitted on cosine runs of several budgets, each ending at a rate of 0. Here the same budgets under a cosine and under
-- a constant rate with one short cooldown: both end at a rate of 0, and at the same step.

local q = require "quench"
local lab = q.lab

local function plan(p)
  local _, cosine = lab.budgets(p)
  return lab.plan(p, p.steps + p.budgets * p.cooldown + cosine)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local results = lab.forked(ctx, p, data)
  results.cosine = {}
  for i, steps in ipairs(lab.budgets(p)) do
    results.cosine[i] = lab.cosine(ctx, p, data, steps, ("cosine %d of %d"):format(i, p.budgets))
  end
  return results
end

-- ---- what the claims measure ----------------------------------------------

--- The exponent of the error in the budget, at the ends of the runs of a list.
local function growth(list, key)
  local x, y = {}, {}
  for i, r in ipairs(list) do
    local point = lab.last(r.points)
    x[i], y[i] = point.step, point[key]
  end
  return lab.exponent(x, y)
end

local function cosine(key)
  return function(result) return growth(result.cosine, key) end
end

local function difference(key)
  return function(result)
    local a, why = growth(result.cosine, key)
    local b, why_not = growth(result.cooldowns, key)
    if not (a and b) then return nil, why or why_not end
    return a - b
  end
end

-- ---- the figure -----------------------------------------------------------

local function panel(runs, p, label, pick)
  local layers = {x = "tokens (millions)", y = label}
  local function tokens(point) return lab.millions(p, point.step) end
  lab.add_curves(layers, runs, p, pick)
  for i in ipairs(runs[1].cosine) do
    lab.add_line(layers, runs, function(r) return r.cosine[i].points end, tokens, pick,
      {label = i == 1 and "cosine" or nil, colour = 3, marker = "up"})
  end
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 1, share = "x",
    panel(runs, p, "4-bit error (%)", function(point) return 100 * point.gptq4 end),
    panel(runs, p, "3-bit error (%)", function(point) return 100 * point.gptq3 end),
    panel(runs, p, "validation loss (nats)", function(point) return point.loss end)}
end

local KUMAR = "Training Dynamics, Fig. 5; exponent .51 in Kumar et al., 2025 (cosine), .05 at the ends of Fig. 4's cooldowns"

return q.recipe{
  name = "schedules",
  doc = "Does the quantization error grow with the data because of the data, or because of the cosine?",
  params = lab.trunk_params(),
  scales = lab.trunk_scales(),
  run = run, plan = plan, figures = {schedules = figure},
  claims = {
    {"C1, cosine", "under a cosine the 4-bit error grows with the budget: its exponent (half of Kumar's)", measure = cosine "gptq4",
      above = 0.25, source = KUMAR},
    {"C1, cosine, 3 bits", "the same at 3 bits", measure = cosine "gptq3", above = 0.25, source = KUMAR},
    {"C1, schedule", "more than under a constant rate with cooldowns: difference of the exponents (half of the papers')",
      measure = difference "gptq4", above = 0.23, source = KUMAR},
    {"C1, schedule, 3 bits", "the same at 3 bits", measure = difference "gptq3", above = 0.23, source = KUMAR},
  },
}

--- averaging.lua - do averaged weights quantize better than a cooled-down model?
--
-- Figures 7 and 24 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): LAWA along a constant rate
-- against its cooldowns at 3 bits; and a soup of cooled-down models that differ in their data's order. The paper's window
-- is 1.3 % of the run, ours 5 % (checkpoints each 1 %): averaging_sweep varies it. The EMA has the window's mean age.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, p.steps + (p.budgets + p.ingredients - 1) * p.cooldown) end

--- The steps where averages are taken: checkpoints about where the trunk is measured, with a full window behind them.
local function ends(p)
  local list = lab.spaced(math.max(p.window, p.steps / p.spread / 2 / p.every), math.floor(p.steps / p.every), p.points)
  for i, k in ipairs(list) do list[i] = k * p.every end
  return list
end

--- The last cooldown and others from the same checkpoint with the data in another order: points, and that of their soup.
local function soup(p, ctx, data, folders)
  local paths, points, last = {folders[#folders]}, {}, p.steps + p.cooldown
  for k = 2, p.ingredients do -- another seed, far from those of --seeds
    local _, folder = lab.cooldown(ctx, lab.with(p, {seed = p.seed + 1000 * k}), data, {folder = folders.trunk, from = p.steps,
      decay = p.cooldown, formats = {}, points = {}, label = ("ingredient %d of %d"):format(k, p.ingredients)})
    paths[k] = folder
  end
  for k, folder in ipairs(paths) do
    paths[k] = q.train.checkpoint.path(folder, last)
    points[k] = lab.measure(p, data, paths[k], lab.formats(p), last)
  end
  return points, lab.measure(p, data, q.average.soup(paths, {prefix = "model."}), lab.formats(p), last)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local results, folders = lab.forked(ctx, p, data)
  results.lawa, results.ema = {}, {}
  for i, step in ipairs(ends(p)) do
    local function measured(weights) return lab.measure(p, data, weights, lab.formats(p), step) end
    q.scope(function()
      results.lawa[i] = measured(lab.lawa(folders.trunk, step, p.window, p.every))
      results.ema[i] = measured(lab.ema(folders.trunk, step, lab.ema_decay(p.window), p.every))
    end)
  end
  results.ingredients, results.soup = soup(p, ctx, data, folders)
  return results
end

-- ---- what the claims measure ----------------------------------------------

local function loss(point) return point.loss end
local function three(point) return lab.quantized(point, "gptq3") end

--- The end of the cooldown that is best by pick.
local function best_cooled(result, pick)
  local best
  for _, c in ipairs(result.cooldowns) do
    local point = lab.last(c.points)
    if not best or pick(point) < pick(best) then best = point end
  end
  return best
end

local function against_cooldown(pick)
  return function(result) return pick(lab.last(result.lawa)) - pick(best_cooled(result, pick)) end
end
local function against_stable(pick)
  return function(result) return pick(lab.last(result.lawa)) - pick(lab.last(result.stable)) end
end

local function error_against_stable(result) return lab.contrast(lab.last(result.lawa).gptq3, lab.last(result.stable).gptq3) end

local function soup_gain(result)
  local sum = 0
  for _, point in ipairs(result.ingredients) do sum = sum + three(point) end
  return three(result.soup) - sum / #result.ingredients
end

-- ---- the figure -----------------------------------------------------------

local function panel(runs, p, label, pick)
  local layers = {x = "tokens (millions)", y = label}
  local function tokens(point) return lab.millions(p, point.step) end
  lab.add_curves(layers, runs, p, pick)
  lab.add_line(layers, runs, function(r) return r.lawa end, tokens, pick, {label = "LAWA", colour = 3, marker = "up"})
  lab.add_line(layers, runs, function(r) return r.ema end, tokens, pick, {label = "EMA", colour = 4, marker = "down"})
  local x, y = {}, {}
  for i, r in ipairs(runs) do x[i], y[i] = tokens(r.soup), pick(r.soup) end
  layers[#layers + 1] = {"points", x = x, y = y, label = "soup", colour = 5, marker = "star"}
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 2, panel(runs, p, "validation loss (nats)", loss), lab.paper_panel "averages, loss",
    panel(runs, p, "3-bit loss (nats)", three), lab.paper_panel "averages, 3-bit loss",
    panel(runs, p, "3-bit error (%)", function(point) return 100 * point.gptq3 end), lab.paper_panel "averages, 3 bits"}
end

return q.recipe{
  name = "averaging",
  doc = "Do averaged weights quantize better than a cooled-down model?",
  params = lab.trunk_params{
    {"window", "integer", default = 5, min = 2, doc = "checkpoints in the mean"},
    {"ingredients", "integer", default = 3, min = 2, max = 8, doc = "cooled-down models in the soup"},
  },
  scales = lab.trunk_scales{smoke = {window = 2, ingredients = 2}},
  run = run, plan = plan, figures = {averaging = figure},
  claims = {
    {"C4", "at 3 bits LAWA along the constant rate beats the best cooled-down model: difference in nats (half of the paper's effect)",
      measure = against_cooldown(three), below = -0.023, source = "Training Dynamics, Fig. 7: 3.560 - 3.606"},
    {"C4, full precision", "though in full precision it is worse", measure = against_cooldown(loss), above = 0.043,
      source = "Training Dynamics, Fig. 7: 3.491 - 3.405"},
    {"C4, loss", "LAWA lowers the loss of the constant rate: nats", measure = against_stable(loss), below = -0.078,
      source = "Training Dynamics, Fig. 7: 3.491 - 3.647"},
    {"C4, error", "LAWA lowers the 3-bit error of the constant rate: difference over sum", measure = error_against_stable, below = -0.09,
      source = "Training Dynamics, Fig. 7: 1.98e-2, 2.83e-2"},
    {"C4, soup", "at 3 bits a soup beats the mean of its ingredients: nats", measure = soup_gain, below = 0,
      source = "Training Dynamics, Fig. 24: OLMo2-7B, 4 bits: 2.5545 against 2.556 to 2.561"},
  },
}

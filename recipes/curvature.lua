--- curvature.lua - does the loss get sharper when the learning rate decays, and does that explain the quantization error?
--
-- Figures 9 and 26 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): sharpness,
-- trace and top eigenvalues along a constant rate and a cooldown. To these we add what tells curvature from
-- step size: the second-order prediction of each quantized model's loss, d.Hd/2 + g.d, against the measured
-- one, and the curvature along the quantization step itself. Last, the whole spectrum through the cooldown.

local q = require "quench"
local lab = q.lab

local function tests(p)
  return {rtn4 = {method = "rtn", bits = 4, group = p.group}, rtn3 = {method = "rtn", bits = 3, group = p.group}}
end

local INSIDE = {0.5, 0.8, 0.95} -- shares of a cooldown where it is measured, too: most of what happens happens late

local function plan(p)
  local products = (p.budgets * 5) * (4 * p.k + p.samples + 6)
  return lab.sum{lab.plan(p, p.steps + p.budgets * p.cooldown),
    lab.plan(p, products * 2 * p.batches * p.sequences / p.batch * p.length / p.context)}
end

local function measure(p, ctx, list, path, step)
  local point = q.scope(function()
    return q.curvature.measure(q.train.checkpoint.model(path), {batches = list, k = p.k, samples = p.samples, products = 8 * p.k + 40,
      quantize = tests(p), seed = p.seed})
  end)
  point.step = step
  ctx:log{step = step, sharpness = point.sharpness, trace = point.trace}
  return point
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local list = lab.curvature_batches(p, data, p.sequences, p.length)
  local results, paths = lab.along(ctx, p, data, INSIDE, function(path, step) return measure(p, ctx, list, path, step) end)
  results.spectra = {lab.spectrum(p, list, paths[1], "constant rate"), lab.spectrum(p, list, paths[3], "80 % of the cooldown"),
    lab.spectrum(p, list, paths[5], "cooled down")}
  return results
end

-- ---- what the claims measure ----------------------------------------------

--- Over the cooldowns: the smallest of pick(end) / pick(start).
local function smallest_rise(pick)
  return function(result)
    local least = math.huge
    for i, c in ipairs(result.cooldowns) do least = math.min(least, pick(c.points[#c.points]) / pick(result.stable[i])) end
    return least
  end
end

--- The ratio of predicted to measured loss change at the ends of the cooldowns: the one farthest from 1.
local function worst_ratio(name)
  return function(result) return lab.worst_ratio(result.cooldowns, function(c) return lab.last(c.points)[name].ratio end) end
end

-- ---- the figures ----------------------------------------------------------

--- One panel: the constant rate and each cooldown, from one number of each point; of several seeds the mean and a band.
local function panel(runs, p, label, pick)
  local layers = {x = "tokens (millions)", y = label}
  lab.add_curves(layers, runs, p, pick)
  return layers
end

local function figure(runs, p)
  return q.plot.grid{
    columns = 2, share = "x",
    panel(runs, p, "sharpness", function(c) return c.sharpness end),
    panel(runs, p, "trace", function(c) return c.trace end),
    panel(runs, p, "4-bit rounding: loss rise (nats)", function(c) return c.rtn4.measured end),
    panel(runs, p, "predicted / measured, 4 bits", function(c) return c.rtn4.ratio end),
    panel(runs, p, "curvature along the 4-bit step", function(c) return c.rtn4.directional end),
    panel(runs, p, "length of the 4-bit step", function(c) return c.rtn4.step end),
  }
end

local function eigenvalues(runs)
  local layers = {x = "number", y = "eigenvalue", log = "y"}
  lab.add_ranked(layers, lab.last(runs[1].stable).eigenvalues, {label = "constant rate", colour = 1})
  lab.add_ranked(layers, lab.last(lab.last(runs[1].cooldowns).points).eigenvalues, {label = "cooled down", colour = 2})
  return q.plot(layers)
end

--- Share of the eigenvalues above each size.
local function spectra(runs)
  local layers = {x = "eigenvalue", y = "share of eigenvalues above", log = "xy"}
  for i, s in ipairs(runs[1].spectra) do lab.add_tail(layers, s, {colour = i}) end
  return q.plot(layers)
end

return q.recipe{
  name = "curvature",
  doc = "Does the loss get sharper when the learning rate decays, and does that explain the quantization error?",
  params = lab.params{
    {"cooldown", "integer", default = 160, min = 20, doc = "steps of each cooldown"},
    {"budgets", "integer", default = 3, min = 2, max = 16, doc = "how many cooldowns"},
    {"spread", "number", default = 6, above = 1, doc = "longest budget over shortest"},
    {"batches", "integer", default = 4, min = 2, doc = "batches whose loss is measured; errors are over these"},
    {"sequences", "integer", default = 4, min = 1, doc = "sequences in each"},
    {"length", "integer", default = 129, min = 8, doc = "tokens of each sequence"},
    {"k", "integer", default = 10, min = 1, doc = "eigenvalues"},
    {"samples", "integer", default = 16, min = 2, doc = "products for the trace"},
    {"nodes", "integer", default = 30, min = 4, doc = "Lanczos steps of the spectrum"},
    {"starts", "integer", default = 2, min = 1, doc = "random starts of the spectrum"},
  },
  scales = {
    smoke = {layers = 1, width = 32, heads = 2, vocab = 256, batch = 2, context = 32, steps = 24, cooldown = 20, budgets = 2, spread = 2,
      group = 16, calibration = 2, eval_tokens = 256, batches = 2, sequences = 2, length = 17, k = 2, samples = 4, nodes = 6, starts = 1},
    tiny = {steps = 3600, cooldown = 400, spread = 6, draws = 2},
    small = {layers = 4, width = 256, heads = 8, vocab = 1024, context = 256, steps = 4000, cooldown = 600, eval_tokens = 65536,
      calibration = 64, length = 257, batches = 8, samples = 32},
    paper = {layers = 12, width = 768, heads = 12, vocab = 50304, context = 2048, batch = 256, steps = 172000, cooldown = 18000,
      budgets = 6, spread = 86, warmup = 1900, eval_tokens = 1000000, calibration = 1024, length = 2048, batches = 50, sequences = 2,
      k = 25, samples = 200, nodes = 80, starts = 4},
  },
  run = run,
  plan = plan,
  figures = {curvature = figure, eigenvalues = eigenvalues, spectrum = spectra},
  claims = {
    {"C7, sharpness", "the top eigenvalue rises in every cooldown: end over start, the smallest",
      measure = smallest_rise(function(c) return c.sharpness end), above = 1, source = "Training Dynamics, Fig. 9"},
    {"C7, trace", "so does the trace", measure = smallest_rise(function(c) return c.trace end), above = 1,
      source = "Training Dynamics, Fig. 9"},
    {"quadratic, 4 bits", "the second-order prediction of the 4-bit loss rise holds at the end of every cooldown: the worst ratio",
      measure = worst_ratio "rtn4", above = 0.8, below = 1.25, source = "this project: the test of the flatness explanation"},
    {"flatness", "the curvature along the 4-bit rounding step rises in every cooldown: end over start, the smallest",
      measure = smallest_rise(function(c) return c.rtn4.directional end), above = 1, source = "this project"},
  },
}

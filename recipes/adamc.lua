--- adamc.lua - does keeping the gradient norm from rising at the end keep the quantization error from rising?
--
-- Figure 20 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): AdamC lets the weight decay fall
-- with the square of the rate, so that gradients do not grow in the cooldown. The norms here are those of the gradients,
-- before clipping, means over 50 steps (the code that the paper builds on hands parameters to the norm, so it logs their norm).

local q = require "quench"
local lab = q.lab

local optimizers = {"adamw", "adamc"}

local function plan(p) return lab.plan(p, #optimizers * (p.steps + p.cooldown)) end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {}
  for _, name in ipairs(optimizers) do
    local changed = name ~= "adamw" and {optim = name} or {} -- q.lab's own is AdamW: shared with other recipes
    results[name] = lab.annealed(ctx, lab.with(p, changed), data, name)
  end
  return results
end

-- ---- what the claims measure ----------------------------------------------

--- A number at the end of the cooldown over that at its start.
local function rise(r, key) return lab.last(r.points)[key] / lab.at_step(r.points, r.from)[key] end

local function adamw_gradient(result) return rise(result.adamw, "grad_norm") end

--- How much of AdamW's rise is left with AdamC.
local function left(result)
  local whole = rise(result.adamw, "grad_norm") - 1
  if not (whole > 0) then return nil, "AdamW's gradient norm does not rise" end
  return (rise(result.adamc, "grad_norm") - 1) / whole
end

local function at_end(key)
  return function(result) return lab.contrast(lab.last(result.adamc.points)[key], lab.last(result.adamw.points)[key]) end
end

-- ---- the figure -----------------------------------------------------------

local function panel(runs, p, label, pick)
  local layers = {x = "tokens (millions)", y = label}
  for i, name in ipairs(optimizers) do
    lab.add_line(layers, runs, function(r) return r[name].points end, function(point) return lab.millions(p, point.step) end, pick,
      {label = i == 1 and "AdamW" or "AdamC", colour = i, marker = "circle"})
  end
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 2, share = "x",
    panel(runs, p, "gradient norm", function(point) return point.grad_norm end),
    panel(runs, p, "norm of the weights", function(point) return point.weight_norm end),
    panel(runs, p, "4-bit error (%)", function(point) return 100 * point.gptq4 end),
    panel(runs, p, "3-bit error (%)", function(point) return 100 * point.gptq3 end)}
end

local SOURCE = "Training Dynamics, Fig. 20: read by eye"

return q.recipe{
  name = "adamc",
  doc = "Does keeping the gradient norm from rising at the end keep the quantization error from rising?",
  params = lab.annealed_params(),
  scales = lab.annealed_scales(),
  run = run, plan = plan, figures = {adamc = figure},
  claims = {
    {"C6, AdamW", "AdamW's gradient norm rises in the cooldown: end over start", measure = adamw_gradient, above = 1, source = SOURCE},
    {"C6, AdamC", "AdamC removes that rise: what is left of it, as a share", measure = left, below = 0.5, source = SOURCE},
    {"C6, weights", "AdamC's weights end larger, as its decay falls faster: difference over sum", measure = at_end "weight_norm",
      above = 0, source = SOURCE},
    {"C6, error", "yet the 4-bit error hardly moves: difference over sum (less than the peak rate's .16 by far)", measure = at_end "gptq4",
      above = -0.05, below = 0.05, source = SOURCE},
    {"C6, error, 3 bits", "the same at 3 bits", measure = at_end "gptq3", above = -0.05, below = 0.05, source = SOURCE},
  },
}

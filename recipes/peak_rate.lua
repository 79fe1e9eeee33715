--- peak_rate.lua - does a higher peak learning rate give a model that quantizes better at equal loss?
--
-- Figure 6 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): the same run with
-- several peak rates, each with one cooldown at its end, and the error of the GPTQ-quantized model along it.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, p.rates * (p.steps + p.cooldown)) end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {rates = {}}
  for i, lr in ipairs(lab.peaks(p)) do
    local r, folder = lab.annealed(ctx, lab.with(p, {lr = lr}), data, ("peak rate %.2g"):format(lr))
    results.rates[i] = {lr = lr, points = r.points}
    if i == p.rates then results.yardstick = lab.yardstick(p, data, folder) end
  end
  return results
end

-- ---- what the claims measure ----------------------------------------------

local function last(r) return lab.last(r.points) end

local function near(key)
  return function(result)
    local low, high = lab.best_two(result.rates)
    return lab.contrast(high[key], low[key])
  end
end

local function gap(result)
  local low, high = lab.best_two(result.rates)
  return math.abs(high.loss - low.loss)
end

local function ends(result) return lab.contrast(last(result.rates[#result.rates]).gptq3, last(result.rates[1]).gptq3) end

-- ---- the figure -----------------------------------------------------------

local function panel(runs, x, y, labels, legend)
  local layers = {x = labels[1], y = labels[2], legend = legend}
  for i, rate in ipairs(runs[1].rates) do
    lab.add_line(layers, runs, function(r) return r.rates[i].points end, x, y,
      {label = ("peak %.1e"):format(rate.lr), colour = i, marker = "circle"})
  end
  return layers
end

local function figure(runs, p)
  local function tokens(t) return lab.millions(p, t.step) end
  local losses = panel(runs, function(t) return t.loss end, function(t) return t.loss * (1 + t.gptq3) end,
    {"validation loss (nats)", "3-bit loss (nats)"}, false)
  lab.add_diagonal(losses)
  return q.plot.grid{
    columns = 2,
    panel(runs, tokens, function(t) return t.gptq4 * 100 end, {"tokens (millions)", "4-bit error (%)"}),
    lab.paper_panel("peak rate, 4 bits", "auto"),
    panel(runs, tokens, function(t) return t.gptq3 * 100 end, {"tokens (millions)", "3-bit error (%)"}, false),
    lab.paper_panel "peak rate, 3 bits",
    losses, lab.paper_panel "peak rate, losses",
  }
end

return q.recipe{
  name = "peak_rate",
  doc = "Does a higher peak learning rate give a model that quantizes better at equal loss?",
  params = lab.annealed_params{
    {"rates", "integer", default = 4, min = 2, max = 8, doc = "how many peak rates, up to lr"},
    {"span", "number", default = 32, above = 1, doc = "highest peak rate over lowest"},
  },
  scales = lab.annealed_scales{smoke = {rates = 3}, paper = {lr = 1e-2}},
  run = run, plan = plan, figures = {peak_rate = figure}, report = lab.report_yardstick,
  claims = {
    {"C3", "of the two rates with the best final losses, the higher has the lower 4-bit error: difference over sum", measure = near "gptq4",
      below = -0.05, source = "Training Dynamics, Fig. 6: 1.04e-2 at 3e-3, 1.45e-2 at 1e-3"},
    {"C3, 3 bits", "the same at 3 bits", measure = near "gptq3", below = -0.05, source = "Training Dynamics, Fig. 6: 5.8e-2, 7.6e-2"},
    {"C3, equal loss", "those two end at nearly the same loss (nats apart)", measure = gap, below = 0.02,
      source = "Training Dynamics, Fig. 6: 3.405, 3.406"},
    {"C3, ends", "3-bit error of the highest rate against the lowest: difference over sum", measure = ends, below = -0.1,
      source = "Training Dynamics, Fig. 6: 4.4e-2, 9.9e-2"},
  },
}

--- optimizers.lua - which of six optimizers ends with the lowest loss, each at its best learning rate?
--
-- Table 2 of "Beyond Outliers" (2025), in full precision: the architecture of the paper at 20 tokens a parameter, every optimizer
-- with its preset at several rates. Validation loss instead of zero-shot accuracy: a higher accuracy counts as a lower loss.

local q = require "quench"
local sweeps = q.sweeps

local function run(p, ctx)
  return sweeps.each(p, ctx, function(_, best, runs) return {best = best, sweep = runs} end)
end

local function loss(r) return r.best.loss end

--- The optimizer's loss less that of the best of `others` (default: all).
local function lead(name, others)
  return function(result) return sweeps.lead(result, name, loss, others) end
end

--- Loss against rate; a rate that diverged has no point.
local function figure_rates(runs)
  local plot = {title = "after training", x = "learning rate / preset", y = "validation loss (nats)", log = "x", legend = "right"}
  for s, result in ipairs(runs) do
    for i, name in ipairs(sweeps.optimizers) do
      local x, y = {}, {}
      for _, point in ipairs(result[name].sweep) do
        if point.loss then x[#x + 1], y[#y + 1] = point.factor, point.loss end
      end
      plot[#plot + 1] = {"line", x = x, y = y, label = s == 1 and name or nil, colour = i, marker = "circle", dash = "solid"}
    end
  end
  return q.plot(plot)
end

--- The loss at the best rate beside the paper's accuracies.
local function figure_ends(runs)
  local ours = {title = "at the best rate", y = "validation loss (nats)", legend = false}
  for s, result in ipairs(runs) do
    local y = {}
    for i, name in ipairs(sweeps.optimizers) do y[i] = loss(result[name]) end
    ours[s] = {"points", x = sweeps.optimizers, y = y, colour = 1}
  end
  return q.plot.grid{columns = 3, ours, q.lab.paper_points("accuracy, 50M", sweeps.optimizers),
    q.lab.paper_points("accuracy, 760M", sweeps.optimizers)}
end

local function figure_training(runs, p)
  local plot = {title = "at the best rate", x = "tokens (millions)", y = "validation loss (nats)", legend = "right"}
  return q.plot(sweeps.add_lines(plot, runs, function(r)
    local x, y = {}, {}
    for k, point in ipairs(r.best.points) do x[k], y[k] = q.lab.millions(p, point.step), point.loss end
    return x, y
  end, {dash = "solid"}))
end

--- Whether a best rate lies at the end of its sweep: the optimum may then lie beyond.
local function report(runs, p)
  local factors, lines = sweeps.factors(p), {"| optimizer | best rate / preset (each run) | at an end of the sweep |", "| --- | --- | --- |"}
  for _, name in ipairs(sweeps.optimizers) do
    local at, ends = {}, 0
    for s, result in ipairs(runs) do
      local f = result[name].best.factor
      at[s] = ("%.3g"):format(f)
      if f == factors[1] or f == factors[#factors] then ends = ends + 1 end
    end
    lines[#lines + 1] = ("| %s | %s | %d of %d |"):format(name, table.concat(at, ", "), ends, #runs)
  end
  return table.concat(lines, "\n")
end

return q.recipe{
  name = "optimizers",
  doc = "Which of six optimizers ends with the lowest loss, each at its best learning rate?",
  params = sweeps.params(), scales = sweeps.scales(), run = run, plan = sweeps.plan_sweep, report = report,
  figures = {rates = figure_rates, training = figure_training, ends = figure_ends},
  claims = {
    {"OP1", "Muon's loss less that of the best of the other five (nats)", measure = lead "muon", below = 0,
      source = "Beyond Outliers, Table 2: Muon best at most sizes, +1.03 points at 1.5B"},
    {"OP2", "Muon's loss less AdamW's (nats)", measure = lead("muon", {"adamw"}), below = 0,
      source = "Beyond Outliers, Table 2, 50M: 45.03 % against 43.75 %"},
    {"OP3", "Shampoo's loss less AdamW's (nats)", measure = lead("shampoo", {"adamw"}), below = 0,
      source = "Beyond Outliers, Table 2, 50M: 44.81 % against 43.75 %"},
  },
}

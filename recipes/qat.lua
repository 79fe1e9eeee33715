--- qat.lua - whose training survives 4 bits from the start?
--
-- Table 4 of "Beyond Outliers" (2025): training with weights and activations rounded by QuEST to 4 bits from scratch, with the
-- rate that was best in full precision, against full precision and against rounding the trained model (W4A4 round-to-nearest).
-- Rise of the validation loss instead of the loss of accuracy; the tied head stays in full precision, as in the other recipes.

local q = require "quench"
local sweeps = q.sweeps

local function plan(p) return sweeps.plan(p, #sweeps.optimizers * (p.rates + 1)) end

local function run(p, ctx)
  return sweeps.each(p, ctx, function(name, best, _, _, data)
    local r = sweeps.train(p, ctx, data, {name = name, factor = best.factor, quest = true})
    if r.diverged then error(name .. " diverges under QuEST at its best rate", 0) end
    return {full = best.loss, ptq = best.quantized, qat = r.loss, lr = best.lr, points = r.points, full_points = best.points}
  end, plan(p))
end

--- Relative rise of the loss by training with 4 bits, in percent.
local function rise(r) return 100 * (r.qat / r.full - 1) end

local function lead(name, others, most)
  return function(result) return sweeps.lead(result, name, rise, others, most) end
end

local function figure_rise(runs)
  local ours = {title = "W4A4 against full precision", y = "rise of the loss (%)",
    sweeps.bars(runs, rise, "QuEST, trained so"), sweeps.bars(runs, function(r) return 100 * (r.ptq / r.full - 1) end, "rounded after training")}
  return q.plot.grid{columns = 2, ours, q.lab.paper_points("quest, 760M", sweeps.optimizers)}
end

local function figure_training(runs, p)
  local plot = {title = "training with QuEST", x = "tokens (millions)", y = "validation loss (nats)", legend = "right"}
  return q.plot(sweeps.add_lines(plot, runs, function(r)
    local x, y = {}, {}
    for k, point in ipairs(r.points) do x[k], y[k] = q.lab.millions(p, point.step), point.loss end
    return x, y
  end, {dash = "solid"}))
end

return q.recipe{
  name = "qat",
  doc = "Whose training survives 4 bits from the start?",
  params = sweeps.params(), scales = sweeps.scales(), run = run, plan = plan,
  figures = {rise = figure_rise, training = figure_training},
  claims = {
    {"QAT1", "Shampoo's rise of the loss less the smaller of AdamW's and Muon's (points of percent)", measure = lead("shampoo", {"adamw", "muon"}),
      below = 0, source = "Beyond Outliers, Table 4, 760M: accuracy -0.46 % against -2.63 % and -3.57 %"},
    {"QAT2", "Muon's rise less the larger of AdamW's and Shampoo's (points of percent)",
      measure = lead("muon", {"adamw", "shampoo"}, math.max), above = 0,
      source = "Beyond Outliers, Table 4: most at all four sizes, -3.57 % at 760M"},
    {"QAT3", "optimizers that end higher than in full precision, of six", measure = function(result)
      return sweeps.count(result, function(r) return r.qat > r.full end)
    end, above = 5.5, source = "Beyond Outliers, Table 4: all"},
    {"QAT4", "optimizers whose loss is lower than after rounding the trained model, of six", measure = function(result)
      return sweeps.count(result, function(r) return r.qat < r.ptq end)
    end, above = 5.5, source = "Beyond Outliers, Tables 3 and 4, 760M: Muon 62.32 % against 50.00 %, AdamW 62.22 % against 59.22 %"},
  },
}

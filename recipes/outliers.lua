--- outliers.lua - do outliers tell which optimizer's model survives quantization, or does the error R_L at its end?
--
-- Figures 1 and 2 of "Beyond Outliers" (2025): of each optimizer's best model (by loss) the outliers of the last block, R_L, and
-- the loss after W4A4 round-to-nearest; MMR at every rate. Unlike the paper: models after equal steps (common_loss has the
-- others), and the loss itself instead of zero-shot accuracy. Fig. 2 takes the last linear layer's input, whose rows behind ReLU^2
-- mostly have median 0 and so no MMR: here the last block's output.

local q = require "quench"
local sweeps = q.sweeps

local measures = {{"mmr", "MMR, last block"}, {"kurtosis", "kurtosis, last block"}, {"R_L", "R_{L}"}}

--- MMR, kurtosis and R_L of a model.
local function measure(model, ids)
  return q.scope(q.no_grad, function()
    local last = q.metrics.outliers(model, ids).last_block
    return {mmr = last.mmr.value, kurtosis = last.kurtosis.value, R_L = q.metrics.abc(model, sweeps.w4a4(model), ids).R_L.value}
  end)
end

local function run(p, ctx)
  return sweeps.each(p, ctx, function(_, best, runs, load, data)
    local row, ids = {sweep = {}}, sweeps.ids(p, data)
    for i, r in ipairs(runs) do
      if r.loss then
        local point = measure(load(i), ids)
        point.factor, point.loss, point.quantized = r.factor, r.loss, r.quantized
        row.sweep[#row.sweep + 1] = point
        if r == best then row.best = point end
      end
    end
    return row
  end)
end

--- Pearson's correlation over the optimizers (means over the runs) of a measure and the quantized loss.
local function correlation(runs, key)
  local x, y = {}, {}
  for i, name in ipairs(sweeps.optimizers) do
    x[i], y[i] = 0, 0
    for _, r in ipairs(runs) do x[i], y[i] = x[i] + r[name].best[key] / #runs, y[i] + r[name].best.quantized / #runs end
  end
  return q.metrics.correlation(x, y)
end

--- One run's, with Fisher's interval: six points tell little.
local function of_run(key)
  return function(result)
    local c = correlation({result}, key)
    return {value = c.value, low = c.low, high = c.high}
  end
end

local function figure1(runs)
  local grid, paper = {columns = 3}, q.lab.paper_values "correlation" -- the paper's, with the accuracy: the other sign
  for i, m in ipairs(measures) do
    local c = correlation(runs, m[1])
    grid[i] = sweeps.add_points({title = ("r = %+.2f [%+.2f, %+.2f]"):format(c.value, c.low, c.high),
      x = ("%s (paper, accuracy: %+.2f)"):format(m[2], paper[m[1]]), y = "W4A4 loss (nats)",
      legend = i == 3 and "right" or false}, runs, function(r) return r.best[m[1]], r.best.quantized end)
  end
  return q.plot.grid(grid)
end

local function figure2(runs)
  local plot = {x = "learning rate / preset", y = "MMR of the last block", log = "xy", legend = "right"}
  for s, result in ipairs(runs) do -- one line a run: where a rate diverged, runs have different points
    for i, name in ipairs(sweeps.optimizers) do
      local x, y = {}, {}
      for k, point in ipairs(result[name].sweep) do x[k], y[k] = point.factor, point.mmr end
      plot[#plot + 1] = {"line", x = x, y = y, label = s == 1 and name or nil, colour = i, marker = "circle", dash = "solid"}
    end
  end
  return q.plot(plot)
end

--- How many optimizers have a larger MMR at their largest rate than at their smallest.
local function rises(result)
  return sweeps.count(result, function(r) return r.sweep[#r.sweep].mmr > r.sweep[1].mmr end)
end

return q.recipe{
  name = "outliers",
  doc = "Do outliers tell which optimizer's model survives quantization, or does the error R_L at its end?",
  params = sweeps.params(), scales = sweeps.scales(), run = run, plan = sweeps.plan_sweep,
  figures = {correlation = figure1, rates = figure2},
  claims = {
    {"O1", "R_L goes with the quantized loss: Pearson's correlation over six optimizers", measure = of_run "R_L",
      above = 0.8, source = "Beyond Outliers, Fig. 1: -0.89 with accuracy"},
    {"O2", "a larger MMR does not go with a larger quantized loss: correlation", measure = of_run "mmr",
      below = 0, source = "Beyond Outliers, Fig. 1: +0.62 with accuracy"},
    {"O3", "nor does a larger kurtosis: correlation", measure = of_run "kurtosis", below = 0,
      source = "Beyond Outliers, Fig. 1: +0.70 with accuracy"},
    {"O4", "optimizers whose MMR is larger at their largest rate than at their smallest, of six",
      measure = rises, above = 5.5, source = "Beyond Outliers, Fig. 2: all"},
  },
}

--- common_loss.lua - from equal loss, whose model loses least by rounding to 4 bits?
--
-- Table 3 of "Beyond Outliers" (2025): models are compared at the common loss, the lowest that all six optimizers reach. Each
-- optimizer's best run was measured along the way, before and after W4A4 round-to-nearest; the quantized loss at the common loss
-- lies on the straight line between the two measurements around it. The paper keeps the checkpoint there and reports accuracy.

local q = require "quench"
local sweeps = q.sweeps

--- The lowest loss of a run's points.
local function lowest(points)
  local low = math.huge
  for _, point in ipairs(points) do low = math.min(low, point.loss) end
  return low
end

--- The quantized loss, and the step, where a run first comes down to a loss; nothing where its first measurement is below.
local function at_loss(points, loss)
  for i, b in ipairs(points) do
    if b.loss <= loss then
      local a = points[i - 1]
      if not a then return end -- already below at the first measurement
      local share = (a.loss - loss) / (a.loss - b.loss)
      return a.quantized + share * (b.quantized - a.quantized), a.step + share * (b.step - a.step)
    end
  end
end

local function run(p, ctx)
  local results = sweeps.each(p, ctx, function(_, best) return {points = best.points, lr = best.lr} end)
  local common = -math.huge
  for _, name in ipairs(sweeps.optimizers) do common = math.max(common, lowest(results[name].points)) end
  for _, name in ipairs(sweeps.optimizers) do
    results[name].quantized, results[name].step = at_loss(results[name].points, common)
  end
  results.common = common
  return results
end

local function quantized(r) return r.quantized end

--- An optimizer's quantized loss less the best of others; not decidable where one of them was not measured at the common loss.
local function lead(name, others)
  return function(result)
    for _, other in ipairs(others or sweeps.optimizers) do
      local missing = not result[other].quantized and other or not result[name].quantized and name
      if missing then return nil, missing .. " was below the common loss at its first measurement" end
    end
    return sweeps.lead(result, name, quantized, others)
  end
end

--- The worse of AdamW and Shampoo less the best of the other four.
local function both(result)
  local rest = {"muon", "psgd", "scion", "soap"}
  local a, reason = lead("adamw", rest)(result)
  local b, other = lead("shampoo", rest)(result)
  if a and b then return math.max(a, b) end
  return nil, reason or other
end

local function figure_paths(runs)
  local plot = {x = "validation loss (nats)", y = "rise by W4A4 (nats)", legend = "right"}
  for s, result in ipairs(runs) do
    for i, name in ipairs(sweeps.optimizers) do
      local x, y = {}, {}
      for k, point in ipairs(result[name].points) do x[k], y[k] = point.loss, point.quantized - point.loss end
      plot[#plot + 1] = {"line", x = x, y = y, label = s == 1 and name or nil, colour = i, marker = "circle", dash = "solid"}
    end
    plot[#plot + 1] = {"vline", x = result.common, text = s == 1 and "common loss" or nil}
  end
  return q.plot(plot)
end

--- What rounding adds at the common loss, beside the accuracy that the paper's models keep.
local function figure_rise(runs)
  local ours = {title = "W4A4 at the common loss", y = "rise of the loss (nats)",
    sweeps.bars(runs, function(r, _, result) return r.quantized and r.quantized - result.common end)}
  return q.plot.grid{columns = 2, ours, q.lab.paper_points("rounded, 760M", sweeps.optimizers)}
end

return q.recipe{
  name = "common_loss",
  doc = "From equal loss, whose model loses least by rounding to 4 bits?",
  params = sweeps.params(), scales = sweeps.scales(), run = run, plan = sweeps.plan_sweep,
  figures = {paths = figure_paths, rise = figure_rise},
  claims = {
    {"CL1", "Shampoo's quantized loss less that of the best of the other five (nats)", measure = lead "shampoo", below = 0,
      source = "Beyond Outliers, Table 3: best at every size, 59.26 % at 760M"},
    {"CL2", "Muon's quantized loss less AdamW's (nats)", measure = lead("muon", {"adamw"}), above = 0,
      source = "Beyond Outliers, Table 3, 760M: 50.00 % against 59.22 %"},
    {"CL3", "SOAP's quantized loss less AdamW's (nats)", measure = lead("soap", {"adamw"}), above = 0,
      source = "Beyond Outliers, Table 3, 760M: 46.22 % against 59.22 %"},
    {"CL4", "the worse of AdamW and Shampoo, less the best of the other four (nats)", measure = both, below = 0,
      source = "Beyond Outliers, Table 3, 760M: 59.22, 59.26 against 53.74 % and less"},
  },
}

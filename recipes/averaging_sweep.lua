--- averaging_sweep.lua - which averages of weights quantize best, and is it all flatness?
--
-- "Training Dynamics Impact Post-Training Quantization Robustness" (2025) tried windows of 5 to 100 checkpoints, 500 to 10,000
-- steps apart, and shows one of them (Fig. 7). Here all averages end at the last step of the constant rate: LAWA by window and
-- spacing, and EMAs of the same mean age. Of each: GPTQ's error, the top eigenvalue of the Hessian, and the second-order
-- prediction of the loss after rounding to 3 bits.

local q = require "quench"
local lab = q.lab

local function plan(p)
  local products = (#p.windows * #p.spacings + #p.windows + 2) * 60
  return lab.sum{lab.plan(p, p.steps + p.cooldown), lab.plan(p, products * 2 * p.batches)}
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local list, results = lab.batches(p, data, p.batches), {averages = lab.averages(p)}
  local _, trunk = lab.trunk(ctx, p, data)
  local _, cooled = lab.cooled(ctx, p, data, trunk, p.steps, ("cooldown %d of %d"):format(p.budgets, p.budgets))
  local function checkpoint(folder, step)
    return q.scope(lab.measure_flatness, p, data, list, q.train.checkpoint.path(folder, step), {step = step})
  end
  results.last, results.cooled = checkpoint(trunk, p.steps), checkpoint(cooled, p.steps + p.cooldown)
  for _, a in ipairs(results.averages) do
    q.scope(function() ctx:log(lab.measure_flatness(p, data, list, lab.average(trunk, p.steps, a), a)) end)
  end
  return results
end

-- ---- what the claims measure ----------------------------------------------

--- The averages of a kind with the smallest spacing, shortest window first.
local function closest(result, kind)
  local list = {}
  for _, a in ipairs(result.averages) do
    if a.kind == kind and a.spacing == result.averages[1].spacing then list[#list + 1] = a end
  end
  return list
end

local function wider(result)
  local list = closest(result, "lawa")
  return lab.contrast(lab.last(list).gptq3, list[1].gptq3)
end

--- EMA against LAWA of the same mean age: mean difference over sum.
local function kinds(result)
  local lawa, ema, sum = closest(result, "lawa"), closest(result, "ema"), 0
  for i = 1, #lawa do sum = sum + lab.contrast(ema[i].gptq3, lawa[i].gptq3) / #lawa end
  return sum
end

--- Correlation of the logarithms of sharpness and 3-bit error over all averages and the last checkpoint.
local function flatness(result)
  local x, y = {}, {}
  for i, a in ipairs{result.last, unpack(result.averages)} do
    if not (a.sharpness > 0 and a.gptq3 > 0) then return nil, "a sharpness or an error is not positive" end
    x[i], y[i] = math.log(a.sharpness), math.log(a.gptq3)
  end
  return q.metrics.correlation(x, y)
end

local function worst_ratio(result) return lab.worst_ratio(result.averages, function(a) return a.ratio end) end

-- ---- the figure -----------------------------------------------------------

--- A number of each average against its mean age, a line for EMAs and for each spacing.
local function panel(runs, p, label, pick, legend)
  local layers = {x = "mean age of the average (% of the run)", y = label, log = "x", legend = legend and "right" or false}
  for k, group in ipairs(lab.average_groups(runs[1].averages)) do
    lab.add_line(layers, runs, function(r) return {unpack(r.averages, group.first, group.final)} end,
      function(a) return 100 * a.age / p.steps end, pick, {label = group.name, colour = k, marker = "circle"})
  end
  layers[#layers + 1] = {"hline", y = pick(runs[1].last), text = "last checkpoint"}
  layers[#layers + 1] = {"hline", y = pick(runs[1].cooled), text = "cooled down"}
  return layers
end

local function sharpness(a) return a.sharpness end
local function error(a) return 100 * a.gptq3 end

local function scatter(runs)
  local layers = {x = "sharpness", y = "3-bit error (%)", legend = "right"}
  for i, entry in ipairs{{"averages", "averages"}, {"last", "last checkpoint"}, {"cooled", "cooled down"}} do
    lab.add_points(layers, runs, function(r) return r[entry[1]] end, sharpness, error, {label = entry[2], colour = i})
  end
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 2, panel(runs, p, "3-bit loss (nats)", function(a) return lab.quantized(a, "gptq3") end),
    panel(runs, p, "3-bit error (%)", error, true), panel(runs, p, "sharpness", sharpness), scatter(runs)}
end

return q.recipe{
  name = "averaging_sweep",
  doc = "Which averages of weights quantize best, and is it all flatness?",
  params = lab.trunk_params{
    {"windows", "list", default = {2, 5, 10, 20}, doc = "checkpoints in the mean, fewest first"},
    {"spacings", "list", default = {1, 2, 4, 8}, doc = "between them, in units of `every`, closest first"},
    {"batches", "integer", default = 2, min = 2, doc = "batches whose loss the curvature is of"},
  },
  scales = lab.trunk_scales{smoke = {windows = {2, 3}, spacings = {1, 2}}, paper = {windows = {5, 10, 20, 50, 100},
    spacings = {1, 2, 3, 4, 10, 20}, batches = 4}},
  run = run, plan = plan, figures = {averaging_sweep = figure},
  claims = {
    {"window", "the widest window has a lower 3-bit error than the narrowest: difference over sum", measure = wider, below = 0,
      source = "what Training Dynamics' explanation of C4 would give"},
    {"kind", "an EMA of the same mean age has the same 3-bit error: mean difference over sum", measure = kinds, above = -0.05, below = 0.05,
      source = "this project"},
    {"flatness", "flatter averages have lower 3-bit errors: correlation of the logarithms with the sharpness", measure = flatness,
      above = 0.8, source = "this project: the flatness explanation of Training Dynamics"},
    {"quadratic, 3 bits", "the second-order prediction of the loss after rounding holds for all averages: the worst ratio",
      measure = worst_ratio, above = 0.8, below = 1.25, source = "this project: as in curvature"},
  },
}

--- planes.lua - what does the loss look like around a trained model, on the plane of its last steps and its quantized twin?
--
-- Figures 8 and 25 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): the loss on the plane through the
-- last checkpoint, one before it (rate at 5 % of the peak, as in the paper) and the GPTQ-quantized last one, at 4 and 3 bits,
-- one panel a peak rate. The runs are those of peak_rate; axes are distances between weights, contours the loss above that of
-- the last checkpoint in thousandths of a nat.

local q = require "quench"
local lab = q.lab

local POINTS = {"last checkpoint", "earlier checkpoint", "quantized"}
local BITS = {"gptq4", "gptq3"}

local function plan(p)
  local evaluations = p.rates * #BITS * (p.size ^ 2 + 3) * p.batches -- forward only: a third of a step
  return lab.plan(p, p.rates * (p.steps + p.cooldown) + evaluations / 3)
end

local function plane(p, data, list, folder, format)
  return q.scope(function()
    local steps = lab.inside(p.steps, p.cooldown)
    local function model(step) return q.train.checkpoint.model(q.train.checkpoint.path(folder, step)) end
    local last = model(lab.last(steps))
    local given = {calibration = lab.calibration(data, p, p.seed)}
    for key, value in pairs(format) do given[key] = value end
    return q.curvature.plane(last, {a = model(steps[#steps - 1]), b = (q.quant.quantize(last, given)), labels = POINTS, batches = list,
      size = p.size, progress = false})
  end)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {rates = {}}
  local list = lab.batches(p, data, p.batches)
  for i, lr in ipairs(lab.peaks(p)) do
    local _, folder = lab.annealed(ctx, lab.with(p, {lr = lr}), data, ("peak rate %.2g"):format(lr))
    results.rates[i] = {lr = lr}
    for _, name in ipairs(BITS) do
      results.rates[i][name] = plane(p, data, list, folder, lab.formats(p)[name])
      ctx:log{lr = lr, plane = name}
    end
  end
  return results
end

-- ---- what the claims measure ----------------------------------------------

local function distance(point) return math.sqrt(point.x ^ 2 + point.y ^ 2) end

--- Distance of the earlier checkpoint: that of the lowest rate over that of the highest.
local function steps_apart(result)
  local r = result.rates
  return distance(r[1].gptq4.points[2]) / distance(r[#r].gptq4.points[2])
end

--- Mean curvature along the step to the quantized model, 2 (L(q) - L) / d^2.
local function sharpness(plane_of)
  local here, quantized = plane_of.points[1], plane_of.points[3]
  return 2 * (quantized.loss - here.loss) / distance(quantized) ^ 2
end

local function sharper(name)
  return function(result) return lab.contrast(sharpness(result.rates[1][name]), sharpness(lab.last(result.rates)[name])) end
end

-- ---- the figure -----------------------------------------------------------

--- The loss above that of the last checkpoint, in thousandths of a nat.
local function above(s)
  local z = {}
  for j, row in ipairs(s.z) do
    z[j] = {}
    for i, v in ipairs(row) do z[j][i] = 1000 * (v - s.points[1].loss) end
  end
  return z
end

local function panel(rate, name, legend)
  local s = rate[name]
  local layers = {title = ("peak %.1e, %d bits"):format(rate.lr, name:match "%d"), x = "distance", y = "distance",
    legend = legend and "right" or false, {"contour", z = above(s), x = s.x, y = s.y, bar = false}}
  for k, point in ipairs(s.points) do
    layers[#layers + 1] = {"points", x = {point.x}, y = {point.y}, colour = k, label = POINTS[k]}
  end
  return layers
end

local function figure(runs)
  local grid = {columns = #runs[1].rates}
  for _, name in ipairs(BITS) do
    for i, rate in ipairs(runs[1].rates) do grid[#grid + 1] = panel(rate, name, name == BITS[1] and i == #runs[1].rates) end
  end
  return q.plot.grid(grid)
end

return q.recipe{
  name = "planes",
  doc = "What does the loss look like around a trained model, on the plane of its last steps and its quantized twin?",
  params = lab.annealed_params{
    {"rates", "integer", default = 4, min = 2, max = 8, doc = "how many peak rates, up to lr"},
    {"span", "number", default = 32, above = 1, doc = "highest peak rate over lowest"},
    {"size", "integer", default = 13, min = 4, doc = "points of the grid a side"},
    {"batches", "integer", default = 2, min = 1, doc = "batches of validation text that the loss is measured on"},
  },
  scales = lab.annealed_scales{smoke = {rates = 3, size = 5}, small = {size = 21, batches = 4}, medium = {size = 31, batches = 4},
    paper = {lr = 1e-2, size = 32, batches = 4}},
  run = run, plan = plan, figures = {planes = figure},
  claims = {
    {"C7, steps", "with a smaller peak rate the last checkpoints lie closer: distance at the lowest rate over the highest",
      measure = steps_apart, below = 1, source = "Training Dynamics, Fig. 8: by eye"},
    {"C7, basin", "yet the loss rises faster towards the quantized model: curvature at the lowest against the highest rate, difference over sum",
      measure = sharper "gptq4", above = 0, source = "Training Dynamics, Fig. 8: by eye"},
    {"C7, basin, 3 bits", "the same at 3 bits", measure = sharper "gptq3", above = 0, source = "Training Dynamics, Fig. 25: by eye"},
  },
}

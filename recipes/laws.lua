--- laws.lua - does a scaling law for the quantization error need the learning rate, or is the amount of data enough?
--
-- Kumar et al. (2024) fit the error to size, data and bits; "Training Dynamics Impact Post-Training Quantization Robustness"
-- (2025) says that their data acted through the decay of the rate. Here both kinds of law meet every measured point of decay,
-- schedules and peak_rate (their runs are found again), and each is asked for runs that it has not seen: a cosine, a cooldown, a peak
-- rate. First the usual laws, at the ends of cosine runs of several sizes and budgets: Chinchilla's for the loss and Kumar's for
-- what rounding adds. One rate for all sizes; points whose error is not positive are left out and counted.

local q = require "quench"
local lab = q.lab

local function sizes(p)
  local list = {}
  for i, share in ipairs(p.shares) do list[i] = lab.sized(p, share) end
  list[#list + 1] = p
  return list
end

local function plan(p)
  local _, cosine = lab.budgets(p)
  local peaks = lab.annealed_part(p)
  local plans = {lab.plan(p, p.steps + p.budgets * p.cooldown), lab.plan(peaks, p.rates * (peaks.steps + peaks.cooldown))}
  for _, size in ipairs(sizes(p)) do plans[#plans + 1] = lab.plan(size, cosine) end
  return lab.sum(plans)
end

--- What was measured: every point of the full size as all, the ends of the cosine runs of all sizes as ends and their losses.
local function gather(p, ctx, data)
  local out, formats = {all = {}, ends = {}, losses = {}, left_out = 0}, lab.formats(p)
  local function add(list, setting, run, points)
    out.left_out = out.left_out + lab.add_law_points(list, setting, run, points, formats)
  end
  for _, size in ipairs(sizes(p)) do
    for i, steps in ipairs(lab.budgets(p)) do
      local name = ("width %d, cosine %d of %d"):format(size.width, i, p.budgets)
      local points = lab.cosine(ctx, size, data, steps, name).points
      local last = lab.last(points)
      out.losses[#out.losses + 1] = {run = name, N = lab.weights(size), D = last.tokens, L = last.loss}
      add(out.ends, size, name, {last})
      if size == p then add(out.all, p, "cosine " .. i, points) end
    end
  end
  local trunk, peaks = lab.forked(ctx, p, data), lab.annealed_part(p)
  add(out.all, p, "constant rate", trunk.stable)
  for i, c in ipairs(trunk.cooldowns) do add(out.all, p, "cooldown " .. i, c.points) end
  for i, lr in ipairs(lab.peaks(lab.with(p, {lr = peaks.lr}))) do
    local at = lab.with(peaks, {lr = lr})
    add(out.all, at, "peak rate " .. i, lab.annealed(ctx, at, data, ("peak rate %.2g"):format(lr)).points)
  end
  return out
end

--- Kumar's law of the relative error.
local function by_data(points)
  local list = {}
  for i, point in ipairs(points) do list[i] = lab.with(point, {delta = point.error}) end
  return q.fit.kumar(list)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local found = gather(p, ctx, lab.data(p))
  local function chinchilla(points) return q.fit.chinchilla(points, {starts = 8}) end
  return {left_out = found.left_out, loss = lab.foretold(found.losses, "L", chinchilla),
    rounding = lab.foretold(found.ends, "delta", q.fit.kumar), data = lab.foretold(found.all, "error", by_data),
    rate = lab.foretold(found.all, "error", q.fit.rate)}
end

local function parameter(law, name)
  return function(result) return result[law].params[name] or nil, "these points do not tell it" end
end

-- ---- the figure and the report ----------------------------------------------

local function panel(runs, law, title, legend)
  local layers = {title = title, x = "measured error (%)", y = "foretold (%)", log = "xy", legend = legend}
  for i, kind in ipairs{"constant rate", "cooldown", "cosine", "peak rate"} do
    lab.add_foretold(layers, runs, law, function(point) return point.run:find(kind, 1, true) and 100 * point.error end, {label = kind, colour = i})
  end
  lab.add_diagonal(layers)
  return layers
end

local function figure(runs)
  return q.plot.grid{columns = 2, panel(runs, "data", "from size, data and bits", "bottom right"), panel(runs, "rate", "and the rate", false)}
end

local function report(runs)
  return lab.report_laws(runs[1], {"loss", "rounding", "data", "rate"}) .. ("\n\n%d points without a positive error were left out.")
    :format(runs[1].left_out)
end

-- Regions: half of the papers' effects; 0.05 is the least effect that peak_rate asks for. Set before this recipe was first run.
return q.recipe{
  name = "laws",
  doc = "Does a scaling law for the quantization error need the learning rate, or is the amount of data enough?",
  params = lab.both_params{
    {"shares", "list", default = {0.5, 0.75}, doc = "smaller sizes, as parts of the width and heads"},
    {"rates", "integer", default = 4, min = 2, max = 8, doc = "how many peak rates"},
    {"span", "number", default = 32, above = 1, doc = "highest peak rate over lowest"},
  },
  scales = lab.both_scales{smoke = {steps = 160, annealed_steps = 80, shares = {0.5}, budgets = 4, spread = 8, rates = 2, every = 160,
    eval_tokens = 1024}, paper = {annealed_lr = 1e-2}},
  run = run, plan = plan, report = report, figures = {laws = figure},
  claims = {
    {"L1", "with the rate, a law foretells unseen runs better than with data alone: difference over sum of the errors", below = -0.05,
      measure = function(result, p) return lab.better_law(result.rate, result.data, p.seed) end, source = "Training Dynamics, C1"},
    {"L2", "once the rate is in, data matter little: exponent of the error in the tokens", measure = parameter("rate", "gD"), below = 0.25,
      source = "Training Dynamics, Fig. 4: .05; half of Kumar's .51"},
    {"L3", "the error grows as the rate decays: exponent in rate / peak + 0.05", measure = parameter("rate", "g_lr"), below = -0.09,
      source = "Training Dynamics, Fig. 4: ln 1.74 / ln 0.048 = -.18"},
    {"L4", "a higher peak rate lowers the error: its exponent", measure = parameter("rate", "g_pk"), below = -0.11,
      source = "Training Dynamics, Fig. 6: .0188 to .0087 from 3e-4 to 1e-2: -.22"},
    {"L5", "Kumar's law at the ends of cosine runs: exponent of the tokens", measure = parameter("rounding", "gD"), above = 0.25,
      source = "Kumar et al., 2024: .51"},
    {"L6", "and of the size: larger models lose less", measure = parameter("rounding", "gN"), above = 0.17, source = "Kumar et al., 2024: .34"},
    {"L7", "Chinchilla's law foretells the loss of a run that it has not seen: rms of logs", below = 0.02,
      measure = function(result) return result.loss.rms end, source = "this project: 2 %"},
  },
}

--- scaling.lua - how much of a model's size does training with 4 bits keep, and does that hang on the optimizer?
--
-- Figure 5 and Table 10 of "Beyond Outliers" (2025): L = A'/(N rho)^alpha + E for each optimizer, with A', alpha and E shared by
-- full precision (rho = 1) and W4A4 QuEST, at 20 tokens a parameter. Intervals by leaving one point out, by profiles and by the
-- bootstrap of the points; condition numbers and correlations say what the points determine. Unlike the paper, rates are swept at the
-- largest size only (it swept each size), and below 1 M parameters the tied embedding is a third to two thirds of N.

local q = require "quench"
local sweeps = q.sweeps

local function plan(p)
  local plans = {}
  for i, at in ipairs(sweeps.sizes(p, p.sizes)) do plans[i] = sweeps.plan(at, #sweeps.optimizers * (at == p and p.rates + 1 or 2)) end
  return q.lab.sum(plans)
end

local function fit(points)
  local f = q.fit.efficiency(points, {leave_one_out = true, profile = true, bootstrap = 100})
  local out = {params = f.params, rms = f.rms, condition = f.identifiability.condition, correlations = f.identifiability.correlations,
    leave_one_out = {}, bootstrap = {}, samples = {}, profile = f.profile, points = points}
  for _, name in ipairs(f.law.names) do out.leave_one_out[name], out.bootstrap[name] = f.leave_one_out[name], f.bootstrap[name] end
  for k, s in ipairs(f.bootstrap.samples) do out.samples[k] = s.rho_4 end
  return out
end

local function run(p, ctx)
  return sweeps.each(p, ctx, function(name, best, _, _, data)
    local points = {}
    for _, at in ipairs(sweeps.sizes(p, p.sizes)) do
      for _, quest in ipairs{false, true} do
        local r = sweeps.train(at, ctx, data, {name = name, factor = best.factor, quest = quest})
        if r.loss then points[#points + 1] = {N = sweeps.weights(at), precision = quest and 4 or 16, L = r.loss} end
      end
    end
    return fit(points)
  end, plan(p))
end

local function rho(r) return r.params.rho_4 end

--- fn(result, rho of an optimizer) with a 95 % interval from the bootstrap: the k-th draws of all optimizers together.
local function of_rhos(fn)
  return function(result)
    local draws = {}
    for k = 1, #result.adamw.samples do
      draws[k] = fn(result, function(r) return r.samples[k] end)
    end
    return q.lab.interval(fn(result, rho), draws)
  end
end

local function figure_fits(runs)
  local grid = {columns = 3}
  for i, name in ipairs(sweeps.optimizers) do
    grid[i] = {title = name, x = "weights", y = "validation loss (nats)", log = "x", legend = i == 3 and "right" or false}
    for s, result in ipairs(runs) do
      for k, bits in ipairs{16, 4} do
        q.lab.add_efficiency(grid[i], result[name].points, result[name].params, bits,
          {colour = k, label = s == 1 and (bits == 16 and "full precision" or "W4A4") or nil})
      end
    end
  end
  return q.plot.grid(grid)
end

--- rho with two kinds of interval, cut at 1.5, beside the paper's.
local function figure_rho(runs)
  local grid, paper = {columns = 2}, q.lab.paper_points("rho", sweeps.optimizers)[1]
  for k, method in ipairs{{"leave_one_out", "range of leave-one-out"}, {"bootstrap", "95 % of the bootstrap"}} do
    grid[k] = {title = method[2], y = {label = "rho, 4 bits", range = {0, 1.5}}, legend = k == 1 and "bottom left" or false}
    sweeps.add_intervals(grid[k], runs, rho, function(r) return r[method[1]].rho_4 end, {colour = 1, label = "here"})
    table.insert(grid[k], {"points", x = paper.x, y = paper.y, colour = 2, marker = "star", label = "Table 10"})
  end
  return q.plot.grid(grid)
end

--- How far leaving a point out moves a parameter, in parts of its value: the mean of the jackknife's errors.
local function looseness(result, key)
  return sweeps.average(result, function(r) return r.leave_one_out[key].error / math.abs(r.params[key]) end)
end

local function report(runs)
  local lines = {"| optimizer | run | rho, 4 bits (leave-one-out; profile; bootstrap) | alpha | E | A' | condition | correlation alpha, E |",
    "| --- | --- | --- | --- | --- | --- | --- | --- |"}
  local function range(t) return ("%s .. %s"):format(t.low and ("%.3g"):format(t.low) or "open", t.high and ("%.3g"):format(t.high) or "open") end
  for s, result in ipairs(runs) do
    for _, name in ipairs(sweeps.optimizers) do
      local r, c = result[name], result[name].correlations
      local function value(key)
        return ("%.3g (%s; %s; %s)"):format(r.params[key], range(r.leave_one_out[key]), range(r.profile[key]), range(r.bootstrap[key]))
      end
      lines[#lines + 1] = ("| %s | %d | %s | %s | %s | %s | %.3g | %s |"):format(name, s, value "rho_4", value "alpha", value "E", value "A",
        r.condition, c and ("%+.3f"):format(c.alpha.E) or "none: not identified")
    end
  end
  return table.concat(lines, "\n")
end

return q.recipe{
  name = "scaling",
  doc = "How much of a model's size does training with 4 bits keep, and does that hang on the optimizer?",
  params = sweeps.params{{"sizes", "string", default = "1x3x8 1x3x12 1x3x16", doc = "further sizes: layers x heads x width of a head"}},
  scales = sweeps.scales{smoke = {sizes = "1x3x4 2x3x4 2x3x8"}, small = {sizes = "1x3x16 2x3x16 2x3x32"},
    medium = {sizes = "2x3x16 2x3x32 4x3x32"}, paper = {sizes = "4x6x128 6x9x128 12x12x128 18x12x128"}},
  run = run, plan = plan, report = report, figures = {fits = figure_fits, rho = figure_rho},
  claims = {
    {"S1", "Shampoo's rho less the largest of the other five", above = 0, source = "Beyond Outliers, Table 10: 0.879, next AdamW 0.863",
      measure = of_rhos(function(r, value) return sweeps.lead(r, "shampoo", value, nil, math.max) end)},
    {"S2", "PSGD's rho less the smallest of the other five", below = 0, source = "Beyond Outliers, Table 10: 0.739, next SOAP 0.822",
      measure = of_rhos(function(r, value) return sweeps.lead(r, "psgd", value) end)},
    {"S3", "mean rho of the six", measure = of_rhos(sweeps.average),
      above = 0.7, below = 0.95, source = "Beyond Outliers, Table 10: 0.835"},
    {"S4", "relative jackknife error of rho over that of alpha (means over optimizers)", below = 1,
      measure = function(r) return looseness(r, "rho_4") / looseness(r, "alpha") end,
      source = "this project's reading: E from 1.39 to 2.22 in Table 10 says that A', alpha and E are poorly determined"},
  },
}

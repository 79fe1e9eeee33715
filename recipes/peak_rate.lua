--- peak_rate.lua - does a higher peak learning rate give a model that quantizes better at equal loss?
--
-- Figure 6 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): the same run with
-- several peak rates, each with one cooldown at its end, and the error of the GPTQ-quantized model along it.

local q = require "quench"
local lab = q.lab

local function formats(p)
  return {gptq4 = {method = "gptq", bits = 4, group = p.group}, gptq3 = {method = "gptq", bits = 3, group = p.group}}
end

local function plan(p) return lab.plan(p, p.rates * (p.steps + p.cooldown)) end

--- The peak rates, lowest first: geometric from lr / span to lr.
local function peaks(p)
  local list = {}
  for i = 1, p.rates do list[i] = p.lr * p.span ^ ((i - p.rates) / (p.rates - 1)) end
  return list
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {rates = {}}
  for i, lr in ipairs(peaks(p)) do
    local at = setmetatable({lr = lr}, {__index = p})
    local stable, folder = lab.stable(ctx, at, data, {steps = p.steps, forks = {p.steps}, formats = formats(p),
      points = lab.spaced(p.steps / p.points, p.steps, p.points), label = ("peak rate %.2g"):format(lr)})
    local c, last = lab.cooldown(ctx, at, data, {folder = folder, from = p.steps, decay = p.cooldown, formats = formats(p),
      points = lab.spaced(p.steps + p.cooldown / 4, p.steps + p.cooldown, 4), label = ("cooldown from %.2g"):format(lr)})
    local points = {}
    for _, list in ipairs{stable.points, c.points} do
      for _, point in ipairs(list) do points[#points + 1] = point end
    end
    results.rates[i] = {lr = lr, points = points}
    if i == p.rates then results.yardstick = lab.yardstick(p, data, last) end
  end
  return results
end

local function last(r) return r.points[#r.points] end

--- The ends of the two rates with the lowest final losses, lower rate first.
local function best_two(result)
  local order = {}
  for i, r in ipairs(result.rates) do order[i] = {lr = r.lr, point = last(r)} end
  table.sort(order, function(a, b) return a.point.loss < b.point.loss end)
  local a, b = order[1], order[2]
  if a.lr > b.lr then a, b = b, a end
  return a.point, b.point
end

--- Difference over sum, in [-1, 1]: a ratio misleads when noise makes an error negative.
local function contrast(a, b) return (a - b) / (math.abs(a) + math.abs(b)) end

local function near(key)
  return function(result)
    local low, high = best_two(result)
    return contrast(high[key], low[key])
  end
end

local function gap(result)
  local low, high = best_two(result)
  return math.abs(high.loss - low.loss)
end

local function ends(result) return contrast(last(result.rates[#result.rates]).gptq3, last(result.rates[1]).gptq3) end

local function panel(runs, p, x, y, labels)
  local layers = {x = labels[1], y = labels[2]}
  for i, rate in ipairs(runs[1].rates) do
    for s, r in ipairs(runs) do
      local xs, ys = {}, {}
      for k, point in ipairs(r.rates[i].points) do xs[k], ys[k] = x(point, p), y(point) end
      layers[#layers + 1] = {"line", x = xs, y = ys, colour = i, marker = "circle", dash = "solid",
        label = s == 1 and ("peak %.1e"):format(rate.lr) or nil}
    end
  end
  return layers
end

local function tokens(point, p) return lab.millions(p, point.step) end

local function figure(runs, p)
  return q.plot.grid{
    columns = 1,
    panel(runs, p, tokens, function(t) return t.gptq4 * 100 end, {"tokens (millions)", "4-bit error (%)"}),
    panel(runs, p, tokens, function(t) return t.gptq3 * 100 end, {"tokens (millions)", "3-bit error (%)"}),
    panel(runs, p, function(t) return t.loss end, function(t) return t.loss * (1 + t.gptq3) end, {"validation loss (nats)", "3-bit loss (nats)"}),
  }
end

return q.recipe{
  name = "peak_rate",
  doc = "Does a higher peak learning rate give a model that quantizes better at equal loss?",
  params = lab.params{
    {"cooldown", "integer", default = 400, min = 4, doc = "steps of each cooldown"},
    {"rates", "integer", default = 4, min = 2, max = 8, doc = "how many peak rates, up to lr"},
    {"span", "number", default = 32, above = 1, doc = "highest peak rate over lowest"},
    {"points", "integer", default = 6, min = 2, doc = "measurements along each constant rate"},
  },
  scales = {
    smoke = {layers = 1, width = 32, heads = 2, vocab = 256, batch = 2, context = 32, steps = 24, cooldown = 8, rates = 3, points = 3,
      group = 16, calibration = 2, eval_tokens = 256},
    tiny = {width = 64, group = 64, lr = 1e-2, steps = 3600, cooldown = 900, draws = 2},
    small = {width = 96, group = 96, lr = 1e-2, steps = 12000, cooldown = 3000, draws = 3, eval_tokens = 32768},
    medium = {layers = 4, width = 128, lr = 1e-2, steps = 24000, cooldown = 6000, draws = 3, points = 10, eval_tokens = 32768,
      max_hours = 96},
    paper = {layers = 12, width = 768, heads = 12, vocab = 50304, context = 2048, batch = 256, lr = 1e-2, steps = 152000, cooldown = 38000,
      warmup = 1900, points = 40, eval_tokens = 1000000, calibration = 1024},
  },
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

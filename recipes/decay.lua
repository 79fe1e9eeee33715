--- decay.lua - does the quantization error jump when the learning rate decays, or when more data is seen?
--
-- Figure 4 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025): one run at a
-- constant rate, cooldowns from several of its checkpoints, and the error of the GPTQ-quantized model
-- along all of them. If data caused the error, the cooled-down models would get worse with their budget;
-- if the decay does, each cooldown jumps by about as much.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, p.steps + p.budgets * p.cooldown) end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local results, folders = lab.forked(ctx, p, data)
  results.yardstick = lab.yardstick(p, data, folders[#folders])
  return results
end

-- ---- what the claims measure ----------------------------------------------

--- For each cooldown: a measure at its start and at its end.
local function ends(result, key)
  local list = {}
  for i, c in ipairs(result.cooldowns) do
    list[i] = {start = lab.at_step(result.stable, c.from)[key], finish = c.points[#c.points][key]}
  end
  return list
end

--- Mean error at the ends of the cooldowns over the mean at their starts: means first, since at 4 bits
-- a single start can be as small as its noise.
local function jump(key)
  return function(result)
    local start, finish = 0, 0
    for _, e in ipairs(ends(result, key)) do start, finish = start + e.start, finish + e.finish end
    return finish / start
  end
end

local function spread(key)
  return function(result)
    local low, high, sum, list = math.huge, -math.huge, 0, ends(result, key)
    for _, e in ipairs(list) do low, high, sum = math.min(low, e.finish), math.max(high, e.finish), sum + e.finish end
    return (high - low) / (sum / #list)
  end
end

-- ---- the figure -----------------------------------------------------------

--- The learning rate along the stable run and each cooldown, dotted, on the right axis.
local function add_rates(layers, result, p)
  local function add(steps, y)
    local x = {}
    for i, step in ipairs(steps) do x[i] = lab.millions(p, step) end
    layers[#layers + 1] = {"line", x = x, y = y, axis = "y2", dash = "dotted", marker = false, colour = "grey", width = 0.8}
  end
  add({0, lab.warmup(p, p.steps), p.steps}, {0, 1, 1})
  for _, c in ipairs(result.cooldowns) do add({c.from, c.points[#c.points].step}, {1, 0}) end
end

local function panel(runs, p, key, label, scale)
  local layers = {x = "tokens (millions)", y = label, y2 = "learning rate / peak"}
  add_rates(layers, runs[1], p)
  lab.add_curves(layers, runs, p, function(point) return point[key] * scale end)
  return layers
end

local function figure(runs, p)
  return q.plot.grid{
    columns = 2,
    panel(runs, p, "gptq4", "4-bit error (%)", 100), lab.paper_panel "decay, 4 bits",
    panel(runs, p, "gptq3", "3-bit error (%)", 100), lab.paper_panel "decay, 3 bits",
    panel(runs, p, "loss", "validation loss (nats)", 1), lab.paper_panel "decay, loss",
  }
end

return q.recipe{
  name = "decay",
  doc = "Does the quantization error jump when the learning rate decays, or when more data is seen?",
  params = lab.trunk_params(),
  scales = lab.trunk_scales(),
  run = run,
  plan = plan,
  figures = {decay = figure},
  report = lab.report_yardstick,
  claims = {
    {"C1", "the 4-bit error jumps in the cooldowns: mean at their ends over mean at their starts",
      measure = jump "gptq4", above = 1.6, source = "Training Dynamics, Fig. 4a: 5.4e-3 to 9.4e-3"},
    {"C1, 3 bits", "the same at 3 bits", measure = jump "gptq3", above = 1.6, source = "Training Dynamics, Fig. 4"},
    {"C2", "cooled-down models end at nearly the same 4-bit error whatever their budget: (max - min) / mean",
      measure = spread "gptq4", below = 0.15, source = "Training Dynamics, Fig. 4a: 8.35e-3 to 9.38e-3 from 10B to 100B tokens"},
    {"C2, 3 bits", "the same at 3 bits", measure = spread "gptq3", below = 0.15, source = "Training Dynamics, Fig. 4"},
  },
}

--- schedule_free.lua - does a model trained without a schedule quantize like a cooled-down one, or like one at a constant rate?
--
-- "Training Dynamics Impact Post-Training Quantization Robustness" (2025) ties the error to the decay of the rate; its authors launched
-- schedule-free runs and never reported them. Schedule-Free AdamW keeps its rate, and is judged at a running average: an average
-- of weights lowers the error there (Fig. 7), a low loss comes with a higher one (Fig. 4). Here it trains as long as a constant
-- rate and its cooldown together, at several rates; the one with the lowest final loss in full precision counts.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, (1 + #p.rates) * (p.steps + p.cooldown)) end

--- The schedule-free run at a multiple of the peak rate: points at the steps where the others are measured.
local function free(ctx, p, data, rate, steps)
  local last, measured = p.steps + p.cooldown, {}
  for _, step in ipairs(steps) do measured[step] = true end
  local key = {kind = "schedule_free", rate = rate, beta = p.beta, points = steps, formats = lab.formats(p)}
  for _, entry in ipairs(lab.annealed_params()) do key[entry[1]] = p[entry[1]] end
  key.seed, key.max_hours = p.seed, nil
  return ctx:once(key, function(folder)
    local run = q.train{
      model = lab.model(p, p.seed), data = data, steps = last, batch = p.batch, context = p.context, seed = p.seed, folder = folder,
      optim = function(parameters)
        return q.optim.schedule_free(parameters, {lr = rate * p.lr, betas = {p.beta, 0.95}, eps = 1e-8, weight_decay = p.weight_decay, clip = 1,
          warmup_steps = lab.warmup(p, p.steps)})
      end,
      probes = {lab.probe(data, p, lab.formats(p), measured, p.seed)},
      progress = function(x) return ctx:progress(x) end, label = ("schedule-free at %.2g"):format(rate * p.lr),
    }
    return lab.curve(run.log, p)
  end)
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data = lab.data(p)
  local annealed = lab.annealed(ctx, p, data, "constant rate")
  local results, steps = {annealed = annealed.points, from = annealed.from, free = {}}, {}
  for i, point in ipairs(annealed.points) do steps[i] = point.step end
  for i, rate in ipairs(p.rates) do results.free[i] = {rate = rate, points = free(ctx, p, data, rate, steps)} end
  return results
end

-- ---- what the claims measure ----------------------------------------------

--- The end of the schedule-free run with the lowest final loss.
local function best(result)
  local found
  for _, f in ipairs(result.free) do
    local point = lab.last(f.points)
    if not found or point.loss < found.loss then found = point end
  end
  return found
end

local function cooled(result) return lab.last(result.annealed) end
local function constant(result) return lab.at_step(result.annealed, result.from) end
local function loss(point) return point.loss end
local function three(point) return lab.quantized(point, "gptq3") end

local function against_cooldown(pick)
  return function(result) return pick(best(result)) - pick(cooled(result)) end
end

local function error_against_cooldown(key)
  return function(result) return lab.contrast(best(result)[key], cooled(result)[key]) end
end

--- Where the schedule-free 3-bit error lies: 0 at that of the constant rate, 1 at that of its cooldown.
local function place(result)
  local low, high = constant(result).gptq3, cooled(result).gptq3
  if high <= low then return nil, "the cooldown did not raise the error" end
  return (best(result).gptq3 - low) / (high - low)
end

-- ---- the figure -----------------------------------------------------------

local function panel(runs, p, label, pick)
  local layers = {x = "tokens (millions)", y = label}
  local function tokens(point) return lab.millions(p, point.step) end
  lab.add_line(layers, runs, function(r) return r.annealed end, tokens, pick, {label = "constant rate, cooldown", colour = 1, marker = "circle"})
  for i, f in ipairs(runs[1].free) do
    lab.add_line(layers, runs, function(r) return r.free[i].points end, tokens, pick,
      {label = ("schedule-free, %.2g"):format(f.rate * p.lr), colour = i + 1, marker = "square"})
  end
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 1, share = "x", panel(runs, p, "validation loss (nats)", loss), panel(runs, p, "3-bit loss (nats)", three),
    panel(runs, p, "3-bit error (%)", function(point) return 100 * point.gptq3 end)}
end

local OPEN = "open in Training Dynamics, appendix H: no schedule-free optimizers"

return q.recipe{
  name = "schedule_free",
  doc = "Does a model trained without a schedule quantize like a cooled-down one, or like one at a constant rate?",
  params = lab.annealed_params{
    {"rates", "list", default = {1, 3}, doc = "schedule-free rates, in parts of lr"},
    {"beta", "number", default = 0.9, min = 0, below = 1, doc = "weight of the average where gradients are taken"},
  },
  scales = lab.annealed_scales{small = {rates = {0.3, 1, 3}}, medium = {rates = {0.3, 1, 3}}, paper = {lr = 3e-3, rates = {0.3, 1, 3}}},
  run = run, plan = plan, figures = {schedule_free = figure},
  -- the regions were set before any run above smoke: 0.02 nats and 0.05 are those of peak_rate
  claims = {
    {"S1", "schedule-free training reaches the loss of the cooldown after the same tokens: difference in nats", measure = against_cooldown(loss),
      below = 0.02, source = OPEN},
    {"S2", "its 3-bit error is lower than the cooldown's: difference over sum", measure = error_against_cooldown "gptq3", below = -0.05,
      source = OPEN},
    {"S2, 4 bits", "the same at 4 bits", measure = error_against_cooldown "gptq4", below = -0.05, source = OPEN},
    {"S3", "at 3 bits it is the better model: difference in nats", measure = against_cooldown(three), below = 0, source = OPEN},
    {"S4", "its 3-bit error is nearer to the constant rate's (0) than to the cooldown's (1)", measure = place, below = 0.5, source = OPEN},
  },
}

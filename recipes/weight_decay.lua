--- weight_decay.lua - does more weight decay give a model that quantizes better at equal loss?
--
-- Figure 19 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025), whose values of the decay are not
-- printed. What counts is how long the weights remember, 1 / (rate x decay) steps, as a share of the run: 2 % with the
-- paper's 0.1; at tiny 22 % with 0.1 and 2 % with 1.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, #p.decays * (p.steps + p.cooldown)) end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {decays = {}}
  for i, decay in ipairs(p.decays) do
    local r = lab.annealed(ctx, lab.with(p, {weight_decay = decay}), data, ("decay %g"):format(decay))
    results.decays[i] = {decay = decay, points = r.points}
  end
  return results
end

--- The error under the larger against that under the smaller of two decays: difference over sum.
local function best(key)
  return function(result)
    local small, large = lab.best_two(result.decays)
    return lab.contrast(large[key], small[key])
  end
end

local function ends(key)
  return function(result)
    return lab.contrast(lab.last(result.decays[#result.decays].points)[key], lab.last(result.decays[1].points)[key])
  end
end

local function gap(result)
  local small, large = lab.best_two(result.decays)
  return math.abs(large.loss - small.loss)
end

local function panel(runs, x, y, labels)
  local layers = {x = labels[1], y = labels[2]}
  for i, r in ipairs(runs[1].decays) do
    lab.add_line(layers, runs, function(one) return one.decays[i].points end, x, y, {label = ("decay %g"):format(r.decay), colour = i,
      marker = "circle"})
  end
  return layers
end

local function figure(runs, p)
  local function tokens(t) return lab.millions(p, t.step) end
  return q.plot.grid{
    columns = 2,
    panel(runs, tokens, function(t) return t.gptq4 * 100 end, {"tokens (millions)", "4-bit error (%)"}),
    panel(runs, tokens, function(t) return t.gptq3 * 100 end, {"tokens (millions)", "3-bit error (%)"}),
    panel(runs, tokens, function(t) return t.weight_norm end, {"tokens (millions)", "norm of the weights"}),
    panel(runs, function(t) return t.loss end, function(t) return t.gptq3 * 100 end, {"validation loss (nats)", "3-bit error (%)"}),
  }
end

local SOURCE = "Training Dynamics, Fig. 19: the sign; its decays are not printed"

return q.recipe{
  name = "weight_decay",
  doc = "Does more weight decay give a model that quantizes better at equal loss?",
  params = lab.annealed_params{{"decays", "list", default = {0.03, 0.1, 0.3, 1}, doc = "weight decays, lowest first"}},
  scales = lab.annealed_scales{smoke = {decays = {0.1, 1}}, paper = {decays = {0.01, 0.03, 0.1, 0.3}}},
  run = run, plan = plan, figures = {weight_decay = figure},
  claims = {
    {"C5", "of the two decays with the best final losses, the larger has the lower 4-bit error: difference over sum",
      measure = best "gptq4", below = 0, source = SOURCE},
    {"C5, 3 bits", "the same at 3 bits", measure = best "gptq3", below = 0, source = SOURCE},
    {"C5, equal loss", "those two end at nearly the same loss (nats apart)", measure = gap, below = 0.02, source = "as in peak_rate"},
    {"C5, ends", "3-bit error with the largest decay against the smallest: difference over sum", measure = ends "gptq3", below = 0,
      source = SOURCE},
  },
}

--- architectures.lua - does the error jump in the cooldown of a mixture of experts and of a state-space model too?
--
-- "Training Dynamics Impact Post-Training Quantization Robustness" (2025) measures dense transformers only (appendix H). Here a dense
-- Llama, a mixture of experts (Mixtral's: each token goes through half of the experts, which together are twice as wide as the
-- dense MLP, so as many weights work on a token) and Mamba-2 (two blocks for one of the others, the usual count, about as many
-- weights) see the same text at the same rates: a constant one, then a cooldown. The router, norms and convolutions stay as they are.

local q = require "quench"
local lab = q.lab

local inner = 8 / 3 -- of the dense MLP over the width, up to a multiple of 16

local families = {
  {name = "dense", family = "llama"}, {name = "mixture", label = "mixture of experts", family = "mixtral"},
  {name = "mamba", label = "Mamba-2", family = "mamba2"},
}

local function new_model(f, p)
  local wide = math.ceil(inner * p.width / 16) * 16
  local config = {vocab_size = p.vocab, hidden_size = p.width, num_hidden_layers = p.layers, seed = p.seed, tie_word_embeddings = false}
  local own = f.family == "mamba2" and {num_hidden_layers = 2 * p.layers, state_size = p.state, head_dim = 2 * p.width / p.heads,
    chunk_size = math.min(64, p.context), initializer_range = 0.02}
    or {num_attention_heads = p.heads, num_key_value_heads = p.heads, max_position_embeddings = p.context, intermediate_size = wide}
  if f.family == "mixtral" then
    own.num_local_experts, own.num_experts_per_tok, own.intermediate_size = p.experts, p.experts / 2, 2 * wide / p.experts
  end
  for key, value in pairs(own) do config[key] = value end
  return q.models.new(f.family, config)
end

--- The points along the constant rate and the cooldown of one architecture, and how many weights it has.
local function trained(ctx, p, data, f)
  local last = p.steps + p.cooldown
  local measured = lab.set_of(lab.spaced(p.steps / p.points, p.steps, p.points), lab.inside(p.steps, p.cooldown))
  local model = new_model(f, p)
  local run = q.train{
    model = model, data = data, steps = last, batch = p.batch, context = p.context, seed = p.seed, folder = ctx:path(f.name),
    optim = function(parameters)
      return q.optim.adamw(parameters, {lr = p.lr, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = p.weight_decay, clip = 1})
    end,
    schedule = q.schedule.wsd{steps = last, warmup = lab.warmup(p, p.steps), decay = p.cooldown},
    probes = {lab.probe(data, p, lab.formats(p), measured, p.seed)}, progress = function(x) return ctx:progress(x) end, label = f.label or f.name,
  }
  return {points = lab.curve(run.log, p), from = p.steps, weights = model:count()}
end

-- a step of the mixture takes two of the dense model's, one of Mamba-2 eleven (measured at tiny)
local function plan(p) return lab.plan(p, (1 + 2 + 11) * (p.steps + p.cooldown)) end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {}
  for _, f in ipairs(families) do results[f.name] = q.scope(trained, ctx, p, data, f) end
  return results
end

-- ---- what the claims measure ----------------------------------------------

local function ends(r, key) return lab.at_step(r.points, r.from)[key], lab.last(r.points)[key] end

local function jump(name, key)
  return function(result)
    local before, after = ends(result[name], key)
    return lab.contrast(after, before)
  end
end

local function against_dense(name)
  return function(result) return lab.contrast(lab.last(result[name].points).gptq3, lab.last(result.dense.points).gptq3) end
end

-- ---- the figure and the report --------------------------------------------

local function panel(runs, p, label, pick)
  local layers = {x = "tokens (millions)", y = label, {"vline", x = lab.millions(p, p.steps), colour = "grey", dash = "dotted"}}
  for i, f in ipairs(families) do
    lab.add_line(layers, runs, function(r) return r[f.name].points end, function(point) return lab.millions(p, point.step) end, pick,
      {label = f.label or f.name, colour = i, marker = "circle"})
  end
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 1, share = "x", panel(runs, p, "3-bit error (%)", function(point) return 100 * point.gptq3 end),
    panel(runs, p, "4-bit error (%)", function(point) return 100 * point.gptq4 end),
    panel(runs, p, "validation loss (nats)", function(point) return point.loss end)}
end

local function report(runs)
  local lines = {"| model | weights | loss at the end (nats) | 3-bit error before the cooldown | and after |", "| --- | --- | --- | --- | --- |"}
  for _, f in ipairs(families) do
    local r = runs[1][f.name]
    local before, after = ends(r, "gptq3")
    lines[#lines + 1] = ("| %s | %d | %.4f | %.3g | %.3g |"):format(f.label or f.name, r.weights, lab.last(r.points).loss, before, after)
  end
  return "Of the first seed:\n\n" .. table.concat(lines, "\n")
end

-- Regions set before any run above smoke: 0.23 is a jump of 1.6, the bar of decay; 0.05 the least effect that peak_rate asks for.
local OPEN = "open in Training Dynamics, appendix H: dense transformers only"
local claims = {
  {"A1", "the 3-bit error of the dense model jumps in the cooldown: difference over sum of end and start",
    measure = jump("dense", "gptq3"), above = 0.23, source = "Training Dynamics, Fig. 4: 5.4e-3 to 9.4e-3 at 4 bits"},
  {"A2", "so does that of the mixture of experts", measure = jump("mixture", "gptq3"), above = 0.23, source = OPEN},
  {"A3", "and that of Mamba-2", measure = jump("mamba", "gptq3"), above = 0.23, source = OPEN},
  {"A4", "the mixture ends with a larger 3-bit error than the dense model: difference over sum", measure = against_dense "mixture",
    above = 0.05, source = OPEN},
  {"A5", "so does Mamba-2", measure = against_dense "mamba", above = 0.05, source = OPEN},
}

return q.recipe{
  name = "architectures",
  doc = "Does the error jump in the cooldown of a mixture of experts and of a state-space model too?",
  params = lab.annealed_params{
    {"experts", "integer", default = 4, min = 2, max = 64, doc = "experts a block; an even number"},
    {"state", "integer", default = 16, min = 1, doc = "states of Mamba-2 a channel"},
  },
  scales = lab.annealed_scales{smoke = {state = 4}, tiny = {lr = 3e-3, steps = 800, cooldown = 200},
    small = {lr = 3e-3, steps = 4000, cooldown = 1000}, medium = {lr = 3e-3}, paper = {lr = 3e-3, experts = 8, state = 128}},
  run = run, plan = plan, figures = {architectures = figure}, report = report, claims = claims,
}

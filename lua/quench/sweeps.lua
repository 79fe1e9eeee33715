--- sweeps.lua - q.sweeps: what the recipes of "Beyond Outliers" (Vlassis et al. 2025) share: the architecture `ant` under
-- the paper's six optimizers at several learning rates, trained once by ctx:once for all of them.
--
-- As in the paper: 20 tokens a parameter, 5 % warmup, 20 % linear decay to 0, no clipping, the presets of q.optim.paper
-- with their rate multiplied; W4A4 is symmetric round-to-nearest, a scale a row of the weight and a token, the tied head left
-- as it is. Unlike the paper, models are judged by their loss: models of this size have no zero-shot accuracy.

local q = require "quench"
local help = require "quench.help"
local lab = require "quench.lab"
local estimate = require "quench.curvature.estimate"

local sweeps = {optimizers = {"adamw", "muon", "psgd", "scion", "shampoo", "soap"}}

local shared = {vocab = 1, text = 1, batch = 1, context = 1, layers = 1, eval_tokens = 1, max_hours = 1}

--- Parameters of these recipes, with the recipe's own behind them.
function sweeps.params(own)
  local list = {}
  for _, entry in ipairs(lab.params()) do
    if shared[entry[1]] then list[#list + 1] = entry end
    if entry[1] == "batch" then list[#list] = {"batch", "integer", default = 16, min = 1, doc = "sequences a step"} end
  end
  for _, entry in ipairs{
    {"heads", "integer", default = 3, min = 3, doc = "attention heads, a multiple of 3"},
    {"head", "integer", default = 16, min = 2, doc = "width of a head"},
    {"per_parameter", "number", default = 20, above = 0, doc = "tokens of training for each parameter"},
    {"rates", "integer", default = 3, min = 1, doc = "learning rates of each optimizer"},
    {"ratio", "number", default = 3, above = 1, doc = "between neighbouring rates"},
  } do list[#list + 1] = entry end
  for _, entry in ipairs(own or {}) do list[#list + 1] = entry end
  return list
end

--- The scales of these recipes: equal settings, so that they share the models. own: scale -> further parameters.
function sweeps.scales(own)
  local scales = {
    smoke = {layers = 1, head = 8, vocab = 256, batch = 2, context = 32, per_parameter = 0.125, rates = 2, eval_tokens = 256},
    tiny = {},
    small = {layers = 4, head = 32, rates = 5, ratio = 2, eval_tokens = 65536},
    medium = {layers = 4, heads = 6, head = 32, vocab = 1024, batch = 32, context = 256, rates = 5, ratio = 2, eval_tokens = 65536,
      max_hours = 200},
    paper = {layers = 18, heads = 15, head = 128, vocab = 32000, batch = 512, context = 1024, rates = 8, ratio = 2, eval_tokens = 655360},
  }
  for name, more in pairs(own or {}) do
    for key, value in pairs(more) do scales[name][key] = value end
  end
  return scales
end

-- ---- size and cost ----------------------------------------------------------

--- Weights of the matrices: the tied embedding, and of each block q, o, k and v for a third of the heads, and the MLP.
function sweeps.weights(p)
  local width = p.heads * p.head
  return p.vocab * width + p.layers * width ^ 2 * (2 + 2 / 3 + 8)
end

--- Steps of a run: p.per_parameter tokens for each weight.
function sweeps.steps(p)
  return math.max(10, math.floor(p.per_parameter * sweeps.weights(p) / (p.batch * p.context) + 0.5))
end

--- The cost of so many runs of a setting, as lab.plan gives it.
function sweeps.plan(p, runs)
  return lab.plan({layers = p.layers, width = p.heads * p.head, vocab = p.vocab, batch = p.batch, context = p.context}, runs * sweeps.steps(p))
end

--- The cost of the sweep itself: every optimizer at every rate.
function sweeps.plan_sweep(p) return sweeps.plan(p, #sweeps.optimizers * p.rates) end

--- The setting p with another size: {layers=, heads=, head=}.
function sweeps.sized(p, size) return setmetatable(size, {__index = p}) end

--- The settings of a text like "1x3x8 2x3x16" (layers, heads, width of a head), and p itself as the last.
function sweeps.sizes(p, text)
  local list = {}
  for word in text:gmatch("%S+") do
    local layers, heads, head = word:match("^(%d+)x(%d+)x(%d+)$")
    if not layers then error(("sizes: '%s' is not layers x heads x width of a head, such as 2x3x16"):format(word), 0) end
    list[#list + 1] = sweeps.sized(p, {layers = tonumber(layers), heads = tonumber(heads), head = tonumber(head)})
  end
  list[#list + 1] = p
  return list
end

-- ---- one run ----------------------------------------------------------------

--- An optimizer's preset at `factor` times its rate: a function for q.train, and the rate. Scion's and Muon's rates of the
-- other groups stay, as in the authors' code.
function sweeps.optimizer(name, factor)
  local preset, o = q.optim.paper{name}, {lr = q.optim.paper{name}.options.lr * factor}
  if preset.options.groups then -- the head is tied: no parameter has the role output
    o.groups = {}
    for _, group in ipairs(preset.options.groups) do
      if group.role ~= "output" then o.groups[#o.groups + 1] = group end
    end
  end
  return function(parameters) return preset(parameters, o) end, o.lr
end

--- A copy of the model with weights and activations of all linear layers but the head rounded to 4 bits.
function sweeps.w4a4(model)
  return (q.quant.quantize(model, {method = "rtn", format = q.quant.int(4), activations = q.quant.int(4)}))
end

local function losses(p, data, model, quantized)
  return q.scope(q.no_grad, function()
    local how = {tokens = p.eval_tokens, batch = p.batch, context = p.context}
    return {loss = q.train.evaluate(model, data, how).loss, quantized = quantized and q.train.evaluate(sweeps.w4a4(model), data, how).loss}
  end)
end

--- Steps at which a run is measured: eight along warmup and constant rate, closer at first, where the loss falls fast; four in the decay.
local function measured(steps)
  local at, set = math.floor(0.8 * steps), {}
  for _, list in ipairs{lab.spaced(math.max(1, math.floor(at / 24)), at, 8, true), lab.spaced(at + (steps - at) / 4, steps, 4)} do
    for _, s in ipairs(list) do set[s] = true end
  end
  return set
end

local function perform(p, ctx, data, folder, o)
  local model = q.models.new("ant", {vocab_size = p.vocab, num_hidden_layers = p.layers, num_attention_heads = p.heads,
    head_dim = p.head, max_position_embeddings = p.context, seed = p.seed})
  if o.quest then q.quant.qat(model, {scheme = "quest", weight_bits = 4, act_bits = 4}) end
  local steps = sweeps.steps(p)
  local wanted, points = measured(steps), {}
  local optim, lr = sweeps.optimizer(o.name, o.factor)
  local run = q.train{
    model = model, data = data, optim = optim, schedule = q.schedule.wsd{steps = steps, warmup = 0.05, decay = 0.2}, steps = steps,
    batch = p.batch, context = p.context, seed = p.seed, folder = folder, progress = function(x) return ctx:progress(x) end,
    label = ("%s, rate %.2g%s"):format(o.name, lr, o.quest and ", QuEST" or ""), eval_tokens = p.eval_tokens,
    probes = {{name = "at", every = 1, run = function(at) return wanted[at.step] and losses(p, data, at.model, not o.quest) or {} end}},
  }
  for _, r in ipairs(run.log) do
    if r["at.loss"] then points[#points + 1] = {step = r.step, loss = r["at.loss"], quantized = r["at.quantized"]} end
  end
  local last = points[#points]
  return {loss = last.loss, quantized = last.quantized, points = points}
end

--- A run: {optimizer=, factor=, lr=, loss=, quantized=, points={{step=, loss=, quantized=}, ...}} and its folder. o: name, factor, and
-- quest = true for training with W4A4 QuEST. A run whose loss becomes infinite has diverged = true instead of losses.
function sweeps.train(p, ctx, data, o)
  local _, lr = sweeps.optimizer(o.name, o.factor)
  local key = {kind = "sweep", optimizer = o.name, lr = lr, quest = o.quest or false, steps = sweeps.steps(p)}
  for _, name in ipairs{"layers", "heads", "head", "vocab", "text", "batch", "context", "eval_tokens", "seed"} do key[name] = p[name] end
  local result, folder = ctx:once(key, function(folder)
    local good, out = pcall(perform, p, ctx, data, folder, o)
    if good then return out end
    if tostring(out):find("the loss became", 1, true) then return {diverged = true} end
    error(out, 0)
  end)
  result.optimizer, result.factor, result.lr = o.name, o.factor, lr
  return result, folder
end

-- ---- the sweep ---------------------------------------------------------------

--- Multiples of the preset's rate: geometric around 1.
function sweeps.factors(p)
  local list = {}
  for i = 1, p.rates do list[i] = p.ratio ^ (i - (p.rates + 1) / 2) end
  return list
end

--- Trains one optimizer at all rates: the run with the lowest loss, the list of runs, and two functions that load the
-- best model and the model of a run by number.
function sweeps.sweep(p, ctx, data, name)
  local runs, folders, best = {}, {}, nil
  for i, factor in ipairs(sweeps.factors(p)) do
    runs[i], folders[i] = sweeps.train(p, ctx, data, {name = name, factor = factor})
    if runs[i].loss and (not best or runs[i].loss < runs[best].loss) then best = i end
  end
  if not best then error(("%s diverges at all %d rates"):format(name, p.rates), 0) end
  return runs[best], runs, function(i) return (q.train.checkpoint.model(folders[i or best] .. "/latest.safetensors")) end
end

--- fn(name, best, runs, load, data) for each optimizer, gathered by name: what most of these recipes do. p.max_hours is kept.
function sweeps.each(p, ctx, fn, plan)
  lab.afford(p, plan or sweeps.plan_sweep(p))
  local data, results = lab.data(p), {}
  for _, name in ipairs(sweeps.optimizers) do
    local best, runs, load = sweeps.sweep(p, ctx, data, name)
    results[name] = fn(name, best, runs, load, data)
  end
  return results
end

--- Token ids (batch, context) of the validation text on which metrics are taken.
function sweeps.ids(p, data) return data:batch("validation", p.batch, p.context, q.stream(p.seed, "metrics")) end

-- ---- claims and figures ----------------------------------------------------------

--- value(result[name]) of an optimizer less the smallest (or, with most = math.max, the largest) of the others named (default: all).
function sweeps.lead(result, name, value, others, most)
  local rival
  for _, other in ipairs(others or sweeps.optimizers) do
    if other ~= name then rival = rival and (most or math.min)(rival, value(result[other])) or value(result[other]) end
  end
  return value(result[name]) - rival
end

--- How many optimizers' results pass a test.
function sweeps.count(result, test)
  local n = 0
  for _, name in ipairs(sweeps.optimizers) do
    if test(result[name], name) then n = n + 1 end
  end
  return n
end

--- The mean of value(result[name]) over the optimizers.
function sweeps.average(result, value)
  local sum = 0
  for _, name in ipairs(sweeps.optimizers) do sum = sum + value(result[name]) end
  return sum / #sweeps.optimizers
end

--- Adds a line for each optimizer to the layers of a plot: pick(result, name) -> list x, list y; mean and band over the runs.
function sweeps.add_lines(layers, runs, pick, style)
  for i, name in ipairs(sweeps.optimizers) do
    local x, seeds = nil, {}
    for s, result in ipairs(runs) do x, seeds[s] = pick(result[name], name) end
    local line = {"line", x = x, y = #runs > 1 and seeds or seeds[1], label = name, colour = i}
    for key, value in pairs(style or {}) do line[key] = value end
    layers[#layers + 1] = line
  end
  return layers
end

--- Adds the points of all runs to the layers, a colour for each optimizer: pick(result) -> x, y.
function sweeps.add_points(layers, runs, pick)
  for i, name in ipairs(sweeps.optimizers) do
    local x, y = {}, {}
    for s, result in ipairs(runs) do x[s], y[s] = pick(result[name], name) end
    layers[#layers + 1] = {"points", x = x, y = y, label = name, colour = i}
  end
  return layers
end

--- Adds, for each run, a value of each optimizer with a bar: value(result[name]), interval(result[name]) -> {low=, high=}.
function sweeps.add_intervals(layers, runs, value, interval, style)
  for _, result in ipairs(runs) do
    local layer = {"errorbars", x = sweeps.optimizers, y = {}, low = {}, high = {}}
    for i, name in ipairs(sweeps.optimizers) do
      local around = interval(result[name])
      layer.y[i], layer.low[i], layer.high[i] = value(result[name]), around.low, around.high
    end
    for key, v in pairs(style) do layer[key] = v end
    layers[#layers + 1] = layer
  end
end

--- A bar chart: value(result[name], name, result) of each optimizer, the mean over the runs with its standard error; an optimizer
-- without any value has no bar.
function sweeps.bars(runs, value, label)
  local names, heights, errors = {}, {}, {}
  for _, name in ipairs(sweeps.optimizers) do
    local values = {}
    for _, result in ipairs(runs) do values[#values + 1] = value(result[name], name, result) or nil end
    if #values > 0 then
      local mean, sem = estimate.mean(values)
      names[#names + 1], heights[#heights + 1], errors[#errors + 1] = name, mean, sem or 0
    end
  end
  return {"bars", x = names, y = heights, error = #runs > 1 and errors or nil, label = label}
end

for name, record in pairs{
  params = {"(own) -> list", "Parameters of the recipes of Beyond Outliers, with the recipe's own behind them."},
  scales = {"(own) -> scales", "Their scales, equal so that they share the models; own: scale -> further parameters."},
  weights = {"(p) -> number", "Weights of the matrices of a setting."},
  steps = {"(p) -> steps", "Steps of a run: p.per_parameter tokens for each weight."},
  plan = {"(p, runs) -> {flops=, hours=, tokens=, note=}", "The cost of so many runs."},
  plan_sweep = {"(p) -> {flops=, hours=, tokens=, note=}", "The cost of every optimizer at every rate."},
  sized = {"(p, {layers=, heads=, head=}) -> p", "The setting with another size."},
  sizes = {"(p, text) -> list of p", "The settings of a text like '1x3x8 2x3x16' (layers, heads, width of a head), p itself last."},
  average = {"(result, value) -> number", "The mean of a value over the optimizers."},
  optimizer = {"(name, factor) -> function(parameters), lr", "An optimizer's preset at a multiple of its rate."},
  w4a4 = {"(model) -> model", "Weights and activations rounded to 4 bits, symmetric, a scale a row and a token."},
  train = {"(p, ctx, data, {name=, factor=, quest=}) -> run, folder", "One run of an optimizer, trained once for all recipes."},
  factors = {"(p) -> list", "Multiples of the preset's rate: geometric around 1."},
  sweep = {"(p, ctx, data, name) -> best, runs, load", "One optimizer at all rates; load(i) gives the model of run i, load() of the best."},
  each = {"(p, ctx, fn, plan) -> results", "fn(name, best, runs, load, data) for each of the six optimizers, by name."},
  ids = {"(p, data) -> ids", "Token ids of the validation text on which metrics are taken."},
  lead = {"(result, name, value, others, most) -> number", "An optimizer's value less the smallest (or, by math.max, largest) of others."},
  count = {"(result, test) -> number", "How many optimizers' results pass a test."},
  add_lines = {"(layers, runs, pick, style) -> layers", "Adds a line for each optimizer, mean and band over seeds."},
  add_points = {"(layers, runs, pick) -> layers", "Adds the points of all seeds, a colour for each optimizer."},
  add_intervals = {"(layers, runs, value, interval, style)", "Adds a value of each optimizer with its interval, for each seed."},
  bars = {"(runs, value, label) -> layer", "Bars of a value of each optimizer: mean and standard error over seeds."},
} do
  help.add{"q.sweeps." .. name, sweeps[name], "q.sweeps." .. name .. record[1], record[2], source = "Vlassis et al. 2025, arXiv 2509.23500"}
end

return sweeps

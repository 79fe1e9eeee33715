--- outliers.lua - do outliers tell which optimizer's model survives quantization, or does the error R_L at its end?
--
-- Figures 1 and 2 of "Beyond Outliers" (2025): the paper's architecture under its six optimizers at several rates; of each
-- optimizer's best model (by loss) the outliers of the last block, R_L, and the loss after W4A4 round-to-nearest. Unlike
-- the paper: models after equal steps, not at a common loss, and the loss itself instead of zero-shot accuracy. Fig. 2
-- takes the last linear layer's input, whose rows behind ReLU^2 mostly have median 0 and so no MMR: here the last block's output.

local q = require "quench"
local lab = q.lab

local optimizers = {"adamw", "muon", "psgd", "scion", "shampoo", "soap"}
local measures = {{"mmr", "MMR of the last block"}, {"kurtosis", "kurtosis of the last block"}, {"R_L", "R_L"}}

--- The parameters of q.lab that count here: rates and decay are the presets'.
local function params(own)
  local ignored, list = {width = 1, lr = 1, warmup = 1, weight_decay = 1, dropout = 1, group = 1, calibration = 1, draws = 1}, {}
  for _, entry in ipairs(lab.params(own)) do
    if not ignored[entry[1]] then list[#list + 1] = entry end
  end
  return list
end

local function plan(p)
  return lab.plan({layers = p.layers, width = p.heads * p.head, vocab = p.vocab, batch = p.batch, context = p.context},
    p.steps * #optimizers * p.rates)
end

local function optimizer(name, f)
  local o = {}
  for key, value in pairs(q.optim.paper{name}.options) do o[key] = value end
  o.lr = o.lr * f
  if o.groups then -- the head is tied: no parameter has the role output
    o.groups = {}
    for _, group in ipairs(q.optim.paper{name}.options.groups) do
      if group.role ~= "output" then o.groups[#o.groups + 1] = group end
    end
  end
  return function(parameters) return q.optim[name](parameters, o) end, o.lr
end

--- Outliers, R_L and the losses of a trained model.
local function measure(p, data, model)
  return q.scope(q.no_grad, function()
    local how = {tokens = p.eval_tokens, batch = p.batch, context = p.context}
    local small = q.quant.quantize(model, {method = "rtn", format = q.quant.int(4), activations = q.quant.int(4)})
    local ids = data:batch("validation", p.batch, p.context, q.stream(p.seed, "outliers"))
    local found = q.metrics.outliers(model, ids)
    return {loss = q.train.evaluate(model, data, how).loss, quantized = q.train.evaluate(small, data, how).loss,
      mmr = found.last_block.mmr.value, kurtosis = found.last_block.kurtosis.value,
      R_L = q.metrics.abc(model, small, ids).R_L.value}
  end)
end

local function train(p, ctx, data, name, f)
  local optim, lr = optimizer(name, f)
  local key = {kind = "outliers", optimizer = name, lr = lr}
  for _, k in ipairs{"layers", "heads", "head", "vocab", "text", "batch", "context", "steps", "eval_tokens", "seed"} do key[k] = p[k] end
  return (ctx:once(key, function(folder)
    local run = q.train{
      model = q.models.new("ant", {vocab_size = p.vocab, num_hidden_layers = p.layers, num_attention_heads = p.heads,
        head_dim = p.head, max_position_embeddings = p.context, seed = p.seed}),
      data = data, optim = optim, schedule = q.schedule.wsd{steps = p.steps, warmup = 0.05, decay = 0.2}, steps = p.steps,
      batch = p.batch, context = p.context, seed = p.seed, folder = folder, label = ("%s, rate %.2g"):format(name, lr),
      progress = function(x) return ctx:progress(x) end}
    local out = measure(p, data, run.model)
    out.factor = f
    return out
  end))
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results = lab.data(p), {}
  for _, name in ipairs(optimizers) do
    local row = {sweep = {}}
    for i = 1, p.rates do
      row.sweep[i] = train(p, ctx, data, name, p.ratio ^ (i - (p.rates + 1) / 2)) -- geometric around 1
      if not row.best or row.sweep[i].loss < row.best.loss then row.best = row.sweep[i] end
    end
    results[name] = row
  end
  return results
end

--- Pearson's correlation over the optimizers of a measure and the quantized loss.
local function correlation(result, key)
  local x, y = {}, {}
  for i, name in ipairs(optimizers) do x[i], y[i] = result[name].best[key], result[name].best.quantized end
  return q.metrics.correlation(x, y)
end

local function value(key)
  return function(result) return correlation(result, key).value end
end

local function figure1(runs)
  local grid = {columns = 3}
  for i, m in ipairs(measures) do
    local c = correlation(runs[1], m[1])
    grid[i] = {title = ("r = %+.2f [%+.2f, %+.2f]"):format(c.value, c.low, c.high), x = m[2], y = "W4A4 loss (nats)",
      legend = i == 3 and "right" or false}
    for _, name in ipairs(optimizers) do
      local best = runs[1][name].best
      grid[i][#grid[i] + 1] = {"points", x = {best[m[1]]}, y = {best.quantized}, label = name}
    end
  end
  return q.plot.grid(grid)
end

local function figure2(runs)
  local plot = {x = "learning rate / preset", y = "MMR of the last block", log = "xy", legend = "right"}
  for i, name in ipairs(optimizers) do
    local x, y = {}, {}
    for k, point in ipairs(runs[1][name].sweep) do x[k], y[k] = point.factor, point.mmr end
    plot[i] = {"line", x = x, y = y, label = name}
  end
  return q.plot(plot)
end

--- How many optimizers have a larger MMR at their largest rate than at their smallest.
local function rises(result)
  local count = 0
  for _, name in ipairs(optimizers) do
    local s = result[name].sweep
    if s[#s].mmr > s[1].mmr then count = count + 1 end
  end
  return count
end

return q.recipe{
  name = "outliers",
  doc = "Do outliers tell which optimizer's model survives quantization, or does the error R_L at its end?",
  params = params{{"rates", "integer", default = 3, min = 2, doc = "learning rates of each optimizer"},
    {"ratio", "number", default = 3, above = 1, doc = "between neighbouring rates"},
    {"head", "integer", default = 32, min = 2, doc = "width of a head"}},
  scales = {
    smoke = {layers = 1, heads = 3, head = 16, vocab = 256, batch = 2, context = 32, steps = 24, rates = 2, eval_tokens = 256},
    tiny = {heads = 3, steps = 1600}, small = {heads = 6, layers = 4, steps = 6000},
    medium = {heads = 6, head = 64, layers = 4, batch = 16, context = 256, steps = 10000, rates = 5, ratio = 2},
    paper = {layers = 18, heads = 15, head = 128, vocab = 32000, batch = 512, context = 1024, steps = 28992, rates = 8, ratio = 2},
  },
  run = run, plan = plan, figures = {correlation = figure1, rates = figure2},
  claims = {
    {"O1", "R_L goes with the quantized loss: Pearson's correlation over six optimizers", measure = value "R_L",
      above = 0.8, source = "Beyond Outliers, Fig. 1: -0.89 with accuracy"},
    {"O2", "a larger MMR does not go with a larger quantized loss: correlation", measure = value "mmr",
      below = 0, source = "Beyond Outliers, Fig. 1: +0.62 with accuracy"},
    {"O3", "nor does a larger kurtosis: correlation", measure = value "kurtosis", below = 0, source = "Beyond Outliers, Fig. 1: +0.70 with accuracy"},
    {"O4", "optimizers whose MMR is larger at their largest rate than at their smallest, of six",
      measure = rises, above = 5.5, source = "Beyond Outliers, Fig. 2: all"},
  },
}

--- lab.lua - q.lab: what the recipes of the two papers share, so that each stays short and one
-- recipe's runs serve the next: the setting (text, tokenizer, model), stable runs and cooldowns kept
-- by ctx:once, and the error of a quantized model on held-out text.

local q = require "quench"
local help = require "quench.help"
local units = require "quench.units"

local lab = {}

--- Parameters that every training recipe has; a recipe adds its own behind them.
function lab.params(more)
  local list = {
    {"layers", "integer", default = 2, min = 1, doc = "blocks"},
    {"width", "integer", default = 128, min = 8, doc = "hidden size"},
    {"heads", "integer", default = 4, min = 1, doc = "attention heads"},
    {"vocab", "integer", default = 512, min = 256, doc = "tokens of the BPE vocabulary; 256 is bytes"},
    {"text", "string", default = "austen", doc = "a corpus by name, or the path of a text file"},
    {"batch", "integer", default = 8, min = 1, doc = "sequences a step"},
    {"context", "integer", default = 128, min = 8, doc = "tokens a sequence"},
    {"steps", "integer", default = 1600, min = 10, doc = "steps at the constant rate"},
    {"lr", "number", default = 3e-3, above = 0, doc = "peak learning rate"},
    {"warmup", "number", default = 0.02, min = 0, doc = "steps of warmup, or a share of the run"},
    {"weight_decay", "number", default = 0.1, min = 0, doc = "decoupled decay"},
    {"dropout", "number", default = 0, min = 0, below = 1, doc = "share of activations dropped"},
    {"group", "integer", default = 128, min = 1, doc = "columns that share a scale"},
    {"calibration", "integer", default = 32, min = 1, doc = "sequences for GPTQ's Hessian"},
    {"draws", "integer", default = 1, min = 1, doc = "calibration draws whose errors are averaged (less noise at 4 bits)"},
    {"eval_tokens", "integer", default = 16384, min = 64, doc = "validation tokens of each measurement"},
    {"max_hours", "number", default = 24, above = 0, doc = "refuse runs that would take longer here"},
  }
  for _, entry in ipairs(more or {}) do list[#list + 1] = entry end
  return list
end

--- The text of a recipe, tokenized: an object of q.data.text.
function lab.data(p)
  local named = p.text == "austen"
  local source = {name = named and p.text or nil, path = not named and p.text or nil}
  if p.vocab == 256 then source.tokenizer = q.tokenizer.bytes()
  else source.vocab_size = p.vocab end
  return q.data.text(source)
end

--- A GPT-NeoX model of the recipe's size with the recipe's seed.
function lab.model(p, seed)
  return q.models.new("gpt_neox", {
    vocab_size = p.vocab, hidden_size = p.width, num_hidden_layers = p.layers, num_attention_heads = p.heads,
    max_position_embeddings = p.context, hidden_dropout = p.dropout, seed = seed,
  })
end

--- Floating-point operations of a training step: 6 a parameter and token, and attention's products.
function lab.flops(p)
  local inner = p.layers * 12 * p.width ^ 2 + p.vocab * p.width
  return p.batch * p.context * (6 * inner + 12 * p.layers * p.context * p.width)
end

local SUSTAINED = 60e9 -- FLOP/s that a training step reaches on two cores of a 2023 server, for plans

--- The cost of several plans together.
function lab.sum(plans)
  local flops, tokens = 0, 0
  for _, plan in ipairs(plans) do flops, tokens = flops + plan.flops, tokens + plan.tokens end
  local hours = flops / SUSTAINED / 3600
  return {flops = flops, hours = hours, tokens = tokens,
    note = ("%.3g tokens, %.2g FLOP, about %s at %d GFLOP/s"):format(tokens, flops, units.seconds(3600 * hours, 2), SUSTAINED / 1e9)}
end

--- The cost of `steps` training steps: {flops=, hours=, tokens=, note=}.
function lab.plan(p, steps) return lab.sum{{flops = lab.flops(p) * steps, tokens = steps * p.batch * p.context}} end

--- Refuses a plan beyond p.max_hours, with its cost.
function lab.afford(p, plan)
  if plan.hours > p.max_hours then
    error(("planned only: %s; raise --max_hours to run it"):format(plan.note), 0)
  end
end

-- ---- the yardstick --------------------------------------------------------

local YARDSTICK_BYTES, YARDSTICK = 200000, 2.109 -- order-5 Witten-Bell n-gram (q.data.ngram), bits a byte

--- Bits a byte of the newest model of a folder on the first 200,000 bytes of the validation text.
function lab.yardstick(p, data, folder)
  return q.scope(function()
    local model = q.train.checkpoint.model(folder .. "/latest.safetensors")
    local ids = data.tokenizer:encode(data:text("validation"):sub(1, YARDSTICK_BYTES), {tensor = true})
    local held = {tokens = function() return ids end}
    local e = q.train.evaluate(model, held, {tokens = ids:numel(), batch = p.batch, context = p.context})
    return {bits_per_byte = e.loss / math.log(2) * ids:numel() / YARDSTICK_BYTES, ngram = YARDSTICK}
  end)
end

--- A paragraph of report.md: how far the model is from the n-gram.
function lab.report_yardstick(runs)
  local sum = 0
  for _, r in ipairs(runs) do sum = sum + r.yardstick.bits_per_byte / #runs end
  return ("The last cooled-down model reaches %.3f bits per byte on the first 200,000 bytes of the validation text; an order-5 "
    .. "n-gram reaches %.3f, so it is %.3f %s."):format(sum, YARDSTICK, math.abs(sum - YARDSTICK), sum < YARDSTICK and "better" or "worse")
end

-- ---- quantization error ---------------------------------------------------

--- Token ids (n, context) for calibration: draw number k of the training split, by a stream of their own.
function lab.calibration(data, p, seed, k)
  return data:batch("train", p.calibration, p.context, q.stream(seed, "calibration " .. (k or 1)))
end

--- CE(quantized)/CE(model) - 1 for each entry of `formats` (name -> options of q.quant.quantize), with the
-- losses in nats, both means over p.draws calibration sets: {loss=, errors = {name -> error}, losses =
-- {name -> loss}}. Paper B, section 3.
function lab.quantization_error(model, data, p, formats, seed)
  return q.scope(q.no_grad, function()
    local how = {tokens = p.eval_tokens, batch = p.batch, context = p.context}
    local base = q.train.evaluate(model, data, how)
    local out = {loss = base.loss, bits_per_byte = base.bits_per_byte, errors = {}, losses = {}}
    local function add(name, loss)
      out.losses[name] = (out.losses[name] or 0) + loss / p.draws
      out.errors[name] = out.losses[name] / base.loss - 1
    end
    for k = 1, p.draws do
      local ids = lab.calibration(data, p, seed, k)
      for name, format in pairs(formats) do
        q.scope(function()
          local given = {calibration = ids}
          for key, value in pairs(format) do given[key] = value end
          add(name, q.train.evaluate(q.quant.quantize(model, given), data, how).loss)
        end)
      end
    end
    return out
  end)
end

--- What quantization_error found as one flat table: loss, bits_per_byte and each format's error under its name.
function lab.flat(e)
  local out = {loss = e.loss, bits_per_byte = e.bits_per_byte}
  for name, value in pairs(e.errors) do out[name] = value end
  return out
end

--- Frobenius norm of the matrices that decay acts on: a wider grid goes with larger weights.
local function weight_norm(model)
  local sum = 0
  for _, r in ipairs(model:named_parameters()) do
    if r[2]:ndim() > 1 then sum = sum + r[2]:detach():norm() ^ 2 end
  end
  return math.sqrt(sum)
end

--- A probe of q.train that measures the quantization error at the given steps (a set), and logs what it found.
function lab.probe(data, p, formats, steps, seed)
  return {name = "ptq", every = 1, run = function(at)
    if not steps[at.step] then return {} end
    local out = lab.flat(lab.quantization_error(at.model, data, p, formats, seed))
    out.weight_norm = weight_norm(at.model)
    return out
  end}
end

-- ---- runs kept by ctx:once ------------------------------------------------

--- What defines a training run: everything its bits depend on.
local function key_of(p, kind, more)
  local key = {kind = kind, optim = p.optim}
  for _, name in ipairs{"layers", "width", "heads", "vocab", "text", "batch", "context", "lr", "warmup", "weight_decay", "dropout",
    "group", "calibration", "draws", "eval_tokens", "seed"} do key[name] = p[name] end
  for name, value in pairs(more or {}) do key[name] = value end
  return key
end

local function optimizer(p)
  return function(parameters)
    return q.optim[p.optim or "adamw"](parameters, {lr = p.lr, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = p.weight_decay, clip = 1})
  end
end

local GRADIENTS = 50 -- steps whose gradient norms are averaged: that of one batch is noisy

--- Mean gradient norm, before clipping, of the records up to number i of a log.
local function gradient_norm(log, i)
  local sum, n = 0, 0
  for k = math.max(1, i - GRADIENTS + 1), i do
    if log[k].grad_norm then sum, n = sum + log[k].grad_norm, n + 1 end
  end
  return n > 0 and sum / n or nil
end

--- The measured points of a log: {step, tokens, scale, loss, bits_per_byte, errors...}.
function lab.curve(log, p)
  local points = {}
  for i, r in ipairs(log) do
    if r["ptq.loss"] then
      local point = {step = r.step, tokens = r.step * p.batch * p.context, scale = r.scale, train_loss = r.loss,
        grad_norm = gradient_norm(log, i)}
      for key, value in pairs(r) do
        local name = key:match("^ptq%.(.+)")
        if name then point[name] = value end
      end
      points[#points + 1] = point
    end
  end
  return points
end

--- The numbers of several lists as a set.
function lab.set_of(...)
  local set = {}
  for _, list in ipairs{...} do
    for _, s in ipairs(list) do set[s] = true end
  end
  return set
end

--- Steps of warmup: p.warmup, or that share of `steps`.
function lab.warmup(p, steps) return p.warmup < 1 and math.floor(p.warmup * steps + 0.5) or p.warmup end

--- A run of a setting with checkpoints at `forks` and each `every` steps, and measurements at `points`: at a constant rate, or
-- under o.schedule = "cosine" or "linear" down to 0 at the last step.
-- o: steps, forks, every, points, formats, label, schedule. Returns {points=} and its folder.
function lab.stable(ctx, p, data, o)
  local warmup = lab.warmup(p, o.steps)
  local schedule = o.schedule and q.schedule[o.schedule]{steps = o.steps, warmup = warmup} or q.schedule.constant{warmup = warmup}
  local key = key_of(p, "stable", {steps = o.steps, forks = o.forks, every = o.every, points = o.points, schedule = o.schedule,
    formats = o.formats})
  return ctx:once(key, function(folder)
    local run = q.train{
      model = lab.model(p, p.seed), data = data, optim = optimizer(p), schedule = schedule, steps = o.steps, batch = p.batch,
      context = p.context, seed = p.seed, folder = folder, keep = o.forks, checkpoint_every = o.every,
      progress = function(x) return ctx:progress(x) end,
      probes = {lab.probe(data, p, o.formats, lab.set_of(o.forks, o.points), p.seed)}, label = o.label or o.schedule or "constant rate",
    }
    return {points = lab.curve(run.log, p)}
  end)
end

--- A cooldown from a checkpoint of the stable run: the rate goes from its peak to `floor` times it over `decay` steps.
-- o: folder (of the stable run), from (step), decay, shape, floor, points, formats, label, keep (steps whose checkpoints stay,
-- besides the last). Returns {points=} and its folder.
function lab.cooldown(ctx, p, data, o)
  local last, kept = o.from + o.decay, {}
  for i, step in ipairs(o.keep or {}) do kept[i] = step end
  kept[#kept + 1] = last
  local key = key_of(p, "cooldown", {of = o.folder:match("[^/]+$"), from = o.from, decay = o.decay, shape = o.shape or "linear",
    floor = o.floor or 0, points = o.points, formats = o.formats, keep = o.keep})
  return ctx:once(key, function(folder)
    local run = q.train{
      model = lab.model(p, p.seed), data = data, optim = optimizer(p),
      schedule = q.schedule.wsd{steps = last, warmup = 0, decay = o.decay, shape = o.shape or "linear", floor = o.floor or 0},
      steps = last, batch = p.batch, context = p.context, seed = p.seed, folder = folder, from = q.train.checkpoint.path(o.folder, o.from),
      progress = function(x) return ctx:progress(x) end, label = o.label or ("cooldown from " .. o.from),
      probes = {lab.probe(data, p, o.formats, lab.set_of(o.points, {last}), p.seed)}, keep = kept,
    }
    return {points = lab.curve(run.log, p)}
  end)
end

--- n whole numbers from a to b, evenly spaced (geometrically with geometric = true), without repeats.
function lab.spaced(a, b, n, geometric)
  local list = {}
  for i = 0, n - 1 do
    local x = n > 1 and i / (n - 1) or 1
    local v = math.floor((geometric and a * (b / a) ^ x or a + (b - a) * x) + 0.5)
    if v ~= list[#list] then list[#list + 1] = v end
  end
  return list
end

help.add{"q.lab.quantization_error", lab.quantization_error, "q.lab.quantization_error(model, data, p, formats, seed) -> {loss=, errors=, losses=}",
  "CE(quantized)/CE(model) - 1 on held-out text, for several formats at once.",
  source = "Catalan-Tatjer, Ajroldi, Geiping, 2025, section 3",
  example = [[q.lab.quantization_error(model, data, p, {gptq3 = {method = "gptq", bits = 3, group = 128}}, 1).errors.gptq3]]}
help.add{"q.lab.stable", lab.stable, "q.lab.stable(ctx, p, data, {steps=, forks=, points=, formats=}) -> {points=}, folder",
  "The constant-rate run of a recipe's setting, trained once and kept for all recipes.", see = {"q.lab.cooldown"}}
help.add{"q.lab.cooldown", lab.cooldown, "q.lab.cooldown(ctx, p, data, {folder=, from=, decay=, points=, formats=}) -> {points=}, folder",
  "A cooldown from a checkpoint of a constant-rate run.", options = nil, see = {"q.lab.stable"}}
for name, record in pairs{
  params = {"(more) -> list", "Parameters that every training recipe has, with the recipe's own behind them."},
  data = {"(p) -> data", "The text of a recipe, tokenized."},
  model = {"(p, seed) -> model", "A GPT-NeoX model of the recipe's size, with the recipe's seed."},
  flops = {"(p) -> number", "Floating-point operations of a training step."},
  plan = {"(p, steps) -> {flops=, hours=, tokens=, note=}", "The cost of that many training steps."},
  sum = {"(plans) -> {flops=, hours=, tokens=, note=}", "The cost of several plans together."},
  afford = {"(p, plan)", "Refuses a plan beyond p.max_hours, with its cost."},
  yardstick = {"(p, data, folder) -> table", "Bits a byte of the newest model of a folder, beside those of an n-gram."},
  report_yardstick = {"(runs) -> text", "A paragraph of report.md: how far the model is from the n-gram."},
  calibration = {"(data, p, seed, k) -> ids", "Token ids for calibration, draw number k."},
  probe = {"(data, p, formats, steps, seed) -> probe", "A probe of q.train that measures the quantization error at the given steps."},
  flat = {"(e) -> point", "What quantization_error found as one flat table."},
  curve = {"(log, p) -> points", "The measured points of a log: step, tokens, scale, loss, bits_per_byte and errors."},
  warmup = {"(p, steps) -> steps", "Steps of warmup: p.warmup, or that share of the steps."},
  set_of = {"(list, ...) -> set", "The numbers of several lists as a set."},
  spaced = {"(a, b, n, geometric?) -> list", "Whole numbers from a to b, evenly or geometrically spaced, without repeats."},
} do
  help.add{"q.lab." .. name, lab[name], "q.lab." .. name .. record[1], record[2]}
end

require "quench.lab.figures"(lab)
require "quench.lab.designs"(lab)
require "quench.lab.averages"(lab)
require "quench.lab.papers"(lab)
require "quench.lab.laws"(lab)
require "quench.lab.curvature"(lab)

return lab

--- lab/designs.lua - the two designs that most recipes are made of, with one set of parameters and scales each,
-- so that what one recipe trained the next one finds (ctx:once, the same key):
--
--   trunk      one run at a constant rate with checkpoints all along it, cooldowns from several of them
--   annealed   a run at a constant rate with one cooldown at its end, under several settings

local q = require "quench"
local help = require "quench.help"

return function(lab)
  local function joined(...)
    local list = {}
    for _, part in ipairs{...} do
      for _, entry in ipairs(part) do list[#list + 1] = entry end
    end
    return list
  end

  local shared = {
    {"cooldown", "integer", default = 160, min = 4, doc = "steps of each cooldown"},
    {"points", "integer", default = 8, min = 2, doc = "measurements along the constant rate"},
  }
  local trunk = {
    {"budgets", "integer", default = 4, min = 2, max = 16, doc = "how many cooldowns"},
    {"spread", "number", default = 8, above = 1, doc = "longest budget over shortest"},
    {"every", "integer", default = 16, min = 1, doc = "steps between the checkpoints of the constant rate"},
  }

  local scales = {
    smoke = {layers = 1, width = 32, heads = 2, vocab = 256, batch = 2, context = 32, steps = 24, cooldown = 8, points = 3, group = 16,
      calibration = 2, eval_tokens = 256},
    tiny = {width = 64, group = 64, lr = 1e-2, steps = 3600, cooldown = 900, points = 6, draws = 2},
    small = {width = 96, group = 96, lr = 1e-2, steps = 12000, cooldown = 3000, points = 6, draws = 3, eval_tokens = 32768},
    medium = {layers = 4, lr = 1e-2, steps = 24000, cooldown = 6000, points = 10, draws = 3, eval_tokens = 32768, max_hours = 96},
    paper = {layers = 12, width = 768, heads = 12, vocab = 50304, context = 2048, batch = 256, steps = 152000, cooldown = 38000,
      warmup = 1900, points = 40, eval_tokens = 1000000, calibration = 1024},
  }
  local trunk_scales = {
    smoke = {budgets = 2, spread = 2, every = 2},
    tiny = {steps = 7200, points = 8, spread = 6, every = 72},
    small = {steps = 24000, points = 12, every = 240},
    medium = {steps = 48000, points = 12, every = 480},
    paper = {steps = 172000, cooldown = 18000, budgets = 6, spread = 86, every = 500},
  }

  --- Common settings of each scale under those of later tables: scale -> {parameter = value}.
  local function merged(...)
    local out = {}
    for _, part in ipairs{...} do
      for scale, values in pairs(part) do
        out[scale] = out[scale] or {}
        for name, value in pairs(values) do out[scale][name] = value end
      end
    end
    return out
  end

  function lab.annealed_params(more) return lab.params(joined(shared, more or {})) end
  function lab.annealed_scales(own) return merged(scales, own or {}) end
  function lab.trunk_params(more) return lab.params(joined(shared, trunk, more or {})) end
  function lab.trunk_scales(own) return merged(scales, trunk_scales, own or {}) end

  local BOTH = {"steps", "cooldown", "points", "lr"} -- in which the two designs differ

  --- Parameters and scales of a recipe that looks at runs of both designs: the trunk's, and the annealed runs' as annealed_steps
  -- and so on. lab.annealed_part(p) is the setting of the latter, whose runs have the same keys as those of an annealed recipe.
  function lab.both_params(more)
    local list = {}
    for _, entry in ipairs(lab.annealed_params()) do
      for _, name in ipairs(BOTH) do
        if entry[1] == name then
          local copy = {"annealed_" .. name, entry[2], doc = entry.doc .. ", of the annealed runs"}
          for key, value in pairs(entry) do copy[key] = copy[key] or value end
          list[#list + 1] = copy
        end
      end
    end
    return lab.trunk_params(joined(list, more or {}))
  end

  function lab.both_scales(own)
    local both = {}
    for scale, values in pairs(scales) do
      both[scale] = {}
      for _, name in ipairs(BOTH) do both[scale]["annealed_" .. name] = values[name] end
    end
    return lab.trunk_scales(merged(both, own or {}))
  end

  function lab.annealed_part(p)
    local changes = {}
    for _, name in ipairs(BOTH) do changes[name] = p["annealed_" .. name] end
    return lab.with(p, changes)
  end

  --- GPTQ at 4 and at 3 bits, the paper's two.
  function lab.formats(p)
    return {gptq4 = {method = "gptq", bits = 4, group = p.group}, gptq3 = {method = "gptq", bits = 3, group = p.group}}
  end

  --- The recipe's parameters with some of them changed.
  function lab.with(p, changes) return setmetatable(changes, {__index = p}) end

  --- The budgets where cooldowns of the trunk start: spread geometrically up to the last step.
  function lab.forks(p) return lab.spaced(p.steps / p.spread, p.steps, p.budgets, true) end

  --- Steps at which a cooldown is measured: more than half of the rise is in its last third.
  function lab.inside(from, decay)
    local list = {}
    for _, share in ipairs{0.25, 0.5, 0.75, 0.95, 1} do
      local step = from + math.floor(share * decay + 0.5)
      if step ~= list[#list] then list[#list + 1] = step end
    end
    return list
  end

  --- The trunk of a setting: {points=}, folder.
  function lab.trunk(ctx, p, data)
    return lab.stable(ctx, p, data, {steps = p.steps, forks = lab.forks(p), every = p.every, formats = lab.formats(p),
      points = lab.spaced(p.steps / p.spread / 2, p.steps, p.points)})
  end

  --- A cooldown of p.cooldown steps from a checkpoint, measured along the way, its checkpoints kept: {points=}, folder.
  function lab.cooled(ctx, p, data, folder, from, label)
    local steps = lab.inside(from, p.cooldown)
    return lab.cooldown(ctx, p, data, {folder = folder, from = from, decay = p.cooldown, formats = lab.formats(p), points = steps,
      keep = steps, label = label})
  end

  --- The trunk and all its cooldowns: {stable = points, cooldowns = {{from =, points =}, ...}}, and their folders.
  function lab.forked(ctx, p, data)
    local stable, folder = lab.trunk(ctx, p, data)
    local out, folders, at = {stable = stable.points, cooldowns = {}}, {trunk = folder}, lab.forks(p)
    for i, from in ipairs(at) do
      local c, last = lab.cooled(ctx, p, data, folder, from, ("cooldown %d of %d"):format(i, #at))
      out.cooldowns[i], folders[i] = {from = from, points = c.points}, last
    end
    return out, folders
  end

  --- The budgets at which cooldowns of the trunk end, and their sum.
  function lab.budgets(p)
    local list, sum = {}, 0
    for i, from in ipairs(lab.forks(p)) do
      list[i] = from + p.cooldown
      sum = sum + list[i]
    end
    return list, sum
  end

  --- A cosine run of so many steps down to a rate of 0, measured at five of them: {points=}, folder.
  function lab.cosine(ctx, p, data, steps, label)
    return lab.stable(ctx, p, data, {steps = steps, forks = {}, points = lab.spaced(steps / 5, steps, 5), formats = lab.formats(p),
      schedule = "cosine", label = label})
  end

  --- A constant rate and its cooldown: {points =, from =}, and the folders of the cooldown and of the constant rate.
  function lab.annealed(ctx, p, data, label)
    local stable, before = lab.stable(ctx, p, data, {steps = p.steps, forks = {p.steps}, formats = lab.formats(p),
      points = lab.spaced(p.steps / p.points, p.steps, p.points), label = label})
    local c, folder = lab.cooled(ctx, p, data, before, p.steps, label .. ", cooldown")
    return {points = joined(stable.points, c.points), from = p.steps}, folder, before
  end

  --- The quantization errors of a checkpoint (a path) or of weights {name -> tensor}, as a point measured at a step.
  function lab.measure(p, data, weights, formats, step)
    return q.scope(function()
      local model = type(weights) == "string" and q.train.checkpoint.model(weights) or lab.model(p, p.seed):assign(weights)
      local point = lab.flat(lab.quantization_error(model, data, p, formats, p.seed))
      point.step = step
      return point
    end)
  end

  --- n batches of validation text, the same for all models of a seed.
  function lab.batches(p, data, n)
    local list, stream = {}, q.stream(p.seed, "held-out batches")
    for b = 1, n do list[b] = data:batch("validation", p.batch, p.context + 1, stream) end
    return list
  end

  --- Difference over sum, in [-1, 1]: below 0 where a is smaller. A ratio misleads when noise makes an error negative.
  function lab.contrast(a, b) return (a - b) / (math.abs(a) + math.abs(b)) end

  function lab.last(points) return points[#points] end

  --- Peak rates, lowest first: p.rates of them, geometric from lr / span to lr.
  function lab.peaks(p)
    local list = {}
    for i = 1, p.rates do list[i] = p.lr * p.span ^ ((i - p.rates) / (p.rates - 1)) end
    return list
  end

  --- The ends of the two runs with the lowest final losses, in the order of the list.
  function lab.best_two(list)
    local order = {}
    for i, r in ipairs(list) do order[i] = {i, lab.last(r.points)} end
    table.sort(order, function(a, b) return a[2].loss < b[2].loss end)
    local a, b = order[1], order[2]
    if a[1] > b[1] then a, b = b, a end
    return a[2], b[2]
  end

  --- The exponent of a power law y ~ x^exponent by least squares on the logarithms; nil and why where y is not positive.
  function lab.exponent(x, y)
    local n, mx, my, xx, xy = #x, 0, 0, 0, 0
    for i = 1, n do
      if not (y[i] > 0) then return nil, "an error is not positive" end
      mx, my = mx + math.log(x[i]) / n, my + math.log(y[i]) / n
    end
    for i = 1, n do
      local d = math.log(x[i]) - mx
      xx, xy = xx + d * d, xy + d * (math.log(y[i]) - my)
    end
    return xy / xx
  end

  for name, record in pairs{
    annealed_params = {"(more) -> list", "Parameters of an annealed run, with the recipe's own behind them."},
    annealed_scales = {"(own) -> scales", "The scales of an annealed run, under the recipe's own values."},
    trunk_params = {"(more) -> list", "Parameters of a trunk with cooldowns, with the recipe's own behind them."},
    trunk_scales = {"(own) -> scales", "The scales of a trunk, under the recipe's own values."},
    both_params = {"(more) -> list", "Parameters of a recipe with a trunk and annealed runs, those of the latter as annealed_*."},
    both_scales = {"(own) -> scales", "Their scales."},
    annealed_part = {"(p) -> p", "The setting of the annealed runs among them."},
    budgets = {"(p) -> steps, sum", "The budgets at which cooldowns of the trunk end."},
    cosine = {"(ctx, p, data, steps, label) -> {points=}, folder", "A cosine run of so many steps, measured at five of them."},
    formats = {"(p) -> {gptq4=, gptq3=}", "GPTQ at 4 and 3 bits."},
    with = {"(p, changes) -> p", "The recipe's parameters with some of them changed."},
    forks = {"(p) -> steps", "Where the cooldowns of a trunk start."},
    inside = {"(from, decay) -> steps", "Where a cooldown is measured."},
    trunk = {"(ctx, p, data) -> {points=}, folder", "The constant-rate run that cooldowns and averages start from, with checkpoints all along."},
    cooled = {"(ctx, p, data, folder, from, label) -> {points=}, folder", "A cooldown of p.cooldown steps, measured along the way."},
    forked = {"(ctx, p, data) -> {stable=, cooldowns=}, folders", "The trunk and all its cooldowns, and their folders (folders.trunk, folders[i])."},
    annealed = {"(ctx, p, data, label) -> {points=, from=}, folder, stable folder", "A constant rate and its cooldown, joined."},
    measure = {"(p, data, weights, formats, step) -> point", "The quantization errors of a checkpoint, or of weights by name."},
    batches = {"(p, data, n) -> list", "n batches of validation text, the same for all models of a seed."},
    contrast = {"(a, b) -> number", "(a - b) / (|a| + |b|), in [-1, 1]."},
    peaks = {"(p) -> rates", "Peak rates, geometric from lr / span to lr."},
    best_two = {"(list) -> point, point", "The ends of the two runs with the lowest final losses, in the order of the list."},
    exponent = {"(x, y) -> number", "The exponent of a power law, by least squares on the logarithms."},
    last = {"(points) -> point", "The last measured point."},
  } do
    help.add{"q.lab." .. name, lab[name], "q.lab." .. name .. record[1], record[2]}
  end
end

--- lab/curvature.lua - what the recipes about flatness share: batches, measurements along runs, interventions that flatten a
-- cooldown, the quadratic test of a quantization step, and curves of spectra.

local q = require "quench"
local help = require "quench.help"

return function(lab)
  --- The batches whose loss the curvature is of, (sequences, length) each: validation text, the same for all models of a seed.
  function lab.curvature_batches(p, data, sequences, length)
    local list, stream = {}, q.stream(p.seed, "curvature batches")
    for b = 1, p.batches do list[b] = data:batch("validation", sequences, length, stream) end
    return list
  end

  --- Errors of GPTQ, sharpness, and measured over predicted rise of the loss by 3-bit rounding, of a checkpoint (a path) or of weights
  -- by name: loss, gptq3, gptq4, sharpness, ratio are set in `point`.
  function lab.measure_flatness(p, data, batches, weights, point)
    for key, value in pairs(lab.measure(p, data, weights, lab.formats(p))) do point[key] = value end
    local model = type(weights) == "string" and q.train.checkpoint.model(weights) or lab.model(p, p.seed):assign(weights)
    local found = q.curvature.measure(model, {batches = batches, samples = 0, seed = p.seed,
      quantize = {rtn3 = {method = "rtn", bits = 3, group = p.group}}})
    point.sharpness, point.ratio = found.sharpness, found.rtn3.ratio
    return point
  end

  --- Of the ratios of a list, ratio_of(entry), the one farthest from 1.
  function lab.worst_ratio(list, ratio_of)
    local worst = 1
    for _, entry in ipairs(list) do
      local ratio = ratio_of(entry)
      if math.abs(ratio - 1) > math.abs(worst - 1) then worst = ratio end
    end
    return worst
  end

  --- measure(path, step) of the checkpoints of a constant rate at its forks, and of a cooldown from each at the shares of it that are
  -- given and at its end: {stable = points, cooldowns = {{from =, points =}, ...}}, and the paths of the last cooldown's
  -- checkpoints, its start first.
  function lab.along(ctx, p, data, shares, measure)
    local results, at, paths = {stable = {}, cooldowns = {}}, lab.forks(p), nil
    local _, stable = lab.stable(ctx, p, data, {steps = p.steps, forks = at, formats = {}, points = {p.steps}})
    for i, from in ipairs(at) do
      local steps, points = {}, {}
      paths = {q.train.checkpoint.path(stable, from)}
      results.stable[i] = measure(paths[1], from)
      for k, share in ipairs(shares) do steps[k] = from + math.floor(share * p.cooldown) end
      local _, folder = lab.cooldown(ctx, p, data, {folder = stable, from = from, decay = p.cooldown, formats = {}, points = {}, keep = steps,
        label = ("cooldown %d of %d"):format(i, #at)})
      steps[#steps + 1] = from + p.cooldown
      for k, step in ipairs(steps) do
        paths[k + 1] = q.train.checkpoint.path(folder, step)
        points[k] = measure(paths[k + 1], step)
      end
      results.cooldowns[i] = {from = from, points = points}
    end
    return results, paths
  end

  -- ---- interventions ----

  --- An intervention that makes a cooldown flatter: the optimizer for q.train, and its loss or nil. name: "plain", "sam" (Foret et
  -- al. 2021), "asam" (Kwon et al. 2021), "noise" as large as 3-bit rounding, "penalty" on the gradient's norm (SAM's first order).
  function lab.flatter(name, p)
    local function optim(parameters)
      local inner = q.optim.adamw(parameters, {lr = p.lr, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = p.weight_decay, clip = 1})
      if name == "sam" then return q.optim.sam(inner, {rho = p.strength * 0.05}) end
      if name == "asam" then return q.optim.asam(inner, {rho = p.strength * 0.5}) end
      if name == "noise" then return q.optim.weight_noise(inner, {bits = 3, group = p.group, seed = p.seed}) end
      return inner
    end
    return optim, name == "penalty" and function(model, ids)
      local value, square = model:loss(ids), 1e-12
      for _, g in ipairs(q.grad(value, model:parameters(), {create_graph = true})) do square = (g * g):sum() + square end
      return value + square:sqrt() * (p.strength * 0.05)
    end or nil
  end

  --- The quadratic test of the 4-bit step (GPTQ): predicted, measured and ratio, the step's length, the curvature along it.
  function lab.quadratic(model, data, p)
    local small = q.quant.quantize(model, {bits = 4, group = p.group, calibration = lab.calibration(data, p, p.seed)})
    local batches = lab.curvature_batches(p, data, p.batch, p.context + 1)
    local test = q.curvature.quadratic(model, {batches = batches, to = small, partial = false, progress = false})
    local square, theirs = 0, small:parameters()
    for i, w in ipairs(model:parameters()) do square = square + (theirs[i] - w):norm() ^ 2 end
    return {predicted = test.predicted.value, measured = test.measured.value, ratio = test.ratio.value, step = math.sqrt(square),
      directional = 2 * test.curvature.value / square}
  end

  --- A number of models at a loss: interpolated between neighbours in loss, the nearest end's outside.
  function lab.at_loss(points, loss, key)
    local list = {unpack(points)}
    table.sort(list, function(a, b) return a.loss < b.loss end)
    for i = 2, #list do
      local a, b = list[i - 1], list[i]
      if loss <= b.loss then return a[key] + (b[key] - a[key]) * math.max(0, (loss - a.loss) / (b.loss - a.loss)) end
    end
    return list[#list][key]
  end

  -- ---- spectra ----

  --- The spectrum of a checkpoint by p.starts Lanczos runs of p.nodes steps: {label =, rules = {{nodes =, weights =}, ...}}.
  function lab.spectrum(p, batches, path, label)
    return q.scope(function()
      local d = q.curvature.density(q.train.checkpoint.model(path), {batches = batches, steps = p.nodes, starts = p.starts, partial = false,
        progress = false, seed = p.seed})
      local rules = {}
      for i, r in ipairs(d.rules) do rules[i] = {nodes = r.nodes, weights = r.weights} end
      return {label = label, rules = rules}
    end)
  end

  --- Adds the share of eigenvalues above each size: the tail of a spectrum, without smearing, mean over starts.
  function lab.add_tail(layers, spectrum, style)
    local all, x, y, above = {}, {}, {}, 0
    for _, r in ipairs(spectrum.rules) do
      for k, node in ipairs(r.nodes) do all[#all + 1] = {node, r.weights[k] / #spectrum.rules} end
    end
    table.sort(all, function(a, b) return a[1] > b[1] end)
    for _, e in ipairs(all) do
      above = above + e[2]
      if e[1] > 0 and above > 0 then x[#x + 1], y[#y + 1] = e[1], above end
    end
    layers[#layers + 1] = {"line", x = x, y = y, label = spectrum.label, colour = style.colour, marker = false, dash = "solid"}
  end

  --- Adds the positive numbers of a list against their place in it.
  function lab.add_ranked(layers, values, style)
    local x, y = {}, {}
    for k, v in ipairs(values) do
      if v > 0 then x[#x + 1], y[#y + 1] = k, v end
    end
    layers[#layers + 1] = {"line", x = x, y = y, label = style.label, marker = "circle", dash = "solid", colour = style.colour}
  end

  for name, record in pairs{
    curvature_batches = {"(p, data, sequences, length) -> list", "The batches whose loss the curvature is of."},
    measure_flatness = {"(p, data, batches, weights, point) -> point", "Errors, sharpness and the quadratic test at 3 bits, set in a point."},
    worst_ratio = {"(list, ratio_of) -> number", "The ratio of a list farthest from 1."},
    along = {"(ctx, p, data, shares, measure) -> {stable=, cooldowns=}, paths",
      "Measures the checkpoints of a constant rate and of its cooldowns: measure(path, step)."},
    flatter = {"(name, p) -> optim, loss or nil", "An intervention that makes a cooldown flatter: plain, sam, asam, noise, penalty."},
    quadratic = {"(model, data, p) -> table", "The quadratic test of the 4-bit step: predicted, measured, ratio, step, directional."},
    at_loss = {"(points, loss, key) -> number", "A number of models interpolated at a loss."},
    spectrum = {"(p, batches, path, label) -> {label=, rules=}", "The spectrum of a checkpoint."},
    add_tail = {"(layers, spectrum, style)", "Adds the share of eigenvalues above each size."},
    add_ranked = {"(layers, values, style)", "Adds the positive numbers of a list against their place in it."},
  } do
    help.add{"q.lab." .. name, lab[name], "q.lab." .. name .. record[1], record[2]}
  end
end

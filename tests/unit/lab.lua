-- q.lab: what the recipes share - keys of shared runs, the two designs, the measures and the curves.
local q = require "quench"
local tap = dofile "tests/tap.lua"

local lab = q.lab
local folder = os.tmpname()
os.remove(folder)

--- A context that keeps the results of ctx:once in memory and counts the runs.
local function context()
  local ctx = {seen = {}, runs = 0}
  function ctx.progress() return nil end
  function ctx:once(key, fn)
    local text = q.json.encode(key)
    local path = ("%s/%s"):format(folder, q.system.sha256(text):sub(1, 12))
    if not self.seen[text] then
      self.runs = self.runs + 1
      self.seen[text] = fn(path)
    end
    return self.seen[text], path
  end
  return ctx
end

--- Random tokens where a recipe has text.
local data = {}
function data.tokens() return data.held end
function data.batch(_, _, B, T, stream)
  local rows = {}
  for b = 1, B do
    rows[b] = {}
    for k = 1, T do rows[b][k] = stream:below(256) end
  end
  return q.tensor(rows, "i32")
end
data.held = data:batch("validation", 1, 2000, q.stream(1, "held")):view(-1)

local function parameters(more)
  local p = q.options.spec("test", lab.trunk_params())(lab.trunk_scales().smoke)
  p.seed = 3
  for key, value in pairs(more or {}) do p[key] = value end
  return p
end

tap.test("scales of a design", function(t)
  local own = lab.trunk_scales{smoke = {every = 3}, huge = {steps = 1}}
  t.equal(own.smoke.every .. " " .. own.smoke.steps .. " " .. own.tiny.every, "3 24 72", "the recipe's own values lie on top")
  t.equal(own.huge.steps, 1, "a scale of its own")
  t.equal(lab.trunk_scales().smoke.every, 2, "and the common ones stay as they are")
  for name, values in pairs(lab.trunk_scales()) do
    local p = q.options.spec("trunk", lab.trunk_params())(values)
    t.ok(lab.forks(p)[1] > lab.warmup(p, p.steps) and #lab.forks(p) == p.budgets, name .. ": cooldowns start behind the warmup")
    p = q.options.spec("annealed", lab.annealed_params())(lab.annealed_scales()[name])
    t.ok(p.steps > p.cooldown, name .. ": annealed")
  end
end)

tap.test("steps, contrast, parameters", function(t)
  t.equal(table.concat(lab.inside(100, 40), " "), "110 120 130 138 140", "inside a cooldown")
  t.equal(table.concat(lab.inside(12, 8), " "), "14 16 18 20", "no step twice")
  t.near(lab.contrast(1, 3), -0.5, 1e-15, "difference over sum")
  t.near(lab.contrast(0.02, -0.01), 1, 1e-15, "with a sign that noise made negative")
  local p = lab.with({lr = 1, steps = 5}, {lr = 2})
  t.equal(p.lr .. " " .. p.steps, "2 5", "with")
end)

tap.test("exponent, best two, peaks", function(t)
  t.near(lab.exponent({1, 10, 100}, {3, 3 * 10 ^ 0.4, 3 * 100 ^ 0.4}), 0.4, 1e-12, "of a power law")
  t.equal(select(2, lab.exponent({1, 2}, {1, -1})), "an error is not positive", "none without a logarithm")
  local a, b = lab.best_two{{points = {{loss = 9}, {loss = 2}}}, {points = {{loss = 3}}}, {points = {{loss = 1}}}}
  t.equal(a.loss .. " " .. b.loss, "2 1", "in the order of the list")
  local peaks = lab.peaks{rates = 3, lr = 8, span = 16}
  t.near(peaks[1] * peaks[2], 0.5 * 2, 1e-12, "geometric")
  t.equal(peaks[3], 8, "up to lr")
end)

tap.test("curves", function(t)
  local layers = {}
  local runs = {{points = {{a = 1, b = 4}, {a = 2, b = 5}}}, {points = {{a = 3, b = 6}, {a = 6, b = 9}}}}
  local function add(which)
    lab.add_line(layers, which, function(r) return r.points end, function(k) return k.a end, function(k) return k.b end, {label = "x"})
    return layers[#layers]
  end
  local one, two = add{runs[1]}, add(runs)
  t.equal(table.concat(one.x, " ") .. "; " .. table.concat(one.y, " "), "1 2; 4 5", "one run")
  t.equal(table.concat(two.x, " ") .. "; " .. table.concat(two.y[2], " "), "2 4; 6 9", "two: mean of x, every y")
  lab.add_diagonal(layers)
  local d = layers[#layers]
  t.equal(table.concat(d.x, " ") .. "; " .. table.concat(d.y, " "), "1 4; 1 4", "y = x")
end)

tap.test("points, groups, sets", function(t)
  local layers, runs = {}, {{a = {{x = 1, y = 2}, {x = 3, y = 4}}, b = {x = 5, y = 6}}, {a = {{x = 7, y = 8}}, b = {x = 9, y = 0}}}
  local function x(point) return point.x end
  lab.add_points(layers, runs, function(r) return r.a end, x, function(point) return point.y end, {label = "a"})
  lab.add_points(layers, runs, function(r) return r.b end, x, function(point) return point.y + 1 end)
  t.equal(table.concat(layers[1].x, " ") .. "; " .. table.concat(layers[1].y, " ") .. layers[1].label, "1 3 7; 2 4 8a", "lists of all runs")
  t.equal(table.concat(layers[2].x, " ") .. "; " .. table.concat(layers[2].y, " "), "5 9; 7 1", "and single points")
  local groups = lab.average_groups{{kind = "lawa", spacing = 2}, {kind = "lawa", spacing = 2}, {kind = "lawa", spacing = 4}, {kind = "ema"}}
  t.equal(#groups .. groups[1].name .. groups[1].final .. groups[3].name .. groups[3].first, "3LAWA, each 2 steps2EMA4", "curves of averages")
  local set = lab.set_of({1, 3}, {3, 4})
  t.ok(set[1] and set[3] and set[4] and not set[2], "a set")
end)

tap.test("budgets, and both designs in one recipe", function(t)
  local list, sum = lab.budgets{steps = 80, spread = 4, budgets = 3, cooldown = 10}
  t.equal(table.concat(list, " ") .. " " .. sum, "30 50 90 170", "ends of the cooldowns")
  for name, values in pairs(lab.both_scales()) do
    local both = q.options.spec("both", lab.both_params())(values)
    local annealed = q.options.spec("annealed", lab.annealed_params())(lab.annealed_scales()[name])
    local trunk = q.options.spec("trunk", lab.trunk_params())(lab.trunk_scales()[name])
    local same = true
    for key in pairs(annealed) do same = same and lab.annealed_part(both)[key] == annealed[key] end
    for key in pairs(trunk) do same = same and both[key] == trunk[key] end
    t.ok(same, name .. ": the settings of both, so that their runs are found again")
  end
end)

tap.test("the papers' numbers", function(t)
  local panel = lab.paper_panel "decay, 4 bits"
  t.equal(panel.title .. #panel, "Training Dynamics, Fig. 4a2", "curves of a figure")
  t.near({panel[2].y[1], panel[2].y[6]}, {0.835, 0.938}, 0, "cooldowns at their ends, in percent: table T3")
  t.ok(panel[1][1] == "line" and panel[2][1] == "points", "known along the constant rate, and at ends only")
  for _, name in ipairs{"decay, 3 bits", "decay, loss", "peak rate, 4 bits", "peak rate, 3 bits", "peak rate, losses", "averages, loss",
    "averages, 3-bit loss", "averages, 3 bits", "trajectory, errors", "trajectory, losses"} do
    for _, layer in ipairs(lab.paper_panel(name)) do t.equal(#layer.x, #layer.y, name .. ": " .. layer.label) end
  end
  t.equal(lab.paper_values("rho").shampoo .. " " .. select(2, lab.paper_values "rho"), "0.879 Beyond Outliers, Table 10", "a table")
  local points = lab.paper_points("accuracy, 50M", q.sweeps.optimizers)
  t.equal(table.concat(points[1].x, " "), "adamw muon shampoo", "only what is known, in order")
  t.fails(function() lab.paper_values "Table 99" end, "no numbers of a paper named 'Table 99'; there are E, accuracy", "another name")
end)

tap.test("flatness: at a loss, worst ratio, tails", function(t)
  local points = {{loss = 3, e = 10}, {loss = 1, e = 30}, {loss = 2, e = 20}}
  t.near({lab.at_loss(points, 1.5, "e"), lab.at_loss(points, 0, "e"), lab.at_loss(points, 9, "e")}, {25, 30, 10}, 1e-12, "interpolated, ends held")
  t.equal(lab.worst_ratio({{r = 1.2}, {r = 0.7}, {r = 1.1}}, function(e) return e.r end), 0.7, "farthest from 1")
  local layers = {}
  lab.add_tail(layers, {label = "s", rules = {{nodes = {-1, 2, 4}, weights = {0.5, 0.3, 0.2}}, {nodes = {1}, weights = {1}}}}, {colour = 3})
  t.near({layers[1].x, layers[1].y}, {{4, 2, 1}, {0.1, 0.25, 0.75}}, 1e-12, "share above, mean over starts")
  lab.add_ranked(layers, {5, -1, 2}, {colour = 1, label = "r"})
  t.near({layers[2].x, layers[2].y}, {{1, 3}, {5, 2}}, 0, "positive numbers at their places")
  local optim, loss = lab.flatter("plain", {lr = 1, weight_decay = 0})
  t.ok(optim and loss == nil and select(2, lab.flatter("penalty", {strength = 1})) ~= nil, "interventions: only the penalty has a loss")
end)

tap.test("trunk and cooldowns", function(t)
  local ctx, p = context(), parameters()
  local run, trunk = lab.trunk(ctx, p, data)
  t.equal(#run.points, 4, "measured at the points and the forks, of which one is both")
  t.equal(#q.train.checkpoint.list(trunk), p.steps / p.every, "checkpoints each `every` steps")
  for _, point in ipairs(run.points) do
    t.ok(point.grad_norm > 0 and point.weight_norm > 0 and point.gptq3 and point.gptq4, "measured at " .. point.step)
  end
  local from = lab.forks(p)[1]
  local _, cooled = lab.cooled(ctx, p, data, trunk, from)
  t.equal(#q.train.checkpoint.list(cooled), #lab.inside(from, p.cooldown), "and those of a cooldown")
  lab.trunk(ctx, parameters{text = "other"}, data)
  t.equal(ctx.runs, 3, "another text, another run")
  lab.trunk(ctx, parameters(), data)
  t.equal(ctx.runs, 3, "the same setting is found again")
  local longer = parameters{steps = 32}
  local _, other = lab.cooled(ctx, longer, data, select(2, lab.trunk(ctx, longer, data)), from)
  t.ok(other ~= cooled, "a cooldown from the same step of another trunk is another one")
end)

tap.test("measured weights", function(t)
  local ctx, p = context(), parameters()
  local run, trunk = lab.trunk(ctx, p, data)
  local path = q.train.checkpoint.path(trunk, p.steps)
  local found = lab.measure(p, data, path, lab.formats(p))
  t.equal(found.loss .. " " .. found.gptq3, lab.last(run.points).loss .. " " .. lab.last(run.points).gptq3, "a checkpoint as along the run")
  local same = lab.measure(p, data, q.average.soup({path}, {prefix = "model."}), lab.formats(p))
  t.equal(same.gptq3, found.gptq3, "weights by name too")
end)

tap.test("flatness along runs", function(t)
  local ctx, p, steps = context(), parameters{batches = 2}, {}
  local found, paths = lab.along(ctx, p, data, {0.5}, function(path, step)
    t.ok(q.system.exists(path), "a checkpoint of step " .. step)
    steps[#steps + 1] = step
    return {step = step}
  end)
  t.equal(table.concat(steps, " "), "12 16 20 24 28 32", "forks, half of each cooldown, its end")
  t.equal(#found.stable .. found.cooldowns[2].from .. #found.cooldowns[2].points .. #paths, "22423", "gathered by cooldown")
  local batches = lab.curvature_batches(p, data, 2, 17)
  t.equal(#batches .. " " .. table.concat(batches[1]:shape(), " "), "2 2 17", "batches")
  local point = lab.measure_flatness(p, data, batches, paths[1], {step = 24})
  t.equal(point.loss .. " " .. point.gptq3, lab.measure(p, data, paths[1], lab.formats(p)).loss .. " " ..
    lab.measure(p, data, paths[1], lab.formats(p)).gptq3, "the errors as lab.measure has them")
  local top = q.curvature.top(q.train.checkpoint.model(paths[1]), {k = 1, batches = batches, seed = p.seed, progress = false})
  t.near(point.sharpness / top.values[1], 1, 1e-2, "and the top eigenvalue")
  local test = lab.quadratic(q.train.checkpoint.model(paths[1]), data, p)
  t.near({test.predicted / test.measured, test.directional > -1 and test.step > 0 and 1}, {test.ratio, 1}, 1e-6, "the quadratic test")
  local s = lab.spectrum({nodes = 4, starts = 2, seed = 1}, batches, paths[1], "s")
  t.equal(s.label .. #s.rules .. #s.rules[1].nodes, "s24", "a spectrum: starts and nodes")
end)

tap.test("averages", function(t)
  local ctx, p = context(), parameters{windows = {2, 3, 20}, spacings = {1, 4}, every = 2, steps = 24}
  local list, names = lab.averages(p), {}
  for i, a in ipairs(list) do names[i] = ("%s %d %d %g"):format(a.kind, a.window, a.spacing, a.age) end
  t.equal(table.concat(names, "; "), "lawa 2 2 1; lawa 3 2 2; lawa 2 8 4; lawa 3 8 8; ema 2 2 1; ema 3 2 2", "those that fit into the run")
  local _, trunk = lab.trunk(ctx, p, data)
  local function at(step, name) return q.load(q.train.checkpoint.path(trunk, step))["model." .. name] end
  local name = "embed_out.weight"
  local lawa, ema = lab.average(trunk, 24, list[3])[name], lab.average(trunk, 24, list[5])[name]
  t.near((lawa - (at(24, name) + at(16, name)) * 0.5):abs():max():item(), 0, 1e-6, "LAWA: the mean of two, 8 steps apart")
  local sum, total = at(24, name) * 0, 0
  for k = 0, 11 do
    sum, total = sum + at(24 - 2 * k, name) * 3 ^ -k, total + 3 ^ -k
  end
  t.near((ema - sum * (1 / total)):abs():max():item(), 0, 1e-6, "EMA: thirds, over all checkpoints")
  local mean = 0
  for k = 1, 200 do mean = mean + k * lab.ema_decay(5) ^ k * (1 - lab.ema_decay(5)) end
  t.near(mean, 2, 1e-9, "whose mean age is the window's")
end)

tap.test("annealed", function(t)
  local ctx, p = context(), parameters()
  local adamw = lab.annealed(ctx, p, data, "one")
  local steps = {}
  for i, point in ipairs(adamw.points) do steps[i] = point.step end
  t.equal(table.concat(steps, " "), "8 16 24 26 28 30 32", "a constant rate and its cooldown, in order")
  t.equal(lab.last(adamw.points).scale, 0, "down to a rate of 0")
  local adamc = lab.annealed(ctx, lab.with(p, {optim = "adamc"}), data, "two")
  local _, cosine = lab.stable(ctx, p, data, {steps = 24, forks = {}, points = {24}, formats = {}, schedule = "cosine"})
  local log = q.system.read_file(cosine .. "/log.jsonl")
  t.ok(log:find '"scale":0,"step":24' and log:find '"step":24' and not log:find '"scale":1,.-"step":23', "a cosine ends at a rate of 0", log)
  ctx.runs = ctx.runs - 1
  t.ok(lab.last(adamc.points).loss ~= lab.last(adamw.points).loss and ctx.runs == 4, "the optimizer is part of the key")
end)

os.execute("rm -rf '" .. folder .. "'")
tap.done()

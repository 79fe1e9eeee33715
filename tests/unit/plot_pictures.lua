-- Pictures of results: q.plot.abc and q.plot.spectrum draw the numbers that they were given.
local tap = dofile "tests/tap.lua"

--- The layers of a panel of a figure, by kind.
local function layers(figure, row, column, kind)
  local found = {}
  for _, layer in ipairs(figure.rows[row][column].layers) do
    if layer.kind.name == kind then found[#found + 1] = layer end
  end
  return found
end

local function estimate(value) return {value = value, error = 0.1 * math.abs(value)} end

--- A result as of q.metrics.abc with n layers of an attention, a sum and a linear module.
local function result(n)
  local modules = {}
  local function add(name, kind, layer, a, b, c)
    local m = {name = name, kind = kind, layer = layer, A = estimate(a), B = estimate(b), C = estimate(c), R = estimate(a + b + c)}
    m.trunc = {A = estimate(a / 2), B = estimate(b / 2), C = estimate(c / 2), R = estimate((a + b + c) / 2)}
    modules[#modules + 1] = m
  end
  for l = 1, n do
    add(("model.layers.%d.self_attn"):format(l - 1), "attention", l, 0.01 * l, 0.02, -0.005)
    add("sum of layer " .. l, "sum", l, 0.012 * l, 0, 0)
    add(("model.layers.%d.mlp.down_proj"):format(l - 1), "linear", l, 0.02 * l, 0.01, 0.001)
  end
  add("lm_head", "linear", nil, 0.03 * n, 0.002, 0)
  return {modules = modules}
end

tap.test("stacks of A, B, C", function(t)
  local f = q.plot.abc(result(2))
  local bars, dots = layers(f, 1, 1, "bars"), layers(f, 1, 1, "points")
  t.equal(#bars, 3, "three stacks")
  t.near(bars[1].values, {0.01, 0.012, 0.02, 0.02, 0.024, 0.04, 0.06}, 1e-12, "A by module")
  t.near(dots[1].xs, {0.025, 0.012, 0.031, 0.035, 0.024, 0.051, 0.062}, 1e-12, "R is their sum")
  t.near(bars[2].top, {0.03, 0.012, 0.03, 0.04, 0.024, 0.05, 0.062}, 1e-12, "B lies on A")
  t.near({bars[3].base[1], bars[3].top[1]}, {0, -0.005}, 1e-12, "a negative C lies on the other side of zero")
  t.equal(table.concat(f.rows[1][1].y.categories, "|"), "0.self_attn|+ 0.self_attn|0.mlp.down_proj|1.self_attn|+ 1.self_attn|"
    .. "1.mlp.down_proj|lm_head", "short names, each once")
  t.near(layers(q.plot.abc(result(2), {trunc = true}), 1, 1, "bars")[1].values[1], 0.005, 1e-12, "truncated means")
  t.near(layers(q.plot.abc(result(2), {kinds = {"linear"}}), 1, 1, "bars")[1].values, {0.02, 0.04, 0.06}, 1e-12, "some kinds")
  local log = layers(q.plot.abc(result(2), {log = true}), 1, 1, "bars")
  t.ok(#log == 1 and log[1].values[1] == 0.01 + 0.02 - 0.005, "R alone on a log axis")
  t.fails(function() q.plot.abc(result(2), {kinds = {"linar"}}) end, "did you mean 'linear'", "a misspelled kind", true)
  t.fails(function() q.plot.abc{} end, "needs the result of q.metrics.abc", "no result", true)
  t.fails(function() q.plot.abc(result(1), {logs = true}) end, "did you mean 'log'", "a misspelled option", true)
end)

tap.test("many modules stand side by side", function(t)
  local f = q.plot.abc(result(20))
  t.equal(#layers(f, 1, 1, "bars")[1].values, 61, "all of them")
  local ticks = f.rows[1][1].x.o.ticks
  t.ok(#ticks == 10 and ticks[2][1] == 7 and ticks[2][2] == "3", "ticks where layers begin, every second one")
  t.ok(#f:png{dpi = 40} > 1000, "and it draws")
end)

tap.test("the real thing", function(t)
  q.seed(1)
  local m = q.models.new("llama", {vocab_size = 32, hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1, num_attention_heads = 2})
  local ids = (q.rand(2, 8) * 31):floor():to("i32")
  local r = q.metrics.abc(m, q.quant.quantize(m, {method = "rtn", bits = 3, group = 16}), ids)
  local f = q.plot.abc(r)
  local values = layers(f, 1, 1, "bars")
  for i, R in ipairs(layers(f, 1, 1, "points")[1].xs) do
    t.near(values[1].values[i] + values[2].values[i] + values[3].values[i], R, 1e-9, "R = A + B + C of module " .. i)
  end
  t.ok(#values[1].values == #r.modules, "every module has its stack")
end)

tap.test("singular values and random ones", function(t)
  q.seed(2)
  local w = q.randn(300, 200) * 0.5
  local f = q.plot.spectrum(w)
  local lines = layers(f, 1, 1, "line")
  t.near(lines[1].ys, q.linalg.svdvals(w:to("f64")):totable(), 1e-9, "singular values by rank")
  local worst = 0
  for k = 1, 180 do worst = math.max(worst, math.abs(lines[1].ys[k] / lines[2].ys[k] - 1)) end
  t.ok(worst < 0.05, "a random matrix lies on Marchenko and Pastur's values", worst)
  local curve, area = layers(f, 1, 2, "line")[1], 0
  for i = 2, #curve.xs do area = area + (curve.ys[i] + curve.ys[i - 1]) / 2 * (curve.xs[i] - curve.xs[i - 1]) end
  t.near(area, 1, 0.01, "whose density has the area 1")
  f = q.plot.spectrum({w, w * 0.1, w:t()}, {labels = {"a", "b"}, random = false})
  lines = layers(f, 1, 1, "line")
  t.ok(#lines == 3 and lines[2].label == "b" and lines[3].label == "spectrum 3", "several, with names")
  t.near(lines[3].ys, lines[1].ys, 1e-9, "a matrix and its transpose have the same")
  t.ok(#q.plot.spectrum(q.zeros(4, 4)):png{dpi = 40} > 1000, "a matrix of zeros")
  t.fails(function() q.plot.spectrum(q.ones(3)) end, "needs a matrix, got shape (3)", "a vector", true)
  t.fails(function() q.plot.spectrum(q.tensor{{1, 0 / 0}}) end, "not finite", "NaN")
  t.fails(function() q.plot.spectrum{q.ones(2, 2), 3} end, "matrix 2", "a number among matrices")
end)

tap.test("spectral densities", function(t)
  local d = {x = {0, 1, 2}, y = {1e-30, 2, 0.5}, error = {0, 0.5, 0 / 0}, rules = {}}
  local f = q.plot.spectrum(d, {top = {1.5}, floor = 1e-3})
  local band = layers(f, 1, 1, "band")[1]
  t.near(layers(f, 1, 1, "line")[1].ys, {0.002, 2, 0.5}, 1e-12, "cut at the floor")
  t.near(band.low, {0.002, 1.5, 0.5}, 1e-12, "a band of one standard error; none where it is not known")
  t.equal(#layers(f, 1, 1, "vline"), 1, "a line for an eigenvalue")
  t.equal(#layers(q.plot.spectrum{d, d}, 1, 1, "line"), 2, "several densities")
  t.fails(function() q.plot.spectrum{d, q.ones(2, 2)} end, "item 2", "a matrix among densities")
  t.fails(function() q.plot.spectrum(3) end, "needs a matrix", "a number")
end)

tap.done()

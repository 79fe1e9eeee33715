-- plots.lua - figures against their pictures in tests/golden/images, pixel by pixel.
-- On failure build/golden/ holds NAME.png as drawn now and NAME.difference.png (red where they differ).
-- After a wanted change: QUENCH_GOLDEN=write build/quench tests/golden/plots.lua, and look at every picture.

local tap = dofile "tests/tap.lua"
local q = require "quench"
local c = require "quench.c.plot"

local folder, writing = "build/golden/", os.getenv("QUENCH_GOLDEN") == "write"
q.system.make_directories(folder)

local function series(n, fn)
  local out = {}
  for i = 1, n do out[i] = fn(i) end
  return out
end

--- Repeatable noise about zero.
local function wave(i, k) return math.sin(12.9898 * i + 78.233 * k) * math.cos(4.1414 * i * k + k) end

local steps = series(60, function(i) return 50 * i end)
local function curve(a, b, k) return series(60, function(i) return a + b * (50 * i) ^ -0.35 * (1 + 0.02 * wave(i, k)) end) end
local function runs(a, b) return {curve(a, b, 1), curve(a * 1.01, b, 2), curve(a * 0.99, b, 3)} end

local function sample(k, centre) return series(60, function(i) return centre + 1.5 * wave(i, k) + 0.7 * wave(3 * i, k + 1) end) end
local function field(rows, cols)
  return series(rows, function(j) return series(cols, function(i) return math.sin(i / 3) * math.cos(j / 4) + 0.1 * wave(i, j) end) end)
end
local function line(n) return series(n, function(i) return i / n end) end

local figures = {
  direct = {title = "Direct labels", x = "step", y = "loss (nats)", {"line", steps, curve(2, 6, 1), label = "AdamW"},
    {"line", steps, curve(2.3, 6, 2), label = "Muon"}},
  legend = {x = "tokens $N$", y = "loss", log = "xy", {"line", steps, runs(2, 6), label = "a"},
    {"line", steps, runs(1.5, 8), label = "b"}, {"line", steps, runs(1, 9), label = "c"},
    {"points", {100, 1000}, {2, 1.2}, label = "d"}, {"line", steps, curve(0.5, 9, 3), label = "e"}},
  twin = {x = "step", y = "error", y2 = "learning rate", {"line", steps, curve(2, 6, 1), label = "error"},
    {"line", steps, series(60, function(i) return 3e-4 * math.min(1, (60 - i) / 20) end), axis = "y2", label = "learning rate"}},
  kinds = {title = "Kinds", x = "x", y = "y", {"step", {1, 2, 3, 4}, {1, 3, 2, 4}, label = "step"},
    {"points", {1, 2, 3, 4}, {2, 2.5, 3, 2}, label = "points"},
    {"errorbars", {1, 2, 3, 4}, {4, 4.4, 4.2, 5}, error = {0.2, 0.3, 0.1, 0.4}, label = "error bars"},
    {"band", {1, 2, 3, 4}, low = {0, 0.2, 0.1, 0.4}, high = {0.6, 0.7, 0.9, 1}, label = "band"},
    {"scatter", {1.5, 2.5, 3.5}, {1, 1.5, 1.2}, value = {1, 2, 3}, sizes = {1, 2, 3}}},
  notes = {log = "xy", x = "$lambda$", y = "10^{-3} units", {"points", {1, 10, 100, 1000, 0}, {1, -1, 3, 2, 5}},
    {"hline", y = 2, text = "threshold"},
    {"vline", x = 50, text = "here"}, {"region", x = {200, 500}, text = "warm"}, {"text", x = 3, y = 1.5, text = "two\nlines of $x_i^2$"},
    {"arrow", x = 100, y = 3, from_x = 10, from_y = 2.6, text = "peak"}},
  dark = {theme = "dark", title = "Dark", x = "step", y = "loss", {"line", steps, curve(2, 6, 1), smooth = 0.8, label = "smooth"},
    {"line", steps, runs(2.5, 6), label = "runs"}},
  fit = {x = "$N$", y = "loss", log = "xy", {"points", steps, curve(0, 6, 1), fit = "a*x^-b"},
    {"hline", y = 0.5, text = "floor"}},
  bars = {y = "perplexity", {"bars", {"RTN", "GPTQ", "AWQ"}, {9.2, 7.1, 7.4}, error = 0.3, label = "4-bit", values = "%.1f"},
    {"bars", {"RTN", "GPTQ", "AWQ"}, {14.2, 9.1, 9.4}, error = {0.5, 0.2, 0.3}, label = "3-bit", values = "%.1f"}},
  lying = {x = "error", {"bars", x = {0.2, 0.13, -0.04}, y = {"attention", "mlp.dense_h_to_4h", "embedding"}, values = true}},
  box = {y = "loss", {"box", {"a", "b", "c"}, {sample(1, 0), sample(2, 1), sample(3, 2)}, label = "AdamW"},
    {"box", {"a", "b", "c"}, {sample(4, 0), sample(5, 2), sample(6, 1)}, label = "Muon"}},
  violin = {y = "loss", {"violin", {"a", "b"}, {sample(1, 0), sample(2, 1)}}, {"strip", {"a", "b"}, {sample(1, 0), sample(2, 1)}}},
  counts = {x = "weight", y = "density", {"histogram", sample(1, 0), normal = "density", label = "histogram"},
    {"density", x = sample(1, 0), label = "density"}},
  heatmap = {title = "Matrix", x = "in", y = "out", {"heatmap", z = field(8, 12), value_label = "$w_{ij}$"}},
  values = {{"heatmap", z = {{1, 0.5}, {0.5, -1}}, x = {"loss", "error"}, y = {"loss", "error"}, values = "%.1f"}},
  contour = {x = "$alpha$", y = "$beta$", {"contour", z = field(16, 20), x = line(20), y = line(16), filled = true}},
  inset = {x = "step", y = "loss", {"line", steps, curve(2, 6, 1)}, {"vline", x = 800, text = "decay"},
    insets = {{at = {0.45, 0.4, 0.5, 0.55}, {title = "the end", xlim = {2000, 3000}, ylim = {2.3, 2.5}, {"line", steps, curve(2, 6, 1)}}}}},
  empty = {title = "Nothing yet", x = "step", y = "loss"},
  scales = {x = {label = "reciprocal", scale = "reciprocal"}, y = {label = "symlog", scale = "symlog", linear = 0.1},
    {"points", {1, 2, 5, 10, 100}, {-20, -0.05, 0, 0.3, 8}}},
}

local grids = {
  facets = function()
    local rows = {}
    for _, method in ipairs{"RTN", "GPTQ", "AWQ"} do
      for i = 1, 20 do rows[#rows + 1] = {method = method, step = i, error = #method / i, bits = i % 2 == 0 and "4-bit" or "3-bit"} end
    end
    return q.plot{facet = "method", data = rows, x = "step", y = "error", width = 6, height = 2.4, dpi = 80,
      {"points", x = "step", y = "error", by = "bits"}}
  end,
  grid = function()
    return q.plot.grid{columns = 1, share = "x", letters = true, title = "Shared axis", width = 4.4, height = 3.6, dpi = 80,
      {x = "step", y = "loss", {"line", steps, runs(2, 6), label = "4-bit"}, {"line", steps, runs(2.2, 6), label = "3-bit"}},
      {x = "step", y = "error", log = "y", {"line", steps, runs(0.01, 1), label = "4-bit"}, {"line", steps, runs(0.1, 2), label = "3-bit"}}}
  end,
}

--- A result as of q.metrics.abc: three modules a layer, errors growing with depth.
local function abc_result(layers)
  local modules = {}
  local function add(name, kind, layer, of_a, of_b, of_c)
    local function of(v) return {value = v, error = 0} end
    modules[#modules + 1] = {name = name, kind = kind, layer = layer, A = of(of_a), B = of(of_b), C = of(of_c), R = of(of_a + of_b + of_c)}
  end
  for l = 1, layers do
    add(("model.layers.%d.self_attn"):format(l - 1), "attention", l, 0.01 * l, 0.02, 0.01 * wave(l, 1))
    add("sum of layer " .. l, "sum", l, 0.012 * l, 0, 0)
    add(("model.layers.%d.mlp"):format(l - 1), "linear", l, 0.02 * l, 0.01, 0.01 * wave(l, 2))
  end
  return {modules = modules}
end

-- diagonal, so that the singular values do not hang on the kernels of LAPACK
local diagonal = series(32, function(i) return series(24, function(j) return i == j and (j < 3 and 8 / j or 2 - j / 16) or 0 end) end)
local density = {x = line(60), rules = {}, y = series(60, function(i) return math.exp(-(i - 15) ^ 2 / 30) + 0.01 * math.exp(-(i - 50) ^ 2 / 3) end),
  error = series(60, function(i) return 0.3 * math.exp(-(i - 15) ^ 2 / 30) end)}

function grids.abc() return q.plot.abc(abc_result(3), {title = "Few", width = 4.2}) end
function grids.abc_many() return q.plot.abc(abc_result(18), {title = "Many", theme = "dark", width = 4.2, height = 2.8}) end
function grids.density() return q.plot.spectrum(density, {title = "Density", top = {50 / 60}, width = 4.2, height = 2.8}) end
function grids.spectrum()
  local w = q.tensor(diagonal)
  return q.plot.spectrum({w, w * 0.2}, {labels = {"weights", "error"}, width = 6.5, height = 2.8})
end

local function check(name, make)
  tap.test(name, function(t)
    local golden, now = ("tests/golden/images/%s.png"):format(name), folder .. name .. ".png"
    make():save(writing and golden or now, {dpi = 80})
    if writing then return t.ok(true, "written") end
    if not q.system.exists(golden) then return t.ok(false, name .. " has a picture to compare with") end
    local pixels, largest = c.compare(golden, now, folder .. name .. ".difference.png")
    if t.equal(pixels, 0, ("%s as it was (largest difference %d of 255)"):format(name, largest)) then os.remove(now) end
  end)
end

local names = {}
for name in pairs(figures) do names[#names + 1] = name end
table.sort(names)
for _, name in ipairs(names) do
  local f = figures[name]
  f.width, f.height, f.dpi = 4.2, 2.8, 80
  check(name, function() return q.plot(f) end)
end
for name, make in pairs(grids) do check(name, make) end
tap.done()

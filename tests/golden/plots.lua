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
  empty = {title = "Nothing yet", x = "step", y = "loss"},
  scales = {x = {label = "reciprocal", scale = "reciprocal"}, y = {label = "symlog", scale = "symlog", linear = 0.1},
    {"points", {1, 2, 5, 10, 100}, {-20, -0.05, 0, 0.3, 8}}},
}

local grids = {
  grid = function()
    return q.plot.grid{columns = 1, share = "x", letters = true, title = "Shared axis", width = 4.4, height = 3.6, dpi = 80,
      {x = "step", y = "loss", {"line", steps, runs(2, 6), label = "4-bit"}, {"line", steps, runs(2.2, 6), label = "3-bit"}},
      {x = "step", y = "error", log = "y", {"line", steps, runs(0.01, 1), label = "4-bit"}, {"line", steps, runs(0.1, 2), label = "3-bit"}}}
  end,
}

local function check(name, make)
  tap.test(name, function(t)
    local golden, now = ("tests/golden/images/%s.png"):format(name), folder .. name .. ".png"
    make():save(writing and golden or now)
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

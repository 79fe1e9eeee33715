-- plot_language.lua - q.plot: what it reads, what it refuses, where it puts things.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local c = require "quench.c.plot"
local colour = require "quench.plots.colour"
local data = require "quench.plots.data"
local legend = require "quench.plots.legend"
local pens = require "quench.plots.pens"

local path = os.tmpname() .. ".png"
local function draws(given) return #q.plot(given):png() > 500 end

tap.test("what a plot reads", function(t)
  t.ok(draws{}, "nothing at all")
  t.ok(draws{{"line", {}, {}}}, "an empty line")
  t.ok(draws{{"line", {1, 2, 3}}}, "y alone")
  t.ok(draws{{{1, 2}, {3, 4}}}, "no kind: a line")
  t.ok(draws{{"points", x = q.tensor{1, 2}, y = q.tensor{3, 4}}}, "tensors")
  t.ok(draws{{"line", y = q.zeros(3, 5)}}, "a matrix: runs")
  t.ok(draws{{"line", {1, 2, 3}, {1, 0 / 0, 1 / 0}}}, "NaN and infinity")
  t.ok(draws{{"line", {0 / 0, 0 / 0}}}, "nothing but NaN")
  t.ok(draws{{"line", {-1e300, 1e300}}}, "huge numbers")
  t.ok(draws{{"line", {1e-300, 1e300}}, log = "y"}, "600 decades")
  t.ok(draws{{"line", {5, 5, 5}}}, "a constant")
  t.ok(draws{width = 0.5, height = 0.4, title = "tiny", x = "x", {"line", {1, 2, 3}, label = "a"}}, "a page too small for anything")
  t.ok(draws{{"line", {1, 2}, label = "\255\254 bad utf-8"}}, "bytes that are not UTF-8")
  t.ok(draws{data = {a = {1, 2, 3}, b = {4, 5, 6}}, {"line", x = "a", y = "b"}}, "columns by name")
  t.ok(draws{data = {{a = 1, b = 2, k = "u"}, {a = 2, b = 3, k = "v"}}, {"points", x = "a", y = "b", by = "k"}}, "rows, one layer a key")
end)

tap.test("what it refuses, by name", function(t)
  local function refuses(given, pattern) t.fails(function() q.plot(given):png() end, pattern, nil, true) end
  refuses({titel = "x"}, "unknown option 'titel' (did you mean 'title'?)")
  refuses({{"lien", {1}}}, "no kind of layer 'lien' (did you mean 'line'?)")
  refuses({{"line", {1, 2}, {3, 4, 5}}}, "x has 2 points, y has 3")
  refuses({{"line", {1, 2}, color = "red"}}, "unknown option 'color' (did you mean 'colour'?)")
  refuses({{"line", {1, 2}, colour = "bleu"}}, "no colour 'bleu' (did you mean 'blue'?)")
  refuses({{"line", {1, 2}, marker = "sqare"}}, "no marker 'sqare' (did you mean 'square'?)")
  refuses({{"line", {1, 2}, dash = "dahsed"}}, "no dash 'dahsed' (did you mean 'dashed'?)")
  refuses({{"line", {1, "two"}}}, "item 2 must be a number, got \"two\"")
  refuses({{"line", 7}}, "must be a list or a tensor, got number")
  refuses({{"line", {{1, 2}, {3}}}}, "run 2 has 1 points, run 1 has 2")
  refuses({log = "y", {"line", {-1, -2}}}, "none is positive")
  refuses({log = "z"}, "log must name axes")
  refuses({xlim = {2, 1}}, "the first must be smaller")
  refuses({log = "x", xlim = {0, 1}}, "must be positive")
  refuses({theme = "drak"}, "no theme 'drak' (did you mean 'dark'?)")
  refuses({theme = {grdi = 1}}, "a theme has no 'grdi' (did you mean 'grid'?)")
  refuses({x = {scale = "lgo"}}, "scale must be one of")
  refuses({data = {a = {1}}, {"line", x = "b", y = "a"}}, "data has no column 'b'")
  refuses({{"line", x = "a", y = {1}}}, "there is no data=")
  refuses({{"band", {1, 2}}}, "needs low= and high=, or runs=")
  refuses({{"errorbars", {1, 2}}}, "needs error=")
  refuses({{"text", x = 1, y = 2}}, "text is required")
  refuses({width = 1000}, "width must be at most 100")
  t.fails(function() q.plot(3) end, "needs a table", nil, true)
  t.fails(function() q.plot.grid{} end, "needs panels", nil, true)
  t.fails(function() q.plot{}:save("a.jpg") end, ".png", nil, true)
  t.fails(function() q.plot{}:save("/nowhere/a.png") end, "/nowhere/a.png", nil, true)
  t.fails(function() q.plot{}:save(path, {txet = {}}) end, "did you mean 'text'?", nil, true)
  t.fails(function() q.plot{}:save(path, {text = {a = 1}}) end, "keys and values must be strings", nil, true)
end)

tap.test("non-positive values on a log axis are left out and counted", function(t)
  local p = q.plot{log = "xy", {"points", {1, 10, 100, 0}, {1, -1, 2, 3}}}
  local panel = p.rows[1][1]
  t.equal(panel.x.dropped, 1, "one x")
  t.equal(panel.y.dropped, 1, "one y")
  t.ok(#p:png() > 500, "the rest is drawn")
end)

tap.test("same figure, same bytes; texts come back", function(t)
  local function make()
    return q.plot{title = "a", x = "n", y = "$rho$", {"line", {3, 1, 2}, label = "b"}, {"band", low = {1, 1, 1}, high = {2, 3, 4}}}
  end
  t.ok(make():png() == make():png(), "two figures are equal, byte for byte")
  local recipe = ("-- a recipe\n"):rep(3000)
  make():save(path, {text = {recipe = recipe, parameters = "lr=0.1 η", seed = "3"}})
  local texts = c.read_text(path)
  t.ok(texts.recipe == recipe and texts.parameters == "lr=0.1 η" and texts.seed == "3", "texts")
  local w, h, rgba = c.decode(path)
  t.ok(w == 896 and h == 560 and #rgba == w * h * 4, "5.6 x 3.5 inches at 160 dpi", w .. " x " .. h)
  local file = io.open(path, "rb"):read("*a")
  local at = file:find("pHYs", 1, true)
  local b = {file:byte(at + 4, at + 7)}
  t.equal(b[3] * 256 + b[4], 6299, "160 dpi are 6299 pixels a metre")
end)

tap.test("colours belong to labels", function(t)
  local f = q.plot.grid{columns = 2, {{"line", {1, 2}, label = "a"}, {"line", {2, 3}, label = "b"}},
    {{"line", {1, 2}, label = "b"}, {"line", {1, 4}, label = "c"}}}
  f:scene()
  local p, r = f.rows[1][1], f.rows[1][2]
  t.equal(p.layers[2].colour, r.layers[1].colour, "b is b in both panels")
  t.ok(p.layers[1].colour ~= r.layers[2].colour, "c is not a")
  local band = q.plot{{"line", {1, 2}, label = "a"}, {"band", low = {1, 1}, high = {2, 2}}}
  band:scene()
  t.equal(band.rows[1][1].layers[1].colour, band.rows[1][1].layers[2].colour, "a band without name has the colour of the line before it")
end)

tap.test("lines can be told apart without colour", function(t)
  local spec = {legend = "inside"}
  for i = 1, 8 do spec[i] = {"line", {1, 2 + i}, label = "l" .. i} end
  local p = q.plot(spec)
  p:scene()
  local seen = {}
  for _, layer in ipairs(p.rows[1][1].layers) do seen[layer.dash_slot] = true end
  t.equal(#seen, 8, "eight lines in a legend have eight dash patterns")
  local theme, looks, count = require("quench.plots.theme").light, {}, 0
  for i = 1, 64 do
    for _, list in ipairs{theme.dashes, theme.markers} do
      local look = tostring(theme.cycle[(i - 1) % #theme.cycle + 1]) .. tostring(pens.of_cycle(list, i))
      count, looks[look] = count + (looks[look] and 0 or 1), true
    end
  end
  t.equal(count, 128, "64 of them differ in colour or dash, and in colour or marker")
  for i = 9, 20 do spec[i] = {"line", {1, 2 + i}, label = "l" .. i} end
  local drawn, lines = {}, 0
  for ink, dash in q.plot(spec):svg():gmatch 'stroke="(#%x+)"[^>]-stroke%-dasharray="([%d., ]+)"' do
    if not drawn[ink .. dash] then lines = lines + 1 end
    drawn[ink .. dash] = true
  end
  t.ok(lines >= 17, "twenty lines as they are drawn, of which at most three are solid", lines)
end)

tap.test("texts too long for their panel", function(t)
  local theme = require("quench.plots.theme").light
  --- The titles and labels of a figure, as drawn.
  local function texts(o)
    local p = {title = o.title, x = o.x, y = o.y, {"line", {1, 2}, {1, 2}}}
    local all = {}
    for s in q.plot(p):svg():gmatch 'aria%-label="([^"]*)"' do all[s] = true end
    return all
  end
  local long = ("a long title "):rep(6):sub(1, -2)
  t.ok(texts{title = long}[long], "a title that fits in smaller letters is whole")
  local cut
  for s in pairs(texts{title = long .. long .. long}) do cut = s:match "^a long.*…$" or cut end
  t.ok(cut and #cut > 60 and theme.measure(cut, 0.75 * theme.size, true) < 5.6 * 72, "a longer one is cut", cut)
  for _, side in ipairs{"x", "y"} do
    local found
    for s in pairs(texts{[side] = ("tokens^{10} "):rep(30)}) do found = s:match "^tokens.*…$" or found end
    t.ok(found and select(2, found:gsub("{", "")) == select(2, found:gsub("}", "")), "a label of " .. side .. " too, with its powers whole", found)
  end
  t.ok(texts{y = "validation loss (nats a token)"}["validation loss (nats a token)"], "what fits stays")
  for s in pairs(texts{title = ("aß"):rep(150)}) do
    if s:find("ß", 1, true) then t.ok(s:gsub("[aß]", ""):gsub("…", "") == "" and s:match "^aß.*…$", "letters of two bytes stay whole", s) end
  end
end)

-- Matrices of Machado, Oliveira and Fernandes (2009) for complete protanopia, deuteranopia, tritanopia, on linear light.
local sights = {
  normal = {1, 0, 0, 0, 1, 0, 0, 0, 1},
  protanopia = {0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216, -0.003882, -0.048116, 1.051998},
  deuteranopia = {0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413, -0.011820, 0.042940, 0.968881},
  tritanopia = {1.255528, -0.076749, -0.178779, -0.078411, 0.930809, 0.147602, 0.004733, 0.691367, 0.303900},
}

local function seen_by(m, ink)
  local linear = {colour.unpack(ink)}
  for k = 1, 3 do
    local v = linear[k] / 255
    linear[k] = v <= 0.04045 and v / 12.92 or ((v + 0.055) / 1.055) ^ 2.4
  end
  local out = {}
  for k = 0, 2 do
    local v = math.max(0, math.min(1, m[3 * k + 1] * linear[1] + m[3 * k + 2] * linear[2] + m[3 * k + 3] * linear[3]))
    out[k + 1] = 255 * (v <= 0.0031308 and v * 12.92 or 1.055 * v ^ (1 / 2.4) - 0.055)
  end
  return {colour.to_oklab(colour.pack(unpack(out)))}
end

tap.test("the cycle survives colour blindness", function(t)
  for name, cycle in pairs{light = colour.cycle, dark = require("quench.plots.theme").dark.cycle} do
    for sight, m in pairs(sights) do
      local nearest = math.huge
      for i = 1, 6 do
        for j = i + 1, 6 do
          local a, b = seen_by(m, cycle[i]), seen_by(m, cycle[j])
          nearest = math.min(nearest, math.sqrt((a[1] - b[1]) ^ 2 + (a[2] - b[2]) ^ 2 + (a[3] - b[3]) ^ 2))
        end
      end
      t.ok(nearest > 0.04, ("%s, %s: six colours, twice a just noticeable step apart at least"):format(name, sight), nearest)
    end
  end
end)

tap.test("where names go", function(t)
  local function mode(given)
    local p = q.plot(given)
    p:scene()
    return p.rows[1][1].mode
  end
  t.equal(mode{{"line", {1, 2, 3}, label = "a"}, {"line", {3, 5, 9}, label = "b"}}, "direct", "two lines: at their ends")
  t.equal(mode{{"line", {1, 2, 3}}}, "none", "no label: nothing")
  t.equal(mode{{"line", {1, 2, 3}, label = "a"}, legend = false}, "none", "switched off")
  local five = {}
  for i = 1, 5 do five[i] = {"line", {1, 2 + i, 5 * i}, label = "l" .. i} end
  t.equal(mode(five), "inside", "five lines: a legend")
  local same = {}
  for i = 1, 4 do same[i] = {"line", {i, 5, 5}, label = "line " .. i} end
  t.ok(mode(same) ~= "direct", "four lines that end in one point: not at their ends")
  local full = {}
  for i = 1, 9 do full[i] = {"line", {i, 10 - i, i, 10 - i}, label = "line " .. i} end
  local where = mode(full)
  t.ok(where == "right" or where == "top", "no free place inside: outside", where)
  local groups = {}
  for i = 1, 12 do groups[i] = {i, i + 1, 100 * i} end
  local p = q.plot{{"box", y = groups}}
  p:scene()
  t.ok(p.rows[1][1].y.scale:inside(1200), "the axis reaches over all of twelve groups")
end)

tap.test("the legend hides least", function(t)
  local theme = require("quench.plots.theme").light
  local scene = c.scene(300, 200, 0xffffffff)
  local view = {scene = scene, theme = theme, left = 0, top = 0, width = 300, height = 200}
  local entries = {{label = "one", layers = {}}, {label = "two", layers = {}}}
  local function inked(...) scene:rectangle(...):fill(0xff) end
  local _, x, y, ink = legend.place(entries, 0, view)
  t.ok(x > 200 and y < 20 and ink == 0, "empty: upper right")
  inked(150, 0, 150, 100)
  _, x, y, ink = legend.place(entries, 0, view)
  t.ok(x < 90 and y < 20 and ink == 0, "upper right taken: upper left")
  inked(0, 0, 150, 120)
  _, x, y, ink = legend.place(entries, 0, view)
  t.ok(x > 150 and y > 100 and ink == 0, "the upper half taken: lower right")
end)

tap.test("direct labels move apart and stay inside", function(t)
  local theme = require("quench.plots.theme").light
  local function place(...)
    local ends = {}
    for i, y in ipairs{...} do ends[i] = {y = y, layer = {label = "x"}} end
    return legend.direct(ends, theme, 0, 100)
  end
  local ends = place(50, 50)
  t.ok(ends[2].at - ends[1].at >= 1.15 * theme.size, "two at one height")
  t.near(ends[1].at + ends[2].at, 100, 1e-9, "both give way")
  t.equal(place(50, 50, 50, 50, 50), nil, "five at one height: no")
end)

tap.test("statistics", function(t)
  local mean, low, high = data.summary({{1, 2}, {3, 2}, {5, 2}}, "std")
  t.near({mean, low, high}, {{3, 2}, {1, 2}, {5, 2}}, 1e-15, "mean and deviation over runs")
  t.near(select(2, data.summary({{1}, {2}, {4}, {9}}, "range")), {1}, 0, "range")
  -- R 4: quantile(c(1, 2, 4, 9), .16) = 1.48, .84 = 6.6
  local m, lo, hi = data.summary({{1}, {2}, {4}, {9}}, "quantiles")
  t.near({m[1], lo[1], hi[1]}, {3, 1.48, 6.6}, 1e-12, "quantiles of type 7")
  t.near(select(2, data.summary({{1}, {3}, {5}}, "sem")), {3 - 2 / math.sqrt(3)}, 1e-12, "standard error")
end)

tap.test("colours", function(t)
  t.equal(colour.parse("#abc", "t"), 0xaabbccff, "#abc")
  t.equal(colour.parse("#01020304", "t"), 0x01020304, "#01020304")
  local L, a, b = colour.to_oklab(0xff0000ff)
  t.near({L, a, b}, {0.627955, 0.224863, 0.125846}, 1e-5, "OKLab of red (Ottosson's table)")
  local worst = 0
  for _, v in ipairs{0x0072b2ff, 0xe69f00ff, 0x123456ff, 0xffffffff, 0x000000ff} do
    local l, p, r = colour.to_oklab(v)
    worst = math.max(worst, math.abs(colour.from_oklab(l, p, r) - v))
  end
  t.equal(worst, 0, "and back")
  for _, name in ipairs{"sequential", "grey", "blues"} do
    local map, even = colour.map(name, "t"), true
    local step = (colour.lightness(map(1)) - colour.lightness(map(0))) / 10
    for i = 1, 10 do even = even and math.abs(colour.lightness(map(i / 10)) - colour.lightness(map((i - 1) / 10)) - step) < 0.012 end
    t.ok(even, name .. " has even steps of lightness")
  end
  local d = colour.map("diverging", "t")
  t.near(colour.lightness(d(0.1)), colour.lightness(d(0.9)), 0.01, "diverging is as dark on both sides")
end)

os.remove(path)
tap.done()

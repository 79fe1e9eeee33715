-- Speed of figures inside the program.
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("plots")

local path = os.tmpname() .. ".png"
local n = bench.pick(10000, 50)
local xs, ys, few = {}, {}, {}
for i = 1, n do xs[i], ys[i] = i, math.sin(i / 800) + 0.2 * ((i * 0.6180339887) % 1) end
for i = 1, 12 do few[i] = 1 / i end
local edge = bench.pick(256, 8)
local matrix = q.randn(edge, edge):totable()
local many, square = n .. " points", edge .. " x " .. edge

bench.case("line to PNG", many, function() q.plot{x = "step", y = "loss", {"line", xs, ys, label = "a"}}:save(path) end)
bench.case("few points to PNG", "12 points", function() q.plot{x = "n", y = "1/n", {"points", few, label = "a"}}:save(path) end)
bench.case("points to PNG", many, function() q.plot{{"points", xs, ys}}:save(path) end)
bench.case("heatmap to PNG", square, function() q.plot{{"heatmap", z = matrix}}:save(path) end)
bench.case("line in characters", many, function() require("quench.plots.show").text(q.plot{{"line", xs, ys}}, 80, 24) end)
os.remove(path)

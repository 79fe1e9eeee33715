-- Speed of figures: one JSON line a case, in milliseconds; best of five.
local q = require "quench"

local path = os.tmpname() .. ".png"

local function case(name, fn)
  local best = math.huge
  for _ = 1, 5 do
    local start = q.system.clock()
    fn()
    best = math.min(best, q.system.clock() - start)
    collectgarbage()
  end
  print(q.json.encode{bench = "plots", case = name, value = 1000 * best, unit = "ms"})
end

local xs, ys, few = {}, {}, {}
for i = 1, 10000 do xs[i], ys[i] = i, math.sin(i / 800) + 0.2 * ((i * 0.6180339887) % 1) end
for i = 1, 12 do few[i] = 1 / i end
local matrix = q.randn(256, 256):totable()

case("line of 10,000 points to PNG", function() q.plot{x = "step", y = "loss", {"line", xs, ys, label = "a"}}:save(path) end)
case("12 points to PNG", function() q.plot{x = "n", y = "1/n", {"points", few, label = "a"}}:save(path) end)
case("10,000 points to PNG", function() q.plot{{"points", xs, ys}}:save(path) end)
case("heatmap of 256 x 256 to PNG", function() q.plot{{"heatmap", z = matrix}}:save(path) end)
case("line of 10,000 points in characters", function() require("quench.plots.show").text(q.plot{{"line", xs, ys}}, 80, 24) end)
os.remove(path)

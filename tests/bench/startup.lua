-- The whole program, from the shell's command to its end: nothing, the first tensor, a figure of 10,000 points.
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("startup")

local program = os.getenv("QUENCH_BINARY") or "build/quench"
local path = os.tmpname() .. ".png"
local points = bench.pick(10000, 100)

local function run(code)
  return function()
    if os.execute(("%s -e '%s' >/dev/null"):format(program, code)) ~= 0 then error("this failed: " .. code) end
  end
end

local line = ("local x, y = {}, {} for i = 1, %d do x[i], y[i] = i, math.sin(i / 100) + i / 1e4 end "):format(points) ..
  ([[q.plot{x = "step", y = "loss", {"line", x, y, label = "a"}}:save("%s")]]):format(path)

bench.case("a shell that does nothing", "", function() os.execute("true") end, {seconds = 1})
bench.case("to the first tensor", "", run("q.zeros(3)"), {seconds = 1})
bench.case("line to PNG, whole program", points .. " points", run(line), {seconds = 2,
  more = function() return {png_bytes = q.system.size(path)} end})
os.remove(path)

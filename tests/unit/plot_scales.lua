-- plot_scales.lua - scales and ticks: round numbers, inside the limits, as dense as asked, well written.
local tap = dofile "tests/tap.lua"
local scale = require "quench.plots.scale"
local text = require "quench.plots.text"

local function fitted(name, low, high, margin)
  local s = scale.new(name)
  s:fit(low, high, margin or 0)
  return s
end

tap.test("scales invert", function(t)
  local worst = 0
  for _, name in ipairs(scale.names) do
    local s = scale.new(name)
    for k = -3, 5, 0.37 do
      local x = 10 ^ k
      worst = math.max(worst, math.abs(s.inverse(s.forward(x)) / x - 1))
    end
  end
  t.ok(worst < 1e-9, "inverse(forward(x)) = x on every scale", worst)
  local s = scale.new("symlog", 0.01)
  t.near(s.forward(-5), -s.forward(5), 1e-15, "symlog is odd")
  t.near(s.inverse(s.forward(-0.003)), -0.003, 1e-12, "and inverts below zero")
  t.equal(scale.new("log").valid(0), false, "zero is not on a log axis")
  t.equal(scale.new("symlog").valid(-1), true, "but on a symlog axis")
end)

tap.test("positions", function(t)
  local s = fitted("log", 1, 100)
  t.near(s:position(10), 0.5, 1e-12, "the middle of 1 and 100 is 10")
  s.reverse = true
  t.near(s:position(1), 1, 1e-12, "reversed, the smallest is at the end")
  t.ok(s:position(-1) ~= s:position(-1), "what can't be shown has no position")
  local flat = fitted("linear", 3, 3)
  t.ok(flat.u0 < 3 and flat.u1 > 3, "one value has room on both sides")
  local r = fitted("reciprocal", 1, 4)
  t.near(r:position(1.6), 0.5, 1e-12, "reciprocal: 1/x halfway")
end)

tap.test("linear ticks are round, inside and neither few nor many", function(t)
  local rng, bad = 12345, {}
  local function random()
    rng = (1103515245 * rng + 12345) % 2 ^ 31
    return rng / 2 ^ 31
  end
  for _ = 1, 500 do
    local low = (random() - 0.5) * 10 ^ (8 * random() - 3)
    local high = low + 10 ^ (8 * random() - 4)
    local s = fitted("linear", low, high)
    local ticks = s:ticks(200, 36)
    local n, step = #ticks.major, ticks.major[2] - ticks.major[1]
    local mantissa = step / 10 ^ math.floor(math.log10(step) + 1e-6)
    local round = false
    for _, m in ipairs{1, 2, 2.5, 5} do round = round or math.abs(mantissa - m) < 1e-3 end
    local inside = ticks.major[1] >= low - 1e-6 * step and ticks.major[n] <= high + 1e-6 * step
    local seen, distinct = {}, true
    for _, label in ipairs(ticks.labels) do
      distinct = distinct and not seen[label]
      seen[label] = true
    end
    if n < 2 or n > 11 or not round or not inside or #ticks.labels ~= n or not distinct then
      bad[#bad + 1] = ("%g..%g: %d ticks, step %g, labels %s"):format(low, high, n, step, table.concat(ticks.labels, " "))
    end
  end
  t.equal(#bad, 0, "500 random ranges", bad[1])
  if bad[1] then io.write("# ", table.concat(bad, "\n# ", 1, math.min(5, #bad)), "\n") end
end)

tap.test("logarithmic ticks", function(t)
  local ticks = fitted("log", 1e-3, 1e2):ticks(300, 40)
  t.equal(table.concat(ticks.labels, " "), "10^{-3} 10^{-2} 10^{-1} 1 10 10^{2}", "every decade")
  t.equal(#ticks.minor, 5 * 8, "with 2..9 between")
  ticks = fitted("log", 1e-30, 1):ticks(200, 40)
  t.ok(#ticks.major >= 3 and #ticks.major <= 7, "thirty decades: a few of them", #ticks.major)
  local stride = math.log10(ticks.major[2] / ticks.major[1])
  t.near(math.log10(ticks.major[#ticks.major] / ticks.major[1]), stride * (#ticks.major - 1), 1e-9, "evenly")
  ticks = fitted("log", 3, 40):ticks(300, 40)
  t.ok(#ticks.major >= 4, "within a decade or so there are ticks between", table.concat(ticks.labels, " "))
  ticks = fitted("log", 2.0, 2.6):ticks(300, 40)
  t.equal(ticks.labels[1], "2.0", "a narrow range is ticked like a linear one")
  ticks = fitted("log2", 1, 1024):ticks(600, 40)
  t.equal(table.concat(ticks.labels, " "), "1 2 4 8 16 32 64 128 256 512 1024", "powers of two")
  ticks = fitted("log2", 2 ^ -20, 2 ^ 20):ticks(300, 40)
  t.equal(ticks.labels[1]:sub(1, 3), "2^{", "large powers of two are raised")
end)

tap.test("symlog, reciprocal, categories", function(t)
  local s = scale.new("symlog", 1)
  s:fit(-1000, 1000, 0)
  local ticks = s:ticks(400, 36)
  local zero = false
  for i, v in ipairs(ticks.major) do zero = zero or v == 0 and ticks.labels[i] == "0" end
  t.ok(zero, "symlog has a tick at zero")
  t.equal(ticks.labels[1], "−10^{3}", "and names negative powers")
  local r = scale.new("reciprocal")
  r:fit(1, 100, 0)
  local last, gaps = nil, true
  for _, v in ipairs(r:ticks(300, 40).major) do
    local p = r:position(v) * 300
    gaps = gaps and (not last or p - last > 20)
    last = p
  end
  t.ok(gaps, "reciprocal ticks keep their distance")
end)

tap.test("numbers as texts", function(t)
  local function fixed(step, ...)
    local labels, factor = text.fixed({...}, step)
    return table.concat(labels, " ") .. (factor and " " .. factor or "")
  end
  t.equal(fixed(0.5, 0, 0.5, 1), "0.0 0.5 1.0", "the same decimals")
  t.equal(fixed(10, -10, 0, 10), "−10 0 10", "a true minus sign")
  t.equal(fixed(5000, 0, 5000, 10000), "0 5k 10k", "thousands")
  t.equal(fixed(2.5e9, 0, 2.5e9, 5e9), "0 2.5B 5.0B", "tokens in billions")
  t.equal(fixed(2e-5, 0, 2e-5, 4e-5), "0 2 4 ×10^{-5}", "small numbers share a factor")
  t.equal(fixed(0.25, 1, 1.25), "1.00 1.25", "a quarter needs two decimals")
  t.equal(text.number(3e-7), "3×10^{-7}", "one small number")
  t.equal(text.number(1e-7), "10^{-7}", "a power of ten")
  t.equal(text.number(1 / 0), "∞", "infinity")
  t.equal(text.number(160e6), "160M", "parameters")
end)

tap.done()

-- q.lab's part on laws: sizes, points, held-out runs, intervals - planted laws are found again, and the better law is.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local lab = q.lab

tap.test("size of a model", function(t)
  local p = {layers = 2, width = 32, heads = 4, vocab = 300, context = 16, dropout = 0, group = 32}
  local weights = 0
  for _, w in ipairs(lab.model(p, 1):parameters()) do
    if w:ndim() == 2 then weights = weights + w:numel() end
  end
  t.equal(lab.weights(p), weights, "counts the model's matrices")
  local half = lab.sized(p, 0.5)
  t.equal(("%d %d %d %d"):format(half.heads, half.width, half.group, half.layers), "2 16 16 2", "half the heads, as wide as before")
  t.equal(lab.sized(p, 0.01).heads, 1, "one head at least")
end)

tap.test("points as laws take them", function(t)
  local p, list = {layers = 1, width = 8, vocab = 10, lr = 0.1}, {}
  local points = {{tokens = 50, scale = 1, loss = 2, gptq4 = 0.01, gptq3 = -0.02}, {tokens = 90, scale = 0, loss = 3, gptq4 = 0.02, gptq3 = 0.1}}
  t.equal(lab.add_law_points(list, p, "run", points, {gptq4 = {bits = 4}, gptq3 = {bits = 3}}), 1, "one error is not positive")
  local last = list[#list]
  t.near({#list, last.bits, last.P, last.D, last.N, last.lr_now, last.lr_peak, last.error, last.delta}, {3, 3, 3, 90, 928, 0, 0.1, 0.1, 0.3}, 1e-12,
    "bits, tokens, weights, rates, errors in parts and in nats")
  t.equal(last.run, "run", "and the run")
end)

tap.test("interval", function(t)
  local draws = {}
  for i = 0, 100 do draws[101 - i] = i end
  local v = lab.interval(7, draws)
  t.near({v.value, v.low, v.high}, {7, 2.5, 97.5}, 1e-9, "the middle 95 %, whatever the order")
end)

--- Points of runs under ln error = -2 - bits/2 - 0.3 ln(now/peak + 0.05) + 0.1 ln D, times exp(noise): a constant rate and decays.
local function planted(noise)
  local stream, list = q.stream(5, "planted"), {}
  for run = 1, 6 do
    for i = 1, 8 do
      for _, bits in ipairs{3, 4} do
        local now, D = run == 1 and 1 or 1 - i / 8, 1000 * run * (8 + i)
        local error = math.exp(-2 - bits / 2 - 0.3 * math.log(now + 0.05) + 0.1 * math.log(D) + noise * (stream:below(1000) / 500 - 1))
        list[#list + 1] = {run = "run " .. run, N = 1000, D = D, bits = bits, P = bits, lr_now = now, lr_peak = 1, error = error, delta = error}
      end
    end
  end
  return list
end

tap.test("a law that foretells", function(t)
  local exact = lab.foretold(planted(0), "error", q.fit.rate)
  t.ok(exact.rms < 1e-6, "runs that it has not seen, where it is true", exact.rms)
  t.near({exact.params.g_lr.value, exact.params.gD.value, exact.params.gB.value}, {-0.3, 0.1, -0.5}, 1e-6, "with the planted exponents")
  t.ok(exact.params.gN == nil, "and none where N does not vary")
  local rate, data = lab.foretold(planted(0.1), "error", q.fit.rate), lab.foretold(planted(0.1), "error", q.fit.kumar)
  t.ok(rate.rms < 0.1 and data.rms > 0.2, "without the rate it is worse", rate.rms .. " " .. data.rms)
  local g = rate.params.g_lr
  t.ok(g.low < -0.3 and g.high > -0.3 and g.high - g.low < 0.1 and g.high < 0, "the jackknife's interval covers the truth", g.low .. " " .. g.high)
  local better = lab.better_law(rate, data, 1)
  t.ok(better.value < -0.3 and better.high < -0.1 and better.low <= better.value, "better by far", better.low .. " " .. better.high)
  t.near(lab.better_law(rate, rate, 1).value, 0, 0, "than itself by nothing")
  local sum, count = 0, 0
  for _, s in ipairs(rate.squares) do sum, count = sum + s[1], count + s[2] end
  t.near({math.sqrt(sum / count), count}, {rate.rms, #rate.points}, 1e-12, "squares by run add up")
  local text = lab.report_laws({rate = rate}, {"rate"})
  t.ok(text:find("| rate | g_lr | -0.3", 1, true) and text:find("96 points of 6 runs", 1, true), "a table", text)
  local layers = {}
  lab.add_foretold(layers, {{rate = rate}}, "rate", function(point) return point.run == "run 2" and point.error end, {label = "x"})
  lab.add_foretold(layers, {{rate = rate}}, "rate", function() return nil end, {label = "none"})
  t.equal(#layers .. " " .. #layers[1].x, "1 16", "points of one run; no layer without any")
end)

tap.test("the curve of an efficiency fit", function(t)
  local layers = {}
  lab.add_efficiency(layers, {{N = 10, precision = 16, L = 5}, {N = 1000, precision = 16, L = 2}, {N = 10, precision = 4, L = 6}},
    {A = 10, alpha = 0.5, E = 1, rho_4 = 0.25}, 16, {colour = 1})
  t.near({layers[1].y, layers[2].x[1], layers[2].x[31], layers[2].y[1]}, {{5, 2}, 10, 1000, 10 / math.sqrt(10) + 1}, 1e-9, "full precision")
  lab.add_efficiency(layers, {{N = 4, precision = 4, L = 6}}, {A = 10, alpha = 0.5, E = 1, rho_4 = 0.25}, 4, {colour = 2})
  t.near(layers[4].y[1], 11, 1e-9, "4 bits count for a quarter")
end)

tap.done()

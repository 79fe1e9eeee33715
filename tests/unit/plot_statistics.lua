-- plot_statistics.lua - what the kinds compute before they draw: bins, densities, contour lines, fits.
local tap = dofile "tests/tap.lua"
local contours = require "quench.plots.contours"
local counts = require "quench.plots.counts"
local data = require "quench.plots.data"
local levenberg = require "quench.plots.levenberg"
local scale = require "quench.plots.scale"

--- Quantiles of the normal distribution at (i - 1/2) / n, by bisection of the error function's series.
local function normal_sample(n)
  local function cdf(z)
    local sum, term = z, z
    for k = 1, 60 do
      term = term * z * z / (2 * k + 1)
      sum = sum + term
    end
    return 0.5 + sum * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)
  end
  local out = {}
  for i = 1, n do
    local low, high, p = -6, 6, (i - 0.5) / n
    for _ = 1, 50 do
      local middle = (low + high) / 2
      if cdf(middle) < p then low = middle else high = middle end
    end
    out[i] = low
  end
  return out
end

tap.test("bins", function(t)
  local edges = counts.edges(0, 10, 5, scale.new("linear"))
  t.near(edges, {0, 2, 4, 6, 8, 10}, 1e-12, "equal bins")
  local found, inside = counts.fill({0, 1.9, 2, 5, 10, 11, -1}, edges)
  t.near(found, {2, 1, 1, 0, 1}, 0, "a value on an edge belongs to the bin above, the last edge to the last bin")
  t.equal(inside, 5, "values outside are not counted")
  t.near(counts.edges(1, 1000, 3, scale.new("log")), {1, 10, 100, 1000}, 1e-12, "even on a log axis")
  local sample = normal_sample(1000)
  -- Freedman and Diaconis: 2 x 1.349 / 10 wide, over 6.58 of range
  t.equal(counts.bin_number(sample), math.ceil((sample[1000] - sample[1]) / (2 * 1.3484 / 10)), "number of bins for 1000 normal values")
  t.equal(counts.bin_number{1, 1, 1, 1}, 5, "one value repeated")
end)

tap.test("density", function(t)
  local xs, ys = counts.density(normal_sample(2000), nil, 201, 4)
  local area, at_zero = 0, 0
  for i = 2, #xs do area = area + (xs[i] - xs[i - 1]) * (ys[i] + ys[i - 1]) / 2 end
  for i = 1, #xs do
    if math.abs(xs[i]) < 1e-9 then at_zero = ys[i] end
  end
  t.near(area, 1, 1e-3, "it integrates to one")
  local h = counts.bandwidth(normal_sample(2000))
  t.near(at_zero, 1 / math.sqrt(2 * math.pi * (1 + h * h)), 2e-3, "its middle is that of the normal density widened by the kernel")
  t.near(h, 0.9 * 2000 ^ -0.2, 0.01, "Silverman's rule")
  local one = select(2, counts.density({3}, nil, 50, 3))
  t.ok(one[25] > 0, "a single value has a density too")
end)

tap.test("quantiles and moments", function(t)
  t.near({data.quantile({1, 2, 3, 4}, 0.25), data.quantile({1, 2, 3, 4}, 0.5), data.quantile({7}, 0.9)}, {1.75, 2.5, 7}, 0, "type 7")
  local mean, deviation, n = data.moments{2, 4, 4, 4, 5, 5, 7, 9, 0 / 0}
  t.near({mean, deviation * deviation, n}, {5, 32 / 7, 8}, 1e-12, "NaN is left out")
end)

tap.test("contour lines", function(t)
  local xs, ys, z = {}, {}, {}
  for i = 1, 41 do xs[i], ys[i] = (i - 21) / 10, (i - 21) / 10 end
  for j = 1, 41 do
    z[j] = {}
    for i = 1, 41 do z[j][i] = xs[i] ^ 2 + ys[j] ^ 2 end
  end
  local view = {x = function(v) return v end, y = function(v) return v end}
  local lines = contours.lines(xs, ys, z, 1, view)
  t.equal(#lines, 1, "a circle is one line")
  local line, worst = lines[1], 0
  for i = 1, #line.x do worst = math.max(worst, math.abs(math.sqrt(line.x[i] ^ 2 + line.y[i] ^ 2) - 1)) end
  t.ok(worst < 2e-3, "its points lie on the circle", worst)
  t.near({line.x[1], line.y[1]}, {line.x[#line.x], line.y[#line.x]}, 1e-12, "it is closed")
  t.equal(#contours.lines(xs, ys, z, 100, view), 0, "no line above all values")
  t.equal(#contours.lines({1, 2}, {1, 2}, {{1, 0}, {0, 1}}, 0.4, view), 2, "a saddle has two lines")
  t.equal(#contours.lines({1, 2, 3}, {1, 2}, {{0, 0 / 0, 1}, {1, 1, 1}}, 0.5, view), 0, "cells with NaN have none")
  t.near(contours.sampler(xs, ys, z, view)(0.05, 0), 0.005, 1e-9, "between grid points the surface is bilinear")
  t.near(contours.levels(0, 1, 5), {0.2, 0.4, 0.6, 0.8}, 1e-12, "levels are round")
end)

tap.test("fits", function(t)
  -- NIST StRD, Misra1a (nonlinear regression, certified values)
  local x = {77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1, 760.0}
  local y = {10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47, 81.78}
  local fit = levenberg.fit("b*(1-exp(-c*x))", x, y)
  t.near(fit.value.b / 2.3894212918e2, 1, 1e-6, "Misra1a b1, found without a start")
  t.near(fit.value.c / 5.5015643181e-4, 1, 1e-6, "Misra1a b2")
  t.near(fit.error.b / 2.7070075241, 1, 1e-4, "its standard error")
  t.near(fit.error.c / 7.2668688436e-6, 1, 1e-4, "and that of b2")
  local xs, ys = {}, {}
  for i = 1, 12 do xs[i], ys[i] = 2 ^ i * 1e6, 406.4 * (2 ^ i * 1e6) ^ -0.34 + 1.69 end
  local law = levenberg.fit("A*x^-alpha+E", xs, ys)
  t.near({law.value.A / 406.4, law.value.alpha, law.value.E}, {1, 0.34, 1.69}, 1e-4, "an exact scaling law comes back")
  local line = levenberg.fit("a*x+b", {1, 2, 3, 4}, {3.1, 4.9, 7.2, 8.8})
  t.near({line.value.a, line.value.b}, {1.94, 1.15}, 1e-7, "a straight line as by least squares")
  -- s^2 = 0.046 ... / 2; var(a) = s^2 / 5
  local rss = 0
  for i, v in ipairs{3.1, 4.9, 7.2, 8.8} do rss = rss + (v - 1.94 * i - 1.15) ^ 2 end
  t.near(line.error.a, math.sqrt(rss / 2 / 5), 1e-6, "its standard error")
  t.near(select(2, line.at(2.5)), 4.3027 * math.sqrt(rss / 2 / 4), 1e-6, "the interval in the middle is t s / sqrt(n)")
  local power = levenberg.fit("a*x^b", {1, 10, 100}, {5, 0.5, 0.05}, {log = true})
  t.near({power.value.a, power.value.b}, {5, -1}, 1e-8, "logarithms compared")
  t.near({levenberg.student(2), levenberg.student(10), levenberg.student(1000)}, {4.3027, 2.2281, 1.9623}, 1e-4, "Student's t")
  t.fails(function() levenberg.fit("a*y", {1}, {1}) end, "has no x", nil, true)
  t.fails(function() levenberg.fit("os.exit(x)", {1}, {1}) end, "can't be computed", nil, true)
  t.fails(function() levenberg.fit("a*x+b", {1}, {1}) end, "2 parameters need as many points", nil, true)
  t.fails(function() levenberg.fit("a*x+", {1}, {1}) end, "is not a formula", nil, true)
  t.fails(function() levenberg.fit("a*x", {1, 2}, {1, 2}, {start = {b = 1}}) end, "start has 'b'", nil, true)
end)

tap.done()

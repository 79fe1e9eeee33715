-- The quadratic test, critical sharpness, lines and planes on losses with known answers.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local curvature = q.curvature

local stream = q.stream(6, "landscape test")
local function normal(...) return q.zeros(...):to("f64"):normal_(stream) end

-- L(w) = w.Aw/2 + b.w, in two parameters of 4 and 2 numbers
local function parabola(batches)
  local u, v = normal(2, 2):requires_grad(), normal(2):requires_grad()
  local root = normal(6, 6)
  local a, b = root:matmul(root:t()), normal(6)
  local function loss(scale)
    local w = q.concat({u:view(-1), v}, 1)
    return (w * a:matmul(w)):sum() * (0.5 * (scale or 1)) + (b * w):sum()
  end
  local function at(list) return q.concat({list[1]:view(-1), list[2]}, 1):detach() end
  return {params = {u, v}, loss = loss, a = a, b = b, at = at, batches = batches}
end

tap.test("the quadratic test is exact on a parabola", function(t)
  local p = parabola()
  local d = {normal(2, 2), normal(2)}
  local w, x = p.at(p.params), p.at(d)
  local r = curvature.quadratic(p.loss, p.params, {direction = d})
  t.near(r.gradient.value, x:dot(p.a:matmul(w) + p.b), 1e-12, "g.d")
  t.near(r.curvature.value, 0.5 * x:dot(p.a:matmul(x)), 1e-12, "d.Hd/2")
  t.near(r.measured.value, r.predicted.value, 1e-12, "measured is predicted")
  t.near(r.ratio.value, 1, 1e-12, "ratio 1")
  t.near(r.norm, x:norm(), 1e-14, "length of the step")
  local first, second = 0, 0
  for _, s in ipairs(r.shares) do first, second = first + s.gradient, second + s.curvature end
  t.near({first, second}, {r.gradient.value, r.curvature.value}, 1e-12, "the shares of the parameters add up")
  local to = {p.params[1]:detach() + d[1], p.params[2]:detach() + d[2]}
  t.near(curvature.quadratic(p.loss, p.params, {to = to}).predicted.value, r.predicted.value, 1e-12, "to a point instead")
  t.near(curvature.directional(p.loss, p.params, {direction = d}).value, 2 * r.curvature.value / x:dot(x), 1e-12, "directional curvature")
  t.ok(tostring(r):find("ratio 1.000", 1, true), "it prints")
end)

tap.test("the quadratic test away from a parabola, over batches", function(t)
  local w = normal(3):requires_grad()
  local function loss(scale) return (w * scale):exp():sum() end
  local d = q.tensor({0.3, -0.2, 0.4}, "f64")
  local scales = {0.5, 1, 1.5, 1.2}
  local r = curvature.quadratic(loss, {w}, {direction = {d}, batches = scales})
  local e = w:detach()
  local predicted, measured, ratios = 0, 0, {}
  for i, s in ipairs(scales) do
    local y = (e * s):exp()
    local p = (y * d):sum():item() * s + 0.5 * (y * d:square()):sum():item() * s * s
    local m = ((e + d) * s):exp():sum():item() - y:sum():item()
    predicted, measured, ratios[i] = predicted + p / 4, measured + m / 4, {p, m}
  end
  t.near(r.ratio.value, predicted / measured, 1e-12, "ratio of the means")
  local each, mean, spread = {}, 0, 0
  for skip = 1, 4 do
    local p, m = 0, 0
    for i = 1, 4 do
      if i ~= skip then p, m = p + ratios[i][1], m + ratios[i][2] end
    end
    each[skip] = p / m
    mean = mean + each[skip] / 4
  end
  for skip = 1, 4 do spread = spread + (each[skip] - mean) ^ 2 end
  t.near(r.ratio.error, math.sqrt(spread * 3 / 4), 1e-12, "its error leaves one batch out at a time")
  t.ok(r.ratio.value < 1 and r.ratio.value > 0.8, "the cubic part is missing")
  local tiny = curvature.quadratic(loss, {w}, {direction = {d * 1e-3}, batches = scales})
  t.ok(math.abs(tiny.ratio.value - 1) < 1e-5, "and does not matter for a small step")
end)

tap.test("critical sharpness", function(t)
  local p = parabola()
  local op = curvature.operator(p.loss, p.params)
  local g = op:gradient()
  local truth = op:quadratic_form(g).value / p.at(g):dot(p.at(g))
  for _, rate in ipairs{1e-6, 1e-2, 10} do
    local e = curvature.critical_sharpness(p.loss, p.params, {direction = g, rate = rate, tolerance = 1e-6})
    t.near(e.value, truth, 2e-6, ("g.Hg / g.g on a parabola, from rate %g"):format(rate))
    t.ok(e.low <= truth and truth <= e.high, "inside its bracket")
  end
  local e = curvature.critical_sharpness(p.loss, p.params, {direction = g, rate = 1 / truth})
  t.ok(e.evaluations < 10, "fewer than ten losses from a good guess", e.evaluations)
  local up = {g[1] * -1, g[2] * -1}
  t.fails(function() curvature.critical_sharpness(p.loss, p.params, {direction = up}) end, "is the direction's sign right", "uphill")
  t.fails(function() curvature.critical_sharpness(p.loss, p.params, {direction = {g[1] * 0, g[2] * 0}}) end, "does not rise",
    "no direction")
end)

tap.test("lines and their barrier", function(t)
  local w = q.tensor({-1}, "f64"):requires_grad()
  local function loss(scale) return (w:square() - 1):square():sum() * scale end -- wells at -1 and 1, a hill of height `scale` between
  local to = {q.tensor({1}, "f64")}
  local line = curvature.line(loss, {w}, {to = to, batches = {1, 2}, points = 7, low = -0.25, high = 1.25})
  t.near(line.t, {-0.25, 0, 0.25, 0.5, 0.75, 1, 1.25}, 1e-15, "regular steps")
  for i, s in ipairs(line.t) do
    local x = -1 + 2 * s
    if math.abs(line.loss[i] - 1.5 * (x * x - 1) ^ 2) > 1e-13 then t.ok(false, "loss at " .. s, line.loss[i]) end
  end
  t.near(line.error[4], 0.5, 1e-14, "standard error over two batches")
  t.equal(w[1]:item(), -1, "the parameter is where it was")
  local barrier = curvature.connectivity(loss, {w}, {to = to, batches = {1, 2, 3}, points = 11})
  t.near({barrier.value, barrier.at}, {2, 0.5}, 1e-12, "barrier")
  t.near(barrier.error, math.sqrt((1 + 0 + 1) / 2 / 3), 1e-12, "its standard error")
  local flat = curvature.connectivity(function() return w:sum() end, {w}, {to = to})
  t.near(flat.value, 0, 1e-15, "none on a slope")
end)

tap.test("cuts", function(t)
  local p = parabola()
  local d = {normal(2, 2), normal(2)}
  local cut = curvature.cut(p.loss, p.params, {direction = d, normalise = "unit", radius = 0.5, points = 3})
  local x = p.at(d)
  x = x * (1 / x:norm())
  local w = p.at(p.params)
  for i, s in ipairs{-0.5, 0, 0.5} do
    local y = w + x * s
    t.near(cut.loss[i], 0.5 * y:dot(p.a:matmul(y)) + p.b:dot(y), 1e-12, "loss at " .. s)
  end
  local random = curvature.cut(p.loss, p.params, {points = 3, seed = 1})
  t.near(random.norm, p.params[1]:detach():norm(), 1e-12, "filter normalisation: the rows' norms, vectors stand still")
  t.equal(curvature.cut(p.loss, p.params, {points = 3, seed = 1}).loss[1], random.loss[1], "a seed repeats")
end)

tap.test("planes", function(t)
  local p = parabola()
  local before = p.params[1]:detach():clone()
  local a = {p.params[1]:detach() + normal(2, 2), p.params[2]:detach() + normal(2)}
  local b = {p.params[1]:detach() + normal(2, 2), p.params[2]:detach() + normal(2)}
  local plane = curvature.plane(p.loss, p.params, {a = a, b = b, size = {5, 4}, labels = {"K", "K-1", "quantized"}})
  t.equal(#plane.x, 5, "columns") t.equal(#plane.y, 4, "rows") t.equal(#plane.z, 4, "a row of losses for each y") t.equal(#plane.z[1], 5,
    "of each x")
  local here, one, two = p.at(p.params), p.at(a), p.at(b)
  local u = one - here
  local length = u:norm()
  u = u * (1 / length)
  local v = (two - here) - u * u:dot(two - here)
  v = v * (1 / v:norm())
  local worst = 0
  for j, y in ipairs(plane.y) do
    for i, x in ipairs(plane.x) do
      local w = here + u * x + v * y
      worst = math.max(worst, math.abs(plane.z[j][i] - (0.5 * w:dot(p.a:matmul(w)) + p.b:dot(w))))
    end
  end
  t.ok(worst < 1e-10, "the losses of the grid", worst)
  t.equal(plane.points[3].name, "quantized", "labels")
  t.near({plane.points[2].x, plane.points[2].y}, {length, 0}, 1e-12, "the first point lies on the first axis")
  t.near(math.sqrt(plane.points[3].x ^ 2 + plane.points[3].y ^ 2), (two - here):norm(), 1e-12, "distances are kept")
  t.near(plane.points[3].loss, 0.5 * two:dot(p.a:matmul(two)) + p.b:dot(two), 1e-10, "its loss")
  t.equal((p.params[1]:detach() - before):abs():max():item(), 0, "the parameters are where they were")
  t.fails(function() curvature.plane(p.loss, p.params, {a = a, b = a}) end, "lie on one line", "three points on a line")
  t.fails(function() curvature.plane(p.loss, p.params, {a = {before}, b = b}) end, "a must be a list of 2 tensors", "a short list")
end)

tap.test("parameters come back after an error", function(t)
  local w = normal(5):requires_grad()
  local before, calls = w:detach():clone(), 0
  local function loss()
    calls = calls + 1
    if calls > 3 then error("loss broke") end
    return w:square():sum()
  end
  t.fails(function() curvature.cut(loss, {w}, {direction = {normal(5)}}) end, "loss broke", "the error passes")
  t.equal((w:detach() - before):abs():max():item(), 0, "the values are the old ones")
  t.fails(function() curvature.quadratic(loss, {w}, {}) end, "loss broke", "an error of the loss")
  calls = -100
  t.fails(function() curvature.quadratic(loss, {w}, {}) end, "give either to = or direction =", "no step")
end)

tap.test("Ctrl-C over batches and points", function(t)
  local p = parabola()
  local d, weights, batches = {normal(2, 2), normal(2)}, {}, {}
  for b = 1, 9 do weights[b], batches[b] = b, b end
  local function loss(scale) return p.loss() * (1 + 0.1 * scale) end
  local function press(at)
    return function(i)
      if i == at then io.popen("kill -INT " .. q.system.process()):close() end
    end
  end
  local function options(n, more)
    local o = {batches = {}, weights = {}, direction = d}
    for b = 1, n do o.batches[b], o.weights[b] = batches[b], weights[b] end
    for key, v in pairs(more) do o[key] = v end
    return o
  end
  local part = curvature.quadratic(loss, p.params, options(9, {progress = press(4)}))
  local four = curvature.quadratic(loss, p.params, options(4, {progress = false}))
  t.ok(part.interrupted and not four.interrupted and #part.batches == 4, "the quadratic test over the batches so far")
  for _, name in ipairs{"predicted", "measured", "ratio"} do
    t.near({part[name].value, part[name].error}, {four[name].value, four[name].error}, 1e-12, name .. " and its error are those of four batches")
  end
  t.near(part.shares[1].curvature, four.shares[1].curvature, 1e-12, "so are the shares")
  part = curvature.directional(loss, p.params, options(9, {progress = press(3)}))
  local three = curvature.directional(loss, p.params, options(3, {progress = false}))
  t.ok(part.interrupted and part.samples == 3, "curvature along a direction so far")
  t.near({part.value, part.error}, {three.value, three.error}, 1e-12, "is that of three batches")
  t.fails(function() curvature.directional(loss, p.params, options(9, {progress = press(1)})) end, "interrupted", "one batch has no error: it raises")
  q.system.clear_interrupt() -- else it would be raised again, outside of t.fails
  local cut = curvature.cut(p.loss, p.params, {direction = d, points = 9, progress = press(5)})
  t.ok(cut.interrupted and #cut.t == 5 and #cut.loss == 5, "a cut so far")
  local a, b = {normal(2, 2), normal(2)}, {normal(2, 2), normal(2)}
  local plane = curvature.plane(p.loss, p.params, {a = a, b = b, size = {4, 6}, progress = press(3 + 4 * 3 + 2)})
  local all = curvature.plane(p.loss, p.params, {a = a, b = b, size = {4, 6}, progress = false})
  t.ok(plane.interrupted and #plane.z == 3 and #plane.y == 3 and #plane.points == 3, "the whole rows of a plane so far")
  t.near(plane.z[3], all.z[3], 0, "with their losses")
  t.fails(function() curvature.connectivity(p.loss, p.params, {to = a, progress = press(3)}) end, "interrupted", "half a line has no barrier")
  q.system.clear_interrupt()
end)

tap.done()

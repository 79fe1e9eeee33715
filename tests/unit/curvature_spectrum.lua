-- Eigenpairs, traces, diagonals and densities against matrices whose answers are known.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local curvature = q.curvature

local stream = q.stream(5, "spectrum test")
local function normal(...) return q.zeros(...):to("f64"):normal_(stream) end
local function symmetric(n)
  local a = normal(n, n)
  return (a + a:t()) * 0.5
end
local function gap(a, b) return (a - b):abs():max():item() end
local function diagonal_of(a)
  local d = {}
  for i = 1, a:size(1) do d[i] = a[i][i] end
  return d
end
local function sum(list)
  local s = 0
  for _, x in ipairs(list) do s = s + x end
  return s
end
local quiet = {progress = false}
local function with(o)
  for k, v in pairs(quiet) do o[k] = v end
  return o
end

tap.test("Lanczos against LAPACK", function(t)
  local a = symmetric(60)
  local w = q.linalg.eigh(a):totable()
  local op = curvature.matrix(a)
  local top = curvature.top(op, with{k = 3, which = "both", tolerance = 1e-10})
  t.near(top.values, {w[60], w[59], w[58], w[1], w[2], w[3]}, 1e-10, "three at each end")
  t.ok(top.converged, "converged")
  t.near(curvature.top(op, with{k = 2, tolerance = 1e-10}).values, {w[60], w[59]}, 1e-10, "largest")
  t.near(curvature.top(op, with{k = 2, which = "smallest", tolerance = 1e-10}).values, {w[1], w[2]}, 1e-10, "smallest")
  local by_size = {}
  for i, x in ipairs(w) do by_size[i] = x end
  table.sort(by_size, function(x, y) return math.abs(x) > math.abs(y) end)
  local size = curvature.top(op, with{k = 4, which = "magnitude", tolerance = 1e-10})
  t.near(size.values, {by_size[1], by_size[2], by_size[3], by_size[4]}, 1e-10, "largest magnitudes")
  local narrow = curvature.top(op, with{k = 2, which = "both", tolerance = 1e-10, basis = 14, products = 1000})
  t.near(narrow.values, {w[60], w[59], w[1], w[2]}, 1e-10, "the same through restarts with 14 vectors")
  t.ok(narrow.products > 14, "more products than vectors")
  local all = curvature.top(curvature.matrix(symmetric(9)), with{k = 20})
  t.equal(#all.values, 9, "more pairs asked than there are")
end)

tap.test("residuals bound the errors", function(t)
  local a = symmetric(80)
  local w = q.linalg.eigh(a):totable()
  for _, tolerance in ipairs{1e-1, 1e-2, 1e-4} do
    local top = curvature.top(curvature.matrix(a), with{k = 2, tolerance = tolerance, vectors = true})
    for k = 1, 2 do
      local y = top.vectors[k][1]
      local residual = (a:matmul(y) - y * top.values[k]):norm()
      t.near(residual, top.errors[k], 1e-9, ("tolerance %g: the residual of pair %d is the one given"):format(tolerance, k))
      local nearest = math.huge
      for _, x in ipairs(w) do nearest = math.min(nearest, math.abs(x - top.values[k])) end
      t.ok(nearest <= top.errors[k] + 1e-12, "and an eigenvalue lies within")
      t.ok(top.errors[k] <= tolerance * math.max(-w[1], w[80]) * 1.000001, "and it is as small as asked")
    end
  end
  local short = curvature.top(curvature.matrix(a), with{k = 2, tolerance = 1e-12, products = 5})
  t.ok(not short.converged and short.products == 5, "too few products: not converged, and it says so")
end)

tap.test("multiple eigenvalues and small ranks", function(t)
  local d = q.zeros(20, 20, "f64")
  for i = 1, 20 do d:narrow(1, i, 1):narrow(2, i, 1):fill_(i <= 3 and 5 or 1) end
  t.near(curvature.top(curvature.matrix(d), with{k = 4, tolerance = 1e-10}).values, {5, 5, 5, 1}, 1e-10, "5 three times")
  t.near(curvature.top(curvature.matrix(d * 0), with{k = 2}).values, {0, 0}, 0, "the zero matrix")
  local b = normal(30, 2)
  local low = b:matmul(b:t())
  t.near(curvature.top(curvature.matrix(low), with{k = 2, tolerance = 1e-10}).values,
    {q.linalg.eigh(low)[30], q.linalg.eigh(low)[29]}, 1e-10, "rank two")
  t.near(curvature.top(curvature.matrix(q.tensor({{-3}}, "f64")), with{k = 1}).values, {-3}, 1e-14, "one by one")
end)

tap.test("f32 operators", function(t)
  local a = symmetric(100)
  local w = q.linalg.eigh(a):totable()
  local top = curvature.top(curvature.matrix(a:to("f32")), with{k = 3, which = "both", tolerance = 1e-5})
  t.near(top.values, {w[100], w[99], w[98], w[1], w[2], w[3]}, 2e-6, "to f32's digits")
  local vectors = curvature.top(curvature.matrix(a:to("f32")), with{k = 3, vectors = true}).vectors
  t.ok(math.abs(vectors[1][1]:dot(vectors[3][1])) < 1e-5, "vectors are orthogonal")
end)

tap.test("power iteration", function(t)
  local b = normal(20, 20)
  local a = b:matmul(b:t())
  local w = q.linalg.eigh(a):totable()
  local power = curvature.power(curvature.matrix(a), with{products = 2000, tolerance = 1e-8})
  t.near(power.value, w[20], 1e-10, "the largest eigenvalue")
  t.ok(power.converged and #power.history == power.products, "with its history")
  t.ok(power.history[1] < power.value, "which rises")
  local lanczos = curvature.top(curvature.matrix(a), with{k = 1, tolerance = 1e-8})
  t.ok(lanczos.products < power.products, "Lanczos needs fewer products")
end)

tap.test("preconditioned and adaptive operators", function(t)
  local w = normal(3, 4):requires_grad()
  local x = normal(7, 4)
  local op = curvature.operator(function() return q.linear(x, w):tanh():square():mean() end, {w})
  local h = op:dense()
  local p = q.zeros(3, 4, "f64"):uniform_(stream, 0.5, 3)
  local scale = p:view(-1):rsqrt()
  local reference = h * scale:view(-1, 1) * scale:view(1, -1)
  t.ok(gap(curvature.preconditioned(op, {p}):dense(), reference) < 1e-14, "P^-1/2 H P^-1/2")
  t.near(curvature.top(curvature.preconditioned(op, {p}), with{tolerance = 1e-10}).values[1], q.linalg.eigh(reference)[12], 1e-10,
    "its sharpness")
  local by = w:detach():abs():view(-1) + 0.01
  t.ok(gap(curvature.adaptive(op):dense(), h * by:view(-1, 1) * by:view(1, -1)) < 1e-14, "T H T")
  t.fails(function() curvature.preconditioned(op, {p * 0}) end, "must be positive everywhere", "a preconditioner with zeros")
end)

-- ---- traces ----------------------------------------------------------------------------

tap.test("Hutchinson is unbiased, with the variance of theory", function(t)
  local a = symmetric(12)
  local d = diagonal_of(a)
  local truth, frobenius = sum(d), a:square():sum():item()
  for _, x in ipairs(d) do frobenius = frobenius - x * x end
  local op, values, errors = curvature.matrix(a), {}, {}
  for seed = 1, 1000 do
    local e = curvature.trace(op, with{samples = 4, seed = seed})
    values[seed], errors[seed] = e.value, e.error ^ 2
  end
  local mean = sum(values) / 1000
  local variance = 0
  for _, x in ipairs(values) do variance = variance + (x - mean) ^ 2 / 999 end
  local theory = 2 * frobenius / 4
  t.ok(math.abs(mean - truth) < 4 * math.sqrt(theory / 1000), "mean over 1,000 seeds", ("%g, the trace is %g"):format(mean, truth))
  t.ok(math.abs(variance / theory - 1) < 4 * math.sqrt(2 / 999) * 1.5, "variance", ("%g, theory %g"):format(variance, theory))
  t.ok(math.abs(sum(errors) / 1000 / theory - 1) < 0.1, "the standard errors say so too", sum(errors) / 1000)
end)

tap.test("Hutchinson: diagonal matrices, precision, seeds", function(t)
  local d = q.zeros(10, 10, "f64")
  for i = 1, 10 do d:narrow(1, i, 1):narrow(2, i, 1):fill_(i) end
  local exact = curvature.trace(curvature.matrix(d), with{samples = 2})
  t.near({exact.value, exact.error}, {55, 0}, 1e-13, "exact where nothing is off the diagonal")
  local b = normal(40, 40)
  local op = curvature.matrix(b:matmul(b:t()))
  local e = curvature.trace(op, with{samples = 5000, precision = 0.02})
  t.ok(e.samples < 5000 and e.samples >= 8 and e.error <= 0.02 * e.value, "stops at the asked precision", tostring(e))
  t.equal(curvature.trace(op, with{samples = 9, seed = 4}).value, curvature.trace(op, with{samples = 9, seed = 4}).value, "a seed repeats")
  t.ok(curvature.trace(op, with{samples = 9, seed = 4}).value ~= curvature.trace(op, with{samples = 9, seed = 5}).value, "another does not")
end)

tap.test("Hutch++", function(t)
  local b = normal(50, 5)
  local low = b:matmul(b:t())
  local e = curvature.trace(curvature.matrix(low), with{samples = 30, method = "hutch++"})
  t.near(e.value, sum(diagonal_of(low)), 1e-11, "exact for a low rank")
  t.equal(e.rank, 5, "which it finds")
  local c = normal(50, 50)
  local decaying = q.zeros(50, 50, "f64")
  local basis = q.linalg.qr(c)
  for i = 1, 50 do decaying:narrow(1, i, 1):narrow(2, i, 1):fill_(1 / i ^ 2) end
  decaying = basis:matmul(decaying):matmul(basis:t())
  local op, plain, better = curvature.matrix(decaying), {}, {}
  local truth = sum(diagonal_of(decaying))
  for seed = 1, 40 do
    plain[seed] = (curvature.trace(op, with{samples = 30, seed = seed}).value - truth) ^ 2
    better[seed] = (curvature.trace(op, with{samples = 30, seed = seed, method = "hutch++"}).value - truth) ^ 2
  end
  t.ok(sum(better) < sum(plain) / 10, "ten times less variance on a decaying spectrum", ("%g against %g"):format(sum(better), sum(plain)))
end)

tap.test("a loss that is NaN or infinite", function(t)
  local w = normal(4):requires_grad()
  for text, number in pairs{NaN = 0 / 0, infinite = 1 / 0} do
    local function loss(factor) return w:square():sum() * factor end
    for _, name in ipairs{"top", "trace", "diagonal", "density", "quadratic"} do
      t.fails(function() curvature[name](loss, {w}, with{batches = {1, number}, direction = name == "quadratic" and {w} or nil}) end,
        "the loss of batch 2 is " .. text, name .. ", " .. text)
    end
  end
  t.fails(function() curvature.critical_sharpness(function() return w:sum() * (0 / 0) end, {w}, {direction = {w}}) end, "the loss is NaN",
    "critical sharpness")
  t.fails(function() curvature.trace(function() return w:square():sum() end, {w}, with{steps = {0 / 0}}) end, "steps holds NaN", "steps")
  local function outputs() return w * (0 / 0), q.tensor({1}, "i32") end
  t.fails(function() curvature.ggn(function() local z, y = outputs() return z:view(1, 4), y end, {w}) end, "loss of batch 1 is NaN",
    "Gauss-Newton")
  t.fails(function() curvature.trace(curvature.matrix(symmetric(3)), with{samples = 5, method = "hutch++"}) end, "6 or more", "hutch++ of five")
end)

tap.test("traces of parts in one pass, and weighted by step sizes", function(t)
  local w, u, b = normal(3, 4):requires_grad(), normal(2, 3):requires_grad(), normal(3):requires_grad()
  local x = normal(9, 4)
  local op = curvature.operator(function() return q.linear(q.linear(x, w, b):tanh(), u):square():mean() end, {w, u, b})
  local d = diagonal_of(op:dense())
  local function part(from, to)
    local s = 0
    for i = from, to do s = s + d[i] end
    return s
  end
  local e = curvature.trace(op, with{samples = 600, groups = {"first", "second", "first"}})
  local truth = {part(1, 12) + part(19, 21), part(13, 18)}
  for k = 1, 2 do
    local g = e.groups[k]
    t.ok(math.abs(g.value - truth[k]) < 4 * g.error, g.name .. " layer", ("%g +- %g, truth %g"):format(g.value, g.error, truth[k]))
  end
  t.near(e.groups[1].value + e.groups[2].value, e.value, 1e-13, "the parts add up")
  local steps = curvature.trace(op, with{samples = 600, steps = {0.1, q.tensor({{0.2}, {0.3}}, "f64"), 0}})
  local weighted = 0.01 * part(1, 12) + 0.04 * part(13, 15) + 0.09 * part(16, 18)
  t.ok(math.abs(steps.value - weighted) < 4 * steps.error, "sum of H_ii s_i^2", ("%g +- %g, truth %g"):format(steps.value, steps.error,
    weighted))
  t.near(steps.loss_change.value, steps.value / 24, 1e-15, "a 24th of it is the loss change of rounding")
  t.fails(function() curvature.trace(op, {groups = "layer"}) end, "needs a model", "layers without a model")
  t.fails(function() curvature.trace(op, {groups = {"a"}}) end, "no label for parameter 2", "too few labels")
end)

tap.test("diagonal", function(t)
  local a = symmetric(8)
  local e = curvature.diagonal(curvature.matrix(a), with{samples = 4000})
  local value, error, worst = e.value[1]:totable(), e.error[1]:totable(), 0
  for i, x in ipairs(diagonal_of(a)) do worst = math.max(worst, math.abs(value[i] - x) / error[i]) end
  t.ok(worst < 4, "within four standard errors", worst)
  local theory = 0
  for i = 2, 8 do theory = theory + a[1][i] ^ 2 end
  t.ok(math.abs(error[1] / math.sqrt(theory / 4000) - 1) < 0.1, "errors as theory has them")
end)

-- ---- density ----------------------------------------------------------------------------

tap.test("density", function(t)
  local a = symmetric(40)
  local op = curvature.matrix(a)
  local d = curvature.density(op, with{steps = 12, starts = 30})
  local area = 0
  for i = 2, #d.x do area = area + (d.y[i] + d.y[i - 1]) / 2 * (d.x[i] - d.x[i - 1]) end
  t.near(area, 1, 1e-3, "its area is 1")
  local first, second = sum(diagonal_of(a)) / 40, a:square():sum():item() / 40
  t.ok(math.abs(d.mean.value - first) < 4 * d.mean.error, "first moment: trace / n", tostring(d.mean))
  t.ok(math.abs(d.square.value - second) < 4 * d.square.error, "second moment: |A|^2 / n", tostring(d.square))
  for _, r in ipairs(d.rules) do
    if math.abs(sum(r.weights) - 1) > 1e-12 then t.ok(false, "weights add up to 1") end
  end
  -- all steps: the nodes are the eigenvalues, the rule is exact for that start
  local whole = curvature.density(op, with{steps = 40, starts = 1})
  t.near(whole.rules[1].nodes, q.linalg.eigh(a):totable(), 1e-10, "with n steps the nodes are the eigenvalues")
  -- 2m - 1 moments of one start from m steps: the same start with more steps has the same moments
  local few = curvature.density(op, with{steps = 4, starts = 1})
  for power = 1, 7 do
    local x, y = 0, 0
    for k, node in ipairs(few.rules[1].nodes) do x = x + few.rules[1].weights[k] * node ^ power end
    for k, node in ipairs(whole.rules[1].nodes) do y = y + whole.rules[1].weights[k] * node ^ power end
    t.near(x, y, 1e-10, "moment " .. power .. " from 4 steps")
  end
  t.ok(d.error[200] and d.error[200] >= 0, "a band over the starts")
end)

-- ---- loops that are watched and stopped ------------------------------------------------

tap.test("progress and Ctrl-C", function(t)
  local a = symmetric(30)
  local op, seen = curvature.matrix(a), 0
  curvature.trace(op, {samples = 5, progress = function(i, n) seen = seen + i * n end})
  t.equal(seen, 75, "the function sees every round")
  local function press(i)
    if i == 6 then io.popen("kill -INT " .. q.system.process()):close() end -- os.execute would shield us from it
  end
  local e = curvature.trace(op, {samples = 500, progress = press})
  t.ok(e.interrupted and e.samples == 6, "Ctrl-C gives the estimate so far", tostring(e))
  t.near(e.value, curvature.trace(op, with{samples = 6}).value, 1e-13, "which is the one of six samples")
  t.ok(not q.system.interrupted(), "and the wish is dealt with")
  t.fails(function() curvature.trace(op, {samples = 500, progress = press, partial = false}) end, "interrupted", "partial = false raises")
  q.system.clear_interrupt() -- else it would be raised again, outside of t.fails
  local top = curvature.top(op, {k = 1, tolerance = 1e-14, progress = press})
  t.ok(top.interrupted and top.products == 6 and top.errors[1] > 0 and not top.converged, "eigenvalues so far, with their residuals")
  local w, within = q.linalg.eigh(a):totable(), 0
  for at = 3, 40 do -- a basis of 10 restarts every few products
    local function stop(i)
      if i == at then io.popen("kill -INT " .. q.system.process()):close() end
    end
    local part = curvature.top(op, {k = 2, basis = 10, products = 60, tolerance = 1e-13, progress = stop})
    for k, value in ipairs(part.values) do
      local nearest = math.huge
      for _, x in ipairs(w) do nearest = math.min(nearest, math.abs(x - value)) end
      local bound = part.errors[k] > 0 and part.errors[k] * (1 + 1e-9) + 1e-12
      if part.interrupted and part.products == at and bound and nearest <= bound then within = within + 1 end
    end
  end
  t.equal(within, 76, "wherever it comes, each value so far lies within its error of an eigenvalue")
  for at = 2, 29 do
    local h = curvature.trace(op, {samples = 30, method = "hutch++", progress = function(i)
      if i == at then io.popen("kill -INT " .. q.system.process()):close() end
    end})
    if not (h.interrupted and h.error > 0 and h.products == at and h.samples == (at < 22 and math.min(at, 10) or at - 20)) then
      t.ok(false, "hutch++ stopped after product " .. at, tostring(h))
    end
  end
  local early = curvature.trace(op, {samples = 600, method = "hutch++", progress = press})
  t.near(early.value, curvature.trace(op, with{samples = 6}).value, 1e-13, "hutch++ stopped in its sketch: Hutchinson of the same signs")
  local density = curvature.density(op, {steps = 20, starts = 2, progress = press})
  t.equal(#density.rules[1].nodes, 6, "a density so far: a rule of fewer nodes")
  t.ok(density.interrupted and density.products == 6, "marked as such")
  local second = curvature.density(op, {steps = 20, starts = 4, progress = function(i)
    if i == 29 then io.popen("kill -INT " .. q.system.process()):close() end
  end})
  t.ok(second.interrupted and #second.rules[2].nodes == 9 and second.mean.error and second.error[200],
    "stopped in its second start: a band of two rules, the second of nine nodes")
  for _, method in ipairs{"hutchinson", "hutch++"} do
    t.fails(function()
      curvature.trace(op, {samples = 30, method = method, progress = function(i)
        if i == 1 then io.popen("kill -INT " .. q.system.process()):close() end
      end})
    end, "interrupted", method .. ": one sample has no error, it raises")
  end
  t.near(density.mean.value, curvature.density(op, with{steps = 6, starts = 1}).mean.value, 1e-12, "with the right moments")
  local diagonal = curvature.diagonal(op, {samples = 500, progress = press})
  local six = curvature.diagonal(op, with{samples = 6})
  t.ok(diagonal.interrupted and diagonal.samples == 6 and gap(diagonal.value[1], six.value[1]) == 0 and gap(diagonal.error[1], six.error[1]) == 0,
    "the diagonal of six samples, with their errors")
  local power = curvature.power(op, {products = 500, tolerance = 1e-14, progress = press})
  t.ok(power.interrupted and power.products == 6 and power.error > 0, "power iteration so far")
  local estimate = require "quench.curvature.estimate"
  t.fails(function() estimate.whole(curvature.trace, op, {samples = 500, progress = press}) end, "interrupted", "in a recipe's run it raises")
  q.system.clear_interrupt()
  t.ok(curvature.trace(op, {samples = 500, progress = press}).interrupted, "and not behind it")
  t.fails(function() curvature.trace(op, {samples = 9, progress = function() error("my own mistake") end}) end, "my own mistake",
    "other errors pass")
end)

tap.done()

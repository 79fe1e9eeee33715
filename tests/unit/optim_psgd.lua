-- PSGD draws random numbers, so it is tested by what it must do: whiten gradients of a known covariance, forget the
-- gradients' scale, be a diagonal where asked, and repeat itself.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local la = q.linalg

local function random(shape, name, step) return q.zeros(shape, "f64"):normal_(q.stream(step or 0, name)) end

--- A fixed matrix with singular values spread over a decade.
local function spread(n, name)
  local o = la.qr(random({n, n}, name))
  local s = {}
  for i = 1, n do s[i] = 10 ^ (-(i - 1) / (n - 1)) end
  return o * q.tensor(s, "f64")
end

--- Ratio of the largest to the smallest eigenvalue.
local function condition(a)
  local w = la.eigvalsh(a)
  return w[w:numel()] / w[1]
end

--- Steps of PSGD on gradients L Z R^T; gives the second moments, along both axes, of the last directions and gradients.
local function directions(geometry, factor, steps, last)
  local left, right = spread(5, "l"), spread(4, "r")
  local w = q.zeros(5, 4, "f64")
  local opt = q.optim.psgd({w}, {lr = 1, momentum = 0, max_rms = 0, geometry = geometry, precond_lr = 0.1})
  local sums = {rows = 0, columns = 0, gradient_rows = 0, gradient_columns = 0, fixed = 0}
  local total, q1 = 0, opt:state()["1.Q.1"]
  for step = 1, steps do
    local g = left:matmul(random({5, 4}, "z", step)):matmul(right:t()) * factor
    local before = w:clone()
    w.grad = g
    opt:step()
    if step > steps - last then
      local u = before - w
      sums.rows, sums.columns = u:matmul(u:t()) + sums.rows, u:t():matmul(u) + sums.columns
      local p = q1:t():matmul(q1) -- of the rows: P C P is a multiple of the identity at the fixed point, around which Q wanders
      sums.fixed = p:matmul(left:matmul(left:t())):matmul(p) + sums.fixed
      sums.gradient_rows, sums.gradient_columns = g:matmul(g:t()) + sums.gradient_rows, g:t():matmul(g) + sums.gradient_columns
      total = total + u:norm() ^ 2 / u:numel()
    end
  end
  w.grad = nil
  return sums, math.sqrt(total / last), opt
end

for _, geometry in ipairs{"triangular", "q0.5eq1.5"} do
  tap.test("whitening, " .. geometry, function(t)
    local sums, rms, opt = directions(geometry, 1, 1200, 600)
    t.ok(condition(sums.gradient_rows) > 50 and condition(sums.gradient_columns) > 50, "the gradients are far from white")
    t.ok(condition(sums.rows) < 2, "directions are white along the rows", condition(sums.rows))
    t.ok(condition(sums.columns) < 2, "and along the columns", condition(sums.columns))
    t.near(rms, 1, 0.3, "each entry is of size 1")
    -- the fixed point: P^2 is the inverse covariance of an axis, up to a factor
    t.ok(condition(sums.fixed) < 2, "P C P is a multiple of the identity", condition(sums.fixed))
    local q1 = opt:state()["1.Q.1"]
    local _, other = directions(geometry, 1000, 1200, 600)
    t.near(other / rms, 1, 0.1, "gradients a thousand times larger give the same steps")
    if geometry == "triangular" then
      local below = 0
      for i = 2, 5 do
        for j = 1, i - 1 do below = math.max(below, math.abs(q1[i][j])) end
      end
      t.equal(below, 0, "Q stays upper triangular")
    end
  end)
end

tap.test("diagonals and the size of steps", function(t)
  local list = {{name = "w", tensor = q.zeros(6, 3)}, {name = "b", tensor = q.zeros(6)}}
  local state = q.optim.psgd(list, {max_size_triangular = 4}):state()
  t.equal(state["w.Q.1"]:ndim(), 1, "a long axis gets a diagonal")
  t.equal(state["w.Q.2"]:ndim(), 2, "a short one a matrix")
  t.equal(state["b.Q.1"]:ndim(), 1, "a vector a diagonal")
  local w = q.zeros(4, 4, "f64")
  local opt = q.optim.psgd({w}, {lr = 1, momentum = 0})
  w.grad = random({4, 4}, "g") * 1e6
  opt:step()
  t.ok(w:norm() / 4 <= 1.1, "the first step is limited to rms 1.1")
  -- whitening a diagonal: entries of any size become entries of size 1
  local v = q.zeros(3, "f64")
  opt = q.optim.psgd({v}, {lr = 1, momentum = 0, max_rms = 0})
  local sum = q.zeros(3, "f64")
  for step = 1, 800 do
    local before = v:clone()
    v.grad = random({3}, "z", step) * q.tensor({3, 1, 0.3}, "f64")
    opt:step()
    if step > 400 then sum = sum + (v - before) ^ 2 end
  end
  w.grad, v.grad = nil, nil
  t.near((sum / 400):sqrt():totable(), {1, 1, 1}, 0.3, "a diagonal whitens each entry")
end)

tap.test("when Q is fitted", function(t)
  -- p(t) = clamp(exp(-0.001 (t - 501)), 0.03, 1), an update is due when 1 / p(t) steps have passed: written out anew
  local w = q.zeros(2, 2, "f64")
  local opt = q.optim.psgd({w}, {lr = 0, balance_probability = 0})
  local live, wrong, updates, counter = opt:state()["1.Q.1"], 0, {0, 0}, 0
  for step = 1, 4600 do
    local before = live:clone()
    w.grad = random({2, 2}, "g", step)
    opt:step()
    counter = counter + 1
    local due = counter >= 1 / math.min(math.max(math.exp(-0.001 * (step - 501)), 0.03), 1)
    if due then counter = 0 end
    if due ~= ((live - before):abs():max():item() > 0) then wrong = wrong + 1 end
    if due and step <= 500 then updates[1] = updates[1] + 1 elseif due and step > 4200 then updates[2] = updates[2] + 1 end
    before:free()
  end
  w.grad = nil
  t.equal(wrong, 0, "in the steps of the published schedule")
  t.equal(updates[1], 500, "at every step at first")
  t.ok(updates[2] >= 11 and updates[2] <= 12, "every 34th in the end", updates[2])
end)

tap.test("draws", function(t)
  local function run(seed)
    local w = random({5, 4}, "w")
    local opt = q.optim.psgd({w}, {lr = 0.01, seed = seed})
    for step = 1, 5 do
      w.grad = random({5, 4}, "g", step)
      opt:step()
    end
    w.grad = nil
    return w
  end
  t.equal((run(1) - run(1)):norm(), 0, "the same seed gives the same bits")
  t.ok((run(1) - run(2)):norm() > 0, "another seed does not")
end)

tap.done()

-- Orthonormal bases: the kernels below them, and how orthogonal they stay where Gram-Schmidt is hard.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local linalg = require "quench.c.linalg"
local basis = require "quench.curvature.basis"
local lanczos = require "quench.curvature.lanczos"
local vectors = require "quench.curvature.vectors"

local stream = q.stream(11, "basis test")
local EPSILON = {f32 = 2 ^ -23, f64 = 2 ^ -52}

local function normal(n, dtype) return q.zeros(n, dtype):normal_(stream) end

local function list_of(count, n, dtype)
  local list = {}
  for i = 1, count do list[i] = normal(n, dtype) end
  return list
end

tap.test("inner products and combinations", function(t)
  for dtype, epsilon in pairs(EPSILON) do
    for _, size in ipairs{{0, 7}, {1, 1}, {3, 1000}, {4, 1024}, {5, 40000}, {16, 33}, {37, 50001}} do
      local count, n = size[1], size[2]
      local list, x = list_of(count, n, dtype), normal(n, dtype)
      local c, text, worst = linalg.inner_products(list, x), ("%s, %d vectors of %d"):format(dtype, count, n), 0
      for k, v in ipairs(list) do worst = math.max(worst, math.abs(c[k] - v:to("f64"):dot(x:to("f64"))) / math.sqrt(n)) end
      t.ok(#c == count and worst < 1e-14, "inner products of " .. text, worst)
      local truth = x:to("f64")
      for k, v in ipairs(list) do truth = truth + v:to("f64") * (c[k] / n) end
      for k = 1, count do c[k] = c[k] / n end
      linalg.combine(list, c, x)
      t.ok((x:to("f64") - truth):abs():max():item() <= 4 * epsilon * truth:abs():max():item(), "combination of " .. text)
    end
  end
end)

tap.test("the same bits for any number of threads", function(t)
  local before, list, x = q.threads(), list_of(19, 200003, "f32"), normal(200003, "f32")
  local function both(threads)
    q.threads(threads)
    local c, y = linalg.inner_products(list, x), x:clone()
    linalg.combine(list, c, y)
    return c, y
  end
  local c, y = both(1)
  for threads = 2, 5 do
    local d, z = both(threads)
    t.equal(table.concat(d, " "), table.concat(c, " "), threads .. " threads, inner products")
    t.ok(y:eq(z):min():item() == 1, threads .. " threads, combination")
  end
  q.threads(before)
end)

tap.test("operands that do not fit", function(t)
  local x = normal(4, "f32")
  t.fails(function() linalg.inner_products({normal(5, "f32")}, x) end, "vector 1 must be dense and like x", "another length")
  t.fails(function() linalg.combine({x, normal(4, "f64")}, {1, 1}, x) end, "vector 2 must be dense and like x", "another type")
  t.fails(function() linalg.inner_products({}, q.zeros(2, 2)) end, "x must be a dense", "a matrix")
  t.fails(function() linalg.combine({x}, {}, x) end, "number", "no coefficient")
end)

--- The largest entry of Q Q^T - I.
local function departure(b)
  local n, rows = b.layout.dimension, q.zeros(b.count, b.layout.dimension, "f64")
  for i = 1, b.count do rows:narrow(1, i, 1):copy_(b:row(i):to("f64"):view(1, n)) end
  return (rows:matmul(rows:t()) - q.linalg.identity(b.count, "f64")):abs():max():item()
end

tap.test("vectors that nearly lie in the basis", function(t)
  for dtype, epsilon in pairs(EPSILON) do
    local layout = vectors.layout("test", {q.zeros(300, dtype)})
    local b, first = basis.new(layout), normal(300, dtype)
    for _, small in ipairs{1, 1e-1, 1e-2, 1e-3, 1e-4} do b:add(first + normal(300, dtype) * small) end
    t.equal(b.count, 5, dtype .. ": all are new")
    t.ok(departure(b) < 10 * epsilon, dtype .. ": orthonormal", departure(b))
    t.ok(not select(2, b:add(b:row(2) * 3 + b:row(4))), dtype .. ": a combination of others is not new")
    local x = b:row(1) * 2 - b:row(5) * 7
    t.near(b:project_out(x), {2, 0, 0, 0, -7}, 10 * epsilon, dtype .. ": its coefficients")
    t.ok((b:combine{2, 0, 0, 0, -7} + b:row(3) * 0 - b:row(1) * 2 + b:row(5) * 7):abs():max():item() < 10 * epsilon, dtype .. ": and back")
    b:free()
  end
end)

--- A matrix with these eigenvalues and random eigenvectors.
local function with_spectrum(n, value, dtype)
  local list, z = {}, q.linalg.qr(q.zeros(n, n, "f64"):normal_(stream))
  for i = 1, n do list[i] = value(i) end
  local a = (z * q.tensor(list, "f64"):view(1, n)):matmul(z:t())
  table.sort(list)
  return ((a + a:t()) * 0.5):to(dtype), list
end

local N = 120
local spectra = {
  {"even", function(i) return i / N end},
  {"two clusters", function(i) return i <= 5 and 100 + 1e-9 * i or 1 + 1e-10 * i end},
  {"four eigenvalues, thirty times each", function(i) return math.ceil(i / 30) end},
  {"rank 3", function(i) return i <= 3 and i or 0 end},
  {"geometric", function(i) return 0.5 ^ i end},
  {"zero", function() return 0 end},
  {"both signs, twelve decades", function(i) return (i % 2 * 2 - 1) * 10 ^ (i / 10 - 6) end},
}

tap.test("Lanczos to the end: the basis stays orthonormal, the spectrum is the whole one", function(t)
  for dtype, epsilon in pairs(EPSILON) do
    for _, case in ipairs(spectra) do
      local a, truth = with_spectrum(N, case[2], dtype)
      local run = lanczos.run(q.curvature.matrix(a), q.stream(3, "start"), N + 1)
      while not run.complete do run:step() end
      local text, values, worst = dtype .. ", " .. case[1], run:ritz(), 0
      t.ok(run.basis.count == N and departure(run.basis) < 10 * epsilon, text .. ": orthonormal", departure(run.basis))
      for i = 1, N do worst = math.max(worst, math.abs(values[i] - truth[i])) end
      t.ok(worst <= 20 * epsilon * math.max(truth[N], -truth[1]), text .. ": eigenvalues", worst)
      run.basis:free()
    end
  end
end)

tap.done()

-- The tensor language: creation, views, printing, dtypes, in place, randomness, loops in Lua.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local check = dofile "tests/gradcheck.lua"

tap.test("creation and reading", function(t)
  local a = q.tensor{{1, 2, 3}, {4, 5, 6}}
  t.near(a:shape(), {2, 3}, 0, "shape")
  t.equal(a:dtype(), "f32", "default dtype")
  t.near(a:totable(), {{1, 2, 3}, {4, 5, 6}}, 0, "round trip")
  t.equal(a[2][3], 6, "indices count from 1")
  t.equal(q.tensor(3):item(), 3, "a number")
  t.near(q.arange(2, 8, 3):totable(), {2, 5}, 0, "arange")
  t.near(q.arange(5, "i32"):totable(), {0, 1, 2, 3, 4}, 0, "arange of integers")
  t.equal(q.zeros{2, 3}:numel(), 6, "sizes as a list")
  t.near(q.full(7, 2):totable(), {7, 7}, 0, "full")
  t.fails(function() q.tensor{{1, 2}, {3}} end, "lists of different lengths", "ragged lists", true)
  t.fails(function() q.tensor{1, "x"} end, "must hold numbers only", "other values", true)
  t.fails(function() q.zeros(-1) end, "negative size in shape (-1)", "negative size", true)
  t.fails(function() q.zeros(1e6, 1e6, 1e6) end, "too large to address", "too large", true)
  t.fails(function() q.zeros(1.5) end, "whole number", "a fraction", true)
  t.fails(function() return a[3] end, "index 3 out of range 1 .. 2 of shape (2, 3)", "index", true)
  t.fails(function() q.zeros(2, "f16") end, "unknown dtype 'f16'", "dtype", true)
  t.fails(function() return a:item() end, "is not a single number", "item of many", true)
end)

tap.test("views share memory", function(t)
  local a = q.zeros(3, 4)
  a:narrow(1, 2, 1):fill_(5)
  a[3] = q.arange(4)
  t.near(a:totable(), {{0, 0, 0, 0}, {5, 5, 5, 5}, {0, 1, 2, 3}}, 0, "writes through views")
  a:t():narrow(1, 1, 1):fill_(9)
  t.near(a:select(2, 1):totable(), {9, 9, 9}, 0, "through a transposed view")
  a[1][2] = 7
  t.equal(a[1][2], 7, "one element")
  local b = a:clone()
  b:fill_(0)
  t.equal(a[1][2], 7, "a clone has its own memory")
  t.near(a:narrow(2, 2, 2):copy_(q.tensor{1, 2}):totable(), {{1, 2}, {1, 2}, {1, 2}}, 0, "copy_ broadcasts")
  t.fails(function() a:copy_(q.zeros(5)) end, "copy: shapes", "copy of another shape", true)
end)

tap.test("dtypes", function(t)
  local i = q.tensor({7, -7, 2}, "i32")
  t.equal((i + i):dtype(), "i32", "integers stay integers")
  t.near((i + i):totable(), {14, -14, 4}, 0, "exactly")
  t.near((i / q.tensor({2, 2, 2}, "i32")):totable(), {3.5, -3.5, 1}, 0, "but for quotients")
  t.equal((i + q.zeros(3)):dtype(), "f32", "i32 with f32")
  t.equal((q.zeros(3) + q.zeros(3, "f64")):dtype(), "f64", "f32 with f64")
  t.near(q.tensor{1 + 2 ^ -9, 1 + 2 ^ -8, 1 + 3 * 2 ^ -8}:to("bf16"):to("f32"):totable(), {1, 1, 1 + 2 ^ -6}, 0,
    "bf16 rounds to nearest, ties to even")
  t.near(q.tensor{1e30, -1e30, 0 / 0}:to("i32"):totable(), {2147483647, -2147483648, 0}, 0, "casts to i32 saturate")
end)

tap.test("sums are exact enough", function(t)
  local n = 3000000
  t.near(q.full(0.1, n):sum():item() / n, q.tensor(0.1):item(), 1e-7, "three million tenths in f32")
  local x = q.randn(1000, 257, "f64", q.stream(3, "x"))
  t.near(x:sum(1):sum():item(), x:sum():item(), 1e-12, "by columns and at once")
  t.near(x:t():sum(2):totable(), x:sum(1):totable(), 1e-12, "of a transposed view")
  local y = x:to("f32")
  t.equal(q.zeros(0):sum():item(), 0, "of nothing")
  local before = q.threads()
  local bits = {}
  for threads = 1, 4 do
    q.threads(threads)
    bits[threads] = ("%a %a %a"):format(y:sum():item(), y:norm(), y:sum(2):max():item())
  end
  q.threads(before)
  for threads = 2, 4 do t.equal(bits[threads], bits[1], "the same bits with " .. threads .. " threads") end
end)

tap.test("NaN is not lost", function(t)
  local x = q.tensor{1, 0 / 0, 3}
  t.ok(x:max():item() ~= x:max():item(), "max")
  t.ok(x:sum():item() ~= x:sum():item(), "sum")
  t.ok(x:relu():sum():item() ~= x:relu():sum():item(), "relu")
  t.equal(x:all_finite(), false, "all_finite")
  t.equal(x:isnan():sum():item(), 1, "isnan")
  t.ok(tostring(x):find("1 not finite", 1, true), "printed with their number")
end)

tap.test("random numbers", function(t)
  local a, b = q.randn(1000, q.stream(1, "a")), q.randn(1000, q.stream(1, "a"))
  t.equal((a - b):abs():max():item(), 0, "the same stream, the same numbers")
  t.ok((a - q.randn(1000, q.stream(1, "b"))):abs():max():item() > 0.1, "another name, others")
  local s = q.stream(5, "s")
  local x = q.zeros(6):uniform_(s)
  local r = q.stream(5, "s")
  local y, z = q.zeros(4):uniform_(r), q.zeros(2):uniform_(r)
  t.near(q.concat({y, z}, 1):totable(), x:totable(), 0, "drawn in pieces or at once")
  local n = q.randn(200000, "f64", q.stream(2, "moments"))
  t.near(n:mean():item(), 0, 0.01, "mean")
  t.near((n * n):mean():item(), 1, 0.01, "variance")
  t.near((n ^ 4):mean():item(), 3, 0.05, "fourth moment")
  local counts = {0, 0, 0}
  for _ = 1, 3000 do
    local k = s:below(3) + 1
    counts[k] = counts[k] + 1
  end
  t.ok(math.abs(counts[1] - 1000) < 120 and math.abs(counts[3] - 1000) < 120, "below is even", table.concat(counts, " "))
  local c = s:counter()
  local u = s:uniform()
  s:counter(c)
  t.equal(s:uniform(), u, "a stream can be put back")
end)

tap.test("printing", function(t)
  t.equal(tostring(q.tensor{{1, 2}, {3, 4}}), "f32 (2, 2) 16 B\n 1 2\n 3 4", "small integers")
  t.ok(tostring(q.zeros(100, 100)):find("...", 1, true) and #tostring(q.zeros(100, 100)) < 500, "large ones by their edges")
  t.ok(tostring(q.randn(3) * 1e9):find("x 1e+", 1, true), "a common factor")
  t.equal(tostring(q.zeros(0, 3)), "f32 (0, 3) 0 B", "empty")
end)

tap.test("a loop in Lua", function(t)
  local x = q.randn(70000)
  local y = q.map(x, function(v) return v * v + 1 end)
  local expected = x * x + 1
  t.ok(((y - expected) / expected):abs():max():item() <= 2 ^ -23, "map, but for the last bit") -- Lua computes in double
  local z = q.map(x, y, function(a, b) return a < 0 and b or 0 end)
  t.near((z - q.where(x:lt(0), y, 0)):abs():max():item(), 0, 0, "map of two")
  t.fails(function() q.map(x, q.zeros(3), math.max) end, "map: shapes", "map of two shapes", true)
  t.fails(function() q.map(x, function() error "mine" end) end, "mine", "an error inside")
  t.equal(jit.status(), false, "the JIT is off again")
end)

tap.test("an op in Lua", function(t)
  local cube = q.custom{
    name = "cube",
    forward = function(_, x) return x * x * x end,
    vjp = function(ctx, g) return g * ctx.inputs[1] ^ 2 * 3 end,
    jvp = function(ctx, v) return v * ctx.inputs[1] ^ 2 * 3 end,
  }
  check(t, "cube", function(x) return cube(x) end, {q.randn(3, 4, "f64")})
  local scaled = q.custom{
    forward = function(ctx, x, s) ctx.note = "kept" return x * s end,
    vjp = function(ctx, g)
      assert(ctx.note == "kept")
      return g * ctx.inputs[2], (g * ctx.inputs[1]):sum()
    end,
    jvp = function(ctx, tx, ts)
      local sum = tx and tx * ctx.inputs[2]
      if ts then sum = sum and sum + ctx.inputs[1] * ts or ctx.inputs[1] * ts end
      return sum
    end,
  }
  check(t, "two inputs", function(x, s) return scaled(x, s):sin() end, {q.randn(4, "f64"), q.tensor(1.5, "f64")})
  local w = q.ones(2):requires_grad()
  local bad = q.custom{forward = function(_, x) return x end, vjp = function() error "my rule" end}
  t.fails(function() bad(w):sum():backward() end, "my rule", "an error in a rule")
  local none = q.custom{name = "none", forward = function(_, x) return x end}
  t.fails(function() none(w):sum():backward() end, "has no vjp", "a missing rule", true)
end)

tap.done()

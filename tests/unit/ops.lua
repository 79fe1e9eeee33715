-- Derivatives of every op of the table, first and second, in f64, and the errors of bad shapes.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local check = dofile "tests/gradcheck.lua"

local stream = q.stream(1, "ops test")
local function normal(...) return q.zeros(...):to("f64"):normal_(stream) end
local function positive(...) return q.zeros(...):to("f64"):uniform_(stream, 0.5, 2) end
local function away(...) -- no value near a kink at 0, 1 or -1
  local x = normal(...)
  return x + x:sign() * 0.2
end
local function method(name, ...)
  local arguments = {...}
  return function(x) return x[name](x, unpack(arguments)) end
end

-- ---- functions of one argument
local smooth = {"neg", "square", "exp", "expm1", "sin", "cos", "tanh", "sigmoid", "softplus", "erf", "silu", "gelu", "gelu_tanh"}
tap.test("smooth functions", function(t)
  for _, name in ipairs(smooth) do
    check(t, name, name == "neg" and function(x) return -x end or method(name), {normal(3, 5)})
  end
end)
tap.test("functions of positive numbers", function(t)
  for _, name in ipairs{"sqrt", "rsqrt", "reciprocal", "log", "log1p"} do check(t, name, method(name), {positive(4, 3)}) end
  check(t, "pow_scalar", function(x) return x ^ 2.5 end, {positive(4, 3)})
  check(t, "c / x", function(x) return 3 / x end, {positive(4)})
  check(t, "c ^ x", function(x) return 3 ^ x end, {normal(4)})
end)
tap.test("functions with kinks, away from them", function(t)
  for _, name in ipairs{"abs", "relu", "relu2"} do check(t, name, method(name), {away(3, 5)}) end
  check(t, "clamp", method("clamp", -0.9, 1.1), {away(30)})
  for _, name in ipairs{"sign", "floor", "ceil", "round"} do
    local x = away(9):requires_grad()
    t.equal(q.grad((x[name](x) + x * 0):sum(), {x})[1]:abs():max():item(), 0, name .. ": no gradient")
  end
end)

-- ---- functions of two arguments, broadcast
tap.test("arithmetic", function(t)
  local shapes = {{{3, 4}, {3, 4}}, {{3, 4}, {4}}, {{3, 1}, {1, 4}}, {{2, 3, 4}, {3, 1}}, {{1}, {5}}}
  for i, s in ipairs(shapes) do
    local a, b = positive(s[1]), positive(s[2])
    check(t, "add " .. i, function(x, y) return x + y end, {a, b})
    check(t, "sub " .. i, function(x, y) return x - y end, {a, b})
    check(t, "mul " .. i, function(x, y) return x * y end, {a, b})
    check(t, "div " .. i, function(x, y) return x / y end, {a, b})
    check(t, "pow " .. i, function(x, y) return x ^ y end, {a, b})
  end
  check(t, "maximum", function(x, y) return x:maximum(y) * x end, {normal(4, 5), normal(5)})
  check(t, "minimum", function(x, y) return x:minimum(y) * y end, {normal(4, 5), normal(5)})
  local condition = normal(4, 5):gt(0)
  check(t, "where", function(x, y) return q.where(condition, x * x, y) end, {normal(4, 5), normal(5)})
end)

-- ---- shapes
tap.test("shapes", function(t)
  check(t, "view", function(x) return x:view(6, -1):square() end, {normal(3, 4, 2)})
  check(t, "permute", function(x) return x:permute(3, 1, 2):square() end, {normal(3, 4, 2)})
  check(t, "narrow", function(x) return x:narrow(2, 2, 2):square() end, {normal(3, 4, 2)})
  check(t, "pad", function(x) return x:pad(2, 1, 2):square() end, {normal(3, 4)})
  check(t, "expand", function(x) return x:expand(5, 3, 4):square() end, {normal(3, 1)})
  check(t, "concat", function(x, y) return q.concat({x, y, x}, 2):square() end, {normal(3, 4), normal(3, 2)})
  check(t, "stack", function(x, y) return q.stack{x, y}:square() end, {normal(3, 4), normal(3, 4)})
  check(t, "split", function(x)
    local a, b, c = x:split({1, 2, 1}, 2)
    return a * c + b:narrow(2, 1, 1)
  end, {normal(3, 4)})
  check(t, "split, a piece unused", function(x) return select(2, x:split({1, 3}, 2)):square() end, {normal(3, 4)})
  check(t, "select", function(x) return x:select(2, -1):square() end, {normal(3, 4, 2)})
  check(t, "index", function(x) return x[2]:square() end, {normal(3, 4)})
  check(t, "t, contiguous", function(x) return x:t():contiguous():square() end, {normal(3, 4)})
end)

-- ---- reductions
tap.test("reductions", function(t)
  for _, axis in ipairs{1, 2, 3} do
    check(t, "sum " .. axis, function(x) return x:sum(axis):square() end, {normal(3, 4, 2)})
    check(t, "mean " .. axis, function(x) return x:mean(axis, true):square() end, {normal(3, 4, 2)})
    check(t, "max " .. axis, function(x) return x:max(axis):square() end, {normal(3, 4, 2)})
    check(t, "min " .. axis, function(x) return x:min(axis, true):square() end, {normal(3, 4, 2)})
    check(t, "logsumexp " .. axis, function(x) return x:logsumexp(axis) end, {normal(3, 4, 2)})
    check(t, "softmax " .. axis, function(x) return x:softmax(axis) end, {normal(3, 4, 2)})
    check(t, "log_softmax " .. axis, function(x) return x:log_softmax(axis) end, {normal(3, 4, 2)})
    check(t, "cumsum " .. axis, function(x) return x:cumsum(axis):square() end, {normal(3, 4, 2)})
  end
  check(t, "sum of all", function(x) return x:sum():square() end, {normal(3, 4)})
  check(t, "max of all", function(x) return x:max():square() end, {normal(3, 4)})
  check(t, "logsumexp of all", function(x) return x:logsumexp() end, {normal(3, 4)})
end)

-- ---- products
tap.test("products", function(t)
  local function product(x, y) return x:matmul(y) end
  check(t, "matmul", product, {normal(3, 4), normal(4, 5)})
  check(t, "matmul, batched", product, {normal(2, 3, 4), normal(2, 4, 5)})
  check(t, "matmul, broadcast", product, {normal(2, 1, 3, 4), normal(3, 4, 5)})
  check(t, "matmul, one matrix for all", product, {normal(2, 3, 4), normal(4, 5)})
  check(t, "matmul, vectors", product, {normal(4), normal(4)})
  check(t, "matmul, matrix and vector", product, {normal(3, 4), normal(4)})
  check(t, "matmul, vector and batch", product, {normal(4), normal(2, 4, 3)})
  check(t, "matmul, transposed views", function(x, y) return x:t():matmul(y:t()) end, {normal(4, 3), normal(5, 4)})
  check(t, "matmul, strided views", function(x, y) return x:narrow(2, 2, 4):matmul(y:narrow(2, 1, 3)) end, {normal(3, 6), normal(4, 5)})
  check(t, "linear", function(x, w, b) return q.linear(x, w, b) end, {normal(2, 3, 4), normal(5, 4), normal(5)})
  check(t, "linear with residual", function(x, w, b, r) return q.linear(x, w, b, r) end, {normal(2, 3, 4), normal(5, 4), normal(5), normal(2, 3, 5)})
  check(t, "linear with residual, no bias", function(x, w, r) return q.linear(x, w, nil, r) end, {normal(3, 4), normal(5, 4), normal(3, 5)})
  for _, f in ipairs{"gelu", "gelu_tanh", "silu"} do
    check(t, "linear and " .. f, function(x, w, b) return q.nn.linear_activated(x, w, b, f) end, {normal(2, 3, 4), normal(5, 4), normal(5)})
  end
  check(t, "linear and gelu, no bias, squared", function(x, w)
    return q.nn.linear_activated(x, w, nil, "gelu"):square()
  end, {normal(3, 4), normal(5, 4)})
  for _, interleaved in ipairs{false, true} do
    local cos, sin = q.nn.rotary_table(3, 4, 100, "f64")
    check(t, "turn_heads", function(x) return q.nn.turn_heads(x, cos, sin, 5, 4, 3, 2, interleaved):square() end, {normal(2, 3, 30)})
    check(t, "linear and turn_heads", function(x, w, b)
      return q.nn.linear_turned(x, w, b, cos, sin, 5, 4, 3, 2, interleaved):square()
    end, {normal(2, 3, 4), normal(15, 4), normal(15)})
  end
  check(t, "linear without bias", function(x, w) return q.linear(x, w) end, {normal(3, 4), normal(5, 4)})
end)

-- ---- indexing
tap.test("indexing", function(t)
  local ids = q.tensor({{0, 2}, {2, 1}}, "i32")
  check(t, "embedding", function(x) return q.embedding(x, ids):square() end, {normal(3, 4)})
  local chosen = q.tensor({1, 0, 3}, "i32")
  check(t, "pick", function(x) return x:pick(chosen):square() end, {normal(3, 4)})
end)

tap.test("a composition of many", function(t)
  check(t, "small network", function(x, w, b, u)
    local h = q.linear(x, w, b):gelu()
    return (h / (h:square():mean(2, true) + 1):sqrt()):matmul(u):softmax(2):log()
  end, {normal(4, 3), normal(6, 3), normal(6), normal(6, 5)})
end)

-- ---- errors name op and shapes
tap.test("errors", function(t)
  local a, b = q.zeros(2, 3), q.zeros(4)
  t.fails(function() return a + b end, "add: shapes (2, 3) and (4) do not broadcast", "add", true)
  t.fails(function() return a:matmul(b) end, "matmul: (2, 3) and (4) do not multiply", "matmul", true)
  t.fails(function() return q.linear(a, q.zeros(5, 4)) end, "linear: input (2, 3) does not fit weight (5, 4)", "linear", true)
  t.fails(function() return a:view(5) end, "reshape: (2, 3) has 6 elements, (5) does not", "view", true)
  t.fails(function() return a:narrow(2, 2, 3) end, "narrow: 3 values from 2 on do not fit into axis 2 of shape (2, 3)", "narrow", true)
  t.fails(function() return a:sum(3) end, "axis 3 out of range for shape (2, 3)", "sum", true)
  t.fails(function() return q.concat({a, b}, 1) end, "concat: input 2 (f32 (4)) does not fit", "concat", true)
  t.fails(function() return q.embedding(a, q.tensor({0, 2}, "i32")) end, "embedding: ids contain 2, outside 0 .. 1", "ids", true)
  t.fails(function() return q.embedding(a, b) end, "ids must be i32", "ids of another type", true)
  t.fails(function() return a:matmul(q.zeros(3, 2, "f64")) end, "matmul: needs two f32 or two f64", "mixed types", true)
  t.fails(function() return a:split({1, 1}, 2) end, "split: the sizes (1, 1) do not add up to 3", "split", true)
  t.fails(function() return q.zeros(0):max() end, "max: nothing to choose from", "max of nothing", true)
end)

tap.done()

-- Rates of every op of the table, forward and backward, at the shapes of a small training step (2048 positions, width 256).
-- Arithmetic and traffic are what the kernels count (q.profile). An op that only backward passes use is measured in the
-- gradient of the op named with it. An op of the table that is missing here is an error.
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("ops")

local rows, width, vocabulary, time, heads = bench.pick(2048, 32), bench.pick(256, 32), bench.pick(4096, 64), bench.pick(256, 16), 8
local s = q.stream(1, "bench")
local function normal(n) return q.randn(n, s) end
local function ids(n, most) return (q.rand(n) * most):floor():to("i32") end

local x, y = q.randn(rows, width, s), q.randn(rows, width, s)
local one, w, bias = q.rand(rows, width) + 0.5, q.randn(width, width, s), q.randn(width, s)
local wide, up = q.randn(rows, 3 * width, s), q.randn(3 * width, width, s)
local logits, targets = q.randn(rows, vocabulary, s), ids(rows, vocabulary)
local table_ = q.randn(vocabulary, width, s)
local per_head = width / heads
local sequences = x:view(rows / time, time, width)
local function in_heads(a) return a:view(rows / time, time, heads, per_head) end
local split_heads, other_heads = in_heads(x), in_heads(y)
local condition = x:gt(0)
local cos, sin = q.nn.rotary_table(time, 4, 1e4, "f32")
local rate = q.rand(rows / time, time, width)
local dropped = q.stream(1, "dropout")

--- name, function, inputs that get a gradient; within: the op is the backward pass of the function.
local cases = {
  {"add", function(a, b) return a + b end, {x, y}}, {"sub", function(a, b) return a - b end, {x, y}},
  {"mul", function(a, b) return a * b end, {x, y}}, {"div", function(a, b) return a / b end, {x, one}},
  {"pow", function(a, b) return a ^ b end, {one, y}}, {"maximum", function(a, b) return a:maximum(b) end, {x, y}},
  {"minimum", function(a, b) return a:minimum(b) end, {x, y}}, {"where", function(a, b) return q.where(condition, a, b) end, {x, y}},
  {"reshape", function(a) return a:view(-1) end, {x}}, {"permute", function(a) return a:permute(2, 1) end, {x}},
  {"narrow", function(a) return a:narrow(1, 2, rows / 2) end, {x}}, {"pad", function(a) return a:pad(2, 1, 2) end, {x}},
  {"expand", function(a) return a:expand(rows, width) end, {bias}}, {"sum_to", function(a) return a:expand(rows, width) end, {bias}, within = true},
  {"identity", function(a) return a:t():contiguous() end, {x}, within = true},
  {"contiguous", function(a) return a:t():contiguous() end, {x}}, {"cast", function(a) return a:to("f64") end, {x}},
  {"concat", function(a, b) return q.concat({a, b}, 2) end, {x, y}}, {"split", function(a) return (a:split({width / 2, width / 2}, 2)) end, {x}},
  {"sum", function(a) return a:sum(2) end, {x}}, {"max", function(a) return a:max(2) end, {x}}, {"min", function(a) return a:min(2) end, {x}},
  {"softmax", function(a) return a:softmax(2) end, {logits}}, {"softmax_backward", function(a) return a:softmax(2) end, {logits}, within = true},
  {"logsumexp", function(a) return a:logsumexp(2) end, {logits}}, {"cumsum", function(a) return a:cumsum(2) end, {x}},
  {"matmul", function(a, b) return a:matmul(b) end, {x, w}}, {"linear", function(a, b, c) return q.linear(a, b, c) end, {x, up, normal(3 * width)}},
  {"linear_activated", function(a, b, c) return q.nn.linear_activated(a, b, c, "gelu") end, {x, up, normal(3 * width)}},
  {"linear_turned", function(a, b, c) return q.nn.linear_turned(a, b, c, cos, sin, per_head, 4, 3, 2) end, {sequences, up, normal(3 * width)}},
  {"turn_heads", function(a) return q.nn.turn_heads(a, cos, sin, per_head, 4, 3, 2) end, {wide:view(rows / time, time, 3 * width)}},
  {"embedding", function(a) return q.embedding(a, targets) end, {table_}},
  {"embedding_backward", function(a) return q.embedding(a, targets) end, {table_}, within = true},
  {"pick", function(a) return a:pick(targets) end, {logits}}, {"unpick", function(a) return a:pick(targets) end, {logits}, within = true},
  {"layer_norm", function(a, b, c) return q.nn.layer_norm(a, b, c) end, {x, bias, normal(width)}},
  {"rms_norm", function(a, b) return q.nn.rms_norm(a, b) end, {x, bias}},
  {"norm_backward", function(a, b) return q.nn.rms_norm(a, b) end, {x, bias}, within = true},
  {"cross_entropy", function(a) return q.nn.cross_entropy(a, targets) end, {logits}},
  {"cross_entropy_backward", function(a) return q.nn.cross_entropy(a, targets) end, {logits}, within = true},
  {"rotary", function(a) return q.nn.rotary(a, cos, sin, 4) end, {split_heads}},
  {"activation_backward", function(a) return a:gelu() end, {x}, within = true},
  {"attention", function(a, b, c) return q.nn.attention(a, b, c, per_head ^ -0.5) end, {split_heads, other_heads, split_heads}},
  {"attention_backward", function(a, b, c) return q.nn.attention(a, b, c, per_head ^ -0.5) end, {split_heads, other_heads, split_heads},
    within = true},
  {"dropout", function(a) return q.nn.dropout(a, 0.1, dropped) end, {x}},
  {"conv1d", function(a, b) return q.nn.conv1d(a, b) end, {sequences, q.randn(width, 4, s)}},
  {"conv1d_input", function(a) return q.nn.conv1d(a, q.randn(width, 4, s)) end, {sequences}, within = true},
  {"conv1d_weight", function(a) return q.nn.conv1d(sequences, a) end, {q.randn(width, 4, s)}, within = true},
  {"scan", function(a, b) return q.nn.scan(a, b) end, {rate, sequences}},
  {"surrogate", function(a) return q.quant.ste(a, q.quant.int(4, {group = bench.pick(128, 32)})) end, {x}},
  {"hadamard", function(a) return q.quant.hadamard(a) end, {x}},
}
-- functions of one argument, which share one table and one kernel
for _, name in ipairs{"exp", "log", "tanh", "sigmoid", "erf", "sqrt", "relu", "gelu", "silu"} do
  cases[#cases + 1] = {name, function(a) return a[name](a) end, {one}}
end

--- What the kernels of fn() count.
local function counted(fn)
  local flops, bytes = 0, 0
  for _, k in ipairs((q.profile.kernels(function() q.scope(fn) end))) do flops, bytes = flops + k.flops, bytes + k.bytes end
  return {flops = flops, bytes = bytes, seconds = 0.15}
end

local seen = {}
for _, case in ipairs(cases) do
  local name, fn, inputs = case[1], case[2], {}
  seen[name] = true
  for i, t in ipairs(case[3]) do inputs[i] = t:detach():requires_grad() end
  local size = table.concat(inputs[1]:shape(), " x ")
  local function forward() return fn(unpack(inputs)) end
  if not case.within then bench.case(name, size, function() q.no_grad(forward) end, counted(function() q.no_grad(forward) end)) end
  local result = forward()
  local gradient = q.zeros(result:shape(), result:dtype()):fill_(1)
  local function backward() q.grad(result, inputs, {gradient = gradient}) end
  bench.case(case.within and name or name .. ", gradient", size, backward, counted(backward))
end
for _, op in ipairs(q.ops()) do
  if not seen[op.name] then error("tests/bench/ops.lua has no case for the op '" .. op.name .. "'") end
end

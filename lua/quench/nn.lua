--- nn.lua - what models are made of: linear layers that can be watched and replaced, and rotary tables.
--
-- A linear layer is a record {name=, weight=, bias=, layer=, group=}. Every model calls it
-- through nn.linear, so that one hook sees all inputs (calibration, outlier metrics) and a
-- record may carry a `forward` of its own (quantized activations, QAT).

local q = require "quench"
local c = require "quench.c.nn"
local help = require "quench.help"

local nn = {}
for name, fn in pairs(c) do nn[name] = fn end

--- Called as observe(record, x) before each linear layer while set; see nn.watching.
nn.observe = nil

--- Called as trace(record, fn, ...) in the place of fn(record, ...) for each module while set; see nn.tracing.
nn.trace = nil

--- fn(record, ...): a module (norm, linear layer, attention, mixer, sum) that can be traced. record has its name, the
-- first arguments are the tensors that go in.
function nn.module(record, fn, ...)
  if nn.trace then return nn.trace(record, fn, ...) end
  return fn(record, ...)
end

--- What the weight meets: x, noticed.
local function enter(record, x)
  if record.turn then x = record.turn(x) end -- a rotation that the weight has absorbed (quant/online.lua)
  if nn.observe then nn.observe(record, x) end
  return x
end

local function linear(record, x)
  x = enter(record, x)
  if record.forward then return record.forward(record, x) end
  return q.linear(x, record.weight, record.bias)
end

--- Whether what follows a linear layer may join its output pass: nobody looks at the result between, nor replaces it.
local function joins(record) return not nn.trace and not record.forward end

--- x (..., in) times the record's weight (out, in), plus its bias; plus residual (..., out), if given.
function nn.linear(record, x, residual)
  if not residual then return nn.module(record, linear, x) end
  if not joins(record) then return residual + nn.module(record, linear, x) end
  return q.linear(enter(record, x), record.weight, record.bias, residual)
end

local FUSED = {gelu = true, gelu_tanh = true, silu = true}

--- The activation (a method of tensors) of a linear layer, in its output pass where there is one for it.
function nn.activated(record, x, method)
  if FUSED[method] and joins(record) then return nn.linear_activated(enter(record, x), record.weight, record.bias, method) end
  local y = nn.linear(record, x)
  return y[method](y)
end

--- A linear layer whose result (B, T, heads x width) gets rotary positions, in its output pass; the rest as in nn.turn_heads.
function nn.turned(record, x, cosines, sines, ...)
  if not joins(record) then return nn.turn_heads(nn.linear(record, x), cosines, sines, ...) end
  return nn.linear_turned(enter(record, x), record.weight, record.bias, cosines, sines, ...)
end

--- Calls fn(...) with nn[key] set to value, and puts the old one back whatever happens.
local function with(key, value, fn, ...)
  local before = nn[key]
  nn[key] = value
  local function finish(ok, ...)
    nn[key] = before
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn, ...))
end

--- Calls fn(...) with observe(record, x) set.
function nn.watching(observe, fn, ...) return with("observe", observe, fn, ...) end

--- Calls fn(...) with trace(record, fn, ...) set.
function nn.tracing(trace, fn, ...) return with("trace", trace, fn, ...) end

--- Calls fn(...) with the matrix products of f32 tensors in another precision, and puts the old one back whatever happens.
function nn.with_precision(name, fn, ...)
  local before = nn.precision(name)
  local function finish(ok, ...)
    nn.precision(before)
    if not ok then error((...), 0) end
    return ...
  end
  return finish(pcall(fn, ...))
end

--- Cosines and sines (time, rotated/2) of positions 0 .. time-1; frequencies theta^(-2j/rotated),
-- or the list `frequencies` (radians a position) for scaled variants.
function nn.rotary_table(time, rotated, theta, dtype, frequencies)
  local half = rotated / 2
  local f = {}
  for j = 0, half - 1 do f[j + 1] = frequencies and frequencies[j + 1] or theta ^ (-2 * j / rotated) end
  local angles = q.arange(time, "f64"):view(time, 1) * q.tensor(f, "f64"):view(1, half)
  return angles:cos():to(dtype), angles:sin():to(dtype)
end

help.add{"q.nn.layer_norm", nn.layer_norm, "q.nn.layer_norm(x, weight or nil, bias or nil, eps = 1e-5[, residual]) -> tensor",
  "(x - mean) / sqrt(variance + eps) weight + bias over the last axis; plus residual, in the same pass and with the bits of a sum after it.",
  shapes = "x and residual (..., n), weight and bias (n)",
  source = "Ba, Kiros and Hinton, 2016", example = "q.nn.layer_norm(q.randn(2, 8), q.zeros(8):fill_(1))", see = {"q.nn.rms_norm"}}
help.add{"q.nn.rms_norm", nn.rms_norm, "q.nn.rms_norm(x, weight or nil, eps = 1e-5[, residual]) -> tensor",
  "x / sqrt(mean of x^2 + eps) weight over the last axis; plus residual, in the same pass and with the bits of a sum after it.",
  shapes = "x and residual (..., n), weight (n)", source = "Zhang and Sennrich, 2019",
  example = "q.nn.rms_norm(q.randn(2, 8))", see = {"q.nn.layer_norm"}}
help.add{"q.nn.cross_entropy", nn.cross_entropy, "q.nn.cross_entropy(logits, targets) -> scalar tensor",
  "Mean over the counted rows of log-sum-exp minus the target's logit, in nats.",
  shapes = "logits (..., V), targets (...) i32; a negative target leaves its row out",
  errors = "a target of V or more, targets that are not i32",
  example = 'q.nn.cross_entropy(q.randn(3, 10), q.tensor({1, 0, -1}, "i32"))'}
help.add{"q.nn.rotary", nn.rotary, "q.nn.rotary(x, cosines, sines, rotated = width, interleaved = false) -> tensor",
  "Turns pairs of values of each head by the angles of its position: i with i + rotated/2, or 2i with 2i + 1 (interleaved).",
  shapes = "x (batch, time, heads, width), cosines and sines (time or more, rotated/2)", source = "Su et al., 2021 (RoFormer), eq. 34",
  example = "q.nn.rotary(q.randn(1, 4, 2, 8), q.nn.rotary_table(4, 8, 10000, \"f32\"))", see = {"q.nn.rotary_table"}}
help.add{"q.nn.turn_heads", nn.turn_heads,
  "q.nn.turn_heads(x, cosines, sines, width, rotated, group = 1, turned = group, interleaved = false) -> tensor",
  "Rotary positions on packed heads: of each `group` heads of `width` numbers the first `turned` turn, of each its first `rotated` numbers.",
  shapes = "x (..., time, heads x width), cosines and sines (time or more, rotated/2)", source = "Su et al., 2021 (RoFormer), eq. 34",
  example = 'local cos, sin = q.nn.rotary_table(4, 8, 10000, "f32")\n' .. "q.nn.turn_heads(q.randn(1, 4, 48), cos, sin, 8, 8, 3, 2)",
  see = {"q.nn.rotary"}}
help.add{"q.nn.linear_turned", nn.linear_turned,
  "q.nn.linear_turned(x, weight, bias or nil, cosines, sines, width, rotated, group = 1, turned = group, interleaved = false) -> tensor",
  "turn_heads of x w^T + b, in the product's output pass; the same bits.", shapes = "x (..., time, in), weight (heads x width, in)",
  example = 'local cos, sin = q.nn.rotary_table(4, 8, 10000, "f32")\n' ..
    "q.nn.linear_turned(q.randn(1, 4, 5), q.randn(48, 5), nil, cos, sin, 8, 8, 3, 2)",
  see = {"q.nn.turn_heads", "q.linear"}}
help.add{"q.nn.linear_activated", nn.linear_activated, "q.nn.linear_activated(x, weight, bias or nil, name) -> tensor",
  "gelu, gelu_tanh or silu of x w^T + b, in the product's output pass; the same bits.", shapes = "x (..., in), weight (out, in), bias (out)",
  example = 'q.nn.linear_activated(q.randn(2, 4), q.randn(8, 4), nil, "gelu")', see = {"q.linear"}}
help.add{"q.nn.turned", nn.turned, "q.nn.turned(record, x, cosines, sines, width, rotated, group, turned, interleaved) -> tensor",
  "A linear layer of a model with rotary positions on its heads, in one pass where nothing looks between.", see = {"q.nn.linear_turned"}}
help.add{"q.nn.activated", nn.activated, "q.nn.activated(record, x, method) -> tensor",
  "A linear layer of a model and its activation, in one pass where nothing looks between.", see = {"q.nn.linear_activated"}}
help.add{"q.nn.rotary_table", nn.rotary_table, "q.nn.rotary_table(time, rotated, theta, dtype[, frequencies]) -> cosines, sines",
  "Cosines and sines of the angles position * theta^(-2j/rotated), or of given frequencies (radians a position).",
  shapes = "both (time, rotated/2)", example = "local cos, sin = q.nn.rotary_table(128, 16, 10000, \"f32\")", see = {"q.nn.rotary"}}
help.add{"q.nn.attention", nn.attention, "q.nn.attention(q, k, v, scale, window = 0) -> tensor",
  "Causal attention: softmax(scale q k^T) v over the keys at or before each query, the last `window` of them if given.",
  shapes = "q (batch, time, heads, width); k, v with as many heads or a divisor of them (grouped queries)",
  source = "Vaswani et al., 2017; computed by blocks as in Dao et al., 2022",
  example = "local x = q.randn(1, 16, 2, 8)\nq.nn.attention(x, x, x, 8 ^ -0.5)"}
help.add{"q.nn.dropout", nn.dropout, "q.nn.dropout(x, p, stream) -> tensor",
  "Zeros with probability p, else x / (1 - p). The stream advances; the mask is made again for gradients, not stored.",
  source = "Srivastava et al., 2014", example = 'q.nn.dropout(q.randn(4), 0.1, q.stream(1, "dropout"))'}
help.add{"q.nn.conv1d", nn.conv1d, "q.nn.conv1d(x, weight, bias or nil) -> tensor",
  "Causal convolution of each channel over time: y[t] = sum_j weight[j] x[t - taps + 1 + j].",
  shapes = "x (batch, time, channels), weight (channels, taps), bias (channels)", example = "q.nn.conv1d(q.randn(1, 8, 4), q.randn(4, 3))"}
help.add{"q.nn.scan", nn.scan, "q.nn.scan(a, b, axis = 2) -> tensor",
  "The linear recurrence y[t] = a[t] y[t - 1] + b[t] along an axis, from 0.", shapes = "a, b and the result alike",
  source = "the state of Gu and Dao, 2023 (Mamba), eq. 2a", example = "q.nn.scan(q.zeros(1, 8, 1):fill_(0.9), q.randn(1, 8, 1))"}
help.add{"q.nn.scatter_rows", nn.scatter_rows, "q.nn.scatter_rows(rows, ids, n) -> tensor (n, D)",
  "Adds each row to the place in n rows of zeros that its id (from 0) names; the reverse of q.embedding.",
  shapes = "rows (N, D), ids (N) i32", example = 'q.nn.scatter_rows(q.randn(2, 4), q.tensor({3, 0}, "i32"), 5)', see = {"q.embedding"}}
help.add{"q.nn.linear", nn.linear, "q.nn.linear(record, x[, residual]) -> tensor",
  "A linear layer of a model: x w^T + b + residual, seen by q.nn.watching.", shapes = "x (..., in) -> (..., out)",
  see = {"q.linear", "q.nn.watching"}}
help.add{"q.nn.module", nn.module, "q.nn.module(record, fn, ...) -> results", "Calls fn(record, ...) as a module that q.nn.tracing sees."}
help.add{"q.nn.watching", nn.watching, "q.nn.watching(observe, fn, ...) -> results",
  "Calls fn(...) with observe(record, x) called before each linear layer.", see = {"q.nn.tracing"}}
help.add{"q.nn.tracing", nn.tracing, "q.nn.tracing(trace, fn, ...) -> results",
  "Calls fn(...) with trace(record, fn, ...) called in the place of each module.", see = {"q.nn.watching"}}
help.add{"q.nn.with_precision", nn.with_precision, "q.nn.with_precision(name, fn, ...) -> what fn returns",
  'Runs fn with matrix products of f32 tensors in "bf16" (or "f32").',
  text = [[
In bf16 the operands of each product (linear layers, matmul, attention, and their gradients) are rounded to bf16, products are
exact and summed in f32, and everything else stays as it is: parameters, their gradients, norms, softmax, the loss. The order
of summation is defined (core/kernel/cpu/bf16.c), so the bits do not depend on the processor: on one with AMX tiles this
runs several times as fast, with the dot instruction of AVX-512 BF16 faster than f32, on others slower.]],
  errors = 'a name other than "f32" and "bf16"',
  example = [[
local model = q.models.new("gpt_neox", {vocab_size = 256, hidden_size = 64, num_hidden_layers = 2, num_attention_heads = 4})
local loss = q.nn.with_precision("bf16", function() return model:loss(q.tensor({{1, 2, 3, 4}}, "i32")) end)]],
  see = {"q.train"}}
help.add{"q.nn.precision", nn.precision, "q.nn.precision([name]) -> the name so far",
  "The precision of matrix products of f32 tensors, read or set for the process; see q.nn.with_precision.",
  example = "print(q.nn.precision())", see = {"q.nn.with_precision"}}

return nn

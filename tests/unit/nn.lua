-- The binding of q.nn: defaults, optional arguments and errors (the ops themselves: op_nn.c).
local q = require "quench"
local tap = dofile "tests/tap.lua"
local nn = q.nn

tap.test("norms", function(t)
  local x = q.tensor{{1, 2, 3, 4}, {2, 2, 4, 4}}
  t.near(nn.layer_norm(x, nil, nil, 0):totable()[2], {-1, -1, 1, 1}, 1e-6, "layer_norm without weight and bias")
  t.near(nn.layer_norm(x, q.tensor{2, 2, 2, 2}, q.tensor{1, 1, 1, 1}, 0):totable()[2], {-1, -1, 3, 3}, 1e-6, "with both")
  t.near(nn.rms_norm(q.tensor{{3, 4, 3, 4}}, nil, 0):totable()[1][2], 4 / math.sqrt(12.5), 1e-6, "rms_norm")
  t.near(nn.rms_norm(q.tensor{{0, 0}}):totable()[1][1], 0, 0, "eps keeps zeros zero")
  t.fails(function() nn.layer_norm(x, q.zeros(3)) end, "weight %(3%) does not fit", "a clear error")
end)

tap.test("cross_entropy", function(t)
  local logits = q.zeros(2, 8)
  t.near(nn.cross_entropy(logits, q.tensor({3, -1}, "i32")):item(), math.log(8), 1e-6, "uniform logits: log V")
  t.equal(nn.cross_entropy(logits, q.tensor({-1, -1}, "i32")):item(), 0, "no targets")
  t.fails(function() nn.cross_entropy(logits, q.tensor({3, 8}, "i32")) end, "outside", "a target beyond the classes")
end)

tap.test("the gradient of cross_entropy in the place of the logits", function(t)
  local rows, width, classes = 64, 8, 2048
  local x, targets = q.randn(rows, width), (q.rand(rows) * classes):floor():to("i32")
  local function gradient(how, hold)
    local w = q.randn(classes, width, "f32", q.stream(3, "w")):requires_grad()
    local held
    local loss = q.scope(function()
      local logits = q.linear(x, w)
      if hold then held = q.keep(logits) end
      return nn.cross_entropy(logits, targets)
    end)
    local before = q.system.memory().live
    q.system.reset_peak()
    loss:backward(how)
    return w.grad, q.system.memory().peak - before, held, w
  end
  local apart, more = gradient{retain = true}
  local place, less = gradient()
  t.near(place:totable(), apart:totable(), 0, "the same bits as beside them")
  local logits_bytes = rows * classes * 4
  t.ok(less < more - 0.9 * logits_bytes, "no second tensor of their size", ("%d and %d bytes more at the peak"):format(less, more))
  local beside, _, held, w = gradient(nil, true)
  t.near(beside:totable(), apart:totable(), 0, "logits that somebody holds: the same gradient")
  t.near(held:totable()[1], q.linear(x, w:detach()):totable()[1], 0, "and they stay as they are")
end)

tap.test("attention and rotary", function(t)
  local x = q.zeros(1, 3, 1, 2)
  local v = q.tensor{1, 0, 3, 0, 8, 0}:view(1, 3, 1, 2)
  t.near(nn.attention(x, x, v, 1):view(6):totable(), {1, 0, 2, 0, 4, 0}, 1e-6, "equal scores: the mean of what came before")
  t.near(nn.attention(x, x, v, 1, 2):view(6):totable(), {1, 0, 2, 0, 5.5, 0}, 1e-6, "window of two")
  local cos, sin = nn.rotary_table(3, 2, 10000, "f32")
  local turned = nn.rotary(v, cos, sin):view(3, 2):totable()
  t.near(turned, {{1, 0}, {3 * math.cos(1), 3 * math.sin(1)}, {8 * math.cos(2), 8 * math.sin(2)}}, 1e-6, "rotary turns by the position")
  local y = q.randn(1, 3, 2, 4)
  t.near(nn.rotary(y, cos, sin, 2):narrow(4, 3, 2):contiguous():view(-1):totable(), y:narrow(4, 3, 2):contiguous():view(-1):totable(), 0,
    "the rest passes")
end)

--- Value and gradients of fn(x, w, b) for a fixed weighting of its result, one list of numbers.
local function everything(fn, x, w, b)
  for _, p in ipairs{x, w, b} do p:requires_grad().grad = nil end
  local y = fn(x, w, b)
  local weights = q.randn(y:shape(), x:dtype(), q.stream(9, "weights"))
  q.scope(function() (y * weights):sum():backward() end)
  return {y:totable(), x.grad:totable(), w.grad:totable(), b.grad:totable()}
end

-- 70 rows so that tiles have edges; 5 groups of 3 heads of 32: more than one chunk of columns
tap.test("what joins the output pass of a linear layer gives the bits of the separate ops", function(t)
  for _, precision in ipairs{"f32", "bf16", "f64"} do
    local dtype = precision == "f64" and "f64" or "f32"
    local function normal(name, ...) return q.randn({...}, dtype, q.stream(5, name)) end
    local x, w, b = normal("x", 2, 35, 50), normal("w", 480, 50) * 0.3, normal("b", 480)
    local cos, sin = nn.rotary_table(35, 8, 10000, dtype)
    local wide_cos, wide_sin = nn.rotary_table(35, 100, 10000, dtype)
    local function same(name, fused, separate)
      nn.with_precision(precision == "bf16" and "bf16" or "f32", function()
        local a, c = everything(fused, x, w, b), everything(separate, x, w, b)
        for i, part in ipairs{"value", "gradient of x", "of the weight", "of the bias"} do
          t.near(a[i], c[i], 0, ("%s, %s: %s"):format(precision, name, part))
        end
      end)
    end
    for _, f in ipairs{"gelu", "gelu_tanh", "silu"} do
      same(f, function(x_, w_, b_) return nn.linear_activated(x_, w_, b_, f) end, function(x_, w_, b_)
        local y = q.linear(x_, w_, b_)
        return y[f](y)
      end)
    end
    for name, h in pairs{["q and k of packed heads"] = {cos, sin, 32, 8, 3, 2, false}, ["all heads, interleaved"] = {cos, sin, 32, 8, 1, 1, true},
        ["groups wider than a chunk of columns"] = {wide_cos, wide_sin, 240, 100, 2, 1, false}} do
      same(name, function(x_, w_, b_) return nn.linear_turned(x_, w_, b_, unpack(h)) end,
        function(x_, w_, b_) return nn.turn_heads(q.linear(x_, w_, b_), unpack(h)) end)
    end
    local r = normal("r", 2, 35, 480)
    same("residual", function(x_, w_, b_) return q.linear(x_, w_, b_, r) end, function(x_, w_, b_) return q.linear(x_, w_, b_) + r end)
  end
  local y = q.randn(1, 3, 2, 4)
  local cos, sin = nn.rotary_table(3, 4, 100, "f32")
  t.near(nn.turn_heads(y:view(1, 3, 8), cos, sin, 4, 4):view(1, 3, 2, 4):totable(), nn.rotary(y, cos, sin):totable(), 0, "turn_heads is rotary")
  t.fails(function() nn.linear_activated(q.zeros(2, 3), q.zeros(4, 3), nil, "tanh") end, "no activation 'tanh'", "an unknown activation")
  local x, w = q.zeros(2, 3), q.zeros(4, 3)
  t.fails(function() q.linear(x, w, nil, q.zeros(2, 5)) end, "residual (2, 5) does not fit the result (2, 4)", "a residual of another shape", true)
  t.fails(function() q.linear(x, w, nil, q.zeros(2, 4, "f64")) end, "residual f64", "or of another type", true)
  t.fails(function() nn.turn_heads(q.zeros(1, 3, 9), cos, sin, 4, 4) end, "whole groups", "heads that do not fit")
  t.fails(function() nn.linear_turned(q.zeros(1, 3, 5), q.zeros(8, 5), nil, cos, sin, 4, 6) end, "at most the width", "more than a head")
end)

tap.test("dropout and conv1d", function(t)
  local stream = q.stream(1, "dropout")
  local y = nn.dropout(q.zeros(1000):fill_(1), 0.5, stream)
  t.near(y:max():item(), 2, 0, "kept values are scaled")
  t.ok(math.abs(y:mean():item() - 1) < 0.2, "the mean stays")
  t.equal(stream:counter(), 250, "the stream advances")
  local x = q.tensor{1, 2, 3}:view(1, 3, 1)
  t.near(nn.conv1d(x, q.tensor{{10, 1}}, q.tensor{0.5}):view(3):totable(), {1.5, 12.5, 23.5}, 1e-6, "conv1d looks back")
end)

tap.test("precision", function(t)
  local x, w = q.randn(40, 50), q.randn(40, 50)
  local full = q.linear(x, w)
  local rounded = nn.with_precision("bf16", q.linear, x, w)
  local gap = (full - rounded):norm() / full:norm()
  t.ok(gap > 1e-4 and gap < 1e-2, "bf16 products round their operands", gap)
  t.equal(nn.precision(), "f32", "f32 afterwards")
  t.fails(function() nn.with_precision("bf16", error, "inside") end, "inside", "an error passes through")
  t.equal(nn.precision(), "f32", "f32 after an error")
  t.near((q.linear(x:to("bf16"):to("f32"), w:to("bf16"):to("f32")) - rounded):abs():max():item(), 0, 1e-5, "the same as rounding by hand")
  t.fails(function() nn.precision("f16") end, "invalid option", "an unknown precision")
end)

tap.done()

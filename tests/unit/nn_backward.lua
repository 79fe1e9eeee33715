-- What the backward pass does in one step instead of several: the bits are those of the separate ops, and the separate kernels do not run.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local nn = q.nn

--- Calls of each kernel while fn runs.
local function calls_of(fn)
  local rows, calls = q.profile.kernels(fn), {}
  for _, r in ipairs(rows) do calls[r.name] = r.calls end
  return calls
end

tap.test("the gradients of q, k and v lie where split wants them", function(t)
  local axes = {
    {4, {2, 37, 3, 24}, {8, 8, 8}, "head by head"}, {3, {2, 37, 9, 8}, {3, 3, 3}, "q, k, v in a row"},
    {3, {2, 37, 8, 8}, {4, 2, 2}, "grouped heads"},
  }
  for _, case in ipairs(axes) do
    local axis, shape, sizes, name = unpack(case)
    local x = q.randn(shape, "f32", q.stream(1, "x")):requires_grad()
    local weights = q.randn({2, 37, axis == 4 and 3 or sizes[1], 8}, "f32", q.stream(2, "weights"))
    local function gradient(pieces)
      x.grad = nil
      local calls
      q.scope(function()
        local query, key, value = pieces()
        local loss = (nn.attention(query, key, value, 0.3) * weights):sum()
        calls = calls_of(function() loss:backward() end)
      end)
      return x.grad:totable(), calls
    end
    local joined, calls = gradient(function() return x:split(sizes, axis) end)
    local separate, more = gradient(function()
      return x:narrow(axis, 1, sizes[1]), x:narrow(axis, 1 + sizes[1], sizes[2]), x:narrow(axis, 1 + sizes[1] + sizes[2], sizes[3])
    end)
    t.near(joined, separate, 0, name .. ": the bits of separate pieces")
    t.ok((more.copy or 0) >= (calls.copy or 0) + 3, name .. ": without the three copies",
      ("%d and %d copies"):format(calls.copy or 0, more.copy or 0))
  end
  local x = q.randn({1, 5, 3, 8}, "f32", q.stream(1, "x")):requires_grad()
  local query, key, value = x:split({1, 1, 1}, 3)
  local y = nn.attention(query, key, value, 0.3):sum() + (key * key):sum()
  y:backward()
  local once = x.grad:totable()
  x.grad = nil
  local middle = x:narrow(3, 2, 1)
  local z = nn.attention(x:narrow(3, 1, 1), middle, x:narrow(3, 3, 1), 0.3):sum() + (middle * middle):sum()
  z:backward()
  t.near(once, x.grad:totable(), 1e-6, "a piece that something else reads too")
end)

tap.test("the gradient of a norm joins the gradients of its input that came before", function(t)
  for _, n in ipairs{5, 64, 300, 700} do
    local x = q.randn({9, n}, "f32", q.stream(1, "x")):requires_grad()
    local w, weights = q.randn({n}, "f32", q.stream(2, "w")), q.randn({9, n}, "f32", q.stream(3, "weights"))
    for name, norm in pairs{layer = function(h) return nn.layer_norm(h, w, w) end, rms = function(h) return nn.rms_norm(h, w) end} do
      local function gradient(input)
        x.grad = nil
        local loss = q.scope(function()
          local h = x * 3
          return ((norm(input(h)) * 2 + h) * weights):sum()
        end)
        local calls = calls_of(function() loss:backward() end)
        return x.grad:totable(), calls
      end
      local joined, calls = gradient(function(h) return h end)
      local separate, more = gradient(function(h) return h * 1 end)
      t.near(joined, separate, 0, ("%s norm, width %d: the bits of a sum made after it"):format(name, n))
      t.equal(more.binary - calls.binary, 1, ("%s norm, width %d: one sum less"):format(name, n))
      local twice = gradient(function(h) return h + 0 * x end)
      t.near(twice, separate, 1e-4, ("%s norm, width %d: another way to the same"):format(name, n))
    end
  end
end)

tap.test("a residual that joins a norm: value, gradients and tangents have the bits of the separate sum", function(t)
  for _, dtype in ipairs{"f32", "f64"} do
    for _, n in ipairs{1, 37, 256, 600} do
      local function normal(name, ...) return q.randn({...}, dtype, q.stream(5, name)) end
      local x, r, w, b = normal("x", 2, 7, n), normal("r", 2, 7, n), normal("w", n), normal("b", n)
      local weights, along = normal("weights", 2, 7, n), {normal("tx", 2, 7, n), normal("tr", 2, 7, n), normal("tw", n), normal("tb", n)}
      for _, p in ipairs{x, r, w, b} do p:requires_grad() end
      local function everything(fn)
        local y = fn()
        local loss = (y * y * weights):sum()
        local list = {y, q.jvp({y}, {x, r, w, b}, along)[1]}
        for _, g in ipairs(q.grad(loss, {x, r, w, b})) do list[#list + 1] = g end
        for i, tensor in ipairs(list) do list[i] = tensor:totable() end
        return list
      end
      local forms = {
        layer = {function() return nn.layer_norm(x, w, b, 1e-5, r) + 0 * w end, function() return r + nn.layer_norm(x, w, b, 1e-5) + 0 * w end},
        plain = {
          function() return nn.layer_norm(x, nil, nil, 1e-5, r) + 0 * w + 0 * b end,
          function() return r + nn.layer_norm(x, nil, nil, 1e-5) + 0 * w + 0 * b end,
        },
        rms = {function() return nn.rms_norm(x, w, 1e-5, r) + 0 * b end, function() return r + nn.rms_norm(x, w, 1e-5) + 0 * b end},
      }
      for name, form in pairs(forms) do
        local joined, separate = everything(form[1]), everything(form[2])
        for i, part in ipairs{"value", "tangent", "gradient of x", "of the residual", "of w", "of b"} do
          t.near(joined[i], separate[i], 0, ("%s, %s, width %d: %s"):format(dtype, name, n, part))
        end
      end
    end
  end
  local x = q.randn(3, 8)
  local calls = calls_of(function() nn.rms_norm(x, nil, 1e-5, x) end)
  t.ok(not calls.binary and calls.rms_norm == 1, "one kernel")
  t.fails(function() nn.rms_norm(x, nil, 1e-5, q.randn(3, 7)) end, "residual f32 %(3, 7%) does not fit the input f32 %(3, 8%)",
    "a residual of another shape")
end)

tap.test("families with norms on the branches: the same bits with and without the sum in the norm", function(t)
  local ids = q.tensor({{1, 5, 2, 8, 3}, {7, 7, 0, 4, 6}}, "i32")
  for _, name in ipairs{"olmo2", "olmo3"} do
    local model = q.models.new(name, {vocab_size = 16, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2})
    local function gradients(fn)
      for _, p in ipairs(model:parameters()) do p.grad = nil end
      local loss = fn(model.loss, model, ids)
      loss:backward()
      local list = {loss:item()}
      for _, p in ipairs(model:parameters()) do list[#list + 1] = p.grad:totable() end
      return list
    end
    local joined = gradients(function(fn, ...) return fn(...) end)
    local traced = gradients(function(...) return nn.tracing(function(record, fn, ...) return fn(record, ...) end, ...) end)
    t.equal(#joined, #traced, name .. ": as many gradients")
    for i = 1, #joined do t.near(joined[i], traced[i], 0, ("%s: gradient %d"):format(name, i)) end
  end
end)

tap.done()

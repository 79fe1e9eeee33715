--- quant_qat.lua - quantization-aware training: values, gradients, and that what is exported is what was trained.

local q = require "quench"
local tap = dofile "tests/tap.lua"
local check = dofile "tests/gradcheck.lua"
local quant = q.quant

local function normal(seed, ...) return q.randn(..., "f64", q.stream(seed, "qat test")) end

tap.test("surrogate: all derivatives", function(t)
  local p1, p2 = normal(1, {3, 4}), normal(2, {3, 4})
  check(t, "a linear function through it", function(x, y) return quant.surrogate(x * p1 + y * p2, {x, y}, {p1, p2}):square() end,
    {normal(3, {3, 4}), normal(4, {3, 4})})
  check(t, "a scale a row", function(x, s) return quant.surrogate(x * p1 + s * p2, {x, s}, {p1, p2}):square() end,
    {normal(3, {3, 4}), normal(4, {3, 1})})
  local x = q.tensor({0.4, 1.6}, "f64"):requires_grad()
  local y = quant.surrogate(x:detach():round(), {x}, {q.ones(2, "f64")})
  t.near(y:totable(), {0, 2}, 0, "the value is the value")
  t.near(q.grad((y * y):sum(), {x})[1]:totable(), {0, 4}, 1e-12, "the gradient sees the value, and goes through")
  t.fails(function() quant.surrogate(x, {x}, {q.ones(3, "f64")}) end, "must have the value's shape", "a derivative of another shape")
  t.fails(function() quant.surrogate(x, {q.zeros(3, "f64")}, {x}) end, "expand", "an input that does not broadcast")
  t.fails(function() quant.surrogate(x, {x}, {}) end, "as many derivatives", "too few derivatives")
end)

tap.test("hadamard", function(t)
  for _, n in ipairs{1, 2, 8, 12, 20, 28, 36, 40, 44, 60, 108, 200, 768} do
    local x = normal(n, {2, n})
    local y = quant.hadamard(x)
    t.near((quant.hadamard(y, nil, true) - x):abs():max():item(), 0, 1e-13, n .. ": transposed, it goes back")
    t.near((y ^ 2):sum():item() / (x ^ 2):sum():item(), 1, 1e-13, n .. ": lengths stay")
    local unit = q.zeros(1, n, "f64")
    unit[1][1] = 1
    t.near((quant.hadamard(unit):abs() - n ^ -0.5):abs():max():item(), 0, 1e-13, n .. ": all entries +-1/sqrt(n)")
  end
  t.near(quant.hadamard(q.tensor({{1, 2, 3, 4}}, "f64")):totable()[1], {5, -1, -2, 0}, 1e-13, "of 4, by hand")
  t.near(quant.hadamard(q.tensor({{1, 2, 3, 4}}, "f64"), 2):totable()[1], {3 / 2 ^ .5, -1 / 2 ^ .5, 7 / 2 ^ .5, -1 / 2 ^ .5}, 1e-13,
    "blocks of 2")
  check(t, "gradient", function(x) return quant.hadamard(x, 12):square() end, {normal(5, {2, 24})})
  check(t, "gradient, transposed", function(x) return quant.hadamard(x, 12, true):square() end, {normal(5, {2, 24})})
  local spiky = q.zeros(1, 256, "f64")
  spiky[1][7] = 16
  t.near(quant.hadamard(spiky):abs():max():item(), 1, 1e-12, "one outlier is spread evenly")
  t.fails(function() quant.hadamard(q.zeros(2, 10), 4) end, "do not divide", "blocks that do not divide")
  t.fails(function() quant.hadamard(q.zeros(2, 6)) end, "no matrix of size 6", "a size without a matrix")
end)

tap.test("straight-through", function(t)
  local w = normal(7, {4, 32}):requires_grad()
  for _, f in ipairs{quant.int(4), quant.int(3, {group = 8, clip = 0.6}), quant.nf4{}, quant.mxfp4{}, quant.nvfp4{}, quant.gaussian(4),
    quant.ternary{}} do
    local y = quant.ste(w, f)
    local plain, r = quant.rtn(w, f)
    t.equal((y - plain):abs():max():item(), 0, tostring(f) .. ": the values of rtn, to the bit")
    local g = q.grad(y:sum(), {w})[1]
    t.ok(g:eq(0):maximum(g:eq(1)):min():item() == 1, "a mask for gradient")
    if f:describe().name == "mxfp4" then
      local reach = r.scale:view(4, 1, 1) * 6
      t.equal((g - w:detach():abs():le(reach:view(4, 1))):abs():max():item(), 0, "zero where it saturates")
    end
  end
  local clipped = quant.ste(w, quant.int(3, {convention = "restricted", clip = 0.5}))
  local m = w:detach():abs():max(-1, true)
  t.equal((q.grad(clipped:sum(), {w})[1] - w:detach():abs():le(m * 0.5)):abs():max():item(), 0, "zero outside the clip")
end)

tap.test("LSQ", function(t)
  local V = q.tensor({{.0325, .135, -.0991, -.1743, .1924, .0643, -.1306, -.067, .2192, .0284, -.11, .9223, .1797, -.0896, -.2267, .0681,
    .1038, -.1494, -.1112, .2445, .028, -.1473, .0002, .2236, -.0677, -.1018, .0735, .1492, -.158, -.163, .0946, .0588}}, "f64")
  local f = quant.int(4, {convention = "full"})
  t.near(quant.lsq_scale(V, f):item(), .1089907803, 1e-10, "first scale")
  local w, s = V:clone():requires_grad(), quant.lsq_scale(V, f):requires_grad()
  local y = quant.lsq(w, s, f)
  local gw, gs = unpack(q.grad(y:sum(), {w, s}))
  local expected, sum, step = {}, 0, s:item()
  for i, x in ipairs(V:totable()[1]) do
    local v = x / step
    local level = math.max(-8, math.min(7, math.floor(v + 0.5)))
    expected[i] = level * step
    sum = sum + (v < -8 and -8 or v > 7 and 7 or level - v)
  end
  t.near(y:totable()[1], expected, 1e-12, "values")
  t.near(gs:item(), sum * .0668153105, 1e-9, "gradient of the scale, times .0668153105")
  t.equal(gw:sum():item(), 31, "gradient of the weights: all but the clipped one")
  local rows = normal(8, {5, 16}):requires_grad()
  local scale = quant.lsq_scale(rows, f):requires_grad()
  t.near(q.grad(quant.lsq(rows, scale, f):sum(), {scale})[1]:shape(), {5, 1}, 0, "a scale a row has a gradient a row")
  local tensor = quant.int(4, {convention = "full", group = "tensor"})
  t.near(quant.lsq_scale(rows, tensor):shape(), {1}, 0, "or one for the tensor")
  t.fails(function() quant.lsq(rows, scale, quant.int(4)) end, "without a zero point", "a format with a zero point")
  t.fails(function() quant.lsq(rows, scale, tensor) end, "one for each group", "scales that do not fit")
end)

tap.test("PACT", function(t)
  local x = q.tensor({{-3, -0.4, 0.1, 0.9, 2}}, "f64"):requires_grad()
  local alpha = q.tensor({1}, "f64"):requires_grad()
  local y = quant.pact(x, alpha, quant.int(3, {convention = "restricted", group = "tensor"}))
  t.near(y:totable()[1], {-1, -1 / 3, 0, 1, 1}, 1e-12, "values")
  local gx, ga = unpack(q.grad((y * q.tensor({{1, 2, 3, 4, 5}}, "f64")):sum(), {x, alpha}))
  t.near(gx:totable()[1], {0, 2, 3, 4, 0}, 0, "gradient of x: inside the clip")
  t.near(ga:item(), -1 + 5, 1e-12, "gradient of the clip: the sign of what it cuts")
end)

tap.test("QuEST", function(t)
  -- the formula, written out: s = c sigma + 1e-8, step = 2 s / 15, levels at half steps
  local w = normal(9, {6, 256}) * 0.3
  local xh = quant.hadamard(w, 128)
  local sigma = xh:square():mean(-1, true):sqrt()
  local s = sigma * 2.51393 + 1e-8
  local step = s * (2 / 15)
  local xq = (xh:minimum(s):maximum(-s) / step + 0.5):round() * step - step * 0.5
  local v = w:clone():requires_grad()
  local y = quant.quest(v, 4)
  t.near((y - xq):abs():max():item(), 0, 1e-12, "values")
  local g = q.grad(y:sum(), {v})[1]
  local mask = (xq - xh):abs():le(sigma * (2.51393 / 15))
  t.near((g - quant.hadamard(mask, 128, true)):abs():max():item(), 0, 1e-12, "gradient: masked, and rotated back")
  t.near((quant.quest(w, 4, {back = true}) - quant.hadamard(xq, 128, true)):abs():max():item(), 0, 1e-12, "rotated back")
  local big = q.randn(1, 2 ^ 18, "f64", q.stream(10, "x"))
  local z, r = quant.rtn(big, quant.gaussian(4))
  t.near(r.mse, 0.011543, 4e-4, "4 bits on normal numbers: mean squared error .01154")
  local best = math.huge
  for clip = 0.9, 1.1, 0.02 do
    local m = z and (clip - 1) -- the table's clip is the best among its neighbours
    local c = 2.51393 * (1 + m)
    local d = c * 2 / 15
    local e = (((big:clamp(-c, c) / d + 0.5):round() * d - d * 0.5 - big) ^ 2):mean():item()
    best = math.min(best, e)
  end
  t.ok(r.mse <= best * 1.002, "no other clip is better")
  local u = big:clone():requires_grad()
  local cut = 1 - q.grad(quant.quest(u, 4, {block = 0}):sum(), {u})[1]:mean():item()
  t.near(cut, 0.0073, 5e-4, "the default trust cuts 0.73 % of normal numbers")
  t.fails(function() quant.quest(w, 4, {block = 100}) end, "do not divide", "a block that does not divide")
end)

local function tiny()
  return q.models.new("gpt_neox", {vocab_size = 40, hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4,
    initializer_range = 0.1})
end

local function ids_of(n, time)
  local rows = {}
  for i = 1, n do
    rows[i] = {}
    for j = 1, time do rows[i][j] = (i * j + j) % 40 end
  end
  return q.tensor(rows, "i32")
end

for _, scheme in ipairs{"quest", "ste", "lsq", "pact"} do
  tap.test("training with " .. scheme, function(t)
    local m, ids = tiny(), ids_of(4, 16)
    quant.qat(m, {scheme = scheme, weight_bits = 4, act_bits = 4})
    local first = m:loss(ids):item()
    local opt = q.optim.adamw(m:parameters(), {lr = 1e-2})
    for _ = 1, 12 do
      q.scope(function() m:loss(ids):backward() end)
      opt:step()
      opt:zero_grad()
    end
    local trained = m:loss(ids):item()
    t.ok(trained < 0.8 * first, ("the loss falls: %.3f to %.3f"):format(first, trained))
    local small = quant.export(m)
    t.near(small:loss(ids):item(), trained, scheme == "quest" and 1e-4 or 0, "exported: the same loss")
    for i, r in ipairs(m:linears()) do
      local theirs = q.no_grad(r.quantizer.plain, r.weight)
      t.equal((small:linears()[i].weight - theirs):abs():max():item(), 0, r.name .. ": the values trained with are the values exported")
    end
    if scheme ~= "quest" then
      local r = m:linears()[1]
      local levels = {}
      for _, x in ipairs(q.no_grad(r.quantizer.plain, r.weight):totable()[1]) do levels[("%.9g"):format(x)] = true end
      local count = 0
      for _ in pairs(levels) do count = count + 1 end
      t.ok(count <= 16, "at most 16 values a row")
    end
    for i, p in ipairs(m:named_parameters()) do
      if i > 60 then break end
      t.ok(p.tensor:all_finite(), p.name .. " is finite")
    end
  end)
end

tap.test("formats, layers, errors", function(t)
  local m, ids = tiny(), ids_of(2, 12)
  quant.qat(m, {scheme = "ste", weight_format = "nvfp4", act_format = "mxfp8", skip = {"dense$"}, head = true})
  local got = m:forward(ids)
  local by_hand = quant.quantize(tiny(), {method = "rtn", format = "nvfp4", skip = {"dense$"}, head = true})
  for _, r in ipairs(by_hand:linears(true)) do
    if not r.name:find("dense$") then
      r.forward = function(record, x) return q.linear((quant.rtn(x, "mxfp8")), record.weight, record.bias) end
    end
  end
  t.equal((by_hand:forward(ids) - got):abs():max():item(), 0, "any format trains with the numbers that quantizing afterwards gives")
  t.fails(function() quant.qat(m) end, "already trained", "twice")
  t.fails(function() quant.qat(tiny(), {scheme = "quest", weight_format = "nf4"}) end, "go with scheme", "a format without ste")
  t.fails(function() quant.qat(tiny(), {act_bits = 12}) end, "1 to 8, or 16", "12 bits")
  t.fails(function() quant.qat(tiny(), {skip = {"."}}) end, "no layer", "nothing left")
  t.fails(function() quant.export(tiny()) end, "not made by", "export of a plain model")
  local weights_only = quant.qat(tiny(), {weight_bits = 2, act_bits = 16})
  t.near(quant.export(weights_only):loss(ids):item(), weights_only:loss(ids):item(), 0,
    "weights alone: the exported model is an ordinary one")
end)

tap.done()

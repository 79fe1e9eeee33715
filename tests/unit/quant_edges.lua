--- quant_edges.lua - weights and inputs at the edges: every method gives a defined result or one clear line.

local q = require "quench"
local tap = dofile "tests/tap.lua"
local quant = q.quant

local function normal(seed, ...) return q.randn(..., q.stream(seed, "edges")) end

--- Every method on one weight: name -> function(w, x) giving the values.
local methods = {
  gptq = function(w, x) return (quant.gptq(w, x, {bits = 3, group = 4})) end,
  ["gptq, act_order"] = function(w, x) return (quant.gptq(w, x, {bits = 3, group = 4, act_order = true, mse = true})) end,
  awq = function(w, x) return (quant.awq(w, x, {bits = 3, group = 4})) end,
  hqq = function(w) return (quant.hqq(w, {bits = 3, group = 4})) end,
  smoothquant = function(w, x) return (quant.smoothquant(w, x)) end,
  int8_outlier = function(w) return (quant.int8_outlier(w)) end,
}
for _, name in ipairs{"int3", "int4_gptq", "int4_awq", "int4_real", "int4_full", "int2_midrise", "gaussian4"} do
  methods["rtn " .. name] = function(w) return (quant.rtn(w, name)) end
  methods["rtn searched " .. name] = function(w) return (quant.rtn(w, quant.format(name, {search = true, group = 4}))) end
end
for _, f in ipairs(quant.formats()) do methods["rtn " .. f.name] = function(w) return (quant.rtn(w, f.name)) end end

local function each(fn)
  local names = {}
  for name in pairs(methods) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do fn(name, methods[name]) end
end

tap.test("NaN and infinity are errors", function(t)
  local x = normal(1, {32, 8})
  for what, bad in pairs{NaN = 0 / 0, infinity = 1 / 0} do
    local w = normal(2, {4, 8})
    w[3][5] = bad
    each(function(name, fn) t.fails(function() fn(w, x) end, "NaN or infinit", ("%s: %s in the weight"):format(name, what)) end)
    local inputs = x:clone()
    inputs[7][2] = bad
    for _, name in ipairs{"gptq", "awq", "smoothquant"} do
      t.fails(function() methods[name](normal(2, {4, 8}), inputs) end, "NaN or infinit", ("%s: %s in the inputs"):format(name, what))
    end
  end
end)

tap.test("zero, constant and tiny rows", function(t)
  local x = normal(3, {32, 8})
  local w = normal(4, {5, 8})
  for j = 1, 8 do w[1][j], w[2][j], w[3][j], w[4][j] = 0, 0.7, -0.7, (j % 2 * 2 - 1) * 1e-42 end
  each(function(name, fn)
    local y = fn(w, x)
    t.ok(y:all_finite(), name .. ": finite")
    -- formats with one number for the tensor, or with a constant in their rule, have a smallest scale; errors are below it
    t.ok(y:narrow(1, 1, 1):abs():max():item() < 1e-2 and y:narrow(1, 4, 1):abs():max():item() < 1e-2, name .. ": zero and tiny rows stay small")
    t.ok((y:narrow(1, 2, 2) - w:narrow(1, 2, 2)):abs():max():item() <= 0.71, name .. ": constant rows are not thrown away")
    local alone = fn(w:narrow(1, 5, 1):contiguous(), x)
    if not name:find("awq") and not name:find("smooth") and not name:find("nvfp4") and not name:find("double") then
      t.equal((y:narrow(1, 5, 1) - alone):abs():max():item(), 0, name .. ": and the ordinary row does not notice")
    end
  end)
end)

tap.test("one column, one row, one value; a group wider than the row", function(t)
  for _, shape in ipairs{{4, 1}, {1, 8}, {1, 1}, {3, 5}} do
    local w, x = normal(5, shape), normal(6, {16, shape[2]})
    each(function(name, fn)
      local y = fn(w, x)
      t.ok(y:all_finite() and y:size(1) == shape[1] and y:size(2) == shape[2], ("%s: %d x %d"):format(name, shape[1], shape[2]))
    end)
  end
  local w = normal(7, {3, 1}) -- a column of its own: asymmetric ranges reach from 0 to each value
  t.near((quant.rtn(w, "int4") - w):abs():max():item(), 0, 1e-6, "one column: every value is the end of its range")
end)

tap.test("empty weights", function(t)
  for _, shape in ipairs{{0, 8}, {4, 0}} do
    local w, x = q.zeros(shape[1], shape[2]), q.zeros(16, shape[2])
    t.equal(quant.rtn(w, "int4"):numel(), 0, "round to nearest: an empty result")
    t.equal(quant.hqq(w):numel(), 0, "HQQ too")
    for _, name in ipairs{"gptq", "awq", "smoothquant"} do t.fails(function() methods[name](w, x) end, "empty", name) end
  end
  for _, name in ipairs{"gptq", "awq", "smoothquant"} do
    t.fails(function() methods[name](normal(8, {8}), normal(9, {16, 8})) end, "(out, in)", name .. ": a vector")
  end
end)

tap.test("at the end of the type's range", function(t)
  local w, x = normal(10, {4, 8}) * 1e38, normal(11, {16, 8})
  for _, name in ipairs{"int4", "int4_gptq", "int4_awq", "int4_real", "int4_full", "nf4", "mxfp4", "nvfp4", "gaussian4"} do
    local y = quant.rtn(w, name)
    t.ok(y:all_finite() and (y - w):abs():max():item() < 0.6 * w:abs():max():item(), name .. ": a range wider than the largest number")
  end
  t.ok(quant.gptq(w, x, {bits = 3}):all_finite() and quant.hqq(w):all_finite(), "GPTQ and HQQ")
  t.fails(function() quant.awq(w, x, {bits = 3}) end, "too large", "AWQ, whose objective is a square")
  local ends = q.tensor{{3.4e38, -3.4e38, 1, 2}}
  t.fails(function() quant.rtn(ends, "int4") end, "rounded weight", "a level beyond the largest number")
  t.fails(function() quant.gptq(normal(4, {2, 8}), x * 1e30) end, "NaN or infinite", "inputs whose squares overflow")
end)

tap.test("calibration: none, few, dead, dependent", function(t)
  local w = normal(12, {4, 8})
  for _, name in ipairs{"gptq", "awq", "smoothquant"} do
    t.fails(function() methods[name](w, q.zeros(0, 8)) end, "0 tokens", name .. ": no tokens")
    t.fails(function() methods[name](w, normal(1, {16, 7})) end, "do not fit", name .. ": another width")
    for what, x in pairs{["one token"] = normal(13, {1, 8}), ["three tokens"] = normal(14, {3, 8}), ["equal tokens"] = q.full(0.5, 16, 8)} do
      t.ok(methods[name](w, x):all_finite(), ("%s: %s"):format(name, what))
    end
    t.ok(methods[name](w, q.zeros(16, 8)):all_finite(), name .. ": inputs that are always zero")
  end
  local report = select(2, quant.gptq(w, normal(14, {3, 8}), {bits = 3}))
  t.ok(report.rank_deficient and report.tokens == 3, "GPTQ says that its inputs depend on each other")
  t.fails(function() quant.gptq(w, normal(14, {3, 8}), {damp = 0, damp_increment = 0}) end, "too few calibration tokens", "or fails, if told to")
  local y
  y, report = quant.gptq(w, q.full(1e-42, 16, 8), {bits = 3})
  t.ok(report.dead == 8 and y:abs():max():item() == 0, "inputs whose squares vanish are dead, and so are their weights, as in the reference")
  local x = normal(15, {16, 8})
  x:narrow(2, 4, 1):fill_(0)
  y, report = quant.gptq(w, x, {bits = 3})
  t.ok(report.dead == 1 and y:narrow(2, 4, 1):abs():max():item() == 0, "one dead input")
end)

tap.test("inputs rounded at evaluation", function(t)
  local w = normal(16, {4, 8})
  for name, input in pairs{smoothquant = select(2, quant.smoothquant(w, normal(17, {16, 8}))).input,
    int8_outlier = select(2, quant.int8_outlier(w)).input} do
    t.equal(input(q.zeros(0, 8)):numel(), 0, name .. ": no tokens")
    t.equal(input(q.zeros(3, 8)):abs():max():item(), 0, name .. ": zeros")
    t.ok(input(normal(18, {1, 8})):all_finite(), name .. ": one token")
    t.fails(function() input(q.full(0 / 0, 2, 8)) end, "NaN or infinit", name .. ": NaN")
  end
end)

tap.test("a model", function(t)
  local m = q.models.new("mixtral", {vocab_size = 20, hidden_size = 16, num_attention_heads = 2, num_key_value_heads = 1, num_hidden_layers = 1,
    num_local_experts = 4, intermediate_size = 24})
  for _, method in ipairs{"rtn", "gptq", "gptaq", "awq", "hqq", "smoothquant", "int8_outlier"} do
    local one = q.zeros(1, 1, "i32")
    local small, report = quant.quantize(m, {method = method, calibration = one})
    t.ok(q.no_grad(function() return small:forward(one):all_finite() end), method .. ": a single token, experts that see none")
    local unseen = 0
    for _, r in ipairs(report) do unseen = unseen + (r.unseen and 1 or 0) end
    t.equal(unseen, (method == "rtn" or method == "hqq" or method == "int8_outlier") and 0 or 6, method .. ": and it says so")
    for what, ids in pairs{["an empty list"] = {}, ["no sequences"] = q.zeros(0, 5, "i32"), ["no tokens"] = q.zeros(3, 0, "i32")} do
      t.fails(function() quant.quantize(m, {method = method, calibration = ids}) end, "calibration set is empty", method .. ": " .. what)
    end
  end
end)

tap.test("packed", function(t)
  local w = normal(19, {5, 40})
  for j = 1, 40 do w[1][j], w[2][j], w[3][j] = 0, 0.7, 1e-42 end
  for _, f in ipairs(quant.formats()) do
    local y, r = quant.rtn(w, f.name)
    t.equal((quant.unpack(quant.pack(y, f.name, r)) - y):abs():max():item(), 0, f.name .. ": zero, constant and tiny rows")
  end
end)

tap.done()

-- Speed of the quantizers: formats, Hessians, each method, rotation, packing, a probe of a model.
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("quantizers")
local quant = q.quant

local function case(name, shape, fn, o)
  o = o or {}
  o.seconds = o.seconds or 0.2
  bench.case(name, shape, fn, o)
end

--- Weights and inputs whose channels differ in size, a few of them by a lot.
local function layer(rows, cols, tokens)
  local s = q.stream(1, "bench")
  return q.randn(rows, cols, s), q.randn(tokens, cols, s) * q.randn(cols, s):exp()
end

for _, size in ipairs(bench.pick({{512, 512, 4096}, {1024, 4096, 4096}}, {{128, 128, 256}})) do
  local rows, cols, tokens = unpack(size)
  local shape = ("%d x %d"):format(rows, cols)
  local w, x = layer(rows, cols, tokens)
  local rate = {more = function(median) return {million_weights_a_second = rows * cols / 1e6 / median} end}
  for _, f in ipairs{quant.int(4, {group = 128}), quant.nf4(), quant.mxfp4(), quant.nvfp4(), quant.fp8_e4m3(), quant.gaussian(4), quant.ternary()} do
    case("rtn, " .. f:describe().name, shape, function() quant.rtn(w, f) end, rate)
  end
  case("rtn, int4, clip searched", shape, function() quant.rtn(w, quant.int(4, {group = 128, search = true})) end, rate)
  case("rtn, int4, at random", shape, function() quant.rtn(w, quant.int(4, {group = 128}), {stream = q.stream(1, "rounding")}) end, rate)
  case("hqq", shape, function() quant.hqq(w, {bits = 4, group = 64}) end, rate)
  local h = quant.hessian(cols)
  case("hessian, " .. tokens .. " tokens", ("%d"):format(cols), function() quant.hessian(cols):add(x) end,
    {flops = tokens * cols * cols}) -- half of the matrix, two operations each
  -- arithmetic: the Hessian, the factor, and for each column the errors of those before it
  case("gptq with Hessian, 4 bits", ("%s, %d tokens"):format(shape, tokens), function()
    quant.gptq(w, x:view(1, tokens, cols), {bits = 4, group = 128}) -- a square matrix would be taken for a Hessian
  end, {flops = tokens * cols ^ 2 + cols ^ 3 / 3 + rows * cols ^ 2, seconds = 3})
  h:add(x):hessian()
  for _, how in ipairs{{"gptq, 3 bits", {}}, {"gptq, act_order, mse", {act_order = true, static_groups = true, mse = true}},
    {"gptq, act_group_aware", {act_group_aware = true}}} do
    local o = {bits = 3, group = 128}
    for key, value in pairs(how[2]) do o[key] = value end
    case(how[1], shape, function() quant.gptq(w, h, o) end, rate)
  end
  if rows <= 512 then case("awq", shape, function() quant.awq(w, x, {bits = 4}) end, rate) end
  case("smoothquant", shape, function() quant.smoothquant(w, x) end, rate)
  case("hadamard", shape, function() quant.hadamard(w) end, rate)
  local y, r = quant.rtn(w, quant.int(3, {group = 128}))
  local parts = quant.pack(y, quant.int(3, {group = 128}), r)
  case("pack, int3", shape, function() quant.pack(y, quant.int(3, {group = 128}), r) end, rate)
  case("unpack, int3", shape, function() quant.unpack(parts) end, rate)
end
local columns = bench.pick(11008, 172)
local wide = q.randn(bench.pick(1024, 8), columns, q.stream(2, "bench"))
for _, block in ipairs(bench.pick({128, 172, 11008}, {172})) do
  case("hadamard, blocks of " .. block, "1024 x " .. columns, function() quant.hadamard(wide, block) end)
end

-- a whole model, as a probe along a run has it
local m = q.models.new("gpt_neox", {vocab_size = 512, hidden_size = bench.pick(256, 128), num_hidden_layers = bench.pick(4, 1),
  num_attention_heads = 8})
local ids = q.zeros(16, bench.pick(128, 16), "i32")
local blocks = bench.pick("4 blocks of 256, 2048 tokens", "a block of 128, 256 tokens")
case("quantize, gptq", blocks, function() quant.quantize(m, {bits = 3, group = 128, calibration = ids}) end, {runs = 3})
local probe = quant.probe{formats = {gptq3 = {bits = 3, group = 128}}, calibration = ids, held_out = ids:narrow(1, 1, 4), refresh = 100}
case("probe, first", blocks, function() probe.run{model = m} end, {runs = 1})
case("probe, Hessians reused", blocks, function() probe.run{model = m} end)

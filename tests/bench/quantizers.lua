-- Speed of the quantizers: formats, Hessians, each method, rotation, packing, a probe of a model. One JSON line a case.
local q = require "quench"
local quant = q.quant

--- Best of `times`, in milliseconds; the results are given back at once. Extra columns by `more`.
local function case(name, shape, fn, times, more)
  local best = math.huge
  for _ = 1, times or 3 do
    collectgarbage()
    best = math.min(best, q.scope(function()
      local start = q.system.clock()
      fn()
      return q.system.clock() - start
    end))
  end
  local row = {bench = "quantizers", case = name, shape = shape, value = 1e3 * best, unit = "ms", threads = q.threads()}
  for key, value in pairs(more and more(best) or {}) do row[key] = value end
  print(q.json.encode(row))
end

--- Weights and inputs whose channels differ in size, a few of them by a lot.
local function layer(rows, cols, tokens)
  local s = q.stream(1, "bench")
  return q.randn(rows, cols, s), q.randn(tokens, cols, s) * q.randn(cols, s):exp()
end

for _, size in ipairs{{512, 512, 2048}, {1024, 4096, 4096}} do
  local rows, cols, tokens = unpack(size)
  local shape = ("%d x %d"):format(rows, cols)
  local w, x = layer(rows, cols, tokens)
  local function rate(best) return {million_weights_a_second = rows * cols / 1e6 / best} end
  for _, f in ipairs{quant.int(4, {group = 128}), quant.nf4(), quant.mxfp4(), quant.nvfp4(), quant.fp8_e4m3(), quant.gaussian(4), quant.ternary()} do
    case("rtn, " .. f:describe().name, shape, function() quant.rtn(w, f) end, 3, rate)
  end
  case("rtn, int4, clip searched", shape, function() quant.rtn(w, quant.int(4, {group = 128, search = true})) end, 2, rate)
  case("rtn, int4, at random", shape, function() quant.rtn(w, quant.int(4, {group = 128}), {stream = q.stream(1, "rounding")}) end, 2, rate)
  case("hqq", shape, function() quant.hqq(w, {bits = 4, group = 64}) end, 2, rate)
  local h = quant.hessian(cols)
  case("hessian, " .. tokens .. " tokens", ("%d"):format(cols), function() quant.hessian(cols):add(x) end, 2,
    function(best) return {gflops = tokens * cols * cols / 1e9 / best} end) -- half of the matrix, two operations each
  h:add(x):hessian()
  for _, how in ipairs{{"gptq, 3 bits", {}}, {"gptq, act_order, mse", {act_order = true, static_groups = true, mse = true}},
    {"gptq, act_group_aware", {act_group_aware = true}}} do
    local o = {bits = 3, group = 128}
    for key, value in pairs(how[2]) do o[key] = value end
    case(how[1], shape, function() quant.gptq(w, h, o) end, 2, rate)
  end
  if rows == 512 then case("awq", shape, function() quant.awq(w, x, {bits = 4}) end, 1, rate) end
  case("smoothquant", shape, function() quant.smoothquant(w, x) end, 2, rate)
  case("hadamard", shape, function() quant.hadamard(w) end, 3, rate)
  local y, r = quant.rtn(w, quant.int(3, {group = 128}))
  local parts = quant.pack(y, quant.int(3, {group = 128}), r)
  case("pack, int3", shape, function() quant.pack(y, quant.int(3, {group = 128}), r) end, 2, rate)
  case("unpack, int3", shape, function() quant.unpack(parts) end, 2, rate)
end
local wide = q.randn(1024, 11008, q.stream(2, "bench"))
for _, block in ipairs{128, 172, 11008} do
  case("hadamard, blocks of " .. block, "1024 x 11008", function() quant.hadamard(wide, block) end, 2)
end

-- a whole model, as a probe along a run has it
local m = q.models.new("gpt_neox", {vocab_size = 512, hidden_size = 256, num_hidden_layers = 4, num_attention_heads = 8})
local ids = q.zeros(16, 128, "i32")
case("quantize, gptq", "4 blocks of 256, 2048 tokens", function() quant.quantize(m, {bits = 3, group = 128, calibration = ids}) end, 1)
local probe = quant.probe{formats = {gptq3 = {bits = 3, group = 128}}, calibration = ids, held_out = ids:narrow(1, 1, 4), refresh = 100}
case("probe, first", "4 blocks of 256, 2048 tokens", function() probe.run{model = m} end, 1)
case("probe, Hessians reused", "4 blocks of 256, 2048 tokens", function() probe.run{model = m} end, 2)

--- quant_methods.lua - AWQ, SmoothQuant, LLM.int8, quantized inputs and caches, Hadamard bases, reuse and resumption.

local q = require "quench"
local tap = dofile "tests/tap.lua"
local small_model = dofile "tests/small_model.lua"
local quant = q.quant

-- Weights and inputs whose channels differ in size, a few of them outliers.
local function layer(rows, cols, tokens, seed, dtype)
  local s = q.stream(seed, "methods test")
  local size = q.randn(cols, dtype or "f64", s):exp()
  return q.randn(rows, cols, dtype or "f64", s), q.randn(tokens, cols, dtype or "f64", s) * size
end

local function error_of(w, y, x) return (x:matmul((w - y):t()) ^ 2):sum():item() end

tap.test("AWQ", function(t)
  for _, bits in ipairs{2, 3, 4} do
    local w, x = layer(24, 96, 300, bits)
    local f = quant.int(bits, {convention = "awq", group = 32})
    local plain = error_of(w, quant.rtn(w, f), x)
    local scaled = error_of(w, quant.awq(w, x, {bits = bits, group = 32, clip_search = false}), x)
    local y, r = quant.awq(w, x, {bits = bits, group = 32})
    t.ok(scaled <= plain, ("%d bits: scales: %.4g <= %.4g"):format(bits, scaled, plain))
    t.ok(error_of(w, y, x) <= scaled, ("clips: %.4g <= %.4g"):format(error_of(w, y, x), scaled))
    t.near(r.channel_scale:max():item() * r.channel_scale:min():item(), 1, 1e-12, "largest times smallest scale is 1")
    local codes = y * r.channel_scale / r.scale:narrow(2, 1, 1)
    local off = (codes - codes:round()):abs():narrow(2, 1, 32):max():item()
    t.near(off, 0, 1e-9, "Q(w s) / s: on the grid once scaled")
  end
  -- by hand: one scale search written out
  local w, x = layer(5, 12, 50, 9)
  local mean, best, best_error = x:abs():mean(1), nil, math.huge
  for k = 0, 19 do
    local s = (mean ^ (k / 20)):clamp(1e-4)
    s = s / (s:max():item() * s:min():item()) ^ 0.5
    local y = quant.rtn(w * s, quant.int(3, {convention = "awq"})) / s
    if error_of(w, y, x) < best_error then best, best_error = y, error_of(w, y, x) end
  end
  t.near((quant.awq(w, x, {bits = 3, group = "row", clip_search = false}) - best):abs():max():item(), 0, 1e-12, "the search, written out")
  local a, b = layer(8, 32, 100, 3), layer(16, 32, 100, 4)
  local values, reports = quant.awq({a, b}, select(2, layer(8, 32, 100, 3)), {group = 16})
  t.equal(#values, 2, "layers that share an input")
  t.equal((reports[1].channel_scale - reports[2].channel_scale):abs():max():item(), 0, "share their scales")
  t.ok(quant.awq(w, q.zeros(4, 12, "f64")):all_finite(), "inputs that are all zero")
  t.fails(function() quant.awq(w, x, {group = "tensor"}) end, "rows or groups", "one scale for the tensor")
  t.fails(function() quant.awq(w, x:narrow(2, 1, 5)) end, "do not fit", "inputs of another width")
end)

tap.test("SmoothQuant", function(t)
  local w, x = layer(24, 64, 200, 5)
  local f = quant.int(8, {convention = "restricted"})
  local y, r = quant.smoothquant(w, x)
  local expected = (x:abs():max(1) ^ 0.5 / w:abs():max(1) ^ 0.5)
  t.near(r.channel_scale:totable(), expected:totable(), 1e-12, "s = max|x|^a / max|w|^(1-a)")
  t.near((y - quant.rtn(w * expected, f) / expected):abs():max():item(), 0, 1e-12, "the weight is Q(w s) / s")
  t.near((r.input(x) - quant.rtn(x / expected, f) * expected):abs():max():item(), 0, 1e-9, "the input Q(x / s) s")
  local ours = ((r.input(x):matmul(y:t()) - x:matmul(w:t())) ^ 2):sum():item()
  local plain = ((quant.rtn(x, f):matmul(quant.rtn(w, f):t()) - x:matmul(w:t())) ^ 2):sum():item()
  t.ok(ours < 0.5 * plain, ("outliers in the inputs: %.4g against %.4g without smoothing"):format(ours, plain))
  local _, hard = quant.smoothquant(w, x, {alpha = 0})
  t.near((hard.channel_scale * w:abs():max(1) - 1):abs():max():item(), 0, 1e-12, "alpha = 0: only the weights matter")
  t.ok(select(2, quant.smoothquant(w, q.zeros(3, 64, "f64"))).channel_scale:all_finite(), "inputs that are all zero")
end)

tap.test("LLM.int8", function(t)
  local w, x = layer(16, 32, 50, 6)
  x = (x * 0.5):clamp(-5, 5):contiguous()
  for i = 1, 50 do x[i][7] = 20 + i end
  local f = quant.int(8, {convention = "restricted"})
  local y, r = quant.int8_outlier(w)
  t.equal((y - quant.rtn(w, f)):abs():max():item(), 0, "the weight: rows in 8 bits")
  local input = r.input(x)
  t.equal((input - x):narrow(2, 7, 1):abs():max():item(), 0, "the outlier channel stays")
  local rest = x:clone()
  for i = 1, 50 do rest[i][7] = 0 end
  t.near((input - x - (quant.rtn(rest, f) - rest)):abs():max():item(), 0, 1e-12, "the others are rounded, their scale without the outlier")
  t.near(select(2, quant.rtn(q.tensor({{127, 1}}, "f64"), f)).scale:item(), 1, 0, "codes to 127")
end)

local function tiny(more)
  local config = {hidden_size = 48, num_attention_heads = 3, dtype = "f64"}
  for k, v in pairs(more or {}) do config[k] = v end
  return small_model.new(config)
end

local some_ids, distance = small_model.ids, small_model.distance

tap.test("each method on a model", function(t)
  local m, ids = tiny(), some_ids(6, 24)
  local rtn = distance(m, (quant.quantize(m, {method = "rtn", bits = 3})), ids)
  for _, method in ipairs{"awq", "gptq", "gptaq", "hqq"} do
    local small, report = quant.quantize(m, {method = method, bits = 3, calibration = ids})
    local d = distance(m, small, ids)
    t.ok(d < 1.3 * rtn, ("%s: %.4g, round to nearest %.4g"):format(method, d, rtn))
    t.equal(#report, 8, "all layers")
  end
  for _, method in ipairs{"smoothquant", "int8_outlier"} do
    local small = quant.quantize(m, {method = method, calibration = ids})
    local d = distance(m, small, ids)
    t.ok(d > 0 and d < 0.05 * rtn, ("%s: 8 bits for weights and inputs: %.4g"):format(method, d))
  end
  t.fails(function() quant.quantize(m, {method = "smoothquant", calibration = ids, bits = 3}) end, "unknown option 'bits'",
    "no bits for 8-bit methods")
end)

tap.test("AWQ's scales by the output of the attention or MLP", function(t)
  local function check(name, m, stages, run)
    local ids = some_ids(5, 20)
    local o = {method = "awq", bits = 3, group = 16, calibration = ids, batch = 2, clip_search = false, skip = {"layers%.1"}}
    local small, report = quant.quantize(m, o)
    local f, check_model = quant.int(3, {convention = "awq", group = 16}), m:clone()
    q.no_grad(function()
      local row = 0
      for _, stage in ipairs(stages) do
        local records, theirs = {}, {}
        for i, r in ipairs(check_model:linears()) do
          if r.layer == 1 and stage[r.name:match("([%w_]+)$")] then
            records[#records + 1], theirs[#theirs + 1] = r, small:linears()[i]
          end
        end
        local mean, seen = nil, 0
        local function observe(r, x)
          if r == records[1] then mean, seen = x:view(-1, x:size(-1)):abs():sum(1), x:numel() / x:size(-1) end
        end
        local before = {}
        local expected = require("quench.nn").watching(observe, run, check_model, ids, stage)
        for i, r in ipairs(records) do before[i] = r.weight:clone() end
        local best, best_error, plain = nil, math.huge, nil
        for k = 0, 19 do
          local s = ((mean / seen) ^ (k / 20)):clamp(1e-4)
          s = s / (s:max():item() * s:min():item()) ^ 0.5
          for i, r in ipairs(records) do r.weight:copy_(quant.rtn(before[i] * s, f) / s) end
          local error = (run(check_model, ids, stage) - expected):square():mean():item()
          plain = plain or error
          if error < best_error then best, best_error = s, error end
        end
        for i, r in ipairs(records) do
          row = row + 1
          t.equal(report[row].objective, "module", name .. ", " .. r.name)
          t.near((report[row].channel_scale - best):abs():max():item(), 0, 1e-9, "the scales of a search written out")
          r.weight:copy_(theirs[i].weight)
        end
        local chosen = (run(check_model, ids, stage) - expected):square():mean():item()
        t.ok(chosen <= plain * (1 + 1e-9), ("%.4g, round to nearest %.4g"):format(chosen, plain))
      end
    end)
  end
  check("GPT-NeoX, fused qkv", tiny(), {{query_key_value = true}, {dense = true}, {dense_h_to_4h = true}, {dense_4h_to_h = true}},
    function(m, ids) return m:block(1, m:embed(ids)) end) -- attention and MLP side by side: the block moves as either does
  local llama = q.models.new("llama", {vocab_size = 50, hidden_size = 32, num_attention_heads = 4, num_key_value_heads = 2, num_hidden_layers = 2,
    initializer_range = 0.2, dtype = "f64", seed = 5})
  check("Llama", llama, {{q_proj = true, k_proj = true, v_proj = true}, {o_proj = true}, {gate_proj = true, up_proj = true}, {down_proj = true}},
    function(m, ids, stage)
      local b, h = m.blocks[1], m:embed(ids)
      local parts = require "quench.models.blocks"
      if stage.q_proj or stage.o_proj then return parts.attend(m, b.attention, parts.norm(b.norm1, h)) end
      return m:block(1, h)
    end)
  local m, ids = tiny(), some_ids(5, 20)
  local by_layer, report = quant.quantize(m, {method = "awq", bits = 3, calibration = ids, objective = "layer"})
  t.equal(report[1].objective, "layer", "by the layers alone, if asked")
  local seen = quant.calibrate(m, ids)
  t.equal((quant.quantize(m, {method = "awq", bits = 3, inputs = seen}):linears()[1].weight - by_layer:linears()[1].weight):abs():max():item(), 0,
    "and with statistics only")
  t.fails(function() quant.quantize(m, {method = "awq", bits = 3, inputs = seen, objective = "module"}) end, "needs calibration",
    "modules need tokens")
  local turned = quant.quantize(m, {method = "awq", bits = 4, calibration = ids, hadamard = 16})
  t.ok(distance(m, turned, ids) < distance(m, (quant.quantize(m, {method = "rtn", bits = 3})), ids), "in a Hadamard basis")
  local experts = q.models.new("mixtral", {vocab_size = 50, hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, num_local_experts = 4,
    num_key_value_heads = 2, intermediate_size = 48})
  report = select(2, quant.quantize(experts, {method = "awq", bits = 3, group = 16, calibration = ids}))
  t.equal(report[1].objective, "module", "mixtral: attention")
  t.equal(report[#report].objective, "layer", "its experts by the tokens that chose them")
end)

tap.test("quantized inputs: W4A4, a scale a token", function(t)
  local m, ids = tiny(), some_ids(2, 10)
  local four = quant.int(4, {convention = "restricted"})
  local small = quant.quantize(m, {method = "rtn", format = four, activations = four})
  local r = small:linears()[1]
  local x = q.randn(3, 5, 48, "f64", q.stream(2, "x"))
  local expected = q.linear((quant.rtn(x, four)), (quant.rtn(m:linears()[1].weight, four)), r.bias)
  t.equal((q.nn.linear(r, x) - expected):abs():max():item(), 0, "both operands rounded")
  local weights_only = quant.quantize(m, {method = "rtn", format = four})
  t.ok(distance(m, small, ids) > distance(m, weights_only, ids), "worse than weights alone")
  t.equal(small.lm_head, nil, "the head is plain")
  local h = m:embed(ids):detach():requires_grad()
  t.ok(q.grad(small:block(1, h):sum(), {h})[1]:abs():max():item() > 0, "gradients go through, straight")
  local twice = pcall(quant.quantize, small, {method = "rtn"})
  t.ok(not twice, "a model with quantized inputs is not quantized again")
end)

tap.test("quantized keys and values", function(t)
  local m, ids = tiny(), some_ids(2, 10)
  local plain_attention = q.nn.attention
  local small = quant.quantize(m, {method = "rtn", bits = 8, kv = quant.int(2)})
  local without = quant.quantize(m, {method = "rtn", bits = 8})
  t.ok(distance(m, small, ids) > 10 * distance(m, without, ids), "2-bit keys and values do harm")
  local fine = quant.quantize(m, {method = "rtn", bits = 8, kv = quant.int(8)})
  t.ok(distance(m, fine, ids) < distance(m, small, ids) / 10, "8-bit ones hardly")
  local turned = quant.quantize(m, {method = "rtn", bits = 8, kv = quant.int(8), kv_hadamard = true})
  t.ok(distance(m, turned, ids) < distance(m, small, ids) / 10, "in a Hadamard basis the function is the same but for rounding")
  t.equal(q.nn.attention, plain_attention, "the attention of other models is as it was")
  t.fails(function() small:block(1, q.zeros(1, 2, 3)) end, "", "an error inside")
  t.equal(q.nn.attention, plain_attention, "leaves it so")
end)

tap.test("in a Hadamard basis", function(t)
  local m, ids = tiny(), some_ids(4, 24)
  q.no_grad(function() -- an outlier channel that every row has
    for _, r in ipairs(m:linears()) do
      local w = r.weight:detach()
      w:narrow(2, 5, 1):copy_(w:narrow(2, 5, 1) * 8)
    end
  end)
  local wide = quant.quantize(m, {method = "rtn", format = quant.int(8, {group = 1}), hadamard = true})
  t.near(distance(m, wide, ids), 0, 1e-20, "without rounding (groups of one weight) the function stays")
  local four = quant.int(4, {convention = "restricted"})
  local function of(o)
    o.format, o.activations, o.calibration = four, four, ids
    return distance(m, (quant.quantize(m, o)), ids)
  end
  local plain, rotated, gptq = of{method = "rtn"}, of{method = "rtn", hadamard = true}, of{method = "gptq", hadamard = 16}
  t.ok(rotated < 0.7 * plain, ("outliers spread: %.4g against %.4g"):format(rotated, plain))
  t.ok(gptq < plain, ("blocks of 16 and GPTQ: %.4g"):format(gptq))
  local ok, message = pcall(quant.quantize, tiny{hidden_size = 40, num_attention_heads = 5}, {method = "rtn", hadamard = 32})
  t.ok(not ok and message:find("6 layers cannot") and message:find("blocks of 32"), "sizes without a matrix are listed", message)
end)

tap.test("statistics measured once, used often", function(t)
  local m, ids = tiny(), some_ids(6, 24)
  local seen = quant.calibrate(m, ids, {batch = 4, head = true})
  local by_hand = quant.hessian(48, "f64")
  q.no_grad(q.scope, function()
    local r = m:linears()[5]
    require("quench.nn").watching(function(record, x) if record == r then by_hand:add(x) end end, function() m:forward(ids) end)
    t.near((seen.inputs[r.name]:hessian() - by_hand:hessian()):abs():max():item(), 0, 1e-12, "those of the full model")
  end)
  t.ok(seen.inputs["embed_out"].tokens == 144, "the head too")
  local small = quant.quantize(m, {bits = 3, inputs = seen})
  local whole = quant.quantize(m, {bits = 3, calibration = ids})
  local rtn = quant.quantize(m, {method = "rtn", bits = 3})
  t.equal((small:linears()[1].weight - whole:linears()[1].weight):abs():max():item(), 0, "the first layer is the same")
  t.ok(distance(m, small, ids) < distance(m, rtn, ids), "and the model better than rounded to nearest")
  t.fails(function() quant.quantize(m, {bits = 3, inputs = {inputs = {}}}) end, "8 layers cannot", "statistics of another model")
  t.fails(function() quant.quantize(m, {bits = 3, inputs = seen, calibration = ids}) end, "not both", "both")
  t.fails(function() quant.quantize(m, {method = "gptaq", inputs = seen}) end, "needs calibration", "GPTAQ needs the drift")
end)

tap.test("sensitivity", function(t)
  local m, ids = tiny(), some_ids(4, 16)
  q.no_grad(function() -- one layer is made to matter
    local w = m:linears()[6].weight:detach()
    w:copy_(w * 6)
  end)
  local before = m:linears()[3].weight:clone()
  local calls = 0
  local rows = quant.sensitivity(m, ids, {bits = 2, progress = function() calls = calls + 1 end})
  t.equal(#rows, 8, "a row a layer") t.equal(calls, 8, "progress")
  t.near(rows.loss, m:loss(ids):item(), 1e-12, "the model's own loss")
  for i = 2, #rows do
    if rows[i].increase > rows[i - 1].increase then t.ok(false, "worst first") end
  end
  t.equal((m:linears()[3].weight - before):abs():max():item(), 0, "the model is as it was")
  local name = m:linears()[7].name
  local alone = quant.quantize(m, {method = "rtn", bits = 2, skip = {"layers%.0%.", "attention", "4h_to_h"}})
  for _, r in ipairs(rows) do
    if r.name == name then t.near(r.loss, alone:loss(ids):item(), 1e-12, "the loss with one layer quantized") end
  end
end)

tap.test("a probe for training", function(t)
  local m, ids = tiny{dtype = "f32"}, some_ids(6, 24)
  local probe = quant.probe{every = 2, refresh = 2, calibration = ids, held_out = ids:narrow(1, 1, 3),
    formats = {gptq3 = {bits = 3}, rtn4 = {method = "rtn", bits = 4}}}
  local r = probe.run{model = m}
  local loss = m:loss(ids:narrow(1, 1, 3)):item()
  t.near(r.loss, loss, 1e-6, "the loss")
  local by_hand = quant.quantize(m, {bits = 3, inputs = quant.calibrate(m, ids)}):loss(ids:narrow(1, 1, 3)):item()
  t.near(r.gptq3, by_hand / loss - 1, 1e-6, "GPTQ's relative error")
  t.near(r.rtn4, quant.quantize(m, {method = "rtn", bits = 4}):loss(ids:narrow(1, 1, 3)):item() / loss - 1, 1e-6, "round to nearest's")
  local calibrate, count = require("quench.quant.calibration").calibrate, 0
  require("quench.quant.calibration").calibrate = function(...) count = count + 1 return calibrate(...) end
  t.near(probe.run{model = m}.gptq3, r.gptq3, 1e-9, "measured again")
  t.equal(count, 0, "with the statistics of the first time")
  probe.run{model = m}
  t.equal(count, 1, "and with new ones the third time")
  require("quench.quant.calibration").calibrate = calibrate
  t.fails(function() quant.probe{formats = {x = {method = "gptk"}}, held_out = ids} end, "did you mean 'gptq'", "an unknown method, at once")
  t.fails(function() quant.probe{formats = {x = {}}, held_out = ids} end, "need calibration", "no calibration")
  t.fails(function() quant.probe{formats = {}, held_out = ids} end, "empty", "no formats")
end)

tap.test("an interrupted run goes on", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  local m, ids = tiny(), some_ids(4, 16)
  local o = {bits = 3, group = 16, calibration = ids, resume = folder}
  local whole, report = quant.quantize(m, {bits = 3, group = 16, calibration = ids})
  local count = 0
  o.progress = function() count = count + 1 if count == 5 then error("stop here", 0) end end
  local ok, message = pcall(quant.quantize, m, o)
  t.ok(not ok and message:find("stop here"), "stopped after five layers")
  local solved, fresh = 0, require("quench.quant.methods").gptq.run
  require("quench.quant.methods").gptq.run = function(...) solved = solved + 1 return fresh(...) end
  o.progress = nil
  local again, second = quant.quantize(m, o)
  require("quench.quant.methods").gptq.run = fresh
  t.equal(solved, 3, "only the others are solved")
  t.equal(distance(whole, again, ids), 0, "and the model is the same, to the bit")
  t.near(second[2].output_error, report[2].output_error, 1e-15, "reports come back")
  t.equal((second[2].scale - report[2].scale):abs():max():item(), 0, "with their tensors")
  t.fails(function() quant.quantize(m, {bits = 4, group = 16, calibration = ids, resume = folder}) end, "of another run", "other options are refused")
  os.execute("rm -r '" .. folder .. "'")
  local function grid(a, more)
    local given = {format = quant.levels({-1, a, 0, 0.3, 1}, more), calibration = ids, resume = folder}
    return function() quant.quantize(m, given) end
  end
  grid(-0.3)()
  t.fails(grid(-0.6), "of another run", "another grid of the same name is another run")
  t.fails(grid(-0.3, {clip = 0.9}), "of another run", "so is another clip")
  grid(-0.3)()
  os.execute("rm -r '" .. folder .. "'")
  quant.quantize(m, {bits = 3, inputs = quant.calibrate(m, ids), resume = folder})
  t.fails(function() quant.quantize(m, {bits = 3, inputs = quant.calibrate(m, some_ids(4, 15)), resume = folder}) end, "of another run",
    "and so are inputs measured on another text")
  os.execute("rm -r '" .. folder .. "'")
end)

tap.done()

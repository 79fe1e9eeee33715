--- quant_model.lua - quantizing a whole model: order, calibration, reports, errors.

local q = require "quench"
local nn = require "quench.nn"
local tap = dofile "tests/tap.lua"
local small_model = dofile "tests/small_model.lua"

local tiny, some_ids, distance = small_model.new, small_model.ids, small_model.distance

tap.test("a model rounded to nearest", function(t)
  local m, ids = tiny(), some_ids(2, 16)
  local before = m:forward(ids):sum():item()
  local small, report = q.quant.quantize(m, {method = "rtn", bits = 4})
  t.equal(m:forward(ids):sum():item(), before, "the model itself is as it was")
  t.equal(#report, 8, "eight linear layers")
  for i, r in ipairs(m:linears()) do
    t.equal(report[i].name, r.name, "in order: " .. r.name)
    local y = q.quant.rtn(r.weight, "int4")
    t.equal((small:linears()[i].weight - y):abs():max():item(), 0, "rounded to nearest")
    t.near(report[i].weight_error, (((y - r.weight) ^ 2):sum() / (r.weight ^ 2):sum()):item(), 1e-6, "weight error")
  end
  t.equal((small:tensors()["embed_out.weight"] - m:tensors()["embed_out.weight"]):abs():max():item(), 0, "the head is left alone")
  local narrow, wide = (96 + 32 + 128) * 32, 32 * 128 -- weights in rows of 32 and of 128
  t.near(report.bits, (narrow * (4 + 36 / 32) + wide * (4 + 36 / 128)) / (narrow + wide), 1e-12,
    "bits a weight, scales and zero points included")
  local with_head = select(2, q.quant.quantize(m, {method = "rtn", head = true}))
  t.equal(with_head[#with_head].name, "embed_out", "unless asked for")
end)

tap.test("calibrated: inputs of each layer are those after the layers before it were quantized", function(t)
  local m, ids = tiny{dtype = "f64"}, some_ids(6, 20)
  local small, report = q.quant.quantize(m, {bits = 3, group = 16, calibration = ids, batch = 4})
  -- by hand: take the model where everything before this layer is quantized, sum its inputs, run GPTQ
  local check = m:clone()
  q.no_grad(function()
    for i, r in ipairs(check:linears()) do
      local h = q.quant.hessian(r.weight:size(2), "f64")
      nn.watching(function(record, x) if record == r then h:add(x) end end, function() check:forward(ids) end)
      local y = q.quant.gptq(r.weight, h, {bits = 3, group = 16})
      t.near((y - small:linears()[i].weight):abs():max():item(), 0, 1e-9, r.name)
      local x = h:hessian()
      local gap, w = y - r.weight, r.weight
      t.near(report[i].output_error, ((gap:matmul(x) * gap):sum() / (w:matmul(x) * w):sum()):item(), 1e-6, "its output error")
      r.weight:copy_(y)
    end
  end)
  t.equal(report[1].tokens, 120, "all tokens were seen")
  local once = q.quant.quantize(m, {bits = 3, group = 16, calibration = ids, true_sequential = false})
  t.equal((once:linears()[1].weight - small:linears()[1].weight):abs():max():item(), 0, "once a block: the first layer is the same")
  t.ok((once:linears()[2].weight - small:linears()[2].weight):abs():max():item() > 0, "the second is not")
  local listed = q.quant.quantize(m, {bits = 3, group = 16, calibration = {ids:narrow(1, 1, 4), ids:narrow(1, 5, 2)}})
  t.near(distance(listed, small, ids), 0, 1e-18, "a list of batches is the same set")
end)

tap.test("calibration helps", function(t)
  local m, ids = tiny(), some_ids(16, 32)
  local function error_of(o) return distance(m, (q.quant.quantize(m, o)), ids) end
  local rtn = error_of{method = "rtn", bits = 3}
  local gptq = error_of{bits = 3, calibration = ids}
  local gptaq = error_of{method = "gptaq", bits = 3, calibration = ids}
  t.ok(gptq < rtn, ("GPTQ %.4g below round to nearest %.4g"):format(gptq, rtn))
  t.ok(gptaq < rtn, ("GPTAQ %.4g too"):format(gptaq))
end)

tap.test("options for some layers", function(t)
  local m, ids = tiny(), some_ids(4, 16)
  local seen = {}
  local small, report = q.quant.quantize(m, {bits = 3, calibration = ids, skip = {"layers%.0%.mlp"}, override = {["4h_to_h"] = {bits = 8}},
    progress = function(done, total, r) seen[done] = r.name .. " of " .. total end})
  t.equal(#report, 6, "two were skipped")
  t.equal(seen[6], report[6].name .. " of 6", "progress layer by layer")
  t.ok(report[6].name:find("4h_to_h") and report[6].weight_error < 1e-3 and report[5].weight_error > 1e-3, "an override for one")
  t.equal((small:tensors()["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"]
    - m:tensors()["gpt_neox.layers.0.mlp.dense_h_to_4h.weight"]):abs():max():item(), 0, "skipped means untouched")
  local mixed = select(2, q.quant.quantize(m, {method = "rtn", format = "nvfp4", override = {dense = {format = q.quant.int(2)}}}))
  t.ok(mixed[2].bits < 4 and mixed[1].bits > 4, "formats too")
  local narrow = select(2, q.quant.quantize(m, {method = "rtn", format = "nf4", group = 8}))
  t.near(narrow.bits, 4 + 32 / 8, 1e-12, "a group beside a format's name is its group")
  local searched = select(2, q.quant.quantize(m, {method = "rtn", format = "nf4", mse = true}))
  local plain = select(2, q.quant.quantize(m, {method = "rtn", format = "nf4"}))
  t.ok(searched[1].format.search == 80 and not plain[1].format.search, "and its clip can be searched")
  mixed = select(2, q.quant.quantize(m, {method = "rtn", bits = 3, group = 8, override = {dense = {format = "nf4"}}}))
  t.ok(mixed[1].bits > 7 and mixed[2].format.format == "nf4" and mixed[2].format.group == 64, "a format for some layers in place of bits and group")
  mixed = select(2, q.quant.quantize(m, {method = "rtn", format = "nf4", override = {dense = {bits = 3}}}))
  t.ok(mixed[1].format.format == "nf4" and mixed[2].format.format == "int3_asymmetric", "and the other way round")
  local both = select(2, q.quant.quantize(m, {method = "rtn", bits = 4, override = {attention = {bits = 2}, ["attention.dense"] = {bits = 6}}}))
  t.ok(both[1].bits < 4 and both[2].bits > 6, "several patterns: the later in the alphabet wins")
end)

tap.test("all problems at once, before anything is done", function(t)
  local m = tiny()
  local list = m:linears()
  list[2].weight:detach()[1][1] = 0 / 0
  list[5].weight:detach()[3][3] = 1 / 0
  local ok, message = pcall(q.quant.quantize, m, {method = "rtn"})
  t.ok(not ok and message:find("2 layers cannot") and message:find(list[2].name, 1, true) and message:find(list[5].name, 1, true),
    "both are listed", message)
  m = tiny()
  t.fails(function() q.quant.quantize(m, {bits = 4}) end, "needs calibration", "no calibration set")
  t.fails(function() q.quant.quantize(m, {calibration = {}}) end, "is empty", "an empty one")
  t.fails(function() q.quant.quantize(m, {method = "gptk"}) end, "did you mean 'gptq'", "a misspelt method")
  t.fails(function() q.quant.quantize(m, {method = "rtn", damp = 0.1}) end, "unknown option 'damp'", "another method's option")
  t.fails(function() q.quant.quantize(m, {method = "rtn", format = "nf5"}) end, "no format 'nf5'", "an unknown format")
  ok, message = pcall(q.quant.quantize, m, {method = "rtn", format = "nf5"})
  t.ok(not ok and select(2, message:gsub("nf5", "")) == 1, "which is said once, not for each layer", message)
  t.fails(function() q.quant.quantize(m, {method = "rtn", format = "nf4", bits = 3}) end, "bits and format exclude", "bits beside a format")
  t.fails(function() q.quant.quantize(m, {method = "rtn", format = "nf4", symmetric = true}) end, "symmetric and format", "or symmetric")
  t.fails(function() q.quant.quantize(m, {method = "hqq", format = "nf4"}) end, "unknown option 'format'", "HQQ has integers only")
  t.fails(function() q.quant.quantize(m, {method = "hqq", mse = true}) end, "unknown option 'mse'", "and no clip search")
  t.fails(function() q.quant.quantize(m, {method = "rtn", group = 0}) end, "at least 1 column", "a group of nothing")
  t.fails(function() q.quant.quantize(m, {method = "rtn", skip = {"["}}) end, "skip: '[' is no Lua pattern", "a pattern that is none", true)
  t.fails(function() q.quant.quantize(m, {method = "rtn", skip = {"."}}) end, "no layer", "nothing left to do")
  t.equal(nn.observe, nil, "no observer is left behind")
end)

tap.test("arguments of another kind", function(t)
  local m, ids, quant = tiny(), some_ids(2, 8), q.quant
  local function fails(pattern, fn, ...)
    local given = {...}
    t.fails(function() fn(unpack(given, 1, 4)) end, pattern, pattern, true)
    local _, message = pcall(fn, unpack(given, 1, 4))
    t.ok(not message:find("attempt to", 1, true), "and not in Lua's words", message)
  end
  for name, fn in pairs{quantize = quant.quantize, qat = quant.qat, export = quant.export, sensitivity = quant.sensitivity,
      calibrate = quant.calibrate, rotate = quant.rotate, save = quant.save} do
    fails("q.quant." .. name .. ": a model expected", fn, nil)
    fails("q.quant." .. name .. ": a model expected", fn, q.zeros(2))
  end
  for name, fn in pairs{text = q.eval.text, choice = q.eval.choice, pairs = q.eval.pairs} do
    fails("q.eval." .. name .. ": a model expected", fn, 5)
  end
  fails("q.models.load: a folder expected, got nil", q.models.load)
  fails("q.models.save: a folder expected, got nil", m.save, m)
  fails("calibration must be token ids", quant.quantize, m, {calibration = {ids, 5}})
  fails("inputs must be what q.quant.calibrate gives", quant.quantize, m, {inputs = {}})
  fails("override: 'dense' needs a table", quant.quantize, m, {method = "rtn", override = {dense = 3}})
  fails("override: '[' is no Lua pattern", quant.quantize, m, {method = "rtn", override = {["["] = {bits = 3}}})
  fails("no format 'f00'", quant.quantize, m, {method = "rtn", activations = "f00"})
  fails("no format 'foo'", quant.quantize, m, {method = "rtn", kv = "foo"})
  fails("a list of numbers expected, got string", quant.levels, "abc")
  fails("level 2 is no number but a string", quant.levels, {1, "a"})
  fails("a function of one number expected, got number", quant.rule, 5)
  fails("the report that came with the value", quant.pack, q.zeros(2, 4), "int4", {})
  fails("the parts that q.quant.pack gave", quant.unpack)
  fails("unknown option 'bitz'", quant.probe, {formats = {a = {method = "rtn", bitz = 3}}, held_out = ids})
end)

tap.test("the report as a figure", function(t)
  local m, ids = tiny(), some_ids(4, 16)
  local report = select(2, q.quant.quantize(m, {bits = 3, calibration = ids}))
  local path = os.tmpname()
  q.quant.plot(report, {what = {"output_error", "weight_outliers"}}):save(path .. ".png")
  local file = io.open(path .. ".png", "rb")
  t.equal(file:read(4), "\137PNG", "is drawn")
  file:close()
  os.remove(path) os.remove(path .. ".png")
  local rtn = select(2, q.quant.quantize(m, {method = "rtn"}))
  t.fails(function() q.quant.plot(rtn, {what = {"output_error"}}) end, "need calibration", "a report without output errors")
  t.fails(function() q.quant.plot{} end, "report of q.quant.quantize", "no report")
end)

tap.test("every family", function(t)
  local llama = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1}
  local own = {
    gpt2 = {n_embd = 32, n_head = 4, n_layer = 1, n_positions = 32}, ant = {num_hidden_layers = 1, num_attention_heads = 3, head_dim = 8},
    mamba = {hidden_size = 16, num_hidden_layers = 1}, mamba2 = {hidden_size = 16, num_hidden_layers = 1, num_heads = 4, head_dim = 8, n_groups = 1,
      state_size = 8},
    mixtral = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, num_local_experts = 4, num_key_value_heads = 2,
      intermediate_size = 48},
    olmoe = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, num_experts = 4, num_experts_per_tok = 2, intermediate_size = 48},
  }
  local ids = some_ids(3, 12)
  for _, family in ipairs(q.models.names()) do
    local config = {vocab_size = 50, initializer_range = 0.1}
    for k, v in pairs(own[family] or llama) do config[k] = v end
    local m = q.models.new(family, config)
    local small, report = q.quant.quantize(m, {bits = 4, group = 8, calibration = ids, head = true})
    t.ok(small:loss(ids):item() < 5 and #report >= 2, ("%s: %d layers"):format(family, #report))
    for _, r in ipairs(report) do
      if not (r.weight_error < 0.05) then t.ok(false, family .. ": " .. r.name .. " has a weight error of " .. r.weight_error) end
      if r.tokens == 0 and not r.unseen then t.ok(false, family .. ": " .. r.name .. " saw nothing and does not say so") end
    end
  end
  local one = q.models.new("mixtral", {vocab_size = 50, hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, num_local_experts = 4,
    num_key_value_heads = 2, intermediate_size = 48})
  local report = select(2, q.quant.quantize(one, {bits = 4, calibration = ids:narrow(1, 1, 1):narrow(2, 1, 1)}))
  local unseen = 0
  for _, r in ipairs(report) do unseen = unseen + (r.unseen and 1 or 0) end
  t.equal(unseen, 6, "one token goes to two of four experts: the other two are rounded to nearest, and said to be unseen")
end)

tap.test("too few tokens: damped and reported", function(t)
  local m = tiny()
  local small, report = q.quant.quantize(m, {bits = 4, calibration = some_ids(1, 3)})
  t.ok(report[1].rank_deficient, "3 tokens for 32 inputs")
  t.ok(small:loss(some_ids(2, 8)):item() < 20, "and the model still works")
end)

tap.done()

--- quant_packed.lua - quantized models as files of real bits: the same values back, and as many bytes as said.

local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"
local small_model = dofile "tests/small_model.lua"
local quant = q.quant

local root = os.tmpname()
os.remove(root)
q.system.make_directories(root)

local function tiny(more)
  local config = {hidden_size = 48, num_attention_heads = 3}
  for k, v in pairs(more or {}) do config[k] = v end
  return small_model.new(config)
end

local ids = small_model.ids(4, 16)

--- Bytes of the quantized weights in the files of a folder: everything but the tensors that m has under their own names.
local function bytes_of(folder, small, report)
  local plain, quantized, total = {}, {}, 0
  for _, r in ipairs(report) do quantized[r.name .. ".weight"] = true end
  for _, p in ipairs(small:named_parameters()) do plain[p.name] = not quantized[p.name] end
  local file = q.open(folder)
  for _, name in ipairs(file:names()) do
    if not plain[name] then total = total + file:info(name).bytes end
  end
  file:close()
  return total
end

local function same(t, small, again, what)
  local off = 0
  for i, r in ipairs(small:linears(true)) do off = math.max(off, (again:linears(true)[i].weight - r.weight):abs():max():item()) end
  t.equal(off, 0, what .. ": the same weights")
  t.equal(q.no_grad(function() return (again:forward(ids) - small:forward(ids)):abs():max():item() end), 0, what .. ": the same function")
end

local function round_trip(t, what, m, o)
  local folder = root .. "/" .. what:gsub("%W", "_")
  local small, report = quant.quantize(m, o)
  local said = quant.save(small, report, folder)
  local again = q.models.load(folder)
  same(t, small, again, what)
  t.equal(bytes_of(folder, small, report), said.bytes, what .. ": the bytes in the file")
  -- each part ends in a word of its own, and an asymmetric format may hold its extra numbers per tensor: at most 40 words a layer
  t.ok(math.abs(said.bits - report.bits) * said.weights / 8 <= 160 * #report,
    ("%s: %.4f bits a weight in the file, %.4f said"):format(what, said.bits, report.bits))
  return folder, small, report, again
end

tap.test("every method", function(t)
  local m = tiny()
  for _, o in ipairs{{method = "rtn", bits = 3}, {method = "rtn", bits = 3, mse = true, group = 16}, {bits = 4, group = 16, symmetric = true},
    {bits = 2, group = 20, act_order = true}, {bits = 3, group = 16, act_order = true, static_groups = true},
    {bits = 3, group = 16, act_group_aware = true}, {method = "gptaq", bits = 4}, {method = "awq", bits = 3, group = 16}, {method = "hqq", bits = 3},
    {bits = 4, group = 16, hadamard = 16}, {method = "awq", bits = 4, hadamard = true}, {method = "smoothquant"}, {method = "int8_outlier"}} do
    o.calibration = ids
    local name = {}
    for _, key in ipairs{"method", "bits", "group", "act_order", "static_groups", "act_group_aware", "hadamard"} do
      if o[key] ~= nil then name[#name + 1] = ("%s %s"):format(key, tostring(o[key])) end
    end
    round_trip(t, table.concat(name, ", "), m, o)
  end
end)

tap.test("every format", function(t)
  local m = tiny{num_hidden_layers = 1}
  for _, f in ipairs(quant.formats()) do round_trip(t, f.name, m, {method = "rtn", format = f.name}) end
  for _, f in ipairs{"int1_midrise", "int3_full", "int5_restricted", "int4_awq", "int6_real", "gaussian4"} do
    round_trip(t, f, m, {method = "rtn", format = f})
  end
  round_trip(t, "own levels", m, {method = "rtn", format = quant.levels({-1, -0.2, 0.1, 0.9}, {group = 16})})
  -- a rule that does not send its levels to themselves
  local steps = quant.rule(function(x) return 1.5 * math.max(-2, math.min(1, math.floor(x))) + 0.25 end, {reach = 2, scale = "f16"})
  round_trip(t, "own rule", m, {method = "gptq", format = steps, calibration = ids})
  round_trip(t, "f16 scales", m, {method = "rtn", format = quant.int(4, {group = 12, scale = "f16"})})
  round_trip(t, "even powers", m, {method = "rtn", format = quant.mxfp4{power = "even"}})
  round_trip(t, "a tensor", m, {method = "rtn", format = quant.int(4, {convention = "full", group = "tensor"})})
end)

tap.test("inputs and cache come back too", function(t)
  local m = tiny()
  local four = quant.int(4, {convention = "restricted"})
  local folder, small = round_trip(t, "W4A4 KV8", m,
    {method = "rtn", format = four, activations = four, kv = quant.int(8), kv_hadamard = true, hadamard = 16})
  local plain = q.models.load(folder)
  local weights_only = quant.quantize(m, {method = "rtn", format = four, hadamard = 16})
  t.ok(q.no_grad(function() return (plain:forward(ids) - weights_only:forward(ids)):abs():max():item() end) > 1e-4,
    "and do something")
  t.fails(function() q.models.load(folder, {lazy = true}) end, "cannot be read lazily", "not block by block")
  t.ok(q.models.load(folder, {dtype = "f64"}):loss(ids):item() > 0, "also in f64")
  t.near(small:loss(ids):item(), plain:loss(ids):item(), 0, "the same loss")
end)

tap.test("other layouts", function(t)
  local gpt2 = q.models.new("gpt2", {vocab_size = 50, n_embd = 32, n_head = 4, n_layer = 2, n_positions = 32})
  round_trip(t, "gpt2, whose files are transposed", gpt2, {method = "rtn", bits = 4, group = 16})
  local tied = q.models.new("llama", {vocab_size = 50, hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, tie_word_embeddings = true,
    initializer_range = 0.1})
  local small, report = quant.quantize(tied, {method = "rtn", bits = 4, head = true})
  quant.save(small, report, root .. "/tied")
  same(t, small, q.models.load(root .. "/tied"), "a tied head")
  local folder, m = round_trip(t, "lazy", tiny(), {method = "rtn", bits = 3})
  local lazy = q.models.load(folder, {lazy = true})
  t.equal(q.no_grad(function() return (lazy:forward(ids) - m:forward(ids)):abs():max():item() end), 0, "read block by block")
  local parts, rep = quant.quantize(tiny(), {method = "rtn", bits = 3})
  quant.save(parts, rep, root .. "/shards", {shard = 20000})
  t.ok(q.system.exists(root .. "/shards/model.safetensors.index.json"), "in shards")
  same(t, parts, q.models.load(root .. "/shards"), "shards")
  quant.save(parts, rep, root .. "/half", {dtype = "bf16"})
  t.equal((q.models.load(root .. "/half"):linears()[3].weight - parts:linears()[3].weight):abs():max():item(), 0, "the rest in bf16")
end)

tap.test("a loaded model is an ordinary one", function(t)
  local folder, small = round_trip(t, "again", tiny(), {method = "rtn", bits = 3, group = 16})
  t.equal(json.read(folder .. "/config.json").quantization_config.quant_method, "quench", "config.json says so")
  local again = q.models.load(folder)
  again:save(root .. "/plain")
  t.equal(json.read(root .. "/plain/config.json").quantization_config, nil, "saved, it is plain")
  same(t, small, q.models.load(root .. "/plain"), "plain")
  same(t, small, again:clone(), "cloned")
  local twice, report = quant.quantize(again, {method = "rtn", format = quant.int(3, {group = 16})})
  quant.save(twice, report, root .. "/twice")
  same(t, twice, q.models.load(root .. "/twice"), "quantized again")
end)

tap.test("block by block on disk", function(t)
  local m = tiny()
  m:save(root .. "/from")
  local o = {bits = 3, group = 16, calibration = ids, batch = 4, hadamard = 16}
  local small, report = quant.quantize(m, o)
  local said = quant.save(small, report, root .. "/memory")
  o.packed = true
  local on_disk = q.disk.quantize(root .. "/from", root .. "/disk", o)
  same(t, small, q.models.load(root .. "/disk"), "the same bits as in memory")
  t.equal(on_disk.file.bytes, said.bytes, "and bytes")
  t.equal(bytes_of(root .. "/disk", small, report), said.bytes, "which are those in the shards")
  local function config_of(name) return json.encode(json.read(root .. name .. "/config.json").quantization_config) end
  t.equal(config_of "/disk", config_of "/memory", "and the same configuration")
  os.remove(root .. "/disk/model-00003-of-00004.safetensors")
  os.remove(root .. "/disk/config.json")
  local again = q.disk.quantize(root .. "/from", root .. "/disk", o)
  same(t, small, q.models.load(root .. "/disk"), "gone on behind the first block")
  t.equal(again.file.bytes, said.bytes, "with all bytes counted")
  q.disk.quantize(root .. "/disk", root .. "/next", {method = "rtn", bits = 8})
  same(t, (quant.quantize(small, {method = "rtn", bits = 8})), q.models.load(root .. "/next"), "from packed files")
end)

tap.test("errors", function(t)
  local m = tiny{num_hidden_layers = 1}
  local small, report = quant.quantize(m, {method = "rtn", bits = 3})
  t.fails(function() quant.save(m, report, root .. "/no") end, "do not give its weight back", "the report of another model")
  t.fails(function() quant.save(small, {}, root .. "/no") end, "report", "no report")
  t.fails(function() quant.save(small, report, root .. "/no", {dtyp = "f32"}) end, "did you mean 'dtype'", "a misspelt option")
  local wide, wide_report = quant.quantize(tiny{dtype = "f64"}, {method = "rtn", bits = 3})
  t.fails(function() quant.save(wide, wide_report, root .. "/no") end, "f32", "f64")
  t.ok(not q.system.exists(root .. "/no/config.json"), "nothing was written")
  quant.save(small, report, root .. "/cut")
  local tensors = q.load(root .. "/cut/model.safetensors")
  local name = "gpt_neox.layers.0.attention.dense.weight"
  local codes = tensors[name .. ".codes"]
  tensors[name .. ".codes"] = codes:narrow(1, 1, 5):clone()
  q.save(root .. "/cut/model.safetensors", tensors)
  t.fails(function() q.models.load(root .. "/cut") end, "do not hold", "codes that were cut")
  tensors[name .. ".codes"] = nil
  q.save(root .. "/cut/model.safetensors", tensors)
  t.fails(function() q.models.load(root .. "/cut") end, name .. ".codes", "codes that are missing")
end)

tap.test("a config.json that does not fit", function(t)
  local m = tiny{num_hidden_layers = 1}
  local small, report = quant.quantize(m, {method = "rtn", bits = 3, activations = "int8_restricted"})
  local folder, name = root .. "/odd", "gpt_neox.layers.0.attention.dense.weight"
  quant.save(small, report, folder)
  local raw = json.read(folder .. "/config.json")
  local function fails(pattern, change)
    local other = json.decode(json.encode(raw))
    change(other.quantization_config, other.quantization_config.weights[name])
    q.system.write_file(folder .. "/config.json", json.encode(other))
    t.fails(function() q.models.load(folder) end, pattern, pattern, true)
    local _, message = pcall(q.models.load, folder)
    t.ok(message:find(folder, 1, true) and not message:find("attempt to", 1, true), "which says the folder, and not in Lua's words", message)
  end
  fails("weights or formats are missing", function(c) c.weights = nil end)
  fails("weights or formats are missing", function(c) c.formats = nil end)
  fails("dense.weight' has no format 99", function(_, w) w.format = 99 end)
  fails("dense.weight' has no format x", function(_, w) w.format = "x" end)
  fails("dense.weight' has no shape", function(_, w) w.shape = nil end)
  fails("dense.weight' does not name its layer", function(_, w) w.layer = nil end)
  fails("dense.weight' has inputs that are no object", function(_, w) w.inputs = 3 end)
  fails("the model has no layer 'nope'", function(_, w) w.layer = "nope" end)
  fails("rotations name no layers", function(c) c.rotations = 5 end)
  fails("dense.weight': quant.unpack: the parts do not hold a (7, 7) matrix", function(_, w) w.shape = {7, 7} end)
  fails("dense.weight': quant.int: bits must be 1 to 8, got 77", function(c, w)
    c.formats[2] = {format = "int77"}
    w.format = 2
  end)
  fails("quantized by 'gptq', which is not read here", function(c) c.quant_method = "gptq" end)
end)

os.execute("rm -r '" .. root .. "'")
tap.done()

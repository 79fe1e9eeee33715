-- Models on disk, quantized block by block: the same bits as in memory, resuming, memory, the plan of a 7B model.
local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"

local function folder()
  local path = os.tmpname()
  os.remove(path)
  return path
end
local function remove(...)
  for _, path in ipairs{...} do os.execute("rm -rf " .. path) end
end

local ids = q.keep((q.rand(6, 24, q.stream(1, "ids")) * 31):floor():to("i32"))

local usual = {
  vocab_size = 31, hidden_size = 16, num_hidden_layers = 3, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 24,
}
local function with(base, extra)
  local c = {}
  for key, value in pairs(base) do c[key] = value end
  for key, value in pairs(extra) do c[key] = value end
  return c
end
local neox = {vocab_size = 31, hidden_size = 16, num_hidden_layers = 3, num_attention_heads = 2, initializer_range = 0.2}
local cases = {
  {"gpt_neox", neox}, {"gpt2", {vocab_size = 31, n_embd = 16, n_layer = 2, n_head = 2, n_positions = 32}},
  {"mixtral", with(usual, {num_local_experts = 4})}, {"apertus", usual}, {"llama", with(usual, {tie_word_embeddings = true})},
}

local function worst(a, b)
  local gap = 0
  for name, x in pairs(a:tensors()) do gap = math.max(gap, (x - b:tensors()[name]):abs():max():item()) end
  return gap
end

for _, case in ipairs(cases) do
  tap.test(case[1], function(t)
    local from, to = folder(), folder()
    local m = q.models.new(case[1], case[2])
    m:save(from, {shard = 5000})
    q.system.write_file(from .. "/tokenizer.json", "{}")
    local settings = {method = "gptq", bits = 3, group = 8, calibration = ids, batch = 4}
    local expected, report = q.quant.quantize(m, settings)
    local written = q.disk.quantize(from, to, settings)
    local got = q.models.load(to)
    t.equal(worst(expected, got), 0, "the same bits as in memory")
    t.equal(#written, #report, "a report a layer")
    t.near(written.bits, report.bits, 1e-12, "bits a weight")
    t.near(written[3].output_error, report[3].output_error, 1e-12, "and its errors")
    t.equal(#json.read(to .. "/quantization.json"), #report, "in a file too")
    t.equal(q.system.read_file(to .. "/tokenizer.json"), "{}", "the tokenizer comes along")
    remove(from, to)
  end)
end

tap.test("without data", function(t)
  local from, to = folder(), folder()
  local m = q.models.new("gpt_neox", neox)
  m:save(from)
  q.disk.quantize(from, to, {method = "rtn", bits = 4, group = 8, skip = {"layers%.0%."}})
  local expected = q.quant.quantize(m, {method = "rtn", bits = 4, group = 8, skip = {"layers%.0%."}})
  t.equal(worst(expected, q.models.load(to)), 0, "round to nearest, but for the first block")
  remove(to)
  q.disk.quantize(from, to, {method = "rtn", bits = 4, group = 8, dtype = "bf16"})
  t.equal(q.open(to):info("embed_out.weight").dtype, "BF16", "bf16 on request")
  remove(from, to)
end)

tap.test("an interrupted run", function(t)
  local from, to, other = folder(), folder(), folder()
  q.models.new("gpt_neox", neox):save(from)
  local settings = {bits = 3, group = 8, calibration = ids}
  q.disk.quantize(from, to, settings)
  local calls = 0
  settings.progress = function(done)
    calls = calls + 1
    if done == 6 then error("enough", 0) end
  end
  t.fails(function() q.disk.quantize(from, other, settings) end, "enough", "stops in the second of three blocks")
  t.ok(not q.system.exists(other .. "/config.json"), "what is not finished does not load")
  settings.progress = function() calls = calls + 1 end
  local report = q.disk.quantize(from, other, settings)
  t.equal(calls, 6 + 8, "goes on behind the first block")
  t.equal(#report, 12, "the report is whole")
  t.equal(worst(q.models.load(to), q.models.load(other)), 0, "the same bits as without interruption")
  local differ = {}
  for _, name in ipairs(q.system.list(to)) do
    if q.system.read_file(to .. "/" .. name) ~= q.system.read_file(other .. "/" .. name) then differ[#differ + 1] = name end
  end
  t.equal(table.concat(differ, ", "), "", "in every file")
  settings.bits = 4
  t.fails(function() q.disk.quantize(from, other, settings) end, "is of another run", "other settings in the same folder", true)
  settings = {method = "rtn", format = q.quant.nf4{group = 8}}
  remove(other)
  q.disk.quantize(from, other, settings)
  t.equal(worst(q.quant.quantize(q.models.load(from), settings), q.models.load(other)), 0, "a format")
  settings.format = q.quant.nf4{group = 4}
  t.fails(function() q.disk.quantize(from, other, settings) end, "is of another run", "other options of the same format", true)
  settings.format = q.quant.nf4{group = 8}
  q.disk.quantize(from, other, settings)
  local weights = q.models.load(from)
  weights:parameters()[1]:detach()[1][1] = 7
  weights:save(from)
  t.fails(function() q.disk.quantize(from, other, settings) end, "is of another run", "other weights under the same names and sizes", true)
  remove(from, to, other)
end)

tap.test("memory", function(t)
  local from, to = folder(), folder()
  local config = {vocab_size = 64, hidden_size = 64, num_hidden_layers = 48, num_attention_heads = 4}
  q.scope(function() q.models.new("gpt_neox", config):save(from, {shard = 3e6}) end)
  collectgarbage() collectgarbage()
  local text = q.zeros(4, 64, "i32")
  local before = q.system.memory().live
  local plan = q.disk.plan(from, {sequences = 4, context = 64, batch = 2})
  local function peak(fn)
    q.system.reset_peak()
    fn()
    return q.system.memory().peak - before
  end
  local used = peak(function() q.disk.quantize(from, to, {bits = 4, group = 64, calibration = text, batch = 2}) end)
  t.ok(used < plan.model / 2, "half of the model is never in memory", ("%d of %d"):format(used, plan.model))
  t.ok(used < plan.peak, "and less than planned", ("%d, planned %d"):format(used, plan.peak))
  t.ok(used > plan.peak / 4, "but not much less", ("%d, planned %d"):format(used, plan.peak))
  collectgarbage() collectgarbage()
  local lazy = q.models.load(to, {lazy = true})
  local tokens = q.zeros(512, "i32")
  local look = q.disk.plan(to, {sequences = 4, context = 128, batch = 1, logits = true})
  local seen = peak(function() q.eval.text(lazy, tokens, {block = 128}) end)
  t.ok(seen < look.peak and seen > look.block, "an evaluation reads block by block", ("%d, planned %d"):format(seen, look.peak))
  remove(from, to)
end)

tap.test("a model of 7B", function(t)
  local dir = folder()
  q.system.make_directories(dir)
  local config = {size = "amber-7b"}
  q.system.write_file(dir .. "/config.json", json.encode{
    architectures = {"LlamaForCausalLM"}, hidden_size = 4096, num_hidden_layers = 32, num_attention_heads = 32, intermediate_size = 11008,
    vocab_size = 32000, rms_norm_eps = 1e-6, torch_dtype = "bfloat16", rope_theta = 10000,
  })
  local header, at, total = {}, 0, 0
  for _, p in ipairs(q.models.shapes("llama", config)) do
    header[#header + 1] = ('"%s":{"dtype":"BF16","shape":[%s],"data_offsets":[%d,%d]}'):format(p.name, table.concat(p.shape, ","), at,
      at + 2 * p.numel)
    at, total = at + 2 * p.numel, total + p.numel
  end
  header = "{" .. table.concat(header, ",") .. "}"
  header = header .. (" "):rep(-#header % 8)
  local file = io.open(dir .. "/model.safetensors", "wb")
  local length = {}
  for i = 0, 7 do length[i + 1] = string.char(math.floor(#header / 256 ^ i) % 256) end
  file:write(table.concat(length), header)
  file:seek("set", 8 + #header + at - 1) -- a hole: the file takes no space
  file:write("\0")
  file:close()
  t.equal(total, 6738415616, "6.74 G parameters")
  local plan = q.disk.plan(dir)
  t.near(plan.model, total * 4, 0, "27 GB in f32")
  t.near(plan.block, (4 * 4096 ^ 2 + 3 * 4096 * 11008 + 2 * 4096) * 4, 0, "a block of 0.8 GB")
  t.near(plan.activations, 128 * 2048 * 4096 * 4, 0, "4.3 GB of activations")
  local scratch = require "quench.c.linalg".cholesky_scratch(11008)
  t.ok(scratch >= 11008 * 64 + 11008 * 64, "a Cholesky factor needs the inverses of its blocks and a band", scratch)
  t.near(plan.statistics, 5 * 11008 ^ 2 * 4 + scratch * 8 + 4 * 4096 * 11008 * 4, 0, "statistics with what the kernel says it needs")
  t.ok(plan.peak < 10e9 and plan.peak > plan.block + plan.activations, "a third of the model", plan.peak)
  t.ok(q.disk.plan(dir, {sequences = 16}).peak < 6e9, "and less with fewer sequences", q.disk.plan(dir, {sequences = 16}).peak)
  q.system.reset_peak()
  local before = q.system.memory().live
  local m = q.models.load(dir, {lazy = true})
  local all, inner = m:count()
  t.equal(all, total, "a lazy model counts its parameters")
  t.equal(inner, total - 2 * 32000 * 4096, "and those inside")
  local norm = m.file:read("model.layers.31.input_layernorm.weight")
  t.equal(norm:norm(), 0, "and reads single tensors")
  t.ok(q.system.memory().peak - before < 1e6, "without reading the others", q.system.memory().peak - before)
  remove(dir)
end)

tap.test("errors", function(t)
  local from, to = folder(), folder()
  q.models.new("gpt_neox", neox):save(from)
  local function fails(settings, pattern)
    t.fails(function() q.disk.quantize(from, to, settings) end, pattern, pattern, true)
  end
  fails({bits = 3}, "method 'gptq' needs calibration = token ids")
  fails({method = "rtn", head = true}, "head is not for models on disk")
  fails({method = "rtn", kv = "int8"}, "kv is not for models on disk")
  fails({method = "rtn", dtype = "f16"}, "dtype must be f32 or bf16, got f16")
  fails({method = "rnt"}, "no method rnt (did you mean 'rtn'?)")
  local tensors = q.load(from)
  tensors["extra.weight"] = q.zeros(1)
  q.save(from .. "/model.safetensors", tensors)
  t.fails(function() q.models.load(from, {lazy = true}) end, "no place: extra.weight", "a tensor too many, before anything is read", true)
  tensors["extra.weight"], tensors["gpt_neox.final_layer_norm.weight"] = nil, nil
  q.save(from .. "/model.safetensors", tensors)
  t.fails(function() q.models.load(from, {lazy = true}) end, "no tensor 'gpt_neox.final_layer_norm.weight'", "and one that is missing", true)
  q.models.new("gpt_neox", neox):save(from)
  t.fails(function() q.models.load(from, {lazy = true}):save(to) end, "a lazy model has nothing in memory", "saving a lazy model", true)
  remove(from, to)
end)

tap.done()

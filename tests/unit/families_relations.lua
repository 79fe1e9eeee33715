-- What the families have in common and what tells them apart: identities between neighbours, reach of windows,
-- mixtures of equal experts, the two forms of a state space, stretched rotary frequencies, names, errors.
local q = require "quench"
local json = require "quench.json"
local nn = require "quench.nn"
local rope = require "quench.models.rope"
local space = require "quench.models.state_space"
local tap = dofile "tests/tap.lua"
local gradcheck = dofile "tests/gradcheck.lua"

local small = {
  vocab_size = 31, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 4, num_key_value_heads = 2, intermediate_size = 24,
}
local function config(extra, without)
  local c = {}
  for key, value in pairs(small) do c[key] = value end
  for key, value in pairs(extra or {}) do c[key] = value end
  if without then c[without] = nil end
  return c
end

local ids = q.keep(q.tensor({{3, 1, 4, 1, 5, 9, 2, 6, 5, 11}}, "i32"))

local function normal(name, ...)
  local t = q.zeros(...)
  return t:normal_(q.stream(1, name))
end

local function worst(a, b) return (a - b):abs():max():item() end

-- A copy of m's parameters into a model of another family, by name; others stay.
local function lend(m, other)
  local mine = m:tensors()
  for name, p in pairs(other:tensors()) do
    if mine[name] then q.no_grad(p.copy_, p, mine[name]) end
  end
  return other
end

tap.test("neighbours", function(t)
  local a = q.models.new("olmo2", config{seed = 1})
  local b = lend(a, q.models.new("olmo3", config{seed = 2, sliding_window = 10}))
  t.equal(worst(a:forward(ids), b:forward(ids)), 0, "olmo3 with a window as long as the text is olmo2")
  local c = lend(a, q.models.new("olmo3", config{seed = 2, sliding_window = 2}))
  t.ok(worst(a:forward(ids), c:forward(ids)) > 1e-4, "and with a short one is not")
  local d = q.models.new("qwen3", config{seed = 1, head_dim = 4, rope_theta = 10000, rms_norm_eps = 1e-5})
  local e = lend(d, q.models.new("opensci", config{seed = 2, tie_word_embeddings = false}))
  t.equal(worst(d:forward(ids), e:forward(ids)), 0, "opensci without biases is qwen3")
  local f = q.models.new("llama", config{seed = 1})
  local g = lend(f, q.models.new("smollm3", config{seed = 2, no_rope_layers = {1, 1}, rope_theta = 10000, tie_word_embeddings = false}))
  t.equal(worst(f:forward(ids), g:forward(ids)), 0, "smollm3 with positions everywhere is llama")
end)

tap.test("reach", function(t)
  local m = q.models.new("olmo3", config{num_hidden_layers = 1, sliding_window = 3})
  local other = q.tensor({{3, 1, 7, 1, 5, 9, 2, 6, 5, 11}}, "i32") -- the third token differs
  local gap = (m:forward(ids) - m:forward(other)):abs():sum(3):view(10):totable()
  for i = 1, 10 do
    local reached = i >= 3 and i <= 5
    t.ok(reached == (gap[i] > 0), ("a window of 3 keys: place %d"):format(i), gap[i])
  end
  local n = q.models.new("smollm3", config{num_hidden_layers = 1, no_rope_layers = {0}})
  local mixed = q.tensor({{1, 9, 5, 3, 1, 4, 5, 2, 6, 11}}, "i32") -- the same before the last
  t.ok(worst(n:forward(ids):narrow(2, 10, 1), n:forward(mixed):narrow(2, 10, 1)) < 1e-5, "without positions the order before does not count")
end)

tap.test("experts", function(t)
  local m = q.models.new("mixtral", config{num_local_experts = 4, rms_norm_eps = 1e-6, rope_theta = 10000})
  local by_name = m:tensors()
  local dense = lend(m, q.models.new("llama", config()))
  for name, p in pairs(by_name) do
    local layer, w = name:match("layers%.(%d+)%.block_sparse_moe%.experts%.%d+%.(w%d)%.weight")
    if layer then
      local first = by_name[("model.layers.%s.block_sparse_moe.experts.0.%s.weight"):format(layer, w)]
      q.no_grad(p.copy_, p, first)
      local twin = dense:tensors()[("model.layers.%s.mlp.%s.weight"):format(layer, ({w1 = "gate_proj", w2 = "down_proj", w3 = "up_proj"})[w])]
      q.no_grad(twin.copy_, twin, first)
    end
  end
  t.ok(worst(m:forward(ids), dense:forward(ids)) < 1e-6, "a mixture of equal experts is the expert")
  local rows = 0
  nn.watching(function(record, x)
    if record.name:find("layers.1.block_sparse_moe.experts.%d+.w1") then rows = rows + x:size(1) end
  end, m.forward, m, ids)
  t.equal(rows, 20, "each token goes through two experts, and each expert sees its own rows")
  for _, r in ipairs(m:linears()) do
    if r.name:find("gate$") then t.ok(false, "the router is not quantized") end
  end
end)

-- E sum_e f_e P_e over the rows of all blocks, counted by hand from the router's inputs.
local function imbalance(m, tokens, experts, chosen)
  local rows, f, P = 0, {}, {}
  for e = 1, experts do f[e], P[e] = 0, 0 end
  nn.watching(function(record, x)
    if record.weight:size(1) ~= experts or record.quantize ~= false then return end
    for _, row in ipairs(q.linear(x, record.weight):totable()) do
      local sum, order = 0, {}
      for e = 1, experts do sum, order[e] = sum + math.exp(row[e]), e end
      table.sort(order, function(a, b) return row[a] > row[b] end)
      for k = 1, chosen do f[order[k]] = f[order[k]] + 1 end
      for e = 1, experts do P[e] = P[e] + math.exp(row[e]) / sum end
      rows = rows + 1
    end
  end, m.forward, m, tokens)
  local total, most = 0, 0
  for e = 1, experts do total, most = total + f[e] / rows * P[e] / rows, math.max(most, f[e] / rows) end
  return experts * total, most
end

tap.test("an even load of the experts", function(t)
  for family, extra in pairs{mixtral = {num_local_experts = 4}, olmoe = {num_experts = 8, num_experts_per_tok = 3}} do
    extra.dtype, extra.router_aux_loss_coef, extra.seed, extra.initializer_range = "f64", 0.5, 4, 0.3
    local m = q.models.new(family, config(extra))
    local experts, chosen = extra.num_local_experts or 8, m.config.num_experts_per_tok
    local inputs = ids:narrow(2, 1, 9)
    local gap = m:training_loss(ids):item() - m:loss(ids):item()
    t.near(gap, 0.5 * imbalance(m, inputs, experts, chosen), 1e-12, family .. ": the loss of training has the imbalance of the rows of all blocks")
    for name, p in pairs(m:tensors()) do
      if name:find("gate%.weight$") then q.no_grad(p.copy_, p, p:detach() * 0) end
    end
    t.near(m:training_loss(ids):item() - m:loss(ids):item(), 0.5 * chosen, 1e-12, family .. ": even probabilities give the number of choices")
    local without = q.models.new(family, config{router_aux_loss_coef = 0})
    t.equal(without:training_loss(ids):item(), without:loss(ids):item(), family .. ": and none where the coefficient is 0")
  end
  local plain = q.models.new("llama", config())
  t.equal(plain:training_loss(ids):item(), plain:loss(ids):item(), "a family without experts trains on its loss")
  t.fails(function() q.models.new("mixtral", {num_local_experts = 4, num_experts_per_tok = 5}) end,
    "models.mixtral: num_experts_per_tok 5 is more than the 4 experts", "more choices than experts", true)
end)

local data = q.data.language{vocab = 31, order = 1, branching = 4, seed = 1, train = 20000, validation = 2000}
for _, split in ipairs{"train", "validation"} do data:tokens(split) end -- made once and kept

tap.test("training evens the load", function(t)
  local function most_after(coefficient)
    local m = q.models.new("mixtral",
      config{num_local_experts = 4, num_experts_per_tok = 1, router_aux_loss_coef = coefficient, initializer_range = 0.2})
    local gates = 0
    for name, p in pairs(m:tensors()) do
      if name:find("gate%.weight$") then -- the first expert's row much longer than the others: it takes most tokens
        q.no_grad(function() p:narrow(1, 1, 1):copy_(p:detach():narrow(1, 1, 1) * 8) end)
        gates = gates + 1
      end
    end
    t.equal(gates, 2, "a router a block")
    q.train{model = m, data = data, steps = 60, batch = 8, context = 16, optim = function(p) return q.optim.adamw(p, {lr = 0.01}) end}
    local _, most = imbalance(m, data:batch("validation", 16, 16, q.stream(1, "load")), 4, 1)
    return most
  end
  local even, free = most_after(0.1), most_after(0)
  t.ok(even < 0.35, "the busiest of four experts has about a quarter of the tokens", even)
  t.ok(free > even + 0.05, "and more without the term", free)
end)

tap.test("beyond outliers", function(t)
  local shapes = q.models.shapes("ant", {size = "50M"})
  local total = 0
  for _, p in ipairs(shapes) do total = total + p.numel end
  t.equal(total, 49748760, "50M has 49.749 M parameters")
  for size, low in pairs{["125M"] = 119, ["350M"] = 340, ["500M"] = 490, ["760M"] = 745, ["1.5B"] = 1450} do
    local n = 0
    for _, p in ipairs(q.models.shapes("ant", {size = size})) do n = n + p.numel end
    t.ok(n > low * 1e6 and n < 1.06 * low * 1e6, "the size named " .. size, n)
  end
  local m = q.models.new("ant", {vocab_size = 31, num_hidden_layers = 2, num_attention_heads = 3, head_dim = 8})
  local before = m:forward(ids)
  local w = m:tensors()["blocks.0.attention.q.weight"]
  q.no_grad(w.copy_, w, w:detach() * 3)
  t.ok(worst(m:forward(ids), before) < 1e-5, "the length of queries does not count")
  t.near(m:tensors()["blocks.1.attention.scale"]:view(3):totable(), {8 ^ 0.5, 8 ^ 0.5, 8 ^ 0.5}, 1e-6, "their scale is learned, from sqrt(d)")
end)

tap.test("pythia's counts", function(t)
  local function count(size)
    local total, inner = 0, 0
    for _, p in ipairs(q.models.shapes("gpt_neox", {size = size})) do
      total = total + p.numel
      if p.role ~= "input" and p.role ~= "output" then inner = inner + p.numel end
    end
    return total, inner
  end
  local total, inner = count("pythia-160m")
  t.equal(total, 162322944, "160m")
  t.equal(inner, 85056000, "160m without embeddings")
  total, inner = count("pythia-70m")
  t.equal(total, 70426624, "70m")
  t.equal(inner, 18915328, "70m without embeddings")
end)

tap.test("the recurrence", function(t)
  local a, b = normal("a", 2, 5, 3, "f64"), normal("b", 2, 5, 3, "f64")
  local y, state, x, z = nn.scan(a, b):totable(), {}, a:totable(), b:totable()
  for i = 1, 2 do
    state[i] = {}
    for s = 1, 5 do
      state[i][s] = {}
      for c = 1, 3 do state[i][s][c] = x[i][s][c] * (s > 1 and state[i][s - 1][c] or 0) + z[i][s][c] end
    end
  end
  t.near(y, state, 1e-14, "is the loop")
  gradcheck(t, "scan", nn.scan, {a, b})
  gradcheck(t, "scan along the first axis", function(u, v) return nn.scan(u, v, 1) end, {a, b})
  local w = normal("w", 40, 700, "f64") * 0.5
  local long, steps = nn.scan(w, w, 1), w:select(1, 1)
  for s = 2, 40 do steps = w:select(1, s) * steps + w:select(1, s) end
  t.near(long:select(1, 40):totable(), steps:totable(), 1e-12, "many columns")
  t.fails(function() nn.scan(a, q.zeros(2, 5, "f64")) end, "scan: the factor f64 (2, 5, 3) and the input f64 (2, 5) differ", "shapes", true)
end)

tap.test("scattering rows", function(t)
  local rows = normal("rows", 3, 2, "f64")
  local at = q.tensor({2, 0, 2}, "i32")
  gradcheck(t, "scatter_rows", function(x) return nn.scatter_rows(x, at, 4):square() end, {rows})
  local r = rows:totable()
  t.near(nn.scatter_rows(rows, at, 4):totable(), {r[2], {0, 0}, {r[1][1] + r[3][1], r[1][2] + r[3][2]}, {0, 0}}, 1e-15, "adds where ids agree")
end)

tap.test("two forms of a state space", function(t)
  local B, T, H, P, G, N = 2, 7, 4, 3, 2, 5
  local x, dt = normal("x", B, T, H, P, "f64"), normal("dt", B, T, H, "f64"):softplus()
  local A, b, c = -normal("A", H, "f64"):exp(), normal("B", B, T, G, N, "f64"), normal("C", B, T, G, N, "f64")
  local whole = space.dual(x, dt, A, b, c, 7)
  for _, L in ipairs{1, 2, 3, 100} do t.ok(worst(space.dual(x, dt, A, b, c, L), whole) < 1e-12, "stretches of " .. L) end
  local parts = {}
  for h = 1, H do -- each head alone, as Mamba does it
    local g = math.ceil(h / 2)
    local wide = dt:select(3, h):view(B, T, 1):expand(B, T, P):contiguous()
    local decay = A:narrow(1, h, 1):view(1, 1):expand(P, N):contiguous()
    parts[h] = space.selective(x:select(3, h):contiguous(), wide, decay, b:select(3, g):contiguous(), c:select(3, g):contiguous()):view(B, T, 1, P)
  end
  t.ok(worst(q.concat(parts, 3), whole) < 1e-12, "the recurrence gives the same")
end)

tap.test("a state space in slices", function(t)
  local T, D, N = 64, 130, 16
  local x, dt = normal("x", 1, T, D), normal("dt", 1, T, D):softplus()
  local A, b, c = -normal("A", D, N):exp(), normal("B", 1, T, N), normal("C", 1, T, N)
  local whole = space.selective(x, dt, A, b, c)
  t.ok(worst(space.selective(x, dt, A, b, c, 1), whole) < 1e-6, "one channel and another at a time")
  q.system.reset_peak()
  local before = q.system.memory().live
  local y = space.selective(x, dt, A, b, c, 8 * T * N)
  t.ok(q.system.memory().peak - before < 6 * 8 * T * N * 4, "memory stays bounded", q.system.memory().peak - before)
  t.ok(worst(y, whole) < 1e-6, "eight at a time")
end)

tap.test("training a state space in slices", function(t)
  local function inputs(dtype, B, T, D, N)
    return {normal("x", B, T, D, dtype), normal("dt", B, T, D, dtype):softplus(), -normal("A", D, N, dtype):exp(),
      normal("B", B, T, N, dtype), normal("C", B, T, N, dtype)}
  end
  local function sliced(x, dt, A, b, c) return space.selective(x, dt, A, b, c, 2 * 2 * 3 * 2):square() end -- two channels at a time
  gradcheck(t, "selective", sliced, inputs("f64", 2, 3, 5, 2))
  local heads = {normal("x", 1, 5, 2, 3, "f64"), normal("dt", 1, 5, 2, "f64"):softplus(), -normal("A", 2, "f64"):exp(),
    normal("B", 1, 5, 1, 2, "f64"), normal("C", 1, 5, 1, 2, "f64")}
  gradcheck(t, "dual", function(x, dt, A, b, c) return space.dual(x, dt, A, b, c, 2):square() end, heads)

  local B, T, D, N = 2, 64, 64, 16
  local list = inputs("f32", B, T, D, N)
  for i, x in ipairs(list) do list[i] = x:detach():requires_grad() end
  local function gradients(slice)
    return q.scope(function()
      return q.grad(space.selective(list[1], list[2], list[3], list[4], list[5], slice):square():sum(), list)
    end)
  end
  local function peak(slice)
    q.system.reset_peak()
    local before = q.system.memory().live
    gradients(slice)
    collectgarbage() collectgarbage()
    return q.system.memory().peak - before
  end
  local states = B * T * D * N * 4 -- bytes of all states
  t.ok(peak(B * T * N * 4) < 2 * states, "no more than a slice of the states at a time", peak(B * T * N * 4) / states)
  t.ok(peak(B * T * N * D) > 4 * states, "which in one slice are many", peak(B * T * N * D) / states)
  local few, all = gradients(B * T * N * 4), gradients(B * T * N * D)
  for i = 1, 5 do t.ok(worst(few[i], all[i]) < 1e-5 * all[i]:abs():max():item(), "gradient " .. i .. " is the same", worst(few[i], all[i])) end
end)

tap.test("stretched rotary frequencies", function(t)
  local plain = rope.new(64, 500000).frequencies
  local scaling = {rope_type = "llama3", factor = 8, low_freq_factor = 1, high_freq_factor = 4, original_max_position_embeddings = 8192}
  local f = rope.new(64, 500000, scaling)
  for j = 1, 32 do
    local wave = 2 * math.pi / plain[j]
    if wave < 8192 / 4 then t.near(f.frequencies[j], plain[j], 1e-15, "a short wave is kept")
    elseif wave > 8192 then t.near(f.frequencies[j], plain[j] / 8, 1e-15, "a long one is divided")
    else
      local s = (8192 / wave - 1) / 3
      t.near(f.frequencies[j], (1 - s) * plain[j] / 8 + s * plain[j], 1e-15, "between: a ramp")
    end
  end
  local y = rope.new(64, 500000, {rope_type = "yarn", factor = 8, original_max_position_embeddings = 8192})
  t.near(y.factor, 0.1 * math.log(8) + 1, 1e-15, "yarn: cosines grow")
  t.near(y.frequencies[1], plain[1], 1e-15, "yarn: the fastest pair stays")
  t.near(y.frequencies[32], plain[32] / 8, 1e-15, "yarn: the slowest is divided")
  local l = rope.new(8, 100, {rope_type = "linear", factor = 2})
  t.near(l.frequencies[2], 100 ^ -0.25 / 2, 1e-15, "linear: all are divided")
  local function new(s) return function() q.models.new("llama", {rope_scaling = s}) end end
  t.fails(new{rope_type = "ntk", factor = 2}, "rope_type must be linear, llama3 or yarn, got ntk", "another kind", true)
  t.fails(new{rope_type = "llama3", factor = 2}, "llama3 needs the number original_max", "a missing number", true)
end)

-- ---- files ----------------------------------------------------------------

local function folder_with(raw, tensors)
  local folder = os.tmpname()
  os.remove(folder)
  q.system.make_directories(folder)
  q.system.write_file(folder .. "/config.json", json.encode(raw))
  q.save(folder .. "/model.safetensors", tensors)
  return folder
end

local function remove(folder) os.execute("rm -r " .. folder) end

tap.test("older names", function(t)
  local neox = "tests/fixtures/hf/gpt_neox"
  local raw, tensors = json.read(neox .. "/config.json"), q.load(neox .. "/model.safetensors")
  raw.rope_parameters, raw.dtype = nil, nil
  raw.rotary_pct, raw.rotary_emb_base, raw.torch_dtype = 0.25, 10000, "float16"
  tensors["gpt_neox.layers.0.attention.rotary_emb.inv_freq"] = q.zeros(1)
  tensors["gpt_neox.layers.0.attention.bias"] = q.zeros(1, 1, 4, 4)
  local folder = folder_with(raw, tensors)
  t.equal(worst(q.models.load(folder):forward(ids), q.models.load(neox):forward(ids)), 0, "gpt_neox with rotary_pct, and buffers in the file")
  remove(folder)

  local apertus = "tests/fixtures/hf/apertus"
  raw, tensors = json.read(apertus .. "/config.json"), q.load(apertus .. "/model.safetensors")
  local r = raw.rope_parameters
  raw.rope_theta, raw.rope_scaling, raw.rope_parameters = r.rope_theta, {type = r.rope_type}, nil
  for _, key in ipairs{"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"} do raw.rope_scaling[key] = r[key] end
  folder = folder_with(raw, tensors)
  t.equal(worst(q.models.load(folder):forward(ids), q.models.load(apertus):forward(ids)), 0, "apertus with rope_theta and rope_scaling")
  t.ok(worst(q.models.load(folder, {config = {rope_theta = 5e5}}):forward(ids), q.models.load(apertus):forward(ids)) > 1e-5,
    "the caller's rope_theta wins")
  remove(folder)

  local gpt2 = "tests/fixtures/hf/gpt2"
  local short = {}
  for name, x in pairs(q.load(gpt2 .. "/model.safetensors")) do short[name:gsub("^transformer%.", "")] = x end
  short["h.0.attn.bias"] = q.zeros(1, 1, 4, 4)
  folder = folder_with(json.read(gpt2 .. "/config.json"), short)
  t.equal(worst(q.models.load(folder):forward(ids), q.models.load(gpt2):forward(ids)), 0, "gpt2 without the names' first part")
  remove(folder)
end)

tap.test("what is written of a configuration", function(t)
  local nulls, folder = {nulls = true}, os.tmpname()
  os.remove(folder)
  q.models.new("smollm3", config{num_hidden_layers = 1}):save(folder)
  local written = json.read(folder .. "/config.json", nulls)
  for _, key in ipairs{"bos_token_id", "eos_token_id", "pad_token_id"} do
    t.ok(written[key] == json.null, key .. " of a model without a tokenizer is null, which is not the class's own")
  end
  remove(folder)
  local olmo3 = "tests/fixtures/hf/olmo3"
  local raw, tensors = json.read(olmo3 .. "/config.json"), q.load(olmo3 .. "/model.safetensors")
  local newer = q.models.load(olmo3):forward(ids)
  local parameters = raw.rope_parameters
  raw.rope_scaling, raw.rope_theta, raw.rope_parameters = parameters.full_attention, parameters.full_attention.rope_theta, nil
  raw.rope_scaling.rope_theta = nil
  folder = folder_with(raw, tensors)
  t.equal(worst(q.models.load(folder):forward(ids), newer), 0, "olmo3 with the older rope_scaling: of its full layers too")
  remove(folder)
  raw.rope_scaling, raw.rope_theta, raw.rope_parameters = nil, nil, parameters
  parameters.full_attention.rope_theta = 5
  folder = folder_with(raw, tensors)
  t.fails(function() q.models.load(folder) end, "rope_parameters.sliding_attention must have", "layers with a base of their own", true)
  remove(folder)
end)

tap.test("folders that do not fit", function(t)
  local dir = "tests/fixtures/hf/llama"
  local raw, tensors = json.read(dir .. "/config.json"), q.load(dir .. "/model.safetensors")
  local function fails(change, pattern, what)
    local c, w = json.decode(json.encode(raw)), {}
    for name, x in pairs(tensors) do w[name] = x end
    change(c, w)
    local folder = folder_with(c, w)
    t.fails(function() q.models.load(folder) end, pattern, what, true)
    remove(folder)
  end
  fails(function(_, w) w["model.norm.weight"] = nil end, "has no tensor 'model.norm.weight'", "a tensor is missing")
  fails(function(_, w) w["model.layers.0.self_attn.q_proj.bias"] = q.zeros(32) end,
    "holds 1 tensors that its config.json gives no place: model.layers.0.self_attn.q_proj.bias", "a tensor is left over")
  local function spoil(_, w)
    w["model.norm.weight"] = w["model.norm.weight"]:clone()
    w["model.norm.weight"]:narrow(1, 3, 1):fill_(0 / 0)
  end
  fails(spoil, "tensor 'model.norm.weight' has values that are NaN or infinite", "NaN")
  local spoilt = {}
  for name, x in pairs(tensors) do spoilt[name] = x end
  spoil(nil, spoilt)
  local folder = folder_with(raw, spoilt)
  local m = q.models.load(folder, {finite = false})
  t.ok(not m:tensors()["model.norm.weight"]:all_finite(), "which can be asked for")
  remove(folder)
  fails(function(c) c.num_hidden_layers = 1 end, "gives no place: model.layers.1", "too few layers in config.json")
  fails(function(c) c.intermediate_size = 48 end, "has shape (64, 32), the configuration asks for (48, 32)", "another shape")
  fails(function(c) c.architectures = {"BertModel"} end, "no family for the class BertModel", "another class")
  fails(function(c) c.hidden_act = "mish" end, "hidden_act must be one of", "another activation")
  t.fails(function() q.models.load("tests/fixtures") end, "has no config.json", "no model's folder", true)
  t.fails(function() q.models.new("lama") end, "unknown family 'lama' (did you mean 'llama'?)", "a misspelt family", true)
  t.fails(function() q.models.new("llama", {hiden_size = 3}) end, "did you mean 'hidden_size'?", "a misspelt key", true)
  t.fails(function() q.models.new("ant", {size = "51M"}) end, "models.ant: no size '51M' (did you mean '50M'?)", "a misspelt size", true)
  t.fails(function() q.models.new("llama", {num_attention_heads = 6, num_key_value_heads = 4, hidden_size = 48}) end,
    "6 heads cannot share 4 key-value heads evenly", "heads that do not divide", true)
end)

tap.test("dropout", function(t)
  local m = q.models.new("llama", config{hidden_dropout = 0.5})
  local still = m:forward(ids)
  t.equal(worst(m:forward(ids), still), 0, "not while evaluating")
  m.dropout_stream = q.stream(1, "dropout")
  t.ok(worst(m:forward(ids), still) > 1e-3, "while training")
end)

tap.done()

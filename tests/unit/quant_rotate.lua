--- quant_rotate.lua - a rotated model has the same function, in every family that can be rotated.

local q = require "quench"
local tap = dofile "tests/tap.lua"
local quant = q.quant
local rotate = require "quench.quant.rotate"

local ids = q.tensor({{3, 7, 1, 19, 4, 4, 11, 2}, {0, 5, 6, 7, 8, 1, 2, 3}}, "i32")

local configs = {
  gpt_neox = {hidden_size = 48, num_attention_heads = 3, num_hidden_layers = 2},
  gpt2 = {n_embd = 48, n_head = 4, n_layer = 2, n_positions = 16},
  llama = {hidden_size = 48, num_attention_heads = 4, num_key_value_heads = 2, num_hidden_layers = 2, tie_word_embeddings = true},
  qwen3 = {hidden_size = 48, num_attention_heads = 4, num_key_value_heads = 2, head_dim = 8, num_hidden_layers = 2},
  smollm3 = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 4},
  olmo = {hidden_size = 48, num_attention_heads = 4, num_hidden_layers = 2},
  opensci = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 2},
  apertus = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 2},
  plainlm = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 2},
  mixtral = {hidden_size = 32, num_attention_heads = 4, num_key_value_heads = 2, num_hidden_layers = 2, num_local_experts = 4,
    intermediate_size = 48},
  olmoe = {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 2, num_experts = 4, num_experts_per_tok = 2, intermediate_size = 48},
}

--- A small model whose gains and shifts are not the ones of initialisation, with one outlier channel.
local function model_of(family)
  local config = {vocab_size = 23, dtype = "f64", seed = 2, initializer_range = 0.2}
  for k, v in pairs(configs[family]) do config[k] = v end
  local m = q.models.new(family, config)
  local s = q.stream(4, family)
  q.no_grad(function()
    for _, p in ipairs(m:named_parameters()) do
      local t = p.tensor:detach()
      if p.name:find("norm.*weight") or p.name:find("ln_.*weight") then t:uniform_(s, 0.5, 1.5) end
      if p.name:find("bias$") then t:normal_(s, 0, 0.3) end
      if p.name:find("norm.*weight") and t:size(1) > 5 then t[5] = 12 end
    end
  end)
  return m
end

tap.test("Hadamard matrices: entries +-1, H H^T = n I", function(t)
  -- QuaRot's table (12 to 172), fields of p^2 elements (100, 244), and multiples by 2^k: Llama's 11008 = 64 x 172, Pythia's 768
  for _, n in ipairs{12, 20, 28, 36, 40, 52, 60, 100, 108, 140, 156, 172, 244, 312, 768} do
    local unit = q.zeros(n, n, "f64")
    for i = 1, n do unit[i][i] = 1 end
    local H = quant.hadamard(unit) * n ^ 0.5
    t.near((H:abs() - 1):abs():max():item(), 0, 1e-12, n .. ": entries")
    H = H:round()
    t.equal((H:matmul(H:t()) - unit * n):abs():max():item(), 0, n .. ": rows are orthogonal")
  end
  t.ok(quant.hadamard(q.ones(1, 11008)):isfinite():min():item() == 1, "11008, Llama's MLP")
end)

tap.test("matrices", function(t)
  for _, n in ipairs{12, 20, 28, 48, 64} do
    for _, kind in ipairs{"hadamard", "random"} do
      for _, keep_ones in ipairs{false, true} do
        local Q = rotate.matrix(n, {kind = kind, seed = 3}, keep_ones)
        local gap = Q:t():matmul(Q)
        for i = 1, n do gap[i][i] = gap[i][i] - 1 end
        t.near(gap:abs():max():item(), 0, 1e-12, ("%s, %d%s: orthogonal"):format(kind, n, keep_ones and ", ones kept" or ""))
        if keep_ones then t.near((q.ones(1, n, "f64"):matmul(Q) - 1):abs():max():item(), 0, 1e-12, "ones stay ones") end
        t.ok(Q:abs():max():item() < 0.9, "entries are spread out")
      end
    end
  end
end)

for family in pairs(configs) do
  for _, kind in ipairs{"hadamard", "random"} do
    tap.test(family .. ", " .. kind, function(t)
      local m = model_of(family)
      local before = m:forward(ids)
      local turned, Q = quant.rotate(m, {kind = kind, seed = 1})
      local after = turned:forward(ids)
      t.near((after - before):abs():max():item() / before:abs():max():item(), 0, 1e-11, "the function is the same")
      t.equal((m:forward(ids) - before):abs():max():item(), 0, "the model itself is as it was")
      t.equal(Q:size(1), m:linears()[1].weight:size(2), "the matrix comes with it")
      local one, other = m:hidden(ids)[2], turned:hidden(ids)[2]
      t.near((one:matmul(Q) - other):abs():max():item(), 0, 1e-11, "its hidden states are those, turned")
    end)
  end
end

for family in pairs(configs) do
  tap.test(family .. ", online too", function(t)
    local m = model_of(family)
    local before = m:forward(ids)
    local turned = quant.rotate(m, {seed = 1, online = true})
    local after = turned:forward(ids)
    t.near((after - before):abs():max():item() / before:abs():max():item(), 0, 1e-11, "the function is the same")
    t.equal((turned:clone():forward(ids) - after):abs():max():item(), 0, "a copy's too")
    local plain, layers = quant.rotate(m, {seed = 1}), turned.rotations.layers
    local changed = 0
    for i, r in ipairs(turned:linears()) do
      local other = plain:linears()[i]
      if (r.weight - other.weight):abs():max():item() > 1e-6 then changed = changed + 1 end
      t.ok(not r.turn == not layers[r.name], r.name .. (r.turn and ": input turned" or ": input as it is"))
    end
    local experts = m.config.num_local_experts or m.config.num_experts
    t.equal(changed, #turned:linears() > 0 and m:layers() * (2 + (experts or 1)), "v (or qkv), o and down have absorbed it")
  end)
end

tap.test("online: what quantizers see, and files", function(t)
  local m = model_of("llama")
  q.no_grad(function() -- outliers where only the online rotations reach: in the MLP, and in the values
    for i = 1, 2 do
      m.blocks[i].mlp.up.weight:detach():narrow(1, 7, 1):copy_(m.blocks[i].mlp.up.weight:narrow(1, 7, 1) * 30)
      m.blocks[i].attention.v.weight:detach():narrow(1, 3, 1):copy_(m.blocks[i].attention.v.weight:narrow(1, 3, 1) * 30)
    end
  end)
  local four = quant.int(4, {convention = "restricted"})
  local function damage(model, o)
    local small = quant.quantize(model, o)
    return q.no_grad(function() return ((small:forward(ids) - m:forward(ids)) ^ 2):mean():item() end)
  end
  local plain, turned = quant.rotate(m), quant.rotate(m, {online = true})
  local w4a4 = {method = "rtn", format = four, activations = four}
  t.ok(damage(turned, w4a4) < 0.5 * damage(plain, w4a4), ("W4A4 %.3g, offline alone %.3g"):format(damage(turned, w4a4), damage(plain, w4a4)))
  local gptq = {bits = 4, calibration = ids}
  local record, seen = turned.blocks[1].mlp.down, nil
  local wide
  require("quench.nn").watching(function(r, x) if r == record then seen = x end end, function() turned:forward(ids) end)
  require("quench.nn").watching(function(r, x) if r == plain.blocks[1].mlp.down then wide = x end end, function() plain:forward(ids) end)
  t.near((seen - quant.hadamard(wide, turned.rotations.layers[record.name].block)):abs():max():item(), 0, 1e-10, "calibration sees turned inputs")
  local small, report = quant.quantize(turned:clone("f32"), gptq)
  local folder = os.tmpname()
  os.remove(folder)
  for _, packed in ipairs{false, true} do
    if packed then quant.save(small, report, folder) else small:save(folder) end
    local again = q.models.load(folder)
    t.equal((again:forward(ids) - small:forward(ids)):abs():max():item(), 0, packed and "packed files keep it" or "and plain ones")
    t.equal(q.json.read(folder .. "/config.json").quantization_config.quant_method, "quench", "and say whose they are")
    os.execute("rm -r '" .. folder .. "'")
  end
  t.fails(function() quant.rotate(turned) end, "online rotations already", "not twice")
  local clipped = q.models.new("olmo", {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, vocab_size = 9, clip_qkv = 3})
  t.fails(function() quant.rotate(clipped, {online = true}) end, "clips values", "values that are clipped")
end)

tap.test("online: the cache", function(t)
  local m = q.models.new("llama", {vocab_size = 23, dtype = "f64", seed = 2, initializer_range = 0.2, hidden_size = 48, num_attention_heads = 4,
    num_key_value_heads = 2, num_hidden_layers = 2})
  q.no_grad(function() -- one large value channel
    for i = 1, 2 do
      local w = m.blocks[i].attention.v.weight:detach():narrow(1, 3, 1)
      w:copy_(w * 30)
    end
  end)
  local plain, turned = quant.rotate(m), quant.rotate(m, {online = true})
  local function damage(model, kv, hadamard) -- weights as they are: groups of one
    local small = quant.quantize(model, {method = "rtn", format = quant.int(8, {group = 1}), kv = kv, kv_hadamard = hadamard})
    return q.no_grad(function() return ((small:forward(ids) - m:forward(ids)) ^ 2):mean():item() end)
  end
  -- 8 bits: at 3, these heads of 12 channels gain nothing
  local one, other = damage(turned, quant.int(8)), damage(plain, quant.int(8))
  t.ok(one < 0.5 * other, ("8-bit cache %.3g, offline alone %.3g"):format(one, other))
  t.near(damage(turned, quant.int(3), true) / damage(plain, quant.int(3), true), 1, 1e-9,
    "kv_hadamard turns keys, and values only where they are not turned yet")
end)

tap.test("outliers are spread", function(t)
  local m = model_of("gpt_neox")
  local turned = quant.rotate(m)
  local function largest(model)
    local h = model:hidden(ids)[2]
    return (h:abs():max(-1) / h:square():mean(-1):sqrt()):mean():item()
  end
  local four = quant.int(4, {convention = "restricted"})
  local function damage(model)
    local small = quant.quantize(model, {method = "rtn", format = four, activations = four})
    return q.no_grad(function() return ((small:forward(ids) - m:forward(ids)) ^ 2):mean():item() end)
  end
  t.ok(damage(turned) < damage(m), ("W4A4 error %.3g, turned %.3g (largest over rms: %.3g, %.3g)"):format(damage(m), damage(turned),
    largest(m), largest(turned)))
  local folder = os.tmpname()
  os.remove(folder)
  turned:save(folder)
  t.near((q.models.load(folder, {dtype = "f64"}):forward(ids) - turned:forward(ids)):abs():max():item(), 0, 0,
    "a rotated model is an ordinary model file")
  os.execute("rm -r '" .. folder .. "'")
end)

tap.test("errors", function(t)
  t.fails(function() quant.rotate(q.models.new("olmo2", {hidden_size = 32, num_attention_heads = 4, num_hidden_layers = 1, vocab_size = 9})) end,
    "families that can be rotated", "norms behind the layers")
  t.fails(function() quant.rotate(q.models.new("llama", {hidden_size = 92, num_attention_heads = 2, num_hidden_layers = 1, vocab_size = 9})) end,
    "hadamard", "a width without a matrix")
end)

tap.done()

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

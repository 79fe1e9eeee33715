-- quench tests/parity/transformers/write.lua OUT: small random models of every family that transformers has, saved in its
-- layout, plain, quantized and in bf16, with our logits in OUT/expect.safetensors. read_back.py judges them.
local q = require "quench"
local out = arg[1] or error "write.lua OUT"

local function sized(more)
  local c = {vocab_size = 96, hidden_size = 48, num_hidden_layers = 4, num_attention_heads = 4, intermediate_size = 80, max_position_embeddings = 64}
  for key, value in pairs(more) do c[key] = value end
  return c
end

local families = {
  gpt_neox = sized{num_attention_heads = 3, rotary_pct = 0.25},
  gpt2 = {vocab_size = 96, n_embd = 48, n_layer = 3, n_head = 4, n_positions = 64},
  llama = sized{num_key_value_heads = 2},
  olmo = sized{clip_qkv = 0.5},
  olmo2 = sized{},
  olmo3 = sized{sliding_window = 8},
  smollm3 = sized{num_key_value_heads = 2},
  apertus = sized{num_key_value_heads = 2},
  qwen3 = sized{num_key_value_heads = 2, head_dim = 16},
  mixtral = sized{num_key_value_heads = 2, num_local_experts = 4, num_experts_per_tok = 2},
  olmoe = sized{num_experts = 4, num_experts_per_tok = 2},
  mamba = {vocab_size = 96, hidden_size = 48, num_hidden_layers = 2},
  mamba2 = {vocab_size = 96, hidden_size = 48, num_hidden_layers = 2, head_dim = 16, num_heads = 6, n_groups = 2},
}

q.seed(3)
local expect = {}

local function keep(name, model, ids, options)
  model:save(out .. "/" .. name, options)
  if options then model = q.models.load(out .. "/" .. name) end
  expect[name .. ".ids"], expect[name .. ".logits"] = ids, model:forward(ids)
end

for family, config in pairs(families) do
  local model, ids = q.models.new(family, config), (q.rand(2, 24) * 96):floor():to("i32")
  q.no_grad(function() -- no zeros and ones: every bias and every norm's weight counts
    for _, p in ipairs(model:parameters()) do p:copy_(p + q.randn(p:shape()) * 0.05) end
  end)
  keep(family, model, ids)
  if family == "llama" or family == "gpt_neox" then
    q.quant.quantize(model, {bits = 4, group = 16, calibration = ids})
    keep(family .. "-gptq4", model, ids)
    keep(family .. "-bf16", model, ids, {dtype = "bf16"})
  end
end
q.save(out .. "/expect.safetensors", expect)

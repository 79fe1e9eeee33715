--- gpt_neox.lua - GPT-NeoX, the architecture of Pythia (Biderman et al., 2023).
-- Parallel residual, LayerNorm with bias, rotary embedding on the first part of each head,
-- exact GELU, biases everywhere but in the head, untied. Init N(0, initializer_range).

local blocks = require "quench.models.blocks"
local nn = require "quench.nn"
local options = require "quench.options"
local rope = require "quench.models.rope"

local function size(hidden, layers, heads, vocab)
  return {hidden_size = hidden, num_hidden_layers = layers, num_attention_heads = heads, vocab_size = vocab or 50304}
end

local family = {
  doc = "GPT-NeoX, the architecture of Pythia: parallel residual, rotary on part of each head.",
  source = "Biderman et al., 2023",
  architectures = {"GPTNeoXForCausalLM"}, model_type = "gpt_neox",
  sizes = {
    ["pythia-14m"] = size(128, 6, 4), ["pythia-31m"] = size(256, 6, 8), ["pythia-70m"] = size(512, 6, 8),
    ["pythia-160m"] = size(768, 12, 12), ["pythia-410m"] = size(1024, 24, 16), ["pythia-1b"] = size(2048, 16, 8),
    ["pythia-1.4b"] = size(2048, 24, 16), ["pythia-2.8b"] = size(2560, 32, 32), ["pythia-6.9b"] = size(4096, 32, 32, 50432),
    ["pythia-12b"] = size(5120, 36, 40, 50688),
  },
}

family.spec = options.spec("models.gpt_neox", {
  {"vocab_size", "integer", default = 50304, min = 1, doc = "tokens"},
  {"hidden_size", "integer", default = 768, min = 1, max = 2 ^ 20, doc = "width D"},
  {"num_hidden_layers", "integer", default = 12, min = 1, max = 4096, doc = "blocks"},
  {"num_attention_heads", "integer", default = 12, min = 1, max = 2 ^ 16, doc = "heads"},
  {"intermediate_size", "integer", min = 1, doc = "width of the MLP [4 hidden_size]"},
  {"max_position_embeddings", "integer", default = 2048, min = 1, doc = "longest context"},
  {"rotary_pct", "number", default = 0.25, min = 0, max = 1, doc = "share of each head that turns"},
  {"rotary_emb_base", "number", default = 10000, above = 0, doc = "theta of the rotary embedding"},
  {"layer_norm_eps", "number", default = 1e-5, above = 0, doc = "epsilon of the norms"},
  {"use_parallel_residual", "boolean", default = true, doc = "attention and MLP side by side"},
  {"tie_word_embeddings", "boolean", default = false, doc = "one matrix for input and output"},
  {"hidden_act", "string", default = "gelu", choices = blocks.activation_names(), doc = "activation of the MLP"},
  {"initializer_range", "number", default = 0.02, min = 0, doc = "deviation of the initial weights"},
  blocks.dropout_entry,
})

--- Checks and completes a configuration.
function family.config(given)
  local c = family.spec(given)
  c.intermediate_size = c.intermediate_size or 4 * c.hidden_size
  if c.hidden_size % c.num_attention_heads ~= 0 then
    options.fail("models.gpt_neox: hidden_size %d is not a multiple of num_attention_heads %d", c.hidden_size, c.num_attention_heads)
  end
  return c
end

--- The names of newer config.json files.
function family.from_file(raw, given)
  local r = raw.rope_parameters or {}
  given.rotary_pct = given.rotary_pct or r.partial_rotary_factor
  given.rotary_emb_base = given.rotary_emb_base or r.rope_theta
end

function family.to_file(c, raw)
  raw.rope_parameters = {rope_type = "default", rope_theta = c.rotary_emb_base, partial_rotary_factor = c.rotary_pct}
end

function family.layers(c) return c.num_hidden_layers end

local function norm(m, name, layer)
  return blocks.layer_norm(m, name, m.config.hidden_size, m.config.layer_norm_eps, layer, {bias = true})
end

function family.input(m, c)
  m.embed_in = blocks.embedding(m, "gpt_neox.embed_in", c.vocab_size, c.hidden_size, c.initializer_range)
  m.rope = rope.new(math.floor(c.hidden_size / c.num_attention_heads * c.rotary_pct), c.rotary_emb_base)
end

function family.layer(m, c, i)
  local p, d, std = ("gpt_neox.layers.%d."):format(i - 1), c.hidden_size, c.initializer_range
  local function linear(name, rows, columns) return m:add_linear(p .. name, i, rows, columns, {std = std, bias = true}) end
  return {
    name = p .. "attention", layer = i, kind = "attention",
    norm1 = norm(m, p .. "input_layernorm", i), norm2 = norm(m, p .. "post_attention_layernorm", i),
    qkv = linear("attention.query_key_value", 3 * d, d), dense = linear("attention.dense", d, d),
    mlp = blocks.mlp(m, p .. "mlp.", i, {"dense_h_to_4h", "dense_4h_to_h"},
      {inner = c.intermediate_size, act = c.hidden_act, std = std, bias = true}),
  }
end

function family.output(m, c)
  m.final_norm = norm(m, "gpt_neox.final_layer_norm")
  m.embed_out = blocks.head(m, "embed_out", c.tie_word_embeddings and m.embed_in, c.vocab_size, c.hidden_size, c.initializer_range)
end

-- (B, T, D) to (B, T, D). The rows of the fused projection are [q k v] head by head.
local function attention(b, x, m, residual)
  local c = m.config
  local B, T, H = x:size(1), x:size(2), c.num_attention_heads
  local width = c.hidden_size / H
  local packed
  if m.rope.rotated > 0 then
    local cos, sin = m:rotary(m.rope, T)
    packed = nn.turned(b.qkv, x, cos, sin, width, m.rope.rotated, 3, 2, m.rope.interleaved) -- [q k] turn, v does not
  else
    packed = nn.linear(b.qkv, x)
  end
  local query, key, value = packed:view(B, T, H, 3 * width):split({width, width, width}, 4)
  return nn.linear(b.dense, nn.attention(query, key, value, width ^ -0.5):view(B, T, c.hidden_size), residual)
end

function family.embed(m, ids) return blocks.embed(m, m.embed_in, ids) end

function family.block(m, i, h)
  local b = m.blocks[i]
  if blocks.joins(m) then
    local mixed = nn.module(b, attention, blocks.norm(b.norm1, h), m, h)
    return blocks.feed(b.mlp, blocks.norm(b.norm2, m.config.use_parallel_residual and h or mixed), mixed)
  end
  local mixed = blocks.add(m, h, nn.module(b, attention, blocks.norm(b.norm1, h), m))
  return blocks.add(m, mixed, blocks.feed(b.mlp, blocks.norm(b.norm2, m.config.use_parallel_residual and h or mixed)))
end

function family.norm(m, h) return blocks.norm(m.final_norm, h) end

function family.head(m, h) return nn.linear(m.embed_out, h) end

return family

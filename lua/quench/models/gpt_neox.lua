--- gpt_neox.lua - GPT-NeoX, the architecture of Pythia (Biderman et al., 2023).
-- Parallel residual, LayerNorm with bias, rotary embedding on the first part of each head,
-- exact GELU, biases everywhere but in the head, untied. Init N(0, initializer_range).

local nn = require "quench.nn"
local options = require "quench.options"
local q = require "quench"

local family = {architectures = {"GPTNeoXForCausalLM"}}

local spec = options.spec("models.gpt_neox", {
  {"vocab_size", "integer", default = 50304, min = 1, doc = "tokens"},
  {"hidden_size", "integer", default = 768, min = 1, doc = "width D"},
  {"num_hidden_layers", "integer", default = 12, min = 1, doc = "blocks"},
  {"num_attention_heads", "integer", default = 12, min = 1, doc = "heads"},
  {"intermediate_size", "integer", min = 1, doc = "width of the MLP [4 hidden_size]"},
  {"max_position_embeddings", "integer", default = 2048, min = 1, doc = "longest context"},
  {"rotary_pct", "number", default = 0.25, min = 0, max = 1, doc = "share of each head that turns"},
  {"rotary_emb_base", "number", default = 10000, above = 0, doc = "theta of the rotary embedding"},
  {"layer_norm_eps", "number", default = 1e-5, above = 0, doc = "epsilon of the norms"},
  {"use_parallel_residual", "boolean", default = true, doc = "attention and MLP side by side"},
  {"tie_word_embeddings", "boolean", default = false, doc = "one matrix for input and output"},
  {"hidden_act", "string", default = "gelu", choices = {"gelu", "gelu_tanh", "gelu_new", "relu", "silu"}, doc = "activation of the MLP"},
  {"hidden_dropout", "number", default = 0, min = 0, below = 1, doc = "share of embeddings and block outputs dropped in training"},
  {"initializer_range", "number", default = 0.02, min = 0, doc = "deviation of the initial weights"},
})

--- Checks and completes a configuration.
function family.config(given)
  local c = spec(given)
  c.intermediate_size = c.intermediate_size or 4 * c.hidden_size
  if c.hidden_size % c.num_attention_heads ~= 0 then
    options.fail("models.gpt_neox: hidden_size %d is not a multiple of num_attention_heads %d", c.hidden_size, c.num_attention_heads)
  end
  return c
end

function family.layers(c) return c.num_hidden_layers end

function family.build(m, c)
  local d, std = c.hidden_size, c.initializer_range
  local function norm(name, layer)
    return {weight = m:add(name .. ".weight", {d}, {value = 1, layer = layer}), bias = m:add(name .. ".bias", {d}, {value = 0, layer = layer})}
  end
  m.embed_in = m:add("gpt_neox.embed_in.weight", {c.vocab_size, d}, {std = std, role = "input", decay = true})
  m.blocks = {}
  for i = 1, c.num_hidden_layers do
    local p = ("gpt_neox.layers.%d."):format(i - 1)
    local function linear(name, rows, columns) return m:add_linear(p .. name, i, rows, columns, {std = std, bias = true}) end
    m.blocks[i] = {
      norm1 = norm(p .. "input_layernorm", i), norm2 = norm(p .. "post_attention_layernorm", i),
      qkv = linear("attention.query_key_value", 3 * d, d), dense = linear("attention.dense", d, d),
      up = linear("mlp.dense_h_to_4h", c.intermediate_size, d), down = linear("mlp.dense_4h_to_h", d, c.intermediate_size),
    }
  end
  m.final_norm = norm("gpt_neox.final_layer_norm")
  if c.tie_word_embeddings then m.embed_out = {name = "embed_out", weight = m.embed_in, role = "output"}
  else m.embed_out = m:add_linear("embed_out", nil, c.vocab_size, d, {std = std, role = "output"}) end
end

local function layer_norm(m, x, norm) return nn.layer_norm(x, norm.weight, norm.bias, m.config.layer_norm_eps) end

-- (B, T, D) to (B, T, D). The rows of the fused projection are [q k v] head by head.
local function attention(m, b, x)
  local c = m.config
  local B, T, H = x:size(1), x:size(2), c.num_attention_heads
  local width = c.hidden_size / H
  local rotated = math.floor(width * c.rotary_pct)
  local qkv = nn.linear(b.qkv, x):view(B, T, H, 3 * width)
  local query, key, value = qkv:split({width, width, width}, 4)
  if rotated > 0 then
    local cos, sin = m:rotary("rotary", T, rotated, c.rotary_emb_base)
    query, key = nn.rotary(query, cos, sin, rotated), nn.rotary(key, cos, sin, rotated)
  end
  return nn.linear(b.dense, nn.attention(query, key, value, width ^ -0.5):view(B, T, c.hidden_size))
end

local activations = {gelu = "gelu", gelu_tanh = "gelu_tanh", gelu_new = "gelu_tanh", relu = "relu", silu = "silu"}

local function mlp(m, b, x)
  local h = nn.linear(b.up, x)
  return nn.linear(b.down, h[activations[m.config.hidden_act]](h))
end

function family.embed(m, ids) return m:dropout(q.embedding(m.embed_in, ids), m.config.hidden_dropout) end

function family.block(m, i, h)
  local b = m.blocks[i]
  local p = m.config.hidden_dropout
  local mixed = h + m:dropout(attention(m, b, layer_norm(m, h, b.norm1)), p)
  if m.config.use_parallel_residual then return mixed + m:dropout(mlp(m, b, layer_norm(m, h, b.norm2)), p) end
  return mixed + m:dropout(mlp(m, b, layer_norm(m, mixed, b.norm2)), p)
end

function family.norm(m, h) return layer_norm(m, h, m.final_norm) end

function family.head(m, h) return nn.linear(m.embed_out, h) end

return family

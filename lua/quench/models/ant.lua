--- ant.lua - the architecture of "Beyond Outliers" (Vlassis et al., 2025), as in the authors' training code: norms on the
-- outputs of attention and MLP, q and k of each head on the unit sphere with a learned scale a head, ReLU^2, one
-- key-value head for three heads, rotary embedding of base 1024 on neighbouring pairs, tied head, no biases.

local blocks = require "quench.models.blocks"
local nn = require "quench.nn"
local options = require "quench.options"
local rope = require "quench.models.rope"

local HEAD = 128 -- width of a head, at all sizes

-- The 50M layout is the authors'; the others are the layouts that reach the named counts (docs/models.md).
local function size(layers, heads) return {num_hidden_layers = layers, num_attention_heads = heads} end
local family = {
  doc = "The architecture of Beyond Outliers: output norms, unit-length q and k with a learned scale, ReLU^2, tied.",
  source = "Vlassis et al., 2025, section 4",
  architectures = {"QuenchAntForCausalLM"}, model_type = "quench_ant",
  sizes = {
    ["50M"] = size(4, 6), ["125M"] = size(6, 9), ["350M"] = size(12, 12), ["500M"] = size(18, 12), ["760M"] = size(18, 15),
    ["1.5B"] = size(18, 21),
  },
}

family.spec = options.spec("models.ant", {
  {"vocab_size", "integer", default = 32000, min = 1, doc = "tokens"},
  {"num_hidden_layers", "integer", default = 4, min = 1, max = 4096, doc = "blocks"},
  {"num_attention_heads", "integer", default = 6, min = 1, max = 2 ^ 16, doc = "heads; the width is heads * head_dim"},
  {"kv_ratio", "integer", default = 3, min = 1, doc = "heads that share a key-value head"},
  {"head_dim", "integer", default = HEAD, min = 2, max = 2 ^ 16, doc = "width of a head"},
  {"expansion", "number", default = 4, above = 0, doc = "width of the MLP over the model's"},
  {"rope_theta", "number", default = 1024, above = 0, doc = "base of the rotary embedding"},
  {"rms_norm_eps", "number", default = 1.1920929e-07, above = 0, doc = "epsilon of the norms (torch's default in f32)"},
  {"max_position_embeddings", "integer", default = 1024, min = 1, doc = "longest context"},
  {"tie_word_embeddings", "boolean", default = true, doc = "one matrix for input and output"},
  {"initializer_range", "number", default = 0.02, min = 0, doc = "deviation of the initial weights"},
  blocks.dropout_entry,
})

function family.config(given)
  local c = family.spec(given)
  if c.num_attention_heads % c.kv_ratio ~= 0 then
    options.fail("models.ant: num_attention_heads %d is not a multiple of kv_ratio %d", c.num_attention_heads, c.kv_ratio)
  end
  return c
end

function family.layers(c) return c.num_hidden_layers end

local function width(c) return c.num_attention_heads * c.head_dim end

local function norm(m, name, layer) return blocks.rms_norm(m, name, width(m.config), m.config.rms_norm_eps, layer) end

function family.input(m, c)
  m.embedding = blocks.embedding(m, "embedding", c.vocab_size, width(c), c.initializer_range)
  m.rope = rope.new(c.head_dim, c.rope_theta, nil, true)
end

function family.layer(m, c, i)
  local p, d, std = ("blocks.%d."):format(i - 1), width(c), c.initializer_range
  local narrow, inner = d / c.kv_ratio, math.floor(c.expansion * d)
  local function linear(name, rows, columns, group)
    return m:add_linear(p .. name, i, rows, columns, {std = std, group = group and p .. group})
  end
  return {
    name = p .. "attention", layer = i, kind = "attention",
    q = linear("attention.q", d, d, "qkv"), k = linear("attention.k", narrow, d, "qkv"), v = linear("attention.v", narrow, d, "qkv"),
    o = linear("attention.o", d, d),
    scale = m:add(p .. "attention.scale", {1, 1, c.num_attention_heads, 1}, {value = math.sqrt(c.head_dim), layer = i}),
    norm1 = norm(m, p .. "attention_norm", i),
    mlp = {act = "relu2", up = linear("mlp.up", inner, d), down = linear("mlp.down", d, inner)},
    norm2 = norm(m, p .. "mlp_norm", i),
  }
end

function family.output(m, c)
  m.final_norm = norm(m, "norm")
  m.lm_head = blocks.head(m, "head", c.tie_word_embeddings and m.embedding, c.vocab_size, width(c), c.initializer_range)
end

-- Each head (B, T, H, W) to length 1; 1e-24 stands for torch's bound of 1e-12 on the length.
local function unit(x) return x * (x:square():sum(4, true) + 1e-24):rsqrt() end

local function attention(b, x, m)
  local c = m.config
  local B, T, H, W = x:size(1), x:size(2), c.num_attention_heads, c.head_dim
  local query, key, value = nn.linear(b.q, x):view(B, T, H, W), nn.linear(b.k, x):view(B, T, H / c.kv_ratio, W), nn.linear(b.v, x)
  query, key = blocks.turn(m, m.rope, query, key)
  local y = nn.attention(unit(query) * b.scale, unit(key), value:view(B, T, H / c.kv_ratio, W), 1)
  return nn.linear(b.o, y:view(B, T, H * W))
end

function family.embed(m, ids) return blocks.embed(m, m.embedding, ids) end

function family.block(m, i, h)
  local b = m.blocks[i]
  h = blocks.add_normed(m, h, b.norm1, nn.module(b, attention, h, m))
  return blocks.add_normed(m, h, b.norm2, blocks.feed(b.mlp, h))
end

function family.norm(m, h) return blocks.norm(m.final_norm, h) end

function family.head(m, h) return nn.linear(m.lm_head, h) end

return family

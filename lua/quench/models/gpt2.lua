--- gpt2.lua - GPT-2 (Radford et al., 2019): learned positions, pre-norm LayerNorm, fused q, k, v, tied head.
-- The file keeps its matrices as (in, out); here they are (out, in) as everywhere.

local blocks = require "quench.models.blocks"
local nn = require "quench.nn"
local options = require "quench.options"
local q = require "quench"

local family = {
  doc = "GPT-2: learned positions, LayerNorm, tied head.",
  source = "Radford et al., 2019",
  architectures = {"GPT2LMHeadModel"}, model_type = "gpt2",
  sizes = {
    ["124m"] = {}, ["355m"] = {n_embd = 1024, n_layer = 24, n_head = 16}, ["774m"] = {n_embd = 1280, n_layer = 36, n_head = 20},
    ["1.5b"] = {n_embd = 1600, n_layer = 48, n_head = 25},
  },
}

family.spec = options.spec("models.gpt2", {
  {"vocab_size", "integer", default = 50257, min = 1, doc = "tokens"},
  {"n_embd", "integer", default = 768, min = 1, max = 2 ^ 20, doc = "width D"},
  {"n_layer", "integer", default = 12, min = 1, max = 4096, doc = "blocks"},
  {"n_head", "integer", default = 12, min = 1, doc = "heads"},
  {"n_inner", "integer", min = 1, doc = "width of the MLP [4 n_embd]"},
  {"n_positions", "integer", default = 1024, min = 1, doc = "longest context"},
  {"layer_norm_epsilon", "number", default = 1e-5, above = 0, doc = "epsilon of the norms"},
  {"activation_function", "string", default = "gelu_new", choices = blocks.activation_names(), doc = "activation of the MLP"},
  {"scale_attn_by_inverse_layer_idx", "boolean", default = false, doc = "scores of block i divided by i"},
  {"tie_word_embeddings", "boolean", default = true, doc = "one matrix for input and output"},
  {"initializer_range", "number", default = 0.02, min = 0, doc = "deviation of the initial weights"},
  blocks.dropout_entry,
})

function family.config(given)
  local c = family.spec(given)
  c.n_inner = c.n_inner or 4 * c.n_embd
  if c.n_embd % c.n_head ~= 0 then options.fail("models.gpt2: n_embd %d is not a multiple of n_head %d", c.n_embd, c.n_head) end
  return c
end

function family.layers(c) return c.n_layer end

local function norm(m, name, layer)
  return blocks.layer_norm(m, name, m.config.n_embd, m.config.layer_norm_epsilon, layer, {bias = true})
end

function family.input(m, c)
  m.wte = blocks.embedding(m, "transformer.wte", c.vocab_size, c.n_embd, c.initializer_range)
  m.wpe = blocks.embedding(m, "transformer.wpe", c.n_positions, c.n_embd, c.initializer_range)
end

-- The projections back into the residual stream start smaller: std / sqrt(2 blocks).
function family.layer(m, c, i)
  local prefix, d, std = ("transformer.h.%d."):format(i - 1), c.n_embd, c.initializer_range
  local out_std = std / math.sqrt(2 * c.n_layer)
  local function linear(name, rows, columns, deviation)
    return m:add_linear(prefix .. name, i, rows, columns, {std = deviation, bias = true, transposed = true})
  end
  return {
    name = prefix .. "attn", layer = i, kind = "attention",
    norm1 = norm(m, prefix .. "ln_1", i), qkv = linear("attn.c_attn", 3 * d, d, std), out = linear("attn.c_proj", d, d, out_std),
    norm2 = norm(m, prefix .. "ln_2", i),
    mlp = blocks.mlp(m, prefix .. "mlp.", i, {"c_fc", "c_proj"},
      {d = d, inner = c.n_inner, act = c.activation_function, std = std, out_std = out_std, bias = true, transposed = true}),
  }
end

function family.output(m, c)
  m.final_norm = norm(m, "transformer.ln_f")
  m.lm_head = blocks.head(m, "lm_head", c.tie_word_embeddings and m.wte, c.vocab_size, c.n_embd, c.initializer_range)
end

function family.embed(m, ids)
  local time = ids:size(2)
  if time > m.config.n_positions then options.fail("gpt2: %d tokens, but only %d positions are learned", time, m.config.n_positions) end
  return m:dropout(q.embedding(m.wte, ids) + m.wpe:narrow(1, 1, time), m.config.hidden_dropout)
end

local function attention(b, x, m, i, residual)
  local c = m.config
  local B, T, width = x:size(1), x:size(2), c.n_embd / c.n_head
  local query, key, value = nn.linear(b.qkv, x):view(B, T, 3 * c.n_head, width):split({c.n_head, c.n_head, c.n_head}, 3)
  local scale = width ^ -0.5 / (c.scale_attn_by_inverse_layer_idx and i or 1)
  return nn.linear(b.out, nn.attention(query, key, value, scale):view(B, T, c.n_embd), residual)
end

function family.block(m, i, h)
  local b = m.blocks[i]
  if blocks.joins(m) then
    h = nn.module(b, attention, blocks.norm(b.norm1, h), m, i, h)
    return blocks.feed(b.mlp, blocks.norm(b.norm2, h), h)
  end
  h = blocks.add(m, h, nn.module(b, attention, blocks.norm(b.norm1, h), m, i))
  return blocks.add(m, h, blocks.feed(b.mlp, blocks.norm(b.norm2, h)))
end

function family.norm(m, h) return blocks.norm(m.final_norm, h) end

function family.head(m, h) return nn.linear(m.lm_head, h) end

return family

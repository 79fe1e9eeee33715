--- decoder.lua - the frame of the Llama-like families: embedding, blocks, final norm, head.
--
-- decoder.new{name=, doc=, source=, architectures=, defaults=, extra=, ...} gives a family; what a family does
-- differently it passes or overrides:
--   defaults   values that differ from Llama's          extra    further entries of the option spec
--   attention  function(m, c, i) -> further fields of `how` for blocks.attention (qk_norm, rope, window, ...)
--   norms      {first, second}: names of the block's norms
--   placement  "pre": h + f(norm(h));  "post": h + norm(f(h))
--   mlp, feed  maker (m, c, i, prefix, std) -> record, and its function (m, record, x)
--   norm       maker of a norm (m, name, width, layer)
--   activations  choices for hidden_act
--   inner      function(c) -> the MLP's width where none is given
--   complete   function(c): derives and checks values

local blocks = require "quench.models.blocks"
local nn = require "quench.nn"
local options = require "quench.options"
local rope = require "quench.models.rope"

local decoder = {}

--- The options of Llama, with the family's defaults and extras.
local function make_spec(def)
  local entries = {
    {"vocab_size", "integer", default = 32000, min = 1, doc = "tokens"},
    {"hidden_size", "integer", default = 512, min = 1, max = 2 ^ 20, doc = "width D"},
    {"num_hidden_layers", "integer", default = 8, min = 1, max = 4096, doc = "blocks"},
    {"num_attention_heads", "integer", default = 8, min = 1, max = 2 ^ 16, doc = "heads"},
    {"num_key_value_heads", "integer", min = 1, doc = "key-value heads, shared by groups of heads [num_attention_heads]"},
    {"head_dim", "integer", min = 1, max = 2 ^ 16, doc = "width of a head [hidden_size / num_attention_heads]"},
    {"intermediate_size", "integer", min = 1, doc = "width of the MLP [8/3 hidden_size, to a multiple of 64]"},
    {"max_position_embeddings", "integer", default = 2048, min = 1, doc = "longest context"},
    {"rope_theta", "number", default = 10000, above = 0, doc = "base of the rotary embedding"},
    {"rope_scaling", "table", doc = "stretching: {rope_type = 'llama3' | 'linear' | 'yarn', factor =, ...}", check = rope.complaint},
    {"rms_norm_eps", "number", default = 1e-6, above = 0, doc = "epsilon of the norms"},
    {"hidden_act", "string", default = "silu", choices = blocks.activation_names(), doc = "activation of the MLP"},
    {"attention_bias", "boolean", default = false, doc = "biases on the attention's linears"},
    {"mlp_bias", "boolean", default = false, doc = "biases on the MLP's linears"},
    {"tie_word_embeddings", "boolean", default = false, doc = "one matrix for input and output"},
    {"initializer_range", "number", default = 0.02, min = 0, doc = "deviation of the initial weights"},
    blocks.dropout_entry,
  }
  local defaults, kept = def.defaults or {}, {}
  for _, entry in ipairs(entries) do
    if defaults[entry[1]] ~= nil then entry.default = defaults[entry[1]] end
    if entry[1] == "hidden_act" and def.activations then entry.choices = def.activations end
    kept[#kept + 1] = entry
  end
  for _, entry in ipairs(def.extra or {}) do kept[#kept + 1] = entry end
  return options.spec("models." .. def.name, kept)
end

--- Fills what follows from the width and checks what must divide.
local function complete(name, c, inner)
  c.num_key_value_heads = c.num_key_value_heads or c.num_attention_heads
  if not c.head_dim then
    if c.hidden_size % c.num_attention_heads ~= 0 then
      options.fail("models.%s: hidden_size %d is not a multiple of num_attention_heads %d", name, c.hidden_size, c.num_attention_heads)
    end
    c.head_dim = c.hidden_size / c.num_attention_heads
  end
  c.intermediate_size = c.intermediate_size or inner and inner(c) or math.ceil(8 / 3 * c.hidden_size / 64) * 64
end

--- The rope that all blocks share.
function decoder.rope(m, c)
  m.rope = m.rope or rope.new(c.head_dim, c.rope_theta, c.rope_scaling)
  return m.rope
end

local function llama_mlp(m, c, i, prefix, std)
  return blocks.glu(m, prefix .. "mlp.", i, {"gate_proj", "up_proj", "down_proj"},
    {inner = c.intermediate_size, act = c.hidden_act, std = std, bias = c.mlp_bias})
end

--- A row of a family's table of sizes.
function decoder.size(width, layers, heads, kv_heads, inner, more)
  local c = {
    hidden_size = width, num_hidden_layers = layers, num_attention_heads = heads, num_key_value_heads = kv_heads,
    intermediate_size = inner,
  }
  for key, value in pairs(more or {}) do c[key] = value end
  return c
end

function decoder.new(def)
  local spec = make_spec(def)
  local family = {
    architectures = def.architectures, model_type = def.model_type or def.name, spec = spec, sizes = def.sizes, doc = def.doc,
    source = def.source, to_file = def.to_file,
  }
  local names = def.norms or {"input_layernorm", "post_attention_layernorm"}
  local norm = def.norm or function(m, name, width, layer) return blocks.rms_norm(m, name, width, m.config.rms_norm_eps, layer) end
  local make_mlp = def.mlp or llama_mlp
  local feed = def.feed or function(_, mlp, x, residual) return blocks.feed_glu(mlp, x, residual) end

  function family.config(given)
    local c = spec(given)
    complete(def.name, c, def.inner)
    if def.complete then def.complete(c) end
    return c
  end

  function family.layers(c) return c.num_hidden_layers end

  function family.input(m, c)
    m.embed_tokens = blocks.embedding(m, "model.embed_tokens", c.vocab_size, c.hidden_size, c.initializer_range)
  end

  function family.layer(m, c, i)
    local prefix, std = ("model.layers.%d."):format(i - 1), c.initializer_range
    local how = {
      heads = c.num_attention_heads, kv_heads = c.num_key_value_heads, width = c.head_dim, eps = c.rms_norm_eps, std = std,
      bias = c.attention_bias, out_bias = c.attention_bias, rope = decoder.rope(m, c),
    }
    if def.attention then
      for key, value in pairs(def.attention(m, c, i)) do how[key] = value end
    end
    if how.rope == false then how.rope = nil end
    local b = {}
    b.norm1 = norm(m, prefix .. names[1], c.hidden_size, i)
    b.attention = blocks.attention(m, prefix .. "self_attn.", i, how)
    b.norm2 = norm(m, prefix .. names[2], c.hidden_size, i)
    b.mlp = make_mlp(m, c, i, prefix, std)
    return b
  end

  function family.output(m, c)
    m.final_norm = norm(m, "model.norm", c.hidden_size)
    m.lm_head = blocks.head(m, "lm_head", c.tie_word_embeddings and m.embed_tokens, c.vocab_size, c.hidden_size, c.initializer_range)
  end

  function family.embed(m, ids) return blocks.embed(m, m.embed_tokens, ids) end

  if def.placement == "post" then
    function family.block(m, i, h)
      local b = m.blocks[i]
      h = blocks.add_normed(m, h, b.norm1, blocks.attend(m, b.attention, h))
      return blocks.add_normed(m, h, b.norm2, feed(m, b.mlp, h))
    end
  else
    function family.block(m, i, h)
      local b = m.blocks[i]
      if blocks.joins(m) and not def.feed then
        h = blocks.attend(m, b.attention, blocks.norm(b.norm1, h), h)
        return feed(m, b.mlp, blocks.norm(b.norm2, h), h)
      end
      h = blocks.add(m, h, blocks.attend(m, b.attention, blocks.norm(b.norm1, h)))
      return blocks.add(m, h, feed(m, b.mlp, blocks.norm(b.norm2, h)))
    end
  end

  function family.norm(m, h) return blocks.norm(m.final_norm, h) end

  function family.head(m, h) return nn.linear(m.lm_head, h) end

  return family
end

return decoder

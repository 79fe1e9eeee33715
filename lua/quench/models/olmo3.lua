--- olmo3.lua - OLMo 3: OLMo 2 with a sliding window on three of four layers. The layers that see everything are the
-- ones whose rotary embedding is stretched for long contexts; the windowed ones keep the plain frequencies.

local decoder = require "quench.models.decoder"
local options = require "quench.options"
local rope = require "quench.models.rope"

return decoder.new{
  doc = "OLMo 3: OLMo 2 with a sliding window on three of four layers.",
  source = "OLMo team, 2025",
  name = "olmo3", architectures = {"Olmo3ForCausalLM"},
  defaults = {vocab_size = 100352, rope_theta = 500000, max_position_embeddings = 8192},
  extra = {
    {"sliding_window", "integer", default = 4096, min = 1, doc = "keys that a windowed layer sees"},
    {"layer_types", "list", doc = "'sliding_attention' or 'full_attention' a layer [every fourth is full]"},
  },
  norms = {"post_attention_layernorm", "post_feedforward_layernorm"}, placement = "post",
  complete = function(c)
    local types = c.layer_types or {}
    for i = 1, c.num_hidden_layers do
      if not c.layer_types then types[i] = i % 4 == 0 and "full_attention" or "sliding_attention" end
      if types[i] ~= "full_attention" and types[i] ~= "sliding_attention" then
        options.fail("models.olmo3: layer_types[%d] is %s; it must be 'full_attention' or 'sliding_attention'", i, tostring(types[i]))
      end
    end
    c.layer_types = types
  end,
  attention = function(m, c, i)
    if c.layer_types[i] == "full_attention" then return {qk_norm = "width"} end
    m.plain_rope = m.plain_rope or rope.new(c.head_dim, c.rope_theta)
    return {qk_norm = "width", rope = m.plain_rope, window = c.sliding_window}
  end,
  -- transformers 5 gives each kind of layer its own rotary parameters
  to_file = function(c, raw)
    raw.rope_parameters = {full_attention = raw.rope_parameters, sliding_attention = {rope_type = "default", rope_theta = c.rope_theta}}
  end,
  sizes = {["7b"] = decoder.size(4096, 32, 32, nil, 11008)},
}

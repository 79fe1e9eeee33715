--- smollm3.lua - SmolLM3: Llama without rotary positions on every fourth layer (NoPE). rope_theta differs between the
-- published stages (docs/models.md): give the stage's own, or the loss is silently ruined.

local decoder = require "quench.models.decoder"
local options = require "quench.options"

return decoder.new{
  doc = "SmolLM3: Llama without positions on every fourth layer.",
  source = "Hugging Face, 2025",
  name = "smollm3", architectures = {"SmolLM3ForCausalLM"},
  defaults = {vocab_size = 128256, rope_theta = 50000, tie_word_embeddings = true, max_position_embeddings = 4096},
  extra = {
    {"no_rope_layer_interval", "integer", default = 4, min = 1, doc = "every how manieth layer has no positions"},
    {"no_rope_layers", "list", doc = "1 a layer with rotary positions, 0 a layer without [from the interval]"},
  },
  complete = function(c)
    if not c.no_rope_layers then
      c.no_rope_layers = {}
      for i = 1, c.num_hidden_layers do c.no_rope_layers[i] = i % c.no_rope_layer_interval ~= 0 and 1 or 0 end
    end
    if #c.no_rope_layers ~= c.num_hidden_layers then
      options.fail("models.smollm3: no_rope_layers has %d entries for %d layers", #c.no_rope_layers, c.num_hidden_layers)
    end
  end,
  attention = function(_, c, i)
    if c.no_rope_layers[i] == 0 then return {rope = false} end
    return {}
  end,
  sizes = {["3b"] = decoder.size(2048, 36, 16, 4, 11008)},
}

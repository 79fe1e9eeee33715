--- olmo2.lua - OLMo 2 (OLMo team, 2024): norms on the outputs of attention and MLP, inside the residual branch, and RMS
-- norms on all of q and all of k before the rotary embedding.

local decoder = require "quench.models.decoder"

return decoder.new{
  doc = "OLMo 2: norms on the outputs, RMS norms on q and k.",
  source = "OLMo team, 2024",
  name = "olmo2", architectures = {"Olmo2ForCausalLM"},
  defaults = {vocab_size = 100352, rope_theta = 500000, max_position_embeddings = 4096},
  norms = {"post_attention_layernorm", "post_feedforward_layernorm"}, placement = "post",
  attention = function() return {qk_norm = "width"} end,
  sizes = {
    ["1b"] = decoder.size(2048, 16, 16, nil, 8192), ["7b"] = decoder.size(4096, 32, 32, nil, 11008),
    ["13b"] = decoder.size(5120, 40, 40, nil, 13824), ["32b"] = decoder.size(5120, 64, 40, 8, 27648),
  },
}

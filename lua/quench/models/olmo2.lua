--- olmo2.lua - OLMo 2 (OLMo team, 2024): norms on the outputs of attention and MLP, inside the residual branch, and RMS
-- norms on all of q and all of k before the rotary embedding.

local decoder = require "quench.models.decoder"

return decoder.new{
  name = "olmo2", architectures = {"Olmo2ForCausalLM"},
  defaults = {vocab_size = 100352, rope_theta = 500000, max_position_embeddings = 4096},
  norms = {"post_attention_layernorm", "post_feedforward_layernorm"}, placement = "post",
  attention = function() return {qk_norm = "width"} end,
  sizes = {
    ["1b"] = {hidden_size = 2048, num_hidden_layers = 16, num_attention_heads = 16, intermediate_size = 8192},
    ["7b"] = {hidden_size = 4096, num_hidden_layers = 32, num_attention_heads = 32, intermediate_size = 11008},
    ["13b"] = {hidden_size = 5120, num_hidden_layers = 40, num_attention_heads = 40, intermediate_size = 13824},
    ["32b"] = {hidden_size = 5120, num_hidden_layers = 64, num_attention_heads = 40, num_key_value_heads = 8, intermediate_size = 27648},
  },
}

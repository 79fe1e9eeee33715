--- llama.lua - Llama (Touvron et al., 2023): pre-norm, RMS norm, rotary positions, SwiGLU, grouped queries.
-- Also Amber, SmolLM2 and TinyLlama, which differ in sizes only; Llama 3 stretches its rotary embedding.

local decoder = require "quench.models.decoder"

return decoder.new{
  name = "llama", architectures = {"LlamaForCausalLM"},
  sizes = {
    ["amber-7b"] = {hidden_size = 4096, num_hidden_layers = 32, num_attention_heads = 32, intermediate_size = 11008},
    ["smollm2-135m"] = {vocab_size = 49152, hidden_size = 576, num_hidden_layers = 30, num_attention_heads = 9, num_key_value_heads = 3,
      intermediate_size = 1536, rope_theta = 100000, rms_norm_eps = 1e-5, tie_word_embeddings = true, max_position_embeddings = 8192},
    ["tinyllama-1.1b"] = {hidden_size = 2048, num_hidden_layers = 22, num_attention_heads = 32, num_key_value_heads = 4,
      intermediate_size = 5632, rms_norm_eps = 1e-5},
  },
}

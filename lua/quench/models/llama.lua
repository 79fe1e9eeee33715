--- llama.lua - Llama (Touvron et al., 2023): pre-norm, RMS norm, rotary positions, SwiGLU, grouped queries.
-- Also Amber, SmolLM2 and TinyLlama, which differ in sizes only; Llama 3 stretches its rotary embedding.

local decoder = require "quench.models.decoder"

return decoder.new{
  doc = "Llama, also Amber, SmolLM2, TinyLlama: RMS norm, SwiGLU, rotary, grouped queries.",
  source = "Touvron et al., 2023",
  name = "llama", architectures = {"LlamaForCausalLM"},
  sizes = {
    ["amber-7b"] = decoder.size(4096, 32, 32, nil, 11008),
    ["smollm2-135m"] = decoder.size(576, 30, 9, 3, 1536,
      {vocab_size = 49152, rope_theta = 100000, rms_norm_eps = 1e-5, tie_word_embeddings = true, max_position_embeddings = 8192}),
    ["tinyllama-1.1b"] = decoder.size(2048, 22, 32, 4, 5632, {rms_norm_eps = 1e-5}),
  },
}

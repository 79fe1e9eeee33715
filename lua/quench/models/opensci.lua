--- opensci.lua - open-sci-ref (LAION, 2025): Llama with biases on every linear of the blocks and an RMS norm on each head of q and k.

local decoder = require "quench.models.decoder"

return decoder.new{
  doc = "open-sci-ref: Llama with biases and RMS norms on the heads of q and k.",
  source = "LAION, 2025",
  name = "opensci", architectures = {"OpensciForCausalLM", "OpenSciForCausalLM"},
  defaults = {
    vocab_size = 50304, rms_norm_eps = 1e-5, attention_bias = true, mlp_bias = true, tie_word_embeddings = true,
    max_position_embeddings = 4096,
  },
  extra = {{"qk_layernorm", "boolean", default = true, doc = "RMS norms on the heads of q and k"}},
  attention = function(_, c) return {qk_norm = c.qk_layernorm and "head" or nil} end,
  sizes = {
    ["0.4b"] = decoder.size(1024, 22, 16, nil, 3840),
    ["1.7b"] = decoder.size(2048, 24, 32, nil, 8192),
  },
}

--- olmo.lua - OLMo 1 (Groeneveld et al., 2024): Llama with LayerNorm that has no parameters, and a bound on q, k, v.

local blocks = require "quench.models.blocks"
local decoder = require "quench.models.decoder"

return decoder.new{
  doc = "OLMo 1: LayerNorm without parameters, bounded q, k, v.",
  source = "Groeneveld et al., 2024",
  name = "olmo", architectures = {"OlmoForCausalLM"},
  defaults = {vocab_size = 50304},
  extra = {{"clip_qkv", "number", above = 0, doc = "bound on |q|, |k|, |v| [none]"}},
  norm = function(m, name, width, layer) return blocks.layer_norm(m, name, width, 1e-5, layer, {plain = true}) end,
  attention = function(_, c) return {clip = c.clip_qkv} end,
  sizes = {
    ["1b"] = decoder.size(2048, 16, 16, nil, 8192, {tie_word_embeddings = true}), ["7b"] = decoder.size(4096, 32, 32, nil, 11008),
  },
}

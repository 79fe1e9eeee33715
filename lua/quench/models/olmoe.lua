--- olmoe.lua - OLMoE (Muennighoff et al., 2024): pre-norm, RMS norms over all of q and k, many small experts.

local decoder = require "quench.models.decoder"
local moe = require "quench.models.moe"

return moe.family{
  doc = "OLMoE: many small experts.",
  source = "Muennighoff et al., 2024",
  name = "olmoe", architectures = {"OlmoeForCausalLM"},
  defaults = {vocab_size = 50304, rms_norm_eps = 1e-5, max_position_embeddings = 4096},
  experts = {"num_experts", 64}, chosen = 8, coefficient = 0.01,
  place = {"mlp.", "gate", "experts.%d.", "gate_proj", "up_proj", "down_proj"},
  normalise = function(c) return c.norm_topk_prob end,
  extra = {
    {"norm_topk_prob", "boolean", default = false, doc = "the weights of the chosen experts sum to 1"},
    {"clip_qkv", "number", above = 0, doc = "bound on |q|, |k|, |v| [none]"},
  },
  attention = function(_, c) return {qk_norm = "width", clip = c.clip_qkv} end,
  sizes = {["1b-7b"] = decoder.size(2048, 16, 16, nil, 1024)},
}

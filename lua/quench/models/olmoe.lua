--- olmoe.lua - OLMoE (Muennighoff et al., 2024): pre-norm, RMS norms over all of q and k, many small experts.

local decoder = require "quench.models.decoder"
local moe = require "quench.models.moe"

return decoder.new{
  doc = "OLMoE: many small experts.",
  source = "Muennighoff et al., 2024",
  name = "olmoe", architectures = {"OlmoeForCausalLM"},
  defaults = {vocab_size = 50304, rms_norm_eps = 1e-5, max_position_embeddings = 4096},
  extra = {
    {"num_experts", "integer", default = 64, min = 1, max = 4096, doc = "experts a block"},
    {"num_experts_per_tok", "integer", default = 8, min = 1, doc = "experts a token goes through"},
    {"norm_topk_prob", "boolean", default = false, doc = "the weights of the chosen experts sum to 1"},
    {"clip_qkv", "number", above = 0, doc = "bound on |q|, |k|, |v| [none]"},
  },
  attention = function(_, c) return {qk_norm = "width", clip = c.clip_qkv} end,
  mlp = function(m, c, i, prefix, std)
    return moe.make(m, prefix .. "mlp.", i, {"gate", "experts.%d.", "gate_proj", "up_proj", "down_proj"}, {
      experts = c.num_experts, chosen = c.num_experts_per_tok, inner = c.intermediate_size, act = c.hidden_act, std = std,
      normalise = c.norm_topk_prob,
    })
  end,
  feed = function(_, mlp, x) return moe.feed(mlp, x) end,
  sizes = {["1b-7b"] = decoder.size(2048, 16, 16, nil, 1024)},
}

--- mixtral.lua - Mixtral (Jiang et al., 2024): Llama whose MLP is a mixture of experts; the weights of the chosen ones sum to 1.

local moe = require "quench.models.moe"

return moe.family{
  doc = "Mixtral: Llama with a mixture of experts for an MLP.",
  source = "Jiang et al., 2024",
  name = "mixtral", architectures = {"MixtralForCausalLM"},
  defaults = {rope_theta = 1000000, rms_norm_eps = 1e-5, max_position_embeddings = 32768},
  experts = {"num_local_experts", 8}, chosen = 2, coefficient = 0.001,
  place = {"block_sparse_moe.", "gate", "experts.%d.", "w1", "w3", "w2"},
  normalise = function() return true end,
  extra = {{"sliding_window", "integer", min = 1, doc = "keys that a query sees [all]"}},
  attention = function(_, c) return {window = c.sliding_window} end,
}

--- mixtral.lua - Mixtral (Jiang et al., 2024): Llama whose MLP is a mixture of experts; the weights of the chosen ones sum to 1.

local decoder = require "quench.models.decoder"
local moe = require "quench.models.moe"

return decoder.new{
  doc = "Mixtral: Llama with a mixture of experts for an MLP.",
  source = "Jiang et al., 2024",
  name = "mixtral", architectures = {"MixtralForCausalLM"},
  defaults = {rope_theta = 1000000, rms_norm_eps = 1e-5, max_position_embeddings = 32768},
  extra = {
    {"num_local_experts", "integer", default = 8, min = 1, max = 4096, doc = "experts a block"},
    {"num_experts_per_tok", "integer", default = 2, min = 1, doc = "experts a token goes through"},
    {"sliding_window", "integer", min = 1, doc = "keys that a query sees [all]"},
  },
  attention = function(_, c) return {window = c.sliding_window} end,
  mlp = function(m, c, i, prefix, std)
    return moe.make(m, prefix .. "block_sparse_moe.", i, {"gate", "experts.%d.", "w1", "w3", "w2"}, {
      experts = c.num_local_experts, chosen = c.num_experts_per_tok, inner = c.intermediate_size, act = c.hidden_act, std = std,
      normalise = true,
    })
  end,
  feed = function(_, mlp, x) return moe.feed(mlp, x) end,
}

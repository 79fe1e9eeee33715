--- plainlm.lua - the modern variant of plainLM (Ajroldi, 2025): Llama with neighbouring rotary pairs of base 500,000, an MLP of
-- 8/3 rounded up to 256, and output projections that start smaller, std / sqrt(2 blocks).

local blocks = require "quench.models.blocks"
local decoder = require "quench.models.decoder"
local rope = require "quench.models.rope"

local function out_std(c) return c.initializer_range / math.sqrt(2 * c.num_hidden_layers) end

return decoder.new{
  doc = "plainLM's modern variant: Llama with neighbouring rotary pairs and smaller output projections at the start.",
  source = "Ajroldi, 2025",
  name = "plainlm", model_type = "quench_plainlm", architectures = {"QuenchPlainLMForCausalLM"},
  defaults = {vocab_size = 50304, hidden_size = 768, num_hidden_layers = 12, num_attention_heads = 12, rope_theta = 500000},
  inner = function(c) return math.ceil(8 / 3 * c.hidden_size / 256) * 256 end,
  attention = function(m, c)
    m.paired_rope = m.paired_rope or rope.new(c.head_dim, c.rope_theta, c.rope_scaling, true)
    return {rope = m.paired_rope, out_std = out_std(c)}
  end,
  mlp = function(m, c, i, prefix, std)
    return blocks.glu(m, prefix .. "mlp.", i, {"gate_proj", "up_proj", "down_proj"},
      {inner = c.intermediate_size, act = c.hidden_act, std = std, out_std = out_std(c), bias = c.mlp_bias})
  end,
}

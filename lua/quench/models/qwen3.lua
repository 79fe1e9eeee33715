--- qwen3.lua - Qwen3 (Qwen team, 2025): Llama with an RMS norm on each head of q and k, and heads of a width of their own.

local decoder = require "quench.models.decoder"

return decoder.new{
  doc = "Qwen3: RMS norms on the heads of q and k.",
  source = "Qwen team, 2025",
  name = "qwen3", architectures = {"Qwen3ForCausalLM"},
  defaults = {vocab_size = 151936, rope_theta = 1000000, max_position_embeddings = 32768, head_dim = 128},
  extra = {
    {"use_sliding_window", "boolean", default = false, doc = "a window on the layers from max_window_layers on"},
    {"sliding_window", "integer", min = 1, doc = "keys that a windowed layer sees"},
    {"max_window_layers", "integer", default = 28, min = 0, doc = "layers that see everything"},
  },
  attention = function(_, c, i)
    return {qk_norm = "head", window = c.use_sliding_window and i > c.max_window_layers and c.sliding_window or nil}
  end,
  sizes = {["0.6b"] = decoder.size(1024, 28, 16, 8, 3072, {tie_word_embeddings = true})},
}

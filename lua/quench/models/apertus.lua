--- apertus.lua - Apertus (Swiss AI, 2025): pre-norm, RMS norm on each head of q and k, and an MLP without gate whose
-- activation, xIELU (Huang and Schlag, 2025), has two learned slopes.

local blocks = require "quench.models.blocks"
local decoder = require "quench.models.decoder"
local nn = require "quench.nn"
local q = require "quench"

local BETA, EPS = 0.5, -1e-6 -- stored in the files, and the same in all of them

-- x > 0: ap x^2 + beta x; else an (expm1(min(x, eps)) - x) + beta x, with ap = softplus(alpha_p),
-- an = beta + softplus(alpha_n).
local function xielu(act, x)
  local ap, an = act.alpha_p:softplus(), act.alpha_n:softplus() + act.beta
  local positive = x:square() * ap
  local negative = (x:minimum(act.eps):expm1() - x) * an
  return q.where(x:gt(0), positive, negative) + x * act.beta
end

local function slope(value) return math.log(math.exp(value) - 1) end -- softplus^-1

return decoder.new{
  doc = "Apertus: pre-norm, RMS norm on each head of q and k, xIELU.",
  source = "Swiss AI, 2025; Huang and Schlag, 2025 (xIELU)",
  name = "apertus", architectures = {"ApertusForCausalLM"},
  defaults = {vocab_size = 131072, rms_norm_eps = 1e-5, rope_theta = 500000, hidden_act = "xielu", max_position_embeddings = 4096},
  activations = {"xielu"}, norms = {"attention_layernorm", "feedforward_layernorm"},
  attention = function() return {qk_norm = "head"} end,
  mlp = function(m, c, i, prefix, std)
    local mlp = blocks.mlp(m, prefix .. "mlp.", i, {"up_proj", "down_proj"}, {inner = c.intermediate_size, std = std, bias = c.mlp_bias})
    local name = prefix .. "mlp.act_fn."
    mlp.act = {
      alpha_p = m:add(name .. "alpha_p", {1}, {value = slope(0.8), layer = i}),
      alpha_n = m:add(name .. "alpha_n", {1}, {value = slope(0.8 - BETA), layer = i}),
      beta = m:constant(name .. "beta", BETA), eps = m:constant(name .. "eps", EPS),
    }
    return mlp
  end,
  feed = function(_, mlp, x) return nn.linear(mlp.down, xielu(mlp.act, nn.linear(mlp.up, x))) end,
  sizes = {["8b"] = decoder.size(4096, 32, 32, 8, 21504)},
}

--- mamba.lua - Mamba (Gu and Dao, 2023): blocks of a gated selective state space, no attention and no positions.

local blocks = require "quench.models.blocks"
local mixer = require "quench.models.mixer"
local nn = require "quench.nn"
local options = require "quench.options"
local space = require "quench.models.state_space"

local spec = mixer.spec("models.mamba", 50280, {
  {"state_size", "integer", default = 16, min = 1, doc = "states a channel"},
  {"intermediate_size", "integer", min = 1, doc = "inner width [expand hidden_size]"},
  {"time_step_rank", "integer|string", default = "auto", doc = "rank of the step's projection [hidden_size / 16]"},
})

local family = mixer.family{
  doc = "Mamba: blocks of a gated selective state space.",
  source = "Gu and Dao, 2023",
  name = "mamba", architectures = {"MambaForCausalLM"}, spec = spec,
  sizes = {["130m"] = {}, ["370m"] = {hidden_size = 1024, num_hidden_layers = 48}, ["790m"] = {hidden_size = 1536, num_hidden_layers = 48},
    ["1.4b"] = {hidden_size = 2048, num_hidden_layers = 48}, ["2.8b"] = {hidden_size = 2560, num_hidden_layers = 64}},
}

function family.config(given)
  local c = spec(given)
  c.intermediate_size = c.intermediate_size or math.floor(c.expand * c.hidden_size)
  if c.time_step_rank == "auto" then c.time_step_rank = math.ceil(c.hidden_size / 16) end
  if type(c.time_step_rank) ~= "number" then options.fail("models.mamba: time_step_rank is an integer or 'auto'") end
  return c
end

-- Parameters of one mixer under a prefix.
function family.mixer(m, c, i, p)
  local inner, rank, std = c.intermediate_size, c.time_step_rank, c.initializer_range
  local function linear(name, rows, columns, how)
    how.std = how.std or std
    return m:add_linear(p .. name, i, rows, columns, how)
  end
  return {
    conv = mixer.convolution(m, p .. "conv1d", i, inner, c),
    project = linear("in_proj", 2 * inner, c.hidden_size, {bias = c.use_bias}),
    choose = linear("x_proj", rank + 2 * c.state_size, inner, {}),
    step = linear("dt_proj", inner, rank, {bias = true, std = rank ^ -0.5, bias_fill = mixer.steps(c)}),
    log = m:add(p .. "A_log", {inner, c.state_size}, {layer = i, fill = mixer.decays(c.state_size)}),
    skip = m:add(p .. "D", {inner}, {value = 1, layer = i}),
    out = linear("out_proj", c.hidden_size, inner, {bias = c.use_bias}),
  }
end

-- x (B, T, D) to (B, T, D)
function family.mix(m, b, x)
  local c = m.config
  local inner, N = c.intermediate_size, c.state_size
  local h, gate = nn.linear(b.project, x):split({inner, inner}, 3)
  h = blocks.activate(c.hidden_act, mixer.convolve(b.conv, h))
  local step, into, from = nn.linear(b.choose, h):split({c.time_step_rank, N, N}, 3)
  local y = space.selective(h, nn.linear(b.step, step):softplus(), -b.log:exp(), into:contiguous(), from:contiguous())
  return nn.linear(b.out, (y + h * b.skip) * blocks.activate(c.hidden_act, gate))
end

return family

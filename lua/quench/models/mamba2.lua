--- mamba2.lua - Mamba-2 (Dao and Gu, 2024): one decay a head, heads in groups that share their input and output
-- matrices, and a gated norm before the output projection.

local blocks = require "quench.models.blocks"
local mixer = require "quench.models.mixer"
local nn = require "quench.nn"
local options = require "quench.options"
local space = require "quench.models.state_space"

local spec = mixer.spec("models.mamba2", 50288, {
  {"state_size", "integer", default = 128, min = 1, doc = "states a head and value"},
  {"head_dim", "integer", default = 64, min = 1, max = 2 ^ 16, doc = "values a head"},
  {"num_heads", "integer", min = 1, max = 2 ^ 16, doc = "heads [expand hidden_size / head_dim]"},
  {"n_groups", "integer", default = 1, min = 1, doc = "groups of heads with common B and C"},
  {"chunk_size", "integer", default = 256, min = 1, doc = "length of a stretch; changes speed, not results"},
  {"time_step_limit", "list", doc = "{low, high}: bounds on the step [none]"},
})

local family = mixer.family{
  doc = "Mamba-2: a state space with one decay a head.",
  source = "Dao and Gu, 2024",
  name = "mamba2", architectures = {"Mamba2ForCausalLM"}, spec = spec,
  sizes = {["130m"] = {}, ["370m"] = {hidden_size = 1024, num_hidden_layers = 48}, ["780m"] = {hidden_size = 1536, num_hidden_layers = 48},
    ["1.3b"] = {hidden_size = 2048, num_hidden_layers = 48}, ["2.7b"] = {hidden_size = 2560, num_hidden_layers = 64}},
}

function family.config(given)
  local c = spec(given)
  c.num_heads = c.num_heads or c.expand * c.hidden_size / c.head_dim
  if c.num_heads * c.head_dim ~= c.expand * c.hidden_size then
    options.fail("models.mamba2: num_heads %g times head_dim %d is not the inner width %g", c.num_heads, c.head_dim,
      c.expand * c.hidden_size)
  end
  if c.num_heads % c.n_groups ~= 0 then options.fail("models.mamba2: %d heads do not make %d groups", c.num_heads, c.n_groups) end
  return c
end

--- config.json writes an infinite bound as {"__float__": "Infinity"}, or leaves it out.
function family.from_file(raw, given)
  local limit = raw.time_step_limit
  given.time_step_limit = type(limit) == "table" and type(limit[2]) == "number" and limit[2] < math.huge and {limit[1], limit[2]} or nil
end

function family.mixer(m, c, i, p)
  local H, inner, std = c.num_heads, c.num_heads * c.head_dim, c.initializer_range
  local mixed = inner + 2 * c.n_groups * c.state_size
  local function linear(name, rows, columns) return m:add_linear(p .. name, i, rows, columns, {bias = c.use_bias, std = std}) end
  return {
    conv = mixer.convolution(m, p .. "conv1d", i, mixed, c), project = linear("in_proj", inner + mixed + H, c.hidden_size),
    step_bias = m:add(p .. "dt_bias", {H}, {layer = i, fill = mixer.steps(c)}),
    log = m:add(p .. "A_log", {H}, {layer = i, fill = mixer.decays(H)}),
    norm = blocks.rms_norm(m, p .. "norm", inner, c.layer_norm_epsilon, i), skip = m:add(p .. "D", {H}, {value = 1, layer = i}),
    out = linear("out_proj", c.hidden_size, inner),
  }
end

function family.mix(m, b, x)
  local c = m.config
  local B, T, H, P, G, N = x:size(1), x:size(2), c.num_heads, c.head_dim, c.n_groups, c.state_size
  local gate, mixed, step = nn.linear(b.project, x):split({H * P, H * P + 2 * G * N, H}, 3)
  mixed = blocks.activate(c.hidden_act, mixer.convolve(b.conv, mixed))
  local h, into, from = mixed:split({H * P, G * N, G * N}, 3)
  local dt = (step + b.step_bias):softplus()
  if c.time_step_limit then dt = dt:clamp(c.time_step_limit[1], c.time_step_limit[2]) end
  h = h:contiguous():view(B, T, H, P)
  local y = space.dual(h, dt, -b.log:exp(), into:contiguous():view(B, T, G, N), from:contiguous():view(B, T, G, N), c.chunk_size)
  y = (y + h * b.skip:view(H, 1)):contiguous():view(B, T, H * P)
  return nn.linear(b.out, blocks.norm(b.norm, y * blocks.activate(c.hidden_act, gate)))
end

return family

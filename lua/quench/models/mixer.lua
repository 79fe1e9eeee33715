--- mixer.lua - the frame of the state-space families: h + mixer(norm(h)), and the parts both mixers have.

local blocks = require "quench.models.blocks"
local nn = require "quench.nn"
local options = require "quench.options"
local q = require "quench"

local mixer = {}

--- The options of a state-space family: the common ones, and its own rows.
function mixer.spec(name, vocab_size, rows)
  local entries = {
    {"vocab_size", "integer", default = vocab_size, min = 1, doc = "tokens"},
    {"hidden_size", "integer", default = 768, min = 1, max = 2 ^ 20, doc = "width D"},
    {"num_hidden_layers", "integer", default = 24, min = 1, max = 4096, doc = "blocks"},
    {"expand", "number", default = 2, above = 0, doc = "inner width over hidden_size"},
    {"conv_kernel", "integer", default = 4, min = 1, doc = "taps of the convolution"},
    {"time_step_min", "number", default = 0.001, above = 0, doc = "smallest initial step"},
    {"time_step_max", "number", default = 0.1, above = 0, doc = "largest initial step"},
    {"time_step_floor", "number", default = 1e-4, above = 0, doc = "bound below on the initial step"},
    {"use_bias", "boolean", default = false, doc = "biases on the projections"},
    {"use_conv_bias", "boolean", default = true, doc = "bias on the convolution"},
    {"hidden_act", "string", default = "silu", choices = blocks.activation_names(), doc = "activation"},
    {"layer_norm_epsilon", "number", default = 1e-5, above = 0, doc = "epsilon of the norms"},
    {"tie_word_embeddings", "boolean", default = true, doc = "one matrix for input and output"},
    {"initializer_range", "number", default = 0.1, min = 0, doc = "deviation of the initial weights"},
    blocks.dropout_entry,
  }
  for i, row in ipairs(rows) do table.insert(entries, 3 + i, row) end
  return options.spec(name, entries)
end

--- A causal filter a channel; the file keeps its weight as (channels, 1, taps).
function mixer.convolution(m, name, layer, channels, c)
  return {
    weight = m:add(name .. ".weight", {channels, 1, c.conv_kernel}, {std = c.conv_kernel ^ -0.5, decay = true, layer = layer}),
    bias = c.use_conv_bias and m:add(name .. ".bias", {channels}, {value = 0, layer = layer}) or nil,
    channels = channels, taps = c.conv_kernel,
  }
end

function mixer.convolve(conv, x) return nn.conv1d(x:contiguous(), conv.weight:view(conv.channels, conv.taps), conv.bias) end

--- Fills the logarithms of the decays with log 1, log 2, ... log n along the last axis (the S4D-real start).
function mixer.decays(n)
  return function(t) t:copy_(q.arange(1, n + 1, t:dtype()):log()) end
end

--- Fills the bias of a step: softplus(bias) is drawn log-uniformly between time_step_min and time_step_max.
function mixer.steps(c)
  local low, high = math.log(c.time_step_min), math.log(c.time_step_max)
  return function(t, stream)
    t:uniform_(stream)
    local steps = (t * (high - low) + low):exp():clamp(c.time_step_floor)
    t:copy_(steps + (-(-steps):expm1()):log()) -- the inverse of softplus
  end
end

--- A family around def.spec; the caller adds config, mixer(m, c, i, prefix) and mix(m, record, x).
function mixer.family(def)
  local family = {
    architectures = def.architectures, model_type = def.name, spec = def.spec, sizes = def.sizes, doc = def.doc, source = def.source,
  }
  local function norm(m, name, layer) return blocks.rms_norm(m, name, m.config.hidden_size, m.config.layer_norm_epsilon, layer) end

  function family.layers(c) return c.num_hidden_layers end

  function family.input(m, c)
    m.embeddings = blocks.embedding(m, "backbone.embeddings", c.vocab_size, c.hidden_size, c.initializer_range)
  end

  function family.layer(m, c, i)
    local p = ("backbone.layers.%d."):format(i - 1)
    local mix = family.mixer(m, c, i, p .. "mixer.")
    mix.name, mix.layer, mix.kind = p .. "mixer", i, "mixer"
    return {norm = norm(m, p .. "norm", i), mixer = mix}
  end

  function family.output(m, c)
    m.final_norm = norm(m, "backbone.norm_f")
    m.lm_head = blocks.head(m, "lm_head", c.tie_word_embeddings and m.embeddings, c.vocab_size, c.hidden_size, c.initializer_range)
  end

  function family.embed(m, ids) return blocks.embed(m, m.embeddings, ids) end

  local function mix(record, x, m) return family.mix(m, record, x) end

  function family.block(m, i, h)
    local b = m.blocks[i]
    return blocks.add(m, h, nn.module(b.mixer, mix, blocks.norm(b.norm, h), m))
  end

  function family.norm(m, h) return blocks.norm(m.final_norm, h) end

  function family.head(m, h) return nn.linear(m.lm_head, h) end

  return family
end

return mixer

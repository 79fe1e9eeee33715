--- rope.lua - rotary frequencies: the plain ones and the published ways to stretch them.
--
-- Everything here is in radians a position, one frequency a pair of values. A rope is a record
-- {rotated=, theta=, frequencies=, factor=, interleaved=}; Model:rotary turns it into tables.

local options = require "quench.options"

local rope = {}

--- f_j = theta^(-2j / rotated), j = 0 .. rotated/2 - 1 (Su et al., 2021).
local function plain(theta, rotated)
  local f = {}
  for j = 0, rotated / 2 - 1 do f[j + 1] = theta ^ (-2 * j / rotated) end
  return f
end

local scale = {}

--- Positions divided by the factor (Chen et al., 2023).
function scale.linear(f, s)
  for j = 1, #f do f[j] = f[j] / s.factor end
  return 1
end

--- Llama 3: long waves are divided by the factor, short ones kept, a ramp in the wave number between.
function scale.llama3(f, s)
  local original = s.original_max_position_embeddings
  for j = 1, #f do
    local turns = original * f[j] / (2 * math.pi) -- over the original context
    local keep = (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor)
    keep = math.min(1, math.max(0, keep))
    f[j] = (1 - keep) * f[j] / s.factor + keep * f[j]
  end
  return 1
end

--- YaRN (Peng et al., 2023): the ramp runs over the index of the pair, between those that turn
-- beta_fast and beta_slow times in the original context; cosines and sines grow by a factor.
function scale.yarn(f, s, theta)
  local original, pairs_ = s.original_max_position_embeddings, #f
  local function index(turns) return pairs_ * math.log(original / (turns * 2 * math.pi)) / math.log(theta) end
  local low = math.max(0, math.floor(index(s.beta_fast or 32)))
  local high = math.min(2 * pairs_ - 1, math.ceil(index(s.beta_slow or 1)))
  for j = 1, pairs_ do
    local ramp = math.min(1, math.max(0, (j - 1 - low) / math.max(high - low, 1e-3)))
    f[j] = ramp * f[j] / s.factor + (1 - ramp) * f[j]
  end
  return s.attention_factor or 0.1 * math.log(s.factor) + 1
end

local needs = {
  linear = {"factor"}, llama3 = {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"},
  yarn = {"factor", "original_max_position_embeddings"},
}

--- nil, or what is wrong with a rope_scaling table; for option specs.
function rope.complaint(s)
  local kind = s.rope_type or s.type
  if not needs[kind] then
    return ("rope_scaling: rope_type must be linear, llama3 or yarn, got %s"):format(tostring(kind))
  end
  for _, key in ipairs(needs[kind]) do
    if type(s[key]) ~= "number" then return ("rope_scaling: %s needs the number %s"):format(kind, key) end
  end
end

--- The record for heads of which `rotated` values turn.
-- scaling: nil or a rope_scaling table as in config.json.
function rope.new(rotated, theta, scaling, interleaved)
  if rotated % 2 ~= 0 then options.fail("rotary embedding: the %d rotated values do not make pairs", rotated) end
  local f, factor = plain(theta, rotated), 1
  if scaling then factor = scale[scaling.rope_type or scaling.type](f, scaling, theta) end
  return {rotated = rotated, frequencies = f, factor = factor, interleaved = interleaved or false}
end

return rope

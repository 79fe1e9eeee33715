--- online.lua - QuaRot's rotations inside the blocks: values head by head, and the inputs of the output projection and of the
-- MLP's last layer.
--
--   values         v <- v H for each head (W_v <- H^T W_v), W_o <- W_o H for each head: attention mixes tokens, not channels,
--                  so nothing is left to do when the model runs, and the cache holds rotated values
--   W_o's input    H across the heads, channel by channel; with the step before, one Hadamard transform of all channels
--   W_down's input H over the inner width, or blocks of it
-- The last two are absorbed in the weights and done to the inputs when the model runs: record.turn, which q.nn.linear calls first,
-- so that calibration and quantized inputs see the rotated ones. model.rotations = {values = true, layers = {name = {block = n} or
-- {heads = h}}} goes with the model into copies and files.

local q = require "quench"
local c = require "quench.c.quant"
local options = require "quench.options"

local M = {}

local function has_matrix(n) return n > 1 and (pcall(c.hadamard, q.zeros(1, n))) end

--- The largest block of n channels that has a Hadamard matrix, nil for none.
local function block_of(n)
  for parts = 1, n / 2 do
    if n % parts == 0 and has_matrix(n / parts) then return n / parts end
  end
end

--- x (..., heads width) times a Hadamard matrix across the heads.
local function across(x, heads)
  local shape = x:shape()
  local width = shape[#shape] / heads
  local turned = c.hadamard(x:contiguous():view(-1, heads, width):transpose(2, 3):contiguous())
  return turned:transpose(2, 3):contiguous():view(unpack(shape))
end

--- What a rotation does to an input, or to the rows of a weight that reads it.
local function turn(rotation, x)
  if rotation.heads then return across(x, rotation.heads) end
  return c.hadamard(x, rotation.block)
end

--- Installs the rotations of the inputs. A model whose records come later (lazy) cannot have them.
function M.install(model, rotations)
  if not rotations then return model end
  model.rotations = rotations
  for _, r in ipairs(model:linears(true)) do
    local its = rotations.layers[r.name]
    if its then r.turn = function(x) return turn(its, x) end end
  end
  return model
end

local function update(t, value) t:copy_(value:to(t:dtype())) end

--- W_v <- H^T W_v for each head. rows: function(t) -> the view (heads, width, columns) of the values' rows of t (out, columns).
local function turn_values(record, rows)
  for _, t in ipairs{record.weight, record.bias} do
    local whole = t:to("f64"):view(t:size(1), -1):contiguous()
    local part = rows(whole)
    part:copy_(c.hadamard(part:transpose(2, 3):contiguous()):transpose(2, 3))
    update(t, whole:view(unpack(t:shape())))
  end
end

--- Where a block keeps its values and how many heads there are: record, rows (as above), output projection, heads, width.
local function attention_of(model, b)
  local a = b.attention
  if a then
    return a.v, function(t) return t:view(a.kv_heads, a.width, -1) end, a.o, a.heads, a.width
  end
  local heads = model.config.num_attention_heads or model.config.n_head
  local width = b.qkv.weight:size(1) / 3 / heads
  if b.dense then -- GPT-NeoX: [q k v] head by head
    return b.qkv, function(t) return t:view(heads, 3 * width, -1):narrow(2, 2 * width + 1, width) end, b.dense, heads, width
  end
  return b.qkv, function(t) return t:view(3 * heads, width, -1):narrow(1, 2 * heads + 1, heads) end, b.out, heads, width
end

--- Checks that a block's values are not bent between v and o.
local function check(model, b)
  if b.attention and b.attention.clip then
    options.fail("q.quant.rotate: %s clips values, which cannot be rotated; leave out online", model.family)
  end
  local _, _, _, _, width = attention_of(model, b)
  if not has_matrix(width) then options.fail("q.quant.rotate: there is no Hadamard matrix for heads of width %d; leave out online", width) end
end

local function turn_attention(model, b, layers)
  local record, rows, out, heads, width = attention_of(model, b)
  turn_values(record, rows)
  local w = c.hadamard(out.weight:to("f64"), width)
  if has_matrix(heads) then
    w, layers[out.name] = across(w, heads), {heads = heads}
  end
  update(out.weight, w)
end

local function turn_down(record, layers)
  local block = block_of(record.weight:size(2))
  if not block then return end
  update(record.weight, c.hadamard(record.weight:to("f64"), block))
  layers[record.name] = {block = block}
end

--- Rotates a model's blocks in place.
function M.turn(model)
  for i = 1, model:layers() do check(model, model.blocks[i]) end
  local layers = {}
  for i = 1, model:layers() do
    local b = model.blocks[i]
    turn_attention(model, b, layers)
    for _, mlp in ipairs(b.mlp.experts or {b.mlp}) do turn_down(mlp.down, layers) end
  end
  return M.install(model, {values = true, layers = layers})
end

return M

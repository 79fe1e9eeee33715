--- blocks.lua - the parts that families share: norms, attention, MLPs.
--
-- Each part has a maker, which declares parameters under a prefix and returns a record, and a
-- function that applies the record. A family is the order in which it puts them together.

local nn = require "quench.nn"
local options = require "quench.options"
local q = require "quench"

local blocks = {}

-- ---- activations ----------------------------------------------------------

--- Names in config.json -> methods of tensors.
blocks.activations = {
  gelu = "gelu", gelu_fast = "gelu_tanh", gelu_new = "gelu_tanh", gelu_tanh = "gelu_tanh", gelu_pytorch_tanh = "gelu_tanh",
  relu = "relu", relu2 = "relu2",
  silu = "silu", swish = "silu",
}

--- The names, for option specs.
function blocks.activation_names()
  local names = {}
  for name in pairs(blocks.activations) do names[#names + 1] = name end
  table.sort(names)
  return names
end

function blocks.activate(name, x)
  local method = blocks.activations[name]
  return x[method](x)
end

-- ---- the residual stream, in and out ---------------------------------------

--- The entry for the options of every family.
blocks.dropout_entry = {
  "hidden_dropout", "number", default = 0, min = 0, below = 1, doc = "share of embeddings and block outputs dropped in training",
}

--- Declares a table (rows, width) of embeddings.
function blocks.embedding(m, name, rows, width, std)
  return m:add(name .. ".weight", {rows, width}, {std = std, role = "input", decay = true})
end

--- Token ids (B, T) to vectors (B, T, D).
function blocks.embed(m, weight, ids) return m:dropout(q.embedding(weight, ids), m.config.hidden_dropout) end

--- h + branch, with dropout on the branch while training.
local SUM = {name = "sum", kind = "sum"}
local function sum(_, h, branch, m) return h + m:dropout(branch, m.config.hidden_dropout) end
function blocks.add(m, h, branch) return nn.module(SUM, sum, h, branch, m) end

--- Whether h + branch may be made in the output pass of the branch's last linear layer: nothing looks or drops between.
function blocks.joins(m) return not nn.trace and (not m.dropout_stream or m.config.hidden_dropout == 0) end

--- The output projection, a record for nn.linear: tied is the embedding, or false for a matrix of its own.
function blocks.head(m, name, tied, rows, width, std)
  if tied then return {name = name, weight = tied, role = "output", group = name} end
  return m:add_linear(name, nil, rows, width, {std = std, role = "output"})
end

-- ---- norms ----------------------------------------------------------------

--- RMS norm with a gain of `width` values. layer: the block's number, or nil.
function blocks.rms_norm(m, name, width, eps, layer)
  return {name = name, layer = layer, kind = "rms", eps = eps, weight = m:add(name .. ".weight", {width}, {value = 1, layer = layer})}
end

--- LayerNorm; how.bias adds a shift, how.plain leaves both out.
function blocks.layer_norm(m, name, width, eps, layer, how)
  local record = {name = name, layer = layer, kind = "layer", eps = eps}
  if how and how.plain then return record end
  record.weight = m:add(name .. ".weight", {width}, {value = 1, layer = layer})
  if how and how.bias then record.bias = m:add(name .. ".bias", {width}, {value = 0, layer = layer}) end
  return record
end

local function normalise(record, x, residual)
  if record.kind == "rms" then return nn.rms_norm(x, record.weight, record.eps, residual) end
  return nn.layer_norm(x, record.weight, record.bias, record.eps, residual)
end

--- Normalises over the last axis of x.
function blocks.norm(record, x) return nn.module(record, normalise, x) end

--- h + norm of a branch, with dropout as in blocks.add; in one pass where nothing looks or drops between.
function blocks.add_normed(m, h, record, branch)
  if blocks.joins(m) then return normalise(record, branch, h) end
  return blocks.add(m, h, blocks.norm(record, branch))
end

-- ---- attention ------------------------------------------------------------

--- Self-attention with separate projections <prefix>{q,k,v,o}_proj.
-- how: heads, kv_heads, width (of a head), std, out_std, bias, out_bias, rope (a record of rope.lua, or nil: no positions),
-- window (keys a query sees; nil: all), clip (bound on q, k, v), eps, and qk_norm:
--   "head": RMS over each head, one gain for all;  "width": RMS over the whole projection.
function blocks.attention(m, prefix, layer, how)
  local d, group = m.config.hidden_size, prefix .. "qkv"
  local function linear(name, rows, columns, std, bias)
    return m:add_linear(prefix .. name, layer, rows, columns, {std = std, bias = bias, group = name ~= "o_proj" and group or nil})
  end
  local wide, narrow = how.heads * how.width, how.kv_heads * how.width
  if how.heads % how.kv_heads ~= 0 then
    options.fail("models.%s: %d heads cannot share %d key-value heads evenly", m.family, how.heads, how.kv_heads)
  end
  local a = {
    name = prefix:gsub("%.$", ""), layer = layer, kind = "attention",
    heads = how.heads, kv_heads = how.kv_heads, width = how.width, rope = how.rope, window = how.window, clip = how.clip,
    qk_norm = how.qk_norm, scale = how.scale or how.width ^ -0.5,
    q = linear("q_proj", wide, d, how.std, how.bias), k = linear("k_proj", narrow, d, how.std, how.bias),
    v = linear("v_proj", narrow, d, how.std, how.bias),
    o = linear("o_proj", d, wide, how.out_std or how.std, how.out_bias),
  }
  if how.qk_norm then
    local each = how.qk_norm == "head"
    a.q_norm = blocks.rms_norm(m, prefix .. "q_norm", each and how.width or wide, how.eps, layer)
    a.k_norm = blocks.rms_norm(m, prefix .. "k_norm", each and how.width or narrow, how.eps, layer)
  end
  return a
end

--- Applies rotary positions to q and k (B, T, H, W); the identity without a rope.
function blocks.turn(m, rope, query, key)
  if not rope or rope.rotated == 0 then return query, key end
  local cos, sin = m:rotary(rope, query:size(2))
  return nn.rotary(query, cos, sin, rope.rotated, rope.interleaved), nn.rotary(key, cos, sin, rope.rotated, rope.interleaved)
end

--- A projection (B, T, heads x width), with rotary positions if `turns`.
function blocks.project(m, a, record, x, turns)
  if not turns then return nn.linear(record, x) end
  local cos, sin = m:rotary(a.rope, x:size(2))
  return nn.turned(record, x, cos, sin, a.width, a.rope.rotated, 1, 1, a.rope.interleaved)
end

local function attend(a, x, m, residual)
  local B, T = x:size(1), x:size(2)
  local plain = a.rope and a.rope.rotated > 0 and not a.qk_norm and not a.clip -- positions come right after the projection
  local query, key, value = blocks.project(m, a, a.q, x, plain), blocks.project(m, a, a.k, x, plain), nn.linear(a.v, x)
  if a.qk_norm == "width" then query, key = blocks.norm(a.q_norm, query), blocks.norm(a.k_norm, key) end
  if a.clip then query, key, value = query:clamp(-a.clip, a.clip), key:clamp(-a.clip, a.clip), value:clamp(-a.clip, a.clip) end
  query, key = query:view(B, T, a.heads, a.width), key:view(B, T, a.kv_heads, a.width)
  if a.qk_norm == "head" then query, key = blocks.norm(a.q_norm, query), blocks.norm(a.k_norm, key) end
  if not plain then query, key = blocks.turn(m, a.rope, query, key) end
  local y = nn.attention(query, key, value:view(B, T, a.kv_heads, a.width), a.scale, a.window)
  return nn.linear(a.o, y:view(B, T, a.heads * a.width), residual)
end

--- x (B, T, D) to (B, T, D), plus residual, if given.
function blocks.attend(m, a, x, residual) return nn.module(a, attend, x, m, residual) end

-- ---- MLPs -----------------------------------------------------------------

--- down(act(gate x) * up x). names: {gate, up, down}. how: inner, act, std, out_std, bias.
function blocks.glu(m, prefix, layer, names, how)
  local d = m.config.hidden_size
  local function linear(name, rows, columns, std, group)
    return m:add_linear(prefix .. name, layer, rows, columns, {std = std, bias = how.bias, group = group})
  end
  local shared = prefix .. "in"
  return {
    act = how.act, gate = linear(names[1], how.inner, d, how.std, shared), up = linear(names[2], how.inner, d, how.std, shared),
    down = linear(names[3], d, how.inner, how.out_std or how.std),
  }
end

function blocks.feed_glu(mlp, x, residual)
  return nn.linear(mlp.down, nn.activated(mlp.gate, x, blocks.activations[mlp.act]) * nn.linear(mlp.up, x), residual)
end

--- down(act(up x)). names: {up, down}. how: as above; transposed: the file keeps (in, out).
function blocks.mlp(m, prefix, layer, names, how)
  local d = how.d or m.config.hidden_size
  local function linear(name, rows, columns, std)
    return m:add_linear(prefix .. name, layer, rows, columns, {std = std, bias = how.bias, transposed = how.transposed})
  end
  return {act = how.act, up = linear(names[1], how.inner, d, how.std), down = linear(names[2], d, how.inner, how.out_std or how.std)}
end

function blocks.feed(mlp, x, residual) return nn.linear(mlp.down, nn.activated(mlp.up, x, blocks.activations[mlp.act]), residual) end

return blocks

--- rotate.lua - the residual stream in another basis (QuaRot): the function stays, outliers are spread over all channels.
--
-- With an orthogonal Q the stream h becomes h Q: embeddings E Q, layers that read it W diag(gain) Q, layers that
-- write to it Q^T W. RMS norm commutes with Q once its gain is folded into the readers. LayerNorm does if Q leaves the
-- vector of ones where it is (then the mean of h Q is the mean of h), so a LayerNorm model stays one, and stays
-- loadable elsewhere. All products are taken in f64.

local q = require "quench"
local c = require "quench.c.quant"
local models = require "quench.models"
local online = require "quench.quant.online"
local options = require "quench.options"
local help = require "quench.help"
local system = require "quench.c.system"

local M = {public = {"rotate"}}

-- Families whose norms stand in front of the layers that read the stream.
local rotatable = {"gpt_neox", "gpt2", "llama", "qwen3", "smollm3", "mixtral", "olmo", "olmoe", "opensci", "apertus", "plainlm"}

local spec = options.spec("q.quant.rotate", {
  {"kind", "string", default = "hadamard", choices = {"hadamard", "random"}, doc = "a Hadamard matrix with random signs, or any rotation"},
  {"seed", "integer", default = 0, doc = "of the signs, or of the rotation"},
  {"online", "boolean", default = false,
    doc = "also values head by head (absorbed in v and o), and the inputs of o across heads and of down, when the model runs"},
})

-- ---- matrices ---------------------------------------------------------------

local function random_rotation(n, stream) return (q.linalg.qr(q.randn(n, n, "f64", stream))) end

local function random_signs(n, stream) return q.rand(n, "f64", stream):ge(0.5) * 2 - 1 end

local function eye(n)
  local x = q.zeros(n, n, "f64")
  for i = 1, n do x[i][i] = 1 end
  return x
end

--- An orthogonal (n, n); with keep_ones, one that maps the vector of ones to itself.
function M.matrix(n, o, keep_ones)
  local stream = q.stream(o.seed, "rotation")
  local base = o.kind == "hadamard" and c.hadamard(eye(n)) or random_rotation(n, stream)
  if not keep_ones then
    if o.kind == "random" then return base end
    return base * random_signs(n, stream)
  end
  -- P has the normalised ones as first row: Q = P^T diag(1, ...) P, with signs (Hadamard) or a rotation of the rest
  local p
  if o.kind == "hadamard" then
    p = base * base:narrow(1, 1, 1):sign()
  else
    local first = q.full(n ^ -0.5, n, 1, "f64")
    local r = q.linalg.qr(q.concat({first, q.randn(n, n - 1, "f64", stream)}, 2))
    p = r:t() * (r[1][1] < 0 and -1 or 1)
  end
  local signs = random_signs(n, stream)
  signs[1] = 1
  return p:t():contiguous():matmul(p * signs:view(n, 1))
end

-- ---- what reads and writes the stream ---------------------------------------

--- The parts of a block: two norms with the layers behind them, and the layers that write to the stream.
local function parts_of(b)
  local attention = b.attention
  local first = attention and {attention.q, attention.k, attention.v} or {b.qkv}
  local writers = {attention and attention.o or b.dense or b.out}
  local second, mlp = {}, b.mlp
  if mlp.router then
    second[1] = mlp.router
    for _, e in ipairs(mlp.experts) do
      second[#second + 1], second[#second + 2] = e.gate, e.up
      writers[#writers + 1] = e.down
    end
  else
    if mlp.gate then second[1] = mlp.gate end
    second[#second + 1] = mlp.up
    writers[#writers + 1] = mlp.down
  end
  return {{norm = b.norm1, readers = first}, {norm = b.norm2, readers = second}}, writers
end

local function update(t, value) t:copy_(value:to(t:dtype())) end

--- W diag(gain) Q for the readers; the norm keeps a gain of ones and the shift that gives the same sum.
local function rotate_readers(part, Q)
  local norm = part.norm
  local gain = norm.weight and norm.weight:to("f64")
  for _, r in ipairs(part.readers) do
    local w = r.weight:to("f64")
    update(r.weight, (gain and w * gain or w):matmul(Q))
  end
  if norm.bias then
    -- the readers multiply (u diag(gain) + b): with W diag(gain) in them the shift is b / gain
    if gain:abs():min():item() < 1e-6 * gain:abs():max():item() then
      options.fail("q.quant.rotate: a norm has gains that are (nearly) zero, so that its shift cannot be moved past them")
    end
    update(norm.bias, (norm.bias:to("f64") / gain):view(1, -1):matmul(Q):view(-1))
  end
  if norm.weight then norm.weight:fill_(1) end
end

local function rotate_writer(r, Q)
  update(r.weight, Q:t():matmul(r.weight:to("f64")))
  if r.bias then update(r.bias, r.bias:to("f64"):view(1, -1):matmul(Q):view(-1)) end
end

--- A copy without gradients whose head is a matrix of its own.
local function untied(model)
  local config = {seed = model.seed, dtype = model.dtype}
  for key, value in pairs(model.config) do config[key] = value end
  config.tie_word_embeddings = false
  local mine, constants, input = model:tensors(), {}, nil
  for _, k in ipairs(model.constants) do constants[k.name] = k.value end
  for _, p in ipairs(model:named_parameters()) do
    if p.role == "input" and not input then input = p.tensor end
  end
  return models.build(model.family, config, {raw = model.raw, source = function(record)
    if record.constant then return constants[record.name] end
    return (mine[record.name] or input):detach():clone()
  end})
end

--- Turns a model in place and gives the matrix.
local function turn(model, o)
  local norm, embeddings = model.final_norm, {}
  for _, p in ipairs(model:named_parameters()) do
    if p.role == "input" then embeddings[#embeddings + 1] = p.tensor:detach() end
  end
  local Q = M.matrix(embeddings[1]:size(2), o, norm.kind == "layer")
  for _, e in ipairs(embeddings) do update(e, e:to("f64"):matmul(Q)) end
  for i = 1, model:layers() do
    local parts, writers = parts_of(model.blocks[i])
    for _, part in ipairs(parts) do rotate_readers(part, Q) end
    for _, r in ipairs(writers) do rotate_writer(r, Q) end
    system.check_interrupt()
  end
  rotate_readers({norm = norm, readers = {model.lm_head or model.embed_out}}, Q)
  return Q
end

local function is_rotatable(family)
  for _, name in ipairs(rotatable) do
    if name == family then return true end
  end
end

--- q.quant.rotate(model, options) -> a new model with the same function, and the matrix.
function M.rotate(model, given)
  options.need_model("q.quant.rotate", model)
  local o = spec(given)
  if not is_rotatable(model.family) then
    options.fail("q.quant.rotate: %s has norms that do not stand in front of linear layers alone; families that can be rotated: %s",
      model.family, table.concat(rotatable, ", "))
  end
  if model.rotations then options.fail("q.quant.rotate: the model has online rotations already") end
  return q.no_grad(function()
    local twin = untied(model)
    local Q = q.scope(turn, twin, o)
    if o.online then q.scope(online.turn, twin) end
    return twin, Q
  end)
end

help.add{"q.quant.rotate", M.rotate, "rotate(model, options) -> model, matrix",
  "A model with the same function whose residual stream is turned by an orthogonal matrix, so that no channel stands out.", options = spec,
  text = "Gains of norms go into the layers behind them; a tied head becomes a matrix of its own. LayerNorm models get a\n"
    .. "matrix that leaves the vector of ones in place, and stay LayerNorm models. With online = true the model does a Hadamard transform\n"
    .. "of some inputs when it runs (model.rotations, kept by clone and save); its files are for quench alone and say so.",
  errors = "a family whose norms stand behind the layers (olmo2, ant, ...); a width without a Hadamard matrix (use kind = 'random');\n"
    .. "online: values that are clipped, heads of a width without a matrix",
  source = "Ashkboos et al. 2024 (QuaRot), arXiv 2404.00456; Ashkboos et al. 2024 (SliceGPT) for folding norms",
  example = "local turned = q.quant.rotate(m)\nlocal small = q.quant.quantize(turned, {method = 'rtn', bits = 4})", see = {"q.quant.hadamard"}}

return M

--- fake.lua - quantization inside a forward pass: exact values forward, a chosen gradient backward.
-- All of it is q.quant.surrogate with different partial derivatives.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"

local M = {public = {"surrogate", "hadamard", "ste", "lsq", "pact", "quest"}}

--- q.quant.surrogate(value, inputs, partials): value, with derivatives of one's own choice.
function M.surrogate(value, inputs, partials) return c.surrogate(value, inputs, partials) end

help.add{"q.quant.surrogate", M.surrogate, "surrogate(value, {x, ...}, {partial, ...}) -> tensor",
  "A given value that pretends to depend on each x with the given elementwise partial derivative.",
  shapes = "partials have the value's shape; each x broadcasts to it", errors = "shapes or dtypes that do not fit",
  source = "straight-through estimators: Bengio et al. 2013",
  example = "local x = q.randn(4):requires_grad()\n"
    .. "local y = q.quant.surrogate(x:round(), {x}, {q.ones(4)}) -- rounds, gradient goes through",
  see = {"q.quant.ste", "q.quant.rtn"}}

--- q.quant.hadamard(x, block, transpose): blocks of the last axis times an orthogonal Hadamard matrix.
function M.hadamard(x, block, transpose) return c.hadamard(x, block, transpose) end

help.add{"q.quant.hadamard", M.hadamard, "hadamard(x, block, transpose) -> tensor",
  "Blocks of the last axis times an orthogonal Hadamard matrix; block = nil takes the whole axis.",
  shapes = "x (..., n), n a multiple of block; block 2^k, or 2^k times 12, 20, 28, 36, 44, 52, 60, ...",
  errors = "a size without a matrix here", source = "Sylvester 1867; Paley 1933; Goethals and Seidel 1967",
  example = "local x = q.randn(2, 768)\nprint(q.quant.hadamard(q.quant.hadamard(x), nil, true) - x)"}

--- q.quant.ste(x, format): straight-through estimator.
function M.ste(x, what)
  local f = format.format(what)
  if not x:needs_grad() then return (c.rtn(x, f)) end
  local value, mask = c.fake(x, f)
  return c.surrogate(value, {x}, {mask})
end

help.add{"q.quant.ste", M.ste, "ste(x, format) -> tensor",
  "x rounded to nearest; the gradient goes through unchanged where x lies between the lowest and the highest level of its group.",
  shapes = "x (..., n); groups run along the last axis", errors = "NaN or infinity in x", source = "Bengio et al. 2013, arXiv 1308.3432",
  example = "local w = q.randn(8, 32):requires_grad()\nq.quant.ste(w, 'int4'):square():sum():backward()", see = {"q.quant.qat"}}

--- q.quant.lsq(x, scale, format): learned step size.
function M.lsq(x, scale, what)
  local f = format.format(what)
  local s = scale:detach():clamp(1e-8)
  local value, mask = c.fake_with(x, f, s)
  local top = f:levels()
  local gradient_scale = (x:numel() * top[#top]) ^ -0.5
  -- inside: round(v) - v; outside: the level at the end; v = x / s
  local rounding = (value - x:detach() * mask) / s
  return c.surrogate(value, {x, scale}, {mask, rounding * gradient_scale})
end

help.add{"q.quant.lsq", M.lsq, "lsq(x, scale, format) -> tensor",
  "x rounded under a scale that is learned with the weights; its gradient is divided by sqrt(numel * largest level).",
  shapes = "x (..., n); scale: as many as groups, broadcasting to x ((rows, 1) a row, (1) a tensor)",
  errors = "a format with a zero point; scales that do not fit", source = "Esser et al. 2020, arXiv 1902.08153",
  example = "local f = q.quant.int(4, {convention = 'full'})\nlocal w = q.randn(8, 32):requires_grad()\n"
    .. "local s = q.full(0.1, 8, 1):requires_grad()\nq.quant.lsq(w, s, f):square():sum():backward()", see = {"q.quant.lsq_scale",
      "q.quant.qat"}}

--- q.quant.lsq_scale(x, format): LSQ's first scale, 2 mean|x| / sqrt(largest level), for each row or the tensor.
function M.lsq_scale(x, what)
  local f = format.format(what)
  local top = f:levels()
  local size = x:detach():abs()
  local mean = f:describe().group == -1 and size:mean():view(1) or size:mean(-1, true)
  return mean * (2 / top[#top] ^ 0.5)
end
M.public[#M.public + 1] = "lsq_scale"

help.add{"q.quant.lsq_scale", M.lsq_scale, "lsq_scale(x, format) -> tensor", "LSQ's first scale: 2 mean|x| / sqrt(largest level).",
  shapes = "x (..., n) -> (..., 1), or (1) for a format with one scale for the tensor", source = "Esser et al. 2020",
  example = "q.quant.lsq_scale(q.randn(8, 32), q.quant.int(4, {convention = 'full'}))"}

--- q.quant.pact(x, alpha, format): learned clipping.
function M.pact(x, alpha, what)
  local f = format.format(what)
  local top = f:levels()
  local s = alpha:detach():clamp(1e-8) * (1 / top[#top])
  local value, mask = c.fake_with(x, f, s)
  return c.surrogate(value, {x, alpha}, {mask, x:detach():sign() * (1 - mask)})
end

help.add{"q.quant.pact", M.pact, "pact(x, alpha, format) -> tensor",
  "x clipped to +-alpha and rounded; alpha is learned: its gradient is that of the clipped entries.",
  shapes = "x (..., n); alpha: as many as groups", errors = "a format with a zero point", source = "Choi et al. 2018, arXiv 1805.06085",
  example = "local f = q.quant.int(4, {convention = 'restricted', group = 'tensor'})\nlocal x = q.randn(8, 32):requires_grad()\n"
    .. "local alpha = q.full(2, 1):requires_grad()\nq.quant.pact(x, alpha, f):sum():backward()", see = {"q.quant.qat"}}

local quest = options.spec("q.quant.quest", {
  {"block", "integer", min = 0, doc = "size of the Hadamard blocks; 0: none [128, or the largest power of two below it that divides]"},
  {"trust", "number", above = 0, doc = "of the root mean square: the gradient goes through where the error is at most this [half a step]"},
  {"back", "boolean", default = false, doc = "rotate back afterwards; without it the product of two such results needs no rotation"},
})

--- The block that QuEST uses for n channels: 128, or the largest power of two below that divides n.
function M.quest_block(n)
  local block = 128
  while n % block ~= 0 do block = block / 2 end
  return block
end

--- q.quant.quest(x, bits, options): Hadamard, Gaussian-optimal clip, trust mask.
function M.quest(x, bits, o)
  o = quest(o)
  local f = format.gaussian(bits)
  local block = o.block or M.quest_block(x:size(-1))
  local rotated = block > 1 and c.hadamard(x, block) or x
  local y
  if x:needs_grad() then
    local d = f:describe()
    local value, mask = c.fake(rotated, f, o.trust or d.factor / (2 ^ bits - 1))
    y = c.surrogate(value, {rotated}, {mask})
  else
    y = c.rtn(rotated, f)
  end
  return o.back and block > 1 and c.hadamard(y, block, true) or y
end

help.add{"q.quant.quest", M.quest, "quest(x, bits, options) -> tensor",
  "QuEST's quantizer: Hadamard in blocks, half-integer levels up to the clip that is best for a normal distribution, "
    .. "gradient only where it can be trusted.",
  options = quest, shapes = "x (..., n): a scale for each row", errors = "bits outside 1..8; a block that does not divide n",
  source = "Panferov et al. 2025 (QuEST), arXiv 2502.05003",
  example = "local w = q.randn(8, 256):requires_grad()\nq.quant.quest(w, 4):square():sum():backward()", see = {"q.quant.qat",
    "q.quant.gaussian"}}

return M

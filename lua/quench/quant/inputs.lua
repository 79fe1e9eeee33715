--- inputs.lua - what a method wants to know of a layer's inputs, gathered batch by batch.

local q = require "quench"
local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"

local Inputs = {}
Inputs.__index = Inputs

--- Statistics of inputs of `size` channels. needs: hessian, drift, channels (mean and largest magnitude), rows (a sample of so many).
local function new(size, dtype, needs)
  local self = setmetatable({size = size, dtype = dtype, needs = needs, tokens = 0, rows = {}, kept = 0}, Inputs)
  if needs.hessian then self.sum = q.zeros(size, size, dtype) end
  if needs.drift then self.drift_sum = q.zeros(size, size, dtype) end
  if needs.channels then self.total, self.largest = q.zeros(size, dtype), q.zeros(size, dtype) end
  return self
end

-- Evenly spaced rows of x, at most as many as are still wanted.
local function keep_rows(self, x)
  local n, room = x:size(1), self.needs.rows - self.kept
  if n == 0 or room <= 0 then return end
  local stride = math.max(1, math.floor(n / room))
  for i = 1, math.min(n, room * stride), stride do
    self.rows[#self.rows + 1] = q.keep(x:narrow(1, i, 1):clone())
    self.kept = self.kept + 1
  end
end

--- Adds inputs x (..., size); full: those of the full-precision model at the same place, where drift is asked for.
function Inputs:add(x, full)
  if x:size(-1) ~= self.size then
    options.fail("q.quant: inputs (%s) do not fit a layer of %d input channels", table.concat(x:shape(), ", "), self.size)
  end
  x = x:detach():contiguous():view(-1, self.size)
  self.tokens = self.tokens + x:size(1)
  if self.sum then c.hessian_add(self.sum, x) -- says itself where x is not finite
  elseif not x:all_finite() then options.fail("q.quant: inputs (%s) hold NaN or infinity", table.concat(x:shape(), ", ")) end
  if self.drift_sum then c.drift_add(self.drift_sum, full:detach():contiguous():view(-1, self.size), x) end
  if self.total and x:size(1) > 0 then
    local size = x:abs()
    self.total:copy_(self.total + size:sum(1))
    self.largest:copy_(self.largest:maximum(size:max(1)))
  end
  if self.needs.rows then keep_rows(self, x) end
  return self
end

--- (2 / tokens) sum x x^T (size, size); made once, when first asked for.
function Inputs:hessian()
  if not self.sum then options.fail("q.quant.inputs: these statistics hold no Hessian") end
  if not self.matrix then
    self.matrix = q.keep(self.sum:clone()) -- beyond the scope of the first caller; see free
    c.hessian_finish(self.matrix, self.tokens)
  end
  return self.matrix
end

local held = {"matrix", "sum", "drift_sum", "total", "largest"}

--- Gives the memory back at once; the statistics are gone.
function Inputs:free()
  for _, key in ipairs(held) do
    if self[key] then self[key]:free() end
    self[key] = nil
  end
end

--- Keeps the statistics beyond the scope they were made in.
function Inputs:keep()
  for _, key in ipairs(held) do
    if self[key] then q.keep(self[key]) end
  end
end

--- Its diagonal (size).
function Inputs:diagonal() return c.diagonal(self:hessian()) end

--- (2 / tokens) sum (x_full - x) x^T.
function Inputs:drift() return self.drift_sum and self.drift_sum * (2 / self.tokens) end

--- Mean and largest magnitude of each channel (size).
function Inputs:mean_abs() return self.total * (1 / math.max(1, self.tokens)) end
function Inputs:max_abs() return self.largest end

--- The kept rows (n, size).
function Inputs:sample() return #self.rows > 0 and q.concat(self.rows, 1) or q.zeros(0, self.size, self.dtype) end

--- q.quant.hessian(size, dtype): sums second moments of a layer's inputs, batch by batch.
local function hessian(size, dtype) return new(size, dtype or "f32", {hessian = true}) end

help.add{"q.quant.hessian", hessian, "hessian(size, dtype) -> object with :add(x), :hessian(), .tokens",
  "Sums the second moments of a layer's inputs, batch by batch: what GPTQ needs of the calibration data.",
  shapes = "x (..., size); hessian (size, size) = (2 / tokens) sum x x^T", errors = "NaN in the inputs; no inputs at all",
  example = "local h = q.quant.hessian(64)\nh:add(q.randn(128, 64))\nprint(h:hessian())", see = {"q.quant.gptq"}}

--- What a method was given: statistics, or inputs x to sum up for weights (out, in) that share them; both are checked.
local function of(name, weights, x, needs)
  for _, w in ipairs(weights) do
    if w:ndim() ~= 2 or w:numel() == 0 then
      options.fail("%s: a weight must be (out, in) and not empty, got (%s)", name, table.concat(w:shape(), ", "))
    end
  end
  local stats = getmetatable(x) == Inputs and x or new(weights[1]:size(2), weights[1]:dtype(), needs):add(x)
  if stats.tokens == 0 then options.fail("%s: no calibration inputs were seen (0 tokens)", name) end
  return stats
end

return {new = new, of = of, hessian = hessian, Inputs = Inputs}

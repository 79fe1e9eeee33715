--- basis.lua - orthonormal flat vectors, kept as rows of a few matrices.
--
-- Gram-Schmidt is done twice ("twice is enough", Giraud, Langou and Rozloznik 2005), by products
-- with whole blocks of rows, so that the basis stays orthonormal to rounding however long it gets.
-- Rows come in blocks so that memory grows with what is used.

local q = require "quench"

local basis = {}

local Basis = {}
Basis.__index = Basis

local BLOCK = 16 -- rows of a matrix

--- Room for `most` rows (a hint: smaller blocks for small bases).
function basis.new(layout, most)
  return setmetatable({layout = layout, block = math.max(1, math.min(BLOCK, most)), blocks = {}, count = 0}, Basis)
end

--- Row i, a view.
function Basis:row(i)
  local block = self.blocks[math.floor((i - 1) / self.block) + 1]
  return block:narrow(1, (i - 1) % self.block + 1, 1):view(self.layout.dimension)
end

--- Calls fn(rows, first) for each block of rows in use; first is the number of its first row.
function Basis:each(fn)
  for k, block in ipairs(self.blocks) do
    local first = (k - 1) * self.block + 1
    local rows = math.min(self.block, self.count - first + 1)
    if rows > 0 then fn(block:narrow(1, 1, rows), first) end
  end
end

--- One sweep of x <- x - Q^T Q x, in place; adds the coefficients to the list.
local function sweep(self, x, coefficients)
  self:each(function(rows, first)
    local c = rows:matmul(x)
    x:axpby_(1, rows:t():matmul(c), -1)
    for i, v in ipairs(c:totable()) do coefficients[first + i - 1] = (coefficients[first + i - 1] or 0) + v end
  end)
end

--- Takes from x, in place, its part in the basis; returns the coefficients, a list.
function Basis:project_out(x)
  local coefficients = {}
  sweep(self, x, coefficients)
  sweep(self, x, coefficients)
  return coefficients
end

--- Puts x, a vector of norm 1, behind the others as it is.
function Basis:push(x)
  if self.count == #self.blocks * self.block then
    self.blocks[#self.blocks + 1] = q.keep(q.zeros(self.block, self.layout.dimension, self.layout.dtype))
  end
  self.count = self.count + 1
  self:row(self.count):copy_(x)
end

--- Orthonormalises x against the basis and adds it. Returns the norm of what was new, and false if that is only
-- rounding: then nothing is added.
function Basis:add(x)
  local before = x:norm()
  self:project_out(x)
  local norm = x:norm()
  local epsilon = self.layout.dtype == "f64" and 1e-13 or 1e-5
  if not (norm > epsilon * before) then return 0, false end
  self:push(x * (1 / norm))
  return norm, true
end

--- Keeps the rows 1 .. count.
function Basis:cut(count) self.count = count end

--- The vector of coefficients (a list), flat.
function Basis:combine(coefficients)
  local x = self.layout:zeros()
  self:each(function(rows, first)
    local part = {}
    for i = 1, rows:size(1) do part[i] = coefficients[first + i - 1] or 0 end
    x:axpby_(1, rows:t():matmul(q.tensor(part, self.layout.dtype)), 1)
  end)
  return x
end

function Basis:free()
  for _, block in ipairs(self.blocks) do block:free() end
  self.blocks = {}
end

return basis

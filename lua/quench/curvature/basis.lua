--- basis.lua - orthonormal flat vectors.
--
-- Gram-Schmidt, one pass over the basis for all inner products and one for the update, summed in double.
-- "Twice is enough" (Giraud, Langou and Rozloznik 2005), and once is where the vector kept its length: what a sweep
-- leaves along the basis is rounding of the vector that went in, so only a vector that lost much of its norm needs a
-- second sweep (Daniel, Gragg, Kaufman and Stewart 1976, with their factor 1/sqrt 2). So the basis stays orthonormal
-- to rounding however long it gets.

local q = require "quench"
local linalg = require "quench.c.linalg"

local basis = {}

local Basis = {}
Basis.__index = Basis

local KEPT = 1 / math.sqrt(2) -- the part of its norm that a vector must keep for one sweep to do

--- An empty basis; memory grows with what is added.
function basis.new(layout) return setmetatable({layout = layout, rows = {}, count = 0}, Basis) end

--- Vector i itself.
function Basis:row(i) return self.rows[i] end

--- Vectors first .. count, a list.
local function from(self, first)
  local list = {}
  for i = first, self.count do list[#list + 1] = self.rows[i] end
  return list
end

--- x <- x - Q^T Q x in place, Q the vectors from the first on; adds what was taken to the coefficients.
local function sweep(self, x, coefficients, first)
  local rows = from(self, first)
  local c = linalg.inner_products(rows, x)
  for k, value in ipairs(c) do
    coefficients[first + k - 1] = coefficients[first + k - 1] + value
    c[k] = -value
  end
  linalg.combine(rows, c, x)
end

--- Takes from x, in place, its part in the basis; returns the coefficients, a list, and the norm of what is left.
-- recent: that many of the last vectors go first, where most of x is known to lie along them (Lanczos: 2); then one sweep does.
function Basis:project_out(x, recent)
  local coefficients = {}
  for i = 1, self.count do coefficients[i] = 0 end
  if recent then sweep(self, x, coefficients, math.max(1, self.count - recent + 1)) end
  local before = x:norm()
  sweep(self, x, coefficients, 1)
  local norm = x:norm()
  if norm < KEPT * before then
    sweep(self, x, coefficients, 1)
    norm = x:norm()
  end
  return coefficients, norm
end

--- Puts x, a vector of norm 1, behind the others as it is.
function Basis:push(x)
  self.rows[self.count + 1] = q.keep(x:clone())
  self.count = self.count + 1
end

--- Orthonormalises x against the basis and adds it. Returns the norm of what was new, and false if that is only
-- rounding: then nothing is added.
function Basis:add(x)
  local before = x:norm()
  local _, norm = self:project_out(x)
  local epsilon = self.layout.dtype == "f64" and 1e-13 or 1e-5
  if not (norm > epsilon * before) then return 0, false end
  self:push(x * (1 / norm))
  return norm, true
end

--- The vector of coefficients (a list; what it lacks is zero), flat.
function Basis:combine(coefficients)
  local x, c = self.layout:zeros(), {}
  for i = 1, self.count do c[i] = coefficients[i] or 0 end
  linalg.combine(from(self, 1), c, x)
  return x
end

--- Lets go of the vectors; count stays.
function Basis:free()
  for _, row in ipairs(self.rows) do row:free() end
  self.rows = {}
end

return basis

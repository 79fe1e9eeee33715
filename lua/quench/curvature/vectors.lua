--- vectors.lua - lists of tensors as one flat vector.
--
-- A direction in parameter space is a list of tensors shaped like the parameters: that is what
-- users hand over and get back. Solvers work on one flat tensor of all entries, so that inner
-- products and updates are one call each; `views` shows a flat vector as such a list, without a copy.

local q = require "quench"
local options = require "quench.options"

local vectors = {}

local Layout = {}
Layout.__index = Layout

local function text_of(shape) return "(" .. table.concat(shape, ", ") .. ")" end

--- How the parameters lie in a flat vector. They must share one dtype, f32 or f64.
function vectors.layout(what, params)
  if type(params) ~= "table" or #params == 0 then options.fail("%s: params must be a list of tensors that is not empty", what) end
  local self = setmetatable({what = what, starts = {}, sizes = {}, shapes = {}, dimension = 0}, Layout)
  for i, p in ipairs(params) do
    if type(p) ~= "userdata" or not p.dtype then options.fail("%s: params[%d] must be a tensor, it is a %s", what, i, type(p)) end
    self.dtype = self.dtype or p:dtype()
    if p:dtype() ~= self.dtype or not (self.dtype == "f32" or self.dtype == "f64") then
      options.fail("%s: params[%d] is %s; all parameters must share one dtype, f32 or f64", what, i, p:dtype())
    end
    self.starts[i], self.sizes[i], self.shapes[i] = self.dimension + 1, p:numel(), p:shape()
    self.dimension = self.dimension + p:numel()
  end
  return self
end

--- A new flat vector of zeros.
function Layout:zeros() return q.zeros(self.dimension, self.dtype) end

--- The flat vector x (n) as a list of tensors shaped like the parameters; they share its memory.
function Layout:views(x)
  local list = {}
  for i, shape in ipairs(self.shapes) do list[i] = x:narrow(1, self.starts[i], self.sizes[i]):view(shape) end
  return list
end

--- A new flat vector with the entries of a list; numbers and smaller tensors are spread over their parameter
-- where `spread` allows it (step sizes, one a row or a tensor).
function Layout:flatten(list, name, spread)
  if type(list) ~= "table" or #list ~= #self.shapes then
    options.fail("%s: %s must be a list of %d tensors, one a parameter, got %s", self.what, name, #self.shapes,
      type(list) == "table" and #list .. " entries" or "a " .. type(list))
  end
  local x = self:zeros()
  for i, view in ipairs(self:views(x)) do
    local t, shape = list[i], self.shapes[i]
    if type(t) == "number" and spread then
      view:fill_(t)
    elseif type(t) ~= "userdata" then
      options.fail("%s: %s[%d] must be a tensor, it is a %s", self.what, name, i, type(t))
    elseif not spread and text_of(t:shape()) ~= text_of(shape) then
      options.fail("%s: %s[%d] has shape %s, its parameter %s", self.what, name, i, text_of(t:shape()), text_of(shape))
    else
      q.no_grad(view.copy_, view, t)
    end
  end
  return x
end

--- A list of tensors of their own with the entries of x.
function Layout:list(x)
  local list = {}
  for i, view in ipairs(self:views(x)) do list[i] = view:clone() end
  return list
end

--- Inner products of x and y, one a parameter.
function Layout:dots(x, y)
  local dots = {}
  for i, start in ipairs(self.starts) do
    dots[i] = x:narrow(1, start, self.sizes[i]):dot(y:narrow(1, start, self.sizes[i]))
  end
  return dots
end

--- Entries +1 or -1 with equal chance, from the stream.
function Layout:rademacher(stream) return q.scope(function() return self:zeros():uniform_(stream, -1, 1):ge(0) * 2 - 1 end) end

--- A direction uniform on the unit sphere.
function Layout:unit(stream)
  return q.scope(function()
    local x = self:zeros():normal_(stream)
    return x * (1 / x:norm())
  end)
end

return vectors

--- optim/wrap.lua - optimizers around optimizers: the gradient is taken at a moved point.
--
-- SAM, ASAM and weight noise move the weights, let the caller's closure compute the gradients there, put the
-- very same weights back, and step with the inner optimizer. The closure does what stands before step in a
-- training loop: zero the gradients, loss, backward. Each can be limited to a phase (when, from, to).

local c = require "quench.c.tensor"
local options = require "quench.options"
local tensors = require "quench.tensors"

local Wrapped = {}

--- What is not the wrapper's own is the inner optimizer's: methods get the inner one as self.
Wrapped.__index = function(self, key)
  local own = Wrapped[key]
  if own ~= nil then return own end
  local inner = rawget(self, "inner")
  local value = inner[key]
  if type(value) ~= "function" then return value end
  return function(_, ...) return value(inner, ...) end
end

local phase = {
  {"when", "function", doc = "step -> boolean: is it active in this step? [always]"},
  {"from", "integer", default = 1, min = 1, doc = "first step it is active in"},
  {"to", "integer", min = 1, doc = "last step it is active in"},
}

local function with_phase(entries)
  for _, entry in ipairs(phase) do entries[#entries + 1] = entry end
  return entries
end

--- Is it active in the coming step? A trainer asks this to know whether the closure will be called.
function Wrapped:active()
  local step, o = self.inner:steps() + 1, self.wrap_options
  return step >= o.from and step <= (o.to or math.huge) and (not o.when or o.when(step) and true or false)
end

--- Moves the weights, runs the closure, puts the weights back whatever happens.
local function at_moved_point(self, closure)
  local list, kept = self.inner:tensors(), {}
  for i, w in ipairs(list) do kept[i] = w:clone() end
  local good, message = pcall(function()
    c.no_grad(tensors.scope, self.move, self, list)
    closure()
  end)
  c.no_grad(function()
    for i, w in ipairs(list) do w:copy_(kept[i]) kept[i]:free() end
  end)
  if not good then error(message, 0) end
end

function Wrapped:step(scale, closure)
  if self:active() then
    if type(closure) ~= "function" then
      options.fail("%s: step needs a closure that computes the gradients: opt:step(scale, function() ... end)", self.name)
    end
    at_moved_point(self, closure)
  end
  return self.inner:step(scale, closure)
end

--- The inner state, and how far the wrapper's stream of noise has come.
function Wrapped:state()
  local state = self.inner:state()
  if self.stream then state["noise.counter"] = c.full(self.stream:counter(), "f64") end
  return state
end

function Wrapped:load(state)
  if not self.stream then return self.inner:load(state) end
  local inner, counter = {}, state["noise.counter"]
  if not counter then options.fail("%s: the state has no entry 'noise.counter'; was it saved by another optimizer?", self.name) end
  for key, value in pairs(state) do
    if key ~= "noise.counter" then inner[key] = value end
  end
  self.inner:load(inner)
  self.stream:counter(type(counter) == "number" and counter or counter:item())
end

local function wrap(where, inner, o, move)
  if type(inner) ~= "table" or type(inner.step) ~= "function" or type(inner.tensors) ~= "function" then
    options.fail("%s: the first argument must be an optimizer", where)
  end
  return setmetatable({inner = inner, wrap_options = o, move = move, name = where:match("[^.]+$") .. "(" .. inner.name .. ")"}, Wrapped)
end

local M = {}

--- w + rho g / |g|, or with T = |w| + eta on tensors of two and more axes: w + rho T^2 g / |T g|.
local function climb(self, list)
  local o, scaled, squares = self.wrap_options, {}, 0
  for i, w in ipairs(list) do
    local g = w.grad
    if g then
      scaled[i] = o.adaptive and w:ndim() >= 2 and g * (w:abs() + o.eta) or g
      squares = squares + scaled[i]:norm() ^ 2
    end
  end
  if not (squares < math.huge) then options.fail("%s: the gradients hold NaN or infinity; nothing was changed", self.name) end
  local factor = o.rho / (math.sqrt(squares) + 1e-12)
  for i, w in ipairs(list) do
    local e = scaled[i]
    if e then
      if o.adaptive and w:ndim() >= 2 then e = e * (w:abs() + o.eta) end
      w:axpby_(1, e, factor)
    end
  end
end

M.sam_options = options.spec("q.optim.sam", with_phase{{"rho", "number", default = 0.05, min = 0, doc = "length of the climb"}})
M.asam_options = options.spec("q.optim.asam", with_phase{
  {"rho", "number", default = 0.5, min = 0, doc = "length of the climb, relative to the weights"},
  {"eta", "number", default = 0.01, min = 0, doc = "added to |w|"}})

function M.sam(inner, given) return wrap("q.optim.sam", inner, M.sam_options(given), climb) end

function M.asam(inner, given)
  local o = M.asam_options(given)
  o.adaptive = true
  return wrap("q.optim.asam", inner, o, climb)
end

M.noise_options = options.spec("q.optim.weight_noise", with_phase{
  {"bits", "integer", default = 4, min = 1, max = 16, doc = "noise as large as rounding to this many bits: step / sqrt(12)"},
  {"group", "integer", default = 128, min = 0, doc = "weights that share a step, along the last axis; 0: a whole row"},
  {"std", "number", min = 0, doc = "a fixed deviation instead"},
  {"seed", "integer", default = 0, doc = "of the noise"},
})

--- The step of symmetric rounding in each group, times 1 / sqrt(12), spread over the group.
local function rounding_deviation(w, o)
  local shape = w:shape()
  local width = shape[#shape]
  local group = o.group > 0 and width % o.group == 0 and o.group or width
  local grouped = w:view(w:numel() / group, group)
  local step = grouped:abs():max(2, true) * (2 / (2 ^ o.bits - 1))
  return (step * (1 / math.sqrt(12))):expand(w:numel() / group, group):contiguous():view(shape)
end

--- Normal noise on tensors of two and more axes.
local function shake(self, list)
  local o = self.wrap_options
  for _, w in ipairs(list) do
    if w:ndim() >= 2 then
      local noise = c.zeros(w:shape(), w:dtype()):normal_(self.stream)
      if o.std then w:axpby_(1, noise, o.std) else w:axpby_(1, noise * rounding_deviation(w, o)) end
    end
  end
end

function M.weight_noise(inner, given)
  local o = M.noise_options(given)
  local self = wrap("q.optim.weight_noise", inner, o, shake)
  self.stream = c.stream(o.seed, "noise")
  self.gradients_moved = true -- step needs no gradients at the unmoved point: a trainer may save that work
  return self
end

return M

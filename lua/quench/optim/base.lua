--- optim/base.lua - the optimizer object in Lua: a thin layer over the core's handle.
--
-- Every optimizer has the same interface, whether its rule is C, Lua or a wrapper around another:
--   opt:step(scale, closure) -> gradient norm before clipping     opt:zero_grad()
--   opt:state() -> {name = tensor}    opt:load(state)             opt:norm()
--   opt:train(), opt:eval()           opt:steps()                 opt.name, opt.groups

local core = require "quench.c.optim"
local options = require "quench.options"
local parameters = require "quench.optim.parameters"

local Optimizer = {}
Optimizer.__index = Optimizer

--- Options that all optimizers share, behind those of the rule.
Optimizer.common = {
  {"clip", "number", above = 0, doc = "largest global norm of the gradients; none by default"},
  {"groups", "list", default = {}, doc = "settings by parameter: {match=, role=, schedule=, lr = ...}, the first that fits counts"},
}

--- A list of numbers of a given length and range, as a check for options.spec.
function Optimizer.list_check(name, count, low, high, open_low, open_high)
  return function(list)
    if #list ~= count then return ("%s must be a list of %d numbers, got %d"):format(name, count, #list) end
    for i, v in ipairs(list) do
      local above = type(v) == "number" and (v > low or v == low and not open_low)
      if not above or v > high or v == high and open_high then
        return ("%s[%d] must be in %s%g, %g%s, got %s"):format(name, i, open_low and "(" or "[", low, high, open_high and ")" or "]",
          tostring(v))
      end
    end
  end
end

--- Fills self.core with the groups; settings(options) gives the numbers of the C table.
local function fill(self, spec, params, given, settings)
  local base = spec(given)
  for _, group in ipairs(parameters.groups(spec.name, params, base.groups)) do
    local merged = {}
    for key, value in pairs(given or {}) do merged[key] = value end
    for key, value in pairs(group.settings) do
      if key == "clip" or key == "groups" then options.fail("%s: '%s' holds for all groups; give it in the options", spec.name, key) end
      merged[key] = value
    end
    if group.schedule and type(group.schedule) ~= "function" and not (getmetatable(group.schedule) or {}).__call then
      options.fail("%s: a group's schedule must be a function of the step", spec.name)
    end
    group.options = spec(merged)
    self.core:group(settings(group.options))
    for _, r in ipairs(group.records) do
      self.core:parameter(r.tensor, r.name, r.role, r.decay, r.normalised)
      r.group = #self.groups + 1
      self.records[#self.records + 1] = r
    end
    self.groups[#self.groups + 1] = group
  end
end

--- A new optimizer of the core's rule `rule` (nil: none). spec checks the options, settings turns them into numbers.
function Optimizer.new(rule, spec, params, given, settings)
  local checked = spec(given)
  local name = rule or spec.name:match "[^.]+$"
  local self = setmetatable({core = core.new(rule, name, checked.clip), name = name, options = checked}, Optimizer)
  self.groups, self.records = {}, {}
  fill(self, spec, params, given, settings)
  return self
end

--- The factor on each group's rate: its own schedule's at this step, or what the caller gave.
function Optimizer:scales(scale)
  local list = {}
  for i, group in ipairs(self.groups) do
    local factor = type(scale) == "table" and scale[i] or scale or 1
    list[i] = group.schedule and group.schedule(self:steps() + 1) or factor
    if type(list[i]) ~= "number" then options.fail("%s: the scale of group %d must be a number, got %s", self.name, i, type(list[i])) end
  end
  return list
end

--- One step from the gradients in .grad. scale: the schedule's factor on the rate (a number, or a list with one a group).
function Optimizer:step(scale) return self.core:step(self:scales(scale)) end

function Optimizer:zero_grad() self.core:zero_grad() end

--- The global norm of the gradients that are there now.
function Optimizer:norm() return self.core:norm() end

--- Steps taken so far; saved and loaded with the state.
function Optimizer:steps() return self.core:steps() end

--- Everything a resumed run needs, as a table of tensors that can go into a file. Live: clone what must not change.
function Optimizer:state() return self.core:state() end

--- Loads a state; one that does not fit is refused as a whole.
function Optimizer:load(state) self.core:load(state) end

--- Puts the point to evaluate into the parameters (schedule_free), or back the point to train at; others do nothing.
function Optimizer:eval() self.core:swap(true) end
function Optimizer:train() self.core:swap(false) end

--- Takes the gradients in .grad as a sample of the curvature (sophia).
function Optimizer:observe() self.core:observe() end

--- Puts the weights on the optimizer's own starting point (scion: the ball of radius scale).
function Optimizer:init(seed) self.core:init(seed or 0) end

--- Bytes of state, all parameters together.
function Optimizer:state_bytes() return self.core:state_bytes() end

--- Changes a setting (one number) between steps, in one group or in all.
function Optimizer:set(name, value, group)
  for i = group or 1, group or #self.groups do
    self.core:set(i, name, value)
    self.groups[i].options[name] = value
  end
end

--- The tensors it moves, in order.
function Optimizer:tensors()
  local list = {}
  for i, r in ipairs(self.records) do list[i] = r.tensor end
  return list
end

return Optimizer

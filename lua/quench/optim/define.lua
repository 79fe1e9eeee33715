--- optim/define.lua - q.optim.define: an optimizer whose update is written in Lua.
-- The core still checks, measures and clips the gradients, and names, saves and loads the state.

local c = require "quench.c.tensor"
local options = require "quench.options"
local tensors = require "quench.tensors"
local Optimizer = require "quench.optim.base"

local Written = setmetatable({}, {__index = Optimizer})
Written.__index = Written

--- One update of every parameter that has a gradient; t counts steps from 1.
local function update_all(self, scales)
  local t = self:steps() + 1
  for i, r in ipairs(self.records) do
    local g = self.core:gradient(i)
    if g then
      local o = self.settings[r.group]
      o.scale, o.lr = scales[r.group], self.groups[r.group].options.lr * scales[r.group]
      o.weight_decay = r.decay and self.groups[r.group].options.weight_decay or 0
      self.update(r.tensor, g, r.state, o, t)
    end
  end
end

function Written:step(scale)
  local scales = self:scales(scale)
  local norm = self.core:begin()
  local good, message = pcall(tensors.scope, c.no_grad, update_all, self, scales)
  if good then good, message = pcall(self.core.apply, self.core) end -- counts the step
  self.core:finish()
  if not good then error(message, 0) end
  return norm
end

local definition = options.spec("q.optim.define", {
  {"name", "string", required = true, doc = "of the constructor in q.optim, and of the optimizer"},
  {"doc", "string", default = "", doc = "one line for help()"},
  {"source", "string", doc = "paper and equation"},
  {"options", "list", default = {}, doc = "its settings, as entries of options.spec; lr and weight_decay are always there"},
  {"state", "list", default = {}, doc = "names of its state tensors, each of the parameter's shape, zero at the start"},
  {"update", "function", required = true, doc = "function(w, g, state, o, t): changes w in place"},
})

--- Entries of the options: the author's, then lr and weight_decay where missing, then the common ones.
local function entries_of(d)
  local entries, seen = {}, {}
  for _, entry in ipairs(d.options) do
    entries[#entries + 1], seen[entry[1]] = entry, true
  end
  if not seen.lr then entries[#entries + 1] = {"lr", "number", default = 1e-3, min = 0, doc = "learning rate"} end
  if not seen.weight_decay then
    entries[#entries + 1] = {"weight_decay", "number", default = 0, min = 0, doc = "0 on parameters without decay"}
  end
  for _, entry in ipairs(Optimizer.common) do entries[#entries + 1] = entry end
  return entries
end

--- Returns the constructor, its options and its definition.
return function(given)
  local d = definition(given)
  local spec = options.spec("q.optim." .. d.name, entries_of(d))
  local function new(params, chosen)
    local self = setmetatable(Optimizer.new(nil, spec, params, chosen, function() return {} end), Written)
    self.update, self.settings = d.update, {}
    for i, group in ipairs(self.groups) do
      self.settings[i] = {}
      for key, value in pairs(group.options) do self.settings[i][key] = value end
    end
    for i, r in ipairs(self.records) do
      r.state = {}
      for _, name in ipairs(d.state) do r.state[name] = self.core:slot(i, name) end
    end
    return self
  end
  return new, spec, d
end

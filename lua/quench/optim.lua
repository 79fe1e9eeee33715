--- optim.lua - q.optim: one constructor an optimizer, made from the core's table.
--
--   local opt = q.optim.adamw(model:named_parameters(), {lr = 3e-3, clip = 1})
--   opt:zero_grad(); loss:backward(); opt:step(schedule(step))
--
-- Names, defaults, ranges and meanings of the settings stand in core/optim/<name>.c alone.

local core = require "quench.c.optim"
local help = require "quench.help"
local options = require "quench.options"
local Optimizer = require "quench.optim.base"

local M = {}

--- One row of the core's settings table as an entry of options.spec.
local function option_of(s)
  if s.kind == "list" then
    return {s.name, "list", default = s.value, doc = s.doc,
      check = Optimizer.list_check(s.name, #s.value, s.low, s.high, s.open_low, s.open_high)}
  elseif s.kind == "boolean" then
    return {s.name, "boolean", default = s.value[1] == 1, doc = s.doc}
  elseif s.kind == "choice" then
    return {s.name, "string", default = s.choices[s.value[1] + 1], choices = s.choices, doc = s.doc}
  end
  local entry = {s.name, s.kind, default = s.value[1], doc = s.doc}
  if s.low ~= 0 or s.high ~= 0 then
    entry[s.open_low and "above" or "min"] = s.low
    if s.high < math.huge then entry[s.open_high and "below" or "max"] = s.high end
  end
  return entry
end

--- Checked options as the list of numbers that the core's struct holds.
local function numbers_of(settings)
  local index = {}
  for _, s in ipairs(settings) do
    for i, choice in ipairs(s.choices or {}) do index[s.name .. "=" .. choice] = i - 1 end
  end
  return function(o)
    local list = {}
    for _, s in ipairs(settings) do
      local v = o[s.name]
      if s.kind == "list" then
        for _, x in ipairs(v) do list[#list + 1] = x end
      elseif s.kind == "boolean" then
        list[#list + 1] = v and 1 or 0
      else
        list[#list + 1] = s.kind == "choice" and index[s.name .. "=" .. v] or v
      end
    end
    return list
  end
end

local ERRORS = "a setting out of range; a parameter that is no dense f32 or f64 tensor or is listed twice; " ..
  "in step: no gradient at all, or one with NaN or infinity (nothing is changed then)"
local EXAMPLE = "local opt = q.optim.%s(model:named_parameters())\nopt:zero_grad()\nmodel:loss(ids):backward()\nlocal norm = opt:step(1.0)"

local function add(info)
  local entries = {}
  for i, s in ipairs(info.settings) do entries[i] = option_of(s) end
  for _, entry in ipairs(Optimizer.common) do entries[#entries + 1] = entry end
  local spec, numbers = options.spec("q.optim." .. info.name, entries), numbers_of(info.settings)
  M[info.name] = function(params, given) return Optimizer.new(info.name, spec, params, given, numbers) end
  help.add{"q.optim." .. info.name, M[info.name], ("q.optim.%s(params, options) -> optimizer"):format(info.name), info.doc,
    options = spec, source = info.source, errors = ERRORS, example = EXAMPLE:format(info.name), see = {"q.schedule.wsd", "q.optim.define"},
    shapes = "params: a list of tensors, a list of records {name=, tensor=, role=, decay=}, or a model"}
end

for _, info in ipairs(core.list()) do add(info) end

return M

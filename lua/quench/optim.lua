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
local define = require "quench.optim.define"
local presets = require "quench.optim.presets"
local wrap = require "quench.optim.wrap"

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

--- A new optimizer from its update rule; it becomes q.optim.<name>.
function M.define(definition)
  local new, spec, d = define(definition)
  if M[d.name] then options.fail("q.optim.define: there already is a q.optim.%s", d.name) end
  M[d.name] = new
  help.add{"q.optim." .. d.name, new, ("q.optim.%s(params, options) -> optimizer"):format(d.name), d.doc,
    options = spec, source = d.source}
  return new
end

help.add{"q.optim.define", M.define, "q.optim.define{name=, options=, state=, update=} -> constructor",
  "An optimizer written in Lua.",
  text = [[
update(w, g, state, o, t) changes the tensor w in place, from its gradient g (checked and clipped), the named state
tensors, the options o (o.lr already times the schedule's factor, o.weight_decay 0 where it does not apply) and the step t
from 1. It runs without recording; temporaries are freed. Everything else (groups, clipping, saving) is as for the others.]],
  errors = "a name that is taken; no update", see = {"q.optim.adamw"},
  example = [[
q.optim.define{name = "signsgd", state = {"m"}, options = {{"momentum", "number", default = 0.9, min = 0, below = 1}},
  update = function(w, g, s, o)
    s.m:axpby_(o.momentum, g, 1 - o.momentum)
    w:axpby_(1 - o.lr * o.weight_decay, s.m:sign(), -o.lr)
  end}
local opt = q.optim.signsgd(params, {lr = 1e-3})]]}

local PHASE = "With from, to or when it acts in a phase only: sam(inner, {from = 800}) in the cooldown of a run, say."
local function add_wrapper(name, spec, signature, doc, source)
  M[name] = wrap[name]
  help.add{"q.optim." .. name, wrap[name], signature, doc, options = spec, source = source, text = PHASE,
    errors = "inner is no optimizer; step without a closure while active; gradients with NaN or infinity",
    example = ("local opt = q.optim.%s(q.optim.adamw(params, {lr = 1e-3}))\n"):format(name) .. [[
local function gradients() opt:zero_grad() model:loss(ids):backward() end
gradients()
opt:step(1, gradients)   -- the second call is made at the moved point]]}
end
add_wrapper("sam", wrap.sam_options, "q.optim.sam(inner, {rho=}) -> optimizer",
  "Sharpness-aware: steps with the gradient found rho further uphill.", "Foret et al., ICLR 2021, eq. 2")
add_wrapper("asam", wrap.asam_options, "q.optim.asam(inner, {rho=, eta=}) -> optimizer",
  "SAM with a climb relative to each weight's size.", "Kwon et al., ICML 2021, eq. 8")
add_wrapper("weight_noise", wrap.noise_options, "q.optim.weight_noise(inner, {bits=, group=}) -> optimizer",
  "Takes the gradients at weights with noise as large as quantization's.", "Baskin et al., 2018 (UNIQ, arXiv 1804.10969)")

--- Calling a preset makes the optimizer; options given with the call or in paper{...} replace the preset's.
local Preset = {__call = function(self, params, more)
  local merged = {}
  for key, value in pairs(self.options) do merged[key] = value end
  for key, value in pairs(more or {}) do merged[key] = value end
  return M[self.name](params, merged)
end}

--- paper{"muon", lr = ...}: the settings of "Beyond Outliers" as a constructor.
function M.paper(request)
  if type(request) == "string" then request = {request} end
  local name = type(request) == "table" and request[1]
  local preset = presets[name]
  if not preset then
    local names = {}
    for key in pairs(presets) do names[#names + 1] = key end
    table.sort(names)
    options.fail("q.optim.paper: no preset '%s'%s; presets: %s", tostring(name), options.suggest(name or "", names), table.concat(names, ", "))
  end
  local chosen = {}
  for key, value in pairs(preset.options) do chosen[key] = value end
  for key, value in pairs(request) do
    if key ~= 1 then chosen[key] = value end
  end
  return setmetatable({name = name, options = chosen, missing = preset.missing or {}, note = preset.note}, Preset)
end

help.add{"q.optim.paper", M.paper, "q.optim.paper{name, options...} -> constructor",
  "The six optimizers with the settings of \"Beyond Outliers\".",
  text = "Presets: adamw, muon, psgd, scion, shampoo, soap. preset.options are the settings, preset.missing names what was not\n" ..
    "found in the authors' code and is a choice of ours.", source = "Vlassis et al., 2025 (arXiv 2509.23500) and its authors' training code",
  errors = "an unknown name", example = 'local opt = q.optim.paper{"muon", lr = 0.01}(model:named_parameters())'}

return M

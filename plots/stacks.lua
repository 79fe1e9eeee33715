--- q.plot.abc: the error of a quantized model along its depth, as stacks.
-- R = A + B + C for every module (Vlassis et al. 2025, arXiv 2509.23500, section 4): A comes in with the input, B is
-- made by the module's own weights, C is what the two share and may be negative; a diamond shows their sum R.
-- Few modules lie under each other with their names, many stand side by side.

local options = require "quench.options"
local upto = require("quench.plots.counts").upto

local MOST_NAMES = 44 -- modules that are still named one by one

local spec = options.spec("q.plot.abc", {
  {"title", "string", doc = "above the picture"},
  {"kinds", "list", default = {}, doc = "only modules of these kinds: linear, attention, rms, sum, ...; default: all"},
  {"trunc", "boolean", default = false, doc = "means without the tokens of largest R (trunc of q.metrics.abc)"},
  {"log", "boolean", default = false, doc = "R alone, with its standard error, on a logarithmic axis, as stacks have none"},
  {"theme", "string|table", default = "light", doc = "as for q.plot"},
  {"width", "number", above = 0, max = 100, unit = "inches", doc = "default 6.4"},
  {"height", "number", above = 0, max = 100, unit = "inches", doc = "default: by the number of modules"},
})

local function chosen(result, o)
  local wanted, known, found = {}, {}, {}
  for _, m in ipairs(result.modules) do
    if not known[m.kind] then
      known[m.kind] = true
      known[#known + 1] = m.kind
    end
  end
  for _, kind in ipairs(o.kinds) do
    if not known[kind] then
      options.fail("q.plot.abc: no module of kind '%s'%s; there are: %s", tostring(kind), options.suggest(tostring(kind), known),
        table.concat(known, ", "))
    end
    wanted[kind] = true
  end
  for _, m in ipairs(result.modules) do
    if #o.kinds == 0 or wanted[m.kind] then found[#found + 1] = m end
  end
  return found
end

--- The dotted beginning that the names of all modules inside layers share: "model.layers."
local function common_beginning(modules)
  local common
  for _, m in ipairs(modules) do
    if m.layer and m.kind ~= "sum" then
      local name = m.name
      common = common or name:match("^(.*%.)") or ""
      while name:sub(1, #common) ~= common do common = common:sub(1, -2):match("^(.*%.)") or "" end
    end
  end
  return common and common:match("^(.*%.)%d+%..*$") or common or ""
end

--- Short names, each once. A residual sum is named after the module whose output it adds.
local function names_of(modules, all)
  local start, names, seen, before = common_beginning(all), {}, {}, {}
  local last = "?"
  for _, m in ipairs(all) do
    local name = m.name
    if name:sub(1, #start) == start then name = name:sub(#start + 1) end
    if m.kind == "sum" then name = "+ " .. last else last = name end
    before[m] = name
  end
  for i, m in ipairs(modules) do
    local name = before[m]
    seen[name] = (seen[name] or 0) + 1
    names[i] = seen[name] == 1 and name or ("%s (%d)"):format(name, seen[name])
  end
  return names
end

local function values(modules, key, o, field)
  local out = {}
  for i, m in ipairs(modules) do out[i] = (o.trunc and m.trunc or m)[key][field or "value"] or 0 end
  return out
end

--- Ticks where a new layer begins: {place, number of the layer}.
local function layer_ticks(modules)
  local ticks, last, count = {}, nil, modules[#modules].layer or 1
  for _, m in ipairs(modules) do count = math.max(count, m.layer or 0) end
  local every = math.max(1, math.ceil(count / 16))
  for i, m in ipairs(modules) do
    if m.layer and m.layer ~= last and (m.layer - 1) % every == 0 then ticks[#ticks + 1] = {i, tostring(m.layer)} end
    last = m.layer
  end
  return ticks
end

local parts = {{"A", "A: from the input", 1}, {"B", "B: from the weights", 2}, {"C", "C: shared", 3}}

--- The layers of the plot; places: names under each other, or numbers side by side.
local function layers_of(p, modules, places, lying, o)
  local R, error = values(modules, "R", o), values(modules, "R", o, "error")
  local function add(kind, long, layer)
    layer[1] = kind
    layer[lying and "y" or "x"], layer[lying and "x" or "y"] = places, long
    p[#p + 1] = layer
  end
  if o.log then return add("bars", R, {label = "R", colour = 1, error = error}) end
  for _, part in ipairs(parts) do add("bars", values(modules, part[1], o), {stack = true, label = part[2], colour = part[3]}) end
  local dark = o.theme == "dark" or type(o.theme) == "table" and o.theme.base == "dark"
  places = upto(#modules) -- the places of the names
  add("points", R, {label = "R = A + B + C", marker = "diamond", colour = dark and "white" or "black", size = 4})
end

return function(plot)
  return function(result, given)
    if type(result) ~= "table" or type(result.modules) ~= "table" then
      options.fail("q.plot.abc: needs the result of q.metrics.abc, got %s", type(result))
    end
    local o = spec(given)
    local modules = chosen(result, o)
    local lying = #modules <= MOST_NAMES
    local p = {title = o.title, theme = o.theme, width = o.width or 6.4, legend = "top"}
    local axis = {label = (o.trunc and "truncated mean of " or "") .. "relative squared error", scale = o.log and "log" or "linear"}
    if lying then
      p.x, p.height = axis, o.height or math.max(2.2, 1 + 0.165 * #modules)
      layers_of(p, modules, names_of(modules, result.modules), true, o)
    else
      p.x, p.y, p.height = {label = "layer", ticks = layer_ticks(modules), grid = false}, axis, o.height or 3.4
      layers_of(p, modules, upto(#modules), false, o)
    end
    return plot(p)
  end, spec
end

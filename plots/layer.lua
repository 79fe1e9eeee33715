--- A layer: one table of the user's plot, checked and read.

local colour = require "quench.plots.colour"
local data = require "quench.plots.data"
local kinds = require "quench.plots.kinds"
local options = require "quench.options"
local pens = require "quench.plots.pens"

local layers = {}
local Layer = {}
Layer.__index = Layer

--- The x values: given numbers, names (a categorical axis), or 1..n.
function Layer:read_x(n)
  local x = self.o.x
  local xs
  if x == nil then
    xs = {}
    for i = 1, n do xs[i] = i end
    return xs
  end
  x = data.plain(x, self.where .. ": x")
  if type(x[1]) == "string" then
    self.names = x
    xs = {}
    for i, name in ipairs(x) do xs[i] = self.panel:category("x", name) end
  else
    xs = data.numbers(x, self.where .. ": x")
  end
  if n and #xs ~= n then options.fail("%s: x has %d points, y has %d", self.where, #xs, n) end
  return xs
end

local function split(given)
  local kind, named, place = "line", {}, {}
  local start = 1
  if type(given[1]) == "string" then kind, start = given[1], 2 end
  for i = start, #given do place[#place + 1] = given[i] end
  for key, v in pairs(given) do
    if type(key) == "string" then named[key] = v end
  end
  return kind, named, place
end

--- {"line", ys}, {"line", xs, ys}, {xs, ys}: places become x and y; kinds without y take what they name first.
local function name_places(place, named, kind, where)
  if #place > 2 then options.fail("%s: at most two lists without a name (x, y), got %d", where, #place) end
  if #place == 2 then named.x, named.y = place[1], place[2] end
  if #place == 1 then named[kind.first or "y"] = place[1] end
end

local columns = {x = true, y = true, low = true, high = true, error = true, value = true, sizes = true}

--- Replaces names of columns by the columns.
local function look_up(named, table_of_data, where)
  local t = named.data or table_of_data
  for key, v in pairs(named) do
    if columns[key] and type(v) == "string" then
      if not t then options.fail("%s: %s=%q names a column, but there is no data=", where, key, v) end
      named[key] = data.column(t, v, where)
    end
  end
end

local function subset(v, keep)
  local out = {}
  for _, i in ipairs(keep) do out[#out + 1] = v[i] end
  return out
end

--- One layer a value of the column `by`.
local function expand_by(named, table_of_data, where)
  if not named.by then return {named} end
  local t = named.data or table_of_data
  if not t then options.fail("%s: by='%s' needs data=", where, tostring(named.by)) end
  local keys = data.column(t, named.by, where)
  local out = {}
  for _, value in ipairs(data.distinct(keys)) do
    local rows, copy = {}, {}
    for i, k in ipairs(keys) do
      if k == value then rows[#rows + 1] = i end
    end
    for key, v in pairs(named) do
      local list = type(v) == "table" and #v == #keys and key ~= "data" and key ~= "dash"
      copy[key] = list and subset(v, rows) or v
    end
    copy.by, copy.data = nil, nil
    copy.label = tostring(value)
    out[#out + 1] = copy
  end
  return out
end

local markers = {"circle", "square", "diamond", "up", "down", "plus", "cross", "star"}

--- Names of colours, dashes and markers are checked now, not when the figure is drawn.
local function check_style(o, where, theme)
  if o.colour then colour.parse(o.colour, where, theme.cycle) end
  if o.dash then pens.dash(o.dash, theme, 1, where) end
  if type(o.marker) ~= "string" then return end
  for _, name in ipairs(markers) do
    if name == o.marker then return end
  end
  options.fail("%s: no marker '%s'%s; markers: %s", where, o.marker, options.suggest(o.marker, markers), table.concat(markers, ", "))
end

local function new_layer(kind, named, where, panel)
  local layer = setmetatable({kind = kind, o = kind.spec(named), where = where, panel = panel, span = {}}, Layer)
  layer.label = layer.o.label
  check_style(layer.o, where, panel.theme)
  return layer
end

--- fit= on a layer: a layer of kind fit behind it, in its colour.
local function with_fit(named)
  local fit = {x = named.x, y = named.y, colour = named.colour, axis = named.axis, formula = named.fit}
  named.fit = nil
  return fit
end

--- The layers of one table of the user's plot (several with by=).
function layers.read(given, index, panel)
  if type(given) ~= "table" then options.fail("q.plot: layer %d must be a table like {\"line\", x=, y=}, got %s", index, type(given)) end
  local name, named, place = split(given)
  local kind = kinds.find(name)
  local where = ("q.plot %s (layer %d)"):format(name, index)
  name_places(place, named, kind, where)
  look_up(named, panel.o.data, where)
  local out = {}
  for _, one in ipairs(expand_by(named, panel.o.data, where)) do
    local fit = one.fit and with_fit(one)
    out[#out + 1] = new_layer(kind, one, where, panel)
    if fit then out[#out + 1] = new_layer(kinds.find("fit"), fit, where .. ": fit", panel) end
  end
  return out
end

return layers

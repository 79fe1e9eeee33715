--- One axis of a panel: its scale, limits, ticks, and how it is drawn.

local data = require "quench.plots.data"
local options = require "quench.options"
local scale = require "quench.plots.scale"
local text = require "quench.plots.text"

local axes = {}
local Axis = {}
Axis.__index = Axis

axes.spec = options.spec("q.plot axis", {
  {"label", "string", doc = "what it shows, with its unit"},
  {"scale", "string", default = "linear", choices = scale.names, doc = "how values become lengths"},
  {"range", "list", doc = "{from, to}; either may be false to follow the data"},
  {"ticks", "list", doc = "values, or {value, text} pairs"},
  {"format", "function", doc = "value -> text of a tick"},
  {"zero", "boolean", default = false, doc = "zero belongs to the axis"},
  {"reverse", "boolean", default = false, doc = "larger values to the left or below"},
  {"grid", "boolean", default = true, doc = "light lines at the ticks"},
  {"linear", "number", above = 0, doc = "symlog: half-width of the linear part (default 1)"},
  {"margin", "number", min = 0, max = 1, doc = "free room beside the data, as a part of the axis; default 0.03"},
})

--- side: "x", "y" or "y2". given: a label or a table of options. short: {log=, range=} from the plot's own options.
function axes.new(side, given, short)
  if type(given) == "string" then given = {label = given} end
  local o = axes.spec(given)
  if short.log and o.scale == "linear" then o.scale = "log" end
  o.range = o.range or short.range
  if o.range then
    if type(o.range) ~= "table" then options.fail("q.plot: the range of %s must be {from, to}", side) end
    for i = 1, 2 do
      local v = o.range[i]
      if v and type(v) ~= "number" then options.fail("q.plot: the range of %s must be {from, to}, numbers or false", side) end
    end
  end
  local self = setmetatable({side = side, o = o, label = o.label, scale = scale.new(o.scale, o.linear), lists = {}, dropped = 0}, Axis)
  self.scale.reverse = o.reverse
  return self
end

--- The place of a name on a categorical axis; new names are added.
function Axis:category(name)
  if not self.categories then
    self.categories, self.places = {}, {}
    self.scale = scale.new("category")
    self.scale.categories = self.categories
  end
  if not self.places[name] then
    self.categories[#self.categories + 1] = name
    self.places[name] = #self.categories
  end
  return self.places[name]
end

--- Takes the numbers of a list into the limits.
function Axis:include(list) self.lists[#self.lists + 1] = list end

local function union(a, b, pick)
  if a == nil then return b end
  return b == nil and a or pick(a, b)
end

function Axis:data_range()
  local low, high
  local valid = self.scale.valid
  for _, list in ipairs(self.lists) do
    local a, b = data.range(list, valid)
    low, high = union(low, a, math.min), union(high, b, math.max)
  end
  return low, high
end

--- Numbers the scale can't show (zero and below on a logarithmic axis).
function Axis:count_dropped(list)
  local n, shown = 0, 0
  for i = 1, #list do
    local x = list[i]
    if x == x then
      if self.scale.valid(x) then shown = shown + 1 else n = n + 1 end
    end
  end
  return n, shown
end

--- Sets the limits from a data range and the options.
function Axis:set_limits(low, high)
  local o = self.o
  local from, to = o.range and o.range[1], o.range and o.range[2]
  if self.categories then
    self.scale:fit(0.5, math.max(1, #self.categories) + 0.5, 0)
    return
  end
  if (o.zero or self.zero_based) and self.scale.valid(0) then low, high = math.min(low or 0, 0), math.max(high or 0, 0) end
  for _, v in ipairs{from or 1, to or 1} do
    if not self.scale.valid(v) then
      options.fail("q.plot: the range of a %s axis must be positive, got %g for %s", self.scale.name, v, self.side)
    end
  end
  self.empty = low == nil and not (from and to)
  local start = self.scale.valid(0) and 0 or 1
  if low == nil then low, high = start, start == 0 and 1 or 10 end
  local margin = o.margin or (self.wide and 0.14 or self.side == "x" and 0.02 or 0.05)
  local before, after = from and 0 or self.tight_low and 0 or margin, to and 0 or self.tight_high and 0 or margin
  low, high = from or low, to or high
  if low >= high and (from or to) then
    if from and to then
      options.fail("q.plot: the range of %s is {%g, %g}: the first must be smaller (reverse=true turns the axis)", self.side, low, high)
    end
    if from then high = from + math.abs(from) + 1 else low = self.scale.valid(0) and to - math.abs(to) - 1 or to / 10 end
  end
  if o.zero or self.zero_based then
    if low == 0 then before = 0 end
    if high == 0 then after = 0 end
  end
  self.scale:fit(low, high, before, after)
end

--- Ticks over a length in points: {major, labels, minor, factor}.
function Axis:ticks(length, spacing)
  local o = self.o
  local t
  if o.ticks then
    t = {major = {}, labels = {}, minor = {}}
    local plain = {}
    for _, v in ipairs(o.ticks) do
      local value, label = type(v) == "table" and v[1] or v, type(v) == "table" and v[2] or nil
      if type(value) ~= "number" then options.fail("q.plot: ticks of %s are numbers or {number, text}", self.side) end
      if self.scale:inside(value) then
        t.major[#t.major + 1] = value
        plain[#plain + 1] = label or text.number(value)
      end
    end
    t.labels = plain
  else
    t = self.scale:ticks(length, spacing)
  end
  if o.format then
    for i, v in ipairs(t.major) do t.labels[i] = tostring(o.format(v)) end
    t.factor = nil
  end
  return t
end

--- As ticks(), but so that labels side by side keep their distance.
function Axis:ticks_in_row(length, theme)
  local spacing = theme.x_spacing
  local t
  for _ = 1, 6 do
    t = self:ticks(length, spacing)
    local last, crowded = nil, false
    local places = {}
    for i, v in ipairs(t.major) do places[i] = {self.scale:position(v) * length, theme.measure(t.labels[i], theme.small)} end
    table.sort(places, function(a, b) return a[1] < b[1] end)
    for _, p in ipairs(places) do
      local left, right = p[1] - p[2] / 2, p[1] + p[2] / 2
      if last and left < last + 0.7 * theme.small then crowded = true end
      last = right
    end
    if not crowded or self.o.ticks then return t end
    if self.categories then -- names too long to stand side by side are turned
      t.turned = true
      return t
    end
    spacing = spacing * 1.3
  end
  return t
end

return axes

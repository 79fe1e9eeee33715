--- Layers that are clouds of points: points, scatter.

local colour = require "quench.plots.colour"
local data = require "quench.plots.data"
local options = require "quench.options"
local pens = require "quench.plots.pens"

local function prepare(layer)
  layer.ys = data.numbers(layer.o.y, layer.where .. ": y")
  layer.xs = layer:read_x(#layer.ys)
  layer.span = {x = {layer.xs}, y = {layer.ys}}
end

local function shape_of(layer, view)
  return layer.o.marker or pens.of_cycle(view.theme.markers, layer.slot)
end

local function size_of(layer, view)
  return layer.o.size or (#layer.xs > 400 and 3 or #layer.xs > 100 and 4 or view.theme.marker)
end

--- Many points get thinner ink, so that density shows.
local function ink_of(layer)
  local n = #layer.xs
  local alpha = layer.o.alpha or (n > 2000 and 0.3 or n > 400 and 0.55 or 1)
  return colour.alpha(layer.colour, alpha)
end

local function draw_plain(layer, view)
  local px, py = pens.map(view, layer.xs, layer.ys)
  if #px > 60 and not layer.o.hollow then
    view.scene:markers(shape_of(layer, view), px, py, {size = size_of(layer, view), fill = ink_of(layer)})
  else
    pens.markers(view, shape_of(layer, view), px, py, ink_of(layer), size_of(layer, view), layer.o.hollow)
  end
end

local function swatch(layer, view, x, y, width)
  pens.markers(view, shape_of(layer, view), {x + width / 2}, {y}, layer.colour, math.max(4, size_of(layer, view)), layer.o.hollow)
end

local point_options = {
  {"marker", "string", doc = "circle, square, up, diamond, down, star, plus, cross; default: from the cycle"},
  {"size", "number", above = 0, unit = "points", doc = "diameter"},
  {"hollow", "boolean", default = false, doc = "an outline only"},
}

--- Scatter: colour and size may be lists of numbers, one a point.
local function prepare_scatter(layer)
  prepare(layer)
  local o = layer.o
  if o.value then
    layer.values = data.numbers(o.value, layer.where .. ": value")
    if #layer.values ~= #layer.ys then options.fail("%s: %d points, but value has %d numbers", layer.where, #layer.ys, #layer.values) end
    local low, high = data.range(layer.values)
    local range = o.range or {low or 0, high or 1}
    layer.colours = {map = colour.map(o.map, layer.where), low = range[1], high = range[2], label = o.value_label}
  end
  if o.sizes then
    layer.sizes = data.numbers(o.sizes, layer.where .. ": sizes")
    if #layer.sizes ~= #layer.ys then options.fail("%s: %d points, but sizes has %d numbers", layer.where, #layer.ys, #layer.sizes) end
  end
end

local function draw_scatter(layer, view)
  if not layer.values and not layer.sizes then return draw_plain(layer, view) end
  local px, py = pens.map(view, layer.xs, layer.ys)
  local _, most = data.range(layer.sizes or {})
  local c = layer.colours
  for i = 1, #px do
    local ink = ink_of(layer)
    if c then
      local t = (layer.values[i] - c.low) / (c.high - c.low)
      ink = t == t and colour.alpha(c.map(math.max(0, math.min(1, t))), layer.o.alpha or 0.9) or view.theme.muted
    end
    local size = layer.sizes and 2 + 12 * math.sqrt(math.max(0, layer.sizes[i]) / most) or size_of(layer, view)
    if size == size then
      local style = {size = size, fill = ink, stroke = view.theme.panel, width = 0.4}
      view.scene:markers(layer.o.marker or "circle", {px[i]}, {py[i]}, style)
    end
  end
end

return function(kinds)
  kinds.add{"points", "markers at the points",
    example = [[{"points", N, loss, label = "runs", fit = "a*x^-b+c"}]],
    options = point_options, prepare = prepare, draw = draw_plain, swatch = swatch}

  local more = {
    {"value", "any", doc = "numbers that colour the points, with a colour bar"},
    {"value_label", "string", doc = "of the colour bar"},
    {"map", "string|function", default = "sequential", doc = "sequential, blues, diverging, cyclic, grey; - reverses"},
    {"range", "list", doc = "{low, high} of the colour map"},
    {"sizes", "any", doc = "numbers that set the area of the points"},
  }
  local all = {}
  for _, e in ipairs(point_options) do all[#all + 1] = e end
  for _, e in ipairs(more) do all[#all + 1] = e end
  kinds.add{"scatter", "points coloured and sized by numbers",
    example = [[{"scatter", norm, loss, value = sharpness, value_label = "sharpness"}]],
    options = all, prepare = prepare_scatter, draw = draw_scatter,
    swatch = swatch}
end

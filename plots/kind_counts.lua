--- Layers that count: histogram, density.

local colour = require "quench.plots.colour"
local counts = require "quench.plots.counts"
local data = require "quench.plots.data"
local options = require "quench.options"
local pens = require "quench.plots.pens"

--- The numbers of x (or of the only list given), those the x scale can show, sorted.
local function values_of(layer)
  local given = layer.o.x
  if given == nil then options.fail("%s: needs x=, the numbers to count", layer.where) end
  if data.is_tensor(given) and #given:shape() > 1 then given = given:reshape(given:numel()) end
  local sorted = data.sorted(data.numbers(given, layer.where .. ": x"))
  local out, valid = {}, layer.panel.x.scale.valid
  for _, v in ipairs(sorted) do
    if valid(v) then out[#out + 1] = v end
  end
  layer.panel.x.dropped = layer.panel.x.dropped + #sorted - #out
  return out
end

local function prepare_histogram(layer)
  local o, sorted = layer.o, values_of(layer)
  if #sorted == 0 then
    layer.edges, layer.heights, layer.span = {}, {}, {}
    return
  end
  local low, high = sorted[1], sorted[#sorted]
  if o.range then low, high = o.range[1], o.range[2] end
  if type(o.bins) == "table" then layer.edges = data.numbers(o.bins, layer.where .. ": bins")
  else layer.edges = counts.edges(low, high, o.bins or counts.bin_number(sorted), layer.panel.x.scale) end
  local found, inside = counts.fill(sorted, layer.edges)
  layer.heights = {}
  local sum = 0
  for i, n in ipairs(found) do
    sum = sum + n
    local height = o.cumulative and sum or n
    if o.normal == "share" then height = height / inside
    elseif o.normal == "density" then height = height / inside / (o.cumulative and 1 or layer.edges[i + 1] - layer.edges[i]) end
    layer.heights[i] = height
  end
  layer.span = {x = {layer.edges}, y = {layer.heights}, zero = "y"}
end

local function draw_histogram(layer, view)
  local foot = view.y(0)
  if foot ~= foot then foot = view.top + view.height end
  local xs, ys = {}, {}
  local function add(x, y) xs[#xs + 1], ys[#ys + 1] = x, y end
  for i, h in ipairs(layer.heights) do
    local y = view.y(h)
    if y ~= y then y = foot end
    if i == 1 then add(view.x(layer.edges[1]), foot) end
    add(view.x(layer.edges[i]), y)
    add(view.x(layer.edges[i + 1]), y)
  end
  if #xs == 0 then return end
  add(xs[#xs], foot)
  view.scene:polyline(xs, ys):fill(colour.alpha(layer.colour, layer.o.alpha or 0.35), {keep = true})
  view.scene:stroke(colour.alpha(layer.colour, 1), 0.9, {join = "miter"})
end

local function block(layer, view, x, y, width)
  view.scene:rectangle(x + 3, y - 4, width - 6, 8):fill(colour.alpha(layer.colour, layer.o.alpha or 0.35), {keep = true})
  view.scene:stroke(colour.alpha(layer.colour, 1), 0.9)
end

local function prepare_density(layer)
  local sorted = values_of(layer)
  if #sorted == 0 then
    layer.xs, layer.ys, layer.span = {}, {}, {}
    return
  end
  layer.xs, layer.ys = counts.density(sorted, layer.o.bandwidth, 240, 3)
  layer.span = {x = {layer.xs}, y = {layer.ys}, zero = "y"}
end

return function(kinds)
  kinds.add{"histogram", "how many numbers fall into each bin",
    example = [[{"histogram", weights, bins = 50, normal = "density"}]],
    first = "x",
    options = {
      {"bins", "integer|list", doc = "how many, or their edges; default by Freedman and Diaconis"},
      {"range", "list", doc = "{from, to} of the bins"},
      {"normal", "string", default = "count", choices = {"count", "share", "density"}, doc = "height of a bar"},
      {"cumulative", "boolean", default = false, doc = "all numbers up to the bin"},
    },
    prepare = prepare_histogram, draw = draw_histogram, swatch = block}
  kinds.add{"density", "a smooth density (Gaussian kernels)",
    example = [[{"density", weights, label = "before"}]],
    first = "x",
    options = {{"bandwidth", "number", above = 0, doc = "of the kernel; default: Silverman's rule"},
      {"fill", "boolean", default = true, doc = "shade the area below"},
      {"width", "number", above = 0, unit = "points", doc = "line width"}},
    prepare = prepare_density,
    under = function(layer, view)
      local zero = {}
      for i = 1, #layer.xs do zero[i] = 0 end
      if layer.o.fill then pens.area(view, layer.xs, zero, layer.ys, pens.band_colour(layer.colour, view.theme)) end
    end,
    draw = function(layer, view) pens.polyline(view, layer.xs, layer.ys, layer.colour, layer.o.width or view.theme.line) end,
    swatch = function(layer, view, x, y, width)
      view.scene:rectangle(x, y, width, 4):fill(pens.band_colour(layer.colour, view.theme))
      view.scene:polyline({x, x + width}, {y, y}):stroke(layer.colour, layer.o.width or view.theme.line)
    end}
end

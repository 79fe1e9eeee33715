--- Layers that are curves: line, step, band, errorbars.

local colour = require "quench.plots.colour"
local data = require "quench.plots.data"
local options = require "quench.options"
local pens = require "quench.plots.pens"

local line_options = {
  {"width", "number", above = 0, max = 20, unit = "points", doc = "line width; default 1.5"},
  {"dash", "string|list|integer", doc = "solid, dashed, dotted, dashdot, long, or a list in line widths"},
  {"marker", "string|boolean", doc = "a shape; true: from the cycle; default: lines of up to 12 points have one"},
  {"size", "number", above = 0, unit = "points", doc = "of the markers"},
  {"spread", "string", default = "std", choices = {"std", "sem", "quantiles", "range", "none"}, doc = "band around the mean of runs"},
  {"smooth", "number", min = 0, below = 1, doc = "weight of the past in a moving average; the raw line stays behind, pale"},
}

--- Exponential moving average, started at the first value and corrected for the start.
local function smoothed(ys, weight)
  local out, sum, norm = {}, 0, 0
  for i, y in ipairs(ys) do
    if y == y then sum, norm = weight * sum + (1 - weight) * y, weight * norm + 1 - weight end
    out[i] = y == y and sum / norm or y
  end
  return out
end

local function prepare_line(layer)
  local o = layer.o
  if data.is_runs(o.y) then
    layer.runs = data.runs(o.y, layer.where .. ": y")
    local centre, low, high = data.summary(layer.runs, o.spread == "none" and "std" or o.spread)
    layer.ys = centre
    if o.spread ~= "none" and #layer.runs > 1 then layer.low, layer.high = low, high end
  else
    layer.ys = data.numbers(o.y, layer.where .. ": y")
  end
  layer.xs = layer:read_x(#layer.ys)
  if o.smooth then layer.raw, layer.ys = layer.ys, smoothed(layer.ys, o.smooth) end
  layer.span = {x = {layer.xs}, y = {layer.ys, layer.low, layer.high}}
  if layer.raw then table.insert(layer.span.y, layer.raw) end
end

--- The line of a layer: its own dash, or the cycle's when the legend must tell lines apart in grey print.
local function line_style(layer, view)
  local width = layer.o.width or view.theme.line
  local dash = layer.o.dash or (layer.o.axis == "y2" and "dotted") or layer.dash_slot or "solid"
  return width, pens.dash(dash, view.theme, width, layer.where)
end

local function marker_of(layer, view)
  local m = layer.o.marker
  if m == nil then m = #layer.xs <= 12 and not layer.runs_dense end
  if not m then return nil end
  if m == true then m = pens.of_cycle(view.theme.markers, layer.slot) end
  return m
end

local function draw_line(layer, view, xs, ys)
  local width, dash = line_style(layer, view)
  if layer.raw then pens.polyline(view, layer.xs, layer.raw, colour.alpha(layer.colour, 0.3), 0.6 * width) end
  xs, ys = xs or layer.xs, ys or layer.ys
  pens.polyline(view, xs, ys, layer.colour, width, dash)
end

local function draw_markers(layer, view)
  local marker = marker_of(layer, view)
  if marker then
    local px, py = pens.map(view, layer.xs, layer.ys)
    pens.markers(view, marker, px, py, layer.colour, layer.o.size or view.theme.marker)
  end
end

local function band_under(layer, view)
  if layer.low then pens.area(view, layer.xs, layer.low, layer.high, pens.band_colour(layer.colour, view.theme)) end
end

local function swatch_line(layer, view, x, y, width)
  if layer.low then
    view.scene:rectangle(x, y - 4, width, 8):fill(pens.band_colour(layer.colour, view.theme))
  end
  local w, dash = line_style(layer, view)
  view.scene:polyline({x, x + width}, {y, y}):stroke(layer.colour, w, pens.stroke_options(dash))
  local marker = marker_of(layer, view)
  if marker then pens.markers(view, marker, {x + width / 2}, {y}, layer.colour, layer.o.size or view.theme.marker) end
end

--- Doubles the points so that each value holds up to the next x ("post"), from the one before ("pre"), or around ("mid").
local function staircase(xs, ys, where)
  local sx, sy = {}, {}
  local function add(x, y) sx[#sx + 1], sy[#sy + 1] = x, y end
  for i = 1, #xs do
    if where == "mid" then
      add(i > 1 and (xs[i - 1] + xs[i]) / 2 or xs[i], ys[i])
      add(i < #xs and (xs[i] + xs[i + 1]) / 2 or xs[i], ys[i])
    elseif where == "pre" then
      if i > 1 then add(xs[i - 1], ys[i]) end
      add(xs[i], ys[i])
    else
      add(xs[i], ys[i])
      if i < #xs then add(xs[i + 1], ys[i]) end
    end
  end
  return sx, sy
end

local function copy(list, extra)
  local out = {}
  for i, v in ipairs(list) do out[i] = v end
  for _, v in ipairs(extra or {}) do out[#out + 1] = v end
  return out
end

local function prepare_band(layer)
  local o = layer.o
  if o.runs then
    layer.runs = data.runs(o.runs, layer.where .. ": runs")
    local centre
    centre, layer.low, layer.high = data.summary(layer.runs, o.spread)
    if o.line then layer.ys = centre end
  elseif o.low and o.high then
    layer.low, layer.high = data.numbers(o.low, layer.where .. ": low"), data.numbers(o.high, layer.where .. ": high")
    if #layer.low ~= #layer.high then options.fail("%s: low has %d points, high has %d", layer.where, #layer.low, #layer.high) end
  else
    options.fail("%s: needs low= and high=, or runs= (a list of lists)", layer.where)
  end
  layer.xs = layer:read_x(#layer.low)
  layer.span = {x = {layer.xs}, y = {layer.low, layer.high}}
end

local function prepare_errorbars(layer)
  local o = layer.o
  layer.ys = data.numbers(o.y or {}, layer.where .. ": y")
  layer.xs = layer:read_x(#layer.ys)
  local function side(given, sign)
    if given == nil then return nil end
    local out = type(given) == "number" and {} or data.numbers(given, layer.where .. ": error")
    for i, y in ipairs(layer.ys) do out[i] = y + sign * (type(given) == "number" and given or out[i] or 0 / 0) end
    return out
  end
  layer.low = o.low and data.numbers(o.low, layer.where .. ": low") or side(o.error, -1)
  layer.high = o.high and data.numbers(o.high, layer.where .. ": high") or side(o.error, 1)
  if not layer.low or not layer.high then options.fail("%s: needs error= (a number or a list), or low= and high=", layer.where) end
  layer.span = {x = {layer.xs}, y = {layer.ys, layer.low, layer.high}}
end

local function draw_bars(view, px, low, high, c, width, cap)
  for i = 1, #px do
    local x, a, b = px[i], low[i], high[i]
    if x == x and b == b then
      if a ~= a then a = view.top + view.height end
      view.scene:move(x, a):line(x, b):move(x - cap, b):line(x + cap, b):move(x - cap, a):line(x + cap, a)
    end
  end
  view.scene:stroke(c, width)
end

return function(kinds)
  kinds.add{"line", "a curve through the points; of several runs, their mean with a band",
    example = [[{"line", x = steps, y = {run1, run2, run3}, label = "AdamW", spread = "std"}]],
    options = line_options, ends = true,
    prepare = prepare_line, under = band_under, swatch = swatch_line,
    draw = function(layer, view)
      draw_line(layer, view)
      draw_markers(layer, view)
    end}

  kinds.add{"step", "a staircase: values that hold for a while",
    example = [[{"step", steps, rate, where = "post"}]],
    ends = true,
    options = copy(line_options, {{"where", "string", default = "post", choices = {"post", "pre", "mid"}, doc = "where it jumps"}}),
    prepare = function(layer)
      if layer.o.marker == nil then layer.o.marker = false end
      prepare_line(layer)
    end,
    swatch = swatch_line,
    under = function(layer, view)
      if not layer.low then return end
      local xs, low = staircase(layer.xs, layer.low, layer.o.where)
      local _, high = staircase(layer.xs, layer.high, layer.o.where)
      pens.area(view, xs, low, high, pens.band_colour(layer.colour, view.theme))
    end,
    draw = function(layer, view)
      draw_line(layer, view, staircase(layer.xs, layer.ys, layer.o.where))
      draw_markers(layer, view)
    end}

  kinds.add{"band", "the area between two curves, or the spread of several runs",
    example = [[{"band", x = steps, low = low, high = high}]],
    follows = true, first = "x",
    options = {
      {"low", "any", doc = "lower curve"}, {"high", "any", doc = "upper curve"},
      {"runs", "any", doc = "list of lists (or 2-D tensor): one run a seed"},
      {"spread", "string", default = "std", choices = {"std", "sem", "quantiles", "range"}, doc = "what the band shows of the runs"},
      {"line", "boolean", default = true, doc = "draw the centre of the runs"},
      {"width", "number", above = 0, unit = "points", doc = "of the centre line"},
    },
    prepare = prepare_band,
    under = function(layer, view)
      pens.area(view, layer.xs, layer.low, layer.high, pens.band_colour(layer.colour, view.theme, layer.o.alpha))
    end,
    draw = function(layer, view)
      if layer.ys then pens.polyline(view, layer.xs, layer.ys, layer.colour, layer.o.width or view.theme.line) end
    end,
    swatch = function(layer, view, x, y, width)
      view.scene:rectangle(x, y - 4, width, 8):fill(pens.band_colour(layer.colour, view.theme, layer.o.alpha))
      if layer.ys then view.scene:polyline({x, x + width}, {y, y}):stroke(layer.colour, layer.o.width or view.theme.line) end
    end}

  kinds.add{"errorbars", "points with bars of uncertainty",
    example = [[{"errorbars", bits, error, error = sem}]],
    options = {
      {"error", "any", doc = "half-length of the bars: a number or a list"},
      {"low", "any", doc = "lower ends"}, {"high", "any", doc = "upper ends"},
      {"marker", "string|boolean", default = true, doc = "shape at the centre, or false"},
      {"size", "number", above = 0, unit = "points", doc = "of the markers"},
      {"width", "number", above = 0, unit = "points", doc = "of the bars"},
      {"cap", "number", default = 2.5, min = 0, unit = "points", doc = "half-width of the end strokes"},
    },
    prepare = prepare_errorbars,
    draw = function(layer, view)
      local px, py = pens.map(view, layer.xs, layer.ys)
      local _, low = pens.map(view, layer.xs, layer.low)
      local _, high = pens.map(view, layer.xs, layer.high)
      draw_bars(view, px, low, high, layer.colour, layer.o.width or 0.7 * view.theme.line, layer.o.cap)
      local marker = marker_of(layer, view)
      if marker then pens.markers(view, marker, px, py, layer.colour, layer.o.size or view.theme.marker) end
    end,
    swatch = function(layer, view, x, y, width)
      local middle = x + width / 2
      draw_bars(view, {middle}, {y + 5}, {y - 5}, layer.colour, layer.o.width or 0.7 * view.theme.line, layer.o.cap)
      local marker = marker_of(layer, view)
      if marker then pens.markers(view, marker, {middle}, {y}, layer.colour, layer.o.size or view.theme.marker) end
    end}
end

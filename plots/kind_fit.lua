--- A curve fitted to points: {"fit", x=, y=, formula="a*x^-b+c"}, or fit="..." on a layer of points or lines.

local data = require "quench.plots.data"
local levenberg = require "quench.plots.levenberg"
local options = require "quench.options"
local pens = require "quench.plots.pens"
local text = require "quench.plots.text"

--- "b = 0.34 ± 0.02": as many digits as the error allows.
local function estimate(name, value, err)
  local shown = #name > 1 and "\\" .. name or name
  if err ~= err or err <= 0 then return ("%s = %s"):format(shown, text.number(value)) end
  local size = math.abs(value)
  if size >= 1e4 or size < 1e-3 then
    return ("%s = %s ± %s"):format(shown, text.number(value), text.number(tonumber(("%.2g"):format(err))))
  end
  local places = math.max(0, math.min(8, 1 - math.floor(math.log10(err))))
  local format = ("%%.%df"):format(places)
  return ("%s = %s ± %s"):format(shown, (format:format(value):gsub("-", "−")), format:format(err))
end

--- All parameters in a line.
local function summary(fit)
  local parts = {}
  for i, name in ipairs(fit.names) do parts[i] = estimate(name, fit.value[name], fit.error[name]) end
  return table.concat(parts, ",  ")
end

--- Values of x for the curve, even in the scale's measure.
local function samples(scale, low, high, n)
  local a, b, out = scale.forward(low), scale.forward(high), {}
  for i = 1, n do out[i] = scale.inverse(a + (b - a) * (i - 1) / (n - 1)) end
  return out
end

local function curve(fit, xs, log)
  local ys, low, high = {}, {}, {}
  for i, x in ipairs(xs) do
    local y, half = fit.at(x)
    ys[i] = y
    if log and y > 0 then low[i], high[i] = y * math.exp(-half), y * math.exp(half) -- half-width of the logarithm
    else low[i], high[i] = y - half, y + half end
  end
  return {xs = xs, ys = ys, low = low, high = high}
end

local function prepare(layer)
  local o, panel = layer.o, layer.panel
  layer.ys = data.numbers(o.y, layer.where .. ": y")
  layer.xs = layer:read_x(#layer.ys)
  local y = panel[o.axis]
  local log = o.relative
  if log == nil then log = y.scale.name == "log" or y.scale.name == "log2" end
  local fit = levenberg.fit(o.formula, layer.xs, layer.ys, {start = o.start, log = log, where = layer.where})
  if log then -- the interval of log y: derivative of log f is f'/f
    local at = fit.at
    fit.at = function(x)
      local v, half = at(x)
      return v, half / v
    end
  end
  local low, high = data.range(layer.xs, panel.x.scale.valid)
  if not low then options.fail("%s: no points to fit", layer.where) end
  local from, to = math.min(low, o.from or low), math.max(high, o.to or high)
  layer.fit = fit
  layer.inner = curve(fit, samples(panel.x.scale, low, high, 160), log)
  layer.outer = {}
  if from < low then table.insert(layer.outer, curve(fit, samples(panel.x.scale, from, low, 60), log)) end
  if to > high then table.insert(layer.outer, curve(fit, samples(panel.x.scale, high, to, 60), log)) end
  layer.span = {x = {{from, to}}, y = {layer.inner.ys}}
  for _, c in ipairs(layer.outer) do table.insert(layer.span.y, c.ys) end
  layer.label = o.label or summary(fit)
  layer.xs, layer.ys = layer.inner.xs, layer.inner.ys -- for the label at the line's end
end

local function each_curve(layer, fn)
  fn(layer.inner, layer.o.dash or "solid")
  for _, c in ipairs(layer.outer) do fn(c, "dashed") end
end

return function(kinds)
  kinds.add{"fit", "a formula fitted to points, with its 95 % interval; dashed beyond the data",
    example = [[{"fit", N, loss, formula = "A*x^-alpha+E", to = 1e12}]],
    follows = true,
    options = {
      {"formula", "string", required = true, doc = "of x and free names: \"a*x^-b+c\""},
      {"start", "table", doc = "first guesses {b = 0.5}; found by search where absent"},
      {"relative", "boolean", doc = "compare logarithms; default: on a logarithmic y axis"},
      {"from", "number", doc = "draw the curve from here"}, {"to", "number", doc = "draw the curve up to here"},
      {"interval", "boolean", default = true, doc = "shade the 95 % interval of the curve"},
      {"width", "number", above = 0, unit = "points", doc = "line width"}, {"dash", "string|list|integer", doc = "as for line"},
    },
    prepare = prepare,
    under = function(layer, view)
      if not layer.o.interval then return end
      each_curve(layer, function(c) pens.area(view, c.xs, c.low, c.high, pens.band_colour(layer.colour, view.theme)) end)
    end,
    draw = function(layer, view)
      local width = layer.o.width or view.theme.line
      each_curve(layer, function(c, dash)
        pens.polyline(view, c.xs, c.ys, layer.colour, width, pens.dash(dash, view.theme, width, layer.where))
      end)
    end,
    swatch = function(layer, view, x, y, width)
      if layer.o.interval then view.scene:rectangle(x, y - 4, width, 8):fill(pens.band_colour(layer.colour, view.theme)) end
      view.scene:polyline({x, x + width}, {y, y}):stroke(layer.colour, layer.o.width or view.theme.line)
    end}
end

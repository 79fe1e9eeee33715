--- Layers that explain: hline, vline, region, text, arrow. They take no colour of the cycle and do not stretch the axes
-- (reference lines do: a line outside the figure would explain nothing).

local data = require "quench.plots.data"
local options = require "quench.options"
local colour = require "quench.plots.colour"
local pens = require "quench.plots.pens"
local text = require "quench.plots.text"

local function one_or_more(v, where)
  if type(v) == "number" then return {v} end
  return data.numbers(v or {}, where)
end

local line_options = {
  {"width", "number", above = 0, unit = "points", doc = "default 0.9"},
  {"dash", "string|list|integer", default = "dashed", doc = "as for line"},
  {"text", "string", doc = "written along the line"},
}

local function ink(layer, view) return layer.o.colour and layer.colour or view.theme.muted end

local function draw_text(view, s, x, y, style)
  local lines = text.lines(s)
  local height = style.size * 1.25
  local first = y - (#lines - 1) * height * (style.valign == 1 and 0 or style.valign == 0.5 and 0.5 or 1)
  for i, line in ipairs(lines) do view.scene:text(x, first + (i - 1) * height, line, style) end
end

--- Ink of the data in a rectangle of the page.
local function ink_in(view, x, y, width, height)
  local sum = 0
  for _, v in ipairs(view.scene:ink(view.first, x, y, width, height, 24, 4)) do sum = sum + v end
  return sum
end

--- Writes the text of a reference line at p: at either end, on either side, where least is drawn.
local function write_beside(layer, view, axis, p)
  local size = view.theme.small
  local long, high = view.theme.measure(layer.o.text, size), 1.1 * size
  local right, bottom = view.left + view.width, view.top + view.height
  local places = {}
  for _, side in ipairs{-1, 1} do
    for _, far in ipairs{1, 0} do
      local place = {side = side, far = far}
      if axis == "y" then
        place.x, place.y, place.w, place.h = far == 1 and right - 3 - long or view.left + 4, side < 0 and p - 2 - high or p + 2, long, high
      else
        place.x, place.y, place.w, place.h = side < 0 and p - 2 - high or p + 2, far == 1 and view.top + 3 or bottom - 4 - long, high, long
      end
      place.inside = place.x > view.left and place.x + place.w < right and place.y > view.top and place.y + place.h < bottom
      places[#places + 1] = place
    end
  end
  local best, least
  for _, place in ipairs(places) do
    local cost = place.inside and ink_in(view, place.x, place.y, place.w, place.h) or 1e6
    if not least or cost < least - 0.5 then best, least = place, cost end
  end
  if p ~= p or least >= 1e6 then return end
  local style = {size = size, colour = ink(layer, view), halo = view.theme.legend}
  if axis == "y" then
    style.valign = best.side < 0 and 0 or 1
    view.scene:text(best.x, p + best.side * 3, layer.o.text, style)
  else
    style.angle, style.valign = 90, best.side < 0 and 0 or 1
    view.scene:text(p + best.side * 3, best.y + best.h, layer.o.text, style)
  end
end

local function reference(name, doc, axis)
  return {name, doc, options = line_options, colourless = true,
    example = ([[{"%s", %s = 2.1, text = "entropy"}]]):format(name, axis),
    prepare = function(layer)
      layer.at = one_or_more(layer.o[axis], layer.where .. ": " .. axis)
      if #layer.at == 0 then options.fail("%s: needs %s=, a number or a list", layer.where, axis) end
      layer.span = {[axis] = {layer.at}}
    end,
    under = function(layer, view)
      local dash = pens.dash(layer.o.dash, view.theme, 1.1, layer.where)
      for _, v in ipairs(layer.at) do
        local p = axis == "x" and view.x(v) or view.y(v)
        if axis == "x" then view.scene:polyline({p, p}, {view.top, view.top + view.height})
        else view.scene:polyline({view.left, view.left + view.width}, {p, p}) end
      end
      view.scene:stroke(ink(layer, view), layer.o.width or 0.9, pens.stroke_options(dash))
    end,
    draw = function() end,
    over = function(layer, view)
      if not layer.o.text then return end
      for _, v in ipairs(layer.at) do write_beside(layer, view, axis, axis == "x" and view.x(v) or view.y(v)) end
    end,
    swatch = function(layer, view, x, y, width)
      local dash = pens.dash(layer.o.dash, view.theme, 1.1, layer.where)
      view.scene:polyline({x, x + width}, {y, y}):stroke(ink(layer, view), layer.o.width or 0.9, pens.stroke_options(dash))
    end}
end

local aligns = {left = 0, centre = 0.5, right = 1}

return function(kinds)
  kinds.add(reference("hline", "horizontal reference lines at y", "y"))
  kinds.add(reference("vline", "vertical reference lines at x", "x"))

  kinds.add{"region", "a shaded range of x or y",
    example = [[{"region", x = {2000, 3000}, text = "cooldown"}]],
    colourless = true,
    options = {{"text", "string", doc = "written at its top"}},
    prepare = function(layer)
      local o = layer.o
      layer.x, layer.y = o.x, o.y
      for _, v in ipairs{o.x or {}, o.y or {}} do
        if type(v) ~= "table" or (v[1] and #v ~= 2) then options.fail("%s: x and y are ranges {from, to}", layer.where) end
      end
      if not o.x and not o.y then options.fail("%s: needs x={from, to} or y={from, to}", layer.where) end
      layer.span = {x = {o.x}, y = {o.y}}
    end,
    under = function(layer, view)
      local x0, x1 = view.left, view.left + view.width
      local y0, y1 = view.top, view.top + view.height
      if layer.x then x0, x1 = view.x(layer.x[1]), view.x(layer.x[2]) end
      if layer.y then y0, y1 = view.y(layer.y[2]), view.y(layer.y[1]) end
      view.scene:rectangle(x0, y0, x1 - x0, y1 - y0):fill(colour.alpha(ink(layer, view), layer.o.alpha or 0.12))
      if layer.o.text then
        view.scene:text((x0 + x1) / 2, y0 + 3, layer.o.text, {size = view.theme.small, align = 0.5, valign = 1, colour = view.theme.muted})
      end
    end,
    draw = function() end,
    swatch = function(layer, view, x, y, width)
      view.scene:rectangle(x, y - 4, width, 8):fill(colour.alpha(ink(layer, view), layer.o.alpha or 0.12))
    end}

  local text_options = {
    {"text", "string", required = true, doc = "what to write; \\n breaks lines"},
    {"align", "string", default = "left", choices = {"left", "centre", "right"}, doc = "which side of the text is at x"},
    {"size", "number", above = 0, unit = "points", doc = "default 8.5"},
    {"bold", "boolean", default = false, doc = "bold letters"},
    {"angle", "number", default = 0, unit = "degrees", doc = "against the clock"},
  }

  kinds.add{"text", "a note at (x, y) of the data",
    example = [[{"text", x = 100, y = 2.5, text = "warm-up"}]],
    options = text_options, colourless = true, above = true,
    prepare = function(layer)
      if type(layer.o.x) ~= "number" or type(layer.o.y) ~= "number" then options.fail("%s: needs x= and y=, numbers", layer.where) end
      layer.span = {}
    end,
    draw = function(layer, view)
      local o = layer.o
      draw_text(view, o.text, view.x(o.x), view.y(o.y), {size = o.size or view.theme.size, bold = o.bold, angle = o.angle,
        align = aligns[o.align], valign = 0.5, colour = o.colour and layer.colour or view.theme.ink, halo = view.theme.legend})
    end}

  kinds.add{"arrow", "an arrow to (x, y) from (from_x, from_y), where its text stands",
    example = [[{"arrow", x = 3000, y = 0.02, from_x = 1500, from_y = 0.03, text = "jumps"}]],
    colourless = true, above = true,
    options = {
      {"from_x", "number", required = true, doc = "where the text is"}, {"from_y", "number", required = true, doc = "where the text is"},
      {"text", "string", doc = "what to write at the tail"}, {"size", "number", above = 0, unit = "points", doc = "of the text"},
      {"width", "number", above = 0, unit = "points", doc = "of the shaft"},
    },
    prepare = function(layer)
      if type(layer.o.x) ~= "number" or type(layer.o.y) ~= "number" then options.fail("%s: needs x= and y=, numbers", layer.where) end
      layer.span = {}
    end,
    draw = function(layer, view)
      local o = layer.o
      local x0, y0, x1, y1 = view.x(o.from_x), view.y(o.from_y), view.x(o.x), view.y(o.y)
      local dx, dy = x1 - x0, y1 - y0
      local length = math.sqrt(dx * dx + dy * dy)
      if length ~= length or length <= 8 then return end
      dx, dy = dx / length, dy / length
      local c = o.colour and layer.colour or view.theme.muted
      local size = o.size or view.theme.size
      x1, y1 = x1 - 2.5 * dx, y1 - 2.5 * dy
      local start = o.text and 3 or 0
      view.scene:polyline({x0 + start * dx, x1 - 4 * dx}, {y0 + start * dy, y1 - 4 * dy}):stroke(c, o.width or 0.9)
      view.scene:polyline({x1, x1 - 5.5 * dx - 2.2 * dy, x1 - 4.4 * dx, x1 - 5.5 * dx + 2.2 * dy},
        {y1, y1 - 5.5 * dy + 2.2 * dx, y1 - 4.4 * dy, y1 - 5.5 * dy - 2.2 * dx}):close():fill(c)
      if o.text then -- the text stands on the far side of the tail
        local align, valign, lift = dx > 0.5 and 1 or dx < -0.5 and 0 or 0.5, 0.5, 0
        if align == 0.5 then valign, lift = dy > 0 and 0 or 1, dy > 0 and -2 or 2 end
        draw_text(view, o.text, x0, y0 + lift, {size = size, align = align, valign = valign,
          colour = o.colour and layer.colour or view.theme.ink, halo = view.theme.legend})
      end
    end}
end

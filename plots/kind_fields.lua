--- Layers over a plane: heatmap, contour. z is a list of rows (or a matrix); x names its columns, y its rows.

local colour = require "quench.plots.colour"
local contours = require "quench.plots.contours"
local data = require "quench.plots.data"
local options = require "quench.options"
local text = require "quench.plots.text"

local map_options = {
  {"z", "any", required = true, doc = "list of rows, or a matrix"},
  {"map", "string|function", doc = "sequential, blues, diverging, cyclic, grey; - reverses; default by the sign of z"},
  {"range", "list", doc = "{low, high} of the colours; default: of z"},
  {"centre", "number", doc = "value in the middle of a diverging map (default 0)"},
  {"log", "boolean", default = false, doc = "colours by the logarithm"},
  {"value_label", "string", doc = "of the colour bar"},
  {"bar", "boolean", default = true, doc = "draw a colour bar"},
}

local function with(more)
  local out = {}
  for _, e in ipairs(map_options) do out[#out + 1] = e end
  for _, e in ipairs(more) do out[#out + 1] = e end
  return out
end

local function read_z(layer)
  local rows = data.plain(layer.o.z, layer.where .. ": z")
  if type(rows[1]) ~= "table" and not data.is_tensor(rows[1]) then options.fail("%s: z must be a list of rows or a matrix", layer.where) end
  local z = {}
  for j, row in ipairs(rows) do
    z[j] = data.numbers(row, ("%s: z[%d]"):format(layer.where, j))
    if #z[j] ~= #z[1] then options.fail("%s: row %d of z has %d numbers, row 1 has %d", layer.where, j, #z[j], #z[1]) end
  end
  if #z[1] == 0 then options.fail("%s: z is empty", layer.where) end
  layer.z = z
end

--- Means of blocks, so that no more cells are drawn than anybody can see.
local function pooled(z, most)
  local rows, cols = #z, #z[1]
  local v, h = math.ceil(rows / most), math.ceil(cols / most)
  if v == 1 and h == 1 then return z end
  local out = {}
  for j = 1, math.ceil(rows / v) do
    out[j] = {}
    for i = 1, math.ceil(cols / h) do
      local sum, n = 0, 0
      for b = (j - 1) * v + 1, math.min(j * v, rows) do
        for a = (i - 1) * h + 1, math.min(i * h, cols) do
          local x = z[b][a]
          if x == x then sum, n = sum + x, n + 1 end
        end
      end
      out[j][i] = n > 0 and sum / n or 0 / 0
    end
  end
  return out
end

local function read_colours(layer)
  local o, valid = layer.o, layer.o.log and function(v) return v > 0 end or nil
  local low, high
  for _, row in ipairs(layer.z) do
    local a, b = data.range(row, valid)
    if a and (not low or a < low) then low = a end
    if b and (not high or b > high) then high = b end
  end
  if not low and o.log then options.fail("%s: log=true, but no number of z is positive", layer.where) end
  low, high = low or 0, high or 1
  local signed = low < 0 and high > 0 or o.centre ~= nil
  local name = o.map or (signed and not o.log and "diverging" or "sequential")
  if o.range then low, high = o.range[1], o.range[2]
  elseif type(name) == "string" and name:find("diverging", 1, true) and not o.log then
    local middle = o.centre or 0
    local reach = math.max(high - middle, middle - low)
    low, high = middle - reach, middle + reach
  end
  if high <= low then high = low + (low == 0 and 1 or math.abs(low) * 0.1) end
  layer.colours = {map = colour.map(name, layer.where), low = low, high = high, label = o.value_label, log = o.log, hidden = not o.bar}
end

--- Centres of the cells along one axis: numbers, names, or 1..n.
local function centres(layer, side, given, n)
  if given == nil then
    local out = {}
    for i = 1, n do out[i] = i end
    return out, false
  end
  given = data.plain(given, layer.where .. ": " .. side)
  if #given ~= n then options.fail("%s: %s has %d items, z has %d", layer.where, side, #given, n) end
  if type(given[1]) ~= "string" then return data.numbers(given, layer.where .. ": " .. side), true end
  local out = {}
  for i, name in ipairs(given) do out[i] = layer.panel:category(side, name) end
  return out, false
end

--- Edges halfway between centres, as the scale measures.
local function edges(at, scale)
  local u = {}
  for i, v in ipairs(at) do u[i] = scale.forward(v) end
  local n = #u
  local out = {}
  for i = 1, n + 1 do
    local e
    if n == 1 then e = u[1] + (i - 1.5)
    elseif i == 1 then e = u[1] - (u[2] - u[1]) / 2
    elseif i == n + 1 then e = u[n] + (u[n] - u[n - 1]) / 2
    else e = (u[i - 1] + u[i]) / 2 end
    out[i] = scale.inverse(e)
  end
  return out
end

local function prepare_heatmap(layer)
  read_z(layer)
  read_colours(layer)
  local x, y = layer.panel.x, layer.panel[layer.o.axis]
  local xs = centres(layer, "x", layer.o.x, #layer.z[1])
  local ys, numeric = centres(layer, "y", layer.o.y, #layer.z)
  layer.x_edges, layer.y_edges = edges(xs, x.scale), edges(ys, y.scale)
  x.tight_low, x.tight_high, y.tight_low, y.tight_high = true, true, true, true
  x.no_grid, y.no_grid = true, true
  if not numeric then y.scale.reverse = not y.o.reverse end -- a matrix has its first row on top
  layer.span = {x = {layer.x_edges}, y = {layer.y_edges}}
end

local colour_steps = 1024 -- more than 8 bits a channel can show

local function colour_of(c, v)
  local t
  if c.log then t = v > 0 and math.log(v / c.low) / math.log(c.high / c.low) or 0 / 0
  else t = (v - c.low) / (c.high - c.low) end
  if t ~= t then return nil end
  local step = math.floor(math.max(0, math.min(1, t)) * colour_steps + 0.5)
  c.known = c.known or {} -- a colour costs more than a look-up, and a matrix has many numbers
  c.known[step] = c.known[step] or c.map(step / colour_steps)
  return c.known[step]
end

--- Are the edges evenly spaced on the page?
local function even(list, place)
  local n = #list - 1
  local first, last = place(list[1]), place(list[n + 1])
  for i = 2, n do
    if math.abs(place(list[i]) - first - (last - first) * (i - 1) / n) > 0.02 * math.abs(last - first) / n + 0.01 then return false end
  end
  return true
end

local function draw_cells(layer, view)
  local z, missing = layer.z, view.theme.grid
  local function of(v) return v == v and colour_of(layer.colours, v) or missing end
  local x, y = layer.x_edges, layer.y_edges
  if even(x, view.x) and even(y, view.y) then
    local shown = pooled(z, 1000)
    local cells = {}
    local x0, x1, y0, y1 = view.x(x[1]), view.x(x[#x]), view.y(y[1]), view.y(y[#y])
    local rows, cols = #shown, #shown[1]
    for j = 1, rows do
      local row = shown[y1 > y0 and j or rows + 1 - j]
      for i = 1, cols do cells[#cells + 1] = of(row[x1 > x0 and i or cols + 1 - i]) end
    end
    view.scene:image(math.min(x0, x1), math.min(y0, y1), math.abs(x1 - x0), math.abs(y1 - y0), cols, rows, cells)
    return
  end
  for j = 1, #z do
    for i = 1, #z[1] do
      local a, b, c, d = view.x(x[i]), view.x(x[i + 1]), view.y(y[j]), view.y(y[j + 1])
      view.scene:rectangle(math.min(a, b), math.min(c, d), math.abs(b - a), math.abs(d - c)):fill(of(z[j][i]), {snap = true})
    end
  end
end

local function draw_values(layer, view)
  local format = layer.o.values
  for j, row in ipairs(layer.z) do
    for i, v in ipairs(row) do
      local c = v == v and colour_of(layer.colours, v)
      if c then
        local x = (view.x(layer.x_edges[i]) + view.x(layer.x_edges[i + 1])) / 2
        local y = (view.y(layer.y_edges[j]) + view.y(layer.y_edges[j + 1])) / 2
        local label = format == true and text.number(v) or text.format(format, v)
        view.scene:text(x, y, label, {size = view.theme.small, align = 0.5, valign = 0.5,
          colour = colour.lightness(c) > 0.62 and 0x1a1a1aff or 0xffffffff})
      end
    end
  end
end

-- --- contour ---

local function prepare_contour(layer)
  local o = layer.o
  read_z(layer)
  read_colours(layer)
  layer.colours.hidden = not (o.filled and o.bar)
  layer.cx, layer.cy = centres(layer, "x", o.x, #layer.z[1]), centres(layer, "y", o.y, #layer.z)
  if #layer.cx < 2 or #layer.cy < 2 then options.fail("%s: z needs two rows and two columns at least", layer.where) end
  local c = layer.colours
  layer.levels = type(o.levels) == "table" and data.numbers(o.levels, layer.where .. ": levels")
    or contours.levels(c.low, c.high, o.levels or 8, c.log)
  if o.filled then
    for _, side in ipairs{layer.panel.x, layer.panel[o.axis]} do
      side.tight_low, side.tight_high, side.no_grid = true, true, true
    end
  end
  layer.span = {x = {layer.cx}, y = {layer.cy}}
end

--- Colour of the band between two levels that holds v.
local function band_colour(layer, v)
  local c, levels = layer.colours, layer.levels
  local low, high = c.low, c.high
  for i = 1, #levels do
    if levels[i] <= v then low = levels[i] else high = levels[i] break end
  end
  return colour_of(c, c.log and math.sqrt(low * high) or (low + high) / 2)
end

local function draw_filled(layer, view)
  local x0, x1 = view.x(layer.cx[1]), view.x(layer.cx[#layer.cx])
  local y0, y1 = view.y(layer.cy[1]), view.y(layer.cy[#layer.cy])
  local left, top, width, height = math.min(x0, x1), math.min(y0, y1), math.abs(x1 - x0), math.abs(y1 - y0)
  local cols, rows = math.max(1, math.floor(width / 0.8)), math.max(1, math.floor(height / 0.8))
  local sample = contours.sampler(layer.cx, layer.cy, layer.z, view)
  local cells = {}
  for j = 1, rows do
    for i = 1, cols do
      local v = sample(left + width * (i - 0.5) / cols, top + height * (j - 0.5) / rows)
      cells[#cells + 1] = v == v and band_colour(layer, v) or view.theme.panel
    end
  end
  view.scene:image(left, top, width, height, cols, rows, cells)
end

--- The level's number in the middle of its longest line, along it.
local function label_line(view, line, level, ink)
  local n = #line.x
  local length = 0
  for i = 2, n do length = length + math.sqrt((line.x[i] - line.x[i - 1]) ^ 2 + (line.y[i] - line.y[i - 1]) ^ 2) end
  local label = text.number(level)
  if length < 3 * view.theme.measure(label, view.theme.small) then return end
  local k = math.max(2, math.min(n - 1, math.floor(n / 2)))
  local a, b = math.max(1, k - 3), math.min(n, k + 3)
  local dx, dy = line.x[b] - line.x[a], line.y[b] - line.y[a]
  if dx < 0 then dx, dy = -dx, -dy end
  view.scene:text(line.x[k], line.y[k], label, {size = 0.9 * view.theme.small, align = 0.5, valign = 0.5,
    angle = -math.deg(math.atan2(dy, dx)), colour = ink, halo = view.theme.legend})
end

local function draw_contour(layer, view)
  local o, theme = layer.o, view.theme
  if o.filled then draw_filled(layer, view) end
  for _, level in ipairs(layer.levels) do
    local ink = o.filled and 0x00000070 or (o.colour and layer.colour) or colour.mix(colour_of(layer.colours, level), theme.ink, 0.15)
    local longest
    for _, line in ipairs(contours.lines(layer.cx, layer.cy, layer.z, level, view)) do
      view.scene:polyline(line.x, line.y)
      if not longest or #line.x > #longest.x then longest = line end
    end
    view.scene:stroke(ink, o.width or (o.filled and 0.6 or 1.1), {join = "round"})
    if longest and o.labels then label_line(view, longest, level, o.filled and theme.ink or ink) end
  end
end

return function(kinds)
  kinds.add{"heatmap", "a colour a cell of the matrix z; its first row is on top unless y has numbers",
    example = [[{"heatmap", z = matrix, x = names, y = names, values = "%.2f"}]],
    colourless = true,
    first = "z", options = with{{"values", "boolean|string", doc = "write the numbers; a string is a format like \"%.2f\""}},
    prepare = prepare_heatmap, under = draw_cells,
    draw = function(layer, view)
      if layer.o.values then draw_values(layer, view) end
    end}
  kinds.add{"contour", "lines of equal z over a grid",
    example = [[{"contour", z = loss, x = alpha, y = beta, filled = true}]],
    colourless = true, first = "z",
    options = with{
      {"levels", "integer|list", doc = "about how many, or which; default 8"},
      {"filled", "boolean", default = false, doc = "colour the bands between the lines"},
      {"labels", "boolean", default = true, doc = "write the levels on the lines"},
      {"width", "number", above = 0, unit = "points", doc = "of the lines"},
    },
    prepare = prepare_contour, draw = draw_contour}
end

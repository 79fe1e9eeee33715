--- Layers that compare groups: bars, box, violin, strip. Several layers of one kind stand side by side.

local colour = require "quench.plots.colour"
local counts = require "quench.plots.counts"
local data = require "quench.plots.data"
local options = require "quench.options"
local pens = require "quench.plots.pens"
local text = require "quench.plots.text"

-- --- reading groups ---

--- The places of names or numbers on the axis across which the groups stand.
local function places(layer, side, given, where)
  local out = {}
  if type(given[1]) == "string" then
    for i, name in ipairs(given) do out[i] = layer.panel:category(side, name) end
    return out
  end
  return data.numbers(given, where)
end

--- Groups as {at = place, values = numbers}: y is a list of lists, one a name of x, or x names the group of each y.
local function read_groups(layer)
  local o, where = layer.o, layer.where
  local groups = {}
  if o.y == nil then options.fail("%s: needs y=: a list of lists, or a list with the group of each number in x", where) end
  if data.is_runs(o.y) then
    local lists = data.plain(o.y, where .. ": y")
    local at = places(layer, "x", o.x and data.plain(o.x, where .. ": x") or counts.upto(#lists), where .. ": x")
    if #at ~= #lists then options.fail("%s: x has %d names, y has %d lists", where, #at, #lists) end
    for i, list in ipairs(lists) do groups[i] = {at = at[i], values = data.numbers(list, ("%s: y[%d]"):format(where, i))} end
  else
    local values = data.numbers(o.y, where .. ": y")
    local names = o.x and data.plain(o.x, where .. ": x")
    if not names then
      local at = layer.label and layer.panel:category("x", layer.label) or 1
      groups[1] = {at = at, values = values}
    else
      if #names ~= #values then options.fail("%s: x has %d items, y has %d", where, #names, #values) end
      local by_name = {}
      for i, name in ipairs(names) do
        if not by_name[name] then
          by_name[name] = {at = places(layer, "x", {name}, where .. ": x")[1], values = {}}
          groups[#groups + 1] = by_name[name]
        end
        table.insert(by_name[name].values, values[i])
      end
    end
  end
  layer.groups = groups
  local at, lists = {}, {}
  for i, g in ipairs(groups) do at[i], lists[i] = g.at, g.values end
  layer.span = {x = {at}, y = lists}
  return groups
end

--- Left end and width of this layer's part of the room around a place, when layers of its kind stand side by side.
local function slot(layer, view, at)
  local step = layer.panel:place_step()
  local p, q = view.x(at - 0.4 * step), view.x(at + 0.4 * step)
  local n, i = layer.dodge_count or 1, layer.dodge_index or 1
  local width = (q - p) / n
  return p + (i - 1) * width + 0.06 * width * (n > 1 and 1 or 0), width * (n > 1 and 0.88 or 1)
end

local function tint(layer, view) return colour.mix(view.theme.panel, layer.colour, 0.32) end

local function block(layer, view, x, y, width)
  view.scene:rectangle(x + 4, y - 4, width - 8, 8):fill(tint(layer, view), {keep = true}):stroke(layer.colour, 0.9)
end

-- --- bars ---

local function prepare_bars(layer)
  local o, where = layer.o, layer.where
  local names, values = o.x, o.y
  if type(o.y) == "table" and type(o.y[1]) == "string" then -- names on the y axis: bars lie
    layer.lying = true
    names, values = o.y, o.x
  end
  if values == nil then options.fail("%s: needs y=, the lengths of the bars", where) end
  layer.values = data.numbers(values, where .. ": y")
  names = names and data.plain(names, where .. ": x") or counts.upto(#layer.values)
  layer.at = places(layer, layer.lying and "y" or "x", names, where .. ": x")
  if layer.lying then layer.panel.y.scale.reverse = not layer.panel.y.o.reverse end -- the first name on top
  if o.values then layer.panel[layer.lying and "x" or o.axis].wide = true end
  if #layer.at ~= #layer.values then options.fail("%s: x has %d items, y has %d", where, #layer.at, #layer.values) end
  layer.base, layer.top = {}, {}
  local stacks = layer.panel.stacks or {}
  layer.panel.stacks = stacks
  for i, v in ipairs(layer.values) do
    local below = 0
    if o.stack then
      local key = layer.at[i] .. (v < 0 and "-" or "+")
      below = stacks[key] or 0
      stacks[key] = below + v
    end
    layer.base[i], layer.top[i] = below, below + v
  end
  local error_low, error_high
  if o.error then
    error_low, error_high = {}, {}
    for i, v in ipairs(layer.top) do
      local e = type(o.error) == "number" and o.error or data.plain(o.error, where .. ": error")[i] or 0 / 0
      error_low[i], error_high[i] = v - e, v + e
    end
    layer.error_low, layer.error_high = error_low, error_high
  end
  local lengths = {layer.top, layer.base, error_low, error_high}
  layer.span = layer.lying and {x = lengths, y = {layer.at}, zero = "x"} or {x = {layer.at}, y = lengths, zero = "y"}
end

--- The view with x and y exchanged, so that lying bars are drawn by the same code.
local function upright(layer, view)
  if not layer.lying then return view, function(x, y, w, h) return view.scene:rectangle(x, y, w, h) end end
  return {x = view.y, y = view.x, scene = view.scene, theme = view.theme}, function(x, y, w, h) return view.scene:rectangle(y, x, h, w) end
end

local function number_text(v, o) return o.values == true and text.number(v) or text.format(o.values, v) end

local function draw_bars(layer, view)
  local flipped, rectangle = upright(layer, view)
  local fill = layer.o.alpha and colour.alpha(layer.colour, layer.o.alpha) or layer.colour
  local foot = layer.lying and view.left or view.top + view.height
  for i, at in ipairs(layer.at) do
    local x, width = slot(layer, flipped, at)
    local a, b = flipped.y(layer.base[i]), flipped.y(layer.top[i])
    if a ~= a then a = foot end
    if b == b then
      rectangle(x, math.min(a, b), width, math.abs(b - a)):fill(fill, {snap = true})
      if layer.error_low then
        local low, high, middle = flipped.y(layer.error_low[i]), flipped.y(layer.error_high[i]), x + width / 2
        local xs, ys = {middle, middle}, {low, high}
        if layer.lying then xs, ys = ys, xs end
        view.scene:polyline(xs, ys):stroke(view.theme.ink, 0.9)
      end
    end
  end
  local zero = flipped.y(0) -- the ground they stand on, where it is not the axis itself
  if zero == zero then
    local xs, ys = {view.left, view.left + view.width}, {zero, zero}
    if layer.lying then xs, ys = {zero, zero}, {view.top, view.top + view.height} end
    view.scene:polyline(xs, ys):stroke(view.theme.axis, view.theme.hair, {snap = true})
  end
end

--- The numbers at the ends of the bars.
local function write_values(layer, view)
  if not layer.o.values then return end
  local flipped = upright(layer, view)
  for i, at in ipairs(layer.at) do
    local x, width = slot(layer, flipped, at)
    local up = layer.top[i] >= layer.base[i]
    local tip = flipped.y((up and layer.error_high or layer.error_low or layer.top)[i])
    local label = number_text(layer.values[i], layer.o)
    local style = {size = view.theme.small, colour = view.theme.ink}
    if tip == tip and layer.lying then
      style.align, style.valign = up and 0 or 1, 0.5
      view.scene:text(tip + (up and 3 or -3), x + width / 2, label, style)
    elseif tip == tip then
      style.align, style.valign = 0.5, up and 0 or 1
      view.scene:text(x + width / 2, tip + (up and -3 or 3), label, style)
    end
  end
end

-- --- box, violin, strip ---

--- Quartiles, median, and whiskers to the last value within 1.5 quartile distances (Tukey, 1977).
local function five(values)
  local s = data.sorted(values)
  local q1, q2, q3 = data.quantile(s, 0.25), data.quantile(s, 0.5), data.quantile(s, 0.75)
  local low, high, outside = q1, q3, {}
  local reach = 1.5 * (q3 - q1)
  for _, v in ipairs(s) do
    if v < q1 - reach or v > q3 + reach then outside[#outside + 1] = v
    else low, high = math.min(low, v), math.max(high, v) end
  end
  return {q1 = q1, q2 = q2, q3 = q3, low = low, high = high, outside = outside, n = #s}
end

local function draw_box(layer, view)
  local scene = view.scene
  for _, g in ipairs(layer.groups) do
    local f = five(g.values)
    if f.n > 0 then
      local x, width = slot(layer, view, g.at)
      local inner = math.min(width * 0.7, 42)
      local left, middle = x + (width - inner) / 2, x + width / 2
      local a, b = view.y(f.q3), view.y(f.q1)
      scene:move(middle, a):line(middle, view.y(f.high)):move(middle, b):line(middle, view.y(f.low)):stroke(layer.colour, 1)
      scene:rectangle(left, a, inner, b - a):fill(tint(layer, view), {keep = true}):stroke(layer.colour, 1)
      scene:move(left, view.y(f.q2)):line(left + inner, view.y(f.q2)):stroke(layer.colour, 2)
      local xs, ys = {}, {}
      for i, v in ipairs(f.outside) do xs[i], ys[i] = middle, view.y(v) end
      scene:markers("circle", xs, ys, {size = 2.6, stroke = layer.colour, width = 0.8})
    end
  end
end

local function draw_violin(layer, view)
  local scene = view.scene
  for _, g in ipairs(layer.groups) do
    local s = data.sorted(g.values)
    if #s > 0 then
      local x, width = slot(layer, view, g.at)
      local middle, half = x + width / 2, math.min(width, 60) * 0.45
      local ys, density = counts.density(s, layer.o.bandwidth, 80, 0)
      local most = 0
      for _, d in ipairs(density) do most = math.max(most, d) end
      local px, py = {}, {}
      for i = 1, #ys do px[i], py[i] = middle - half * density[i] / most, view.y(ys[i]) end
      for i = #ys, 1, -1 do px[#px + 1], py[#py + 1] = middle + half * density[i] / most, view.y(ys[i]) end
      scene:polyline(px, py):close():fill(tint(layer, view), {keep = true}):stroke(layer.colour, 0.9)
      local f = five(s)
      scene:move(middle, view.y(f.q1)):line(middle, view.y(f.q3)):stroke(layer.colour, 3.2, {cap = "round"})
      scene:markers("circle", {middle}, {view.y(f.q2)}, {size = 3, fill = view.theme.panel})
    end
  end
end

--- Points beside each other as far as crowding asks: the sideways step follows the golden ratio, its reach the density.
local function draw_strip(layer, view)
  for _, g in ipairs(layer.groups) do
    local s = data.sorted(g.values)
    if #s > 0 then
      local x, width = slot(layer, view, g.at)
      local middle, half = x + width / 2, math.min(width, 50) * 0.4
      local at, density = counts.density(s, nil, 60, 0)
      local most = 0
      for _, d in ipairs(density) do most = math.max(most, d) end
      local px, py = {}, {}
      for i, v in ipairs(s) do
        local place = #at > 1 and at[2] > at[1] and (v - at[1]) / (at[2] - at[1]) or 0
        local d = density[math.max(1, math.min(#density, math.floor(place + 1.5)))] or most
        local side = (i * 0.6180339887498949) % 1 * 2 - 1
        px[i], py[i] = middle + half * side * (#s > 4 and d / most or 0.4), view.y(v)
      end
      local size = layer.o.size or (#s > 200 and 2.4 or 3.6)
      view.scene:markers(layer.o.marker or "circle", px, py, {size = size, fill = colour.alpha(layer.colour, layer.o.alpha or 0.75)})
      if layer.o.median then
        local m = view.y(data.quantile(s, 0.5))
        view.scene:move(middle - half * 1.1, m):line(middle + half * 1.1, m):stroke(view.theme.ink, 1.6)
      end
    end
  end
end

local group_note = "x names the groups; y is a list of lists, or one list with the group of each number in x"

return function(kinds)
  kinds.add{"bars", "bars from zero; names on y make them lie; several layers stand side by side",
    example = [[{"bars", {"RTN", "GPTQ"}, {9.2, 7.1}, error = 0.2, values = "%.1f"}]],
    dodges = true,
    options = {
      {"error", "any", doc = "half-length of error bars: a number or a list"},
      {"stack", "boolean", default = false, doc = "on top of the bars before, not beside them"},
      {"values", "boolean|string", doc = "write the numbers; a string is a format like \"%.2f\""},
    },
    prepare = prepare_bars, draw = draw_bars, over = write_values,
    swatch = function(layer, view, x, y, width)
      view.scene:rectangle(x + 4, y - 4, width - 8, 8):fill(layer.o.alpha and colour.alpha(layer.colour, layer.o.alpha) or layer.colour)
    end}
  kinds.add{"box", "median, quartiles, whiskers to 1.5 quartile distances, outliers; " .. group_note,
    example = [[{"box", {"a", "b"}, {list_a, list_b}}]],
    dodges = true,
    prepare = read_groups, draw = draw_box, swatch = block}
  kinds.add{"violin", "the density of each group, with median and quartiles; " .. group_note,
    example = [[{"violin", {"a", "b"}, {list_a, list_b}}]],
    dodges = true,
    options = {{"bandwidth", "number", above = 0, doc = "of the kernel; default: Silverman's rule"}},
    prepare = read_groups, draw = draw_violin, swatch = block}
  kinds.add{"strip", "every number of each group as a point; " .. group_note,
    example = [[{"strip", {"a", "b"}, {list_a, list_b}}]],
    dodges = true,
    options = {{"size", "number", above = 0, unit = "points", doc = "diameter"}, {"marker", "string", doc = "shape; default circle"},
      {"median", "boolean", default = true, doc = "a line at the median"}},
    prepare = read_groups, draw = draw_strip,
    swatch = function(layer, view, x, y, width) pens.markers(view, layer.o.marker or "circle", {x + width / 2}, {y}, layer.colour, 4.5) end}
end

--- Drawing helpers that several kinds of layers share.

local colour = require "quench.plots.colour"
local options = require "quench.options"

local pens = {}

local named = {
  solid = {}, dashed = {4.5, 2.2}, dotted = {0.01, 2.2}, dashdot = {5, 2, 0.01, 2}, long = {8, 2.5},
}

--- The dash or marker of a place in the colour cycle. Where the colours begin anew, these are shifted: no two of the first 64
-- places are alike.
function pens.of_cycle(list, place)
  local round = math.floor((place - 1) / #list)
  return list[(place - 1 + 3 * round) % #list + 1]
end

--- A dash pattern in points: a name, a list of lengths, or a place in the theme's cycle; scaled with the line width.
function pens.dash(v, theme, width, where)
  local list = v
  if type(v) == "string" then
    list = named[v]
    if not list then
      local names = {"solid", "dashed", "dotted", "dashdot", "long"}
      options.fail("%s: no dash '%s'%s; dashes: %s, or a list of lengths", where, v, options.suggest(v, names), table.concat(names, ", "))
    end
  elseif type(v) == "number" then
    list = pens.of_cycle(theme.dashes, v)
  end
  local out = {}
  for i, d in ipairs(list) do out[i] = d * width end
  return out
end

--- Data to points of the page.
function pens.map(view, xs, ys)
  local px, py = {}, {}
  local fx, fy = view.x, view.y
  for i = 1, math.min(#xs, #ys) do px[i], py[i] = fx(xs[i]), fy(ys[i]) end
  return px, py
end

--- Round caps make dots of zero-length dashes; long dashes look better cut straight.
function pens.stroke_options(dash)
  local dots = false
  for _, d in ipairs(dash) do dots = dots or d < 0.05 end
  return {join = "round", cap = dots and "round" or "butt", dash = dash}
end

function pens.polyline(view, xs, ys, c, width, dash)
  local px, py = pens.map(view, xs, ys)
  view.scene:polyline(px, py):stroke(c, width, pens.stroke_options(dash or {}))
end

--- The area between two curves over xs; points where either is missing split it.
function pens.area(view, xs, low, high, c)
  local px, py0 = pens.map(view, xs, low)
  local _, py1 = pens.map(view, xs, high)
  local bottom = view.top + view.height
  local first
  local function piece(last)
    if not first or last <= first then return end
    local ax, ay = {}, {}
    for i = first, last do ax[#ax + 1], ay[#ay + 1] = px[i], py1[i] end
    for i = last, first, -1 do ax[#ax + 1], ay[#ay + 1] = px[i], py0[i] end
    view.scene:polyline(ax, ay)
  end
  for i = 1, #xs do
    if py0[i] ~= py0[i] and low[i] == low[i] and py1[i] == py1[i] then py0[i] = bottom end -- below a logarithmic axis
    local good = px[i] == px[i] and py0[i] == py0[i] and py1[i] == py1[i]
    if good then first = first or i
    else
      piece(i - 1)
      first = nil
    end
  end
  piece(#xs)
  view.scene:fill(c)
end

--- Markers with an edge in the background colour, which keeps overlapping ones apart.
function pens.markers(view, shape, xs, ys, c, size, hollow)
  local theme = view.theme
  local style = {size = size, fill = c, stroke = theme.panel, width = 0.6}
  if shape == "plus" or shape == "cross" then style = {size = size, stroke = c, width = 0.22 * size}
  elseif hollow then style = {size = size, fill = theme.panel, stroke = c, width = 0.2 * size} end
  view.scene:markers(shape, xs, ys, style)
end

--- The colour a band of this line colour has.
function pens.band_colour(c, theme, alpha) return colour.alpha(c, alpha or theme.band_alpha) end

return pens

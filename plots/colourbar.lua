--- The bar beside a panel that says which colour means which number.

local scale = require "quench.plots.scale"

local colourbar = {}

local width, gap, steps = 9, 9, 96

--- The colours that a panel's layers explain by a bar: those of the first layer that has any.
function colourbar.of(layers)
  for _, layer in ipairs(layers) do
    if layer.colours and not layer.colours.hidden then return layer.colours end
  end
end

local function ticks_of(c, height, theme)
  local s = scale.new(c.log and "log" or "linear")
  s:fit(c.low, c.high, 0)
  return s, s:ticks(height, theme.y_spacing)
end

local function label_width(t, theme)
  local w = 0
  for _, label in ipairs(t.labels) do w = math.max(w, (theme.measure(label, theme.small))) end
  return math.max(w, t.factor and theme.measure(t.factor, theme.small) - width or 0)
end

--- Room to the right of the panel.
function colourbar.room(c, height, theme)
  local _, t = ticks_of(c, height, theme)
  return gap + width + theme.gap + label_width(t, theme) + (c.label and theme.size + 7 or 0) + 2
end

--- Draws the bar with its left side at x + gap.
function colourbar.draw(c, scene, theme, x, top, height)
  local s, t = ticks_of(c, height, theme)
  local cells = {}
  for i = 1, steps do cells[i] = c.map(1 - (i - 0.5) / steps) end
  x = x + gap
  scene:image(x, top, width, height, 1, steps, cells)
  for i, v in ipairs(t.major) do
    local y = top + height * (1 - s:position(v))
    scene:move(x + width - 2.5, y):line(x + width, y):stroke(theme.panel, 0.7, {snap = true})
    scene:text(x + width + theme.gap, y, t.labels[i], {size = theme.small, colour = theme.ink, valign = 0.5})
  end
  if t.factor then scene:text(x, top - 0.6 * theme.small, t.factor, {size = theme.small, colour = theme.muted}) end
  if c.label then
    local lx = x + width + theme.gap + label_width(t, theme) + 5
    scene:text(lx, top + height / 2, c.label, {size = theme.size, colour = theme.ink, align = 0.5, angle = 90, valign = 1})
  end
end

return colourbar

--- Methods of panels: where the names of layers go, and drawing them there.

local colour = require "quench.plots.colour"
local legend = require "quench.plots.legend"

local names = {}

--- Decides how layers are named: "direct", "inside", "right", "bottom", a corner, or "none".
function names:choose_legend(alone)
  local o = self.o
  self.entries = legend.entries(self.layers)
  local mode = o.legend
  if #self.entries == 0 or self.mute_legend then mode = "none" end
  if mode == "auto" then
    local direct = alone and #self.entries <= 4 and not self.y2
    for _, e in ipairs(self.entries) do
      local has_end = false
      for _, layer in ipairs(e.layers) do has_end = has_end or layer.kind.ends and layer.o.axis == "y" end
      direct = direct and has_end
    end
    mode = self.forced_mode or (direct and "direct") or "inside"
  end
  self.mode = mode
end

--- Where curves end on the right, for direct labels; nil when labels would not fit.
function names:direct_labels(view)
  local ends = {}
  for _, e in ipairs(self.entries) do
    for _, layer in ipairs(e.layers) do
      if layer.kind.ends and layer.ys then
        local last
        for i = #layer.ys, 1, -1 do
          local x, y = view.x(layer.xs[i]), view.y(layer.ys[i])
          if x == x and y == y and x <= view.left + view.width + 0.5 then
            last = {x = x, y = math.max(view.top, math.min(view.top + view.height, y)), layer = layer}
            break
          end
        end
        if last then ends[#ends + 1] = last break end
      end
    end
  end
  if #ends < #self.entries then return nil end
  return legend.direct(ends, self.theme, view.top + 2, view.top + view.height - 2)
end

--- Size of a legend on top of the panel, and whether it stands beside the letter or on its own row.
function names:top_legend(width)
  local t = self.theme
  local size = legend.measure(self.entries, t, legend.columns_for(self.entries, t, width))
  local beside = self.letter and not self.o.title and size.width < width - t.measure(self.letter, t.title, true) - 10
  return size, beside
end

local corners = {["top left"] = {0, 0}, ["top right"] = {1, 0}, ["bottom left"] = {0, 1}, ["bottom right"] = {1, 1}}

--- Draws the names; returns "right" or "top" when no place inside is free enough.
function names:draw_legend(view, first, below)
  local t, mode = self.theme, self.mode
  if mode == "none" then return end
  local right = view.left + view.width
  if mode == "direct" then
    for _, e in ipairs(self:direct_labels(view) or {}) do
      local c = colour.mix(e.layer.colour, t.ink, 0.12)
      view.scene:text(right + 4, e.at, e.layer.label, {size = t.size, valign = 0.5, colour = colour.alpha(c, 1)})
    end
    return
  end
  local size = legend.measure(self.entries, t, 1)
  if mode == "right" then return legend.draw(self.entries, size, view, right + self.right_room, view.top) end
  if mode == "top" then
    size = self:top_legend(view.width)
    return legend.draw(self.entries, size, view, right - size.width, view.top - size.height - 1)
  end
  if mode == "bottom" then
    size = legend.measure(self.entries, t, legend.columns_for(self.entries, t, view.width))
    return legend.draw(self.entries, size, view, view.left + (view.width - size.width) / 2, view.top + view.height + below - size.height)
  end
  local x, y, ink
  if corners[mode] then
    local c = corners[mode]
    x, y = view.left + 5 + c[1] * (view.width - size.width - 10), view.top + 5 + c[2] * (view.height - size.height - 10)
  else
    size, x, y, ink = legend.place(self.entries, first, view)
    if self.o.legend == "auto" and (not x or ink > 0.0015) then
      return self.alone and not self.y2 and size.width < 0.3 * view.width and "right" or "top"
    end
    if not x then x, y = right - size.width - 5, view.top + 5 end
  end
  legend.draw(self.entries, size, view, x, y, true)
end

return names

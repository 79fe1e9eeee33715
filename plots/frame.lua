--- What stands around the data of a panel: grid, axes with ticks and labels, title, notes.
-- `self` is the panel, `view` its place on the page.

local frame = {}

--- Width of the widest of some tick labels.
function frame.widest(labels, theme)
  local w = 0
  for _, label in ipairs(labels) do w = math.max(w, (theme.measure(label, theme.small))) end
  return w
end

--- A text and its size so that it is no longer than `room`: first smaller letters, down to `least`, then fewer of them.
local function fitted(text, size, room, theme, least, bold)
  size = theme.flat and size or math.max(least, math.min(size, size * room / math.max(1, (theme.measure(text, size, bold)))))
  local all = text
  while text ~= "" and theme.measure(text, size, bold) > 1.001 * room do
    text = text:gsub("…$", ""):gsub("[^\128-\191][\128-\191]*$", "")
    local whole = text:gsub("[_^]$", ""):gsub("[_^]?{[^{}]*$", "") -- no raised or lowered text that is cut
    text = whole == "" and "" or whole:gsub(" +$", "") .. "…"
  end
  return text == "" and all or text, size
end

local HANGS = 1.15 -- of the panel's side that the label of an axis may take: it is in the middle, and hangs over a little

--- The label of an axis along a side of that length, and the size of its letters.
local function axis_label(axis, side, theme) return fitted(axis.label, theme.size, HANGS * side, theme, 0.75 * theme.size) end

function frame.grid(view, axis, ticks, vertical)
  local t, scene = view.theme, view.scene
  if not axis.o.grid or axis.no_grid or axis.categories then return end
  for pass = 1, 2 do
    local log = axis.scale.name ~= "linear"
    local list, c = ticks.major, t.grid
    if pass == 1 then list, c = log and ticks.minor or {}, t.minor_grid end
    for _, v in ipairs(list) do
      if axis.scale:inside(v) then
        local p = vertical and view.x(v) or view.y(v)
        if vertical then scene:polyline({p, p}, {view.top, view.top + view.height})
        else scene:polyline({view.left, view.left + view.width}, {p, p}) end
      end
    end
    scene:stroke(c, t.hair, {snap = true})
  end
end

function frame.x_axis(self, view, ticks)
  local t, scene, axis = view.theme, view.scene, self.x
  local bottom = view.top + view.height
  scene:polyline({view.left, view.left + view.width}, {bottom, bottom})
  for _, v in ipairs(ticks.major) do
    if axis.scale:inside(v) and not axis.categories then scene:polyline({view.x(v), view.x(v)}, {bottom, bottom + t.tick}) end
  end
  scene:stroke(t.axis, t.thin, {snap = true})
  for _, v in ipairs(ticks.minor) do
    if axis.scale:inside(v) then scene:polyline({view.x(v), view.x(v)}, {bottom, bottom + t.minor}) end
  end
  scene:stroke(t.axis, t.hair, {snap = true})
  if self.hide_x then return end
  local y = bottom + t.tick + t.gap
  local low = y + t.small
  for i, v in ipairs(ticks.major) do
    if ticks.turned then
      scene:text(view.x(v), y, ticks.labels[i], {size = t.small, colour = t.ink, align = 1, valign = 0.5, angle = 90})
    else
      scene:text(view.x(v), y, ticks.labels[i], {size = t.small, colour = t.ink, align = 0.5, valign = 1})
    end
  end
  if ticks.turned then low = y + frame.widest(ticks.labels, t) end
  if ticks.factor then
    scene:text(view.left + view.width, low + 5, ticks.factor, {size = t.small, colour = t.muted, align = 1, valign = 1})
  end
  if axis.label then
    local label, size = axis_label(axis, view.width, t)
    scene:text(view.left + view.width / 2, low + 4, label, {size = size, colour = t.ink, align = 0.5, valign = 1})
  end
end

--- Left axis (direction -1) or right axis (1).
function frame.y_axis(self, view, axis, ticks, direction, hidden)
  local t, scene = view.theme, view.scene
  local x = direction < 0 and view.left or view.left + view.width
  scene:polyline({x, x}, {view.top, view.top + view.height})
  for _, v in ipairs(ticks.major) do
    if axis.scale:inside(v) and not axis.categories then scene:polyline({x, x + direction * t.tick}, {view.y(v), view.y(v)}) end
  end
  scene:stroke(t.axis, t.thin, {snap = true})
  for _, v in ipairs(ticks.minor) do
    if axis.scale:inside(v) then scene:polyline({x, x + direction * t.minor}, {view.y(v), view.y(v)}) end
  end
  scene:stroke(t.axis, t.hair, {snap = true})
  if hidden then return end
  local at = x + direction * (t.tick + t.gap)
  local align = direction < 0 and 1 or 0
  local ink = direction > 0 and self.right_colour or t.ink
  for i, v in ipairs(ticks.major) do
    scene:text(at, view.y(v), ticks.labels[i], {size = t.small, colour = ink, align = align, valign = 0.5})
  end
  if ticks.factor and not (t.flat and axis.label) then
    local beside = self.o.title and direction < 0 and t.tick + t.gap or 0 -- the title begins at the axis
    scene:text(x - beside, view.top - 0.6 * t.small, ticks.factor, {size = t.small, colour = t.muted, align = align})
  end
  if axis.label and t.flat then -- above the axis, where letters can't be turned
    local label = axis.label .. (ticks.factor and " " .. ticks.factor or "")
    scene:text(x, view.top - 3, label, {size = t.size, colour = t.muted, align = direction < 0 and 0 or 1})
  elseif axis.label then
    local lx = at + direction * (frame.widest(ticks.labels, t) + 5)
    -- panels above each other: their labels stand in one line, where the widest numbers put it
    if direction < 0 and self.left_room then lx = math.min(lx, view.left - self.left_room + t.size + 1) end
    if direction > 0 and self.label_room then lx = math.max(lx, x + self.label_room - t.size - 2) end
    local label, size = axis_label(axis, view.height, t)
    local style = {size = size, colour = ink, align = 0.5, angle = 90, valign = direction < 0 and 0 or 1}
    scene:text(lx, view.top + view.height / 2, label, style)
  end
end

function frame.notes(self, view)
  local t, notes = view.theme, {}
  local dropped = {}
  for _, side in ipairs{"x", "y", "y2"} do
    if self[side] and self[side].dropped > 0 then dropped[#dropped + 1] = ("%d of %s"):format(self[side].dropped, side) end
  end
  if #dropped > 0 then notes[1] = "values not positive, not shown: " .. table.concat(dropped, ", ") end
  if #notes > 0 then
    view.scene:text(view.left + 4, view.top + view.height - 4, notes[1], {size = 0.9 * t.small, colour = t.muted, halo = t.legend})
  end
  if self.x.empty or self.y.empty and not (self.y2 and not self.y2.empty) then
    local style = {size = t.size, colour = t.muted, align = 0.5, valign = 0.5}
    view.scene:text(view.left + view.width / 2, view.top + view.height / 2, "no data", style)
  end
end

--- Title and letter, above a legend that stands on top of the panel.
function frame.title(self, view)
  local t, x, y = self.theme, view.left, view.top - 6
  if t.flat and (self.y.label or self.y2 and self.y2.label) then y = y - t.size end
  if self.mode == "top" then
    local size, beside = self:top_legend(view.width)
    y = beside and view.top - size.height + t.title or y - size.height
  end
  if self.letter then
    view.scene:text(x, y, self.letter, {size = t.title, bold = true, colour = t.ink})
    x = x + t.measure(self.letter, t.title, true) + 5
  end
  if self.o.title then
    local bold = not self.letter
    local title, size = fitted(self.o.title, t.title, math.max(1, view.left + view.width - x), t, 0.75 * t.size, bold)
    view.scene:text(x, y, title, {size = size, bold = bold, colour = t.ink})
  end
end

return frame

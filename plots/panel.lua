--- A panel: layers over a pair of axes (and a second y axis), with title and legend.
-- The life of a panel: new (options checked, data read) -> limits -> margins (how much room texts
-- need around the data, asked several times while the figure finds its layout) -> draw.

local axes = require "quench.plots.axis"
local colour = require "quench.plots.colour"
local colourbar = require "quench.plots.colourbar"
local layers = require "quench.plots.layer"
local legend = require "quench.plots.legend"
local options = require "quench.options"
local theme_module = require "quench.plots.theme"

local panel = {}
local Panel = {}
Panel.__index = Panel

local legend_places = {"auto", "none", "direct", "inside", "right", "top", "bottom", "top left", "top right", "bottom left",
  "bottom right"}

panel.options = {
  {"title", "string", doc = "above the panel"},
  {"x", "string|table", doc = "label of the x axis, or its options"},
  {"y", "string|table", doc = "label of the y axis, or its options"},
  {"y2", "string|table", doc = "label of the right axis, or its options; layers choose it with axis=\"y2\""},
  {"log", "string", doc = "logarithmic axes: any of x, y, y2 (\"xy\", \"x,y2\")"},
  {"xlim", "list", doc = "{from, to}; false leaves one end to the data"},
  {"ylim", "list", doc = "{from, to}"},
  {"y2lim", "list", doc = "{from, to}"},
  {"legend", "string|boolean", default = "auto", choices = legend_places, doc = "where names of layers go; false: nowhere"},
  {"data", "table", doc = "columns or rows that layers name"},
  {"colours", "table", doc = "label -> colour"},
  {"insets", "list", doc = "small plots inside: {at = {left, bottom, width, height}, plot}, as parts of the panel"},
  {"theme", "string|table", default = "light", doc = "light, dark, or a table of changes ({base = \"dark\", size = 10, ...})"},
}

local function log_axes(given)
  local set = {}
  for name in (given or ""):gmatch("[xy]2?") do set[name] = true end
  local rest = (given or ""):gsub("[xy]2?", ""):gsub("[%s,]", "")
  if rest ~= "" then options.fail("q.plot: log must name axes (\"x\", \"y\", \"xy\", \"y2\"), got %q", given) end
  return set
end

function panel.theme(given)
  if type(given) == "table" then
    local changes = {}
    for key, v in pairs(given) do
      if key ~= "base" then
        if theme_module.light[key] == nil then
          local known = {}
          for name in pairs(theme_module.light) do known[#known + 1] = name end
          table.sort(known)
          options.fail("q.plot: a theme has no '%s'%s; it has: %s", tostring(key), options.suggest(key, known), table.concat(known, ", "))
        end
        local is_colour = type(v) == "string" and type(theme_module.light[key]) == "number"
        changes[key] = is_colour and colour.parse(v, "q.plot theme") or v
      end
    end
    return theme_module.get(given.base or "light", changes)
  end
  if not theme_module[given] or type(theme_module[given]) ~= "table" then
    options.fail("q.plot: no theme '%s'%s; themes: %s", given, options.suggest(given, theme_module.names),
      table.concat(theme_module.names, ", "))
  end
  return theme_module[given]
end

local spec = options.spec("q.plot inset", panel.options)

--- The checked options among the names of a plot's table.
function panel.read_options(given)
  local named = {}
  for key, v in pairs(given) do
    if type(key) ~= "number" then named[key] = v end
  end
  return spec(named)
end

--- o: the checked options; given: the user's table, whose list part holds the layers.
function panel.new(o, given, theme)
  local self = setmetatable({o = o, theme = theme, layers = {}}, Panel)
  local log = log_axes(o.log)
  self.x = axes.new("x", o.x, {log = log.x, range = o.xlim})
  self.y = axes.new("y", o.y, {log = log.y, range = o.ylim})
  if o.legend == false then o.legend = "none" elseif o.legend == true then o.legend = "inside" end
  for i, item in ipairs(given) do
    for _, layer in ipairs(layers.read(item, i, self)) do
      self.layers[#self.layers + 1] = layer
      if layer.o.axis == "y2" then self.has_y2 = true end
    end
  end
  if self.has_y2 or o.y2 then self.y2 = axes.new("y2", o.y2, {log = log.y2, range = o.y2lim}) end
  for _, layer in ipairs(self.layers) do layer.kind.prepare(layer) end
  self:line_up()
  self:collect()
  self:read_insets()
  self.colours = colourbar.of(self.layers)
  return self
end

function Panel:read_insets()
  self.insets = {}
  for i, item in ipairs(self.o.insets or {}) do
    local at, given = item.at, item[1]
    local good = type(at) == "table" and #at == 4 and type(given) == "table"
    for k = 1, good and 4 or 0 do good = good and type(at[k]) == "number" and at[k] >= 0 and at[k] <= 1 end
    if not good then options.fail("q.plot: inset %d must be {at = {left, bottom, width, height}, {plot}}, all 0..1", i) end
    local p = panel.new(panel.read_options(given), given, theme_module.smaller(self.theme))
    p.at = at
    self.insets[i] = p
  end
end

function Panel:category(side, name) return self[side]:category(name) end

--- Distance between the places where groups stand: 1 for names, the smallest gap for numbers.
function Panel:place_step()
  if self.step then return self.step end
  local all = {}
  for _, layer in ipairs(self.layers) do
    for _, at in ipairs(layer.at or {}) do all[#all + 1] = at end
    for _, g in ipairs(layer.groups or {}) do all[#all + 1] = g.at end
  end
  table.sort(all)
  for i = 2, #all do
    local d = all[i] - all[i - 1]
    if d > 1e-9 and (not self.step or d < self.step) then self.step = d end
  end
  self.step = self.step or 1
  return self.step
end

--- Layers of one kind that compare groups stand side by side; the axis has room for the outer ones.
function Panel:line_up()
  local counted = {}
  for _, layer in ipairs(self.layers) do
    local name = layer.kind.name
    if layer.kind.dodges and not layer.o.stack then
      counted[name] = (counted[name] or 0) + 1
      layer.dodge_index = counted[name]
    end
  end
  for _, layer in ipairs(self.layers) do
    if layer.kind.dodges then
      layer.dodge_count = not layer.o.stack and counted[layer.kind.name] or 1
      local half, room = 0.5 * self:place_step(), {}
      for _, at in ipairs((layer.lying and layer.span.y or layer.span.x)[1]) do
        room[#room + 1], room[#room + 2] = at - half, at + half
      end
      if layer.lying then self.y:include(room) self.y.no_grid = true else self.x:include(room) self.x.no_grid = true end
    end
  end
end

--- Brings the data of the layers to the axes; a logarithmic axis that could show nothing is an error.
function Panel:collect()
  for _, layer in ipairs(self.layers) do
    local y = self[layer.o.axis]
    for _, pair in ipairs{{self.x, layer.span.x, layer.xs, "x"}, {y, layer.span.y, layer.ys, layer.o.axis}} do
      local axis, lists, main, name = pair[1], pair[2], pair[3], pair[4]
      for i = 1, 8 do axis:include(lists and lists[i]) end
      if main then
        local dropped, shown = axis:count_dropped(main)
        if dropped > 0 and shown == 0 then
          options.fail("%s: a %s axis can't show any of its %d %s values: none is positive (scale=\"symlog\" shows them)",
            layer.where, axis.scale.name, dropped, name)
        end
        axis.dropped = axis.dropped + dropped
      end
    end
    if layer.span.zero then (layer.span.zero == "x" and self.x or y).zero_based = true end
  end
end

--- The limits from the panel's own data; the figure calls set_limits instead where axes are shared.
function Panel:limits()
  self.x:set_limits(self.x:data_range())
  self.y:set_limits(self.y:data_range())
  if self.y2 then self.y2:set_limits(self.y2:data_range()) end
end

-- --- styles ---

--- The place in the colour cycle of a layer: a label keeps its place in all panels, others count up in their panel.
local function choose_slot(layer, slots, taken, before)
  local own = layer.o.label -- a fit's own label is only its numbers
  if own and slots[own] then return slots[own] end
  if layer.kind.follows and not own and before then return before.slot end
  local slot = 1
  while taken[slot] or (own and slots.used and slots.used[slot]) do slot = slot + 1 end
  if own then
    slots.used = slots.used or {}
    slots[own], slots.used[slot] = slot, true
  end
  return slot
end

--- Gives every layer its colour. `slots` maps labels to places of the cycle and is shared by the panels of a figure.
function Panel:assign_colours(slots)
  local right, before, taken = 0, nil, {}
  for _, layer in ipairs(self.layers) do
    right = right + (layer.o.axis == "y2" and 1 or 0)
    if layer.o.label and slots[layer.o.label] then taken[slots[layer.o.label]] = true end
  end
  for _, layer in ipairs(self.layers) do
    local o, theme = layer.o, self.theme
    local quiet = layer.kind.colourless or (layer.o.axis == "y2" and right == 1)
    local given = o.colour or (self.o.colours and layer.label and self.o.colours[layer.label])
    if given == nil and not quiet then
      layer.slot = choose_slot(layer, slots, taken, before)
      taken[layer.slot] = true
      layer.colour = theme.cycle[(layer.slot - 1) % #theme.cycle + 1]
      if layer.kind.follows and not o.label and before then layer.colour = before.colour end
    else
      layer.slot = type(o.colour) == "number" and o.colour or layer.label and slots[layer.label] or 1
      layer.colour = given and colour.parse(given, layer.where, theme.cycle) or theme.muted
    end
    if o.alpha and not layer.kind.colourless then layer.colour = colour.alpha(layer.colour, o.alpha) end
    if not layer.kind.colourless then before = layer end
  end
end

--- Decides how layers are named: "direct", "inside", "right", "bottom", a corner, or "none".
function Panel:choose_legend(alone)
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

--- In a legend, lines differ in their dashes too, for grey print; labels beside the lines need no such help.
function Panel:assign_dashes()
  local lines = 0
  for _, e in ipairs(self.entries) do
    for _, layer in ipairs(e.layers) do
      if layer.kind.ends and layer.o.axis == "y" then lines = lines + 1 break end
    end
  end
  for _, layer in ipairs(self.layers) do layer.dash_slot = self.mode ~= "direct" and lines > 1 and layer.slot or nil end
end

--- Where curves end on the right, for direct labels; nil when labels would not fit.
function Panel:direct_labels(view)
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

-- --- geometry ---

function Panel:view(scene, left, top, width, height, yaxis)
  local xs, ys = self.x.scale, (yaxis or self.y).scale
  return {scene = scene, theme = self.theme, left = left, top = top, width = width, height = height, xs = xs, ys = ys, panel = self,
    x = function(v) return left + width * xs:position(v) end, y = function(v) return top + height * (1 - ys:position(v)) end}
end

local function widest(labels, theme)
  local w = 0
  for _, label in ipairs(labels) do w = math.max(w, (theme.measure(label, theme.small))) end
  return w
end

--- Room that the texts need around a data area of this size: left, right, top, bottom.
function Panel:margins(width, height)
  local t = self.theme
  local tx = self.x:ticks_in_row(width, t)
  local ty = self.y:ticks(height, t.y_spacing)
  local side = t.tick + t.gap
  local left = self.hide_y and 4 or side + widest(ty.labels, t) + (self.y.label and not t.flat and t.size + 6 or 2)
  local bottom = self.hide_x and 4 or side + t.small + (self.x.label and t.size + 6 or 0)
  if not self.hide_x and not self.x.label and tx.factor then bottom = bottom + t.small + 3 end
  if tx.turned and not self.hide_x then bottom = bottom - t.small + widest(tx.labels, t) end
  local top = (self.o.title or self.letter) and t.title + 6 or 0.5 * t.small
  if ty.factor and not self.hide_y then
    top = math.max(top, 1.6 * t.small)
    left = math.max(left, (t.measure(ty.factor, t.small)) + 2)
  end
  if t.flat and (self.y.label or self.y2 and self.y2.label) then top = top + t.size end
  local right = 2
  if self.y2 then
    local t2 = self.y2:ticks(height, t.y_spacing)
    right = side + widest(t2.labels, t) + (self.y2.label and not t.flat and t.size + 7 or 2)
    if t2.factor then top = math.max(top, 1.6 * t.small) end
  end
  if self.colours then right = (self.y2 and right or 0) + colourbar.room(self.colours, height, t) end
  if not self.hide_x and #tx.major > 0 and not tx.turned then -- half of the outer labels hangs over
    for i, v in ipairs(tx.major) do
      local p, half = self.x.scale:position(v) * width, t.measure(tx.labels[i], t.small) / 2
      right, left = math.max(right, p + half - width), math.max(left, half - p)
    end
  end
  if self.mode == "direct" then
    local _, w = self:direct_labels(self:view(nil, 0, 0, width, height))
    if w and w < 0.3 * (width + w) then right = math.max(right, w + 6)
    else self.mode, self.forced_mode = "inside", "inside" end
  elseif self.mode == "right" then
    right = right + legend.measure(self.entries, t, 1).width + 6
  elseif self.mode == "bottom" then
    bottom = bottom + legend.measure(self.entries, t, legend.columns_for(self.entries, t, width)).height + 4
  elseif self.mode == "top" then
    local size, beside = self:top_legend(width)
    top = beside and math.max(top, size.height) or top + size.height
  end
  return left, right, top, bottom
end

--- Size of a legend on top of the panel, and whether it stands beside the letter or on its own row.
function Panel:top_legend(width)
  local t = self.theme
  local size = legend.measure(self.entries, t, legend.columns_for(self.entries, t, width))
  local beside = self.letter and not self.o.title and size.width < width - t.measure(self.letter, t.title, true) - 10
  return size, beside
end

-- --- drawing ---

local function draw_grid(view, axis, ticks, vertical)
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

local function draw_x_axis(self, view, ticks)
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
  if ticks.turned then low = y + widest(ticks.labels, t) end
  if ticks.factor then
    scene:text(view.left + view.width, low + 5, ticks.factor, {size = t.small, colour = t.muted, align = 1, valign = 1})
  end
  if axis.label then
    scene:text(view.left + view.width / 2, low + 4, axis.label, {size = t.size, colour = t.ink, align = 0.5, valign = 1})
  end
end

--- Left axis (direction -1) or right axis (1).
local function draw_y_axis(self, view, axis, ticks, direction, hidden)
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
    scene:text(x, view.top - 0.6 * t.small, ticks.factor, {size = t.small, colour = t.muted, align = align})
  end
  if axis.label and t.flat then -- above the axis, where letters can't be turned
    local label = axis.label .. (ticks.factor and " " .. ticks.factor or "")
    scene:text(x, view.top - 3, label, {size = t.size, colour = t.muted, align = direction < 0 and 0 or 1})
  elseif axis.label then
    local lx = at + direction * (widest(ticks.labels, t) + 5)
    local style = {size = t.size, colour = ink, align = 0.5, angle = 90, valign = direction < 0 and 0 or 1}
    scene:text(lx, view.top + view.height / 2, axis.label, style)
  end
end

local function draw_notes(self, view)
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

local corners = {["top left"] = {0, 0}, ["top right"] = {1, 0}, ["bottom left"] = {0, 1}, ["bottom right"] = {1, 1}}

--- Draws the names; returns "right" or "top" when no place inside is free enough.
function Panel:draw_legend(view, first, below)
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

--- Draws this panel as an inset over the panel of `view`; self.at says where.
function Panel:draw_inside(view)
  local at, t = self.at, self.theme
  local left, top = view.left + at[1] * view.width, view.top + (1 - at[2] - at[4]) * view.height
  local width, height = at[3] * view.width, at[4] * view.height
  view.scene:rectangle(left, top, width, height):fill(t.legend)
  self:limits()
  self:assign_colours({})
  self:choose_legend(false)
  self:assign_dashes()
  local a, b, c, d = 0, 0, 0, 0
  for _ = 1, 2 do a, b, c, d = self:margins(math.max(20, width - a - b), math.max(20, height - c - d)) end
  if self:draw(view.scene, left + a, top + c, math.max(20, width - a - b), math.max(20, height - c - d), d) then self.mode = "none" end
end

--- Title and letter, above a legend that stands on top of the panel.
function Panel:draw_title(view)
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
  if self.o.title then -- a long title gets smaller letters, down to those of the labels
    local room = (t.measure(self.o.title, t.title, not self.letter)) / math.max(1, view.left + view.width - x)
    local size = t.flat and t.title or math.max(t.size, t.title / math.max(1, room))
    view.scene:text(x, y, self.o.title, {size = size, bold = not self.letter, colour = t.ink})
  end
end

--- Draws everything with the data area at (left, top); returns where the legend must move if it fits nowhere inside.
function Panel:draw(scene, left, top, width, height, below)
  local view = self:view(scene, left, top, width, height)
  local view2 = self.y2 and self:view(scene, left, top, width, height, self.y2)
  local t = self.theme
  local tx, ty = self.x:ticks_in_row(width, t), self.y:ticks(height, t.y_spacing)
  if t.panel ~= t.background then scene:rectangle(left, top, width, height):fill(t.panel, {snap = true}) end
  draw_grid(view, self.x, tx, true)
  draw_grid(view, self.y, ty, false)
  local first = scene:count()
  view.first = first
  if view2 then view2.first = first end
  scene:clip(left, top, width, height)
  for _, layer in ipairs(self.layers) do
    if layer.kind.under then layer.kind.under(layer, layer.o.axis == "y2" and view2 or view) end
  end
  for _, layer in ipairs(self.layers) do
    if not layer.kind.above then layer.kind.draw(layer, layer.o.axis == "y2" and view2 or view) end
  end
  scene:unclip()
  for _, layer in ipairs(self.layers) do
    local v = layer.o.axis == "y2" and view2 or view
    if layer.kind.above then layer.kind.draw(layer, v) end
    if layer.kind.over then layer.kind.over(layer, v) end
  end
  for _, inset in ipairs(self.insets or {}) do inset:draw_inside(view) end
  local verdict = self:draw_legend(view, first, below)
  draw_x_axis(self, view, tx)
  draw_y_axis(self, view, self.y, ty, -1, self.hide_y)
  if self.y2 then
    self.right_colour = t.ink
    draw_y_axis(self, view2, self.y2, self.y2:ticks(height, t.y_spacing), 1)
  end
  if self.colours then
    local room = colourbar.room(self.colours, height, t)
    colourbar.draw(self.colours, scene, t, left + width + (self.y2 and self.right_room - room or 0), top, height)
  end
  self:draw_title(view)
  draw_notes(self, view)
  return verdict
end

return panel

--- A panel: layers over a pair of axes (and a second y axis), with title and legend.
-- The life of a panel: new (options checked, data read) -> limits -> margins (how much room texts
-- need around the data, asked several times while the figure finds its layout) -> draw.

local axes = require "quench.plots.axis"
local colour = require "quench.plots.colour"
local colourbar = require "quench.plots.colourbar"
local frame = require "quench.plots.frame"
local layers = require "quench.plots.layer"
local legend = require "quench.plots.legend"
local options = require "quench.options"
local theme_module = require "quench.plots.theme"

local panel = {}
local Panel = {}
Panel.__index = Panel
for _, part in ipairs{require "quench.plots.styles", require "quench.plots.names"} do
  for name, method in pairs(part) do Panel[name] = method end
end

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
      for _, list in pairs(lists or {}) do axis:include(list) end -- pairs: absent bands leave holes
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

-- --- geometry ---

function Panel:view(scene, left, top, width, height, yaxis)
  local xs, ys = self.x.scale, (yaxis or self.y).scale
  return {scene = scene, theme = self.theme, left = left, top = top, width = width, height = height, xs = xs, ys = ys, panel = self,
    x = function(v) return left + width * xs:position(v) end, y = function(v) return top + height * (1 - ys:position(v)) end}
end

--- Room that title, tick labels and axis labels need: left, right, top, bottom.
function Panel:axis_room(width, height)
  local t = self.theme
  local tx, ty = self.x:ticks_in_row(width, t), self.y:ticks(height, t.y_spacing)
  local side = t.tick + t.gap
  local left = self.hide_y and 4 or side + frame.widest(ty.labels, t) + (self.y.label and not t.flat and t.size + 6 or 2)
  local bottom = self.hide_x and 4 or side + t.small + (self.x.label and t.size + 6 or tx.factor and t.small + 3 or 0)
  if tx.turned and not self.hide_x then bottom = bottom - t.small + frame.widest(tx.labels, t) end
  local top = (self.o.title or self.letter) and t.title + 6 or 0.5 * t.small
  if ty.factor and not self.hide_y then
    top = math.max(top, 1.6 * t.small)
    left = math.max(left, (t.measure(ty.factor, t.small)) + 2 + (self.o.title and side or 0))
  end
  if t.flat and (self.y.label or self.y2 and self.y2.label) then top = top + t.size end
  local right = 2
  if self.y2 then
    local t2 = self.y2:ticks(height, t.y_spacing)
    right = side + frame.widest(t2.labels, t) + (self.y2.label and not t.flat and t.size + 7 or 2)
    if t2.factor then top = math.max(top, 1.6 * t.small) end
  end
  if self.colours then right = (self.y2 and right or 0) + colourbar.room(self.colours, height, t) end
  if not self.hide_x and not tx.turned then -- half of the outer labels hangs over
    for i, v in ipairs(tx.major) do
      local p, half = self.x.scale:position(v) * width, t.measure(tx.labels[i], t.small) / 2
      right, left = math.max(right, p + half - width), math.max(left, half - p)
    end
  end
  return left, right, top, bottom
end

--- Room that all texts need around a data area of this size: left, right, top, bottom.
function Panel:margins(width, height)
  local left, right, top, bottom = self:axis_room(width, height)
  local t = self.theme
  if self.mode == "direct" then
    local _, w = self:direct_labels(self:view(nil, 0, 0, width, height))
    if w and w < 0.3 * (width + w) then return left, math.max(right, w + 6), top, bottom end
    self.mode, self.forced_mode = "inside", "inside"
    self:assign_dashes()
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

-- --- drawing ---

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

--- Areas first, then curves and points, both cut to the data area; notes and numbers last, uncut.
function Panel:draw_layers(view, view2)
  local function each(pass, wanted)
    for _, layer in ipairs(self.layers) do
      if wanted(layer.kind) then layer.kind[pass](layer, layer.o.axis == "y2" and view2 or view) end
    end
  end
  view.scene:clip(view.left, view.top, view.width, view.height)
  each("under", function(kind) return kind.under end)
  each("draw", function(kind) return not kind.above end)
  view.scene:unclip()
  each("draw", function(kind) return kind.above end)
  each("over", function(kind) return kind.over end)
end

--- Draws everything with the data area at (left, top); returns where the legend must move if it fits nowhere inside.
function Panel:draw(scene, left, top, width, height, below)
  local view = self:view(scene, left, top, width, height)
  local view2 = self.y2 and self:view(scene, left, top, width, height, self.y2)
  local t = self.theme
  local tx, ty = self.x:ticks_in_row(width, t), self.y:ticks(height, t.y_spacing)
  if t.panel ~= t.background then scene:rectangle(left, top, width, height):fill(t.panel, {snap = true}) end
  frame.grid(view, self.x, tx, true)
  frame.grid(view, self.y, ty, false)
  local first = scene:count()
  view.first = first
  if view2 then view2.first = first end
  self:draw_layers(view, view2)
  for _, inset in ipairs(self.insets or {}) do inset:draw_inside(view) end
  local verdict = self:draw_legend(view, first, below)
  frame.x_axis(self, view, tx)
  frame.y_axis(self, view, self.y, ty, -1, self.hide_y)
  if self.y2 then
    self.right_colour = t.ink
    frame.y_axis(self, view2, self.y2, self.y2:ticks(height, t.y_spacing), 1)
  end
  if self.colours then
    local room = colourbar.room(self.colours, height, t)
    colourbar.draw(self.colours, scene, t, left + width + (self.y2 and self.right_room - room or 0), top, height)
  end
  frame.title(self, view)
  frame.notes(self, view)
  return verdict
end

return panel

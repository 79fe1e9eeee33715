--- A figure: panels in a grid on one page, and what becomes of them: PNG, SVG, terminal.

local c = require "quench.c.plot"
local system = require "quench.c.system"
local options = require "quench.options"
local legend = require "quench.plots.legend"

local figure = {}
local Figure = {}
Figure.__index, Figure.__name = Figure, "figure" -- at the prompt a figure shows itself
figure.methods = Figure

figure.options = {
  {"width", "number", above = 0, max = 100, unit = "inches", doc = "default 5.6, or 3.9 a column"},
  {"height", "number", above = 0, max = 100, unit = "inches", doc = "default 3.5, or 2.5 a row"},
  {"dpi", "number", default = 160, min = 20, max = 1200, doc = "pixels an inch"},
}

figure.save_options = options.spec("q.plot save", {
  {"text", "table", default = {}, doc = "key -> text, stored in the PNG (quench show and replay read them)"},
  {"dpi", "number", min = 20, max = 1200, doc = "pixels an inch; default: the figure's"},
})

--- rows: a list of lists of panels (false leaves a place free). o: width, height, dpi, heading, share, widths, heights.
function figure.new(rows, o, theme)
  local self = setmetatable({rows = rows, o = o, theme = theme, columns = 0}, Figure)
  for _, row in ipairs(rows) do self.columns = math.max(self.columns, #row) end
  local alone = #rows == 1 and self.columns == 1
  self.width = 72 * (o.width or (alone and 5.6 or self.columns == 1 and 5.6 or math.min(11, 3.9 * self.columns)))
  self.height = 72 * (o.height or (alone and 3.5 or math.min(14, 0.3 + 2.3 * #rows)))
  self:each(function(p) p.alone = alone end)
  return self
end

--- Calls fn(panel, row, column) for every panel, row by row.
function Figure:each(fn)
  for r, row in ipairs(self.rows) do
    for k = 1, self.columns do
      if row[k] then fn(row[k], r, k) end
    end
  end
end

-- --- shared axes ---

local function share_axis(self, side)
  local low, high
  local names = {}
  self:each(function(p)
    local axis = p[side]
    for _, name in ipairs(axis.categories or {}) do names[#names + 1] = name end
    local a, b = axis:data_range()
    if a and (not low or a < low) then low = a end
    if b and (not high or b > high) then high = b end
  end)
  self:each(function(p)
    for _, name in ipairs(names) do p[side]:category(name) end
    p[side]:set_limits(low, high)
  end)
end

function Figure:set_limits()
  self:each(function(p) p:limits() end)
  local share = self.o.share or "none"
  if share:find("x") then share_axis(self, "x") end
  if share:find("y") then share_axis(self, "y") end
  self:each(function(p, r, k)
    local below, beside = self.rows[r + 1] and self.rows[r + 1][k], self.rows[r][k - 1]
    p.hide_x = share:find("x") and below and true or false
    p.hide_y = share:find("y") and beside and true or false
  end)
end

--- Colours by label over all panels; one legend when one panel's labels are everybody's.
function Figure:set_styles()
  local slots = {}
  self:each(function(p) p:assign_colours(slots) end)
  local union, count, fullest, most = {}, 0, nil, 0
  self:each(function(p)
    local own, n = {}, 0
    for _, layer in ipairs(p.layers) do
      if layer.label and not own[layer.label] then own[layer.label], n = true, n + 1 end
      if layer.label and not union[layer.label] then union[layer.label], count = true, count + 1 end
    end
    if n > most then fullest, most = p, n end
  end)
  self:each(function(p)
    p.mute_legend = count > 0 and most == count and p ~= fullest and p.o.legend == "auto"
    p:choose_legend(p.alone)
    p:assign_dashes()
  end)
end

-- --- layout ---

local function shares(total, n, given)
  local out, sum = {}, 0
  for i = 1, n do sum = sum + (given and given[i] or 1) end
  for i = 1, n do out[i] = total * (given and given[i] or 1) / sum end
  return out
end

--- Column widths and row heights of the data areas, and the margins around them: widest in the column, highest in the row.
function Figure:lay_out()
  local t, n, m = self.theme, self.columns, #self.rows
  local heading = self.o.heading and t.heading + 9 or 0
  local width, height = self.width - 2 * t.margin, self.height - 2 * t.margin - heading
  local w, h = shares(0.75 * width, n, self.o.widths), shares(0.75 * height, m, self.o.heights)
  local left, right, top, bottom
  for _ = 1, 3 do -- ticks depend on the lengths, the lengths on the ticks' labels
    left, right, top, bottom = {}, {}, {}, {}
    for k = 1, n do left[k], right[k] = 0, 0 end
    for r = 1, m do top[r], bottom[r] = 0, 0 end
    self:each(function(p, r, k)
      local a, b, d, e = p:margins(w[k], h[r])
      left[k], right[k] = math.max(left[k], a), math.max(right[k], b)
      top[r], bottom[r] = math.max(top[r], d), math.max(bottom[r], e)
    end)
    local free_w, free_h = width - (n - 1) * t.between, height - (m - 1) * 0.6 * t.between
    for k = 1, n do free_w = free_w - left[k] - right[k] end
    for r = 1, m do free_h = free_h - top[r] - bottom[r] end
    w, h = shares(math.max(free_w, 20 * n), n, self.o.widths), shares(math.max(free_h, 20 * m), m, self.o.heights)
  end
  return {w = w, h = h, left = left, right = right, top = top, bottom = bottom, heading = heading}
end

local function draw_all(self, scene, l)
  local t, again = self.theme, false
  local y = t.margin + l.heading
  if self.o.heading then
    scene:text(self.width / 2, t.margin + t.heading, self.o.heading, {size = t.heading, bold = true, colour = t.ink, align = 0.5})
  end
  for r, row in ipairs(self.rows) do
    local x = t.margin
    y = y + l.top[r]
    for k = 1, self.columns do
      x = x + l.left[k]
      local p = row[k]
      if p then
        local wide = p.y2 or p.colours
        p.left_room = l.left[k]
        p.label_room = p.y2 and not p.colours and p.mode ~= "right" and l.right[k] or nil
        p.right_room = wide and p.mode == "right" and l.right[k] - legend.measure(p.entries, t, 1).width or wide and l.right[k] or 6
        local place = p:draw(scene, x, y, l.w[k], l.h[r], l.bottom[r])
        if place then p.mode, again = place, true end
      end
      x = x + l.w[k] + l.right[k] + t.between
    end
    y = y + l.h[r] + l.bottom[r] + 0.6 * t.between
  end
  return again
end

--- The scene, drawn once and kept.
function Figure:scene()
  if self.drawn then return self.drawn end
  self:set_limits()
  self:set_styles()
  local scene
  for _ = 1, 2 do -- a second time when a legend found no place inside
    scene = c.scene(self.width, self.height, self.theme.background)
    local again = draw_all(self, scene, self:lay_out())
    if not again then break end
  end
  self.drawn = scene
  return scene
end

-- --- output ---

--- Writes the figure: .png (with dpi and texts) or .svg, by the name's ending. Returns the figure.
function Figure:save(path, given)
  if type(path) ~= "string" then options.fail("q.plot save: needs a path like \"figure.png\", got %s", type(path)) end
  local o = figure.save_options(given)
  local ending = path:lower():match("%.(%w+)$")
  if ending == "svg" then
    system.write_file(path, self:svg())
    return self
  end
  if ending ~= "png" then options.fail("q.plot save: '%s' must end in .png or .svg", path) end
  self:scene():save_png(path, o.dpi or self.o.dpi, o.text)
  return self
end

--- The same figure with other sizes and themes: what a terminal shows.
function Figure:again(theme, width, height)
  if not self.rebuild then return nil end
  local f = self.rebuild(theme)
  f.width, f.height = width, height
  return f
end

--- What a figure is, in a line.
function Figure:__tostring()
  local panels = 0
  for _, row in ipairs(self.rows) do
    for _, panel in ipairs(row) do panels = panels + (panel and 1 or 0) end
  end
  return ("figure, %.3g x %.3g inches, %d panel%s"):format(self.width / 72, self.height / 72, panels, panels == 1 and "" or "s")
end

--- Draws in the terminal (and saves a PNG, whose path it prints); see show.lua.
function Figure:show(given) require("quench.plots.show").show(self, given) end

--- The SVG file as a string.
function Figure:svg() return self:scene():svg(self.o.heading or self.title) end

--- The PNG file as a string.
function Figure:png(given)
  local o = figure.save_options(given)
  return self:scene():png(o.dpi or self.o.dpi, o.text)
end

return figure

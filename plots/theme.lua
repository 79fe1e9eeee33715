--- Themes: every size (points), colour and pattern of a figure that is not data.
-- theme.light and theme.dark differ in colours only; theme.terminal measures text in character cells.

local c = require "quench.c.plot"
local colour = require "quench.plots.colour"

local theme = {}

-- On, off, ... in units of the line width: solid first, then ever more broken, all readable on noisy curves.
local dashes = {{}, {5, 1.6}, {6, 1.6, 1.4, 1.6}, {2.4, 1.4}, {8, 1.6, 1.4, 1.6, 1.4, 1.6}, {1.2, 1.4}, {10, 2.5}, {4, 1.4, 4, 3}}

local light = {
  size = 8.5, small = 7.5, title = 10, heading = 11,       -- text
  line = 1.5, thin = 0.75, hair = 0.6, marker = 5,         -- widths, marker diameter
  tick = 3, minor = 1.8, gap = 3.5,                        -- tick lengths, gap between tick and label
  x_spacing = 62, y_spacing = 36,                          -- wished distance between ticks
  margin = 7, between = 16,                                -- outer margin, between panels
  background = 0xffffffff, ink = 0x1a1a1aff, muted = 0x5c5c5cff, axis = 0x3c3c3cff,
  grid = 0xe7e7e7ff, minor_grid = 0xf3f3f3ff, panel = 0xffffffff, legend = 0xffffffe6,
  cycle = colour.cycle, dashes = dashes,
  markers = {"circle", "square", "up", "diamond", "down", "star", "plus", "cross"},
  band_alpha = 0.22, measure = c.text_extent,
}
theme.light = light

theme.dark = setmetatable({
  background = 0x15181dff, ink = 0xe8e8e8ff, muted = 0xa6a9adff, axis = 0xb4b7bbff,
  grid = 0x2c3138ff, minor_grid = 0x20242aff, panel = 0x15181dff, legend = 0x15181de6, band_alpha = 0.3,
  cycle = {0x4da6e8ff, 0xff8a4cff, 0x2fc79aff, 0xe59ac4ff, 0xf2b632ff, 0x9ad8ffff, 0xf2ec9bff, 0x9aa0a6ff},
}, {__index = light})

--- The theme of that name with its table of changes applied: theme.get("dark", {size = 10}).
function theme.get(name, changes)
  local base = theme[name]
  return changes and setmetatable(changes, {__index = base}) or base
end

--- The theme for an inset: the same colours, everything a little smaller.
function theme.smaller(base)
  return setmetatable({size = base.small, small = base.small - 1, title = base.size, x_spacing = 0.65 * base.x_spacing,
    y_spacing = 0.65 * base.y_spacing, line = 0.8 * base.line, marker = 0.7 * base.marker, tick = 0.7 * base.tick, gap = 0.7 * base.gap},
    {__index = base})
end

--- Everything in character cells of 6 x 12 points (plots/terminal.h); white is the terminal's own ink.
local cell_width, cell_height = 6, 12
theme.terminal = {
  size = cell_height, small = cell_height, title = cell_height, heading = cell_height,
  line = 1, thin = 1, hair = 1, marker = 4, tick = 0, minor = 0, gap = 3, x_spacing = 72, y_spacing = 34, margin = 0, between = 2 * cell_width,
  background = 0x000000ff, ink = 0xffffffff, muted = 0x8c8c8cff, axis = 0x8c8c8cff, grid = 0, minor_grid = 0,
  panel = 0x000000ff, legend = 0x000000ff, band_alpha = 0.3,
  cycle = {0x4a90d9ff, 0xe0703aff, 0x2fae85ff, 0xd07fb8ff, 0xd9a520ff, 0x56b4e9ff, 0xb08d57ff, 0x999999ff},
  dashes = dashes, markers = light.markers, flat = true,
  measure = function(s)
    local letters = select(2, c.text_plain(s):gsub("[^\128-\191]", ""))
    return letters * cell_width, cell_height, 0
  end,
}
theme.cell_width, theme.cell_height = cell_width, cell_height

theme.names = {"light", "dark"}

return theme

--- The kinds of layers. A kind is a table in one of the files listed here; panel.lua calls its functions:
--   example            one line for help()
--   options            what the layer accepts beyond the common options
--   prepare(layer)     reads layer.o, sets layer.span = {x = {lists}, y = {lists}} (data limits) and its own fields
--   under(layer, view) draws what lies below all lines: areas; optional
--   draw(layer, view)  draws the rest
--   over(layer, view)  draws what may stand outside the data area: numbers beside bars; optional
--   swatch(layer, view, x, y, width)  its sign in the legend, about (x .. x + width, y)
--   first              what a single list without a name is; default "y"
--   colourless         takes no place in the colour cycle (notes, reference lines)
--   ends               may be labelled at its right end
-- view: scene, theme, x(v), y(v) to points, left, top, width, height, scales xs and ys.
-- A new kind is one table in a file and, for a new file, one word here.

local options = require "quench.options"

local files = {"lines", "points", "fit", "counts", "groups", "fields", "notes"}

local kinds = {list = {}, names = {}}

local common = {
  {"x", "any", doc = "list or tensor of numbers (or names); a string is a column of data"},
  {"y", "any", doc = "list or tensor; a list of lists is one run a seed"},
  {"label", "string", doc = "name in the legend; layers with the same label share a colour"},
  {"colour", "string|integer", doc = "name, '#rrggbb' or place in the cycle"},
  {"alpha", "number", min = 0, max = 1, doc = "1 opaque, 0 invisible"},
  {"axis", "string", default = "y", choices = {"y", "y2"}, doc = "left or right axis"},
  {"data", "table", doc = "columns or rows that x and y name; default: the plot's data"},
  {"fit", "string", doc = "a formula like \"a*x^-b+c\": adds a layer of kind fit"},
  {"by", "string", doc = "column of data: one layer a value, labelled with it"},
}

--- Declares a kind: {name, doc, options = {...}, prepare=, draw=, ...}.
function kinds.add(kind)
  kind.name, kind.doc = kind[1], kind[2]
  local entries = {}
  for i, entry in ipairs(common) do entries[i] = entry end
  for _, entry in ipairs(kind.options or {}) do entries[#entries + 1] = entry end
  kind.spec = options.spec("q.plot " .. kind.name, entries)
  kinds.list[kind.name] = kind
  kinds.names[#kinds.names + 1] = kind.name
end

--- The kind of that name, or an error with the nearest one.
function kinds.find(name)
  if kinds.list[name] then return kinds.list[name] end
  options.fail("q.plot: no kind of layer '%s'%s; kinds: %s", name, options.suggest(name, kinds.names), table.concat(kinds.names, ", "))
end

for _, name in ipairs(files) do require("quench.plots.kind_" .. name)(kinds) end

return kinds

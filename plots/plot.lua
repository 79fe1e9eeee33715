--- q.plot: one table in, a figure out.
--
--   q.plot{title = "Loss", x = "step", y = "nats", log = "x",
--     {"line", x = steps, y = loss, label = "AdamW"},
--     {"hline", y = 2.1, text = "entropy"},
--   }:save("loss.png")

local axes = require "quench.plots.axis"
local facets = require "quench.plots.facets"
local figure = require "quench.plots.figure"
local help = require "quench.help"
local options = require "quench.options"
local kinds = require "quench.plots.kinds"
local panels = require "quench.plots.panel"
local show = require "quench.plots.show"

local plot = {}

local function joined(...)
  local out = {}
  for _, list in ipairs{...} do
    for _, entry in ipairs(list) do out[#out + 1] = entry end
  end
  return out
end

local facet_options = {
  {"facet", "string", doc = "column of data: one panel a value"},
  {"columns", "integer", min = 1, doc = "panels in a row, with facet"},
  {"share", "string", default = "xy", choices = {"x", "y", "xy", "none"}, doc = "axes with common limits, with facet"},
}

local spec = options.spec("q.plot", joined(panels.options, facet_options, figure.options))

local grid_spec = options.spec("q.plot.grid", joined({
  {"title", "string", doc = "above the whole figure"},
  {"columns", "integer", min = 1, doc = "places panels given as a flat list; default: up to 3"},
  {"share", "string", default = "none", choices = {"x", "y", "xy", "none"}, doc = "axes with common limits"},
  {"letters", "boolean", default = false, doc = "(a), (b), ... before the titles"},
  {"widths", "list", doc = "relative widths of the columns"},
  {"heights", "list", doc = "relative heights of the rows"},
  {"theme", "string|table", default = "light", doc = "light, dark, or a table of changes"},
}, figure.options))

local function named(given)
  local out = {}
  for key, v in pairs(given) do
    if type(key) ~= "number" then out[key] = v end
  end
  return out
end

local function build(given, theme)
  local o = spec(named(given))
  theme = theme or panels.theme(o.theme)
  local size = {width = o.width, height = o.height, dpi = o.dpi}
  if o.facet then
    size.heading, size.share = o.title, o.share
    return figure.new(facets(o, given, theme), size, theme)
  end
  return figure.new({{panels.new(o, given, theme)}}, size, theme)
end

--- A figure that can be built again with another theme. `given` marks what q.plot.grid takes as a panel.
local function remembered(make, given)
  local f = make(given)
  f.rebuild = function(theme) return make(given, theme) end
  return f
end

local function new_plot(given)
  if type(given) ~= "table" then options.fail("q.plot: needs a table like {x = \"step\", {\"line\", x =, y =}}, got %s", type(given)) end
  local f = remembered(build, given)
  f.given = given
  return f
end

local function is_plot(v) return type(v) == "table" and v.given ~= nil and v.rows ~= nil end

--- A row of panels: its items are plots, or tables whose items are layers (tables that begin with a kind or data).
local function is_row(v)
  if type(v) ~= "table" or is_plot(v) then return false end
  for key in pairs(v) do
    if type(key) ~= "number" then return false end
  end
  local first = v[1] or v[2]
  return is_plot(first) or type(first) == "table" and (#first == 0 or type(first[1]) == "table" and type(first[1][1]) ~= "number")
end

--- Panels as rows, from rows of panels or a flat list and a number of columns.
local function as_rows(given, columns)
  if #given == 0 then options.fail("q.plot.grid: needs panels: q.plot.grid{{p, q}, {r, s}} or q.plot.grid{columns = 2, p, q, r, s}") end
  local nested = not columns
  for _, item in ipairs(given) do nested = nested and is_row(item) end
  if nested then return given end
  columns = columns or math.min(3, #given)
  local rows = {}
  for i, item in ipairs(given) do
    local r = math.floor((i - 1) / columns) + 1
    rows[r] = rows[r] or {}
    table.insert(rows[r], item)
  end
  return rows
end

local function build_grid(given, theme)
  local o = grid_spec(named(given))
  theme = theme or panels.theme(o.theme)
  local rows, count = {}, 0
  for r, row in ipairs(as_rows(given, o.columns)) do
    rows[r] = {}
    for k, item in ipairs(row) do
      rows[r][k] = false -- a free place
      if item then
        local table_of_panel = is_plot(item) and item.given or item
        if type(table_of_panel) ~= "table" then options.fail("q.plot.grid: panel %d of row %d must be a plot or its table", k, r) end
        rows[r][k] = panels.new(spec(named(table_of_panel)), table_of_panel, theme)
        if o.letters then rows[r][k].letter = ("(%s)"):format(string.char(97 + count % 26)) end
        count = count + 1
      end
    end
  end
  return figure.new(rows, {width = o.width, height = o.height, dpi = o.dpi, heading = o.title, share = o.share, widths = o.widths,
    heights = o.heights}, theme)
end

--- Several panels on one page.
function plot.grid(given)
  if type(given) ~= "table" then options.fail("q.plot.grid: needs a table of panels, got %s", type(given)) end
  return remembered(build_grid, given)
end

local weights, weights_spec = require "quench.plots.weights"(plot)
plot.weights = weights
local abc, abc_spec = require "quench.plots.stacks"(plot)
local spectrum, spectrum_spec = require "quench.plots.spectrum"(plot)
plot.abc, plot.spectrum = abc, spectrum

setmetatable(plot, {__call = function(_, given) return new_plot(given) end})

help.add{"q.plot", plot, "q.plot{title=, x=, y=, ..., {kind, x=, y=, ...}, ...} -> figure",
  "A figure from one table: options by name, layers in order.", options = spec,
  returns = "a figure: :save(path, {text =, dpi =}) for .png and .svg, :show() in the terminal, :png(), :svg()",
  errors = "an unknown option, kind, colour or marker, with the nearest name; lists of unequal length; a log axis without positive data",
  example = [[q.plot{x = "step", y = "loss", log = "x", {"line", x = steps, y = loss, label = "AdamW"}}:save("loss.png")]],
  see = {"q.plot.grid"}}
help.add{"q.plot.grid", plot.grid, "q.plot.grid{columns=, share=, letters=, plot, ...} -> figure",
  "Several panels on one page; colours belong to labels over all of them.", options = grid_spec,
  example = [[q.plot.grid{columns = 1, share = "x", letters = true, loss_plot, error_plot}:save("both.png")]], see = {"q.plot"}}
-- One record a kind of layer; the example is the shortest use.
for _, name in ipairs(kinds.names) do
  local kind = kinds.list[name]
  help.add{"q.plot." .. name, nil, ("{%q, ...} as a layer of q.plot"):format(name), kind.doc .. ".", options = kind.spec,
    example = "q.plot{" .. kind.example .. "}", see = {"q.plot"}}
end
help.add{"q.plot.axis", nil, "x = {label =, scale =, ...} in q.plot", "Options of an axis (x, y, y2); a text alone is its label.",
  options = axes.spec, example = [[q.plot{x = {label = "N", scale = "log2", ticks = {16, 64, 256}}, {"points", N, loss}}]], see = {"q.plot"}}
help.add{"figure:save", figure.methods.save, "figure:save(path, {text =, dpi =}) -> figure",
  "Writes a .png (with dpi and texts inside) or a .svg, atomically.", options = figure.save_options,
  errors = "another ending; a folder that does not exist; texts that are not strings",
  example = [[p:save("a.png", {dpi = 300, text = {parameters = "lr=0.01"}})]], see = {"q.plot", "figure:show"}}
help.add{"figure:show", figure.methods.show, "figure:show{path =, columns =, rows =}",
  "Draws in the terminal: kitty, iTerm2 or sixel graphics where it answers, else braille; saves a PNG and prints its path.",
  text = "QUENCH_GRAPHICS = kitty, iterm, sixel, text or none decides instead of asking; QUENCH_TERMINAL_WAIT (300) is how many ms it is asked.\n"
    .. "Not a terminal: only the PNG. At the prompt a figure shows itself.",
  options = show.options, example = "p:show()", see = {"figure:save"}}
help.add{"q.plot.weights", plot.weights, "q.plot.weights(tensor, {title=, quantized=}) -> figure",
  "A weight matrix as a picture, with its distribution; with its quantized twin also errors and levels.", options = weights_spec,
  example = [[q.plot.weights(w, {quantized = wq}):save("w.png")]], see = {"q.plot"}}
help.add{"q.plot.abc", plot.abc, "q.plot.abc(result, {kinds=, trunc=, log=, title=}) -> figure",
  "The error of a quantized model along its depth, as stacks of A, B and C.", options = abc_spec,
  source = "Vlassis et al. 2025, Beyond Outliers (arXiv 2509.23500)",
  example = [[q.plot.abc(q.metrics.abc(model, quantized, ids)):save("abc.png")]], see = {"q.metrics.abc", "q.plot"}}
help.add{"q.plot.spectrum", plot.spectrum, "q.plot.spectrum(what, {labels=, top=, title=}) -> figure",
  "Singular values of matrices beside random ones, or spectral densities of a Hessian.", options = spectrum_spec,
  shapes = "what: a matrix (m, n), the result of q.curvature.density, or a list of either",
  source = "Marchenko and Pastur 1967 for random entries",
  example = [[q.plot.spectrum({w, wq - w}, {labels = {"weights", "error"}}):save("spectrum.png")]],
  see = {"q.curvature.density", "q.linalg.svdvals", "q.plot.weights"}}

return plot

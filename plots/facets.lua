--- Facets: one table of data, one panel for each value of a column.

local data = require "quench.plots.data"
local options = require "quench.options"
local panels = require "quench.plots.panel"

--- An axis without its label: inner panels leave the label to the outer ones.
local function bare(axis)
  if type(axis) ~= "table" then return nil end
  local out = {}
  for key, v in pairs(axis) do out[key] = key ~= "label" and v or nil end
  return out
end

--- The rows of a table of data (columns or a list of rows) where the key column has the value, as columns.
local function rows_where(t, keys, value)
  local keep, out = {}, {}
  for i, k in ipairs(keys) do
    if k == value then keep[#keep + 1] = i end
  end
  if type(t[1]) == "table" then
    for n, i in ipairs(keep) do out[n] = t[i] end
    return out
  end
  for name, column in pairs(t) do
    local list = data.plain(column, "q.plot: data." .. tostring(name))
    out[name] = {}
    for n, i in ipairs(keep) do out[name][n] = list[i] end
  end
  return out
end

--- Rows of panels, one panel a value of the column o.facet.
return function(o, given, theme)
  if not o.data then options.fail("q.plot: facet=%q names a column, but there is no data=", o.facet) end
  local keys = data.plain(data.column(o.data, o.facet, "q.plot: facet"), "q.plot: facet")
  local values = data.distinct(keys)
  local columns = o.columns or math.min(#values, #values == 4 and 2 or 3)
  local rows = {}
  for i, value in ipairs(values) do
    local mine = {title = tostring(value), data = rows_where(o.data, keys, value)}
    local r, k = math.floor((i - 1) / columns) + 1, (i - 1) % columns
    local last_row = i + columns > #values
    mine.x = (last_row or not o.share:find("x")) and o.x or bare(o.x)
    mine.y = (k == 0 or not o.share:find("y")) and o.y or bare(o.y)
    rows[r] = rows[r] or {}
    for _, name in ipairs{"y2", "log", "xlim", "ylim", "y2lim", "legend", "colours"} do mine[name] = o[name] end
    rows[r][k + 1] = panels.new(mine, given, theme)
  end
  return rows
end

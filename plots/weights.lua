--- q.plot.weights: a weight matrix as a picture, with its distribution; given its quantized twin, also the
-- error map and the levels in use. Large matrices are shown by the entry of largest size in each block, because
-- means of blocks would hide the outliers that quantization is about.

local data = require "quench.plots.data"
local options = require "quench.options"
local text = require "quench.plots.text"

local cells, sample_size = 160, 60000

local spec = options.spec("q.plot.weights", {
  {"title", "string", doc = "above the picture"},
  {"quantized", "tensor", doc = "the same weights after quantization: adds error map and levels"},
  {"theme", "string|table", default = "light", doc = "as for q.plot"},
  {"width", "number", above = 0, max = 100, unit = "inches", doc = "default 8.2"},
  {"height", "number", above = 0, max = 100, unit = "inches", doc = "default 3.1, with quantized 5.8"},
})

--- Rows and columns: leading axes are flattened into rows; a vector is one row.
local function as_matrix(t)
  local shape = t:shape()
  if #shape == 2 then return t end
  local columns = #shape == 0 and 1 or shape[#shape]
  return t:contiguous():view(t:numel() / columns, columns)
end

--- The entry of largest size in each block (of errors: the root of the mean square), as a list of rows; and the size of a block.
local function blocks(m, mean_square)
  local shape = m:shape()
  local high, wide = math.ceil(shape[1] / cells), math.ceil(shape[2] / cells)
  if high == 1 and wide == 1 then return (mean_square and m:abs() or m):totable(), 1, 1 end
  local rows, columns = math.floor(shape[1] / high), math.floor(shape[2] / wide)
  local cut = m:narrow(1, 1, rows * high):narrow(2, 1, columns * wide):contiguous():view(rows, high, columns, wide)
  if mean_square then return cut:square():mean(4):mean(2):sqrt():totable(), high, wide end
  local most, least = cut:max(4):max(2):totable(), cut:min(4):min(2):totable()
  for j, row in ipairs(most) do
    for i, v in ipairs(row) do
      if -least[j][i] > v then row[i] = least[j][i] end
    end
  end
  return most, high, wide
end

--- At most sample_size numbers of the matrix, from evenly spaced rows.
local function sample(m)
  local shape = m:shape()
  local step = math.ceil(m:numel() / sample_size)
  local out = {}
  for r = 1, shape[1], math.min(step, math.max(1, math.floor(shape[1] / 8))) do
    for _, v in ipairs(m:select(1, r):totable()) do out[#out + 1] = v end
    if #out > 4 * sample_size then break end
  end
  return out
end

--- Excess kurtosis and largest size of a list, written in a line.
local function describe(list)
  local mean, deviation, n = data.moments(list)
  local fourth, largest = 0, 0
  for _, v in ipairs(list) do
    local d = (v - mean) / deviation
    fourth, largest = fourth + d ^ 4, math.max(largest, math.abs(v))
  end
  return ("kurtosis %s,  max %.1f \\sigma"):format(text.format("%.2g", fourth / n - 3), largest / deviation)
end

--- Colours reach to the 99.8 % quantile of the sizes, so that one outlier does not bleach the rest.
local function reach(rows)
  local all = {}
  for _, row in ipairs(rows) do
    for _, v in ipairs(row) do all[#all + 1] = math.abs(v) end
  end
  local r = data.quantile(data.sorted(all), 0.998)
  return r == r and r > 0 and r or 1
end

local function map_panel(m, title, label, mean_square)
  local rows, high, wide = blocks(m, mean_square)
  local r = reach(rows)
  local shape = m:shape()
  local x, y = {}, {}
  for i = 1, #rows[1] do x[i] = (i - 0.5) * wide + 0.5 end
  for j = 1, #rows do y[j] = (j - 0.5) * high + 0.5 end
  local note = high * wide > 1 and (", %s of %d × %d"):format(mean_square and "rms" or "largest", high, wide) or ""
  return {title = title, x = ("input (%d%s)"):format(shape[2], note), y = {label = ("output (%d)"):format(shape[1]), reverse = true},
    {"heatmap", z = rows, x = x, y = y, range = {mean_square and 0 or -r, r},
      map = mean_square and "sequential" or "diverging", value_label = label}}
end

local function list_of_levels(values)
  local levels, count = {}, 0
  for _, v in ipairs(values) do
    if not levels[v] then levels[v], count = true, count + 1 end
  end
  return count
end

local function histogram_panel(values, title, x, scale, extra)
  local p = {title = title, x = x, y = {label = "share", scale = scale}, legend = extra and "auto" or "none",
    {"histogram", x = values, normal = "share", bins = 80, label = extra and "before" or nil}}
  if extra then p[2] = {"histogram", x = extra, normal = "share", bins = 80, label = "after"} end
  return p
end

return function(plot)
  return function(t, given)
    if not data.is_tensor(t) then options.fail("q.plot.weights: needs a tensor, got %s", type(t)) end
    if t:numel() == 0 then options.fail("q.plot.weights: the tensor has no elements") end
    local o = spec(given)
    local m = as_matrix(t:detach():to("f32"))
    local values = sample(m)
    local grid = {title = o.title, theme = o.theme, width = o.width or 8.2, height = o.height or (o.quantized and 5.8 or 3.1), widths = {3, 2}}
    local first = {map_panel(m, "weights", "$w$"), histogram_panel(values, describe(values), "$w$", "log")}
    if not o.quantized then
      grid[1] = first
      return plot.grid(grid)
    end
    local after = as_matrix(o.quantized:detach():to("f32"))
    for k = 1, 2 do
      if after:shape()[k] ~= m:shape()[k] then
        options.fail("q.plot.weights: the weights are %d x %d, quantized is %d x %d", m:shape()[1], m:shape()[2], after:shape()[1], after:shape()[2])
      end
    end
    local difference = after - m
    local kept, errors = sample(after), sample(difference)
    first[2] = histogram_panel(values, ("%d levels after"):format(list_of_levels(kept)), "$w$", "log", kept)
    local relative = difference:norm() / m:norm()
    grid[1] = first
    grid[2] = {map_panel(difference, ("error (relative %s)"):format(text.format("%.3g", relative)), "$|Delta w|$", true),
      histogram_panel(errors, describe(errors), "$Delta w$", "linear")}
    return plot.grid(grid)
  end, spec
end

--- Looking at a tensor: t:stats() in one line with a small histogram, t:blocks() as shaded blocks.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"

local inspect = {}

local BINS = 16
local bars = {"▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"}
local shades = {" ", "░", "▒", "▓", "█"}

--- Counts of the values in equal bins from low to high; those that are not finite are in none.
local function histogram(x, low, high)
  local counts = {}
  local bin = q.where(x:isfinite(), ((x - low) * (BINS / (high - low))):floor():clamp(0, BINS - 1), -1)
  for b = 1, BINS do counts[b] = bin:eq(b - 1):to("f64"):sum():item() end
  return counts
end

local function bar_text(counts)
  local most, parts = math.max(unpack(counts)), {}
  for i, n in ipairs(counts) do parts[i] = n == 0 and " " or bars[math.max(1, math.ceil(n / most * #bars))] end
  return table.concat(parts)
end

local Stats = {__name = "stats"}
Stats.__index = Stats

function Stats:__tostring()
  if not self.mean then return ("%d values, none finite"):format(self.count) end
  local text = ("min %.4g, mean %.4g, max %.4g, deviation %.4g"):format(self.min, self.mean, self.max, self.deviation)
  if self.zeros > 0 then text = text .. (", %d zeros"):format(self.zeros) end
  if self.not_finite > 0 then text = text .. (", %d not finite"):format(self.not_finite) end
  return ("%d values: %s%s"):format(self.count, text, self.histogram and "  |" .. bar_text(self.histogram) .. "|" or "")
end

--- t:stats(): count, min, mean, max, deviation, zeros, not_finite and a histogram; prints as one line.
function inspect.stats(t)
  local result = q.no_grad(function()
    return q.scope(function()
      local n = t:numel()
      local x = t:detach():to("f64"):contiguous():view(n)
      local finite = n > 0 and x:isfinite():sum():item() or 0
      local s = {count = n, not_finite = n - finite}
      if finite == 0 then return s end
      local known = q.where(x:isfinite(), x, 0)
      s.mean = known:sum():item() / finite
      s.min = q.where(x:isfinite(), x, math.huge):min():item()
      s.max = q.where(x:isfinite(), x, -math.huge):max():item()
      s.deviation = math.sqrt(q.where(x:isfinite(), (known - s.mean):square(), 0):sum():item() / finite)
      s.zeros = x:eq(0):sum():item()
      if s.max > s.min then s.histogram = histogram(x, s.min, s.max) end
      return s
    end)
  end)
  return setmetatable(result, Stats)
end

local spec = options.spec("t:blocks", {
  {"columns", "integer", default = 64, min = 1, doc = "characters across, at most"},
  {"rows", "integer", default = 24, min = 1, doc = "lines, at most"},
  {"low", "number", doc = "value of the lightest block [smallest]"},
  {"high", "number", doc = "value of the darkest block [largest]"},
})

--- Means of the cells of a grid of rows x columns over a nested list.
local function pooled(values, height, width, rows, columns)
  local cells = {}
  for r = 1, rows do
    cells[r] = {}
    local top, bottom = math.floor((r - 1) * height / rows) + 1, math.floor(r * height / rows)
    for c = 1, columns do
      local left, right = math.floor((c - 1) * width / columns) + 1, math.floor(c * width / columns)
      local sum = 0
      for i = top, bottom do
        for j = left, right do sum = sum + values[i][j] end
      end
      cells[r][c] = sum / ((bottom - top + 1) * (right - left + 1))
    end
  end
  return cells
end

local function range(cells)
  local low, high = math.huge, -math.huge
  for _, row in ipairs(cells) do
    for _, v in ipairs(row) do
      if v == v then low, high = math.min(low, v), math.max(high, v) end
    end
  end
  return low, high
end

--- t:blocks(options): a matrix as text, a shaded block for each cell; large ones are averaged down.
function inspect.blocks(t, given)
  local o = spec(given)
  if t:ndim() == 1 then t = t:view(1, t:numel()) end
  if t:ndim() ~= 2 or t:numel() == 0 then
    options.fail("t:blocks: a matrix is needed, got shape (%s); t:select or t:view gives one", table.concat(t:shape(), ", "))
  end
  local height, width = t:size(1), t:size(2)
  local cells = pooled(t:detach():totable(), height, width, math.min(height, o.rows), math.min(width, o.columns))
  local low, high = range(cells)
  low, high = o.low or low, o.high or high
  local lines = {}
  for r, row in ipairs(cells) do
    local parts = {}
    for c, v in ipairs(row) do
      local level = high > low and (v - low) / (high - low) or 0
      parts[c] = v ~= v and "?" or shades[math.max(1, math.min(#shades, math.floor(level * #shades) + 1))]
    end
    lines[r] = "|" .. table.concat(parts) .. "|"
  end
  lines[#lines + 1] = ("%s = %.4g, %s = %.4g, (%d, %d)"):format(shades[1]:gsub(" ", "' '"), low, shades[#shades], high, height, width)
  return table.concat(lines, "\n")
end

help.add{"t:stats", q.metatable.stats, "t:stats() -> table", "Count, min, mean, max, deviation, zeros, not_finite and histogram; prints as one line.",
  example = "print(q.randn(1000):stats())", see = {"t:blocks"}}
help.add{"t:blocks", q.metatable.blocks, "t:blocks(options) -> text", "A matrix as text, with a shaded block for each cell.", options = spec,
  example = "print(q.randn(16, 64):blocks{rows = 8})", see = {"t:stats"}}

return inspect

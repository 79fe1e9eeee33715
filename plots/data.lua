--- What layers are given, made uniform: lists, tensors, runs of seeds, columns of a table; and small statistics.

local options = require "quench.options"

local data = {}
local NaN = 0 / 0

function data.is_tensor(v)
  local mt = getmetatable(v)
  return type(v) ~= "string" and type(mt) == "table" and mt.__name == "tensor"
end

--- A plain Lua list of v, which may be a tensor.
local function plain(v, where)
  if data.is_tensor(v) then
    local t = v:totable()
    return type(t) == "table" and t or {t}
  end
  if type(v) ~= "table" then options.fail("%s must be a list or a tensor, got %s", where, type(v)) end
  return v
end
data.plain = plain

--- A list of numbers; nil, false and anything not finite become NaN, which breaks lines.
function data.numbers(v, where)
  local out = {}
  for i, x in ipairs(plain(v, where)) do
    if type(x) == "number" then out[i] = (x - x == 0) and x or NaN
    elseif x == false then out[i] = NaN
    else options.fail("%s: item %d must be a number, got %s", where, i, type(x) == "string" and ("%q"):format(x) or "a " .. type(x)) end
  end
  return out
end

--- True if v is a list of lists (or a 2-D tensor): several runs over the same x.
function data.is_runs(v)
  if data.is_tensor(v) then return #v:shape() == 2 end
  return type(v) == "table" and (type(v[1]) == "table" or data.is_tensor(v[1]))
end

--- A list of runs of equal length.
function data.runs(v, where)
  local out = {}
  for i, run in ipairs(plain(v, where)) do
    out[i] = data.numbers(run, ("%s[%d]"):format(where, i))
    if #out[i] ~= #out[1] then options.fail("%s: run %d has %d points, run 1 has %d", where, i, #out[i], #out[1]) end
  end
  return out
end

-- --- statistics ---

function data.sorted(list)
  local out = {}
  for _, x in ipairs(list) do
    if x == x then out[#out + 1] = x end
  end
  table.sort(out)
  return out
end

--- Quantile p of a sorted list, linear between order statistics (type 7 of Hyndman and Fan, 1996).
function data.quantile(sorted, p)
  local n = #sorted
  if n == 0 then return NaN end
  local at = 1 + (n - 1) * p
  local i = math.floor(at)
  if i >= n then return sorted[n] end
  return sorted[i] + (at - i) * (sorted[i + 1] - sorted[i])
end

--- Mean and sample deviation (n - 1) of the numbers that are not NaN, and their count.
function data.moments(list)
  local n, mean, squares = 0, 0, 0
  for _, x in ipairs(list) do
    if x == x then
      n = n + 1
      local d = x - mean
      mean = mean + d / n
      squares = squares + d * (x - mean)
    end
  end
  if n == 0 then return NaN, NaN, 0 end
  return mean, n > 1 and math.sqrt(squares / (n - 1)) or 0, n
end

--- Centre, lower and upper line of runs: spread is "std", "sem", "quantiles" (median, 16 % to 84 %) or "range".
function data.summary(runs, spread)
  local centre, low, high = {}, {}, {}
  for i = 1, #(runs[1] or {}) do
    local column = {}
    for r, run in ipairs(runs) do column[r] = run[i] end
    local mean, deviation, n = data.moments(column)
    if spread == "quantiles" or spread == "range" then
      local s = data.sorted(column)
      local p = spread == "range" and 0 or 0.16
      centre[i] = spread == "range" and mean or data.quantile(s, 0.5)
      low[i], high[i] = data.quantile(s, p), data.quantile(s, 1 - p)
    else
      local d = spread == "sem" and deviation / math.sqrt(n) or deviation
      centre[i], low[i], high[i] = mean, mean - d, mean + d
    end
  end
  return centre, low, high
end

--- Smallest and largest number of a list that pass the test, or nil.
function data.range(list, valid)
  local low, high
  for i = 1, #list do
    local x = list[i]
    if x == x and (not valid or valid(x)) then
      if not low or x < low then low = x end
      if not high or x > high then high = x end
    end
  end
  return low, high
end

-- --- tables of columns or rows ---

--- The column `name` of t, a table of columns ({x = {...}}) or a list of rows ({{x = 1}, ...}).
function data.column(t, name, where)
  if t[name] ~= nil then return t[name] end
  local rows = t[1]
  if type(rows) == "table" then
    local out, found = {}, false
    for i, row in ipairs(t) do
      found = found or row[name] ~= nil
      out[i] = row[name] == nil and NaN or row[name]
    end
    if found then return out end
  end
  local known = {}
  for key in pairs(type(rows) == "table" and rows or t) do known[#known + 1] = tostring(key) end
  table.sort(known)
  options.fail("%s: data has no column '%s'%s; columns: %s", where, tostring(name), options.suggest(name, known), table.concat(known, ", "))
end

--- The values of a list in order of first appearance.
function data.distinct(list)
  local seen, out = {}, {}
  for _, v in ipairs(list) do
    if not seen[v] then
      seen[v] = true
      out[#out + 1] = v
    end
  end
  return out
end

return data

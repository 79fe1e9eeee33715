--- correlation.lua - correlations with intervals, for the handfuls of points that such studies have.

local q = require "quench"
local options = require "quench.options"
local compiled = require "quench.compiled"

local M = {}

M.spec = options.spec("q.metrics.correlation", {
  {"method", "string", default = "pearson", choices = {"pearson", "spearman"}, doc = "of the values, or of their ranks"},
  {"level", "number", default = 0.95, above = 0, below = 1, doc = "of the interval"},
  {"permutations", "integer", default = 20000, min = 100, doc = "for the p value where there are more than 8 points; else all orders are tried"},
  {"seed", "integer", default = 0, doc = "of the permutations"},
})

local EXACT = 8 -- points up to which all orders are tried: 40,320

local function check(what, x, y)
  local function list(v, name)
    if type(v) == "userdata" then v = v:totable() end
    if type(v) ~= "table" then options.fail("%s: %s must be a list of numbers, got a %s", what, name, type(v)) end
    for i, n in ipairs(v) do
      if type(n) ~= "number" or n ~= n or math.abs(n) == math.huge then options.fail("%s: %s[%d] is %s", what, name, i, tostring(n)) end
    end
    return v
  end
  x, y = list(x, "x"), list(y, "y")
  if #x ~= #y then options.fail("%s: %d and %d values", what, #x, #y) end
  if #x < 3 then options.fail("%s: needs at least 3 points, got %d", what, #x) end
  return x, y
end

--- Ranks from 1; equal values share the mean of theirs.
local function ranks(x)
  local order, out = {}, {}
  for i = 1, #x do order[i] = i end
  table.sort(order, function(a, b)
    if x[a] ~= x[b] then return x[a] < x[b] end
    return a < b
  end)
  local from = 1
  while from <= #x do
    local to = from
    while to < #x and x[order[to + 1]] == x[order[from]] do to = to + 1 end
    for k = from, to do out[order[k]] = (from + to) / 2 end
    from = to + 1
  end
  return out
end

--- Minus the mean, over the length.
local function standard(what, x)
  local mean, size, out = 0, 0, {}
  for _, v in ipairs(x) do mean = mean + v / #x end
  for i, v in ipairs(x) do
    out[i] = v - mean
    size = size + out[i] ^ 2
  end
  if not (size > 0) then options.fail("%s: all values are equal", what) end
  for i = 1, #x do out[i] = out[i] / math.sqrt(size) end
  return out
end

local function dot(a, b)
  local s = 0
  for i = 1, #a do s = s + a[i] * b[i] end
  return s
end

--- The share of orders of y whose correlation with x is at least as far from 0 as r.
local function permutation_p(x, y, r, o)
  local n, hits, total = #x, 0, 0
  local z = {unpack(y)}
  local bound = math.abs(r) - 1e-12
  local function count()
    total = total + 1
    if math.abs(dot(x, z)) >= bound then hits = hits + 1 end
  end
  if n <= EXACT then
    local function all(k)
      if k == 1 then return count() end
      for i = 1, k do -- Heap's algorithm: one swap an order
        all(k - 1)
        local j = k % 2 == 0 and i or 1
        z[j], z[k] = z[k], z[j]
      end
    end
    all(n)
    return hits / total
  end
  local stream = q.stream(o.seed, "metrics/permutation")
  for _ = 1, o.permutations do
    for i = n, 2, -1 do
      local j = 1 + stream:below(i)
      z[i], z[j] = z[j], z[i]
    end
    count()
  end
  return (hits + 1) / (total + 1)
end

--- The z with a share `level` of the normal distribution between -z and z.
local function normal_quantile(level)
  local erf = require("quench.fit.robust").erf
  local low, high = 0, 8
  for _ = 1, 60 do
    local z = (low + high) / 2
    if erf(z / math.sqrt(2)) < level then low = z else high = z end
  end
  return low
end

--- q.metrics.correlation
function M.correlation(x, y, o)
  o = M.spec(o)
  local what = M.spec.name
  x, y = check(what, x, y)
  if o.method == "spearman" then x, y = ranks(x), ranks(y) end
  x, y = standard(what, x), standard(what, y)
  local n = #x
  local r = math.max(-1, math.min(1, dot(x, y)))
  local out = {name = o.method, value = r, n = n, level = o.level}
  if n > 3 then -- Fisher's z; for ranks its variance is 1.06/(n - 3) (Fieller, Hartley and Pearson 1957)
    local half = normal_quantile(o.level) * math.sqrt((o.method == "spearman" and 1.06 or 1) / (n - 3))
    local z = math.abs(r) < 1 and 0.5 * math.log((1 + r) / (1 - r)) or r * math.huge
    local function back(v) return v == math.huge and 1 or v == -math.huge and -1 or (math.exp(2 * v) - 1) / (math.exp(2 * v) + 1) end
    out.low, out.high = back(z - half), back(z + half)
  end
  compiled(function() out.p = permutation_p(x, y, r, o) end)
  return setmetatable(out, {__tostring = function(c)
    return ("%s %+.3f [%s, %s], p %.3g, %d points"):format(c.name, c.value, c.low and ("%+.3f"):format(c.low) or "?",
      c.high and ("%+.3f"):format(c.high) or "?", c.p, c.n)
  end})
end

return M

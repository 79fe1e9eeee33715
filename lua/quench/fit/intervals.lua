--- intervals.lua - how well fitted parameters are known: bootstrap, leave one out, profiles, and their correlations.

local q = require "quench"
local lbfgs = require "quench.fit.lbfgs"
local robust = require "quench.fit.robust"

local intervals = {}

--- The 100 p % point of a sorted list, interpolated.
local function quantile(sorted, p)
  local at = 1 + (#sorted - 1) * p
  local low = math.floor(at)
  local high = math.min(low + 1, #sorted)
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low)
end

local function deviation(values)
  local mean, spread = 0, 0
  for _, v in ipairs(values) do mean = mean + v / #values end
  for _, v in ipairs(values) do spread = spread + (v - mean) ^ 2 end
  return #values > 1 and math.sqrt(spread / (#values - 1)) or nil
end

--- The fit to the points `index`, from theta.
local function refit(law, delta, index, theta)
  return (lbfgs.minimise(robust.objective(law, delta, index), theta, {rounds = 300}))
end

local function collect(names, all)
  local out = {}
  for _, name in ipairs(names) do
    out[name] = {}
    for i, p in ipairs(all) do out[name][i] = p[name] end
  end
  return out
end

--- Percentile intervals and standard errors from fits to points drawn with replacement.
function intervals.bootstrap(law, delta, theta, o)
  local stream, all = q.stream(o.seed, "fit/bootstrap"), {}
  for k = 1, o.bootstrap do
    local index = {}
    for i = 1, law.n do index[i] = 1 + stream:below(law.n) end
    all[k] = law.natural(refit(law, delta, index, theta))
  end
  local tail = (1 - o.level) / 2
  local out = {samples = all}
  for name, values in pairs(collect(law.names, all)) do
    table.sort(values)
    out[name] = {low = quantile(values, tail), high = quantile(values, 1 - tail), error = deviation(values)}
  end
  return out
end

--- The fits without each point: their range, the jackknife's standard error, and the point that moves the parameter most.
function intervals.leave_one_out(law, delta, theta)
  local all = {}
  for skip = 1, law.n do
    local index = {}
    for i = 1, law.n do
      if i ~= skip then index[#index + 1] = i end
    end
    all[skip] = law.natural(refit(law, delta, index, theta))
  end
  local best, out = law.natural(theta), {fits = all}
  for name, values in pairs(collect(law.names, all)) do
    local low, high, most, where = math.huge, -math.huge, -1, nil
    for i, v in ipairs(values) do
      low, high = math.min(low, v), math.max(high, v)
      if math.abs(v - best[name]) > most then most, where = math.abs(v - best[name]), i end
    end
    out[name] = {low = low, high = high, error = deviation(values) * (law.n - 1) / math.sqrt(law.n), point = where}
  end
  return out
end

-- ---- profiles -----------------------------------------------------------------------------

local REACH = 50 -- how far a profile is followed, in logs

--- The quantile of chi-square with one degree of freedom, by bisection.
local function chi_square(level)
  local low, high = 0, 8
  for _ = 1, 60 do
    local z = (low + high) / 2
    if robust.erf(z / math.sqrt(2)) < level then low = z else high = z end
  end
  return low * low
end

--- theta[k] plus what mixes into it: what the k-th named parameter is a function of.
local function combined(law, theta, k)
  local sum = theta[k]
  for j, c in pairs(law.mix[k] or {}) do sum = sum + c * theta[j] end
  return sum
end

--- The best objective, and its theta, where combined(theta, k) = at; the search begins at `start`.
local function held(law, f, k, at, start)
  local full, g, free, mix = {}, {}, {}, law.mix[k] or {}
  for i = 1, law.dimension do
    if i ~= k then free[#free + 1] = i end
  end
  local function fill(y)
    full[k] = at
    for j, i in ipairs(free) do
      full[i] = y[j]
      full[k] = full[k] - (mix[i] or 0) * y[j]
    end
  end
  local function reduced(y, gy)
    fill(y)
    local value = f(full, g)
    for j, i in ipairs(free) do gy[j] = g[i] - (mix[i] or 0) * g[k] end
    return value
  end
  local y = {}
  for j, i in ipairs(free) do y[j] = start[i] end
  local best, value = lbfgs.minimise(reduced, y, {rounds = 300})
  fill(best)
  return value, full
end

--- The theta where the deviance of the k-th parameter has risen by `rise`, to one side; nil if it never does within reach.
local function edge(law, f, delta, theta, k, sign, rise)
  local floor = robust.deviance(f(theta, {}), law.n, delta)
  local center = combined(law, theta, k)
  local start, inside, outside = theta, 0, 1e-3 * math.max(1, math.abs(center))
  local function beyond(distance)
    local value, at = held(law, f, k, center + sign * distance, start)
    local over = robust.deviance(value, law.n, delta) - floor >= rise
    if not over then start = at end
    return over, at
  end
  while not beyond(outside) do
    inside, outside = outside, 2 * outside
    if outside > REACH then return nil end
  end
  for _ = 1, 40 do
    local middle = (inside + outside) / 2
    if beyond(middle) then outside = middle else inside = middle end
    if outside - inside < 1e-6 * outside then break end
  end
  return select(2, beyond(outside))
end

--- Profile-likelihood intervals (Huber's density, free scale): low or high is nil where the data set no bound.
function intervals.profile(law, delta, theta, level)
  local f, out, rise = robust.objective(law, delta), {}, chi_square(level)
  for k, name in ipairs(law.names) do
    local best = law.natural(theta)[name]
    out[name] = {}
    for _, sign in ipairs{-1, 1} do
      local at = edge(law, f, delta, theta, k, sign, rise)
      local value = at and law.natural(at)[name]
      if value and value < best then out[name].low = value elseif value then out[name].high = value end
    end
  end
  return out
end

-- ---- identifiability ------------------------------------------------------------------------

--- Correlations of the inner parameters from J^T J, and its condition number: large means that the data do not
-- tell some combination of parameters.
function intervals.identifiability(law, theta)
  return q.scope(function()
    local p, d = law.dimension, {}
    local gram = {}
    for i = 1, p do gram[i] = {} for j = 1, p do gram[i][j] = 0 end end
    for point = 1, law.n do
      law.value(theta, point, d)
      for i = 1, p do
        for j = 1, p do gram[i][j] = gram[i][j] + d[i] * d[j] end
      end
    end
    local scaled = {}
    for i = 1, p do
      scaled[i] = {}
      for j = 1, p do
        local size = math.sqrt(gram[i][i] * gram[j][j])
        scaled[i][j] = size > 0 and gram[i][j] / size or i == j and 1 or 0
      end
    end
    local values = q.linalg.eigh(q.tensor(scaled, "f64")):totable()
    local condition = values[1] > 0 and values[p] / values[1] or math.huge
    if condition > 1e14 then return {condition = condition} end
    local inverse, correlations = q.linalg.inv(q.tensor(scaled, "f64")):totable(), {}
    for i = 1, p do
      correlations[law.names[i]] = {}
      for j = 1, p do correlations[law.names[i]][law.names[j]] = inverse[i][j] / math.sqrt(inverse[i][i] * inverse[j][j]) end
    end
    return {condition = condition, correlations = correlations}
  end)
end

return intervals

--- robust.lua - sums of Huber's function of residuals, and the likelihood behind them.
--
-- rho(r) = r^2/2 for |r| <= delta, else delta (|r| - delta/2). A law is fitted by minimising the sum
-- over points of rho(log measured - log predicted): quadratic for small errors, linear for odd points.
-- As a density, exp(-rho(r)/s)/Z(s), it gives the deviance that profile intervals need.

local robust = {}

--- The objective of a law on the points `index` (a list of numbers of points, repeats allowed; nil: all) for lbfgs:
-- f(theta, g). law.value(theta, i, d) -> log prediction of point i, with derivatives in the list d.
function robust.objective(law, delta, index)
  local n, p, target, value, d = index and #index or law.n, law.dimension, law.target, law.value, {}
  return function(theta, g)
    local sum = 0
    for k = 1, p do g[k] = 0 end
    for j = 1, n do
      local i = index and index[j] or j
      local r = value(theta, i, d) - target[i]
      local slope = r
      if r > delta then
        sum, slope = sum + delta * (r - 0.5 * delta), delta
      elseif r < -delta then
        sum, slope = sum + delta * (-r - 0.5 * delta), -delta
      else
        sum = sum + 0.5 * r * r
      end
      for k = 1, p do g[k] = g[k] + slope * d[k] end
    end
    if sum ~= sum then return math.huge end
    return sum
  end
end

--- The error function, to about 1e-15 (series below 3, else continued fraction; Abramowitz and Stegun 7.1.5, 7.1.14).
local function erf(x)
  if x > 6 then return 1 end
  if x < 3 then
    local term, sum, k = x, x, 0
    repeat
      k = k + 1
      term = -term * x * x / k
      sum = sum + term / (2 * k + 1)
    until math.abs(term) < 1e-17
    return sum * 2 / math.sqrt(math.pi)
  end
  local f = x
  for k = 60, 1, -1 do f = x + 0.5 * k / f end
  return 1 - math.exp(-x * x) / (f * math.sqrt(math.pi))
end
robust.erf = erf

--- Log of Z(s), the integral of exp(-rho(r)/s).
local function log_normaliser(s, delta)
  if delta == math.huge then return 0.5 * math.log(2 * math.pi * s) end
  return math.log(math.sqrt(2 * math.pi * s) * erf(delta / math.sqrt(2 * s)) + 2 * s / delta * math.exp(-delta * delta / (2 * s)))
end

--- Twice the negative log likelihood of n points whose sum of rho is F, at the best scale s.
function robust.deviance(F, n, delta)
  local function at(u) return F / math.exp(u) + n * log_normaliser(math.exp(u), delta) end
  local center = math.log(math.max(F / n, 1e-300))
  local a, b = center - 6, center + 6
  local golden = (math.sqrt(5) - 1) / 2
  local x, y = b - golden * (b - a), a + golden * (b - a)
  local fx, fy = at(x), at(y)
  for _ = 1, 80 do
    if fx < fy then b, y, fy = y, x, fx x = b - golden * (b - a) fx = at(x)
    else a, x, fx = x, y, fy y = a + golden * (b - a) fy = at(y) end
  end
  return 2 * math.min(fx, fy)
end

return robust

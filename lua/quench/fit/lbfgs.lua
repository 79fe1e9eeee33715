--- lbfgs.lua - minimises a smooth function of a few numbers from exact gradients.
--
-- Limited-memory BFGS (Nocedal 1980): the direction comes from the last pairs of steps and gradient
-- changes by the two-loop recursion; the line search brackets and zooms by cubic interpolation
-- until the strong Wolfe conditions hold (Nocedal and Wright 2006, algorithms 3.5 and 3.6).
-- Vectors are plain lists of numbers: this is for tens of parameters, not for networks.

local system = require "quench.c.system"

local lbfgs = {}

local MEMORY = 10              -- pairs kept
local ARMIJO, WOLFE = 1e-4, 0.9

local function dot(a, b)
  local s = 0
  for i = 1, #a do s = s + a[i] * b[i] end
  return s
end

--- y <- -(inverse Hessian estimate) g
local function direction(pairs_, g)
  local y, alpha = {}, {}
  for i = 1, #g do y[i] = -g[i] end
  for k = #pairs_, 1, -1 do
    local p = pairs_[k]
    alpha[k] = dot(p.s, y) / p.sy
    for i = 1, #y do y[i] = y[i] - alpha[k] * p.y[i] end
  end
  local last = pairs_[#pairs_]
  if last then
    local scale = last.sy / dot(last.y, last.y)
    for i = 1, #y do y[i] = y[i] * scale end
  end
  for k = 1, #pairs_ do
    local p = pairs_[k]
    local beta = dot(p.y, y) / p.sy
    for i = 1, #y do y[i] = y[i] + (alpha[k] - beta) * p.s[i] end
  end
  return y
end

--- The minimum of the cubic through two points with slopes; their middle where that is no good.
local function cubic(a, fa, ga, b, fb, gb)
  local d = ga + gb - 3 * (fa - fb) / (a - b)
  local root = d * d - ga * gb
  local middle = 0.5 * (a + b)
  if not (root > 0) then return middle end
  root = math.sqrt(root) * (b > a and 1 or -1)
  local x = b - (b - a) * (gb + root - d) / (gb - ga + 2 * root)
  local low, high = math.min(a, b), math.max(a, b)
  local edge = 0.1 * (high - low)
  if not (x > low + edge and x < high - edge) then return middle end
  return x
end

--- A step t along p that satisfies the strong Wolfe conditions, or the best one found. at(t) -> f, slope.
local function search(at, f0, slope0, t)
  local last_t, last_f, last_slope = 0, f0, slope0
  local function zoom(a, fa, ga, b, fb, gb)
    for _ = 1, 30 do
      local x = cubic(a, fa, ga, b, fb, gb)
      local f, slope = at(x)
      if not (f <= f0 + ARMIJO * x * slope0) or f >= fa then b, fb, gb = x, f, slope
      else
        if math.abs(slope) <= -WOLFE * slope0 then return x end
        if slope * (b - a) >= 0 then b, fb, gb = a, fa, ga end
        a, fa, ga = x, f, slope
      end
      if math.abs(b - a) < 1e-14 * math.max(1, math.abs(a)) then break end
    end
    return a
  end
  for round = 1, 30 do
    local f, slope = at(t)
    if not (f <= f0 + ARMIJO * t * slope0) or (round > 1 and f >= last_f) then return zoom(last_t, last_f, last_slope, t, f, slope) end
    if math.abs(slope) <= -WOLFE * slope0 then return t end
    if slope >= 0 then return zoom(t, f, slope, last_t, last_f, last_slope) end
    last_t, last_f, last_slope, t = t, f, slope, 2 * t
  end
  return last_t
end

local function largest(g)
  local m = 0
  for i = 1, #g do m = math.max(m, math.abs(g[i])) end
  return m
end

--- Minimises f from x (a list). f(x, g) returns the value and fills the list g with the gradient.
-- Returns x, value, iterations. It ends when no step lowers f, the gradient is below `tolerance`, or after `rounds`.
function lbfgs.minimise(f, x, options)
  options = options or {}
  local rounds, tolerance = options.rounds or 500, options.tolerance or 0
  local n, g, trial, trial_g, history = #x, {}, {}, {}, {}
  x = {unpack(x)}
  local value = f(x, g)
  local round = 0
  while round < rounds and largest(g) > tolerance do
    round = round + 1
    system.check_interrupt()
    local p = direction(history, g)
    local slope = dot(p, g)
    if not (slope < 0) then -- the memory is no good: steepest descent
      history, p = {}, {}
      for i = 1, n do p[i] = -g[i] end
      slope = dot(p, g)
    end
    local new_value
    local function at(t)
      for i = 1, n do trial[i] = x[i] + t * p[i] end
      new_value = f(trial, trial_g)
      return new_value, dot(trial_g, p)
    end
    local t = search(at, value, slope, #history == 0 and math.min(1, 1 / math.sqrt(dot(p, p))) or 1)
    at(t)
    if not (t > 0 and new_value < value) then
      if #history == 0 then break end
      history = {}
    else
      local s, y = {}, {}
      for i = 1, n do s[i], y[i] = trial[i] - x[i], trial_g[i] - g[i] end
      local sy = dot(s, y)
      if sy > 1e-300 then
        history[#history + 1] = {s = s, y = y, sy = sy}
        if #history > MEMORY then table.remove(history, 1) end
      end
      x, trial, g, trial_g, value = trial, x, trial_g, g, new_value
    end
  end
  return x, value, round
end

return lbfgs

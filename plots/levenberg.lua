--- Curves through points: a formula as text, fitted by Levenberg and Marquardt's method (Marquardt, 1963).
--
--   local fit = levenberg.fit("a*x^-b+c", xs, ys)
--   fit.value.b, fit.error.b        -- estimate and standard error
--   fit.at(10)                      -- the curve, and the half-width of its 95 % interval

local options = require "quench.options"

local levenberg = {}

local functions = {exp = math.exp, log = math.log, log10 = math.log10, sqrt = math.sqrt, sin = math.sin, cos = math.cos, tanh = math.tanh,
  abs = math.abs, min = math.min, max = math.max, pi = math.pi}
local function_names = {"abs", "cos", "exp", "log", "log10", "max", "min", "pi", "sin", "sqrt", "tanh"}

--- Names of parameters in order of appearance, and a function (x, values) -> y.
function levenberg.compile(formula, where)
  if formula:find("[^%w%s_%.%+%-%*/%^%(%),]") then
    options.fail("%s: a formula has numbers, names, + - * / ^ and parentheses; got %q", where, formula)
  end
  local names, seen = {}, {x = true}
  local body = formula:gsub("%f[%w_]([%a_][%w_]*)", function(name)
    if not seen[name] and functions[name] == nil then
      seen[name] = true
      names[#names + 1] = name
    end
    return name
  end)
  if not formula:find("%f[%w_]x%f[^%w_]") then options.fail("%s: the formula %q has no x", where, formula) end
  local arguments = #names > 0 and table.concat(names, ", ") or "_"
  local chunk = loadstring(("return function(x, %s) return %s end"):format(arguments, body), "=formula")
  if not chunk then options.fail("%s: %q is not a formula", where, formula) end
  setfenv(chunk, functions)
  local f = chunk()
  local ones = {}
  for i = 1, #names do ones[i] = 1 end
  local ok = pcall(f, 1, unpack(ones))
  if not ok then options.fail("%s: %q can't be computed; functions: %s", where, formula, table.concat(function_names, ", ")) end
  return names, f
end

--- Solves the symmetric system A x = b by Cholesky; nil if A is not positive definite.
local function solve(A, b)
  local n, L = #b, {}
  for i = 1, n do
    L[i] = {}
    for j = 1, i do
      local s = A[i][j]
      for k = 1, j - 1 do s = s - L[i][k] * L[j][k] end
      if i == j then
        if not (s > 0) then return nil end -- luacheck: ignore 581
        L[i][i] = math.sqrt(s)
      else L[i][j] = s / L[j][j] end
    end
  end
  local y, x = {}, {}
  for i = 1, n do
    local s = b[i]
    for k = 1, i - 1 do s = s - L[i][k] * y[k] end
    y[i] = s / L[i][i]
  end
  for i = n, 1, -1 do
    local s = y[i]
    for k = i + 1, n do s = s - L[k][i] * x[k] end
    x[i] = s / L[i][i]
  end
  return x
end

local function finite(v) return v == v and v ~= math.huge and v ~= -math.huge end

--- Residuals of the model, and the sum of their squares; nil where the model has no value.
local function residuals(problem, p)
  local out, sum = {}, 0
  for i, x in ipairs(problem.xs) do
    local v = problem.f(x, unpack(p))
    if problem.log then v = v > 0 and math.log(v) or 0 / 0 end
    local r = v - problem.goal[i]
    if not finite(r) then return nil, math.huge end
    out[i] = r
    sum = sum + r * r
  end
  return out, sum
end

--- Derivatives of the residuals by the parameters, from central differences.
local function jacobian(problem, p)
  local J = {}
  for k = 1, #p do
    local h = 1e-6 * math.max(math.abs(p[k]), 1e-4)
    local kept = p[k]
    p[k] = kept + h
    local up = residuals(problem, p)
    p[k] = kept - h
    local down = residuals(problem, p)
    p[k] = kept
    if not up or not down then return nil end
    J[k] = {}
    for i = 1, #up do J[k][i] = (up[i] - down[i]) / (2 * h) end
  end
  return J
end

local function products(J, r)
  local n, A, g = #J, {}, {}
  for a = 1, n do
    A[a], g[a] = {}, 0
    for i = 1, #r do g[a] = g[a] + J[a][i] * r[i] end
    for b = 1, n do
      local s = 0
      for i = 1, #r do s = s + J[a][i] * J[b][i] end
      A[a][b] = s
    end
  end
  return A, g
end

--- Walks downhill from p; returns the parameters and the sum of squares where it came to rest.
local function descend(problem, p)
  local r, sum = residuals(problem, p)
  if not r then return p, math.huge end
  local damping = 1e-3
  for _ = 1, 200 do
    local J = jacobian(problem, p)
    if not J then break end
    local A, g = products(J, r)
    local better = false
    for _ = 1, 12 do
      local damped, minus = {}, {}
      for a = 1, #p do
        damped[a], minus[a] = {}, -g[a]
        for b = 1, #p do damped[a][b] = A[a][b] + (a == b and damping * math.max(A[a][a], 1e-12) or 0) end
      end
      local step = solve(damped, minus)
      local q = {}
      for k = 1, #p do q[k] = p[k] + (step and step[k] or 0) end
      local next_r, next_sum = residuals(problem, q)
      if step and next_sum < sum then
        local gain = (sum - next_sum) / sum
        p, r, sum, damping, better = q, next_r, next_sum, math.max(damping / 5, 1e-12), true
        if gain < 1e-13 then return p, sum end
        break
      end
      damping = damping * 4
    end
    if not better or sum == 0 then break end
  end
  return p, sum
end

--- Starting points: what the user gave, and for the rest a small net of sizes; the best few of the net are followed.
local function starts(names, given, xs, ys)
  local scale = 0
  for _, y in ipairs(ys) do scale = math.max(scale, math.abs(y)) end
  local reach = 0
  for _, x in ipairs(xs) do reach = math.max(reach, math.abs(x)) end
  local sizes = {1, 0.3, 0.1, -0.3, -1, 0, scale, scale / 2, 10 * scale, scale * math.sqrt(reach), 1 / math.max(reach, 1e-30), reach}
  local out = {{}}
  for _, name in ipairs(names) do
    local longer = {}
    for _, p in ipairs(out) do
      for _, v in ipairs(given and given[name] and {given[name]} or sizes) do
        local q = {unpack(p)}
        q[#q + 1] = v
        longer[#longer + 1] = q
      end
    end
    out = longer
    if #out > 20000 then -- many parameters: keep every n-th, evenly
      local thin = {}
      for i = 1, #out, math.ceil(#out / 2000) do thin[#thin + 1] = out[i] end
      out = thin
    end
  end
  return out
end

--- Student's t: the 97.5 % quantile for n degrees of freedom (Hill, 1970, as an expansion about the normal quantile).
function levenberg.student(n)
  if n < 1 then return 0 / 0 end
  local table_of_few = {12.7062, 4.3027, 3.1824, 2.7764}
  if table_of_few[n] then return table_of_few[n] end
  local z = 1.959963985
  local z2 = z * z
  return z + z * (z2 + 1) / (4 * n) + z * (5 * z2 * z2 + 16 * z2 + 3) / (96 * n * n)
    + z * (3 * z2 ^ 3 + 19 * z2 * z2 + 17 * z2 - 15) / (384 * n ^ 3)
end

--- The inverse of a symmetric positive definite matrix, or nil.
local function inverse(A)
  local columns = {}
  for k = 1, #A do
    local e = {}
    for i = 1, #A do e[i] = i == k and 1 or 0 end
    columns[k] = solve(A, e)
    if not columns[k] then return nil end
  end
  return columns
end

--- The points that can be compared, and a check that they suffice.
local function problem_of(f, names, xs, ys, log, where)
  local problem, used = {f = f, xs = {}, goal = {}, log = log}, {}
  for i, x in ipairs(xs) do
    local y = ys[i]
    if x == x and y == y and (not log or y > 0) then
      table.insert(problem.xs, x)
      table.insert(problem.goal, log and math.log(y) or y)
      used[#used + 1] = y
    end
  end
  if #used < #names then options.fail("%s: %d parameters need as many points at least, got %d", where, #names, #used) end
  return problem, used
end

local function check_start(start, names, where)
  for name in pairs(start or {}) do
    local known = false
    for _, n in ipairs(names) do known = known or n == name end
    if not known then
      options.fail("%s: start has '%s', but the formula's parameters are %s%s", where, name, table.concat(names, ", "),
        options.suggest(name, names))
    end
  end
end

--- The best of the descents from the most promising starts: parameters, sum of squares.
local function search(problem, candidates)
  local ranked = {}
  for _, p in ipairs(candidates) do
    local _, sum = residuals(problem, p)
    if sum < math.huge then ranked[#ranked + 1] = {p = p, sum = sum} end
  end
  table.sort(ranked, function(a, b) return a.sum < b.sum end)
  local best, least
  for i = 1, math.min(12, #ranked) do
    local p, sum = descend(problem, {unpack(ranked[i].p)})
    if not least or sum < least then best, least = p, sum end
  end
  return best, least
end

--- Half-width of the curve's interval at x: t sqrt(g' C g), g the derivatives of f by the parameters, C their covariance.
local function half_width(f, p, x, covariance, t)
  local g, sum = {}, 0
  for k = 1, #p do
    local h, q = 1e-6 * math.max(math.abs(p[k]), 1e-4), {unpack(p)}
    q[k] = p[k] + h
    local up = f(x, unpack(q))
    q[k] = p[k] - h
    g[k] = (up - f(x, unpack(q))) / (2 * h)
  end
  for a = 1, #p do
    for b = 1, #p do sum = sum + g[a] * covariance[a][b] * g[b] end
  end
  return t * math.sqrt(math.max(0, sum))
end

--- Fits formula to the points. o: start = {name = value}, log = true compares logarithms (relative errors), where = for messages.
-- Returns {names, value, error, rms, freedom, at = function(x) -> y, half-width of the 95 % interval of the curve}.
function levenberg.fit(formula, xs, ys, o)
  o = o or {}
  local where = o.where or "fit"
  local names, f = levenberg.compile(formula, where)
  local problem, used = problem_of(f, names, xs, ys, o.log, where)
  check_start(o.start, names, where)
  local best, least = search(problem, starts(names, o.start, problem.xs, used))
  if not best then options.fail("%s: the formula %q has no value at the data for any start; give start={...}", where, formula) end
  local freedom = #used - #names
  local J = jacobian(problem, best)
  local covariance = freedom > 0 and J and inverse((products(J, residuals(problem, best))))
  local fit = {names = names, value = {}, error = {}, rms = math.sqrt(least / #used), freedom = freedom}
  for a = 1, covariance and #names or 0 do
    for b = 1, #names do covariance[a][b] = covariance[a][b] * least / freedom end
  end
  for k, name in ipairs(names) do
    fit.value[name] = best[k]
    fit.error[name] = covariance and math.sqrt(covariance[k][k]) or 0 / 0
  end
  local t = levenberg.student(freedom)
  function fit.at(x) return f(x, unpack(best)), covariance and half_width(f, best, x, covariance, t) or 0 / 0 end
  return fit
end

return levenberg

--- laws.lua - scaling laws as functions that can be fitted.
--
-- A law, given the points, says: names, target (logs of what was measured), value(theta, i, d) (log of
-- the prediction for point i and its derivatives), natural(theta) (named parameters), starts (a list of
-- thetas), predict(named, point). Inside, logs of N and D are centred on their means: a and alpha are
-- then nearly independent, where they are nearly degenerate otherwise. What a named parameter is a
-- function of is theta[k] + sum of mix[k][j] theta[j]: A of theta[1] + mean(log N) theta[2].

local options = require "quench.options"

local laws = {}

-- ---- points -------------------------------------------------------------------------

--- The logs of a field of all points; it must be there and positive.
local function logs(what, points, field)
  local out = {}
  for i, p in ipairs(points) do
    local v = p[field]
    if type(v) ~= "number" or not (v > 0) or v == math.huge then
      options.fail("%s: point %d needs a positive %s, got %s", what, i, field, tostring(v))
    end
    out[i] = math.log(v)
  end
  return out
end

local function mean(list)
  local s = 0
  for _, v in ipairs(list) do s = s + v / #list end
  return s
end

local function centred(list)
  local m, out = mean(list), {}
  for i, v in ipairs(list) do out[i] = v - m end
  return out, m
end

local function check_count(what, points, least)
  if type(points) ~= "table" or #points < least then
    options.fail("%s: needs a list of at least %d points, got %s", what, least, type(points) == "table" and #points or type(points))
  end
end

--- All combinations of the lists, each given to make.
local function product(lists, make)
  local out = {}
  local function go(k, chosen)
    if k > #lists then out[#out + 1] = make(unpack(chosen)) return end
    for _, v in ipairs(lists[k]) do
      chosen[k] = v
      go(k + 1, chosen)
    end
  end
  go(1, {})
  return out
end

-- ---- Chinchilla: L = A/N^alpha + B/D^beta + E -----------------------------------------

--- theta = (a, alpha, b, beta, e): A = exp(a + alpha mean log N), and so on.
function laws.chinchilla(what, points, o)
  check_count(what, points, 6)
  local x, mx = centred(logs(what, points, "N"))
  local z, mz = centred(logs(what, points, "D"))
  local law = {names = {"A", "alpha", "B", "beta", "E"}, dimension = 5, n = #points, target = logs(what, points, "L"),
    mix = {[1] = {[2] = mx}, [3] = {[4] = mz}}}
  function law.value(t, i, d)
    local u, v, w = t[1] - t[2] * x[i], t[3] - t[4] * z[i], t[5]
    local m = math.max(u, v, w)
    local eu, ev, ew = math.exp(u - m), math.exp(v - m), math.exp(w - m)
    local s = eu + ev + ew
    d[1], d[2], d[3], d[4], d[5] = eu / s, -eu / s * x[i], ev / s, -ev / s * z[i], ew / s
    return m + math.log(s)
  end
  function law.natural(t)
    return {A = math.exp(t[1] + t[2] * mx), alpha = t[2], B = math.exp(t[3] + t[4] * mz), beta = t[4], E = math.exp(t[5])}
  end
  function law.predict(p, q) return p.A / q.N ^ p.alpha + p.B / q.D ^ p.beta + p.E end
  local g = o and o.grid or {}
  law.starts = product({g.a or {0, 5, 10, 15, 20, 25}, g.alpha or {0, 0.5, 1, 1.5, 2}, g.b or {0, 5, 10, 15, 20, 25}, g.beta or {0, 0.5, 1, 1.5, 2},
    g.e or {-1, -0.5, 0, 0.5, 1}}, function(a, alpha, b, beta, e) return {a - alpha * mx, alpha, b - beta * mz, beta, e} end)
  return law
end

-- ---- efficiency: L = A/(N rho)^alpha [+ B/D^beta] + E, rho by precision ---------------------

--- The precisions in order of appearance, the reference first.
local function precisions(what, points, reference)
  local list, number = {reference}, {[reference] = 1}
  local found = false
  for i, p in ipairs(points) do
    local label = p.precision
    if label == nil then options.fail("%s: point %d has no precision", what, i) end
    found = found or label == reference
    if not number[label] then
      list[#list + 1] = label
      number[label] = #list
    end
  end
  if not found then options.fail("%s: no point has the reference precision %s", what, tostring(reference)) end
  if #list < 2 then options.fail("%s: all points have the reference precision; nothing to compare", what) end
  return list, number
end

--- theta = (a, alpha, e [, b, beta], log rho of each precision but the reference)
function laws.efficiency(what, points, o)
  check_count(what, points, 4)
  local labels, number = precisions(what, points, o.reference)
  local x, mx = centred(logs(what, points, "N"))
  local z, mz
  if o.data then z, mz = centred(logs(what, points, "D")) end
  local first = o.data and 5 or 3
  local law = {names = {"A", "alpha", "E"}, dimension = first + #labels - 1, n = #points, target = logs(what, points, "L"),
    mix = {[1] = {[2] = mx}}}
  if o.data then law.names[4], law.names[5], law.mix[4] = "B", "beta", {[5] = mz} end
  local slot = {}
  for i, p in ipairs(points) do slot[i] = number[p.precision] > 1 and first + number[p.precision] - 1 or 0 end
  for k = 2, #labels do law.names[#law.names + 1] = "rho_" .. tostring(labels[k]) end
  function law.value(t, i, d)
    local k = slot[i]
    local size = x[i] + (k > 0 and t[k] or 0)
    local u, w, v = t[1] - t[2] * size, t[3], z and t[4] - t[5] * z[i] or -math.huge
    local m = math.max(u, v, w)
    local eu, ev, ew = math.exp(u - m), math.exp(v - m), math.exp(w - m)
    local s = eu + ev + ew
    for j = first + 1, law.dimension do d[j] = 0 end
    d[1], d[2], d[3] = eu / s, -eu / s * size, ew / s
    if z then d[4], d[5] = ev / s, -ev / s * z[i] end
    if k > 0 then d[k] = -eu / s * t[2] end
    return m + math.log(s)
  end
  function law.natural(t)
    local p = {A = math.exp(t[1] + t[2] * mx), alpha = t[2], E = math.exp(t[3])}
    if z then p.B, p.beta = math.exp(t[4] + t[5] * mz), t[5] end
    for k = 2, #labels do p[law.names[first + k - 1]] = math.exp(t[first + k - 1]) end
    return p
  end
  function law.predict(p, q)
    local rho = q.precision == o.reference and 1 or p["rho_" .. tostring(q.precision)]
    return p.A / (q.N * rho) ^ p.alpha + (z and p.B / q.D ^ p.beta or 0) + p.E
  end
  local top = mean(law.target)
  law.starts = product({{-3, -1, 0}, {0.1, 0.3, 0.6, 1}, {-2, -0.7, -0.2, 0}, z and {-3, -1} or {0}, z and {0.2, 0.5} or {0}}, function(a, alpha,
    e, b, beta)
    local t = {top + a, alpha, top + e}
    if z then t[4], t[5] = top + b, beta end
    for k = 2, #labels do t[first + k - 1] = -0.15 end
    return t
  end)
  return law
end

-- ---- laws that are linear in the logs -----------------------------------------------------

--- columns: {name, function(point) -> number, back = function(coefficient, all) -> natural value}; the first parameter
-- is the constant. Columns that do not vary cannot be told from the constant: they are left out and listed.
local function linear(what, points, constant, columns, target)
  check_count(what, points, 2)
  local kept, fixed, values, centres, scales = {}, {}, {}, {}, {}
  for _, column in ipairs(columns) do
    local v = {}
    for i, p in ipairs(points) do
      v[i] = column[2](p, i)
      if v[i] ~= v[i] or math.abs(v[i]) == math.huge then options.fail("%s: point %d: %s is %s", what, i, column[1], tostring(v[i])) end
    end
    local c, m = centred(v)
    local size = 0
    for i = 1, #c do size = size + c[i] * c[i] / #c end
    size = math.sqrt(size)
    if size > 1e-9 * math.max(1, math.abs(m)) then
      kept[#kept + 1], values[#values + 1], centres[#centres + 1], scales[#scales + 1] = column, c, m, size
    else
      fixed[#fixed + 1] = column[1]
    end
  end
  local p = #kept + 1
  check_count(what, points, p)
  local law = {names = {constant[1]}, dimension = p, n = #points, target = logs(what, points, target), fixed = fixed, starts = {{}}, mix = {[1] = {}}}
  law.starts[1][1] = mean(law.target)
  for k = 1, #kept do
    law.names[k + 1], law.starts[1][k + 1], law.mix[1][k + 1] = kept[k][1], 0, -centres[k] / scales[k]
    for i = 1, #points do values[k][i] = values[k][i] / scales[k] end
  end
  function law.value(t, i, d)
    local s = t[1]
    d[1] = 1
    for k = 1, p - 1 do
      local v = values[k][i]
      d[k + 1] = v
      s = s + t[k + 1] * v
    end
    return s
  end
  function law.natural(t)
    local out, shift = {}, t[1]
    for k = 1, #kept do
      local coefficient = t[k + 1] / scales[k]
      shift = shift - coefficient * centres[k]
      out[kept[k][1]] = kept[k].back and kept[k].back(coefficient) or coefficient
    end
    out[constant[1]] = constant.back and constant.back(shift) or shift
    return out
  end
  function law.predict(named, q)
    local s = constant.forth and constant.forth(named[constant[1]]) or named[constant[1]]
    for _, column in ipairs(kept) do
      local v = named[column[1]]
      s = s + (column.forth and column.forth(v) or v) * column[2](q)
    end
    return math.exp(s)
  end
  return law
end

local function negative(x) return -x end
local function log_of(field)
  return function(p) return math.log(p[field]) end
end
local EXPONENTIAL = {back = math.exp, forth = math.log}
local function constant(name) return {name, back = EXPONENTIAL.back, forth = EXPONENTIAL.forth} end

--- delta = C D^gD / N^gN exp(-P/g)
function laws.kumar(what, points)
  for _, field in ipairs{"N", "D", "P"} do logs(what, points, field) end
  local function inverse(x) return -1 / x end
  return linear(what, points, constant "C", {
    {"gD", log_of "D"}, {"gN", log_of "N", back = negative, forth = negative},
    {"g", function(p) return p.P end, back = inverse, forth = inverse},
  }, "delta")
end

--- delta = k D^b / (N^a P^g)
function laws.ouyang(what, points)
  for _, field in ipairs{"N", "D", "P"} do logs(what, points, field) end
  return linear(what, points, constant "k", {
    {"b", log_of "D"}, {"a", log_of "N", back = negative, forth = negative}, {"g", log_of "P", back = negative, forth = negative},
  }, "delta")
end

--- y = c x^p
function laws.power(what, points)
  logs(what, points, "x")
  return linear(what, points, constant "c", {{"p", log_of "x"}}, "y")
end

--- ln err = c0 + gN ln N + gB bits + g_lr ln(lr_now/lr_peak + floor) + g_pk ln lr_peak + gD ln D
function laws.rate(what, points, o)
  for _, field in ipairs{"N", "D", "bits", "lr_peak"} do logs(what, points, field) end
  return linear(what, points, {"c0"}, {
    {"gN", log_of "N"}, {"gB", function(p) return p.bits end},
    {"g_lr", function(p, i)
      if type(p.lr_now) ~= "number" or p.lr_now < 0 then options.fail("%s: point %s needs lr_now of at least 0", what, tostring(i or "?")) end
      return math.log(p.lr_now / p.lr_peak + o.floor)
    end},
    {"g_pk", log_of "lr_peak"}, {"gD", log_of "D"},
  }, "error")
end

-- ---- y = c x^-p + e --------------------------------------------------------------------------

function laws.offset_power(what, points)
  check_count(what, points, 4)
  local x, mx = centred(logs(what, points, "x"))
  local law = {names = {"c", "p", "e"}, dimension = 3, n = #points, target = logs(what, points, "y"), mix = {[1] = {[2] = -mx}}}
  function law.value(t, i, d)
    local u, w = t[1] + t[2] * x[i], t[3]
    local m = math.max(u, w)
    local eu, ew = math.exp(u - m), math.exp(w - m)
    local s = eu + ew
    d[1], d[2], d[3] = eu / s, eu / s * x[i], ew / s
    return m + math.log(s)
  end
  function law.natural(t) return {c = math.exp(t[1] - t[2] * mx), p = t[2], e = math.exp(t[3])} end
  function law.predict(p, q) return p.c * q.x ^ p.p + p.e end
  local top = mean(law.target)
  law.starts = product({{-3, -1, 0}, {-1, -0.5, -0.2, 0.2, 0.5, 1}, {-3, -1, -0.2}}, function(c, p, e) return {top + c, p, top + e} end)
  return law
end

return laws

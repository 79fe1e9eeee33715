--- q.plot.spectrum: singular values of weight matrices, or spectral densities of a Hessian.
--
-- Of matrices: singular values by rank, and how they lie beside those of random entries with the same variance
-- (Marchenko and Pastur 1967): values beyond that edge are structure that training left, or outliers.
-- Of densities (q.curvature.density): the density on a logarithmic axis with its band over random starts,
-- and the eigenvalues found one by one (q.curvature.top) as lines.

local c = require "quench.c.linalg"
local counts = require "quench.plots.counts"
local data = require "quench.plots.data"
local options = require "quench.options"
local text = require "quench.plots.text"

local spec = options.spec("q.plot.spectrum", {
  {"title", "string", doc = "above the picture"},
  {"labels", "list", default = {}, doc = "names, where several are given"},
  {"random", "boolean", default = true, doc = "of matrices: the singular values of random entries of the same variance as the first"},
  {"top", "list|table", doc = "of densities: eigenvalues to mark, a list or the result of q.curvature.top"},
  {"floor", "number", default = 1e-6, above = 0, below = 1, doc = "of densities: lowest value shown, as a part of the highest"},
  {"theme", "string|table", default = "light", doc = "as for q.plot"},
  {"width", "number", above = 0, max = 100, unit = "inches", doc = "default 6 for densities, 8.2 for matrices"},
  {"height", "number", above = 0, max = 100, unit = "inches", doc = "default 3.1"},
})

local function is_density(v) return type(v) == "table" and type(v.rules) == "table" and type(v.x) == "table" end

--- The label of the k-th of n.
local function label_of(o, k, n) return o.labels[k] or n > 1 and ("spectrum %d"):format(k) or nil end

-- ---- matrices -------------------------------------------------------------------------

--- Singular values, largest first, and the matrix' rows, columns and mean square; leading axes become rows.
local function singular(t, where)
  t = t:detach():to("f64"):contiguous()
  if t:ndim() < 2 or t:numel() == 0 then options.fail("%s: needs a matrix, got shape (%s)", where, table.concat(t:shape(), ", ")) end
  local n = t:size(-1)
  local m = t:numel() / n
  local square = t:square():mean():item()
  if square - square ~= 0 then options.fail("%s: the matrix has entries that are not finite", where) end
  return {values = c.svdvals(t:view(m, n)):totable(), m = m, n = n, square = square}
end

--- The density of singular values of an m x n matrix of independent entries of that mean square: with beta = n/m <= 1
-- and s in units of sqrt(m) sigma, f(s) = sqrt((s^2 - (1 - sqrt beta)^2) ((1 + sqrt beta)^2 - s^2)) / (pi beta s).
local function marchenko_pastur(matrix, points)
  local rows, columns = math.max(matrix.m, matrix.n), math.min(matrix.m, matrix.n)
  local beta, unit = columns / rows, math.sqrt(rows * matrix.square)
  local low, high = 1 - math.sqrt(beta), 1 + math.sqrt(beta)
  local x, y = {}, {}
  for i = 1, points do
    local s = low + (high - low) * (i - 0.5) / points
    x[i], y[i] = s * unit, math.sqrt((s * s - low * low) * (high * high - s * s)) / (math.pi * beta * s * unit)
  end
  return x, y
end

--- Those values at every rank: the quantiles of the density.
local function expected_values(x, y, count)
  local sum, total, out = 0, 0, {}
  for i = 1, #y do total = total + y[i] end
  local at = #x
  for k = 1, count do
    while at > 1 and (sum + y[at]) / total < (k - 0.5) / count do
      sum = sum + y[at]
      at = at - 1
    end
    out[k] = x[at]
  end
  return out
end

--- ||W||_F^2 / ||W||^2: how many directions carry the matrix (stable rank).
local function stable_rank(values)
  local sum = 0
  for _, v in ipairs(values) do sum = sum + v * v end
  return sum / values[1] ^ 2
end

local function positive(list)
  local out = {}
  for i, v in ipairs(list) do out[i] = v > 0 and v or 0 / 0 end
  return out
end

local function matrices(list, o)
  local by_rank = {title = "singular values", x = "rank", y = {label = "singular value", scale = "log"}}
  local spread = {x = "singular value", y = "density", legend = "none"}
  local first, largest
  for k, t in ipairs(list) do
    local where = ("q.plot.spectrum (matrix %d)"):format(k)
    if not data.is_tensor(t) then options.fail("%s: needs a tensor, got %s", where, type(t)) end
    local s = singular(t, where)
    first, largest = first or s, math.max(largest or 0, s.values[1])
    local label = label_of(o, k, #list) or "weights"
    by_rank[#by_rank + 1] = {"line", counts.upto(#s.values), positive(s.values), label = label, colour = k, marker = false}
    spread[#spread + 1] = {"histogram", x = s.values, normal = "density", bins = math.max(8, math.min(60, math.floor(#s.values / 4))),
      label = label, colour = k}
  end
  if first.values[1] > 0 then spread.title = ("stable rank %s of %d"):format(text.format("%.3g", stable_rank(first.values)), #first.values) end
  if o.random and first.square > 0 then
    local x, y = marchenko_pastur(first, 400)
    by_rank[#by_rank + 1] = {"line", counts.upto(#first.values), expected_values(x, y, #first.values), label = "random", colour = 8,
      dash = "dashed", marker = false}
    spread[#spread + 1] = {"line", x, y, label = "random", colour = 8, dash = "dashed"}
  end
  return {title = o.title, theme = o.theme, width = o.width or 8.2, height = o.height or 3.1, columns = 2, by_rank, spread}
end

-- ---- densities ------------------------------------------------------------------------

local function top_values(top)
  local list = top.values or top
  if data.is_tensor(list) then list = list:totable() end
  return list
end

local function densities(list, o)
  local p = {title = o.title, theme = o.theme, width = o.width or 6, height = o.height or 3.1,
    x = o.top and "eigenvalue (dashed: found one by one)" or "eigenvalue"}
  local highest = 0
  for k, d in ipairs(list) do
    if not is_density(d) then options.fail("q.plot.spectrum: item %d is no result of q.curvature.density", k) end
    for _, y in ipairs(d.y) do highest = math.max(highest, y) end
  end
  local least = highest * o.floor
  p.y = {label = "density", scale = "log", range = {least, false}}
  for k, d in ipairs(list) do
    local low, high, y = {}, {}, {}
    for i, v in ipairs(d.y) do
      local e = d.error and d.error[i] or 0
      if e ~= e or e == math.huge then e = 0 end -- a single start has no error
      y[i], low[i], high[i] = math.max(v, least), math.max(v - e, least), math.max(v + e, least)
    end
    p[#p + 1] = {"line", d.x, y, label = label_of(o, k, #list), colour = k, marker = false}
    p[#p + 1] = {"band", d.x, low = low, high = high, colour = k}
  end
  for _, v in ipairs(o.top and top_values(o.top) or {}) do p[#p + 1] = {"vline", x = v} end
  return p
end

return function(plot)
  return function(what, given)
    local o = spec(given)
    if data.is_tensor(what) or is_density(what) then what = {what} end
    if type(what) ~= "table" or #what == 0 then
      options.fail("q.plot.spectrum: needs a matrix, the result of q.curvature.density, or a list of either, got %s", type(what))
    end
    if is_density(what[1]) then return plot(densities(what, o)) end
    return plot.grid(matrices(what, o))
  end, spec
end

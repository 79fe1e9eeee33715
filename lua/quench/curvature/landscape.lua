--- landscape.lua - the loss along lines and on planes through parameter space.
--
-- Directions are orthonormalised, so that distances in the figure are distances between weights;
-- grids are regular. Only losses are evaluated: no graph, no product. What is drawn are sections:
-- a minimum of a section need not be one of the loss.

local q = require "quench"
local options = require "quench.options"
local system = require "quench.c.system"
local objective = require "quench.curvature.objective"
local operator = require "quench.curvature.operator"
local estimate = require "quench.curvature.estimate"

local M = {}

local function spec(name, entries)
  for _, list in ipairs{objective.options, {
    {"progress", "boolean|function", doc = "false: silent; function(round, rounds, values): called after each point"},
    {"partial", "boolean", default = true, doc = "Ctrl-C returns the points so far; false, and always in a recipe's run: it raises"},
  }} do
    for _, entry in ipairs(list) do entries[#entries + 1] = entry end
  end
  return options.spec(name, entries)
end

M.line_spec = spec("q.curvature.line", {
  {"to", "list|table", required = true, doc = "the other end: a list of tensors or a model with the same names"},
  {"points", "integer", default = 25, min = 3, doc = "evaluations, at regular steps"},
  {"low", "number", default = -0.25, doc = "where the line starts; 0 is here, 1 the other end"},
  {"high", "number", default = 1.25, doc = "where it ends"},
})

M.cut_spec = spec("q.curvature.cut", {
  {"direction", "list", doc = "a list of tensors (default: normal random numbers)"},
  {"seed", "integer", default = 0, doc = "of the random direction"},
  {"normalise", "string", default = "filter", choices = {"filter", "unit", "none"},
    doc = "filter: each row gets the norm of the parameter's row (vectors: 0 when random); unit: length 1"},
  {"radius", "number", default = 1, above = 0, doc = "the cut runs from -radius to radius"},
  {"points", "integer", default = 25, min = 3, doc = "evaluations, at regular steps"},
})

M.plane_spec = spec("q.curvature.plane", {
  {"a", "list|table", required = true, doc = "the first further point: a list of tensors or a model"},
  {"b", "list|table", required = true, doc = "the second"},
  {"labels", "list", default = {"here", "a", "b"}, doc = "names of the three points"},
  {"size", "integer|list", default = 25, doc = "points of the grid a side, or {columns, rows}"},
  {"margin", "number", default = 0.3, min = 0, doc = "room around the three points, in parts of their spread"},
  {"x", "list", doc = "{low, high} of the first axis instead"},
  {"y", "list", doc = "{low, high} of the second axis instead"},
})

local function grid(low, high, n)
  local out = {}
  for i = 1, n do out[i] = low + (high - low) * (i - 1) / (n - 1) end
  return out
end

--- The losses of all batches at x_1 d_1 + x_2 d_2 ... for each of the points, by estimate.loop; and whether Ctrl-C ended it, after at
-- least `enough` of them.
local function survey(goal, o, label, directions, points, enough)
  return goal:moving(function(move)
    local rows, start = {}, system.clock()
    goal:evaluate()
    local cost = {dimension = goal.layout.dimension, terms = goal.closures, cost = {seconds = system.clock() - start}, unit = "evaluation"}
    local _, interrupted = estimate.loop(o, label, #points, cost, function(i)
      q.scope(function()
        local x = goal.layout:zeros()
        for k, d in ipairs(directions) do x:axpby_(1, d, points[i][k]) end
        move(x)
      end)
      rows[i] = goal:evaluate()
    end, enough)
    return {rows, interrupted}
  end)
end

local function losses(goal, rows)
  local values, errors = {}, {}
  for i, row in ipairs(rows) do values[i], errors[i] = estimate.mean(row, goal.weights) end
  return values, errors
end

local function open(what_spec, ...)
  local a, b, given = operator.arguments(...)
  local o = what_spec(given)
  return objective.new(what_spec.name, a, b, o), o
end

--- The losses along a flat direction at t times it: {t=, loss=, error=, batches=, interrupted=}, t as far as Ctrl-C let it come.
local function section(goal, o, label, direction, t)
  local points, reached = {}, {}
  for i, x in ipairs(t) do points[i] = {x} end
  local rows, interrupted = unpack(survey(goal, o, label, {direction}, points, 2))
  for i = 1, #rows do reached[i] = t[i] end
  local values, errors = losses(goal, rows)
  return {t = reached, loss = values, error = errors, batches = rows, interrupted = interrupted}
end

--- q.curvature.line: from here (0) to `to` (1) and a little beyond.
function M.line(...)
  local goal, o = open(M.line_spec, ...)
  return q.scope(function()
    local d = goal:displacement(o.to, "to")
    local line = section(goal, o, "line", d, grid(o.low, o.high, o.points))
    line.distance = d:norm()
    return line
  end)
end

--- q.curvature.connectivity: the highest rise above the chord between two points (Frankle et al. 2020).
function M.connectivity(...)
  local a, b, given = operator.arguments(...)
  local settings = {}
  for key, value in pairs(given or {}) do settings[key] = value end
  settings.low, settings.high, settings.partial = settings.low or 0, settings.high or 1, false -- half a line has no barrier
  local line = M.line(a, b, settings)
  if settings.low ~= 0 or settings.high ~= 1 then options.fail("q.curvature.connectivity: the line runs from 0 to 1") end
  local n = #line.t
  local weights = objective.new("q.curvature.connectivity", a, b, {batches = settings.batches, weights = settings.weights}).weights
  local rows = {} -- batches x points
  for batch = 1, #weights do
    rows[batch] = {}
    for i = 1, n do rows[batch][i] = line.batches[i][batch] end
  end
  local function highest(loss)
    local best, where = -math.huge, nil
    for i = 1, n do
      local rise = loss[i] - ((1 - line.t[i]) * loss[1] + line.t[i] * loss[n])
      if rise > best then best, where = rise, i end
    end
    return best, where
  end
  local values, errors = estimate.jackknife(rows, weights, function(...) return (highest{...}) end)
  return estimate.new{name = "barrier", value = values[1], error = errors[1], at = line.t[select(2, highest(line.loss))], line = line}
end

--- Scales each row of x to the norm of the same row of the parameter (Li et al. 2018); vectors go to zero where asked.
local function by_filter(goal, x, drop_vectors)
  for i, view in ipairs(goal.layout:views(x)) do
    local p = goal.params[i]:detach()
    if p:ndim() < 2 then
      if drop_vectors then view:fill_(0) else view:axpby_(p:norm() / math.max(view:norm(), 1e-300), view, 0) end
    else
      local rows, from = view:view(p:size(1), -1), p:contiguous():view(p:size(1), -1)
      local ratio = (from:square():sum(2, true) / (rows:square():sum(2, true) + 1e-30)):sqrt()
      rows:copy_(rows * ratio)
    end
  end
end

--- q.curvature.cut
function M.cut(...)
  local goal, o = open(M.cut_spec, ...)
  return q.scope(function()
    local x = o.direction and goal.layout:flatten(o.direction, "direction") or goal.layout:zeros():normal_(q.stream(o.seed,
      "curvature/cut"))
    if not (x:norm() > 0) then options.fail("%s: the direction is zero", M.cut_spec.name) end
    if o.normalise == "filter" then by_filter(goal, x, not o.direction) end
    if o.normalise == "unit" then x = x * (1 / x:norm()) end
    local cut = section(goal, o, "cut", x, grid(-o.radius, o.radius, o.points))
    cut.norm = x:norm()
    return cut
  end)
end

-- ---- planes ------------------------------------------------------------------------------

--- Orthonormal axes u, v of the plane through 0, a and b (flat), and the coordinates of the three points.
local function axes(a, b)
  local length = a:norm()
  if not (length > 0) then options.fail("%s: point a is here", M.plane_spec.name) end
  local u = a * (1 / length)
  local along = b:dot(u)
  local rest = b - u * along
  rest = rest - u * rest:dot(u)
  local height = rest:norm()
  if not (height > 1e-6 * b:norm()) then options.fail("%s: the three points lie on one line; use q.curvature.line", M.plane_spec.name) end
  return u, rest * (1 / height), {{0, 0}, {length, 0}, {along, height}}
end

--- {low, high} of coordinate k of the points, with a margin.
local function extent(points, k, margin, given)
  if given then return given[1], given[2] end
  local low, high = math.huge, -math.huge
  for _, p in ipairs(points) do low, high = math.min(low, p[k]), math.max(high, p[k]) end
  return low - margin * (high - low), high + margin * (high - low)
end

local function sides(size)
  local nx, ny = size, size
  if type(size) == "table" then nx, ny = size[1], size[2] end
  if not (type(nx) == "number" and type(ny) == "number" and nx >= 2 and ny >= 2) then
    options.fail("%s: size must be at least 2 points a side", M.plane_spec.name)
  end
  return nx, ny
end

--- q.curvature.plane
function M.plane(...)
  local goal, o = open(M.plane_spec, ...)
  local nx, ny = sides(o.size)
  return q.scope(function()
    local u, v, points = axes(goal:displacement(o.a, "a"), goal:displacement(o.b, "b"))
    local xl, xh = extent(points, 1, o.margin, o.x)
    local yl, yh = extent(points, 2, o.margin, o.y)
    local x, y, all = grid(xl, xh, nx), grid(yl, yh, ny), {unpack(points)}
    for j = 1, ny do
      for i = 1, nx do all[#all + 1] = {x[i], y[j]} end
    end
    local rows, interrupted = unpack(survey(goal, o, "plane", {u, v}, all, 3 + 2 * nx))
    local values, errors = losses(goal, rows)
    local z, reached, marked = {}, {}, {}
    for j = 1, math.floor((#values - 3) / nx) do -- whole rows of the grid
      z[j], reached[j] = {}, y[j]
      for i = 1, nx do z[j][i] = values[3 + (j - 1) * nx + i] end
    end
    for k, p in ipairs(points) do marked[k] = {name = o.labels[k], x = p[1], y = p[2], loss = values[k], error = errors[k]} end
    return {x = x, y = reached, z = z, points = marked, interrupted = interrupted}
  end)
end

return M

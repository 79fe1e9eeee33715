--- density.lua - the spectral density by stochastic Lanczos quadrature.
--
-- m Lanczos steps from a random start give a Gauss rule for the density of eigenvalues: nodes are the
-- Ritz values, weights the squared first components of T's eigenvectors (Golub and Welsch 1969;
-- Ubaru, Chen and Saad 2017; Ghorbani et al. 2019). Each start is one sample, so starts give a band.
-- The rule is exact for polynomials up to degree 2m - 1 of that start.

local q = require "quench"
local operator = require "quench.curvature.operator"
local estimate = require "quench.curvature.estimate"
local lanczos = require "quench.curvature.lanczos"

local M = {}

M.spec = operator.spec("q.curvature.density", {
  {"steps", "integer", default = 40, min = 2, doc = "Lanczos steps a start: nodes of the rule"},
  {"starts", "integer", default = 4, min = 1, doc = "random starts: samples"},
  {"points", "integer", default = 400, min = 2, doc = "of the curve"},
  {"width", "number", above = 0, doc = "standard deviation of the Gaussian that smears each node (default: 1/200 of the range)"},
})

--- Nodes and weights of one start.
local function rule(run)
  local values, _, rows = run:ritz()
  local weights = {}
  for i = 1, #values do weights[i] = rows[i][1] ^ 2 end
  return values, weights
end

local function range_of(rules, margin)
  local low, high = math.huge, -math.huge
  for _, r in ipairs(rules) do low, high = math.min(low, r.nodes[1]), math.max(high, r.nodes[#r.nodes]) end
  local span = math.max(high - low, 1e-12 * math.max(math.abs(low), math.abs(high)), 1e-300)
  return low - margin * span, high + margin * span, span
end

--- The smeared density of a rule at the points x.
local function smear(r, x, width)
  local y, scale = {}, 1 / (width * math.sqrt(2 * math.pi))
  for i = 1, #x do
    local sum = 0
    for k, node in ipairs(r.nodes) do
      local d = (x[i] - node) / width
      if d * d < 80 then sum = sum + r.weights[k] * math.exp(-0.5 * d * d) end
    end
    y[i] = sum * scale
  end
  return y
end

local function moment(rules, power)
  local values = {}
  for s, r in ipairs(rules) do
    values[s] = 0
    for k, node in ipairs(r.nodes) do values[s] = values[s] + r.weights[k] * node ^ power end
  end
  return estimate.of(values, {name = "moment " .. power})
end

--- q.curvature.density
function M.density(...)
  local op, o = operator.resolve(M.spec, ...)
  local stream = q.stream(o.seed, "curvature/density")
  local steps = math.min(o.steps, op.dimension)
  local rules, run, done = {}, nil, 0
  local _, interrupted = estimate.loop(o, "density of " .. op.name, steps * o.starts, op, function()
    run = run or lanczos.run(op, stream, steps + 1)
    run:step()
    done = done + 1
    if #run.t < steps and not run.complete then return false end
    local nodes, weights = rule(run)
    run.basis:free()
    run, rules[#rules + 1] = nil, {nodes = nodes, weights = weights}
    return #rules == o.starts
  end, 2)
  if interrupted and run and #run.t > 1 then -- the start that Ctrl-C met: a rule of fewer nodes, exact to a lower degree
    local nodes, weights = rule(run)
    rules[#rules + 1] = {nodes = nodes, weights = weights}
  end
  if run then run.basis:free() end
  local low, high, span = range_of(rules, 0.05)
  local width = o.width or span / 200
  local x, curves = {}, {}
  for i = 1, o.points do x[i] = low + (high - low) * (i - 1) / (o.points - 1) end
  for s, r in ipairs(rules) do curves[s] = smear(r, x, width) end
  local y, errors = {}, {}
  for i = 1, o.points do
    local values = {}
    for s = 1, #rules do values[s] = curves[s][i] end
    y[i], errors[i] = estimate.mean(values)
  end
  return {x = x, y = y, error = errors, width = width, rules = rules, mean = moment(rules, 1), square = moment(rules, 2),
    products = done, interrupted = interrupted, cost = op.cost}
end

return M

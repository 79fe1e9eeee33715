--- quadratic.lua - one direction at a time: predicted against measured change, curvature, critical sharpness.
--
-- The quadratic test: L(w + d) - L(w) against g.d + d.Hd/2. If the ratio is near 1, the loss change is
-- the step's size times the curvature along it, and a smaller error can be told apart into a smaller
-- step and a flatter direction. If not, no number taken from H explains it. One product decides.

local q = require "quench"
local options = require "quench.options"
local objective = require "quench.curvature.objective"
local operator = require "quench.curvature.operator"
local estimate = require "quench.curvature.estimate"

local M = {}

M.direction_options = {
  {"to", "list|table", doc = "where the step leads: a list of tensors, or a model with the same names (say, quantized)"},
  {"direction", "list", doc = "the step itself, a list of tensors"},
}

local function with_direction(name, entries)
  local all = {}
  for _, list in ipairs{M.direction_options, entries or {}} do
    for _, entry in ipairs(list) do all[#all + 1] = entry end
  end
  return operator.spec(name, all)
end

M.spec = with_direction("q.curvature.quadratic")
M.directional_spec = with_direction("q.curvature.directional")

--- The step of the options `to` or `direction`, flat.
function M.step(goal, o, what)
  if (o.to == nil) == (o.direction == nil) then options.fail("%s: give either to = or direction =", what) end
  if o.to then return goal:displacement(o.to, "to") end
  return goal.layout:flatten(o.direction, "direction")
end

local function subset_step(op, o, what)
  if not op.indices then return M.step(op.goal, o, what) end
  if o.to then options.fail("%s: of a subset, give direction =", what) end
  return op.layout:flatten(o.direction, "direction")
end

-- ---- the quadratic test --------------------------------------------------------------

--- The two parts of the prediction of batch b: {g.d, d.Hd/2, parts = {{g.d, d.Hd/2} of each parameter}}.
local function predict(op, graph, term, views)
  local row = {0, 0, parts = {}}
  local gradient = operator.pick(graph.gradient, op.indices)
  for i, t in ipairs(term.product(graph, views)) do
    local first, second = gradient[i]:dot(views[i]), 0.5 * t:dot(views[i])
    row[1], row[2], row.parts[i] = row[1] + first, row[2] + second, {first, second}
  end
  return row
end

--- What each parameter adds to the mean prediction.
local function shares_of(op, rows, weights)
  local shares = {}
  for i, name in ipairs(op.names) do
    shares[i] = {name = name, gradient = 0, curvature = 0}
    for b, row in ipairs(rows) do
      shares[i].gradient = shares[i].gradient + weights[b] * row.parts[i][1]
      shares[i].curvature = shares[i].curvature + weights[b] * row.parts[i][2]
    end
  end
  return shares
end

--- The measured change of the same batches; returns their mean loss before.
local function add_measured(op, d, rows, weights)
  local goal, loss = op.goal, 0
  local before = goal:evaluate(#rows)
  local after = goal:moving(function(move)
    move(d)
    return goal:evaluate(#rows)
  end)
  for b, row in ipairs(rows) do row[3], row.parts, loss = after[b] - before[b], nil, loss + weights[b] * before[b] end
  op:refresh()
  return loss
end

--- q.curvature.quadratic
function M.quadratic(...)
  local op, o = operator.resolve(M.spec, ...)
  if op.scale or op.indices or op.name ~= "Hessian" then options.fail("%s: takes the Hessian of all parameters given", M.spec.name) end
  return q.scope(function()
    local d = M.step(op.goal, o, M.spec.name)
    local rows, views = {}, op.layout:views(d)
    local weights, interrupted = op:survey(o, "quadratic test", function(b, graph, term) rows[b] = predict(op, graph, term, views) end)
    op.products = op.products + 1
    for b = #rows, #weights + 1, -1 do rows[b] = nil end
    local shares = shares_of(op, rows, weights)
    local loss = add_measured(op, d, rows, weights)
    local values, errors = estimate.jackknife(rows, weights, function(first, second, measured)
      return first, second, first + second, measured, (first + second) / measured
    end)
    local out = {loss = loss, norm = d:norm(), shares = shares, batches = rows, interrupted = interrupted}
    for k, name in ipairs{"gradient", "curvature", "predicted", "measured", "ratio"} do
      out[name] = estimate.new{name = name, value = values[k], error = errors[k]}
    end
    return setmetatable(out, {__tostring = M.show_quadratic})
  end)
end

function M.show_quadratic(r)
  return ("quadratic test: g.d %.4g, d.Hd/2 %.4g, predicted %.4g, measured %.4g, ratio %.3f%s"):format(r.gradient.value, r.curvature.value,
    r.predicted.value, r.measured.value, r.ratio.value, r.ratio.error and (" +- %.2g"):format(r.ratio.error) or "")
end

--- q.curvature.directional: d.Hd / d.d.
function M.directional(...)
  local op, o = operator.resolve(M.directional_spec, ...)
  return q.scope(function()
    local d = subset_step(op, o, M.directional_spec.name)
    local square = d:dot(d)
    if not (square > 0) then options.fail("%s: the direction is zero", M.directional_spec.name) end
    local e = op:form(o, "directional curvature", d, 1 / square)
    e.norm = math.sqrt(square)
    return e
  end)
end

-- ---- critical sharpness ---------------------------------------------------------------

local critical_entries = {
  {"direction", "list", required = true, doc = "the update: parameters become w - rate * direction"},
  {"rate", "number", default = 1e-3, above = 0, doc = "where the search starts; the learning rate in use is a good guess"},
  {"factor", "number", default = 2, above = 1, doc = "growth of the rate while the critical one is not bracketed"},
  {"tolerance", "number", default = 0.05, above = 0, doc = "relative width of the bracket at the end"},
  {"evaluations", "integer", default = 60, min = 3, doc = "of the loss, at most"},
}
for _, entry in ipairs(objective.options) do critical_entries[#critical_entries + 1] = entry end
M.critical_spec = options.spec("q.curvature.critical_sharpness", critical_entries)

local NOISE = {f32 = 1e-6, f64 = 1e-13} -- a loss that falls by less than this part of itself has not fallen

--- Brackets the rate at which rises(rate) turns true: low does not rise, high does. Nil where nothing was found.
local function bracket(rises, o, left)
  local low, high
  local rate = o.rate
  while left() and not (low and high) do
    if rises(rate) then high, rate = rate, low and rate or rate / o.factor
    else low, rate = rate, high and rate or rate * o.factor end
  end
  while low and high and left() and high / low > 1 + o.tolerance do
    local middle = math.sqrt(low * high)
    if rises(middle) then high = middle else low = middle end
  end
  return low, high
end

--- q.curvature.critical_sharpness: 2 / (smallest rate at which the step raises the loss), from losses alone.
function M.critical_sharpness(...)
  local a, b, given = operator.arguments(...)
  local what = M.critical_spec.name
  local o = M.critical_spec(given)
  local goal = objective.new(what, a, b, o)
  return goal:moving(function(move)
    local d = goal.layout:flatten(o.direction, "direction")
    local start, used, fall = goal:mean(goal:evaluate()), 1, 0
    if not (math.abs(start) < math.huge) then options.fail("%s: the loss is %s", what, start ~= start and "NaN" or "infinite") end
    local function rises(rate)
      used = used + 1
      q.scope(function() move(d * -rate) end)
      local loss = goal:mean(goal:evaluate())
      if loss < start then fall = math.max(fall, start - loss) end
      return not (loss <= start) -- a loss that is not a number has risen
    end
    local low, high = bracket(rises, o, function() return used < o.evaluations end)
    if not high then options.fail("%s: the loss does not rise along the update up to rate %g", what, low) end
    if low and fall <= NOISE[goal.layout.dtype] * math.abs(start) then rises(low / 2) end
    if not low or fall <= NOISE[goal.layout.dtype] * math.abs(start) then
      options.fail("%s: the loss rises even at rate %g; is the direction's sign right (w - rate * direction)?", what, high)
    end
    local rate = math.sqrt(low * high)
    return estimate.new{name = "critical sharpness", value = 2 / rate, low = 2 / high, high = 2 / low, rate = rate, loss = start,
      evaluations = used}
  end)
end

-- ---- a penalty -------------------------------------------------------------------------

M.penalty_spec = options.spec("q.curvature.gradient_penalty", {
  {"weight", "number", default = 0.01, min = 0, doc = "of the penalty"},
  {"power", "integer", default = 1, min = 1, max = 2, doc = "1: |g|; 2: |g|^2 / 2, whose gradient is H g"},
})

--- q.curvature.gradient_penalty: a loss for q.train, the model's own plus weight |g|: flat places are preferred.
function M.gradient_penalty(o)
  o = M.penalty_spec(o)
  return function(model, ids)
    return q.scope(function()
      local loss, sum = model:loss(ids), nil
      for _, g in ipairs(q.grad(loss, model:parameters(), {create_graph = true})) do
        local square = g:square():sum()
        sum = sum and sum + square or square
      end
      return loss + (o.power == 2 and sum * 0.5 or sum:sqrt()) * o.weight
    end)
  end
end

return M

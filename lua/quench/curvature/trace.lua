--- trace.lua - traces and diagonals from products with random signs.
--
-- Hutchinson (1990): E[z . A z] = tr A for independent z_i = +-1; the variance of one sample is
-- 2 (|A|_F^2 - sum A_ii^2). One pass gives every layer: E[z_l . (A z)_l] = tr A_ll.
-- Hutch++ (Meyer, Musco, Musco and Woodruff 2021): a third of the products finds the range Q of A S,
-- a third gives the trace there exactly, and Hutchinson runs on what is left, which is small.

local q = require "quench"
local options = require "quench.options"
local operator = require "quench.curvature.operator"
local estimate = require "quench.curvature.estimate"
local basis = require "quench.curvature.basis"

local M = {}

M.spec = operator.spec("q.curvature.trace", {
  {"method", "string", default = "hutchinson", choices = {"hutchinson", "hutch++"}, doc = "how"},
  {"samples", "integer", default = 64, min = 2, doc = "products, at most"},
  {"precision", "number", above = 0, doc = "stop when the standard error is below this part of the value (after at least 8 samples)"},
  {"steps", "list", doc = "quantization step sizes s, a number or tensor a parameter: the trace of S A S"},
  {"groups", "string|list", default = "tensor", doc = "traces of parts: tensor, layer, role, or a label for each parameter"},
})

M.diagonal_spec = operator.spec("q.curvature.diagonal", {
  {"samples", "integer", default = 64, min = 2, doc = "products"},
})

local MIN_SAMPLES = 8 -- before a standard error may stop the loop

-- ---- groups of parameters ---------------------------------------------------------

--- Sums of numbers, one a parameter, over the groups.
local function by_group(numbers, of, count)
  local sums = {}
  for k = 1, count do sums[k] = 0 end
  for i, x in ipairs(numbers) do sums[of[i]] = sums[of[i]] + x end
  return sums
end

--- One estimate a group, from rows of sums.
local function group_estimates(rows, labels)
  local out = {}
  for k, label in ipairs(labels) do
    local values = {}
    for i, row in ipairs(rows) do values[i] = row[k] end
    out[k] = estimate.of(values, {name = label})
    out[k].values = nil
  end
  return out
end

-- ---- Hutchinson ----------------------------------------------------------------------

local function precise(values, precision)
  if not precision or #values < MIN_SAMPLES then return false end
  local value, error = estimate.mean(values)
  return error <= precision * math.abs(value)
end

local function total(numbers)
  local sum = 0
  for _, x in ipairs(numbers) do sum = sum + x end
  return sum
end

local function hutchinson(op, o)
  local stream = q.stream(o.seed, "curvature/trace")
  local labels, of = operator.grouping(M.spec.name, op, o.groups)
  local rows, values = {}, {}
  local _, interrupted = estimate.loop(o, "trace", o.samples, op, function()
    local dots = q.scope(function()
      local z = op.layout:rademacher(stream)
      return op.layout:dots(z, op:product(z))
    end)
    rows[#rows + 1] = by_group(dots, of, #labels)
    values[#rows] = total(dots)
    return precise(values, o.precision), {trace = estimate.mean(values)}
  end, 2)
  for i = #rows, #values + 1, -1 do rows[i] = nil end -- a round that was cut in two
  return estimate.of(values, {name = "trace", products = #values, groups = group_estimates(rows, labels), interrupted = interrupted})
end

-- ---- Hutch++ ---------------------------------------------------------------------------

local Sketch = {}
Sketch.__index = Sketch

--- The rounds of Hutch++: `third` products find a range, as many give the trace there, as many the rest.
local function sketch(op, stream, third)
  return setmetatable({op = op, stream = stream, third = third, range = basis.new(op.layout), plain = {}, exact = 0, at = 0,
    values = {}}, Sketch)
end

--- A sample of A's range. Its z . A z is a Hutchinson sample: all there is if Ctrl-C comes early.
function Sketch:widen()
  self.plain[#self.plain + 1] = q.scope(function()
    local z = self.op.layout:rademacher(self.stream)
    local product = self.op:product(z)
    local form = z:dot(product)
    self.range:add(product)
    return form
  end)
end

function Sketch:measure()
  local part = q.scope(function()
    local row = self.range:row(self.at + 1)
    return row:dot(self.op:product(row))
  end)
  self.exact, self.at = self.exact + part, self.at + 1
end

function Sketch:sample()
  local rest = q.scope(function()
    local g = self.op.layout:rademacher(self.stream)
    self.range:project_out(g)
    return g:dot(self.op:product(g))
  end)
  self.values[#self.values + 1] = self.exact + rest
end

local function hutch(op, o)
  if o.samples < 6 then options.fail("%s: hutch++ needs samples = 6 or more, two products a third, got %d", M.spec.name, o.samples) end
  local s = sketch(op, q.stream(o.seed, "curvature/trace"), math.max(1, math.floor(o.samples / 3)))
  local products, interrupted = estimate.loop(o, "trace (hutch++)", 3 * s.third, op, function(i)
    if i <= s.third then s:widen() return false, {trace = estimate.mean(s.plain)} end
    if s.at < s.range.count then s:measure() return false, {trace = estimate.mean(s.plain)} end
    s:sample()
    return #s.values == s.third or precise(s.values, o.precision), {trace = estimate.mean(s.values)}
  end, math.min(2, s.third))
  s.range:free()
  local enough = #s.values >= math.min(2, s.third) -- else the samples of the sketch are the estimate, plain Hutchinson
  return estimate.of(enough and s.values or s.plain, {name = "trace", exact_part = enough and s.exact or nil, rank = s.range.count,
    interrupted = interrupted, products = products})
end

--- q.curvature.trace
function M.trace(a, b, given)
  local op, o = operator.resolve(M.spec, a, b, given)
  if o.steps then
    local steps = op.layout:flatten(o.steps, "steps", true)
    if not steps:all_finite() then options.fail("%s: steps holds NaN or infinity", M.spec.name) end
    op = op:scaled(steps)
  end
  local e = (o.method == "hutch++" and hutch or hutchinson)(op, o)
  e.cost = op.cost
  if o.steps then -- rounding spreads evenly over +-s/2: variance s^2/12, half of it times H_ii
    e.name = "trace of SHS"
    e.loss_change = estimate.new{name = "predicted loss change", value = e.value / 24, error = e.error and e.error / 24}
  end
  return e
end

-- ---- the diagonal ------------------------------------------------------------------------

--- q.curvature.diagonal: mean of z * A z, with the standard error of each entry (Bekas, Kokiopoulou and Saad 2007).
function M.diagonal(a, b, given)
  local op, o = operator.resolve(M.diagonal_spec, a, b, given)
  local stream = q.stream(o.seed, "curvature/diagonal")
  local sum, squares, done = op.layout:zeros(), op.layout:zeros(), 0
  local rounds, interrupted = estimate.loop(o, "diagonal", o.samples, op, function()
    local mean, spread = q.scope(function() -- running mean and sum of squared deviations (Welford)
      local z = op.layout:rademacher(stream)
      local d = z * op:product(z)
      local change = d - sum
      local mean = sum + change * (1 / (done + 1))
      return mean, squares + change * (d - mean)
    end)
    local old_sum, old_squares = sum, squares
    sum, squares, done = mean, spread, done + 1 -- at once: Ctrl-C finds whole rounds
    old_sum:free()
    old_squares:free()
  end, 2)
  return q.scope(function()
    local error = (squares * (1 / (done * (done - 1)))):sqrt()
    return {value = op.layout:list(sum), error = op.layout:list(error), samples = done, interrupted = interrupted, products = rounds}
  end)
end

return M

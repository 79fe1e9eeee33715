--- estimate.lua - numbers with a standard error, and loops that can be watched and stopped.
--
-- Every estimator of q.curvature is a loop of rounds, each of which ends by appending to a list.
-- So a loop that Ctrl-C ends early leaves whole rounds behind, and the estimate so far has its
-- standard error like any other. Inside q.recipe's run no part is ever taken for the whole: there Ctrl-C stops.

local q = require "quench"
local system = require "quench.c.system"
local progress = require "quench.progress"

local estimate = {}

local NOTICE = 2 -- seconds: what takes longer says so before it starts
local MANY = 16  -- rounds that are worth two more, on one batch, to foresee their cost

local Estimate = {}
Estimate.__index = Estimate

--- The mean and its standard error: of n independent values, or of n batches with weights that sum to 1.
-- One value has no error: nil.
function estimate.mean(values, weights)
  local n, sum, spread = #values, 0, 0
  if n == 0 then return nil, nil end
  for i, v in ipairs(values) do sum = sum + v * (weights and weights[i] or 1 / n) end
  for i, v in ipairs(values) do spread = spread + ((weights and weights[i] or 1 / n) * (v - sum)) ^ 2 end
  return sum, n > 1 and math.sqrt(spread * n / (n - 1)) or nil
end

--- A result: value, error (standard error, nil where it cannot be known) and whatever else the estimator found.
function estimate.new(fields) return setmetatable(fields, Estimate) end

--- The estimate from independent values.
function estimate.of(values, fields)
  fields = fields or {}
  fields.value, fields.error = estimate.mean(values)
  fields.samples, fields.values = #values, values
  return estimate.new(fields)
end

--- f(means of the columns), where rows[b] is what batch b says, and its standard error: leave one batch out (jackknife).
-- f may return several numbers; so do the two results, as lists.
function estimate.jackknife(rows, weights, f)
  local n = #rows
  local function without(skip)
    local means, sum = {}, 0
    for b = 1, n do sum = sum + (b == skip and 0 or weights[b]) end
    for k = 1, #rows[1] do
      means[k] = 0
      for b = 1, n do means[k] = means[k] + (b == skip and 0 or weights[b] / sum * rows[b][k]) end
    end
    return {f(unpack(means))}
  end
  local values, errors, each = without(0), {}, {}
  if n < 2 then return values, errors end
  for b = 1, n do each[b] = without(b) end
  for k = 1, #values do
    local mean, spread = 0, 0
    for b = 1, n do mean = mean + each[b][k] / n end
    for b = 1, n do spread = spread + (each[b][k] - mean) ^ 2 end
    errors[k] = math.sqrt(spread * (n - 1) / n)
  end
  return values, errors
end

function Estimate:__tostring()
  local text = ("%s%.6g"):format(self.name and self.name .. " " or "", self.value)
  if self.error then text = text .. (" +- %.2g"):format(self.error) end
  if self.samples then text = text .. (" (%d samples%s)"):format(self.samples, self.interrupted and ", interrupted" or "") end
  return text
end

local function duration(seconds)
  return seconds < 100 and ("%.2g s"):format(seconds) or seconds < 6000
    and ("%.0f min"):format(seconds / 60) or ("%.1f h"):format(seconds / 3600)
end

local whole = false -- inside estimate.whole

--- fn(...), in which Ctrl-C ends every loop with an error: results that are kept must not be parts.
function estimate.whole(fn, ...)
  local before = whole
  whole = true
  local results = {pcall(fn, ...)}
  whole = before
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2, table.maxn(results))
end

--- Says what a loop of `rounds` products (or whatever operator.unit names) will cost, where that is worth saying.
local function announce(o, label, rounds, operator)
  local unit = operator.unit or "product"
  local function unworthy() return rounds * operator.cost.seconds < NOTICE and not o.progress end
  if o.progress == false or type(o.progress) == "function" or unworthy() then return end
  if operator.calibrate and rounds >= MANY and not operator.cost.calibrated then operator:calibrate() end
  local seconds = rounds * operator.cost.seconds
  progress.message("%s: up to %d %s%s (%s parameters, %d batch%s), about %s", label, rounds, unit, unit == "batch" and "es" or "s",
    operator.dimension, #operator.terms, #operator.terms == 1 and "" or "es", duration(seconds))
end

--- Calls round(i) for i = 1 .. rounds until it returns true. Returns how many rounds were done and whether
-- Ctrl-C ended it; before `enough` rounds are done, and always with partial = false, Ctrl-C raises as usual.
function estimate.loop(o, label, rounds, operator, round, enough)
  announce(o, label, rounds, operator)
  local bar = type(o.progress) ~= "function"
    and q.progress{total = rounds, label = label, unit = operator.unit or "product", quiet = o.progress == false}
  local done = 0
  local ok, message = pcall(function()
    for i = 1, rounds do
      local finished, values = round(i)
      done = i
      if bar then bar:update(i, values) else o.progress(i, rounds, values) end
      if finished then break end
    end
  end)
  if bar then bar:finish() end
  if ok then return done, false end
  local pressed = tostring(message):find("interrupted", 1, true)
  if not pressed or o.partial == false or whole or done < (enough or 1) then error(message, 0) end
  system.clear_interrupt()
  if bar and not bar.quiet then progress.message("%s: interrupted after %d of %d; the result is the estimate so far", label, done,
    rounds) end
  return done, true
end

--- The options that every loop has; see options.spec.
estimate.options = {
  {"progress", "boolean|function", doc = "false: silent; function(round, rounds, values): called after each round"},
  {"partial", "boolean", default = true, doc = "Ctrl-C returns the estimate so far; false, and always in a recipe's run: it raises"},
  {"seed", "integer", default = 0, doc = "of the random directions"},
}

return estimate

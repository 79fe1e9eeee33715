--- schedule.lua - q.schedule: the learning rate's factor as a pure function of the step.
--
-- A schedule is any function step -> factor, with steps counted from 1; the optimizer multiplies its
-- rate with it. Being pure it needs no state: a resumed run, a fork and a plot ask the same function.
-- Lengths (warmup, decay) are steps when 1 or more, shares of all steps when below 1. A warmup of w
-- steps reaches 1 at step w, a decay of d steps reaches its floor at the last step.

local help = require "quench.help"
local options = require "quench.options"

local M = {}

--- How a decay falls from 1 to 0 along x in [0, 1].
local shapes = {
  linear = function(x) return 1 - x end,
  sqrt = function(x) return 1 - math.sqrt(x) end,                 -- "1-sqrt": Haegele et al., NeurIPS 2024
  cosine = function(x) return (1 + math.cos(math.pi * x)) / 2 end,
}
local shape_names = {"linear", "sqrt", "cosine", "exponential"}

local function length(name, default, doc)
  local function check(v)
    if v >= 1 and v ~= math.floor(v) then return ("%s must be a whole number of steps or a share below 1, got %g"):format(name, v) end
  end
  return {name, "number", default = default, min = 0, doc = doc .. " (steps, or a share of all below 1)", check = check}
end

local function steps_of(v, total) return v < 1 and math.floor(v * total + 0.5) or v end

local STEPS = {"steps", "integer", required = true, min = 1, doc = "length of the whole run"}
local FLOOR = {"floor", "number", default = 0, min = 0, max = 1, doc = "factor at the end"}
local START = {"warmup_start", "number", default = 0, min = 0, max = 1, doc = "factor before the first step of the warmup"}

--- The factor during a warmup of w steps.
local function rising(step, w, start) return start + (1 - start) * math.max(step, 0) / w end

--- From 1 down to the floor along x, clamped to [0, 1].
local function falling(shape, x, floor)
  x = math.min(math.max(x, 0), 1)
  if shape == "exponential" then return floor ^ x end
  return floor + (1 - floor) * shapes[shape](x)
end

--- Warmup, a stretch at 1, and a decay over the last steps: all schedules with an end are this.
local function plateau(where, o)
  local warmup, decay = steps_of(o.warmup, o.steps), steps_of(o.decay, o.steps)
  if warmup > o.steps then options.fail("%s: the warmup (%d) is longer than the %d steps", where, warmup, o.steps) end
  if warmup + decay > o.steps then
    options.fail("%s: warmup (%d) and decay (%d) are longer than the %d steps", where, warmup, decay, o.steps)
  end
  if o.shape == "exponential" and o.floor == 0 then options.fail("%s: an exponential decay needs a floor above 0", where) end
  return function(step)
    if step < warmup then return rising(step, warmup, o.warmup_start) end
    if step <= o.steps - decay then return 1 end
    return falling(o.shape, decay > 0 and (step - (o.steps - decay)) / decay or 1, o.floor)
  end
end

local function add(name, signature, doc, spec, fn, source, example)
  M[name] = fn
  help.add{"q.schedule." .. name, fn, signature, doc, options = spec, source = source, example = example,
    returns = "function(step) -> factor, steps counted from 1", errors = "an option out of range; warmup and decay longer than the run"}
end

local wsd = options.spec("q.schedule.wsd", {STEPS, length("warmup", 0.01, "linear rise"), length("decay", 0.2, "cooldown at the end"),
  {"shape", "string", default = "linear", choices = shape_names, doc = "of the cooldown"}, FLOOR, START})
add("wsd", "q.schedule.wsd{steps=, warmup=, decay=, shape=} -> schedule",
  "Warmup, stable, decay: one stable run can be cooled down from any point.", wsd,
  function(given) return plateau("q.schedule.wsd", wsd(given)) end,
  "Hu et al., 2024 (arXiv 2404.06395); shapes: Haegele et al., 2024 (arXiv 2405.18392)",
  "local f = q.schedule.wsd{steps = 1000, warmup = 10, decay = 200, shape = 'sqrt'}\nprint(f(5), f(500), f(1000))   -- 0.5  1  0")

local trapezoidal = options.spec("q.schedule.trapezoidal", {STEPS, length("warmup", 0.05, "linear rise"),
  length("decay", 0.2, "linear fall at the end"), FLOOR, {"warmup_start", "number", default = 0.001, min = 0, max = 1, doc = START.doc}})
add("trapezoidal", "q.schedule.trapezoidal{steps=, warmup=, decay=} -> schedule",
  "WSD with the shares of \"Beyond Outliers\": 5 % up from 0.001, 75 % flat, 20 % down.", trapezoidal,
  function(given)
    local o = trapezoidal(given)
    o.shape = "linear"
    return plateau("q.schedule.trapezoidal", o)
  end, "Vlassis et al., 2025 (arXiv 2509.23500)")

--- A decay that begins right after the warmup.
local function straight(name, shape, doc, source)
  local where = "q.schedule." .. name
  local spec = options.spec(where, {STEPS, length("warmup", 0, "linear rise"), FLOOR, START})
  add(name, ("%s{steps=, warmup=, floor=} -> schedule"):format(where), doc, spec, function(given)
    local o = spec(given)
    o.shape, o.warmup = shape, steps_of(o.warmup, o.steps)
    o.decay = o.steps - o.warmup
    return plateau(where, o)
  end, source)
end
straight("cosine", "cosine", "Half a cosine from 1 to the floor, after a warmup.", "Loshchilov and Hutter, ICLR 2017")
straight("linear", "linear", "A straight line from 1 to the floor, after a warmup.", "Defazio et al., 2023 (arXiv 2310.07831)")

local constant = options.spec("q.schedule.constant", {{"warmup", "integer", default = 0, min = 0, doc = "steps of linear rise"}, START,
  {"factor", "number", default = 1, min = 0, doc = "the factor kept"}})
add("constant", "q.schedule.constant{warmup=} -> schedule", "The same rate throughout, after a warmup.", constant, function(given)
  local o = constant(given)
  return function(step) return o.factor * (step < o.warmup and rising(step, o.warmup, o.warmup_start) or 1) end
end)

local inverse_sqrt = options.spec("q.schedule.inverse_sqrt", {
  {"warmup", "integer", required = true, min = 1, doc = "steps of linear rise; sets the scale of the fall"}, START})
add("inverse_sqrt", "q.schedule.inverse_sqrt{warmup=} -> schedule",
  "Rises for `warmup` steps, then falls as sqrt(warmup / step).", inverse_sqrt, function(given)
    local o = inverse_sqrt(given)
    return function(step) return step < o.warmup and rising(step, o.warmup, o.warmup_start) or math.sqrt(o.warmup / step) end
  end, "Vaswani et al., 2017")

local cyclic = options.spec("q.schedule.cyclic", {{"period", "integer", required = true, min = 2, doc = "steps of the first cycle"},
  {"low", "number", default = 0.1, min = 0, max = 1, doc = "lowest factor"},
  {"shape", "string", default = "triangle", choices = {"triangle", "restart"},
    doc = "up and down in straight lines, or half cosines with warm restarts"},
  {"growth", "number", default = 1, min = 1, doc = "each cycle is this much longer than the one before"}})

--- Place x in [0, 1) of a step in its cycle; step 1 begins the first one.
local function phase(step, o)
  local at, period = math.max(step, 1) - 1, o.period
  if o.growth > 1 then
    while at >= period do at, period = at - period, math.floor(period * o.growth + 0.5) end
  end
  return (at % period) / period
end
add("cyclic", "q.schedule.cyclic{period=, low=, shape=} -> schedule",
  "Repeats a rise and fall, or a cosine fall with restarts.", cyclic, function(given)
    local o = cyclic(given)
    return function(step)
      local x = phase(step, o)
      if o.shape == "restart" then return falling("cosine", x, o.low) end
      return o.low + (1 - o.low) * (1 - math.abs(2 * x - 1))
    end
  end, "Smith, WACV 2017; Loshchilov and Hutter, ICLR 2017")

local part_options = options.spec("q.schedule.sequence: a part", {{"schedule", "function", required = true}, {"steps", "integer", min = 1},
  {"factor", "number", default = 1, min = 0}})

--- {schedule, steps, factor=} with its first two by name.
local function named(part)
  local out = {}
  for key, value in pairs(part) do out[key == 1 and "schedule" or key == 2 and "steps" or key] = value end
  return out
end

--- The checked parts of a sequence: {fn=, steps=, factor=}.
local function parts_of(list)
  local parts = {}
  if type(list) ~= "table" or #list == 0 then options.fail("q.schedule.sequence: needs a list of {schedule, steps}") end
  for i, given in ipairs(list) do
    local part = part_options(type(given) == "table" and named(given) or given)
    if not part.steps and i < #list then options.fail("q.schedule.sequence: part %d needs a length; only the last may go on", i) end
    parts[i] = {fn = part.schedule, steps = part.steps or math.huge, factor = part.factor}
  end
  return parts
end
add("sequence", "q.schedule.sequence{{schedule, steps, factor=}, ...} -> schedule",
  "Schedules one after the other; each sees its own steps from 1. The last goes on.", nil,
  function(list)
    local parts = parts_of(list)
    return function(step)
      for i, part in ipairs(parts) do
        if step <= part.steps or i == #parts then return part.factor * part.fn(step) end
        step = step - part.steps
      end
    end
  end, nil, "q.schedule.sequence{{q.schedule.constant{warmup = 10}, 100}, {q.schedule.linear{steps = 50}, 50}}")

return M

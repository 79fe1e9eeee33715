--- Claims: statements of a paper as functions of the results, measured and judged.
--
-- A claim is {"C1", "text", measure = function(result, params) -> number, above = 0, source = "..."}.
-- measure may give a table {value=, low=, high=} with an interval of its own (a bootstrap), or
-- nil and a reason where the results do not allow a measurement. The region in which the
-- claim is true is above=, below=, or both.
--
-- Over n seeds the interval is Student's, 95 %: mean +- t s / sqrt(n). The claim holds if the
-- whole interval lies in the region, does not hold if the whole interval lies outside, and
-- is not decidable otherwise. One seed without an interval is judged by its value alone and says so.

local options = require "quench.options"

local claims = {ONE_SEED = "one seed, no interval"} -- the reason of a verdict by the value alone

--- 97.5 % points of Student's t for 1..30 degrees of freedom.
local t975 = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
  2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860,
  2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423}

local spec = options.spec("claim", {
  {"measure", "function", required = true, doc = "function(result, params) -> number or {value=, low=, high=}; nil, reason"},
  {"above", "number", doc = "true where the measure is above this"},
  {"below", "number", doc = "true where the measure is below this"},
  {"unit", "string", default = "", doc = "of the measure"},
  {"source", "string", doc = "where the claim is made"},
})

--- Checks a declaration {"C1", "text", ...}; raises what is wrong.
function claims.declare(claim)
  local given = {}
  for key, value in pairs(claim) do
    if type(key) == "string" then given[key] = value end
  end
  local c = spec(given)
  c.id, c.text = claim[1], claim[2]
  if type(c.id) ~= "string" or type(c.text) ~= "string" then error("a claim is {\"C1\", \"text\", measure = ...}", 0) end
  if not (c.above or c.below) then error(("claim %s: say where it is true with above= or below="):format(c.id), 0) end
  return c
end

--- Mean and 95 % interval of a list of numbers; no interval for one.
function claims.interval(values)
  local n, sum = #values, 0
  for _, v in ipairs(values) do sum = sum + v end
  local mean = sum / n
  if n < 2 then return {value = mean, n = n} end
  local squares = 0
  for _, v in ipairs(values) do squares = squares + (v - mean) ^ 2 end
  local half = (t975[n - 1] or 1.96) * math.sqrt(squares / (n - 1) / n)
  return {value = mean, low = mean - half, high = mean + half, n = n}
end

local function verdict(c, m)
  local low, high = m.low or m.value, m.high or m.value
  local above, below = c.above or -math.huge, c.below or math.huge
  if low > above and high < below then return "holds" end
  if high <= above or low >= below then return "does not hold" end
  return "not decidable"
end

local function measure_all(c, results, params)
  local values, own = {}, nil
  for i, result in ipairs(results) do
    local value, reason = c.measure(result, params)
    if type(value) == "table" then own, value = value, value.value end
    if type(value) ~= "number" or value ~= value then
      return nil, (reason or (value == nil and "nothing measured" or "not a number")) .. (#results > 1 and (" (run %d)"):format(i) or "")
    end
    values[i] = value
  end
  if #values == 1 and own then return {value = own.value, low = own.low, high = own.high, n = 1} end
  return claims.interval(values)
end

--- Judges one declared claim on the results of all seeds: {id, text, verdict, value, low, high, n, reason, region}.
function claims.judge(c, results, params)
  local m, reason = measure_all(c, results, params)
  local region = (c.above and c.below) and ("between %g and %g"):format(c.above, c.below)
    or c.above and ("above %g"):format(c.above) or ("below %g"):format(c.below)
  local out = {id = c.id, text = c.text, source = c.source, unit = c.unit, region = region}
  if not m then
    out.verdict, out.reason = "not decidable", reason
  else
    out.verdict, out.value, out.low, out.high, out.n = verdict(c, m), m.value, m.low, m.high, m.n
    if m.n == 1 and not m.low then out.reason = claims.ONE_SEED end
  end
  return out
end

--- "0.42 [0.31, 0.53], 3 seeds": what was measured, for people.
function claims.measured(j)
  if not j.value then return j.reason end
  local text = ("%.4g%s"):format(j.value, j.unit ~= "" and " " .. j.unit or "")
  if j.low then text = text .. (" [%.4g, %.4g]"):format(j.low, j.high) end
  if j.n > 1 then text = ("%s, %d seeds"):format(text, j.n) end
  return j.reason and ("%s (%s)"):format(text, j.reason) or text
end

return claims

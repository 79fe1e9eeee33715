--- fit.lua - scaling laws fitted to points, with intervals: q.fit.
--
-- Every law is fitted the same way: residuals are logs of measured over predicted, the sum of their
-- Huber function is minimised by L-BFGS with exact gradients from the best of a grid of starts. New
-- law: one function in fit/laws.lua, one entry here.

local compiled = require "quench.compiled"
local options = require "quench.options"
local help = require "quench.help"
local laws = require "quench.fit.laws"
local lbfgs = require "quench.fit.lbfgs"
local robust = require "quench.fit.robust"
local intervals = require "quench.fit.intervals"

local fit = {}

local function spec(name, delta, entries)
  local all = {
    {"huber", "number", default = delta, above = 0, doc = "residual (of logs) beyond which errors count linearly; math.huge: least squares"},
    {"starts", "integer", default = 32, min = 1, doc = "how many of the grid's best starts are followed to the end"},
    {"bootstrap", "integer", default = 0, min = 0, doc = "fits to points drawn with replacement; 0: none"},
    {"leave_one_out", "boolean", default = false, doc = "fits without each point"},
    {"profile", "boolean", default = false, doc = "profile-likelihood intervals"},
    {"level", "number", default = 0.95, above = 0, below = 1, doc = "of the intervals"},
    {"seed", "integer", default = 0, doc = "of the bootstrap"},
  }
  for i, entry in ipairs(entries or {}) do table.insert(all, i, entry) end
  return options.spec(name, all)
end

-- ---- the one way to fit -----------------------------------------------------------------

--- The grid's starts with the lowest objective.
local function best_starts(f, starts, count)
  local ranked, g = {}, {}
  for i, theta in ipairs(starts) do ranked[i] = {value = f(theta, g), theta = theta, order = i} end
  table.sort(ranked, function(a, b)
    if a.value ~= b.value then return a.value < b.value end
    return a.order < b.order
  end)
  local out = {}
  for i = 1, math.min(count, #ranked) do out[i] = ranked[i].theta end
  return out
end

local function minimise(law, o)
  local f, best, value = robust.objective(law, o.huber), nil, math.huge
  for _, start in ipairs(best_starts(f, law.starts, o.starts)) do
    local x, v = lbfgs.minimise(f, start, {rounds = 200})
    if v < value then best, value = x, v end
  end
  return lbfgs.minimise(f, best, {rounds = 3000})
end

local Fit = {}
Fit.__index = Fit

--- What the fitted law predicts for a point.
function Fit:predict(point) return self.law.predict(self.params, point) end

function Fit:__tostring()
  local lines = {("%s: %d points, objective %.6g, rms residual %.3g"):format(self.name, self.points, self.objective, self.rms)}
  for _, name in ipairs(self.law.names) do
    local text = ("  %-8s %.6g"):format(name, self.params[name])
    local b, l, p = self.bootstrap, self.leave_one_out, self.profile
    if b then text = text .. ("  +- %.2g, bootstrap %.4g .. %.4g"):format(b[name].error, b[name].low, b[name].high) end
    if l then text = text .. ("  leave-one-out %.4g .. %.4g"):format(l[name].low, l[name].high) end
    if p then
      local low, high = p[name].low, p[name].high
      text = text .. ("  profile %s .. %s"):format(low and ("%.4g"):format(low) or "open", high and ("%.4g"):format(high) or "open")
    end
    lines[#lines + 1] = text
  end
  if self.fixed and #self.fixed > 0 then lines[#lines + 1] = "  not told by these points: " .. table.concat(self.fixed, ", ") end
  return table.concat(lines, "\n")
end

local function run(name, law, o)
  local result
  compiled(function()
    local theta, value = minimise(law, o)
    result = {name = name, law = law, theta = theta, params = law.natural(theta), objective = value, points = law.n, fixed = law.fixed}
    local residuals, d, square = {}, {}, 0
    for i = 1, law.n do
      residuals[i] = law.target[i] - law.value(theta, i, d)
      square = square + residuals[i] ^ 2 / law.n
    end
    result.residuals, result.rms = residuals, math.sqrt(square)
    if o.bootstrap > 0 then result.bootstrap = intervals.bootstrap(law, o.huber, theta, o) end
    if o.leave_one_out then result.leave_one_out = intervals.leave_one_out(law, o.huber, theta) end
    if o.profile then result.profile = intervals.profile(law, o.huber, theta, o.level) end
  end)
  result.identifiability = intervals.identifiability(law, result.theta)
  return setmetatable(result, Fit)
end

local function declare(name, make, delta, entries)
  local full = "q.fit." .. name
  local s = spec(full, delta, entries)
  fit[name] = function(points, o)
    o = s(o)
    return run(full, make(full, points, o), o)
  end
  return s
end

local specs = {
  chinchilla = declare("chinchilla", laws.chinchilla, 1e-3, {
    {"grid", "table", doc = "{a=, alpha=, b=, beta=, e=}: lists of starts, for log A, alpha, log B, beta, log E"}}),
  efficiency = declare("efficiency", laws.efficiency, 1e-3, {
    {"reference", "any", default = 16, doc = "the precision whose efficiency is 1"},
    {"data", "boolean", default = false, doc = "fit B/D^beta as well (points need D)"}}),
  kumar = declare("kumar", laws.kumar, 0.1),
  ouyang = declare("ouyang", laws.ouyang, 0.1),
  rate = declare("rate", laws.rate, 0.1, {
    {"floor", "number", default = 0.05, above = 0, doc = "what a rate of 0 counts as, in parts of the peak"}}),
  power = declare("power", laws.power, 0.1),
  offset_power = declare("offset_power", laws.offset_power, 1e-3),
}

-- ---- Kumar's law with its constants ------------------------------------------------------

--- The constants of Kumar et al. 2024 (arXiv 2411.04330): N, D in units, P in bits.
fit.kumar_constants = {A = 4299, alpha = 0.4965, B = 18060, beta = 0.4965, E = 2.7648, C = 0.0598, gD = 0.5068, gN = 0.3439, g = 0.5907}

--- The loss that rounding N weights after D tokens to P bits adds.
function fit.kumar_delta(N, D, P, c)
  c = c or fit.kumar_constants
  return c.C * D ^ c.gD / N ^ c.gN * math.exp(-P / c.g)
end

--- The tokens beyond which more training makes the quantized model worse.
function fit.kumar_critical(N, P, c)
  c = c or fit.kumar_constants
  return (c.beta * c.B * N ^ c.gN * math.exp(P / c.g) / (c.gD * c.C)) ^ (1 / (c.gD + c.beta))
end

--- A power law's inverse of efficiency: N and D for the least loss at a compute budget of 6 N D (Hoffmann et al. 2022, eq. 4).
function fit.chinchilla_optimum(p, compute)
  local a, b = p.beta / (p.alpha + p.beta), p.alpha / (p.alpha + p.beta)
  local g = (p.alpha * p.A / (p.beta * p.B)) ^ (1 / (p.alpha + p.beta))
  return g * (compute / 6) ^ a, (compute / 6) ^ b / g
end

-- ---- help -----------------------------------------------------------------------------------

local RESULT = [[
Result: params (by name), objective, residuals (logs), rms, predict(point), identifiability (condition number and correlations);
with bootstrap =, leave_one_out = or profile =: a table of that name, parameter -> {low=, high=, error=}.
Parameters that the points cannot tell are listed in fixed.]]

local function add(name, signature, doc, more)
  local record = {"q.fit." .. name, fit[name], "q.fit." .. signature, doc, options = specs[name]}
  for key, value in pairs(more) do record[key] = value end
  help.add(record)
end

add("chinchilla", "chinchilla(points, options) -> fit", "L = A/N^alpha + B/D^beta + E from points {N=, D=, L=}.", {
  text = RESULT, source = "Hoffmann et al. 2022, appendix D.2 (log-sum-exp, Huber 1e-3); Besiroglu et al. 2024",
  example = "print(q.fit.chinchilla(points, {bootstrap = 200}))", see = {"q.fit.efficiency", "q.fit.chinchilla_optimum"}})
add("efficiency", "efficiency(points, options) -> fit",
  "L = A/(N rho)^alpha + E from points {N=, precision=, L=}: how much of N a precision keeps.", {
  text = "params.rho_4 is the efficiency of precision = 4. With data = true, + B/D^beta.\n" .. RESULT,
  source = "Kumar et al. 2024; Panferov et al. 2025 (QuEST); Vlassis et al. 2025, section 5",
  example = "print(q.fit.efficiency(points, {leave_one_out = true, profile = true}))"})
add("kumar", "kumar(points, options) -> fit", "delta = C D^gD / N^gN exp(-P/g) from points {N=, D=, P=, delta=}.", {
  text = RESULT, source = "Kumar et al. 2024, arXiv 2411.04330", see = {"q.fit.kumar_delta", "q.fit.ouyang", "q.fit.rate"}})
add("ouyang", "ouyang(points, options) -> fit", "delta = k D^b / (N^a P^g) from points {N=, D=, P=, delta=}.", {
  text = RESULT, source = "Ouyang et al. 2024, arXiv 2411.17691", see = {"q.fit.kumar", "q.fit.rate"}})
add("rate", "rate(points, options) -> fit",
  "ln error = c0 + gN ln N + gB bits + g_lr ln(lr_now/lr_peak + floor) + g_pk ln lr_peak + gD ln D: is it tokens or rate?", {
  text = "points {N=, D=, bits=, lr_now=, lr_peak=, error=}. If training dynamics decide, gD is near 0 once the rate is in.\n" .. RESULT,
  source = "this project; the claim is Catalan-Tatjer et al. 2025's", see = {"q.fit.kumar"}})
add("power", "power(points, options) -> fit", "y = c x^p from points {x=, y=}.", {text = RESULT, see = {"q.fit.offset_power"}})
add("offset_power", "offset_power(points, options) -> fit", "y = c x^p + e from points {x=, y=}.", {text = RESULT, see = {"q.fit.power"}})
help.add{"q.fit.kumar_delta", fit.kumar_delta, "q.fit.kumar_delta(N, D, P, constants = the paper's) -> nats",
  "What rounding to P bits adds to the loss.",
  source = "Kumar et al. 2024", see = {"q.fit.kumar_critical"}}
help.add{"q.fit.kumar_critical", fit.kumar_critical, "q.fit.kumar_critical(N, P, constants = the paper's) -> tokens",
  "Tokens beyond which more training makes the quantized model worse, by Kumar's law.", source = "Kumar et al. 2024"}
help.add{"q.fit.chinchilla_optimum", fit.chinchilla_optimum, "q.fit.chinchilla_optimum(params, compute) -> N, D",
  "The best N and D for a compute of 6 N D.",
  source = "Hoffmann et al. 2022, equation 4", see = {"q.fit.chinchilla"}}

return fit

-- Recipes of "Training Dynamics": with the paper's own numbers as results every claim holds, with the opposite none does.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local claims = require "quench.recipe.claims"

--- The verdicts on a result, in the order of the claims.
local function verdicts(name, result)
  local list = {}
  for i, claim in ipairs(q.recipe.load(name).claims) do
    local j = claims.judge(claim, {result}, {seed = 1})
    list[i] = claim.id .. ": " .. j.verdict
  end
  return list
end

--- All claims of a recipe hold on one result and fail on another, but for those named in `same`.
local function check(t, name, paper, opposite, same)
  for _, v in ipairs(verdicts(name, paper)) do t.ok(v:find ": holds$", name .. ", the paper's numbers, " .. v) end
  for _, v in ipairs(verdicts(name, opposite)) do
    if not (same or {})[v:match "^[^:]+"] then t.ok(v:find ": does not hold$", name .. ", the opposite, " .. v) end
  end
end

--- A measured point from losses in nats, as the paper's tables give them.
local function nats(loss, three, four, more)
  local point = {loss = loss, gptq3 = three / loss - 1, gptq4 = (four or loss * 1.009) / loss - 1}
  for key, value in pairs(more or {}) do point[key] = value end
  return point
end

tap.test("peak_rate: table T4", function(t)
  local function rates(...)
    local list = {}
    for i, r in ipairs{...} do list[i] = {lr = i, points = {r}} end
    return {rates = list}
  end
  check(t, "peak_rate", rates(nats(3.428, 3.767, 3.492), nats(3.405, 3.662, 3.455), nats(3.406, 3.603, 3.442), nats(3.460, 3.611, 3.491)),
    rates(nats(3.46, 3.5, 3.47), nats(3.405, 3.603, 3.442), nats(3.43, 3.7, 3.49), nats(3.46, 3.8, 3.5)))
end)

tap.test("averaging: table T5", function(t)
  local function result(lawa, soup)
    return {lawa = {lawa}, stable = {nats(3.647, 3.753)}, soup = soup, ingredients = {nats(2.53, 2.556), nats(2.53, 2.561)},
      cooldowns = {{points = {nats(3.432, 3.614)}}, {points = {nats(3.405, 3.606)}}}}
  end
  check(t, "averaging", result(nats(3.491, 3.560), nats(2.526, 2.5545)), result(nats(3.64, 3.80), nats(2.53, 2.56)),
    {["C4, full precision"] = true})
end)

tap.test("schedules: exponents of the two papers", function(t)
  local function ends(exponent)
    local list = {}
    for i = 1, 4 do
      local e = 0.01 * (2 ^ i) ^ exponent
      list[i] = {points = {{step = 2 ^ i, gptq3 = 5 * e, gptq4 = e}}}
    end
    return list
  end
  check(t, "schedules", {cosine = ends(0.51), cooldowns = ends(0.05)}, {cosine = ends(0.05), cooldowns = ends(0.05)})
  t.ok(verdicts("schedules", {cosine = ends(0 / 0), cooldowns = ends(0)})[3]:find "not decidable", "no exponent without positive errors")
end)

tap.test("weight_decay", function(t)
  local function decays(...)
    local list = {}
    for i, three in ipairs{...} do list[i] = {decay = i, points = {nats(3.40 + 0.01 * i, three, three - 0.1)}} end
    return {decays = list}
  end
  check(t, "weight_decay", decays(3.7, 3.68, 3.66), decays(3.6, 3.63, 3.68), {["C5, equal loss"] = true})
end)

tap.test("methods: the jump of table T3", function(t)
  local function result(factor)
    local first, last = {}, {}
    for _, name in ipairs{"awq4", "int8", "rtn4", "hqq4", "nvfp4", "awq3", "rtn3", "hqq3"} do first[name], last[name] = 5.4e-3, 5.4e-3 * factor end
    return {points = {first, last}}
  end
  check(t, "methods", result(9.4 / 5.4), result(1.1))
end)

tap.test("adamc", function(t)
  local function run(gradient, weights, error)
    return {from = 1, points = {{step = 1, grad_norm = 0.3},
      {step = 2, grad_norm = gradient, weight_norm = weights, gptq4 = error, gptq3 = 3 * error}}}
  end
  check(t, "adamc", {adamw = run(0.5, 10, 0.01), adamc = run(0.32, 12, 0.0102)}, {adamw = run(0.29, 10, 0.01), adamc = run(0.32, 9, 0.02)},
    {["C6, AdamC"] = true})
  t.ok(verdicts("adamc", {adamw = run(0.5, 10, 0.01), adamc = run(0.5, 9, 0.02)})[2]:find "does not hold", "the rise stays")
  t.ok(verdicts("adamc", {adamw = run(0.2, 10, 0.01), adamc = run(0.1, 9, 0.02)})[2]:find "not decidable", "no rise to remove")
end)

tap.test("planes", function(t)
  --- A plane with the earlier checkpoint `near` away and a rise of `rise` nats to the quantized model, 5 away.
  local function rate(near, rise)
    local s = {points = {{x = 0, y = 0, loss = 2}, {x = near, y = 0, loss = 2}, {x = 3, y = 4, loss = 2 + rise}}}
    return {gptq4 = s, gptq3 = s}
  end
  check(t, "planes", {rates = {rate(1, 0.3), rate(2, 0.1)}}, {rates = {rate(2, 0.1), rate(1, 0.3)}})
end)

tap.test("cooldown_length", function(t)
  local short, long = nats(3.41, 3.62), nats(3.40, 3.55, 3.42)
  check(t, "cooldown_length", {points = {short, long}}, {points = {long, short}})
end)

tap.test("averaging_sweep", function(t)
  local function result(slope, ema, ratio)
    local list = {}
    for i = 1, 4 do
      list[i] = {kind = "lawa", spacing = 72, window = 2 ^ i, sharpness = 10 * 2 ^ -i, gptq3 = 0.03 * 2 ^ (slope * i), ratio = ratio}
      list[4 + i] = {kind = "ema", spacing = 72, window = 2 ^ i, sharpness = 10 * 2 ^ -i, gptq3 = 0.03 * 2 ^ (slope * i) * ema, ratio = 1}
    end
    return {averages = list, last = {sharpness = 10, gptq3 = 0.03}}
  end
  check(t, "averaging_sweep", result(-0.5, 1.01, 1.1), result(0.5, 1.3, 3))
end)

tap.test("laws: exponents of the papers", function(t)
  local function known(value) return {value = value, low = value - 0.01, high = value + 0.01} end
  --- Two laws whose errors on four unseen runs are `rate` and `data`.
  local function result(rate, data, rms, gD, g_lr, g_pk, kumar_D, kumar_N)
    local function law(error, params)
      local squares = {}
      for i = 1, 4 do squares[i] = {error ^ 2 * i, i} end
      return {rms = error, squares = squares, params = params}
    end
    return {loss = {rms = rms}, rounding = {params = {gD = known(kumar_D), gN = known(kumar_N)}},
      rate = law(rate, {gD = known(gD), g_lr = known(g_lr), g_pk = known(g_pk)}), data = law(data)}
  end
  local paper, opposite = result(0.1, 0.3, 0.005, 0.05, -0.18, -0.22, 0.51, 0.34), result(0.3, 0.29, 0.05, 0.51, 0, 0.1, 0, 0)
  check(t, "laws", paper, opposite)
  paper.rate.params.g_pk = nil
  t.ok(verdicts("laws", paper)[4]:find "not decidable", "no exponent where the points do not tell it")
end)

tap.test("trajectory: table T1", function(t)
  local function point(rate, loss, three, four)
    return {rate = rate, loss = loss, bits = {["3"] = {loss = loss * (1 + three), error = three}, ["4"] = {loss = loss * (1 + four), error = four}}}
  end
  check(t, "trajectory",
    {points = {point(2e-4, 2.799, 0.0424, 0.0083), point(2e-4, 2.723, 0.0473, 0.0095), point(0, 2.614, 0.091, 0.0181)}},
    {points = {point(2e-4, 2.799, 0.0424, 0.0083), point(2e-4, 2.723, 0.0673, 0.0115), point(0, 2.614, 0.066, 0.0119)}})
  t.ok(verdicts("trajectory", {points = {point(nil, 2.8, 0.04, 0.01), point(nil, 2.6, 0.09, 0.02)}})[1]:find "not decidable", "without rates")
end)

tap.done()

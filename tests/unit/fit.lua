-- Scaling laws: planted parameters come back, gradients are exact, intervals are what theory says.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local lbfgs = require "quench.fit.lbfgs"
local robust = require "quench.fit.robust"
local laws = require "quench.fit.laws"
local fit = q.fit

local stream = q.stream(11, "fit test")

--- Largest relative error of the parameters against the planted ones.
local function worst(params, planted)
  local w = 0
  for name, v in pairs(planted) do w = math.max(w, math.abs(params[name] / v - 1)) end
  return w
end

--- N by D points with a field computed by f.
local function plane(field, f, more)
  local points = {}
  for i = 0, 4 do
    for j = 0, 4 do
      for _, extra in ipairs(more or {{}}) do
        local p = {N = 10 ^ (7 + 0.5 * i), D = 10 ^ (9 + 0.5 * j)}
        for key, v in pairs(extra) do p[key] = v end
        p[field] = f(p)
        points[#points + 1] = p
      end
    end
  end
  return points
end

tap.test("L-BFGS", function(t)
  local function rosenbrock(x, g)
    local value = 0
    for i = 1, #x do g[i] = 0 end
    for i = 1, #x - 1 do
      local a, b = x[i + 1] - x[i] ^ 2, 1 - x[i]
      value = value + 100 * a * a + b * b
      g[i] = g[i] - 400 * a * x[i] - 2 * b
      g[i + 1] = g[i + 1] + 200 * a
    end
    return value
  end
  local x, value, rounds = lbfgs.minimise(rosenbrock, {-1.2, 1, -1, 2, 0.5})
  t.near(x, {1, 1, 1, 1, 1}, 1e-8, "Rosenbrock's valley in five dimensions")
  t.ok(value < 1e-15 and rounds < 100, "in few rounds", rounds)
  local y = lbfgs.minimise(function(z, g)
    g[1], g[2] = 2e6 * (z[1] - 3), 2e-2 * (z[2] + 4)
    return 1e6 * (z[1] - 3) ^ 2 + 1e-2 * (z[2] + 4) ^ 2
  end, {0, 0})
  t.near(y, {3, -4}, 1e-6, "a parabola 10^8 times steeper one way")
  t.near(lbfgs.minimise(function(z, g) g[1] = z[1] > 0 and 1 or -1 return math.abs(z[1]) end, {5})[1], 0, 1e-6, "a kink")
  local start = {1, 2}
  lbfgs.minimise(function(z, g) g[1], g[2] = z[1], z[2] return 0.5 * (z[1] ^ 2 + z[2] ^ 2) end, start)
  t.near(start, {1, 2}, 0, "the start is not touched")
end)

tap.test("Huber's function and its likelihood", function(t)
  t.near({robust.erf(0.5), robust.erf(1), robust.erf(2.9), robust.erf(3.1), robust.erf(8)},
    {0.5204998778130465, 0.8427007929497149, 0.9999589021219005, 0.9999883513426328, 1}, 1e-14, "error function")
  -- least squares: -2 log likelihood at the best variance is n (log(2 pi F2/n) + 1), F2 = 2 F the sum of squares
  t.near(robust.deviance(0.03, 20, math.huge), 20 * (math.log(2 * math.pi * 0.06 / 20) + 1), 1e-9, "normal limit")
  t.near(robust.deviance(0.03, 20, 1), 20 * (math.log(2 * math.pi * 0.06 / 20) + 1), 1e-9, "a delta that no residual reaches")
  -- delta far below: Laplace with mean |r| = b, -2 log likelihood is 2 n (log(2 b) + 1)
  local b, delta = 0.5, 1e-7
  t.near(robust.deviance(20 * delta * b, 20, delta), 40 * (math.log(2 * b) + 1), 1e-4, "Laplace limit")
end)

tap.test("gradients of the laws are exact", function(t)
  local points = plane("L", function(p) return 400 / p.N ^ 0.34 + 410 / p.D ^ 0.28 + 1.7 end, {{precision = 16}, {precision = 4}, {precision = 3}})
  for i, p in ipairs(points) do
    p.delta, p.P, p.error, p.bits, p.lr_peak, p.lr_now = p.L, p.precision, p.L, p.precision, 1e-3 * i, 1e-4
    p.x, p.y = p.N, p.L
  end
  for _, case in ipairs{{"chinchilla"}, {"efficiency", {reference = 16}}, {"efficiency", {reference = 16, data = true}}, {"kumar"}, {"ouyang"},
    {"rate", {floor = 0.05}}, {"power"}, {"offset_power"}} do
    local law = laws[case[1]]("test", points, case[2])
    local theta, d, scratch, gap = {}, {}, {}, 0
    for k = 1, law.dimension do theta[k] = 0.1 * k + stream:uniform() end
    for i = 1, #points, 7 do
      law.value(theta, i, d)
      for k = 1, law.dimension do
        local h, at = 1e-5, theta[k]
        theta[k] = at + h
        local up = law.value(theta, i, scratch)
        theta[k] = at - h
        local down = law.value(theta, i, scratch)
        theta[k] = at
        gap = math.max(gap, math.abs((up - down) / (2 * h) - d[k]))
      end
    end
    t.ok(gap < 1e-8, case[1], gap)
    -- what profiles hold on to: the k-th natural parameter depends on theta[k] + mix alone
    local mixed = 0
    for k, mix in pairs(law.mix) do
      for j, c in pairs(mix) do
        local before = law.natural(theta)[law.names[k]]
        local other = {unpack(theta)}
        other[j], other[k] = other[j] + 0.01, other[k] - c * 0.01
        mixed = math.max(mixed, math.abs(law.natural(other)[law.names[k]] / before - 1))
      end
    end
    t.ok(mixed < 1e-9, case[1] .. ": mixed parameters", mixed)
  end
end)

tap.test("Chinchilla", function(t)
  local planted = {A = 406.4, alpha = 0.34, B = 410.7, beta = 0.28, E = 1.69}
  local points = plane("L", function(p) return planted.A / p.N ^ planted.alpha + planted.B / p.D ^ planted.beta + planted.E end)
  local f = fit.chinchilla(points)
  t.ok(worst(f.params, planted) < 1e-9, "planted parameters come back from noiseless data", worst(f.params, planted))
  t.near(f:predict{N = 3e8, D = 7e9}, planted.A / 3e8 ^ 0.34 + planted.B / 7e9 ^ 0.28 + planted.E, 1e-10, "predict")
  t.ok(f.identifiability.condition > 1 and f.identifiability.correlations.A.alpha < 1, "identifiability")
  -- points far off do not matter
  for _, i in ipairs{3, 17} do points[i].L = points[i].L * 1.5 end
  local robustly, plainly = worst(fit.chinchilla(points).params, planted), worst(fit.chinchilla(points, {huber = math.huge}).params, planted)
  t.ok(robustly < 0.05 and plainly > 10 * robustly, "two wild points in 25 move it little, and least squares much", robustly .. " " .. plainly)
  local N, D = fit.chinchilla_optimum(planted, 1e21)
  t.near(6 * N * D / 1e21, 1, 1e-12, "the optimum spends the budget")
  local function loss(n) return planted.A / n ^ planted.alpha + planted.B / (1e21 / 6 / n) ^ planted.beta end
  t.ok(loss(N) < loss(N * 1.01) and loss(N) < loss(N * 0.99), "and is one")
end)

tap.test("Chinchilla with noise: intervals", function(t)
  local planted = {A = 406.4, alpha = 0.34, B = 410.7, beta = 0.28, E = 1.69}
  local points = plane("L", function(p)
    return (planted.A / p.N ^ planted.alpha + planted.B / p.D ^ planted.beta + planted.E) * math.exp(0.002 * stream:normal())
  end, {{}, {}, {}})
  local f = fit.chinchilla(points, {bootstrap = 60, leave_one_out = true, profile = true, level = 0.99})
  for name, v in pairs(planted) do
    local b, l, p = f.bootstrap[name], f.leave_one_out[name], f.profile[name]
    t.ok(b.low < v and v < b.high, name .. " inside its bootstrap interval", ("%g .. %g"):format(b.low, b.high))
    t.ok(p.low and p.high and p.low < v and v < p.high, name .. " inside its profile interval", ("%s .. %s"):format(p.low, p.high))
    t.ok(l.low <= f.params[name] and f.params[name] <= l.high and l.point >= 1, name .. ": leave-one-out")
    t.ok(b.error / l.error > 0.5 and b.error / l.error < 2, name .. ": bootstrap and jackknife agree on the error",
      ("%g, %g"):format(b.error, l.error))
  end
  t.equal(fit.chinchilla(points, {bootstrap = 3}).bootstrap.A.low, fit.chinchilla(points, {bootstrap = 3}).bootstrap.A.low, "seeds repeat")
end)

tap.test("profiles of a straight line are the exact ones", function(t)
  local points, n = {}, 30
  local sx, sxx = 0, 0
  for i = 1, n do
    local u = 0.1 * i
    points[i] = {x = math.exp(u), y = math.exp(1 + 0.5 * u + 0.05 * stream:normal())}
    sx, sxx = sx + u / n, sxx + u * u
  end
  sxx = sxx - n * sx * sx
  local f = fit.power(points, {huber = math.huge, profile = true})
  -- F rises by dp^2 Sxx / 2; n log(F/Fmin) = 3.841459 at the edge
  local half = math.sqrt(2 * f.objective * (math.exp(3.841458820694124 / n) - 1) / sxx)
  t.near({f.profile.p.low, f.profile.p.high}, {f.params.p - half, f.params.p + half}, 1e-5, "slope")
  -- for log c: variance of the intercept, 1/n + mean(u)^2/Sxx
  local wide = half * math.sqrt(sxx * (1 / n + sx * sx / sxx))
  t.near({math.log(f.profile.c.low), math.log(f.profile.c.high)}, {math.log(f.params.c) - wide, math.log(f.params.c) + wide}, 1e-5, "intercept")
end)

tap.test("efficiency", function(t)
  local rho = {[16] = 1, [4] = 0.863, [3] = 0.41}
  local more = {{precision = 16}, {precision = 4}, {precision = 3}}
  local points = {}
  for _, p in ipairs(plane("L", function(p) return 30 / (p.N * rho[p.precision]) ^ 0.3 + 1.7 end, more)) do points[#points + 1] = p end
  local f = fit.efficiency(points, {profile = true, leave_one_out = true})
  t.ok(worst(f.params, {A = 30, alpha = 0.3, E = 1.7, rho_4 = 0.863, rho_3 = 0.41}) < 1e-9, "planted efficiencies", tostring(f))
  t.near(f:predict{N = 1e8, precision = 4}, 30 / (0.863e8) ^ 0.3 + 1.7, 1e-10, "predict")
  local both = fit.efficiency(plane("L", function(p) return 30 / (p.N * rho[p.precision]) ^ 0.3 + 90 / p.D ^ 0.25 + 1.7 end, more), {data = true})
  t.ok(worst(both.params, {A = 30, alpha = 0.3, B = 90, beta = 0.25, E = 1.7, rho_4 = 0.863, rho_3 = 0.41}) < 1e-8, "with data", tostring(both))
  -- few sizes: alpha and E are poorly known, rho is not
  local few = {}
  for _, N in ipairs{5e7, 1.25e8, 3.5e8, 7.6e8} do
    for _, b in ipairs{16, 4} do
      few[#few + 1] = {N = N, precision = b, L = (30 / (N * rho[b]) ^ 0.3 + 1.7) * math.exp(0.001 * stream:normal())}
    end
  end
  local g = fit.efficiency(few, {profile = true, huber = math.huge})
  local function width(name) return math.log(g.profile[name].high / g.profile[name].low) end
  t.ok(width "rho_4" < 0.3 and width "rho_4" < width "A" / 5, "rho is known far better than A", tostring(g))
  t.fails(function() fit.efficiency({{N = 1, L = 1, precision = 4}, {N = 2, L = 1, precision = 4}, {N = 1, L = 1, precision = 3},
    {N = 1, L = 1, precision = 3}}) end, "no point has the reference precision 16", "no reference")
end)

tap.test("Kumar's law", function(t)
  local planted = {C = 0.0598, gD = 0.5068, gN = 0.3439, g = 0.5907}
  local points = plane("delta", function(p) return fit.kumar_delta(p.N, p.D, p.P) end, {{P = 3}, {P = 4}, {P = 5}})
  local f = fit.kumar(points)
  t.ok(worst(f.params, planted) < 1e-9, "planted parameters", tostring(f))
  t.near(f:predict{N = 1e8, D = 1e10, P = 4}, fit.kumar_delta(1e8, 1e10, 4), 1e-12, "predict")
  t.near({fit.kumar_delta(1.1e8, 2.6e10, 4), fit.kumar_delta(1.1e8, 2.6e10, 3), fit.kumar_delta(8.5e7, 1e11, 4)}, {0.02232, 0.1213, 0.0483}, 5e-5,
    "the values worked out by hand")
  t.ok(math.abs(fit.kumar_critical(1.1e8, 3) / 26e9 - 1) < 0.02 and math.abs(fit.kumar_critical(1.1e8, 4) / 138e9 - 1) < 0.02, "critical tokens",
    ("%g, %g"):format(fit.kumar_critical(1.1e8, 3), fit.kumar_critical(1.1e8, 4)))
  local c, D = fit.kumar_constants, fit.kumar_critical(1.1e8, 3)
  local function loss(d) return c.B / d ^ c.beta + fit.kumar_delta(1.1e8, d, 3) end
  t.ok(loss(D) < loss(D * 1.01) and loss(D) < loss(D / 1.01), "where the loss is least")
end)

tap.test("Ouyang's law, power laws", function(t)
  local points = plane("delta", function(p) return 0.017 * p.D ^ 0.5251 / (p.N ^ 0.2261 * p.P ^ 5.4967) end, {{P = 2}, {P = 3}, {P = 4}})
  t.ok(worst(fit.ouyang(points).params, {k = 0.017, b = 0.5251, a = 0.2261, g = 5.4967}) < 1e-9, "Ouyang")
  local p = {}
  for i = 1, 12 do p[i] = {x = i, y = 3 * i ^ -0.7} end
  t.ok(worst(fit.power(p).params, {c = 3, p = -0.7}) < 1e-10, "a power")
  for i = 1, 12 do p[i].y = 3 * i ^ -0.7 + 0.4 end
  t.ok(worst(fit.offset_power(p).params, {c = 3, p = -0.7, e = 0.4}) < 1e-9, "a falling power above an offset")
  for i = 1, 12 do p[i].y = 0.01 * i ^ 1.5 + 0.4 end
  t.ok(worst(fit.offset_power(p).params, {c = 0.01, p = 1.5, e = 0.4}) < 1e-9, "a rising one")
end)

tap.test("the law with the learning rate", function(t)
  local points = {}
  for i = 1, 60 do
    local p = {N = 10 ^ (7 + 2 * stream:uniform()), D = 10 ^ (9 + 2 * stream:uniform()), bits = 2 + i % 3, lr_peak = 10 ^ (-4 + 2 * stream:uniform())}
    p.lr_now = p.lr_peak * (i % 4) / 3
    p.error = math.exp(1.5 - 0.2 * math.log(p.N) - 1.1 * p.bits - 0.35 * math.log(p.lr_now / p.lr_peak + 0.05) - 0.25 * math.log(p.lr_peak) +
      0.02 * math.log(p.D))
    points[i] = p
  end
  local planted = {c0 = 1.5, gN = -0.2, gB = -1.1, g_lr = -0.35, g_pk = -0.25, gD = 0.02}
  local f = fit.rate(points)
  t.ok(worst(f.params, planted) < 1e-9, "planted parameters", tostring(f))
  t.near(f:predict(points[7]), points[7].error, 1e-10, "predict")
  for _, p in ipairs(points) do p.N = 1e8 end
  t.equal(table.concat(fit.rate(points).fixed, " "), "gN", "one model size: gN cannot be told, and it says so")
end)

--- Exact loss, over a language of order 1, of the frequencies in n tokens (Krichevsky-Trofimov, half a count for each follower).
local function counted_loss(language, n, source)
  local V, b = language.options.vocab, language.options.branching
  local ids, counts, loss = language:generate(n + 1, source):totable(), {}, 0
  for i = 1, n do counts[ids[i] * V + ids[i + 1]] = (counts[ids[i] * V + ids[i + 1]] or 0) + 1 end
  for s = 0, V - 1 do
    local of, total = {}, 0
    for c = 0, b - 1 do
      of[c] = (counts[s * V + language.follow[s * b + c]] or 0) + 0.5
      total = total + of[c]
    end
    for c = 0, b - 1 do loss = loss - language.pi[s] * language.p[s * b + c] * math.log(of[c] / total) end
  end
  return loss
end

local data = q.data.language{vocab = 16, order = 1, branching = 8, strength = 0.7, seed = 3, train = 64, validation = 64}

tap.test("the entropy of the synthetic language", function(t)
  -- maximum likelihood with k free numbers costs k / (2 D) nats over the entropy: here k = V (b - 1)
  local points = {}
  for i = 1, 32 do
    local n = math.floor(2000 * 2 ^ ((i - 1) % 8 / 1.75))
    points[i] = {x = n, y = counted_loss(data, n, q.stream(i, "language text"))}
  end
  local f = fit.offset_power(points, {profile = true, huber = math.huge, level = 0.99})
  local e, p, c = f.profile.e, f.profile.p, f.profile.c
  t.ok(e.low < data:entropy() and data:entropy() < e.high and e.high - e.low < 0.01 * data:entropy(),
    "the fitted floor is the entropy, within 1 % ", tostring(f) .. "\nentropy " .. data:entropy())
  t.ok(p.low < -1 and -1 < p.high, "the excess falls as 1/D", tostring(f))
  t.ok(c.low < 56 and 56 < c.high, "from V (b - 1) / 2 = 56", tostring(f))
end)

tap.test("bad points", function(t)
  t.fails(function() fit.chinchilla({}) end, "at least 6 points", "none")
  t.fails(function() fit.chinchilla{{N = 1}, {}, {}, {}, {}, {}} end, "point 2 needs a positive N, got nil", "a missing field")
  t.fails(function() fit.power{{x = 1, y = 2}, {x = -1, y = 2}} end, "point 2 needs a positive x, got %-1", "a negative one")
  t.fails(function() fit.power({{x = 1, y = 2}, {x = 2, y = 2}}, {hubber = 1}) end, "did you mean 'huber'", "a misspelt option")
  t.fails(function() fit.rate{{N = 1, D = 1, bits = 4, lr_peak = 1, error = 1}, {N = 1, D = 1, bits = 4, lr_peak = 1, error = 1}} end,
    "point 1 needs lr_now", "no rate")
end)

tap.done()

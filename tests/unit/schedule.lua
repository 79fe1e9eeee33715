-- Schedules: values at the corners, monotony, and one clear error for what makes no sense.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local s = q.schedule

tap.test("wsd", function(t)
  local f = s.wsd{steps = 1000, warmup = 10, decay = 200}
  t.near({f(1), f(5), f(10), f(11), f(800), f(900), f(999), f(1000), f(2000)}, {0.1, 0.5, 1, 1, 1, 0.5, 1 / 200, 0, 0}, 1e-12, "corners")
  local share = s.wsd{steps = 1000, warmup = 0.01, decay = 0.2}
  for _, step in ipairs{1, 7, 10, 500, 801, 950, 1000} do t.equal(share(step), f(step), "shares give the same at " .. step) end
  -- the paper's rule, training-dynamics.md 1.4: lr = max + (end - max)(t - t0) / c
  local paper = s.wsd{steps = 190000, warmup = 1900, decay = 18000, floor = 0.1}
  t.near(paper(172000 + 9000), 1 + (0.1 - 1) * 9000 / 18000, 1e-12, "cooldown to 10 % of the peak")
  t.near(s.wsd{steps = 100, warmup = 0, decay = 0}(100), 1, 0, "no decay at all")
  t.near(s.wsd{steps = 100, warmup = 10, decay = 0, warmup_start = 0.5}(5), 0.75, 1e-12, "warmup from a start")
end)

tap.test("shapes of the cooldown", function(t)
  local at = {linear = 0.75, sqrt = 0.5, cosine = (1 + math.cos(math.pi / 4)) / 2}
  for shape, value in pairs(at) do
    local f = s.wsd{steps = 100, warmup = 0, decay = 100, shape = shape}
    t.near(f(25), value, 1e-12, shape .. " at a quarter")
    t.near(f(100), 0, 1e-12, shape .. " ends at 0")
  end
  local f = s.wsd{steps = 100, warmup = 0, decay = 100, shape = "exponential", floor = 0.01}
  t.near({f(50), f(100)}, {0.1, 0.01}, 1e-12, "exponential falls by equal factors")
  for _, shape in ipairs{"linear", "sqrt", "cosine"} do
    f = s.wsd{steps = 50, warmup = 5, decay = 20, shape = shape, floor = 0.05}
    local falling = true
    for step = 31, 50 do falling = falling and f(step) < f(step - 1) end
    t.ok(falling, shape .. " falls all the way")
  end
end)

tap.test("other schedules", function(t)
  local c = s.cosine{steps = 110, warmup = 10, floor = 0.1}
  t.near({c(5), c(10), c(60), c(110), c(500)}, {0.5, 1, 0.55, 0.1, 0.1}, 1e-12, "cosine with a floor")
  local l = s.linear{steps = 100}
  t.near({l(1), l(50), l(100)}, {0.99, 0.5, 0}, 1e-12, "linear")
  t.near({s.constant{}(1), s.constant{warmup = 4}(1), s.constant{factor = 0.5}(9)}, {1, 0.25, 0.5}, 0, "constant")
  local i = s.inverse_sqrt{warmup = 100}
  t.near({i(50), i(100), i(400)}, {0.5, 1, 0.5}, 1e-12, "inverse square root")
  local z = s.trapezoidal{steps = 1000}
  t.near({z(25), z(50), z(800), z(900), z(1000)}, {0.001 + 0.999 * 0.5, 1, 1, 0.5, 0}, 1e-12, "trapezoidal: 5 % up from 0.001, 20 % down")
  local tri = s.cyclic{period = 10, low = 0.2}
  t.near({tri(1), tri(6), tri(11), tri(16)}, {0.2, 1, 0.2, 1}, 1e-12, "triangles")
  local r = s.cyclic{period = 10, low = 0, shape = "restart", growth = 2}
  t.near({r(1), r(6), r(11), r(21), r(31)}, {1, 0.5, 1, 0.5, 1}, 1e-12, "warm restarts, each twice as long")
  local seq = s.sequence{{s.constant{warmup = 2}, 10}, {s.linear{steps = 10}, 10, factor = 0.5}, {function() return 7 end}}
  t.near({seq(1), seq(10), seq(11), seq(20), seq(21), seq(99)}, {0.5, 1, 0.45, 0, 7, 7}, 1e-12, "a sequence, with a function at the end")
end)

tap.test("errors", function(t)
  t.fails(function() s.wsd{steps = 10, warmup = 8, decay = 5} end, "longer than the 10 steps", "no room")
  t.fails(function() s.wsd{steps = 10, warmup = 1.5} end, "whole number of steps or a share", "neither steps nor share")
  t.fails(function() s.wsd{steps = 10, shape = "cosin"} end, "did you mean 'cosine'", "a near name")
  t.fails(function() s.wsd{steps = 10, shape = "exponential"} end, "floor above 0", "exponential to 0")
  t.fails(function() s.cosine{} end, "steps is required", "no length")
  t.fails(function() s.sequence{{s.constant{}}, {s.constant{}}} end, "part 1 needs a length", "an endless part in the middle")
  t.fails(function() s.sequence{{3, 4}} end, "schedule must be function, got 3", "not a function")
  t.fails(function() s.sequence{{s.constant{}, 2.5}} end, "steps must be integer, got 2.5", "part of a step")
  t.fails(function() s.sequence{{s.constant{}, 3, facter = 2}} end, "did you mean 'factor'", "a near name in a part")
  t.fails(function() s.sequence{} end, "needs a list", "an empty sequence")
  t.fails(function() s.cosine{steps = 10, warmup = 20} end, "warmup %(20%) is longer than the 10 steps", "a cosine that never begins")
  t.fails(function() s.inverse_sqrt{warmup = 0} end, "at least 1", "inverse_sqrt without a scale")
end)

tap.done()

-- Averages: known sums, LAWA before its queue is full, bias correction, greedy soups, files, exact restoring.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local av = q.average

local function set(a, b) return {w = q.tensor{{a, 2 * a}}, b = q.tensor{b or a}} end
local function model(a)
  local list = {{name = "w", tensor = q.tensor{a, a}:requires_grad()}, {name = "b", tensor = q.tensor{-a}:requires_grad()}}
  return {list = list, named_parameters = function() return list end,
    put = function(self, v)
      q.no_grad(function() self.list[1].tensor:fill_(v) self.list[2].tensor:fill_(-v) end)
    end}
end

tap.test("soups and merges", function(t)
  local s = av.soup{set(1), set(2), set(6)}
  t.near(s.w:totable(), {{3, 6}}, 1e-6, "mean of three")
  t.equal(s.w:dtype(), "f32", "in the type of the first")
  t.near(av.merge{{set(1), 0.9}, {set(11), 0.1}}.b:totable(), {2}, 1e-6, "a linear merge")
  t.near(av.merge{{set(1), 1}, {set(3), 1}, {set(2), -1}}.b:totable(), {2}, 1e-6, "coefficients need not sum to 1")
  local big = av.soup{{x = q.full(16777216, 3, "f32")}, {x = q.full(1, 3)}, {x = q.full(1, 3)}, {x = q.full(-16777216, 3)}}
  t.near(big.x:totable(), {0.5, 0.5, 0.5}, 0, "sums are made in f64")
  t.equal(av.soup{{i = q.tensor({3}, "i32")}, {i = q.tensor({5}, "i32")}}.i:item(), 3, "integers come from the first")
  t.near(av.soup{model(2), set(4).w and {w = q.tensor{4, 4}, b = q.tensor{0}}}.w:totable(), {3, 3}, 0, "a model counts as its parameters")
end)

tap.test("files", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  q.system.make_directories(folder)
  local a, b = folder .. "/a.safetensors", folder .. "/b.safetensors"
  q.save(a, {["model.w"] = q.tensor{1, 2}, ["optim.m"] = q.tensor{9}})
  q.save(b, {["model.w"] = q.tensor{3, 6}, ["optim.m"] = q.tensor{7}})
  local s = av.soup({a, b}, {prefix = "model."})
  t.near(s.w:totable(), {2, 4}, 0, "checkpoints on disk, by prefix")
  local count = 0
  for _ in pairs(s) do count = count + 1 end
  t.equal(count, 1, "other tensors are left out")
  os.remove(a) os.remove(b) os.remove(folder)
end)

tap.test("greedy soup", function(t)
  -- one weight; the loss is the distance from 1: 0 and 2 mix to 1, 10 never helps
  local function loss(weights) return math.abs(weights.x:item() - 1) end
  local function at(v) return {x = q.tensor{v}} end
  local weights, report = av.greedy_soup({at(10), at(2), at(0.5)}, loss)
  t.near(weights.x:item(), 1.25, 1e-6, "the best and the one that helps")
  t.equal(table.concat(report.members, ","), "3,2", "members, best first")
  t.near(report.score, 0.25, 1e-6, "its score")
  local _, other = av.greedy_soup({at(10), at(2), at(0.5)}, function(w) return -loss(w) end, {better = "higher"})
  t.equal(table.concat(other.members, ","), "3,2", "the same with an accuracy")
end)

tap.test("lawa", function(t)
  local a, m = av.lawa{every = 2, window = 3}, model(0)
  t.equal(a:weights(), nil, "nothing before the first")
  local expected = {[2] = 2, [3] = 2, [4] = 3, [6] = 4, [7] = 4, [8] = 6, [10] = 8}
  for step = 1, 10 do
    m:put(step)
    a:update(m, step)
    if expected[step] then t.near(a:weights().w:totable(), {expected[step], expected[step]}, 1e-6, "after step " .. step) end
  end
  local inside = a:apply(m, function(x) return x.list[1].tensor[1]:item() end)
  t.near(inside, 8, 1e-6, "apply shows the mean")
  t.near(m.list[1].tensor:totable(), {10, 10}, 0, "and puts the weights back")
  t.fails(function() a:apply(m, function() error "inner" end) end, "inner", "an error inside comes out")
  t.near(m.list[1].tensor:totable(), {10, 10}, 0, "with the weights put back")
end)

tap.test("ema and swa", function(t)
  local e, plain, s, m = av.ema{decay = 0.9}, av.ema{decay = 0.9, bias_correction = false}, av.swa{start = 3, every = 2}, model(0)
  local sum, weight, old, kept, n = 0, 0, nil, 0, 0
  for step = 1, 9 do
    local v = step * step
    m:put(v)
    e:update(m, step) plain:update(m, step) s:update(m, step)
    sum, weight = 0.9 * sum + 0.1 * v, 0.9 * weight + 0.1
    old = old and 0.9 * old + 0.1 * v or v
    if step >= 3 and (step - 3) % 2 == 0 then kept, n = kept + v, n + 1 end
    t.near(e:weights().w[1], sum / weight, 1e-5, "ema with bias correction at step " .. step)
    t.near(plain:weights().w[1], old, 1e-5, "ema from the first weights at step " .. step)
    if n > 0 then t.near(s:weights().w[1], kept / n, 1e-5, "swa at step " .. step) end
  end
end)

tap.test("resuming", function(t)
  local kinds = {function() return av.lawa{every = 1, window = 3} end,
    function() return av.ema{decay = 0.7} end, function() return av.swa{} end}
  for _, make in ipairs(kinds) do
    local a, m = make(), model(0)
    for step = 1, 4 do m:put(step * 0.37) a:update(m, step) end
    local saved = {}
    for key, tensor in pairs(a:state()) do saved[key] = tensor:clone() end
    local b = make()
    b:load(saved)
    for step = 5, 7 do
      m:put(step * 0.37)
      a:update(m, step) b:update(m, step)
    end
    t.equal(b:weights().w[1], a:weights().w[1], a.name .. " goes on bit for bit")
  end
end)

tap.test("a state of a longer window", function(t)
  local long, short, m = av.lawa{every = 1, window = 5}, av.lawa{every = 1, window = 2}, model(0)
  for step = 1, 5 do m:put(step) long:update(m, step) end
  short:load(long:state())
  m:put(6)
  short:update(m, 6)
  t.near(short:weights().w:totable(), {5.5, 5.5}, 1e-6, "only the latest two are left")
end)

tap.test("errors", function(t)
  t.fails(function() av.soup{} end, "needs a list", "an empty list")
  t.fails(function() av.soup{{a = q.zeros(2)}, {b = q.zeros(2)}} end, "set 2 has no tensor 'a'", "names that differ")
  t.fails(function() av.soup{{a = q.zeros(2)}, {a = q.zeros(3)}} end, "%(2%) in the first set, %(3%) in set 2", "shapes that differ")
  t.fails(function() av.soup{"/nowhere/x.safetensors"} end, "/nowhere", "a missing file")
  t.fails(function() av.merge{{set(1)}} end, "entry 1 must be", "a merge without coefficient")
  t.fails(function() av.greedy_soup({set(1)}, function() return 0 / 0 end) end, "must return a number", "a score that is NaN")
  t.fails(function() av.lawa{windw = 3} end, "did you mean 'window'", "a near name")
  t.fails(function() av.lawa{}:apply(model(1), print) end, "no weights were taken", "apply too early")
  t.fails(function() av.ema{}:load{x = q.zeros(1)} end, "unknown entry", "a state of something else")
end)

tap.done()

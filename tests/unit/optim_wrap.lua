-- SAM, ASAM, weight noise, presets, and optimizers written in Lua.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local function near(t, a, b, tolerance, what) t.ok((a - b):abs():max():item() <= tolerance, what, tostring(a - b)) end

--- A quadratic 1/2 w^T A w over a matrix and a bias, its gradients put into .grad.
local function problem()
  local w, b = q.tensor({{1, -2}, {0.5, 3}}, "f64"), q.tensor({0.3, -0.2}, "f64")
  local function at(x, y) return x * q.tensor({{1, 4}, {9, 2}}, "f64"), y * 3 end
  local calls = 0
  local function closure()
    calls = calls + 1
    w.grad, b.grad = at(w:clone(), b:clone())
  end
  return {w = w, b = b, at = at, closure = closure, calls = function() return calls end, list = {{name = "w", tensor = w}, {name = "b", tensor = b}}}
end

local function drop(p) p.w.grad, p.b.grad = nil, nil end

tap.test("sam", function(t)
  local p = problem()
  local w, b = p.w:clone(), p.b:clone()
  local g, h = p.at(w, b)
  local norm = math.sqrt(g:norm() ^ 2 + h:norm() ^ 2)
  local gw, gb = p.at(w + g * (0.1 / norm), b + h * (0.1 / norm))
  local opt = q.optim.sam(q.optim.sgd(p.list, {lr = 0.01}), {rho = 0.1})
  p.closure()
  opt:step(1, p.closure)
  near(t, p.w, w - gw * 0.01, 1e-12, "steps with the gradient rho uphill")
  near(t, p.b, b - gb * 0.01, 1e-12, "one norm over all parameters")
  t.equal(opt.name, "sam(sgd)", "its name says what is inside")
  t.equal(opt:steps(), 1, "one step")
  drop(p)
end)

tap.test("asam", function(t)
  local p = problem()
  local w, b = p.w:clone(), p.b:clone()
  local g, h = p.at(w, b)
  local size = w:abs() + 0.01
  local scaled = g * size
  local norm = math.sqrt(scaled:norm() ^ 2 + h:norm() ^ 2)
  local gw = p.at(w + scaled * size * (0.5 / norm), b)
  local opt = q.optim.asam(q.optim.sgd(p.list, {lr = 0.01}))
  p.closure()
  opt:step(1, p.closure)
  near(t, p.w, w - gw * 0.01, 1e-12, "a climb relative to the weights")
  drop(p)
end)

tap.test("a phase", function(t)
  local p, plain = problem(), problem()
  local opt, reference = q.optim.sam(q.optim.sgd(p.list, {lr = 0.01}), {from = 3, to = 4, rho = 0.5}), q.optim.sgd(plain.list, {lr = 0.01})
  local expected = {1, 2, 4, 6, 7}
  for step = 1, 5 do
    p.closure() plain.closure()
    t.equal(opt:active(), step == 3 or step == 4, "active at step " .. step)
    opt:step(1, p.closure) reference:step()
    t.equal(p.calls(), expected[step], "gradients so far at step " .. step)
    if step < 3 then near(t, p.w, plain.w, 0, "nothing but the inner optimizer before the phase") end
  end
  t.ok((p.w - plain.w):norm() > 0, "another path afterwards")
  local odd = q.optim.sam(q.optim.sgd(problem().list), {when = function(step) return step % 2 == 0 end})
  t.equal(odd:active(), false, "a phase may be a function")
  drop(p) drop(plain)
end)

tap.test("errors keep the weights", function(t)
  local p = problem()
  local opt, before = q.optim.sam(q.optim.adamw(p.list)), p.w:clone()
  p.closure()
  t.fails(function() opt:step(1) end, "sam%(adamw%): step needs a closure", "no closure")
  t.fails(function() opt:step(1, function() error "inner" end) end, "inner", "an error in the closure comes out")
  near(t, p.w, before, 0, "and the weights are back")
  p.w.grad = p.w.grad * (0 / 0)
  t.fails(function() opt:step(1, p.closure) end, "NaN or infinity; nothing was changed", "NaN before the climb")
  near(t, p.w, before, 0, "nothing was changed")
  t.fails(function() q.optim.sam(p.w) end, "must be an optimizer", "wrapping no optimizer")
  t.fails(function() q.optim.sam(opt, {rho = -1}) end, "rho must be at least 0", "a negative rho")
  drop(p)
end)

tap.test("weight noise", function(t)
  local w = q.zeros(64, 128, "f64"):normal_(q.stream(1, "w"))
  local opt = q.optim.weight_noise(q.optim.sgd({w}, {lr = 0.1}), {bits = 4, group = 32, seed = 5})
  local before, seen = w:clone()
  opt:step(1, function()
    seen = w:clone()
    w.grad = q.zeros(64, 128, "f64")
  end)
  near(t, w, before, 0, "the weights come back")
  local noise = (seen - before):view(256, 32)
  local step = before:view(256, 32):abs():max(2, true) * (2 / 15)
  t.near((noise / step):norm() / math.sqrt(noise:numel()), 1 / math.sqrt(12), 0.01, "deviation of rounding to 4 bits: step / sqrt(12)")
  local state, again = {}, nil
  for key, tensor in pairs(opt:state()) do state[key] = tensor:clone() end
  local other = q.optim.weight_noise(q.optim.sgd({w}, {lr = 0.1}), {bits = 4, group = 32, seed = 5})
  other:load(state)
  for _, o in ipairs{opt, other} do
    o:step(1, function()
      if again then near(t, w, again, 0, "a resumed run draws the same noise") end
      again = w:clone()
      w.grad = q.zeros(64, 128, "f64")
    end)
  end
  t.ok((again - seen):norm() > 0, "each step draws anew")
  state["noise.counter"] = nil
  t.fails(function() other:load(state) end, "no entry 'noise.counter'", "the state of another optimizer")
  w.grad = nil
end)

tap.test("presets", function(t)
  local list = {{name = "e", tensor = q.ones(4, 4), role = "input"}, {name = "w", tensor = q.ones(4, 4), role = "hidden"},
    {name = "g", tensor = q.ones(4), role = "vector"}}
  for _, name in ipairs{"adamw", "muon", "psgd", "scion", "shampoo", "soap"} do
    if name == "scion" then list[4] = {name = "h", tensor = q.ones(4, 4), role = "output"} end
    local opt = q.optim.paper{name}(list)
    t.equal(opt.name, name, "paper{\"" .. name .. "\"} makes one")
    list[4] = nil
  end
  t.equal(q.optim.paper{"muon", lr = 0.5}.options.lr, 0.5, "options given replace the preset's")
  t.equal(q.optim.paper{"muon"}(list, {lr = 0.25}).options.lr, 0.25, "also in the call")
  t.equal(q.optim.paper{"adamw"}.options.eps, 1e-6, "eps of AdamW")
end)

-- the optimizer of docs/how-to-add-an-optimizer.md
local function define_student()
  return q.optim.define{
    name = "clipped_lion", doc = "Lion with a soft sign.", state = {"m"},
    options = {{"beta", "number", default = 0.9, min = 0, below = 1, doc = "decay of the momentum"}, {"lr", "number", default = 1e-3, min = 0}},
    update = function(w, g, s, o)
      s.m:axpby_(o.beta, g, 1 - o.beta)
      local direction = s.m / (s.m:abs() + 1e-3)
      w:axpby_(1 - o.lr * o.weight_decay, direction, -o.lr)
    end,
  }
end

tap.test("an optimizer in Lua", function(t)
  if not q.optim.clipped_lion then define_student() end
  t.fails(define_student, "there already is a q.optim.clipped_lion", "a name that is taken")
  t.ok(q.help.find "q.optim.clipped_lion".doc == "Lion with a soft sign.", "help knows it")

  local p = problem()
  local opt = q.optim.clipped_lion(p.list, {lr = 0.1, clip = 1, weight_decay = 0.5, groups = {{match = "b", lr = 0.2}}})
  local w, b, mw, mb = p.w:clone(), p.b:clone(), 0, 0
  for step = 1, 4 do
    p.closure()
    local g, h = p.w.grad:clone(), p.b.grad:clone()
    local norm = opt:step(1 / step)
    t.near(norm, math.sqrt(g:norm() ^ 2 + h:norm() ^ 2), 1e-12, "step returns the norm")
    local factor = math.min(1, 1 / (norm + 1e-6))
    mw, mb = g * (0.1 * factor) + mw * 0.9, h * (0.1 * factor) + mb * 0.9
    w = w * (1 - 0.1 / step * 0.5) - mw / (mw:abs() + 1e-3) * (0.1 / step)
    b = b * (1 - 0.2 / step * 0.5) - mb / (mb:abs() + 1e-3) * (0.2 / step)
  end
  near(t, p.w, w, 1e-12, "clip, schedule, decay and options reach the update")
  near(t, p.b, b, 1e-12, "and groups")
  t.equal(opt:steps(), 4, "steps are counted")

  local state, weights = {}, {p.w:clone(), p.b:clone()}
  for key, tensor in pairs(opt:state()) do state[key] = tensor:clone() end
  t.ok(state["w.m"], "its state has names")
  p.closure() opt:step()
  local after = p.w:clone()
  q.no_grad(function() p.w:copy_(weights[1]) p.b:copy_(weights[2]) end)
  local resumed = q.optim.clipped_lion(p.list, {lr = 0.1, clip = 1, weight_decay = 0.5, groups = {{match = "b", lr = 0.2}}})
  resumed:load(state)
  p.closure() resumed:step()
  near(t, p.w, after, 0, "resumed bit for bit")

  p.w.grad = p.w.grad * (0 / 0)
  t.fails(function() resumed:step() end, "clipped_lion.*gradient of 'w'.*NaN", "gradients are checked for it")
  drop(p)
  q.optim.broken = q.optim.broken or q.optim.define{name = "broken", update = function() error "in the update" end}
  local broken = q.optim.broken(p.list)
  p.closure()
  t.fails(function() broken:step() end, "in the update", "an error inside comes out")
  t.equal(broken:steps(), 0, "and does not count as a step")
  t.fails(function() q.optim.define{name = "x"} end, "update is required", "no update")
  drop(p)
end)

tap.done()

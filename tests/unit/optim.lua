-- The interface that all optimizers share: errors, roles and groups, clipping, schedules, saving and resuming.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local names = {"sgd", "adamw", "adamc", "lion", "sophia", "adafactor", "ademamix", "schedule_free", "muon", "scion", "shampoo", "soap",
  "psgd"}

-- settings that make rare branches happen within a few steps
local settings = {
  sgd = {momentum = 0.9, nesterov = true, weight_decay = 0.01}, ademamix = {warmup_steps = 6}, schedule_free = {warmup_steps = 3},
  shampoo = {precondition_frequency = 2, start_preconditioning_step = 3, max_preconditioner_dim = 4},
  soap = {precondition_frequency = 2}, psgd = {balance_probability = 0.5}, scion = {constrained = true},
}

--- Parameters of every role, the same each time: input (9, 4), hidden (6, 4) and (3, 2, 2), vector (6), a single number.
local function parameters(dtype)
  local shapes = {{"embed", {9, 4}, "input"}, {"w", {6, 4}, "hidden"}, {"conv", {3, 2, 2}, "hidden"}, {"gain", {6}, "vector"},
    {"scale", {1}, "vector"}, {"head", {9, 4}, "output"}}
  local list = {}
  for i, s in ipairs(shapes) do
    list[i] = {name = s[1], role = s[3], decay = s[3] ~= "vector", tensor = q.zeros(s[2], dtype):normal_(q.stream(5, s[1])):requires_grad()}
  end
  return list
end

--- The same gradients for the same step.
local function gradients(list, step)
  for _, p in ipairs(list) do p.tensor.grad = q.zeros(p.tensor:shape(), p.tensor:dtype()):normal_(q.stream(step, p.name)) end
end

local function run(opt, list, from, to)
  for step = from, to do
    gradients(list, step)
    opt:step(1 / step)
  end
  opt:zero_grad()
end

local function same_bits(t, a, b, what)
  local equal = true
  for i, p in ipairs(a) do equal = equal and (p.tensor - b[i].tensor):abs():max():item() == 0 end
  t.ok(equal, what)
end

--- Copies of tensors as after a save and a load.
local function through_file(tensors)
  local path = os.tmpname()
  q.save(path, tensors)
  local back = q.load(path)
  os.remove(path)
  return back
end

for _, name in ipairs(names) do
  for _, dtype in ipairs{"f32", "f64"} do
    tap.test(name .. " in " .. dtype, function(t)
      local a, b, c = parameters(dtype), parameters(dtype), parameters(dtype)
      local opt = q.optim[name](a, settings[name])
      run(opt, a, 1, 4)
      local state, weights = through_file(opt:state()), {}
      for _, p in ipairs(a) do weights[p.name] = p.tensor end
      weights = through_file(weights)
      run(opt, a, 5, 9)
      local finite = true
      for _, p in ipairs(a) do finite = finite and p.tensor:all_finite() end
      t.ok(finite, name .. " keeps finite")

      local again = q.optim[name](b, settings[name])
      run(again, b, 1, 9)
      same_bits(t, a, b, name .. " repeats bit for bit")

      local resumed = q.optim[name](c, settings[name])
      q.no_grad(function()
        for _, p in ipairs(c) do p.tensor:copy_(weights[p.name]) end
      end)
      resumed:load(state)
      t.equal(resumed:steps(), 4, name .. " knows its step after loading")
      run(resumed, c, 5, 9)
      same_bits(t, a, c, name .. " resumed from a file goes on bit for bit")
      for _, list in ipairs{a, b, c} do
        for _, p in ipairs(list) do p.tensor.grad = nil end
      end
    end)
  end
end

--- Copies of a state and of weights, live ones go on changing.
local function snapshot(opt, list)
  local state, weights = {}, {}
  for key, tensor in pairs(opt:state()) do state[key] = tensor:clone() end
  for i, p in ipairs(list) do weights[i] = p.tensor:clone() end
  return state, weights
end

--- Trains with make(list) for 9 steps; from every step on, a new optimizer continues from what was saved there.
local function resumes_anywhere(t, name, make)
  local function step_of(opt, list, step)
    gradients(list, step)
    opt:step(1 / step, function() -- what a wrapper sees at the moved point depends on the point
      gradients(list, step)
      for _, p in ipairs(list) do p.tensor.grad = p.tensor.grad + p.tensor * 0.1 end
    end)
    opt:zero_grad()
  end
  local list = parameters()
  local opt, saved = make(list), {}
  for step = 0, 8 do
    saved[step] = {snapshot(opt, list)}
    step_of(opt, list, step + 1)
  end
  local wrong = {}
  for step = 0, 8 do
    local again = parameters()
    local resumed = make(again)
    q.no_grad(function()
      for i, p in ipairs(again) do p.tensor:copy_(saved[step][2][i]) end
    end)
    resumed:load(saved[step][1])
    for later = step + 1, 9 do step_of(resumed, again, later) end
    for i, p in ipairs(again) do
      if (p.tensor - list[i].tensor):abs():max():item() ~= 0 then wrong[#wrong + 1] = step .. " " .. p.name end
    end
  end
  t.equal(table.concat(wrong, ", "), "", name .. " saved at any of nine steps goes on bit for bit")
end

tap.test("a state saved at any step", function(t)
  for _, name in ipairs(names) do
    resumes_anywhere(t, name, function(list) return q.optim[name](list, settings[name]) end)
  end
  resumes_anywhere(t, "psgd without inverses", function(list)
    return q.optim.psgd(list, {geometry = "q0.5eq1.5", balance_probability = 0.5})
  end)
  for _, wrapper in ipairs{"sam", "asam", "weight_noise"} do
    for _, inner in ipairs{"adamw", "schedule_free", "psgd"} do
      resumes_anywhere(t, wrapper .. " around " .. inner, function(list)
        return q.optim[wrapper](q.optim[inner](list, settings[inner]), {from = 3, to = 6})
      end)
    end
  end
end)

tap.test("gradients that are not finite", function(t)
  for _, name in ipairs(names) do
    local list, twin = parameters(), parameters()
    local opt, other = q.optim[name](list, settings[name]), q.optim[name](twin, settings[name])
    run(opt, list, 1, 2) run(other, twin, 1, 2)
    gradients(list, 3)
    list[2].tensor.grad[3][2] = 0 / 0
    t.fails(function() opt:step() end, "gradient of 'w' %(6, 4%) is NaN at %(3, 2%).*nothing was changed",
      name .. " names the parameter and the place")
    list[2].tensor.grad[3][2] = 1 / 0
    t.fails(function() opt:step() end, "infinite", name .. " refuses infinity")
    same_bits(t, list, twin, name .. " left the weights alone")
    run(opt, list, 3, 4) run(other, twin, 3, 4)
    same_bits(t, list, twin, name .. " left its state alone")
  end
end)

tap.test("gradients of zeros", function(t)
  for _, name in ipairs(names) do
    local list = parameters()
    local opt = q.optim[name](list, settings[name])
    local function steps(count, deviation)
      for step = 1, count do
        for _, p in ipairs(list) do p.tensor.grad = q.zeros(p.tensor:shape()):normal_(q.stream(step, p.name), 0, deviation) end
        opt:step()
      end
    end
    local good, message = pcall(steps, 700, 0)
    if good then good, message = pcall(steps, 20, 1) end
    t.ok(good, name .. " takes 700 of them, and true ones afterwards", message)
    local finite = true
    for _, p in ipairs(list) do finite = finite and p.tensor:all_finite() end
    t.ok(finite, name .. " keeps finite")
    opt:zero_grad()
  end
end)

tap.test("bad settings and parameters", function(t)
  local w, v = q.zeros(3, 2), q.zeros(3)
  local o = q.optim
  t.fails(function() o.adamw({w}, {lr = -1}) end, "lr must be at least 0", "a negative rate")
  t.fails(function() o.adamw({w}, {lr = 0 / 0}) end, "NaN", "a rate that is NaN")
  t.fails(function() o.adamw({w}, {lr = 1 / 0}) end, "lr must be", "an infinite rate")
  t.fails(function() o.adamw({w}, {betas = {0.9, 1}}) end, "betas%[2%] must be in %[0, 1%)", "a beta of 1")
  t.fails(function() o.adamw({w}, {betas = {0.9}}) end, "list of 2 numbers", "one beta")
  for _, name in ipairs{"adamw", "adamc", "ademamix", "schedule_free", "shampoo", "soap"} do
    t.fails(function() o[name]({w}, {eps = 0}) end, "eps must be at least 1e%-37", name .. ": no eps, so that a gradient of 0 gave 0 / 0")
  end
  t.fails(function() o.muon({w}, {aux_eps = 0}) end, "aux_eps must be at least 1e%-37", "nor for the other roles")
  t.fails(function() o.adamw({w}, {beta = 1}) end, "did you mean 'betas'", "a near name")
  t.fails(function() o.adamw({w}, {clip = 0}) end, "clip must be above 0", "clipping to 0")
  t.fails(function() o.sgd({w}, {nesterov = true}) end, "nesterov needs a momentum", "nesterov without momentum")
  t.fails(function() o.muon({{tensor = v, name = "gain", role = "hidden"}}) end, "'gain'.*must be a matrix, got %(3%)", "muon on a vector")
  t.fails(function() o.scion({{tensor = v, name = "gain"}}, {norm = "spectral"}) end, "'spectral' needs a matrix", "a spectral norm of a vector")
  t.fails(function() o.scion({w}, {norm = "spectrl"}) end, "did you mean 'spectral'", "a near choice")
  t.fails(function() o.shampoo({w}, {betas = {1, 0.9}}) end, "betas%[1%] must be below 1", "shampoo's first beta")
  t.fails(function() o.adamw({}) end, "list of parameters is empty", "no parameters")
  t.fails(function() o.adamw(w) end, "must be a list or a model", "a tensor instead of a list")
  t.fails(function() o.adamw({w, w}) end, "are the same tensor", "a tensor twice")
  t.fails(function() o.adamw({{tensor = w, name = "a"}, {tensor = v, name = "a"}}) end, "two parameters are called 'a'", "a name twice")
  t.fails(function() o.adamw({{tensor = w, role = "hiden"}}) end, "did you mean 'hidden'", "an unknown role")
  t.fails(function() o.adamw({q.zeros(3, "i32")}) end, "must be f32 or f64", "integers")
  t.fails(function() o.adamw({q.zeros(3, 2):t()}) end, "strided view", "a view")
  t.fails(function() o.adamw({q.zeros(0)}) end, "is empty", "no elements")
  t.fails(function() o.adamw({w}):step() end, "none of the 1 parameters has a gradient", "no gradient")
  t.fails(function() o.adamw({w}, {groups = {{match = "x", lr = 1}}}) end, "matches no parameter", "a group without parameters")
  t.fails(function() o.adamw({w}):init() end, "scion", "a starting point for an optimizer without one")
  t.fails(function() o.paper{"adam"} end, "did you mean 'adamw'", "an unknown preset")
  local opt = o.adamw{w}
  w.grad = q.zeros(3, 2)
  t.fails(function() opt:observe() end, "sophia", "samples for an optimizer without use for them")
  t.fails(function() opt:step(-1) end, "scale must be a number from 0", "a negative scale")
  t.fails(function() opt:step("1") end, "must be a number, got string", "a scale that is text")
  t.equal(opt:steps(), 0, "none of these counted as a step")
end)

tap.test("states that do not fit", function(t)
  local w, v = q.zeros(3, 2), q.zeros(3)
  local function record(tensor, name) return {{tensor = tensor, name = name}} end
  local state = q.optim.adamw(record(w, "w")):state()
  t.fails(function() q.optim.adamw(record(v, "w")):load(state) end, "'w.[mv]' is %(3, 2%), expected %(3%)", "another shape")
  t.fails(function() q.optim.adamw(record(w, "x")):load(state) end, "belongs to no parameter", "another name")
  t.fails(function() q.optim.lion(record(w, "w")):load(state) end, "has no state called 'v'", "another optimizer")
  state["w.v"] = nil
  t.fails(function() q.optim.adamw(record(w, "w")):load(state) end, "3 entries, 4 are needed", "an entry missing")
  local opt = q.optim.adamw(record(w, "w"))
  w.grad = q.full(1, 3, 2)
  opt:step()
  local before = opt:state()["w.m"]:clone()
  pcall(opt.load, opt, {steps = q.full(7, "f64"), ["w.m"] = q.zeros(3, 2), ["w.v"] = q.zeros(2, 2), ["w.step"] = q.full(7, "f64")})
  t.ok((opt:state()["w.m"] - before):abs():max():item() == 0 and opt:steps() == 1, "a state that does not fit changes nothing")
end)

tap.test("clipping", function(t)
  local function after(options, factor)
    local list = parameters "f64"
    local opt = q.optim.adamw(list, options)
    gradients(list, 1)
    for _, p in ipairs(list) do p.tensor.grad = p.tensor.grad * (factor or 1) end
    local norm = opt:step()
    opt:zero_grad()
    return list, norm
  end
  local _, norm = after{eps = 1}
  local sum, list = 0, parameters "f64"
  gradients(list, 1)
  for _, p in ipairs(list) do sum = sum + p.tensor.grad:norm() ^ 2 p.tensor.grad = nil end
  t.near(norm, math.sqrt(sum), 1e-12, "step returns the global norm")
  local clipped, unclipped = after{eps = 1, clip = 2}, after({eps = 1}, 2 / (norm + 1e-6))
  for i, p in ipairs(clipped) do
    t.ok((p.tensor - unclipped[i].tensor):abs():max():item() < 1e-14,
      p.name .. ": clipping is a factor max_norm / (norm + 1e-6) on the gradient")
  end
  same_bits(t, after{eps = 1, clip = 1000}, after{eps = 1}, "a large limit changes no bit")
end)

tap.test("roles, groups and schedules", function(t)
  local function step_of(name, options, records)
    local opt = q.optim[name](records, options)
    local moved = {}
    for _, p in ipairs(records) do moved[p.name] = p.tensor:clone() end
    gradients(records, 1)
    opt:step()
    for _, p in ipairs(records) do moved[p.name] = (p.tensor - moved[p.name]):norm() p.tensor.grad = nil end
    return moved, opt
  end
  local plain = step_of("adamw", {lr = 0.1, weight_decay = 0}, parameters())
  local grouped = step_of("adamw", {lr = 0.1, weight_decay = 0, groups = {{match = "^w$", lr = 0.2}, {role = "vector", lr = 0}}}, parameters())
  t.near(grouped.w / plain.w, 2, 1e-5, "a group by name has its own rate")
  t.equal(grouped.gain, 0, "a group by role too")
  t.near(grouped.head, plain.head, 1e-6, "others keep the options")
  local listed = parameters()
  local first, rest = {listed[1], listed[2]}, {listed[3], listed[4], listed[5], listed[6]}
  local opt = q.optim.adamw({{params = first, lr = 0.5}, {params = rest}}, {lr = 0.1})
  t.equal(#opt.groups, 2, "groups in PyTorch's form")
  t.equal(opt.groups[1].options.lr, 0.5, "with their options")

  local records = parameters()
  local scheduled = q.optim.sgd(records, {lr = 1, groups = {{role = "vector", schedule = function(step) return step == 2 and 1 or 0 end}}})
  local before = records[4].tensor:clone()
  gradients(records, 1)
  scheduled:step(1)
  t.equal((records[4].tensor - before):norm(), 0, "a group's own schedule: nothing at step 1")
  scheduled:step(0)
  t.near((before - records[4].tensor):norm(), records[4].tensor.grad:norm(), 1e-5, "everything at step 2, whatever the global scale")
  for _, p in ipairs(records) do p.tensor.grad = nil end

  -- decay applies where the record says so; a zero gradient leaves only the decay
  local w, b = q.ones(2, 2), q.ones(2)
  local decayed = q.optim.adamw({{tensor = w, name = "w", decay = true}, {tensor = b, name = "b", decay = false}}, {lr = 0.1, weight_decay = 0.5})
  w.grad, b.grad = q.zeros(2, 2), q.zeros(2)
  decayed:step()
  t.near({w[1][1], b[1]}, {0.95, 1}, 1e-6, "decay where the record wants it")
  w.grad, b.grad = nil, q.ones(2)
  decayed:step()
  t.near(w[1][1], 0.95, 1e-6, "a parameter without gradient sits out")
  decayed:set("lr", 0)
  local still = b[1]
  decayed:step()
  t.equal(b[1], still, "set changes a setting between steps")
end)

tap.test("schedule_free points", function(t)
  local list = parameters()
  local opt = q.optim.schedule_free(list, {lr = 0.01})
  run(opt, list, 1, 3)
  local y, x = list[2].tensor:clone(), opt:state()["w.x"]
  opt:eval() opt:eval()
  t.ok((list[2].tensor - y):norm() > 0, "eval shows another point")
  t.ok((list[2].tensor - x):norm() == 0, "which is the average x")
  t.fails(function() opt:state() end, "call opt:train%(%) before saving", "no state is given out there")
  gradients(list, 4)
  t.fails(function() opt:step() end, "call opt:train%(%)", "a step at the wrong point is refused")
  opt:train()
  t.ok((list[2].tensor - y):abs():max():item() == 0, "train puts the same bits back")
  opt:zero_grad()
end)

tap.test("a model as parameters", function(t)
  local list = parameters()
  local opt = q.optim.muon({named_parameters = function() return list end})
  t.equal(#opt:tensors(), #list, "all of them")
  t.ok(opt:state()["embed.v"] and opt:state()["w.momentum"] and not opt:state()["w.v"], "the rule goes by role")
  local bytes = 0
  for key, tensor in pairs(opt:state()) do bytes = bytes + (key:find "step" and 0 or tensor:nbytes()) end
  t.equal(opt:state_bytes(), bytes, "state_bytes counts the state")
  t.equal(q.optim.muon({list[1], {1, 2, name = "x", tensor = list[2].tensor}}).records[2].name, "x", "records may hold more")
end)

tap.done()

-- Optimizers inside q.train: wrappers get the same batch again, schedule_free is judged at its average.
local tap = dofile "tests/tap.lua"
local q = require "quench"

--- A language of 8 tokens where each follows its neighbour, and a model of bigrams.
local function sentence(length, stream)
  local ids = {stream:below(8)}
  for k = 2, length do ids[k] = (ids[k - 1] + (stream:below(4) == 0 and 2 or 1)) % 8 end
  return ids
end

local data = {
  batch = function(_, _, B, T, stream)
    local rows = {}
    for i = 1, B do rows[i] = sentence(T, stream) end
    return q.tensor(rows, "i32")
  end,
  tokens = function() return q.tensor(sentence(65, q.stream(9, "held out")), "i32") end,
}

local function new_model()
  local table_ = q.zeros(8, 8):normal_(q.stream(1, "init"), 0, 0.1):requires_grad()
  local m = {family = "bigram", config = {}}
  function m.named_parameters() return {{"table", table_, name = "table", tensor = table_, role = "hidden"}} end
  function m.loss(_, ids)
    local n = ids:size(2) - 1
    return q.nn.cross_entropy(q.embedding(table_, ids:narrow(2, 1, n):contiguous()), ids:narrow(2, 2, n):contiguous())
  end
  m.table = table_
  return m
end

local function train(make, probes)
  local model = new_model()
  local run = q.train{model = model, data = data, steps = 12, batch = 4, context = 16, optim = make, probes = probes}
  for _, r in ipairs(model.named_parameters()) do r.tensor.grad = nil end
  return model, run
end

tap.test("wrappers", function(t)
  local function adamw(p) return q.optim.adamw(p, {lr = 0.05}) end
  local plain = train(adamw)
  local still = train(function(p) return q.optim.sam(adamw(p), {rho = 0}) end)
  t.equal((plain.table - still.table):norm(), 0, "SAM with rho = 0 sees the same batches and gives the same bits")
  local calm = train(function(p) return q.optim.weight_noise(adamw(p), {std = 0}) end)
  t.equal((plain.table - calm.table):norm(), 0, "so does noise of deviation 0")
  local late = train(function(p) return q.optim.sam(adamw(p), {rho = 0.5, from = 9}) end)
  t.ok((plain.table - late.table):norm() > 0, "SAM in the last steps changes them")
end)

tap.test("a wrapper forks from its inner optimizer's state", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  local function adamw(p) return q.optim.adamw(p, {lr = 0.05}) end
  local function fork(make, from)
    local model = new_model()
    q.train{model = model, data = data, steps = 12, batch = 4, context = 16, optim = make, from = from}
    for _, r in ipairs(model.named_parameters()) do r.tensor.grad = nil end
    return model
  end
  q.train{model = new_model(), data = data, steps = 12, batch = 4, context = 16, optim = adamw, folder = folder, keep = {8}}
  local path = q.train.checkpoint.path(folder, 8)
  local plain = fork(adamw, path)
  t.equal((plain.table - fork(function(p) return q.optim.sam(adamw(p), {rho = 0}) end, path).table):norm(), 0, "SAM with rho = 0: the same bits")
  t.equal((plain.table - fork(function(p) return q.optim.weight_noise(adamw(p), {std = 0}) end, path).table):norm(), 0, "no noise: the same bits")
  local from_start = train(function(p) return q.optim.sam(adamw(p), {rho = 0.5, from = 9}) end)
  local forked = fork(function(p) return q.optim.sam(adamw(p), {rho = 0.5}) end, path)
  t.equal((from_start.table - forked.table):norm(), 0, "SAM from step 9 equals SAM forked at step 8")
  t.fails(function() fork(function(p) return q.optim.sam(q.optim.sgd(p, {lr = 0.1}), {rho = 0.5}) end, path) end, "belongs to another run",
    "another inner optimizer")
  os.execute("rm -rf " .. folder)
end)

tap.test("schedule_free", function(t)
  local model, run = train(function(p) return q.optim.schedule_free(p, {lr = 0.05}) end, {{name = "norm", every = 6, run = function(c)
    return c.model.table:norm()
  end}})
  local shown = model.table:clone()
  run.optim:train()
  local x = run.optim:state()["table.x"]
  t.equal((shown - x):norm(), 0, "the run leaves the average in the model")
  t.ok((model.table - x):norm() > 0, "training goes on elsewhere")
  t.near(run.log[12].norm, x:norm(), 1e-6, "probes see the average")
end)

tap.done()

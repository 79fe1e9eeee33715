-- Cost of a step and bytes of state per parameter of each optimizer, on the parameters of a small transformer (1.3 M);
-- Shampoo, SOAP and PSGD amortised over the frequency of their decompositions. One JSON line a case.
local q = require "quench"

local function report(case, value, unit) print(q.json.encode{bench = "optimizers", case = case, value = value, unit = unit}) end

local shapes = {{"embed", {1024, 192}, "input"}, {"head", {1024, 192}, "output"}}
for block = 1, 2 do
  for _, s in ipairs{{"q", 192, 192}, {"k", 192, 192}, {"v", 192, 192}, {"o", 192, 192}, {"up", 768, 192}, {"down", 192, 768}} do
    shapes[#shapes + 1] = {block .. "." .. s[1], {s[2], s[3]}, "hidden"}
  end
  shapes[#shapes + 1] = {block .. ".norm", {192}, "vector"}
end

local function parameters()
  local list, count = {}, 0
  for i, s in ipairs(shapes) do
    local w = q.zeros(s[2]):normal_(q.stream(i, "w"), 0, 0.02)
    w.grad = q.zeros(s[2]):normal_(q.stream(i, "g"), 0, 1e-3)
    list[i], count = {name = s[1], tensor = w, role = s[3]}, count + w:numel()
  end
  return list, count
end

--- Seconds a step, the best of two runs of n steps; n covers whole periods of the decompositions.
local function step_time(opt, n)
  local best = math.huge
  for _ = 1, 2 do
    local start = q.system.clock()
    for _ = 1, n do opt:step() end
    best = math.min(best, (q.system.clock() - start) / n)
  end
  return best
end

-- the machine: one pass over as much memory as AdamW touches (w, m, v read and written, g read: 28 bytes a parameter)
do
  local list, count = parameters()
  local best = math.huge
  for _ = 1, 5 do
    local start = q.system.clock()
    q.no_grad(function()
      for _, r in ipairs(list) do r.tensor:axpby_(0.5, r.tensor.grad, 0.5) end
    end)
    best = math.min(best, q.system.clock() - start)
  end
  report("w = a w + b g, for comparison (12 bytes a parameter)", best / count * 1e9, "ns/parameter")
end

local decomposed = {
  shampoo = {n = 20, options = {precondition_frequency = 20, start_preconditioning_step = 1, max_preconditioner_dim = 1024}},
  soap = {n = 10, options = {precondition_frequency = 10, max_precondition_dim = 1024}},
  psgd = {n = 4, options = {max_size_triangular = 1024}},
}
for _, name in ipairs{"sgd", "adamw", "adamc", "lion", "sophia", "ademamix", "schedule_free", "adafactor", "muon", "scion", "psgd",
  "shampoo", "soap"} do
  local list, count = parameters()
  local special = decomposed[name] or {n = 5, options = name == "sgd" and {momentum = 0.9} or {}}
  local opt = q.optim[name](list, special.options)
  opt:step()
  report(name .. " step", step_time(opt, special.n) / count * 1e9, "ns/parameter")
  report(name .. " state", opt:state_bytes() / count, "bytes/parameter")
  opt:zero_grad()
end

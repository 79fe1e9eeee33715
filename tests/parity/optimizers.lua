-- Trajectories of the published optimizers: the same start, the same gradients, the same parameters
-- after 1, 2, 3, 5, 10, ... 45 steps. Settings and sources are in the files' metadata.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local folder = "tests/parity/optimizers/"
local checkpoints = {1, 2, 3, 5, 10, 11, 20, 21, 30, 45}

-- file -> constructor, options, what differs from one parameter to another
local cases = {
  {"sgd_nesterov", "sgd", {lr = 0.01, momentum = 0.9, nesterov = true, weight_decay = 0.1}},
  {"adamw", "adamw", {lr = 0.01, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = 0.1}},
  {"adamw_schedule", "adamw", {lr = 0.01, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = 0.1}},
  {"lion", "lion", {lr = 1e-3, betas = {0.9, 0.99}, weight_decay = 0.1}},
  {"muon", "muon", {lr = 0.01, momentum = 0.95, weight_decay = 0.1, ns_steps = 5}},
  {"schedulefree_adamw", "schedule_free", {lr = 0.01, betas = {0.9, 0.99}, eps = 1e-8, weight_decay = 0.1, warmup_steps = 5}},
  {"scion_unconstrained", "scion", {lr = 0.01, momentum = 0.9}},
  {"scion_constrained", "scion", {lr = 0.001953125, momentum = 0.9, constrained = true,
    groups = {{match = "^w$", norm = "spectral", scale = 50}, {match = "^u$", norm = "sign", scale = 300}}}},
  -- the reference keeps its rate as an f32 number
  {"shampoo", "shampoo", {lr = 0.009999999776482582, betas = {0.95, 0.95}, eps = 1e-10, weight_decay = 0.1, precondition_frequency = 20,
    start_preconditioning_step = 20, max_preconditioner_dim = 8192, merge_dims = true},
    ill = {f64 = "[wu]", f32 = "[wub]"}, firm = {f64 = 20, f32 = 11}},
  -- the reference rounds its matrices to f32: it decomposes the first ones in f64, and later turns the basis in f32
  {"soap", "soap", {lr = 0.01, betas = {0.95, 0.95}, eps = 1e-8, weight_decay = 0.01, precondition_frequency = 10,
    round_factors = true}, ill = {f64 = "[wu]", f32 = "[wu]"}, firm = {f64 = 1, f32 = 1}},
  -- the same code where every factor has full rank (optimizers/make_firm.py): nothing is left to rounding, at any step
  {"shampoo_blocks", "shampoo", {lr = 0.009999999776482582, betas = {0.9, 0.95}, eps = 1e-10, weight_decay = 0.1, precondition_frequency = 5,
    start_preconditioning_step = 10, max_preconditioner_dim = 8}},
  {"soap_square", "soap", {lr = 0.01, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = 0.01, precondition_frequency = 5}},
  -- made by optimizers/make_more.py, Adafactor from PyTorch's single-tensor path written out, for want of a PyTorch that has it. AdamC's
  -- eps is as good as nothing: that code adds it before the correction of the second moment, the paper and PyTorch's AdamW behind it.
  {"adamc", "adamc", {lr = 0.01, betas = {0.9, 0.95}, eps = 1e-12, weight_decay = 0.1}, normalised = {w = true, u = false, b = false}},
  {"sophia", "sophia", {lr = 0.01, betas = {0.965, 0.99}, rho = 0.04, batch_tokens = 40, weight_decay = 0.1}, observe = 10},
  {"ademamix", "ademamix", {lr = 0.01, betas = {0.9, 0.99, 0.999}, alpha = 3, warmup_steps = 20, eps = 1e-8, weight_decay = 0.1}},
  {"adafactor", "adafactor", {lr = 0.05, weight_decay = 0.1}},
  {"sam", "adamw", {lr = 0.01, betas = {0.9, 0.95}, weight_decay = 0.1}, around = function(o) return q.optim.sam(o, {rho = 0.05}) end},
  {"asam", "adamw", {lr = 0.01, betas = {0.9, 0.95}, weight_decay = 0.1}, around = function(o) return q.optim.asam(o, {rho = 0.5, eta = 0.01}) end},
  -- the published code was given the numbers that ours draws; in f32 other numbers are drawn
  {"psgd", "psgd", {lr = 0.01, momentum = 0.9, weight_decay = 0.1, balance_probability = 0}, only = "f64"},
}

local wanted = {}
for _, k in ipairs(checkpoints) do wanted[k] = true end

--- Names of the parameters of a fixture, in a fixed order.
local function names_of(fixture)
  local names = {}
  for _, n in ipairs{"w", "u", "b", "g"} do
    if fixture["p0." .. n] then names[#names + 1] = n end
  end
  return names
end

--- max |a - b| / max(1, |b|)
local function distance(a, b)
  local d = (a - b):abs() / b:abs():maximum(1)
  return d:max():item()
end

local ulp = {f32 = 2 ^ -24, f64 = 2 ^ -53} -- half the distance of neighbours just above 1

--- A copy of x with every entry moved by at most one unit in the last place of the type given (its own if nil).
local function nudged(x, stream, unit)
  local by = ulp[unit or x:dtype()]
  return x * (q.zeros(x:shape(), "f64"):uniform_(stream, -2 * by, 2 * by) + 1):to(x:dtype())
end

--- Rows of x (n, n) in the order of falling values.
local function sorted_rows(x, values)
  local order = {}
  for i = 1, #values do order[i] = i - 1 end
  table.sort(order, function(a, b) return values[a + 1] > values[b + 1] end)
  return q.embedding(x:contiguous(), q.tensor(order, "i32"))
end

local function f32_of(x) return x:to("f32"):to("f64") end

--- One step of SOAP on a matrix p in f64 as the published code does it with f64 parameters, types included: the first basis
-- from eigenvectors in f64 of L rounded to f32; the next ones by a product and a QR decomposition in f32, so that they are orthogonal
-- to f32 only; the first moment m in the basis, turned back and forth at every step. s.basis[k] holds eigenvectors as rows.
local function published_soap(s, p, g, o, stream)
  local function turn(x) return s.basis[1]:matmul(x):matmul(s.basis[2]:t()) end
  local function back(x) return s.basis[1]:t():matmul(x):matmul(s.basis[2]) end
  if s.basis then
    s.step = s.step + 1
    local seen = turn(g)
    s.m, s.v = s.m * o.betas[1] + seen * (1 - o.betas[1]), s.v * o.betas[2] + seen:square() * (1 - o.betas[2])
    local rate = o.lr * math.sqrt(1 - o.betas[2] ^ s.step) / (1 - o.betas[1] ^ s.step)
    p:axpby_(1, back(s.m / (s.v:sqrt() + o.eps)), -rate)
    p:axpby_(1 - o.lr * o.weight_decay, p, 0)
    s.m = back(s.m)
  end
  for k, gram in ipairs{g:matmul(g:t()), g:t():matmul(g)} do s.factor[k] = s.factor[k] * o.betas[2] + gram * (1 - o.betas[2]) end
  local first = not s.basis
  if first then s.basis = {} elseif s.step % o.precondition_frequency ~= 0 then s.m = turn(s.m) return end
  for k, l in ipairs(s.factor) do
    if first then
      local rounded = nudged(f32_of(l), stream)
      local values, columns = q.linalg.eigh((rounded + rounded:t()) * 0.5)
      s.basis[k] = sorted_rows(columns:t(), values:totable())
    else
      local old, small = s.basis[k]:to "f32", l:to "f32"
      local seen = (old:matmul(small) * old):sum(2):totable()
      s.v = k == 1 and sorted_rows(s.v, seen) or sorted_rows(s.v:t(), seen):t():contiguous()
      s.basis[k] = q.linalg.qr(sorted_rows(old, seen):matmul(small):t():contiguous()):t():to "f64"
    end
  end
  if not first then s.m = turn(s.m) end
end

--- The trajectory of the matrices of SOAP's fixture by published_soap, its gradients nudged.
local function published_types(case, stream)
  local fixture, found = q.load(folder .. case[1] .. ".safetensors", {dtype = "f64"}), {}
  for _, n in ipairs(names_of(fixture)) do
    local p = fixture["p0." .. n]:clone()
    if p:ndim() == 2 then
      local s = {step = 0, m = p * 0, v = p * 0, factor = {q.zeros(p:size(1), p:size(1), "f64"), q.zeros(p:size(2), p:size(2), "f64")}}
      for step = 1, 45 do
        published_soap(s, p, nudged(fixture["g." .. n][step], stream), case[3], stream)
        if wanted[step] then found[("p%d.%s"):format(step, n)] = p:clone() end
      end
    end
  end
  return found
end

--- Runs one fixture in a dtype; calls after(step, tensors) behind each step, the evaluation point in place.
-- nudge: a stream; every gradient then moves by at most one unit in the last place.
local function replay(case, dtype, after, nudge)
  local fixture = q.load(folder .. case[1] .. ".safetensors", {dtype = dtype})
  local records, tensors = {}, {}
  for i, n in ipairs(names_of(fixture)) do
    tensors[n] = fixture["p0." .. n]:clone()
    records[i] = {name = n, tensor = tensors[n], normalised = (case.normalised or {})[n]}
  end
  local opt = q.optim[case[2]](records, case[3])
  if case.around then opt = case.around(opt) end
  for step = 1, 45 do
    local function gradients(kind)
      for _, r in ipairs(records) do
        local g = fixture[kind .. r.name][step]:clone()
        if case.around then g = g + r.tensor * 0.1 end -- a gradient that depends on the point
        r.tensor.grad = nudge and nudged(g, nudge) or g
      end
    end
    if case.observe and step % case.observe == 1 then
      gradients "h."
      opt:observe()
    end
    gradients "g."
    opt:step(fixture.lr_scale and fixture.lr_scale[step] or 1, function() gradients "g." end)
    opt:eval()
    after(step, tensors)
    opt:train()
  end
  opt:zero_grad()
end

--- The parameters of a run at the checkpoints: {["p<step>.<name>"] = tensor}
local function trajectory(case, dtype, nudge)
  local found = {}
  replay(case, dtype, function(step, tensors)
    if not wanted[step] then return end
    for n, p in pairs(tensors) do found[("p%d.%s"):format(step, n)] = p:clone():to "f64" end
  end, nudge)
  return found
end

local function published(case) return q.load(folder .. case[1] .. ".safetensors", {dtype = "f64"}) end

--- Whether a checkpoint "p<step>.<name>" comes after a case's matrices were decomposed although they had no full rank.
local function ill_conditioned(case, dtype, key)
  local step, name = key:match("^p(%d+)%.(.+)$")
  return case.ill and name:find("^" .. case.ill[dtype] .. "$") and tonumber(step) > case.firm[dtype]
end

--- The largest distance of a from b, relative to limit(key); with the key and the distance itself.
local function worst(a, b, limit)
  local most, where, off = 0, "", 0
  for key, tensor in pairs(a) do
    local bound = limit(key)
    local d = bound and distance(tensor, b[key])
    if d and not (d / bound <= most) then most, where, off = d / bound, key, d end -- luacheck: ignore 581
  end
  return most, where, off
end

local function parity(case, dtype, tolerance, run, expected)
  local most, where, off = worst(run, expected, function(key) return not ill_conditioned(case, dtype, key) and tolerance end)
  tap.test(("%s in %s"):format(case[1], dtype), function(t)
    t.ok(most <= 1, ("%s in %s equals the published trajectory%s"):format(case[1], dtype, case.ill and " where it is well conditioned" or ""),
      ("off by %g (%s), allowed %g"):format(off, where, tolerance))
  end)
end

-- Shampoo takes roots of factors of 240 x 240 and 160 x 160 (merged axes) after 20 gradients, SOAP the eigenvectors of 20 x 20 factors after
-- one gradient of rank 8 or 12: matrices with a null space, where rounding (over eps = 1e-10 in Shampoo) decides what is
-- done, in the reference too. That is measured, not assumed: moved[key] is how far the trajectory goes at a checkpoint when the
-- gradients move by one unit in the last place, and, for SOAP in f64, when its algorithm is carried out in the reference's
-- own types. A checkpoint passes within the tolerance, or within 4 times that (ours and the reference's are two draws of
-- this rounding). The largest of 3 draws counts.
local function as_conditioned(case, dtype, tolerance, run, expected)
  local moved = {}
  for draw = 1, 3 do
    local stream = q.stream(draw, "nudge")
    local draws = case[1] == "soap" and dtype == "f64" and published_types(case, stream) or trajectory(case, dtype, stream)
    for key, tensor in pairs(draws) do
      moved[key] = math.max(moved[key] or 0, distance(tensor, run[key]))
    end
  end
  local most, where, off = worst(run, expected, function(key) return math.max(tolerance, 4 * (moved[key] or 0)) end)
  tap.test(("%s in %s, every checkpoint"):format(case[1], dtype), function(t)
    t.ok(most <= 1, ("%s in %s is as near to the published trajectory as its conditioning allows"):format(case[1], dtype),
      ("off by %g (%s), rounding moves it by %g"):format(off, where, moved[where] or 0))
  end)
end

for _, case in ipairs(cases) do
  local expected = published(case)
  for _, kind in ipairs{{"f64", 1e-9}, {"f32", 1e-5}} do
    if not case.only or case.only == kind[1] then
      local run = trajectory(case, kind[1])
      parity(case, kind[1], kind[2], run, expected)
      if case.ill then as_conditioned(case, kind[1], kind[2], run, expected) end
    end
  end
end

tap.done()

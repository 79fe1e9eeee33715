-- Update rules that no fixture covers, against the formulas of their papers written out anew with tensors.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local la = q.linalg

local function random(shape, name, step) return q.zeros(shape, "f64"):normal_(q.stream(step or 0, name)) end

--- Runs an optimizer and a formula side by side on the same gradients; formula(w, g, step, scale) -> new w.
local function beside(t, what, record, make, formula, steps, tolerance)
  local w = record.tensor
  local opt = make{record}
  local expected, worst = w:clone(), 0
  for step = 1, steps do
    local scale = 1 / (1 + 0.1 * step)
    local g = random(w:shape(), "g", step)
    w.grad = g:clone()
    opt:step(scale)
    expected = formula(expected, g, step, scale)
    local d = (w - expected):abs():max():item()
    if d > worst or d ~= d then worst = d end
  end
  w.grad = nil
  t.ok(worst <= (tolerance or 1e-12), what, ("off by %g"):format(worst))
  return opt
end

tap.test("adamc", function(t)
  local function formula(decay)
    local m, v = q.zeros(4, 3, "f64"), q.zeros(4, 3, "f64")
    return function(w, g, step, scale)
      local lr = 0.1 * scale
      m, v = m * 0.9 + g * 0.1, v * 0.99 + g * g * 0.01
      return w * (1 - decay(lr)) - (m / (1 - 0.9 ^ step)) / ((v / (1 - 0.99 ^ step)):sqrt() + 1e-8) * lr
    end
  end
  local function case(what, normalised, variant, decay)
    beside(t, what, {tensor = random({4, 3}, "w"), normalised = normalised}, function(list)
      return q.optim.adamc(list, {lr = 0.1, betas = {0.9, 0.99}, weight_decay = 0.5, variant = variant})
    end, formula(decay), 8)
  end
  case("a normalised weight decays with lr^2 / lr_max", true, "paper", function(lr) return lr ^ 2 / 0.1 * 0.5 end)
  case("others with lr", false, "paper", function(lr) return lr * 0.5 end)
  case("or not at all", false, "normalised_only", function() return 0 end)
end)

tap.test("ademamix", function(t)
  local m1, m2, v = 0, 0, 0
  beside(t, "slow momentum with warmup", {tensor = random({5}, "w")}, function(list)
    return q.optim.ademamix(list, {lr = 0.01, betas = {0.9, 0.99, 0.999}, alpha = 3, warmup_steps = 6, weight_decay = 0.1})
  end, function(w, g, step, scale)
    local lr, x = 0.01 * scale, math.min(1, step / 6)
    local l1, l3 = math.log(0.9 + 1e-8), math.log(0.999 + 1e-8)
    local b3 = math.min(math.exp(l1 * l3 / ((1 - x) * l3 + x * l1)), 0.999)
    m1, m2, v = g * 0.1 + m1 * 0.9, g * (1 - b3) + m2 * b3, g * g * 0.01 + v * 0.99
    local direction = (m1 / (1 - 0.9 ^ step) + m2 * (3 * x)) / ((v / (1 - 0.99 ^ step)):sqrt() + 1e-8)
    return w - (direction + w * 0.1) * lr
  end, 12)
end)

tap.test("sophia", function(t)
  local w, m, h = random({6}, "w"), 0, q.zeros(6, "f64")
  local opt, expected = q.optim.sophia({w}, {lr = 0.1, betas = {0.9, 0.95}, rho = 0.05, batch_tokens = 40, weight_decay = 0.1}), w:clone()
  local clipped, free = 0, 0
  for step = 1, 12 do
    if step % 3 == 1 then
      local sampled = random({6}, "h", step)
      w.grad = sampled:clone()
      opt:observe()
      h = h * 0.95 + sampled * sampled * 0.05
    end
    local g = random({6}, "g", step)
    w.grad = g:clone()
    opt:step()
    m = g * 0.1 + m * 0.9
    local ratio = (m:abs() / (h * (0.05 * 40) + 1e-15)):minimum(1)
    clipped, free = clipped + ratio:eq(1):sum():item(), free + ratio:lt(1):sum():item()
    expected = expected * (1 - 0.1 * 0.1) - m:sign() * ratio * 0.1
  end
  w.grad = nil
  t.ok((w - expected):abs():max():item() < 1e-12, "clipped momentum over the sampled curvature")
  t.ok(clipped > 0 and free > 0, "both sides of the clipping were met")
  t.equal(opt:steps(), 12, "samples do not count as steps")
end)

tap.test("adafactor", function(t)
  local function rms(x) return x:norm() / math.sqrt(x:numel()) end
  local function finish(w, g, moment, step, scale, o)
    local u = g / moment:maximum(1e-30):sqrt()
    local rate = 0.05 * scale
    if o.relative then rate = math.min(rate, 1 / math.sqrt(step)) end
    return w * (1 - 0.05 * scale * 0.1) - u * (math.max(1e-3, rms(w)) * rate / math.max(1, rms(u)))
  end
  local row, column = 0, 0
  beside(t, "matrices: row and column means", {tensor = random({4, 3}, "w")}, function(list)
    return q.optim.adafactor(list, {lr = 0.05, weight_decay = 0.1, relative_step = false})
  end, function(w, g, step, scale)
    local b = 1 - step ^ -0.8
    row, column = (g * g):mean(2, true) * (1 - b) + row * b, (g * g):mean(1, true) * (1 - b) + column * b
    return finish(w, g, row * column / row:mean(), step, scale, {})
  end, 10)
  local v = 0
  beside(t, "vectors: the plain second moment", {tensor = random({5}, "w")}, function(list)
    return q.optim.adafactor(list, {lr = 0.05, weight_decay = 0.1})
  end, function(w, g, step, scale)
    local b = 1 - step ^ -0.8
    v = g * g * (1 - b) + v * b
    return finish(w, g, v, step, scale, {relative = true})
  end, 10)
  local opt = q.optim.adafactor{random({50, 40}, "w")}
  t.equal(opt:state_bytes(), (50 + 40) * 8, "the state of a matrix is a row and a column")
end)

--- a^(-1/p) through eigenvalues
local function root(a, p, eps)
  local w, v = la.eigh(a)
  return (v * (w + eps) ^ (-1 / p)):matmul(v:t())
end

tap.test("shampoo on matrices and blocks", function(t)
  local function formula(blocks)
    local l, r, m, v, roots = {}, {}, 0, 0, {}
    return function(w, g, step, scale)
      m, v = g * 0.1 + m * 0.9, g * g * 0.05 + v * 0.95
      local mh = m / (1 - 0.9 ^ step)
      local graft, out = mh / ((v / (1 - 0.95 ^ step)):sqrt() + 1e-8), {}
      for i, rows in ipairs(blocks) do
        local gb, mb, ab = g:narrow(1, rows[1], rows[2]), mh:narrow(1, rows[1], rows[2]), graft:narrow(1, rows[1], rows[2])
        l[i] = gb:matmul(gb:t()) * 0.05 + (l[i] and l[i] * 0.95 or 0)
        r[i] = gb:t():matmul(gb) * 0.05 + (r[i] and r[i] * 0.95 or 0)
        if step == 4 or step > 4 and step % 3 == 0 then
          roots[i] = {root(l[i] / (1 - 0.95 ^ step), 4, 1e-8), root(r[i] / (1 - 0.95 ^ step), 4, 1e-8)}
        end
        out[i] = ab
        if step >= 4 then
          local u = roots[i][1]:matmul(mb):matmul(roots[i][2])
          out[i] = u * (ab:norm() / u:norm())
        end
      end
      return w - (q.concat(out, 1) + w * 0.1) * (0.1 * scale)
    end
  end
  local function make(dim)
    return function(list)
      return q.optim.shampoo(list, {lr = 0.1, betas = {0.9, 0.95}, eps = 1e-8, weight_decay = 0.1, precondition_frequency = 3,
        start_preconditioning_step = 4, max_preconditioner_dim = dim})
    end
  end
  beside(t, "one block: roots of order 4 on both sides", {tensor = random({6, 4}, "w")}, make(8), formula{{1, 6}}, 11, 1e-8)
  beside(t, "blocks of at most 4 rows", {tensor = random({6, 4}, "w")}, make(4), formula{{1, 4}, {5, 2}}, 11, 1e-8)
  local opt = q.optim.shampoo({{name = "w", tensor = q.zeros(1, 6, 1, 4)}}, {max_preconditioner_dim = 5})
  local found = {}
  for key, tensor in pairs(opt:state()) do
    if key:find "factor" then found[#found + 1] = tensor:size(1) end
  end
  table.sort(found)
  t.equal(table.concat(found, " "), "1 4 4 5", "axes of size 1 are dropped, 6 is cut into 5 and 1")
  local merged = q.optim.shampoo({{name = "w", tensor = q.zeros(2, 3, 4)}}, {max_preconditioner_dim = 6, merge_dims = true}):state()
  t.equal(merged["w.factor.1.1"]:size(1) .. " " .. merged["w.factor.1.2"]:size(1), "6 4", "neighbours merge while they fit")
end)

tap.test("soap on matrices", function(t)
  -- gradients of full rank from the start: L after one step has no null space
  local w = random({4, 4}, "w")
  local opt, expected = q.optim.soap({w}, {lr = 0.1, betas = {0.9, 0.95}, weight_decay = 0.1, precondition_frequency = 3}), w:clone()
  local m, v, l, r, ql, qr = 0, 0
  local function basis(a) -- eigenvectors as columns, largest first
    local _, vectors = la.eigh(a)
    local columns = {}
    for i = 1, 4 do columns[i] = vectors:narrow(2, 5 - i, 1):contiguous() end
    return q.concat(columns, 2)
  end
  local function order(a, b) -- columns by what they carry
    local carried, index = b:t():matmul(a):matmul(b), {1, 2, 3, 4}
    table.sort(index, function(i, j) return carried[i][i] > carried[j][j] end)
    return index
  end
  local function pick(x, index, axis)
    local parts = {}
    for i, k in ipairs(index) do parts[i] = x:narrow(axis, k, 1):contiguous() end
    return q.concat(parts, axis)
  end
  for step = 1, 10 do
    local g = random({4, 4}, "g", step)
    w.grad = g:clone()
    opt:step()
    if step == 1 then
      l, r = g:matmul(g:t()) * 0.05, g:t():matmul(g) * 0.05
      ql, qr = basis(l), basis(r)
    else
      local gp = ql:t():matmul(g):matmul(qr)
      m, v = g * 0.1 + m * 0.9, gp * gp * 0.05 + v * 0.95
      local n = ql:t():matmul(m):matmul(qr) / (v:sqrt() + 1e-8)
      local s = step - 1
      expected = expected - ql:matmul(n):matmul(qr:t()) * (0.1 * math.sqrt(1 - 0.95 ^ s) / (1 - 0.9 ^ s))
      expected = expected * (1 - 0.1 * 0.1)
      l, r = g:matmul(g:t()) * 0.05 + l * 0.95, g:t():matmul(g) * 0.05 + r * 0.95
      if s % 3 == 0 then
        local i, j = order(l, ql), order(r, qr)
        v = pick(pick(v, i, 1), j, 2)
        ql, qr = la.qr(l:matmul(pick(ql, i, 2))), la.qr(r:matmul(pick(qr, j, 2)))
      end
    end
  end
  w.grad = nil
  t.ok((w - expected):abs():max():item() < 1e-9, "Adam in the eigenbasis, through three changes of basis", (w - expected):abs():max():item())
  local long = q.optim.soap({{name = "w", tensor = q.zeros(6, 4)}}, {max_precondition_dim = 5}):state()
  t.ok(not long["w.Q.1"] and long["w.Q.2"], "an axis that is too long keeps its basis")
end)

tap.test("decompositions that fail", function(t)
  for _, name in ipairs{"shampoo", "soap", "psgd"} do
    local list = {{name = "w", tensor = q.ones(4, 3)}}
    local w = list[1].tensor
    local opt = q.optim[name](list, name == "shampoo" and {start_preconditioning_step = 1} or {})
    for step = 1, 3 do -- finite gradients whose squares overflow in f32
      w.grad = random({4, 3}, "g", step):to "f32" * 1e25
      opt:step()
    end
    t.ok(w:all_finite(), name .. " keeps the weights finite")
    t.ok(opt:state()["w.kept"]:item() > 0, name .. " keeps what it had, and counts it")
    w.grad = nil
  end
  local w = q.ones(4, 3)
  local opt = q.optim.adafactor{{name = "w", tensor = w}}
  w.grad = random({4, 3}, "g"):to "f32" * 1e25
  t.fails(function() opt:step() end, "adafactor: parameter 'w': the direction is not finite", "where there is no way out: an error")
  t.equal(w:sum():item(), 12, "that leaves the weight")
  w.grad = nil
end)

tap.test("muon's scales", function(t)
  local function length(shape, scale)
    local w = q.zeros(shape, "f64")
    local opt = q.optim.muon({w}, {lr = 1, scale = scale, ns_steps = 5})
    w.grad = random(shape, "g")
    opt:step()
    w.grad = nil
    return w:norm()
  end
  local tall, wide = length({40, 10}, "original"), length({10, 40}, "original")
  t.near(length({40, 10}, "rms") / tall, 0.2 * math.sqrt(40) / math.sqrt(4), 1e-9, "rms on a tall matrix")
  t.near(length({10, 40}, "rms") / wide, 0.2 * math.sqrt(40), 1e-9, "rms on a wide one")
  t.near(length({10, 40}, "spectral") / wide, math.sqrt(10 / 40), 1e-9, "spectral on a wide one")
  t.near(length({40, 10}, "spectral") / tall, 1, 1e-9, "spectral on a tall one is the original")
end)

tap.test("scion's norms", function(t)
  local g = random({6, 4}, "g")
  local function moved(norm, more)
    local w = q.zeros(6, 4, "f64")
    local options = {lr = 1, norm = norm, momentum = 0}
    for key, value in pairs(more or {}) do options[key] = value end
    local opt = q.optim.scion({w}, options)
    w.grad = g:clone()
    opt:step()
    w.grad = nil
    return -w
  end
  local function near(a, b, what) t.ok((a - b):abs():max():item() < 1e-7, what) end
  near(moved "sign", g:sign() * (1 / 4), "sign over the inputs")
  near(moved("sign", {normalise_input = false}), g:sign(), "plain sign")
  near(moved "bias", g * (math.sqrt(24) / g:norm()), "over the rms")
  near(moved "row", g / ((g * g):sum(2, true):sqrt() * 2), "rows over length and sqrt(n)")
  near(moved("row", {normalise_input = false}), g / (g * g):sum(2, true):sqrt(), "rows of length 1")
  near(moved "column", g / ((g * g):mean(1, true):sqrt() * 4), "columns over rms and n")
  near(moved("column", {normalise_input = false}), g / (g * g):mean(1, true):sqrt(), "columns of rms 1")
  near(moved "spectral", la.newton_schulz(g) * math.sqrt(6 / 4), "orthogonal, times sqrt(m / n)")
  near(moved("spectral", {scale = 3}), la.newton_schulz(g) * (3 * math.sqrt(6 / 4)), "times the radius")

  local list = {{name = "w", tensor = q.zeros(6, 4, "f64"), role = "hidden"}, {name = "e", tensor = q.zeros(5, 4, "f64"), role = "input"}}
  local opt = q.optim.scion(list, {scale = 2, constrained = true})
  opt:init(3)
  local s = la.svdvals(list[1].tensor)
  t.near(s:totable(), {2 * math.sqrt(1.5), 2 * math.sqrt(1.5), 2 * math.sqrt(1.5), 2 * math.sqrt(1.5)}, 1e-9,
    "init: an orthogonal matrix on the ball")
  t.near(list[2].tensor:abs():max():item(), 2 / 4, 1e-12, "init: signs on the ball")
  for step = 1, 50 do
    for _, p in ipairs(list) do p.tensor.grad = random(p.tensor:shape(), p.name, step) end
    opt:step()
  end
  for _, p in ipairs(list) do p.tensor.grad = nil end
  t.ok(list[2].tensor:abs():max():item() <= 2 / 4 + 1e-12, "constrained: the weights stay inside the ball")
end)

tap.done()

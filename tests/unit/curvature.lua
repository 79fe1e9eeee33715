-- Products with the Hessian and its kin against dense matrices made in other ways, in f64.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local curvature = q.curvature

local stream = q.stream(3, "curvature test")
local function normal(...) return q.zeros(...):to("f64"):normal_(stream) end

-- A small network with a smooth loss: 2 hidden layers, 38 parameters.
local function network()
  local w1, b1, w2 = normal(4, 3):requires_grad(), normal(4):requires_grad(), normal(2, 4):requires_grad()
  local w3 = normal(7, 2):requires_grad()
  local x = normal(6, 3)
  local targets = q.tensor({0, 6, 2, 3, 3, 1}, "i32")
  local function outputs(rows)
    local h = q.linear(rows or x, w1, b1):tanh()
    return q.linear(q.linear(h, w2):gelu(), w3)
  end
  local function loss()
    local z = outputs()
    return (z:logsumexp(2) - z:pick(targets)):mean()
  end
  return {params = {w1, b1, w2, w3}, outputs = outputs, loss = loss, targets = targets, x = x}
end

--- The Hessian by differentiating the gradient backwards, one entry at a time.
local function dense_by_reverse(loss, params)
  local rows = {}
  local gradient = q.grad(loss(), params, {create_graph = true})
  for _, g in ipairs(gradient) do
    local flat = g:view(-1)
    for i = 1, flat:numel() do
      local parts = q.grad(flat:narrow(1, i, 1):sum(), params)
      for k, p in ipairs(parts) do parts[k] = p:view(-1) end
      rows[#rows + 1] = q.concat(parts, 1)
    end
  end
  return q.stack(rows)
end

local function gap(a, b) return (a - b):abs():max():item() end

tap.test("the Hessian is the dense one", function(t)
  local net = network()
  local reference = dense_by_reverse(net.loss, net.params)
  local op = curvature.operator(net.loss, net.params)
  t.equal(op.dimension, 38, "dimension")
  t.ok(gap(op:dense(), reference) < 1e-12, "forward over reverse agrees with reverse over reverse", gap(op:dense(), reference))
  t.ok(gap(op:dense(), op:dense():t()) < 1e-13, "it is symmetric")
  local anew = curvature.operator(net.loss, net.params, {keep = false})
  t.equal(gap(anew:dense(), op:dense()), 0, "graphs made anew give the same bits")
  t.equal(anew.cost.kept_bytes, 0, "and keep nothing")
  t.ok(op.cost.kept_bytes > 0, "kept graphs are counted")
  local v = {normal(4, 3), normal(4), normal(2, 4), normal(7, 2)}
  local flat = {}
  for i, x in ipairs(v) do flat[i] = x:view(-1) end
  flat = q.concat(flat, 1)
  local hv, parts = curvature.hvp(net.loss, net.params, v), {}
  for i, x in ipairs(hv) do
    t.equal(table.concat(x:shape(), ","), table.concat(v[i]:shape(), ","), "product " .. i .. " has its parameter's shape")
    parts[i] = x:view(-1)
  end
  t.ok(gap(q.concat(parts, 1), reference:matmul(flat)) < 1e-12, "hvp")
  t.near(op:quadratic_form(v).value, flat:dot(reference:matmul(flat)), 1e-12, "quadratic form")
  t.near(op:loss().value, net.loss():item(), 1e-15, "loss")
  local g = op:gradient()
  for i, x in ipairs(q.grad(net.loss(), net.params)) do t.equal(gap(g[i], x), 0, "gradient " .. i) end
end)

tap.test("products without a recorded gradient", function(t)
  local net = network()
  local v = {normal(4, 3), normal(4), normal(2, 4), normal(7, 2)}
  local kept, anew = curvature.operator(net.loss, net.params, {keep = "gradient"}), curvature.operator(net.loss, net.params, {keep = false})
  local function same(a, b, text)
    local worst = 0
    for i, x in ipairs(a) do worst = math.max(worst, gap(x, b[i])) end
    t.equal(worst, 0, text .. ": the same bits")
  end
  same(anew:apply(v), kept:apply(v), "product")
  same(anew:gradient(), kept:gradient(), "gradient")
  same(curvature.hvp(net.loss, net.params, v), kept:apply(v), "hvp")
  same(anew:subset{2, 3}:apply{v[2], v[3]}, kept:subset{2, 3}:apply{v[2], v[3]}, "two of the parameters")
  local o = {direction = v, progress = false}
  local a = curvature.quadratic(anew, o)
  kept:refresh() -- the test moved the parameters and put them back
  local b = curvature.quadratic(kept, o)
  t.equal(a.predicted.value, b.predicted.value, "gradient and product of one graph, in the quadratic test")
  t.equal(curvature.quadratic_form(net.loss, net.params, v).value, kept:quadratic_form(v).value, "a form")
  t.fails(function() curvature.hvp(function() return net.loss() * (0 / 0) end, net.params, v) end, "the loss of batch 1 is NaN", "NaN")
  t.fails(function() q.hvp(net.loss(), net.params, {v[1]}) end, "4 inputs and 1 tangents", "too few tangents")
  t.fails(function() q.hvp(net.loss(), net.params, {v[1], v[2], v[3], v[3]}) end, "its tangent", "another shape")
end)

tap.test("what a product uses up", function(t)
  local w, v = normal(5):requires_grad(), {normal(5)}
  local expected = v[1] * w:detach() * w:detach() * 12
  local function far(list) return gap(list[1], expected) > 1e-13 end
  local before = w:square()
  local loss = (before * before):sum() -- w^4
  t.ok(not far(q.hvp(loss, {w}, v, {retain = true})) and not far(q.hvp(loss, {w}, v)), "retain keeps the graph")
  t.fails(function() q.hvp(loss, {w}, v) end, "already used by backward", "without it it is used up")
  t.near(q.grad((before * 3):sum(), {w})[1]:totable(), (w:detach() * 6):totable(), 1e-14, "but not what was held besides")
  loss = (before * before):sum()
  local function given() return loss end
  t.ok(not far(curvature.hvp(given, {w}, v)) and not far(curvature.hvp(given, {w}, v)), "nor a loss that was there before")
  local op = curvature.operator(given, {w}, {keep = false})
  t.ok(not far(op:apply(v)) and not far(op:apply(v)), "also with keep = false")
  local scalar = q.tensor({2}, "f64"):requires_grad()
  t.equal(q.hvp(scalar, {scalar}, {q.tensor({1}, "f64")})[1]:item(), 0, "a loss that is its parameter")
  local inner = w * 2
  t.near(q.hvp(inner:square():sum() * 0.5, {inner}, v)[1]:totable(), v[1]:totable(), 1e-14, "along a result, not a leaf")
  local gate, out = normal(4, 3):requires_grad(), normal(2, 4)
  local hidden = require "quench.nn".layer_norm(normal(6, 3):requires_grad(), nil, nil, 1e-5)
  local product = q.linear(hidden, gate):gelu() * q.linear(hidden, gate * 2)
  local along, before_it = {normal(6, 3), normal(6, 4)}, {}
  for i, x in ipairs(along) do before_it[i] = x:clone() end
  local deep = q.linear(product, out):square():sum()
  local recorded = q.jvp(q.grad(deep, {hidden, product}, {create_graph = true}), {hidden, product}, along)
  for k = 1, 2 do
    local hv = q.hvp(deep, {hidden, product}, along, {cache = k == 2 and q.hvp_cache(deep) or nil, retain = true})
    t.ok(gap(hv[1], recorded[1]) == 0 and gap(hv[2], recorded[2]) == 0, "along results within, " .. k)
    t.ok(gap(along[1], before_it[1]) == 0 and gap(along[2], before_it[2]) == 0, "the direction is left as it was")
  end
  t.equal(gap(q.hvp((w * 3):sum(), {w}, v)[1], w:detach() * 0), 0, "a linear loss")
  t.equal(gap(q.hvp(w:sum(), {before}, v)[1], w:detach() * 0), 0, "what the loss does not depend on")
  t.fails(function() q.hvp(w * 2, {w}, v) end, "not a single number", "more than one number")
end)

tap.test("products that share gradients", function(t)
  local net = network()
  local function along() return {normal(4, 3), normal(4), normal(2, 4), normal(7, 2)} end
  local recorded = curvature.operator(net.loss, net.params, {keep = "gradient"})
  local loss = net.loss()
  local cache = q.hvp_cache(loss)
  local function differ(v, hv)
    local worst = 0
    for i, x in ipairs(recorded:apply(v)) do worst = math.max(worst, gap(x, hv[i])) end
    return worst
  end
  local function product(v, c) return q.hvp(loss, net.params, v, {cache = c or cache}) end
  t.ok(cache:bytes() > 0, "a cache says what it will hold", cache:bytes())
  t.equal(q.hvp_cache(loss, {share = 0}):bytes(), 0, "nothing of it if nothing may be held")
  for k = 1, 3 do
    local v = along()
    t.equal(differ(v, product(v)), 0, "product " .. k .. " has the bits of the recorded way")
    t.equal(differ(v, product(v, q.hvp_cache(loss, {share = 0}))), 0, "without room for a gradient too")
  end
  local everything = q.hvp_cache(loss, {share = 100})
  for k = 1, 2 do
    local v = along()
    t.equal(differ(v, product(v, everything)), 0, "product " .. k .. " with all that is dear")
  end
  local v = along()
  local few = q.hvp(loss, {net.params[2], net.params[4]}, {v[2], v[4]}, {cache = q.hvp_cache(loss)})
  local block = recorded:subset{2, 4}:apply{v[2], v[4]}
  t.ok(gap(few[1], block[1]) == 0 and gap(few[2], block[2]) == 0, "along two of the parameters")
  local partly = q.hvp_cache(loss)
  q.hvp(loss, {net.params[4]}, {v[4]}, {cache = partly})
  t.equal(differ(v, product(v, partly)), 0, "all of them after one that asks for less")
  for i, g in ipairs(q.grad(loss, net.params)) do t.equal(gap(g, recorded:gradient()[i]), 0, "gradient " .. i .. " of the loss in between") end
  t.equal(differ(v, product(v)), 0, "and a product after it")
  t.fails(function() q.hvp(net.loss(), net.params, v, {cache = cache}) end, "the cache belongs to another loss", "another loss")
  t.fails(function() product{v[1], v[2], v[3], v[3]} end, "its tangent", "a wrong shape")
  t.equal(differ(v, product(v)), 0, "leaves it usable")
  q.no_grad(function() net.params[3]:copy_(net.params[3]) end)
  t.fails(function() product(v) end, "changed in place", "a parameter that was written")
  local op = curvature.operator(net.loss, net.params)
  op:apply(v)
  q.no_grad(function() net.params[1]:copy_(net.params[1] * 2) end)
  t.fails(function() op:apply(v) end, "call its :refresh()", "an operator says what to do")
  op:refresh()
  recorded:refresh()
  t.equal(differ(v, op:apply(v)), 0, "and sees the parameters as they are then")
  local function ggn(keep) return curvature.ggn(function() return net.outputs(), net.targets end, net.params, {keep = keep}):apply(v) end
  for i, x in ipairs(ggn("gradient")) do t.equal(gap(x, ggn(true)[i]), 0, "other operators keep what they have, tensor " .. i) end
  t.fails(function() curvature.operator(net.loss, net.params, {keep = "all"}) end, "keep", "another word")
  local used = net.loss()
  local its = q.hvp_cache(used)
  used:backward()
  t.fails(function() q.hvp(used, net.params, v, {cache = its}) end, "already used by backward", "a graph that is used up")
  t.equal(q.hvp_cache(used):bytes(), 0, "has nothing to share")
end)

tap.test("errors and Ctrl-C within a product", function(t)
  local w, v, calls, stop = normal(6, 5):requires_grad(), {normal(6, 5)}, 0, nil
  local bump = q.function_ or q["function"]
  local cube = bump{name = "cube", forward = function(_, x) return x * x * x end,
    vjp = function(ctx, g)
      calls = calls + 1
      if stop then stop() end
      return g * ctx.inputs[1] * ctx.inputs[1] * 3
    end,
    jvp = function(ctx, d) return d * ctx.inputs[1] * ctx.inputs[1] * 3 end}
  local x = normal(7, 5)
  local function loss() return q.linear(cube(q.linear(x, w):gelu()), normal(4, 6) * 0 + 1):square():sum() end
  local root = loss()
  local expected = q.hvp(root, {w}, v, {retain = true})[1]
  local function usable(cache, text) t.equal(gap(q.hvp(root, {w}, v, {cache = cache})[1], expected), 0, text) end
  local cache = q.hvp_cache(root)
  stop = function() error("stopped here") end
  t.fails(function() q.hvp(root, {w}, v, {cache = cache}) end, "stopped here", "an error in the first product")
  stop = nil
  usable(cache, "and the next has its bits")
  stop = function() io.popen("kill -INT " .. q.system.process()):close() end
  t.fails(function() q.hvp(root, {w}, v, {cache = cache}) end, "interrupted", "Ctrl-C")
  q.system.clear_interrupt()
  local fresh = q.hvp_cache(root)
  t.fails(function() q.hvp(root, {w}, v, {cache = fresh}) end, "interrupted", "in a first product too")
  q.system.clear_interrupt()
  stop = nil
  usable(cache, "the product after it")
  usable(fresh, "and after that")
  t.ok(calls > 5, "the rule ran each time")
end)

tap.test("subsets are diagonal blocks", function(t)
  local net = network()
  local op = curvature.operator(net.loss, net.params)
  local whole = op:dense()
  local block = op:subset{1, 3}:dense()
  local function part(r, rn, c, cn) return whole:narrow(1, r, rn):narrow(2, c, cn) end
  t.equal(gap(block:narrow(1, 1, 12):narrow(2, 1, 12), part(1, 12, 1, 12)), 0, "first with first")
  t.equal(gap(block:narrow(1, 13, 8):narrow(2, 1, 12), part(17, 8, 1, 12)), 0, "third with first")
  local alone = curvature.operator(net.loss, {net.params[3]})
  t.ok(gap(alone:dense(), part(17, 8, 17, 8)) < 1e-14, "an operator of one parameter alone")
  t.fails(function() op:subset{5} end, "there is no parameter 5; there are 4", "a parameter that is not there")
end)

tap.test("batches", function(t)
  local net = network()
  local function loss_of(rows) return net.outputs(rows):square():sum() end
  local batches = {normal(2, 3), normal(3, 3), normal(5, 3)}
  local each = {}
  for b, rows in ipairs(batches) do each[b] = curvature.operator(function() return loss_of(rows) end, net.params):dense() end
  local mean = (each[1] + each[2] + each[3]) * (1 / 3)
  t.ok(gap(curvature.operator(loss_of, net.params, {batches = batches}):dense(), mean) < 1e-12, "mean of batches")
  local weighted = each[1] * 0.2 + each[2] * 0.3 + each[3] * 0.5
  t.ok(gap(curvature.operator(loss_of, net.params, {batches = batches, weights = {2, 3, 5}}):dense(), weighted) < 1e-12, "weights")
  local closures = {}
  for b, rows in ipairs(batches) do closures[b] = function() return loss_of(rows) end end
  local op = curvature.operator(closures, net.params, {keep = false})
  t.ok(gap(op:dense(), mean) < 1e-12, "a list of closures")
  local d = {normal(4, 3), normal(4), normal(2, 4), normal(7, 2)}
  local form, sum, square = op:quadratic_form(d), 0, 0
  for _, x in ipairs(form.values) do sum = sum + x / 3 end
  for _, x in ipairs(form.values) do square = square + (x - sum) ^ 2 end
  t.near(form.value, sum, 1e-13, "the form is the mean of the batches'")
  t.near(form.error, math.sqrt(square / 2 / 3), 1e-12, "its standard error is theirs over the root of 3")
  t.equal(curvature.operator(net.loss, net.params):quadratic_form(d).error, nil, "one batch has no standard error")
end)

tap.test("a loss that is linear, or does not depend on a parameter", function(t)
  local w, u = normal(3):requires_grad(), normal(2):requires_grad()
  local c = normal(3)
  local op = curvature.operator(function() return (w * c):sum() + w:square():sum() * 0 end, {w, u})
  t.equal(op:dense():abs():max():item(), 0, "no curvature")
  local plain = curvature.operator(function() return (w * c):sum() end, {w})
  t.equal(plain:dense():abs():max():item(), 0, "no graph in the gradient at all")
end)

-- ---- Gauss-Newton ------------------------------------------------------------------

local function cross_entropy(z, targets) return (z:logsumexp(2) - z:pick(targets)):mean() end

tap.test("Gauss-Newton", function(t)
  local net = network()
  local g = curvature.ggn(function() return net.outputs(), net.targets end, net.params, {loss = cross_entropy})
  -- J by tangents, H_z from p: the textbook product
  local z, columns = net.outputs(), {}
  local op = curvature.operator(net.loss, net.params)
  for i = 1, op.dimension do
    local e = q.zeros(op.dimension, "f64")
    e[i] = 1
    columns[i] = q.jvp({z}, net.params, op.layout:views(e))[1]:view(-1)
  end
  local jacobian, p = q.stack(columns), z:detach():softmax(2) -- jacobian (38, 42)
  local hz = q.zeros(42, 42, "f64")
  for row = 1, 6 do
    local pr = p:narrow(1, row, 1)
    local block = pr:t():matmul(pr) * -1
    for k = 1, 7 do block:narrow(1, k, 1):narrow(2, k, 1):axpby_(1, pr:narrow(2, k, 1), 1) end
    hz:narrow(1, 7 * row - 6, 7):narrow(2, 7 * row - 6, 7):copy_(block * (1 / 6))
  end
  local reference = jacobian:matmul(hz):matmul(jacobian:t())
  t.ok(gap(g:dense(), reference) < 1e-12, "J^T (diag p - p p^T) J / N", gap(g:dense(), reference))
  local values = q.linalg.eigh(g:dense())
  t.ok(values[1] > -1e-12, "no negative eigenvalue")
  t.ok(q.linalg.eigh(op:dense())[1] < -1e-3, "where the Hessian has some")
  t.ok(gap(g:subset{2}:dense(), reference:narrow(1, 13, 4):narrow(2, 13, 4)) < 1e-12, "a subset")
end)

tap.test("Gauss-Newton is the Hessian for a linear model and a convex loss", function(t)
  local w, x, targets = normal(5, 3):requires_grad(), normal(8, 3), q.tensor({0, 4, 2, 3, 3, 1, 0, 2}, "i32")
  local function outputs() return q.linear(x, w), targets end
  local h = curvature.operator(function() return cross_entropy(outputs()) end, {w}):dense()
  t.ok(gap(curvature.ggn(outputs, {w}, {loss = cross_entropy}):dense(), h) < 1e-14, "softmax regression")
  local function residuals() return q.linear(x, w) end
  local square = curvature.operator(function() return residuals():square():mean() * 0.5 end, {w}):dense()
  t.ok(gap(curvature.ggn(residuals, {w}, {loss = "square"}):dense(), square) < 1e-14, "least squares")
end)

tap.test("empirical Fisher", function(t)
  local net = network()
  local batches = {normal(2, 3), normal(3, 3)}
  local function loss_of(rows) return net.outputs(rows):square():mean() end
  local f = curvature.fisher(loss_of, net.params, {kind = "empirical", batches = batches}):dense()
  local sum
  for _, rows in ipairs(batches) do
    local flat = {}
    for i, g in ipairs(q.grad(loss_of(rows), net.params)) do flat[i] = g:view(-1) end
    flat = q.concat(flat, 1):view(-1, 1)
    local outer = flat:matmul(flat:t()) * 0.5
    sum = sum and sum + outer or outer
  end
  t.ok(gap(f, sum) < 1e-13, "mean of g g^T")
end)

tap.test("bad input", function(t)
  local net = network()
  local op = curvature.operator(net.loss, net.params)
  t.fails(function() curvature.operator(net.loss, {}) end, "params must be a list of tensors", "no parameters")
  t.fails(function() curvature.operator(net.loss, {1}) end, "params%[1%] must be a tensor, it is a number", "a number as parameter")
  t.fails(function() curvature.operator(net.loss, {normal(2)}) end, "params%[1%] does not require a gradient", "no gradient wanted")
  t.fails(function() curvature.operator(net.loss, {net.params[1], q.zeros(2):requires_grad()}) end, "must share one dtype", "mixed dtypes")
  t.fails(function() curvature.operator(net.outputs, net.params) end, "must return one number, got shape %(6, 7%)",
    "a loss of many numbers")
  t.fails(function() curvature.operator(function() return 3 end, net.params) end, "must return a tensor with one number, got a number",
    "a plain number")
  t.fails(function() curvature.operator(3, net.params) end, "must be a function, a list of functions or a model", "no function")
  t.fails(function() curvature.operator(net.loss, net.params, {bathces = {}}) end, "did you mean 'batches'", "a misspelt option")
  t.fails(function() curvature.operator(net.loss, net.params, {batches = {}}) end, "batches is empty", "no batches")
  t.fails(function() curvature.operator(net.loss, net.params, {batches = {1, 2}, weights = {1}}) end, "1 weights for 2 batches",
    "too few weights")
  t.fails(function() op:apply{normal(4, 3)} end, "v must be a list of 4 tensors, one a parameter, got 1 entries", "a short direction")
  t.fails(function() op:apply{normal(4, 3), normal(5), normal(2, 4), normal(7, 2)} end, "v%[2%] has shape %(5%), its parameter %(4%)",
    "a wrong shape")
  t.fails(function() curvature.trace(op, {batches = {1}}) end, "batches belongs to the operator", "an option of the operator")
  t.fails(function() curvature.matrix(q.zeros(2, 3)) end, "a square matrix expected", "a matrix that is not square")
  t.fails(function() curvature.matrix(q.zeros(2, 2)):loss() end, "this operator has no loss", "a matrix has no loss")
  t.fails(function() curvature.hvp(net.loss, net.params, {}) end, "q.curvature.hvp: v must be", "a product is named as it was called", true)
  t.fails(function() curvature.quadratic_form(net.loss, net.params, {}, {kep = true}) end, "q.curvature.quadratic_form: unknown option 'kep'",
    "and so is a form", true)
  q.no_grad(net.params[2].fill_, net.params[2], 0)
  t.fails(function() op:dense() end, "changed in place", "parameters that moved under a kept graph")
  t.fails(function() op:dense() end, "call its :refresh()", "with what to do about it", true)
  op:refresh()
  t.ok(op:dense():all_finite(), "refresh sees the new ones")
end)

tap.done()

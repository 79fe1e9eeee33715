-- Curvature of language models: every family's products, Gauss-Newton and Fisher of cross-entropy, what models add.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local curvature = q.curvature

local stream = q.stream(31, "curvature of models")
local function gap(a, b) return (a - b):abs():max():item() end
local ids = (q.zeros(2, 6):uniform_(stream, 0, 12)):floor():to("i32")

local common = {hidden_size = 8, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 8}
local special = {
  gpt_neox = {hidden_size = 8, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 8, rotary_pct = 0.5},
  gpt2 = {n_embd = 8, n_layer = 2, n_head = 2, n_positions = 8},
  ant = {num_hidden_layers = 1, num_attention_heads = 3, head_dim = 4},
  mamba = {hidden_size = 8, num_hidden_layers = 2, state_size = 2},
  mamba2 = {hidden_size = 8, num_hidden_layers = 1, state_size = 4, num_heads = 4, head_dim = 4, n_groups = 1},
  mixtral = {hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2, num_key_value_heads = 1, intermediate_size = 8, num_local_experts = 3},
  olmoe = {hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 2, intermediate_size = 8, num_experts = 3, num_experts_per_tok = 2},
}

local function model_of(family)
  local config = {vocab_size = 12, dtype = "f64", seed = 5}
  for key, v in pairs(special[family] or common) do config[key] = v end
  local m = q.models.new(family, config)
  q.no_grad(function() -- weights of a trained size, so that nothing is nearly linear
    for _, p in ipairs(m:parameters()) do
      if p:ndim() == 2 then p:copy_(p * 10) end
    end
  end)
  return m
end

local function direction(m)
  local v = {}
  for i, p in ipairs(m:parameters()) do v[i] = q.zeros(p:shape(), "f64"):normal_(stream) end
  return v
end

local families = {}
for name in pairs(q.models.families) do families[#families + 1] = name end
table.sort(families)

--- The largest difference of products along two directions from those over a recorded gradient.
local function differences(m, text, keep)
  local recorded, op, worst = curvature.operator(m, {batches = {text}, keep = "gradient"}), curvature.operator(m, {batches = {text}, keep = keep}), 0
  for _ = 1, 2 do
    local x = recorded.layout:zeros():normal_(stream)
    worst = math.max(worst, gap(recorded:product(x), op:product(x)))
  end
  return worst
end

tap.test("products of every family, against reverse over reverse", function(t)
  for _, family in ipairs(families) do
    local m = model_of(family)
    local params, v = m:parameters(), direction(m)
    local hv = curvature.operator(m, {batches = {ids}}):apply(v)
    t.equal(differences(m, ids, false), 0, family .. ": the same bits without a recorded gradient")
    t.equal(differences(m, ids, true), 0, family .. ": and with some gradients kept")
    local inner
    for i, g in ipairs(q.grad(m:loss(ids), params, {create_graph = true})) do
      local part = (g * v[i]):sum()
      inner = inner and inner + part or part
    end
    local reference, worst, size = q.grad(inner, params), 0, 0
    for i, r in ipairs(reference) do worst, size = math.max(worst, gap(hv[i], r)), math.max(size, r:abs():max():item()) end
    t.ok(worst < 1e-9 * size and size > 0, family, worst / size)
  end
end)

tap.test("products in f32, with tied embeddings, few key heads, windows, blocks in a row", function(t)
  local text = (q.zeros(3, 12):uniform_(stream, 0, 40)):floor():to("i32")
  local base = {vocab_size = 40, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 32, seed = 6}
  local function model(family, more)
    local config = {}
    for _, list in ipairs{base, more} do for key, x in pairs(list) do config[key] = x end end
    return q.models.new(family, config)
  end
  local cases = {
    {"gpt_neox", {}}, {"gpt_neox", {use_parallel_residual = false}}, {"llama", {tie_word_embeddings = true}},
    {"llama", {num_key_value_heads = 1}}, {"olmo3", {sliding_window = 3}},
  }
  for i, case in ipairs(cases) do
    local m = model(case[1], case[2])
    for _, keep in ipairs{false, true} do
      t.equal(differences(m, text, keep), 0, ("case %d, %s, keep = %s: the same bits"):format(i, case[1], tostring(keep)))
    end
  end
end)

tap.test("memory of a product", function(t)
  local m = q.models.new("gpt_neox", {vocab_size = 512, hidden_size = 64, num_hidden_layers = 3, num_attention_heads = 2,
    max_position_embeddings = 64, seed = 2})
  local text = (q.zeros(8, 65):uniform_(stream, 0, 512)):floor():to("i32")
  local function peak(fn)
    collectgarbage()
    collectgarbage()
    q.system.reset_peak()
    local before = q.system.memory().live
    local result = q.scope(fn)
    return q.system.memory().peak - before, result
  end
  local gradient = peak(function() q.grad(m:loss(text), m:parameters()) end)
  local function products(keep, count) -- operator, direction, and so many products
    return peak(function()
      local op = curvature.operator(m, {batches = {text}, keep = keep})
      local v = op.layout:zeros():normal_(q.stream(1, "v"))
      for _ = 2, count do q.scope(function() op:product(v) end) end
      return op:product(v)
    end)
  end
  local recorded, of_recorded = products("gradient", 1)
  local kept, of_kept = products(true, 3)
  local anew, of_anew = products(false, 1)
  t.ok(kept < 2 * gradient, "at most two gradients' on a kept graph", ("%.2f gradients"):format(kept / gradient))
  t.ok(anew < 1.7 * gradient, "less with nothing kept", ("%.2f gradients"):format(anew / gradient))
  t.ok(recorded > 1.3 * kept, "more with the gradient recorded", ("%.2f gradients"):format(recorded / gradient))
  t.equal(gap(of_anew, of_recorded), 0, "with the same bits, in f32 too")
  t.equal(gap(of_kept, of_recorded), 0, "on a kept graph")
  local op = curvature.operator(m, {batches = {text}, keep = true})
  local before = q.system.memory().live
  q.scope(function() op:product(op.layout:zeros()) end)
  local held = q.system.memory().live - before
  t.ok(math.abs(held - op.terms[1].graph.cache:bytes()) < 0.02 * held, "a cache holds what it said", held)
  op:refresh()
  collectgarbage()
  collectgarbage()
  t.ok(q.system.memory().live < before - 0.9 * op.cost.graph_bytes + held, "and refresh lets go of graph and cache", op.cost.graph_bytes)
end)

tap.test("the dense Hessian of a transformer", function(t)
  local m = q.models.new("gpt_neox", {vocab_size = 5, hidden_size = 4, num_hidden_layers = 1, num_attention_heads = 1, intermediate_size = 4,
    rotary_pct = 0.5, dtype = "f64"})
  q.no_grad(function() for _, p in ipairs(m:parameters()) do p:normal_(stream, 0, 0.7) end end)
  local few = q.tensor({{1, 4, 0, 2}}, "i32")
  local h = curvature.operator(m, {batches = {few}}):dense()
  local rows = {}
  for _, g in ipairs(q.grad(m:loss(few), m:parameters(), {create_graph = true})) do
    local flat = g:view(-1)
    for i = 1, flat:numel() do
      local parts = q.grad(flat:narrow(1, i, 1):sum(), m:parameters())
      for k, p in ipairs(parts) do parts[k] = p:view(-1) end
      rows[#rows + 1] = q.concat(parts, 1):view(1, -1)
    end
  end
  local size, worst = h:abs():max():item(), 0
  for i, row in ipairs(rows) do worst = math.max(worst, gap(h:narrow(1, i, 1), row)) end
  t.ok(#rows == h:size(1) and worst < 1e-9 * size, "row by row", worst / size)
  local w = q.linalg.eigh(h):totable()
  local top = curvature.top(m, {batches = {few}, k = 3, which = "both", tolerance = 1e-9, progress = false})
  t.near(top.values, {w[#w], w[#w - 1], w[#w - 2], w[1], w[2], w[3]}, 1e-8, "its ends by Lanczos")
  local trace, exact = curvature.trace(m, {batches = {few}, samples = 400, progress = false}), 0
  for i = 1, #w do exact = exact + w[i] end
  t.ok(math.abs(trace.value - exact) < 4 * trace.error, "its trace", ("%g, truth %g"):format(trace.value, exact))
end)

tap.test("Gauss-Newton and Fisher of a language model", function(t)
  local m = q.models.new("gpt_neox", {vocab_size = 5, hidden_size = 4, num_hidden_layers = 1, num_attention_heads = 1, intermediate_size = 4,
    rotary_pct = 0.5, dtype = "f64"})
  q.no_grad(function() for _, p in ipairs(m:parameters()) do p:normal_(stream, 0, 0.7) end end)
  local few = q.tensor({{1, 4, 0, 2, 3}}, "i32")
  local g = curvature.ggn(m, {batches = {few}})
  t.ok(g.names[1]:find("embed_in"), "it knows the parameters' names")
  t.equal(#curvature.trace(g, {samples = 2, groups = "role", progress = false}).groups, 4, "and their roles")
  local dense = g:dense()
  t.ok(q.linalg.eigh(dense)[1] > -1e-12, "no negative eigenvalue")
  local inputs, targets = few:narrow(2, 1, 4), few:narrow(2, 2, 4)
  local plain = curvature.ggn(function() return m:forward(inputs), targets end, m:parameters(), {loss = function(z, y)
    return (z:logsumexp(3) - z:pick(y)):mean()
  end})
  t.ok(gap(plain:dense(), dense) < 1e-12, "the fused loss and a loss written out agree")
  -- the Fisher matrix, exactly: sum over positions and labels of p g g^T / N
  local z = m:forward(inputs)
  local p, exact = z:detach():softmax(3), dense * 0
  for position = 1, 4 do
    for label = 1, 5 do
      local one = z:narrow(2, position, 1):view(1, 5)
      local flat = q.grad((one:logsumexp(2) - one:pick(q.tensor({label - 1}, "i32"))):sum(), m:parameters())
      for i, x in ipairs(flat) do flat[i] = x:view(-1) end
      flat = q.concat(flat, 1):view(-1, 1)
      exact:axpby_(1, flat:matmul(flat:t()), p:narrow(2, position, 1):view(5)[label] / 4)
    end
  end
  t.ok(gap(exact, dense) < 1e-12, "Gauss-Newton is the Fisher matrix of the model's own labels", gap(exact, dense))
  local d = direction(m)
  local truth, values = g:quadratic_form(d).value, {}
  for seed = 1, 40 do values[seed] = curvature.fisher(m, {kind = "true", samples = 10, seed = seed, batches = {few}}):quadratic_form(d).value end
  local mean, error = require("quench.curvature.estimate").mean(values)
  t.ok(math.abs(mean - truth) < 4 * error, "drawn labels estimate it without bias", ("%g +- %g, truth %g"):format(mean, error, truth))
  -- the empirical Fisher matrix by token, one gradient a token
  local empirical = dense * 0
  for position = 1, 4 do
    local one, label = z:narrow(2, position, 1):view(1, 5), targets:narrow(2, position, 1):view(1)
    local flat = q.grad((one:logsumexp(2) - one:pick(label)):sum(), m:parameters())
    for i, x in ipairs(flat) do flat[i] = x:view(-1) end
    flat = q.concat(flat, 1):view(-1, 1)
    empirical:axpby_(1, flat:matmul(flat:t()), 0.25)
  end
  local by_token = curvature.fisher(m, {kind = "empirical", per = "token", batches = {few}})
  t.ok(gap(by_token:dense(), empirical) < 1e-12, "empirical Fisher by token", gap(by_token:dense(), empirical))
  t.ok(gap(empirical, dense) > 1e-3, "which is not the Fisher matrix", gap(empirical, dense))
  t.ok(by_token.name:find("by token") and by_token:blocks("role")[1].operator:dense():size(1) > 1, "it says so, and has blocks")
  t.fails(function() curvature.fisher(m, {kind = "true", per = "token", batches = {few}}) end, "per belongs to", "drawn labels have no per")
  t.fails(function() curvature.fisher(function() return z end, m:parameters(), {kind = "empirical", per = "token"}) end, "outputs and targets",
    "labels are needed")
  local masked = few:narrow(2, 2, 4):clone()
  masked:narrow(2, 1, 2):fill_(-1)
  local part = curvature.ggn(m, {batches = {{inputs, masked}}})
  local reference = curvature.ggn(function() return m:forward(inputs):narrow(2, 3, 2), targets:narrow(2, 3, 2) end, m:parameters())
  t.ok(gap(part:dense(), reference:dense()) < 1e-12, "targets below 0 do not count")
  part = curvature.fisher(m, {kind = "empirical", per = "token", batches = {{inputs, masked}}})
  reference = curvature.fisher(function() return m:forward(inputs):narrow(2, 3, 2), targets:narrow(2, 3, 2) end, m:parameters(), {
    kind = "empirical", per = "token"})
  t.ok(gap(part:dense(), reference:dense()) < 1e-12, "nor there")
end)

tap.test("layers, roles and quantized models", function(t)
  local m = model_of "gpt_neox"
  local op = curvature.operator(m, {batches = {ids}})
  local by_layer = curvature.trace(op, {samples = 4, groups = "layer", progress = false})
  local labels = {}
  for i, g in ipairs(by_layer.groups) do labels[i] = g.name end
  t.equal(table.concat(labels, ", "), "input, layer 1, layer 2, vector, output", "groups by layer")
  local by_role, sum = curvature.trace(op, {samples = 4, groups = "role", progress = false}), 0
  for _, g in ipairs(by_role.groups) do sum = sum + g.value end
  t.near(sum, by_layer.value, 1e-12, "groups by role add up to the same trace")
  local first, made = op.cost, op.products
  local block = op:blocks("layer")[2].operator
  op:calibrate()
  t.ok(op.cost.calibrated and op.cost.seconds > 0 and op.products == made, "what a product costs, from one on the first batch")
  t.ok(op.cost.gradients == first.gradients and not block.cost.calibrated, "for this operator alone")
  t.equal(curvature.trace(op, {samples = 4, groups = "layer", progress = false}).value, by_layer.value, "and the same bits as before")
  local blocks, dimension = op:blocks("layer"), 0
  for _, b in ipairs(blocks) do dimension = dimension + b.operator.dimension end
  t.ok(#blocks == 5 and dimension == op.dimension, "blocks of layers make the whole")
  local alone = {}
  for _, r in ipairs(m:named_parameters()) do
    if r.layer == 2 then alone[#alone + 1] = r.tensor end
  end
  local of_layer = curvature.top(blocks[3].operator, {tolerance = 1e-8, progress = false}).values[1]
  local by_itself = curvature.top(function() return m:loss(ids) end, alone, {tolerance = 1e-8, progress = false}).values[1]
  t.near(of_layer, by_itself, 1e-7, "the sharpness of a layer is that of its parameters alone")
  local quantized = q.quant.quantize(m, {method = "rtn", bits = 8, group = 8})
  local r = curvature.quadratic(m, {batches = {ids:narrow(1, 1, 1), ids:narrow(1, 2, 1)}, to = quantized})
  local before = m:loss(ids):item()
  t.near(r.measured.value, quantized:loss(ids):item() - before, 1e-12, "the measured change of a quantized model")
  t.ok(math.abs(r.ratio.value - 1) < 0.05 and r.ratio.error, "which curvature predicts at 8 bits", tostring(r))
  t.fails(function() curvature.operator(m, {}) end, "a model needs batches", "no batches")
end)

tap.test("preconditioned by AdamW's state", function(t)
  local m = model_of "gpt_neox"
  local opt = q.optim.adamw(m:named_parameters(), {lr = 1e-3, betas = {0.9, 0.97}, eps = 1e-6})
  t.fails(function() curvature.preconditioned(curvature.operator(m, {batches = {ids}}), opt) end, "has not taken a step", "before the first step")
  for _, name in ipairs{"shampoo", "soap", "sgd"} do -- which keep a v of another kind, or none
    local other = q.optim[name](m:named_parameters())
    t.fails(function() curvature.preconditioned(curvature.operator(m, {batches = {ids}}), other) end,
      name == "sgd" and "no second moment" or "preconditioner of " .. name .. " is not diagonal", name)
    t.fails(function() curvature.preconditioned(curvature.operator(m, {batches = {ids}}), q.optim.sam(other)) end,
      name == "sgd" and "no second moment" or "is not diagonal", "sam around " .. name)
  end
  t.fails(function() curvature.adaptive(curvature.operator(m, {batches = {ids}}), -1) end, "eta must be a number of at least 0", "eta")
  for what, batch in pairs{["a number"] = 3, ["a string"] = "text", f32 = q.zeros(2, 5)} do
    for _, name in ipairs{"operator", "ggn"} do
      t.fails(function() curvature[name](m, {batches = {ids, batch}}) end, "batches%[2%] must be token ids.*got " .. what, name .. ": " .. what)
    end
  end
  local squares = {}
  for _ = 1, 3 do
    opt:zero_grad()
    m:loss(ids):backward()
    for i, p in ipairs(m:parameters()) do
      local g = p.grad:square() * 0.03
      squares[i] = squares[i] and squares[i] * 0.97 + g or g
    end
    opt:step()
  end
  local list = {}
  for i, v in ipairs(squares) do list[i] = (v * (1 / (1 - 0.97 ^ 3))):sqrt() + 1e-6 end
  local op, v = curvature.operator(m, {batches = {ids}}), direction(m)
  local a, b = curvature.preconditioned(op, opt):apply(v), curvature.preconditioned(op, list):apply(v)
  local worst, size = 0, 0
  for i = 1, #a do worst, size = math.max(worst, gap(a[i], b[i])), math.max(size, b[i]:abs():max():item()) end
  t.ok(worst < 1e-9 * size, "sqrt of the corrected second moment plus eps", worst / size)
end)

tap.test("gradient penalty", function(t)
  local m = model_of "gpt_neox"
  local params = m:parameters()
  local op = curvature.operator(m, {batches = {ids}})
  local g = op:gradient()
  local hg, norm = op:apply(g), 0
  for _, x in ipairs(g) do norm = norm + x:dot(x) end
  norm = math.sqrt(norm)
  for power, scale in ipairs{0.3 / norm, 0.3} do
    local loss = curvature.gradient_penalty{weight = 0.3, power = power}(m, ids)
    t.near(loss:item(), m:loss(ids):item() + 0.3 * (power == 1 and norm or norm ^ 2 / 2), 1e-12, "value, power " .. power)
    local worst = 0
    for i, x in ipairs(q.grad(loss, params)) do worst = math.max(worst, gap(x, g[i] + hg[i] * scale)) end
    t.ok(worst < 1e-11 * norm, "its gradient is g + weight H g, power " .. power, worst)
  end
end)

tap.test("along the next update of any optimizer", function(t)
  local list = {ids:narrow(1, 1, 1), ids:narrow(1, 2, 1)}
  for _, name in ipairs{"adamw", "muon", "psgd", "schedule_free", "sam"} do
    local m = model_of "gpt_neox"
    local params = m:named_parameters()
    local opt = name == "sam" and q.optim.sam(q.optim.adamw(params, {lr = 1e-3}), {rho = 0.01}) or q.optim[name](params, {lr = 1e-3})
    local function gradients() opt:zero_grad() m:loss(list[1]):backward() end
    gradients()
    opt:step(1, gradients)
    opt:zero_grad()
    local before, state = {}, {}
    for i, p in ipairs(m:parameters()) do before[i] = p:detach():clone() end
    for key, x in pairs(opt:state()) do state[key] = x:clone() end
    opt:eval()
    local c = curvature.measure(m, {batches = list, k = 0, samples = 0, optimizer = opt, update = true})
    opt:train()
    local moved = 0
    for i, p in ipairs(m:parameters()) do moved = math.max(moved, gap(p:detach(), before[i])) end
    for key, x in pairs(opt:state()) do moved = math.max(moved, gap(x:to "f64", state[key]:to "f64")) end
    t.ok(name == "schedule_free" and moved < 1e-14 or moved == 0, name .. ": weights and state are as before", moved)
    gradients()
    opt:step(1, gradients)
    opt:zero_grad()
    local d = {}
    for i, p in ipairs(m:parameters()) do
      d[i] = p:detach() - before[i]
      q.no_grad(p.copy_, p, before[i])
    end
    if name ~= "schedule_free" then -- which is measured at its average
      local e = curvature.directional(m, {batches = list, direction = d, progress = false})
      t.near({c.update.directional, c.update.length}, {e.value, e.norm}, 1e-8, name .. ": the step that it then takes")
    end
    t.ok(c.update.critical > 0 and c.update.critical_rate > 0, name .. ": its critical sharpness", c.update.critical)
  end
  t.fails(function() curvature.measure(model_of "gpt_neox", {batches = list, update = true}) end, "update needs an optimizer", "no optimizer")
end)

tap.test("measure and probe", function(t)
  local m = model_of "gpt_neox"
  local list = {ids:narrow(1, 1, 1), ids:narrow(1, 2, 1)}
  local c = curvature.measure(m, {batches = list, k = 2, samples = 4, quantize = {rtn4 = {method = "rtn", bits = 4, group = 8}}})
  t.near(c.loss, m:loss(ids):item(), 1e-12, "loss")
  t.near(c.sharpness, curvature.top(m, {batches = list, tolerance = 1e-6, progress = false}).values[1], 2e-2, "sharpness")
  t.ok(#c.eigenvalues == 2 and c.trace_error > 0 and c.rtn4.ratio_error, "eigenvalues, trace, quadratic test")
  local data = {batch = function() return ids end, tokens = function() return ids:view(-1) end}
  local run = q.train{model = m, data = data, optim = function(p) return q.optim.adamw(p, {lr = 1e-3}) end, steps = 2, batch = 2, context = 5,
    eval_tokens = 12, probes = {curvature.probe{batches = list, every = 1, samples = 2, preconditioned = true, update = true,
      quantize = {rtn4 = {method = "rtn", bits = 4, group = 8}}}}}
  local record = run.log[2]
  t.ok(record["curvature.sharpness"] and record["curvature.trace_error"] and record["curvature.rtn4.ratio"]
    and record["curvature.preconditioned"] and record["curvature.update.critical"],
    "the probe writes into the log")
  t.ok(record["curvature.eigenvalues"] == nil, "numbers only")
end)

tap.done()

-- Outlier statistics, the flow of errors through a model, correlations: known values and identities.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local metrics = q.metrics

local stream = q.stream(21, "metrics test")
local function normal(...) return q.zeros(...):to("f64"):normal_(stream) end

tap.test("k-th smallest and median", function(t)
  local x = normal(37, 101)
  local rows = x:totable()
  for _, row in ipairs(rows) do table.sort(row) end
  for _, k in ipairs{1, 2, 50, 51, 100, 101} do
    local expected = {}
    for i, row in ipairs(rows) do expected[i] = row[k] end
    t.near(x:kth(k):totable(), expected, 0, "k = " .. k)
  end
  local kept = x:clone()
  x:median()
  t.equal((x - kept):abs():max():item(), 0, "the tensor itself keeps its order")
  t.near(x:t():contiguous():t():median():totable(), x:median():totable(), 0, "strided views")
  t.near(q.tensor{{4, 1, 3, 2}, {7, 7, 7, 7}, {-1, 5, -1, -1}}:median():totable(), {2, 7, -1}, 0, "the lower middle one of four; ties")
  t.near(q.tensor{5}:median():item(), 5, 0, "one value")
  local gap = q.tensor({{1, 0 / 0, 3}, {1, 2, 3}}, "f64"):median():totable()
  t.ok(gap[1] ~= gap[1] and gap[2] == 2, "a NaN shows, in its row")
  t.near(q.tensor({{1, -1 / 0, 1 / 0}}, "f64"):median():totable(), {1}, 0, "infinities have their place")
  local descending = q.arange(1000, 0, -1, "f64")
  t.near({descending:median():item(), descending:kth(1):item(), descending:kth(1000):item()}, {500, 1, 1000}, 0, "sorted the other way")
  t.fails(function() x:kth(102) end, "kth: there is no value 102 in rows of shape %(37, 101%)", "beyond the end")
  t.fails(function() x:kth(0) end, "there is no value 0", "before the start")
  t.fails(function() q.tensor(3):median() end, "kth", "a single number")
end)

tap.test("MMR", function(t)
  local e = metrics.mmr(q.tensor{{1, -2, 3, -12}, {2, 2, 2, 2}})
  t.near({e.value, e.error}, {(6 + 1) / 2, 2.5}, 1e-14, "max over the lower median, mean and standard error over rows")
  t.near(metrics.mmr(q.tensor{{1, -2, 3, -12}, {2, 2, 2, 2}} * 7).value, 3.5, 1e-14, "scaling changes nothing")
  t.near(metrics.mmr(q.tensor{{{1, -2, 3, -12}}, {{2, 2, 2, 2}}}).value, 3.5, 1e-14, "further axes are rows")
  local dead = metrics.mmr(q.tensor{{0, 0, 0, 5}, {1, 2, 3, 4}})
  t.near({dead.value, dead.left_out}, {2, 1}, 1e-14, "a row with median 0 is left out, and counted")
  t.equal(metrics.mmr(q.zeros(3, 4)).value, math.huge, "no row has a ratio")
  t.fails(function() metrics.mmr(3) end, "q.metrics.mmr: a tensor expected, got a number", "no tensor")
end)

tap.test("kurtosis", function(t)
  -- {1, 2, 3, 10}: mean 4, squares 9 4 1 36, m2 12.5, m4 (81 + 16 + 1 + 1296)/4 = 348.5
  t.near(metrics.kurtosis(q.tensor{{1, 2, 3, 10}}).value, 348.5 / 156.25 - 3, 1e-13, "by hand")
  t.near(metrics.kurtosis(q.tensor{{1, 2, 3, 10}}, {excess = false}).value, 348.5 / 156.25, 1e-13, "plain")
  t.near(metrics.kurtosis(q.tensor{{1, 2, 3, 10}, {1, -1, 1, -1}}).value, (348.5 / 156.25 + 1) / 2 - 3, 1e-13, "mean over rows")
  local x = normal(40, 25)
  t.near(metrics.kurtosis(x, {over = "all"}).value, metrics.kurtosis(x:view(1, -1)).value, 1e-12, "of all elements")
  t.near(metrics.kurtosis(x, {over = "features"}).value, metrics.kurtosis(x:square():mean(1):sqrt():view(1, -1)).value, 1e-12, "of features")
  t.ok(math.abs(metrics.kurtosis(normal(4, 20000)).value) < 0.1, "a normal row has none")
  t.equal(metrics.kurtosis(q.tensor{{1, 1}, {1, 2}}).left_out, 1, "rows without spread are left out")
end)

tap.test("relative errors", function(t)
  local a = q.tensor({{3, 4}, {0, 1}}, "f64")
  local b = a + q.tensor({{0.3, 0.4}, {0.5, 0}}, "f64")
  t.near(metrics.relative_error(a, b), (0.25 + 0.25) / 26, 1e-14, "of the whole")
  t.near(metrics.relative_error(a, b, {over = "rows"}).value, (0.01 + 0.25) / 2, 1e-14, "of rows")
  t.near(metrics.relative_error(2, 2.5), 0.25, 1e-15, "of numbers")
  t.near({metrics.quantization_error(3.2, 3.4), metrics.accuracy_drop(0.6, 0.5)}, {0.0625, 0.25}, 1e-14, "of losses and accuracies")
  t.fails(function() metrics.relative_error(a, b:t():contiguous():view(4)) end, "shapes %(2, 2%) and %(4%) differ", "shapes")
end)

-- ---- A, B, C ----------------------------------------------------------------------------

local families = {
  gpt_neox = {vocab_size = 40, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, max_position_embeddings = 16},
  gpt2 = {vocab_size = 40, n_embd = 16, n_layer = 2, n_head = 2, n_positions = 16},
  olmo2 = {vocab_size = 40, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, intermediate_size = 32},
  mamba = {vocab_size = 40, hidden_size = 16, num_hidden_layers = 2, state_size = 4},
  mixtral = {vocab_size = 40, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, num_key_value_heads = 1,
    intermediate_size = 32, num_local_experts = 4},
}

local function pair_of(family)
  local config = {dtype = "f64", seed = 3}
  for key, v in pairs(families[family]) do config[key] = v end
  local m = q.models.new(family, config)
  q.no_grad(function() -- larger weights: errors worth the name
    for _, p in ipairs(m:parameters()) do
      if p:ndim() == 2 then p:copy_(p * 8) end
    end
  end)
  local quantized = q.quant.quantize(m, {method = "rtn", bits = 4, group = 16})
  local ids = (q.zeros(3, 8):uniform_(stream, 0, 40)):floor():to("i32")
  return m, quantized, ids
end

for family in pairs(families) do
  tap.test("ABC of " .. family, function(t)
    local m, quantized, ids = pair_of(family)
    local r = metrics.abc(m, quantized, ids, {trunc = 0.1})
    t.equal(r.tokens, 24, family .. ": tokens")
    local identity, truncated, norms_add, fewer = 0, 0, 0, true
    local modules = {}
    for _, module in ipairs(r.modules) do
      modules[module.kind] = (modules[module.kind] or 0) + 1
      identity = math.max(identity, math.abs(module.A.value + module.B.value + module.C.value - module.R.value))
      local c = module.trunc
      truncated = math.max(truncated, math.abs(c.A.value + c.B.value + c.C.value - c.R.value))
      fewer = fewer and c.R.value <= module.R.value + 1e-15 and c.R.samples == 22
      if module.kind == "rms" or module.kind == "layer" or module.kind == "sum" then norms_add = math.max(norms_add, module.B.value) end
    end
    t.ok(identity < 1e-13, family .. ": R = A + B + C", identity)
    t.ok(truncated < 1e-13 and fewer, family .. ": also without the largest tenth", truncated)
    t.equal(norms_add, 0, family .. ": norms and sums add nothing")
    t.near({r.modules[1].A.value, r.modules[1].C.value}, {0, 0}, 0, family .. ": the first module's input is the embedding, unchanged")
    local mixing = modules.attention or modules.mixer
    t.ok(mixing == 2 and modules.sum == (family == "mamba" and 2 or 4), family .. ": attention is one module, and sums count")
    local last = q.metrics.relative_error(m:hidden(ids)[3], quantized:hidden(ids)[3], {over = "rows"})
    t.near(r.R_L.value, last.value, 1e-12, family .. ": R_L is the relative error of the last hidden state")
    local batches = metrics.abc(m, quantized, {ids:narrow(1, 1, 1), ids:narrow(1, 2, 2)}, {trunc = 0.1})
    t.near(batches.R_L.value, r.R_L.value, 1e-12, family .. ": batches add up")
    local same = metrics.abc(m, m, ids)
    t.equal(same.R_L.value, 0, family .. ": a model against itself")
  end)
end

tap.test("ABC by hand", function(t)
  local m, quantized, ids = pair_of "gpt_neox"
  local r = metrics.abc(m, quantized, ids)
  local down
  for _, module in ipairs(r.modules) do
    if module.name == "gpt_neox.layers.0.mlp.dense_4h_to_h" then down = module end
  end
  -- the inputs of that layer in both models, by the hook that calibration uses
  local function input(model)
    local found
    q.nn.watching(function(record, x)
      if record.name == "gpt_neox.layers.0.mlp.dense_4h_to_h" then found = x:detach() end
    end, function() model:forward(ids) end)
    return found:view(-1, 64)
  end
  local function layer(model, x)
    for _, record in ipairs(model:linears()) do
      if record.name == "gpt_neox.layers.0.mlp.dense_4h_to_h" then return q.linear(x, record.weight:detach(), record.bias:detach()) end
    end
  end
  local h, h2 = input(m), input(quantized)
  local a = (layer(quantized, h2) - layer(quantized, h) + layer(m, h2) - layer(m, h)) * 0.5
  local b = (layer(quantized, h2) - layer(m, h2) + layer(quantized, h) - layer(m, h)) * 0.5
  local y = layer(m, h):square():sum(2)
  t.near(down.A.value, (a:square():sum(2) / y):mean():item(), 1e-12, "A")
  t.near(down.B.value, (b:square():sum(2) / y):mean():item(), 1e-12, "B")
  t.near(down.C.value, ((a * b):sum(2) * 2 / y):mean():item(), 1e-12, "C")
  t.ok(down.A.value > 0 and down.B.value > 0, "both are there")
end)

tap.test("gain", function(t)
  local m, quantized, ids = pair_of "gpt_neox"
  local list = metrics.gain(m, quantized, ids)
  local units = {}
  for i = #list, 1, -1 do
    if list[i].kind == "attention" then table.insert(units, 1, table.remove(list, i)) end
  end
  t.equal(#list, 9, "four linear layers a block and the head")
  t.equal(#units, 2, "attention as one unit a block")
  t.ok(not units[1].G and units[2].G.value > 0 and not units[2].G1 and not units[2].frozen, "measured, without factors")
  local worst, measured = 0, 0
  for _, g in ipairs(list) do
    if g.G then
      worst, measured = math.max(worst, math.abs(g.G.value / g.frozen - 1)), measured + 1
      t.ok(g.G1 > 0.8 and g.G1 < 1.25, g.name .. ": G1 is near 1", g.G1)
    end
  end
  t.ok(worst < 1e-10, "G = G1 G2 where only weights are quantized", worst)
  t.equal(measured, 7, "all but the two layers that see the embedding through a norm")
  t.ok(not list[1].G and list[1].tokens == 0, "whose input did not change")
end)

tap.test("the gain of attention", function(t)
  local m = q.models.new("ant", {vocab_size = 32, num_hidden_layers = 2, num_attention_heads = 3, head_dim = 8, seed = 1})
  local quantized, ids = q.quant.quantize(m, {method = "rtn", format = q.quant.int(3)}), q.tensor({{1, 5, 9, 2, 30, 7}}, "i32")
  local at, before, gain
  for i, module in ipairs(metrics.abc(m, quantized, ids).modules) do -- its input is the residual stream: the sum before it
    if module.kind == "attention" then at, before = module, metrics.abc(m, quantized, ids).modules[i - 1] end
  end
  for _, g in ipairs(metrics.gain(m, quantized, ids)) do
    if g.kind == "attention" and g.G then gain = g end
  end
  t.equal(gain.name, at.name, "of the second block")
  t.near(gain.G_of_means, at.A.value / before.R.value, 1e-12, "A of attention over R of what goes in")
end)

tap.test("ABC of models that do not fit", function(t)
  local m = q.models.new("gpt_neox", families.gpt_neox)
  local config = {}
  for key, v in pairs(families.gpt_neox) do config[key] = v end
  config.num_hidden_layers = 1
  local other = q.models.new("gpt_neox", config)
  local ids = q.tensor({{1, 2, 3}}, "i32")
  t.fails(function() metrics.abc(m, other, ids) end, "the models run through 16 and 9 modules", "fewer blocks")
  t.fails(function() metrics.abc(m, m, 3) end, "ids must be a tensor", "no ids")
  t.ok(q.nn.trace == nil, "tracing is over")
end)

tap.test("outliers along a model", function(t)
  local m, _, ids = pair_of "gpt_neox"
  local o = metrics.outliers(m, ids)
  local h = m:embed(ids)
  for i = 1, 2 do h = m:block(i, h) end
  t.near(o.last_block.mmr.value, metrics.mmr(h).value, 1e-14, "the last block's output")
  t.equal(o.last_linear.name, "gpt_neox.layers.1.mlp.dense_4h_to_h", "the last linear layer before the head")
  t.equal(#o.linears, 8, "all linear layers")
  t.near(metrics.outliers(m, {ids:narrow(1, 1, 2), ids:narrow(1, 3, 1)}).last_block.kurtosis.value, o.last_block.kurtosis.value, 1e-12, "batches")
end)

-- ---- correlation -------------------------------------------------------------------------------

tap.test("correlation", function(t)
  -- x 1 2 3 4 5, y 2 1 4 3 7: sxy 12, sxx 10, syy 21.2
  local c = metrics.correlation({1, 2, 3, 4, 5}, {2, 1, 4, 3, 7})
  t.near(c.value, 12 / math.sqrt(10 * 21.2), 1e-13, "Pearson by hand")
  local z, half = 0.5 * math.log((1 + c.value) / (1 - c.value)), 1.959963984540054 / math.sqrt(2)
  local function tanh(v) return (math.exp(2 * v) - 1) / (math.exp(2 * v) + 1) end
  t.near({c.low, c.high}, {tanh(z - half), tanh(z + half)}, 1e-10, "Fisher's interval")
  -- ranks 1 2 3 4 5 against 2 1 4 3 5: sum d^2 = 4
  t.near(metrics.correlation({1, 2, 3, 4, 5}, {2, 1, 4, 3, 7}, {method = "spearman"}).value, 1 - 6 * 4 / (5 * 24), 1e-13, "Spearman")
  t.near(metrics.correlation({1, 2, 2, 4}, {10, 20, 20, 25}, {method = "spearman"}).value, 1, 1e-13, "ties share a rank")
  t.near(metrics.correlation({1, 2, 3, 4}, {1, 2, 3, 4.5}).p, 2 / 24, 1e-13, "two of 24 orders are as extreme")
  t.near(metrics.correlation({1, 2, 3}, {3, 2, 1}).value, -1, 1e-13, "three points")
  t.equal(metrics.correlation({1, 2, 3}, {3, 2, 1.5}).low, nil, "which have no interval")
  local x, y, noise = {}, {}, {}
  for i = 1, 30 do x[i] = stream:normal() y[i] = x[i] + stream:normal() noise[i] = stream:normal() end
  t.ok(metrics.correlation(x, y).p < 0.01 and metrics.correlation(x, noise).p > 0.05, "p values of thirty points")
  t.equal(metrics.correlation(x, y, {seed = 3}).p, metrics.correlation(x, y, {seed = 3}).p, "repeat")
  t.fails(function() metrics.correlation({1, 2, 3}, {1, 1, 1}) end, "all values are equal", "no spread")
  t.fails(function() metrics.correlation({1, 2}, {1, 2}) end, "needs at least 3 points, got 2", "two points")
  t.fails(function() metrics.correlation({1, 2, 3}, {1, 2}) end, "3 and 2 values", "lengths")
  t.fails(function() metrics.correlation({1, 0 / 0, 3}, {1, 2, 3}) end, "x%[2%] is", "NaN")
end)

tap.done()

-- The recipes of "Beyond Outliers" at smoke scale: same bytes when forced, models shared, claims judged.
local q = require "quench"
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local folder = sh.folder()

local figures = {
  outliers = {"correlation", "rates"}, optimizers = {"rates", "training", "ends"}, abc = {"trunc", "avg"}, gain = {"gain"},
  common_loss = {"paths", "rise"}, qat = {"rise", "training"}, scaling = {"fits", "rho"},
}

local function read(path) return q.system.read_file(folder .. "/" .. path) end

local function quench(arguments) return sh(("cd %s && $Q run %s --quiet --scale=smoke"):format(folder, arguments)) end

tap.test("sizes, rates and comparisons", function(t)
  local p = {vocab = 512, heads = 3, head = 16, layers = 2, batch = 8, context = 128, per_parameter = 20, rates = 3, ratio = 3}
  local m = q.models.new("ant", {vocab_size = 512, num_hidden_layers = 2, num_attention_heads = 3, head_dim = 16})
  local weights = 0
  for _, w in ipairs(m:parameters()) do
    if w:ndim() == 2 then weights = weights + w:numel() end
  end
  t.equal(q.sweeps.weights(p), weights, "counts the model's matrices")
  t.equal(q.sweeps.steps(p), math.floor(20 * weights / 1024 + 0.5), "20 tokens for each")
  t.near(q.sweeps.factors(p), {1 / 3, 1, 3}, 1e-15, "rates around the preset's")
  t.equal(q.sweeps.sized(p, {layers = 5}).layers * q.sweeps.sized(p, {layers = 5}).head, 80, "another size, the rest as it was")
  local sizes = q.sweeps.sizes(p, "1x3x8 4x6x32")
  t.near({#sizes, sizes[1].head, sizes[2].layers, sizes[2].heads, sizes[2].batch}, {3, 8, 4, 6, 8}, 0, "sizes from a text")
  t.ok(sizes[3] == p, "the setting's own is the last")
  t.fails(function() q.sweeps.sizes(p, "1x3") end, "'1x3' is not layers x heads x width of a head", "a word that is none")
  local parts = {q.sweeps.plan(sizes[1], 2), q.sweeps.plan(p, 1)}
  t.near(q.lab.sum(parts).flops, 2 * q.sweeps.plan(sizes[1], 1).flops + q.sweeps.plan(p, 1).flops, 1, "costs add up")
  local result = {}
  for i, name in ipairs(q.sweeps.optimizers) do result[name] = i end
  local function same(v) return v end
  t.equal(q.sweeps.lead(result, "adamw", same), -1, "ahead of the best other")
  t.equal(q.sweeps.lead(result, "soap", same, nil, math.max), 1, "and of the worst")
  t.equal(q.sweeps.lead(result, "soap", same, {"psgd", "soap"}), 3, "among those named, itself left out")
  t.equal(q.sweeps.count(result, function(v) return v > 4 end), 2, "counts")
  t.near(q.sweeps.average(result, same), 3.5, 1e-15, "averages")
end)

tap.test("bars of those that have a value", function(t)
  local runs = {{adamw = 1, soap = 5}, {adamw = 3}}
  local bars = q.sweeps.bars(runs, function(v, _, result) return v and v + #result end, "l")
  t.equal(table.concat(bars.x, " ") .. " " .. bars.label, "adamw soap l", "names")
  t.near({bars.y, bars.error}, {{2, 5}, {1, 0}}, 1e-15, "means and standard errors")
end)

tap.test("values with intervals", function(t)
  local result, layers = {}, {}
  for i, name in ipairs(q.sweeps.optimizers) do result[name] = {v = i, around = {low = i - 1, high = i + 2}} end
  q.sweeps.add_intervals(layers, {result, result}, function(r) return r.v end, function(r) return r.around end, {colour = 2})
  t.equal(#layers .. layers[2][1] .. layers[2].colour, "2errorbars2", "one layer a run")
  t.near({layers[1].y, layers[1].low[6], layers[1].high[6]}, {{1, 2, 3, 4, 5, 6}, 5, 8}, 0, "in the order of the optimizers")
end)

local function claim(recipe, id)
  for _, c in ipairs(q.recipe.load(recipe).claims) do
    if c.id == id then return c.measure end
  end
end

tap.test("claims on results that are known", function(t)
  local common, layers, size, trained = {common = 3}, {}, {}, {}
  for i, name in ipairs(q.sweeps.optimizers) do
    common[name], trained[name] = {quantized = 3 + i / 10}, {full = 2, qat = 2 + i / 100, ptq = 2.045}
    layers[name] = {layers = {{name = "attention", kind = "attention", G = 50}, {name = "mlp.up", G = i, G1 = 1, G2 = i, frozen = i},
      {name = "mlp.down", G = 4 * i, G1 = 1.05, G2 = i, frozen = 1.05 * i}}}
    size[name] = {params = {rho_4 = i / 10, alpha = 0.5}, samples = {i / 10, i / 20, i / 10},
      leave_one_out = {rho_4 = {error = i / 100}, alpha = {error = 0.2}}}
  end -- in order: adamw, muon, psgd, scion, shampoo, soap
  t.near({claim("common_loss", "CL1")(common), claim("common_loss", "CL2")(common), claim("common_loss", "CL4")(common)}, {0.4, 0.1, 0.3}, 1e-12,
    "common_loss: Shampoo, Muon, and the worse of two")
  common.muon.quantized = nil
  local value, reason = claim("common_loss", "CL2")(common)
  t.ok(value == nil and reason:find("^muon was below"), "and no verdict without a measurement there", reason)
  t.near({claim("gain", "G1")(layers), claim("gain", "G2")(layers), claim("gain", "G3")(layers), claim("gain", "G4")(layers)},
    {0.05, math.log(2 / 6), math.log(5 / 2), 1}, 1e-12, "gain: spectral ratio, Muon, AdamW and Shampoo, alignment")
  t.near({claim("qat", "QAT1")(trained), claim("qat", "QAT2")(trained), claim("qat", "QAT3")(trained), claim("qat", "QAT4")(trained)},
    {2, -1.5, 6, 4}, 1e-12, "qat: rises in percent, counts")
  local first = claim("scaling", "S1")(size)
  t.near({first.value, claim("scaling", "S2")(size).value, claim("scaling", "S3")(size).value, claim("scaling", "S4")(size)},
    {-0.1, 0.2, 0.35, 0.25}, 1e-12, "scaling: rho")
  t.near({first.low, first.high}, {-0.1, -0.0525}, 1e-12, "with an interval from the draws, of all optimizers together")
end)

tap.test("outliers: a correlation over six optimizers has an interval", function(t)
  local result, y = {}, {3, 1, 2, 6, 5, 4}
  for i, name in ipairs(q.sweeps.optimizers) do
    result[name] = {best = {mmr = -y[i], kurtosis = i, R_L = y[i], quantized = y[i] + (i == 6 and 0.5 or 0)}}
  end
  local found, weak = claim("outliers", "O1")(result), claim("outliers", "O3")(result)
  t.ok(found.value > 0.98 and found.low > 0.8 and found.high > found.value, "where all goes together it is short", found.low .. " " .. found.high)
  t.ok(claim("outliers", "O2")(result).high < -0.8, "below 0 where all is turned round")
  t.ok(weak.low < 0 and weak.high > 0.9, "else it tells little", weak.low .. " " .. weak.high)
end)

tap.test("abc's claims", function(t)
  local function modules(last)
    return {modules = {{kind = "linear", A = 0, B = 1, C = 0, R = 1, trunc = {R = 1}},
      {kind = "rms", A = 0.5, B = 0, C = 0, R = 0.5, trunc = {R = 0.4}},
      {kind = "linear", A = 2, B = 1, C = 0, R = 3, trunc = {R = 3}}, {kind = "linear", A = 1, B = 2, C = 0, R = last, trunc = {R = last}}}}
  end
  local r = {}
  for _, name in ipairs(q.sweeps.optimizers) do r[name] = modules((name == "adamw" or name == "scion") and 8 or 2) end
  t.near({claim("abc", "ABC1")(r), claim("abc", "ABC2")(r), claim("abc", "ABC4")(r)}, {0.5, 1, 0.25}, 1e-12, "shares of modules")
  t.near(claim("abc", "ABC3")(r), math.log(4), 1e-12, "last R over the median R: 8 against 2")
end)

tap.test("a rate that diverges is left out", function(t)
  local p = q.recipe.load("optimizers").spec{layers = 1, head = 8, vocab = 256, batch = 2, context = 32, per_parameter = 0.125, eval_tokens = 64,
    rates = 1}
  local data = {tokenizer = q.tokenizer.bytes(), batch = function() return q.zeros(2, 33, "i32") end}
  local ctx = {once = function(_, _, fn) return fn(folder .. "/none"), folder .. "/none" end}
  function ctx:progress(x) return q.progress{total = x.total, label = x.label, quiet = self == ctx} end
  local bad = setmetatable({batch = function() error("the loss became nan", 0) end}, {__index = data})
  local r = q.sweeps.train(p, ctx, bad, {name = "adamw", factor = 1})
  t.ok(r.diverged and not r.loss and r.lr == 3e-3, "diverged, without a loss")
  t.fails(function() q.sweeps.sweep(p, ctx, bad, "adamw") end, "adamw diverges at all 1 rates", "no rate is left")
  bad.batch = function() error("another failure", 0) end
  t.fails(function() q.sweeps.train(p, ctx, bad, {name = "adamw", factor = 1}) end, "another failure", "other errors stay errors")
end)

local names = {}
for name in pairs(figures) do names[#names + 1] = name end
table.sort(names)

tap.test("smoke", function(t)
  local trained
  for _, name in ipairs(names) do
    local out, err, status = quench(name)
    local path = out:match("(out/" .. name .. "/%x+)")
    if not t.ok(status == 0 and path, name .. " runs", out .. err) then return end
    local before = {results = read(path .. "/results.json")}
    for _, f in ipairs(figures[name]) do before[f] = read(path .. "/" .. f .. ".png") end
    t.ok(not out:find("nothing measured", 1, true) and not out:find("not a number", 1, true), name .. ": all claims are measured", out)
    out, err, status = quench(name .. " --force --out=again")
    t.equal(q.system.read_file(folder .. "/" .. path:gsub("^out", "again") .. "/results.json"), before.results, name .. ": the same results")
    for _, f in ipairs(figures[name]) do
      t.ok(read((path:gsub("^out", "again")) .. "/" .. f .. ".png") == before[f], name .. ": the same " .. f .. ".png", out .. err .. status)
    end
  end
  trained = #q.system.list(folder .. "/out/shared")
  local runs = 6 * (q.sweeps.scales().smoke.rates + 1 + 3 * 2) -- all rates, QuEST, and three sizes with and without
  t.equal(trained, runs, "each model is trained once for all recipes")
end)

sh.clean()
tap.done()

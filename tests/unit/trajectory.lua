-- q.trajectory: what names, tables and published schedules say of a checkpoint; the walk over a few tiny ones.
local q = require "quench"
local json = require "quench.json"
local tap = dofile "tests/tap.lua"

local tr = q.trajectory
local bytes = q.tokenizer.bytes()
bytes:encode("warm" .. ("up "):rep(2000))
bytes:encode "a"

local function folder()
  local path = os.tmpname()
  os.remove(path)
  q.system.make_directories(path)
  return path
end
local function remove(...)
  for _, path in ipairs{...} do os.execute("rm -rf '" .. path .. "'") end
end

tap.test("published schedules", function(t)
  local function rate(run, name) return tr.place(name, tr.runs[run]).rate end
  t.near(rate("smollm3-3b", "stage1-step-40k"), 2e-4, 1e-15, "SmolLM3: constant")
  t.near(rate("smollm3-3b", "stage3-step-4720k"), 2e-4 * 1 / 522000, 1e-9, "and 0 at 11.1T tokens")
  t.near(tr.place("stage3-step-4720k", tr.runs["smollm3-3b"]).tokens, 11.1e12, 0.004, "which are 4.72 M steps")
  t.near(rate("smollm3-3b", "stage3-step-4459k"), 1e-4, 1e-3, "half way down")
  t.near(rate("olmo2-7b", "stage2-ingredient1-step1000-tokens5B"), 6.15e-5 * (1 - 1000 / 11931), 1e-6,
    "OLMo 2: 6.15e-5 at the second stage's start")
  t.near(rate("olmo2-7b", "stage1-step928646-tokens3896B"), 6.15e-5, 1e-6, "and at the first one's end")
  t.near(tr.place("stage1-step928646-tokens3896B", tr.runs["olmo2-7b"]).tokens, 3896e9, 1e9, "whose tokens are the name's")
  t.near(tr.place("stage1-step596057-tokens5001B", tr.runs["olmo2-13b"]).tokens, 5001e9, 1e9, "13B too")
  t.near(rate("apertus-8b", "step2627139-tokens15T"), 1.1e-5, 1e-12, "Apertus ends at a tenth")
  t.near(rate("apertus-8b", ("step%d-tokens9B"):format(2627139 - 197219 * 3 / 4)), 1.1e-4 - 0.99e-4 / 2, 1e-9, "along a root")
  t.near(rate("pythia-160m", "step143000"), 6e-5, 1e-12, "Pythia")
  t.equal(rate("opensci-1.7b", "iter_0058000"), nil, "an unknown schedule is not invented")
  t.equal(tr.place("lc-4k-to-32k-step-8k", tr.runs["smollm3-3b"]).step, 4728000, "long context comes after")
  for name, run in pairs(tr.runs) do
    local bad = {}
    for _, revision in ipairs(run.revisions) do
      local p = tr.place(revision, run)
      if not p.step and not revision:find("^it%-") then bad[#bad + 1] = revision end
    end
    t.equal(table.concat(bad, " "), "", name .. ": every revision has its step")
    t.ok(q.models.families[run.family], name .. ": and the run a family")
  end
  t.equal(tr.place("stage2-step-3480k", tr.runs["smollm3-3b"]).config.rope_theta, 50000, "SmolLM3's rotary base by stage")
  t.equal(tr.place("lc-32k-to-64k-step-4k", tr.runs["smollm3-3b"]).config.rope_theta, 5000000, "and later")
end)

tap.test("names, trainers, tables", function(t)
  local dir = folder()
  q.system.make_directories(dir .. "/checkpoint-500")
  q.system.write_file(dir .. "/checkpoint-500/trainer_state.json", json.encode{global_step = 500,
    log_history = {{step = 400, learning_rate = 2e-3}, {step = 500, learning_rate = 1e-3}, {step = 500, eval_loss = 3}}})
  local p = tr.place(dir .. "/checkpoint-500/")
  t.equal(p.step .. " " .. p.rate, "500 0.001", "trainer_state.json")
  t.equal(tr.place("stage1-step-40k").step, 40000, "thousands")
  t.near(tr.place("step7000-tokens15B").tokens, 15e9, 0, "tokens")
  t.equal(tr.place("main").step, nil, "nothing known")
  q.system.write_file(dir .. "/t.csv", "name,step,tokens,lr\nmain, 9, 90, 0.5\n")
  for _, name in ipairs{"a-step1", "a-step2", "b"} do
    q.system.make_directories(dir .. "/" .. name)
    q.system.write_file(dir .. "/" .. name .. "/config.json", "{}")
  end
  t.equal(#tr.glob(dir .. "/a*"), 2, "a pattern")
  t.equal(tr.glob(dir .. "/?")[1], dir .. "/b", "one letter")
  t.equal(#tr.glob(dir .. "/c*"), 0, "that nothing matches")
  t.equal(#tr.glob(dir .. "/checkpoint*"), 0, "folders without config.json are no models")
  remove(dir)
end)

local text = ("A small text about nothing much, in which words come and go. "):rep(6)

-- Checkpoints of one model that moves a little: folders named step1, step2, ...
local function checkpoints(dir, n)
  local models = {}
  for i = 1, n do
    local m = q.models.new("gpt_neox",
      {vocab_size = 256, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, initializer_range = 0.2})
    for k, p in ipairs(m:parameters()) do
      q.no_grad(p.axpby_, p, 1, q.zeros(p:shape()):normal_(q.stream(i, "move" .. k)), 0.02 * i)
    end
    m:save(dir .. "/step" .. i * 10)
    models[i] = m
  end
  return models
end

tap.test("a walk", function(t)
  local dir, out = folder(), folder()
  local models = checkpoints(dir, 4)
  q.system.write_file(dir .. "/t.csv", "name\trate\nstep10\t1e-3\nstep20\t5e-4\nstep30\t2e-4\nstep40\t1e-4\n")
  local ids = bytes:encode(text, {tensor = true}):narrow(1, 1, 128):view(4, 32)
  local settings = {
    text = text, tokenizer = bytes, block = 64, bits = {3, 4}, quantize = {method = "gptq", group = 8, calibration = ids},
    table = dir .. "/t.csv", lawa = 3, soup = "step[12]0", out = out,
  }
  local r = tr.measure(dir .. "/step*", settings)
  t.equal(#r.points, 4, "four checkpoints")
  for i, p in ipairs(r.points) do
    t.equal(p.step, i * 10, "in order")
    local loss = q.eval.text(models[i], text, {tokenizer = bytes, block = 64}).loss
    local small = q.quant.quantize(models[i], {method = "gptq", bits = 3, group = 8, calibration = ids})
    local quantized = q.eval.text(small, text, {tokenizer = bytes, block = 64}).loss
    t.near(p.loss, loss, 1e-6, "its loss")
    t.near(p.bits["3"].error, quantized / loss - 1, 1e-6, "its error at 3 bits")
  end
  t.equal(r.points[2].rate, 5e-4, "the rate from the table")
  t.equal(#r.averages, 3, "two windows and a soup")
  local soup = q.models.load(dir .. "/step10"):assign(q.average.soup{models[1], models[2]})
  t.near(r.averages[3].loss, q.eval.text(soup, text, {tokenizer = bytes, block = 64}).loss, 1e-5, "the soup is the mean")
  local three = q.models.load(dir .. "/step10"):assign(q.average.soup{models[2], models[3], models[4]})
  t.near(r.averages[2].loss, q.eval.text(three, text, {tokenizer = bytes, block = 64}).loss, 1e-5, "and a window too")
  t.equal(r.averages[2].step, 40, "at its last checkpoint")

  local lines = #q.eval.read(out .. "/points.jsonl")
  local again = tr.measure(dir .. "/step*", settings)
  t.equal(#q.eval.read(out .. "/points.jsonl"), lines, "nothing is measured twice")
  t.equal(again.points[3].bits["4"].loss, r.points[3].bits["4"].loss, "and the same is given")
  local kept = q.system.read_file(out .. "/points.jsonl")
  q.system.write_file(out .. "/points.jsonl", "[1]\n" .. kept:sub(1, -20)) -- a line that is no point, and one cut short
  again = tr.measure(dir .. "/step*", settings)
  t.equal(q.system.read_file(out .. "/points.jsonl"), kept, "the point that was cut short is measured again")
  t.equal(again.averages[3].loss, r.averages[3].loss, "with the same result")
  settings.quantize.skip = {"mlp"}
  tr.measure(dir .. "/step10", {text = text, tokenizer = bytes, block = 64, quantize = settings.quantize, out = out})
  t.equal(#q.eval.read(out .. "/points.jsonl"), lines + 1, "but other options are another point")
  settings.quantize.skip = nil
  tr.measure(dir .. "/step40", {text = text, tokenizer = bytes, block = 64, quantize = settings.quantize, out = out})
  models[3]:save(dir .. "/step40")
  tr.measure(dir .. "/step40", {text = text, tokenizer = bytes, block = 64, quantize = settings.quantize, out = out})
  t.equal(#q.eval.read(out .. "/points.jsonl"), lines + 2, "and so are other weights in the same folder")
  settings.out, settings.disk, settings.lawa, settings.soup, settings.bits = nil, true, nil, nil, {3}
  local streamed = tr.measure({dir .. "/step20"}, settings)
  t.near(streamed.points[1].bits["3"].loss, r.points[2].bits["3"].loss, 1e-5, "through files, block by block")
  tr.figure(r):save(out .. "/t.png")
  t.ok(q.system.size(out .. "/t.png") > 5000, "a figure")
  t.fails(function() tr.measure({dir .. "/step20"}, {text = text, tokenizer = bytes, run = "olmo2-7"}) end, "did you mean 'olmo2-",
    "an unknown run")
  t.fails(function() tr.measure(dir .. "/none*", {text = text}) end, "no folder with a config.json", "no folder")
  local function other(more, quantize, list)
    local given = {text = text, tokenizer = bytes, block = 64, limit = 1, quantize = quantize}
    for key, value in pairs(more) do given[key] = value end
    return tr.measure(list or {dir .. "/step20"}, given)
  end
  local f = other({}, {method = "rtn", format = "nf4", group = 8})
  local small = q.quant.quantize(models[2], {method = "rtn", format = "nf4", group = 8})
  t.near(f.points[1].bits.nf4.loss, q.eval.text(small, text, {tokenizer = bytes, block = 64, limit = 1}).loss, 1e-6, "a format is one curve")
  t.equal(table.concat(f.bits, " "), "nf4", "of its own name")
  t.equal(table.concat(other({}, {method = "smoothquant", calibration = ids}).bits, " "), "smoothquant", "as is a method whose bits are not chosen")
  t.equal(tr.label(3) .. ", " .. tr.label "nf4", "3 bits, nf4", "names of curves")
  t.fails(function() other({bits = {3}}, {method = "rtn", format = "nf4"}) end, "bits and format exclude", "bits beside a format")
  t.fails(function() other({bits = {"2", "x"}}, {method = "rtn"}) end, 'bits must be integer, got "2"', "bits that are no numbers", true)
  t.fails(function() other({bits = {9}}, {method = "rtn"}) end, "bits must be at most 8, got 9", "or too many", true)
  t.fails(function() other({lawa = 9}, {method = "rtn"}) end, "lawa = 9, but there are 1", "a window wider than the run")
  t.fails(function() other({soup = "["}, {method = "rtn"}) end, "no Lua pattern", "a pattern that is none")
  t.fails(function() other({table = dir .. "/t.csv"}, {method = "rtn"}, {dir .. "/step20", out}) end, "has no row for", "a table with a gap")
  t.fails(function()
    tr.measure({dir .. "/step20"}, {text = text, tokenizer = bytes, bits = {8}, quantize = {method = "rtn", group = 8}, soup = "x"})
  end, "soup 'x' matches 0 checkpoints", "no soup")
  remove(dir, out)
end)

tap.test("averages on disk", function(t)
  local dir = folder()
  local models = checkpoints(dir, 2)
  q.disk.average({dir .. "/step10", dir .. "/step20"}, dir .. "/mean", {0.9, 0.1})
  local mean = q.models.load(dir .. "/mean"):tensors()
  local gap = 0
  for name, x in pairs(models[1]:tensors()) do
    gap = math.max(gap, (mean[name] - (x * 0.9 + models[2]:tensors()[name] * 0.1)):abs():max():item())
  end
  t.ok(gap < 1e-6, "0.9 of one and 0.1 of the other", gap)
  q.models.new("gpt_neox", {vocab_size = 256, hidden_size = 8, num_hidden_layers = 1, num_attention_heads = 1}):save(dir .. "/other")
  t.fails(function() q.disk.average({dir .. "/step10", dir .. "/other"}, dir .. "/x") end, "different configurations", "models that do not fit")
  remove(dir)
end)

tap.done()

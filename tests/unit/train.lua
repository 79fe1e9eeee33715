-- The training loop: it learns, resumes and forks bit for bit, reports what goes wrong.
local q = require "quench"
local tap = dofile "tests/tap.lua"

local root = os.tmpname()
os.remove(root)

--- A text of 16 symbols in which each follows from the one before, but for some noise.
local function make_data()
  local s, ids, last = q.stream(3, "text"), {}, 0
  for i = 1, 4000 do
    last = s:uniform() < 0.9 and (last * 5 + 3) % 16 or s:below(16)
    ids[i] = last
  end
  local all = q.tensor(ids, "i32")
  local parts = {train = all:narrow(1, 1, 3200), validation = all:narrow(1, 3201, 800)}
  return {
    tokens = function(_, split) return parts[split] end,
    batch = function(_, split, batch, time, stream)
      local rows = {}
      for i = 1, batch do rows[i] = parts[split]:narrow(1, stream:below(parts[split]:numel() - time + 1) + 1, time) end
      return q.stack(rows)
    end,
  }
end
local data = make_data()

local function model(seed, dropout)
  return q.models.new("gpt_neox", {vocab_size = 16, hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2,
    hidden_dropout = dropout, seed = seed})
end

local function settings(more)
  local o = {model = model(1, 0.1), data = data, steps = 12, batch = 4, context = 16,
    optim = function(p) return q.optim.adamw(p, {lr = 1e-2, clip = 1}) end, schedule = function(step) return math.min(1, step / 4) end, seed = 5}
  for key, value in pairs(more) do o[key] = value end
  return o
end

local function bits(run)
  local sum = {}
  for i, p in ipairs(run.model:parameters()) do sum[i] = ("%a"):format(p:norm()) end
  for _, r in ipairs(run.log) do sum[#sum + 1] = ("%d %a"):format(r.step, r.loss) end
  return table.concat(sum, " ")
end

tap.test("it learns", function(t)
  local run = q.train(settings{model = model(1), steps = 150})
  t.ok(run.log[1].loss > 2.5 and run.log[150].loss < 1.4, "loss falls", run.log[150].loss)
  local e = q.train.evaluate(run.model, data, {context = 16, tokens = 600})
  t.ok(e.loss < 1.4 and e.loss > 0.5, "on held-out text too", e.loss)
  t.equal(run.log[150].eval_loss, q.train.evaluate(run.model, data, {context = 16, batch = 4}).loss, "the last step is evaluated and logged")
end)

tap.test("bf16 products learn as f32 ones do", function(t)
  local full = q.train(settings{model = model(1), steps = 150})
  local mixed = q.train(settings{model = model(1), steps = 150, precision = "bf16"})
  t.ok(full.log[1].loss ~= mixed.log[1].loss, "they are not the same")
  local gap = 0
  for i = 1, 150 do gap = math.max(gap, math.abs(full.log[i].loss - mixed.log[i].loss)) end
  t.ok(gap < 0.02, "the curves lie on each other", gap)
  t.equal(q.nn.precision(), "f32", "the setting does not outlive the run")
end)

tap.test("activation checkpointing: the same bits, less memory", function(t)
  local function both(more, family)
    local runs = {}
    for i, recompute in ipairs{false, true} do
      local m = family and q.models.new(family, {vocab_size = 16, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2})
      local s = settings{model = m or model(1, 0.1), steps = 4, recompute = recompute}
      for key, value in pairs(more) do s[key] = value end
      runs[i] = bits(q.train(s))
    end
    return runs[1], runs[2]
  end
  local plain, recomputed = both{}
  t.equal(recomputed, plain, "with dropout")
  plain, recomputed = both{precision = "bf16", accumulate = 2}
  t.equal(recomputed, plain, "in bf16, over two batches")
  plain, recomputed = both({}, "olmo2")
  t.equal(recomputed, plain, "olmo2")
  plain, recomputed = both({}, "qwen3")
  t.equal(recomputed, plain, "qwen3")
  local m = q.models.new("gpt_neox", {vocab_size = 16, hidden_size = 32, num_hidden_layers = 6, num_attention_heads = 2})
  local ids = (q.rand(8, 65) * 16):floor():to("i32")
  local function peak(recompute)
    m.recompute = recompute
    for _, p in ipairs(m:parameters()) do p.grad = nil end
    local before = q.system.memory().live
    q.system.reset_peak()
    q.scope(function() m:loss(ids):backward() end)
    m.recompute = nil
    return q.system.memory().peak - before
  end
  local full, less = peak(false), peak(true)
  t.ok(less < 0.45 * full, "six blocks", ("%.2f of the memory"):format(less / full))
  m.recompute = true
  local p = m:parameters()
  t.fails(function() q.curvature.hvp(function() return m:loss(ids) end, p, p) end, "first derivatives only", "first derivatives only")
end)

tap.test("resumed equals uninterrupted", function(t)
  local whole = q.train(settings{folder = root .. "/whole", checkpoint_every = 5})
  local part = q.train(settings{folder = root .. "/part", steps = 7})
  t.equal(part.step, 7, "stopped at step 7")
  local rest = q.train(settings{folder = root .. "/part"})
  t.equal(bits(rest), bits(whole), "the same bits after a stop at step 7")
  local list = whole:checkpoints()
  t.near({list[1].step, list[2].step}, {5, 10}, 0, "kept states")
  local again = q.train(settings{folder = root .. "/whole", checkpoint_every = 5})
  t.equal(#again.log, 12, "a finished run is not run again")
  local fork = q.train(settings{from = list[1].path})
  t.equal(bits({model = fork.model, log = {}}), bits({model = whole.model, log = {}}), "a fork under the same schedule ends the same")
  local other = q.train(settings{from = list[1].path, schedule = function() return 0 end})
  local at5 = q.train.checkpoint.model(list[1].path)
  t.equal(bits({model = other.model, log = {}}), bits({model = at5, log = {}}), "a fork at rate 0 stays where it was")
end)

tap.test("killed between a state and the log", function(t)
  local run = q.train(settings{folder = root .. "/torn", steps = 6})
  q.system.append_file(root .. "/torn/log.jsonl", '{"loss":1,"step":7}\n{"lo') -- written after the state, and torn
  local rest = q.train(settings{folder = root .. "/torn"})
  t.equal(#rest.log, 12, "later lines are dropped")
  t.equal(bits(rest), bits(q.train(settings{})), "and the result is the same")
  t.ok(run)
end)

tap.test("accumulation", function(t)
  local fixed = q.stream(9, "fixed")
  local ids = data:batch("train", 4, 17, fixed)
  local halves = {ids:narrow(1, 1, 2), ids:narrow(1, 3, 2)}
  local turn = 0
  local two = q.train(settings{model = model(1), steps = 1, accumulate = 2, data = {tokens = data.tokens, batch = function()
    turn = turn + 1
    return halves[turn]
  end}})
  local one = q.train(settings{model = model(1), steps = 1, data = {tokens = data.tokens, batch = function() return ids end}})
  for i, p in ipairs(two.model:parameters()) do
    if (p - one.model:parameters()[i]):abs():max():item() > 2e-5 then t.ok(false, "two half batches equal one", i) end
  end
  t.near(two.log[1].loss, one.log[1].loss, 1e-6, "their loss is the mean")
end)

tap.test("probes", function(t)
  local seen = {}
  local run = q.train(settings{steps = 5, probes = {
    {name = "a", every = 2, run = function(at) seen[#seen + 1] = at.step return at.step * 10 end},
    {name = "b", every = 5, run = function() return {x = 1, y = 2} end},
  }})
  t.near(seen, {2, 4, 5}, 0, "called every second step and at the end")
  t.equal(run.log[4].a, 40, "logged")
  t.equal(run.log[5]["b.y"], 2, "tables by their keys")
  local plain = q.train(settings{steps = 5})
  t.equal(bits({model = run.model, log = {}}), bits({model = plain.model, log = {}}), "and leave no trace in the weights")
end)

tap.test("what goes wrong", function(t)
  local calls = 0
  local function bad(m, ids)
    calls = calls + 1
    local loss = m:loss(ids)
    return calls == 3 and loss * (0 / 0) or loss
  end
  t.fails(function() q.train(settings{loss = bad}) end, "the loss became nan at step 3", "NaN stops the run and names the step")
  t.fails(function() q.train(settings{stepz = 3}) end, "unknown option 'stepz' (did you mean 'steps'?)", "a misspelt option", true)
  t.fails(function() q.train{model = model(1), data = data, steps = 3} end, "optim is required", "a missing one", true)
  q.train(settings{folder = root .. "/small", steps = 2})
  t.fails(function()
    q.train(settings{folder = root .. "/small",
      model = q.models.new("gpt_neox", {vocab_size = 16, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2})})
  end, "belongs to another run", "a folder of another model", true)
  local path = root .. "/small/latest.safetensors"
  local text = q.system.read_file(path)
  q.system.write_file(path, text:sub(1, #text - 100))
  t.fails(function() q.train(settings{folder = root .. "/small"}) end, "latest.safetensors", "a truncated state names the file", true)
end)

tap.test("interrupt", function(t)
  local once = false
  local o = settings{folder = root .. "/stop", probes = {{name = "stop", every = 4, run = function(at)
    if at.step == 4 and not once then q.system.interrupt() end
    once = true
    return 0
  end}}}
  t.fails(function() q.train(o) end, "training interrupted at step 4 of 12; the state is saved", "Ctrl-C saves and says so", true)
  local rest = q.train(settings{folder = root .. "/stop"})
  t.ok(q.train.interrupted == nil, "the stopped run is let go when its folder goes on")
  local plain = q.train(settings{})
  t.equal(bits({model = rest.model, log = {}}), bits({model = plain.model, log = {}}), "resumed after it: the same bits")
  once, o = false, settings{probes = o.probes}
  t.fails(function() q.train(o) end, "step 4 of 12; q.train.interrupted:resume() goes on", "without a folder, too", true)
  local going_on = q.train.interrupted:resume()
  t.equal(bits({model = going_on.model, log = {}}), bits({model = plain.model, log = {}}), "the run goes on: the same bits")
  t.ok(q.train.interrupted == nil, "and is let go")
  local said = ("run at step 12 of 12, loss %.4f, evaluated %.4f"):format(going_on.log[12].loss, going_on.log[12].eval_loss)
  t.equal(tostring(going_on), said, "a run tells where it is")
end)

os.execute("rm -rf '" .. root .. "'")
tap.done()

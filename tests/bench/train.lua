-- Speed of a training step (forward, backward, clip, AdamW) and of Hessian-vector products at the three sizes of
-- docs/performance.md: one JSON line a case. Arguments choose cases: build/quench tests/bench/train.lua small "base bf16" "tiny hvp"
local q = require "quench"
local machine = require "quench.c.machine"

local sizes = {
  tiny = {layers = 2, width = 128, heads = 4, time = 128, batch = 8, vocabulary = 512},
  small = {layers = 4, width = 256, heads = 8, time = 256, batch = 8, vocabulary = 4096},
  base = {layers = 6, width = 512, heads = 8, time = 256, batch = 8, vocabulary = 8192},
}

local function make(s)
  local model = q.models.new("gpt_neox", {num_hidden_layers = s.layers, hidden_size = s.width, num_attention_heads = s.heads,
    vocab_size = s.vocabulary, max_position_embeddings = s.time, rotary_pct = 0.25})
  return model, (q.rand(s.batch, s.time + 1) * s.vocabulary):floor():to("i32")
end

--- Median and best seconds of fn over a number of runs, after two to warm up.
local function timed(fn, runs)
  local times = {}
  for i = -1, runs do
    local start = q.system.clock()
    fn()
    times[math.max(i, 1)] = q.system.clock() - start
  end
  table.sort(times)
  return times[math.ceil(#times / 2)], times[1]
end

local function peak_rss()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmHWM:%s+(%d+)")
    if kib then return tonumber(kib) / 1024 end
  end
end

--- flops of a case's work: 6 a parameter and token (forward and backward), and attention's products on the pairs that are seen.
local function work(model, s)
  local parameters = model:count() - s.vocabulary * s.width
  return 6 * parameters * s.batch * s.time + 6 * s.layers * s.batch * s.time * (s.time + 1) * s.width
end

local function report(case, s, model, median, best, passes, more)
  local peak = machine.probe_fma(0.1) * q.threads()
  local line = {bench = "train", case = case, ms = median * 1e3, ms_best = best * 1e3, tokens_per_s = s.batch * s.time / median,
    gflops = passes * work(model, s) / median * 1e-9, peak_gflops = peak, threads = q.threads(), tiles = machine.tiles(),
    peak_rss_mb = peak_rss()}
  line.fraction_of_peak = line.gflops / peak
  for key, value in pairs(more or {}) do line[key] = value end
  print(q.json.encode(line))
end

local function step_case(case, s, kind)
  local model, ids = make(s)
  local precision = kind == "bf16" and "bf16" or "f32"
  model.recompute = kind == "recompute"
  local optim = q.optim.adamw(model:named_parameters(), {lr = 1e-3, clip = 1})
  local first
  local median, best = timed(function()
    optim:zero_grad()
    q.nn.with_precision(precision, q.scope, function()
      local loss = model:loss(ids)
      loss:backward()
      first = first or loss:item()
    end)
    optim:step()
  end, s.layers > 4 and 5 or 15)
  report(case, s, model, median, best, 1, {loss_first = first})
end

local function hvp_case(case, s)
  local model, ids = make(s)
  local parameters = model:parameters()
  local operator = q.curvature.operator(model, {batches = {ids}})
  local v = operator.layout:zeros():normal_(q.stream(1, "bench"))
  local runs = s.layers > 4 and 3 or 9
  local gradient = timed(function() q.scope(function() q.grad(model:loss(ids), parameters) end) end, runs)
  local median, best = timed(function() q.scope(operator.product, operator, v) end, runs)
  report(case, s, model, median, best, 2, {gradients = median / gradient})
end

local wanted = {...}
if #wanted == 0 then wanted = {"tiny", "tiny bf16", "tiny hvp", "small", "small bf16", "small recompute", "small hvp", "base", "base bf16"} end
for _, case in ipairs(wanted) do
  local size, kind = case:match("^(%S+) ?(%S*)$")
  if not sizes[size] then error("no case '" .. case .. "'; a size (tiny, small, base), and bf16, recompute or hvp if wanted") end
  if kind == "hvp" then hvp_case(case, sizes[size]) else step_case(case, sizes[size], kind) end
  collectgarbage()
  collectgarbage()
end

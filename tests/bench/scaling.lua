-- How the cost of a training step grows with context T, batch B, layers L and width d, beside the arithmetic that theory
-- counts: one JSON line a doubling. Processor seconds of one thread, not wall time, so that other work on the machine disturbs
-- less (the least of RUNS). Then the counted peak of memory of one step of a larger model, and how large one fits the gigabytes in FIT;
-- LARGEST=1 trains that for two steps, with all threads.
local q = require "quench"
local machine = require "quench.c.machine"

local threads = q.threads()
q.threads(1)
local quick = os.getenv("QUICK") ~= nil -- the test that this works
local base = quick and {layers = 1, width = 32, time = 16, batch = 1, vocabulary = 64} or
  {layers = 2, width = 128, time = 128, batch = 4, vocabulary = 512}

local function make(s, recompute)
  local model = q.models.new("gpt_neox", {num_hidden_layers = s.layers, hidden_size = s.width, num_attention_heads = s.width / 32,
    vocab_size = s.vocabulary, max_position_embeddings = s.time, rotary_pct = 0.25})
  model.recompute = recompute
  return model, (q.rand(s.batch, s.time + 1) * s.vocabulary):floor():to("i32")
end

--- Arithmetic of a step: 6 a parameter of the blocks and the head and token, 6 d a pair of positions, layer and sequence.
local function flops(s)
  local parameters = 12 * s.layers * s.width ^ 2 + s.vocabulary * s.width
  return 6 * parameters * s.batch * s.time + 6 * s.layers * s.batch * s.time * (s.time + 1) * s.width
end

--- Processor seconds of a step (the least of some) and the peak of counted memory in bytes.
local function measure(s, recompute, runs)
  local model, ids = make(s, recompute)
  local optim = q.optim.adamw(model:named_parameters(), {lr = 1e-3, clip = 1})
  local list = {}
  for _ = 1, runs or tonumber(os.getenv("RUNS") or quick and 1 or 7) do
    q.system.reset_peak()
    local start = os.clock()
    optim:zero_grad()
    q.scope(function() model:loss(ids):backward() end)
    optim:step()
    list[#list + 1] = os.clock() - start
  end
  local peak = q.system.memory().peak
  for _, p in ipairs(model:parameters()) do p.grad = nil end
  table.sort(list)
  return list[1], peak, model:count(), (list[#list] - list[1]) / list[1]
end

local function changed(what, factor)
  local s = {}
  for key, value in pairs(base) do s[key] = value end
  if what then s[what] = s[what] * factor end
  return s
end

local function size_of(s) return ("%d layers, d %d, T %d, B %d, V %d"):format(s.layers, s.width, s.time, s.batch, s.vocabulary) end

local seconds0, peak0 = measure(base)
for _, what in ipairs{"time", "batch", "layers", "width"} do
  for _, factor in ipairs{2, 4} do
    local s = changed(what, factor)
    local seconds, peak, _, spread = measure(s)
    local rate = flops(s) / seconds * 1e-9
    collectgarbage()
    collectgarbage()
    print(q.json.encode{bench = "scaling", case = what .. " x " .. factor, size = size_of(s), threads = 1, least_ms = seconds * 1e3, spread = spread,
      cost = seconds / seconds0, theory = flops(s) / flops(base), gflops = rate, fraction_of_peak = rate / machine.probe_fma(quick and 0.001 or 0.02),
      memory = peak / peak0, peak_mb = peak / 1e6})
  end
end

-- ---- the largest model: bytes = 16 a parameter (value, gradient, two moments) + activations, measured at two depths ----

local fit = tonumber(os.getenv("FIT") or 20) * 1e9
for _, recompute in ipairs{false, true} do
  local shape = {layers = 1, width = quick and 32 or 512, time = quick and 16 or 256, batch = quick and 1 or 8, vocabulary = quick and 64 or 8192}
  local peaks, counts = {}, {}
  for layers = 1, 2 do
    shape.layers = layers
    local _, peak, count = measure(shape, recompute, 1)
    peaks[layers], counts[layers] = peak, count
    collectgarbage()
    collectgarbage()
  end
  local a_layer = peaks[2] - peaks[1] -- parameters with their state, and activations
  local layers = math.floor((fit - peaks[1]) / a_layer) + 1
  print(q.json.encode{bench = "largest", case = recompute and "recompute" or "all kept", threads = 1, gigabytes = fit / 1e9, size = size_of(shape),
    mb_first_layer = peaks[1] / 1e6, mb_a_layer = a_layer / 1e6, layers = layers,
    parameters = counts[1] + (layers - 1) * (counts[2] - counts[1])})
  if os.getenv("LARGEST") then
    q.threads(threads)
    shape.layers = layers
    local start = q.system.clock()
    local _, peak, count = measure(shape, recompute, 2)
    print(q.json.encode{bench = "largest, run", case = recompute and "recompute" or "all kept", threads = threads, size = size_of(shape),
      parameters = count, peak_gb = peak / 1e9, seconds_a_step = (q.system.clock() - start) / 2})
    q.threads(1)
    collectgarbage()
    collectgarbage()
  end
end

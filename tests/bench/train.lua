-- Speed of a training step (forward, backward, clip, AdamW), of Hessian-vector products and of 20 Lanczos steps at the three
-- sizes of docs/performance.md. Arguments choose cases: build/quench tests/bench/train.lua small "base bf16" "tiny hvp"
local q = require "quench"
local bench = dofile("tests/bench/measure.lua")("train")

local sizes = {
  tiny = {layers = 2, width = 128, heads = 4, time = 128, batch = 8, vocabulary = 512},
  small = {layers = 4, width = 256, heads = 8, time = 256, batch = 8, vocabulary = 4096},
  base = {layers = 6, width = 512, heads = 8, time = 256, batch = 8, vocabulary = 8192},
}
local quick_size = {layers = 1, width = 32, heads = 2, time = 16, batch = 2, vocabulary = 64}

local function make(s)
  local model = q.models.new("gpt_neox", {num_hidden_layers = s.layers, hidden_size = s.width, num_attention_heads = s.heads,
    vocab_size = s.vocabulary, max_position_embeddings = s.time, rotary_pct = 0.25})
  return model, (q.rand(s.batch, s.time + 1) * s.vocabulary):floor():to("i32")
end

local function peak_rss()
  for line in io.lines("/proc/self/status") do
    local kib = line:match("^VmHWM:%s+(%d+)")
    if kib then return tonumber(kib) / 1024 end
  end
end

--- flops of a gradient: 6 a parameter and token (forward and backward), and attention's products on the pairs that are seen.
local function work(model, s)
  local parameters = model:count() - s.vocabulary * s.width
  return 6 * parameters * s.batch * s.time + 6 * s.layers * s.batch * s.time * (s.time + 1) * s.width
end

--- tokens a second beside the columns given
local function more(s, columns)
  return function(seconds)
    local line = {tokens_per_s = s.batch * s.time / seconds, peak_rss_mb = peak_rss()}
    for key, value in pairs(columns(seconds)) do line[key] = value end
    return line
  end
end

local function step_case(size, s, kind)
  local model, ids = make(s)
  local precision = kind == "bf16" and "bf16" or "f32"
  model.recompute = kind == "recompute"
  local optim = q.optim.adamw(model:named_parameters(), {lr = 1e-3, clip = 1})
  local first
  bench.case("training step, " .. (kind == "" and "f32" or kind), size, function()
    optim:zero_grad()
    q.nn.with_precision(precision, q.scope, function()
      local loss = model:loss(ids)
      loss:backward()
      first = first or loss:item()
    end)
    optim:step()
  end, {flops = work(model, s), precision = precision, seconds = s.layers > 4 and 6 or 2, more = more(s, function() return {loss_first = first} end)})
end

local function hvp_case(size, s)
  local model, ids = make(s)
  local parameters, flops, seconds = model:parameters(), work(model, s), s.layers > 4 and 5 or 2
  local function gradient() q.grad(model:loss(ids), parameters) end
  local one = bench.case("gradient", size, gradient, {flops = flops, seconds = seconds})
  local bytes = bench.memory_of(gradient)
  for _, kind in ipairs{{true, "", 2.1}, {"gradient", ", gradient recorded", 2}, {false, ", nothing kept", 8 / 3}} do
    local keep = kind[1]
    local whole = bench.memory_of(function() -- operator, direction and products: the second finds what the first has left
      local operator = q.curvature.operator(model, {batches = {ids}, keep = keep})
      local v = operator.layout:zeros():normal_(q.stream(1, "bench"))
      for _ = 1, 2 do q.scope(function() operator:product(v) end) end
    end)
    collectgarbage()
    collectgarbage()
    local operator = q.curvature.operator(model, {batches = {ids}, keep = keep})
    local v = operator.layout:zeros():normal_(q.stream(1, "bench"))
    bench.case("Hessian-vector product" .. kind[2], size, function() operator:product(v) end, {
      flops = kind[3] * flops, seconds = seconds,
      more = more(s, function(median) return {gradients = median / one, memory_in_gradients = whole / bytes} end)})
  end
end

local function lanczos_case(size, s)
  local model, ids = make(s)
  local operator = q.curvature.operator(model, {batches = {ids}})
  bench.case("20 Lanczos steps", size, function()
    q.curvature.top(operator, {k = 10, products = 20, tolerance = 1e-9, progress = false})
  end, {flops = 40 * work(model, s), runs = 1})
end

local wanted = {...}
if #wanted == 0 then
  wanted = {"tiny", "tiny bf16", "tiny hvp", "small", "small bf16", "small recompute", "small hvp", "small lanczos", "base", "base bf16", "base hvp"}
end
for _, case in ipairs(wanted) do
  local size, kind = case:match("^(%S+) ?(%S*)$")
  if not sizes[size] then error("no case '" .. case .. "'; a size (tiny, small, base), and bf16, recompute, hvp or lanczos if wanted") end
  local s = bench.pick(sizes[size], quick_size)
  if kind == "hvp" then hvp_case(size, s)
  elseif kind == "lanczos" then lanczos_case(size, s)
  else step_case(size, s, kind) end
  collectgarbage()
  collectgarbage()
end

-- Speed of Hessian-vector products in gradients of the same loss (the aim: 2.2 at most on a kept graph), of a Lanczos
-- step, and of a scaling-law fit: one JSON line a case.
local q = require "quench"

local function best(fn)
  local least = math.huge
  for _ = 1, 7 do
    local start = q.system.clock()
    q.scope(fn)
    least = math.min(least, q.system.clock() - start)
    collectgarbage()
  end
  return least
end

local function report(case, value, unit) print(q.json.encode{bench = "curvature", case = case, value = value, unit = unit}) end

local m = q.models.new("gpt_neox", {vocab_size = 512, hidden_size = 128, num_hidden_layers = 2, num_attention_heads = 4,
  max_position_embeddings = 128})
local ids, params = (q.rand(8, 129) * 512):floor():to("i32"), m:parameters()
local op = q.curvature.operator(m, {batches = {ids}})
local ggn = q.curvature.ggn(m, {batches = {ids}})
local v = op.layout:zeros():normal_(q.stream(1, "bench"))

local gradient = best(function() q.grad(m:loss(ids), params) end)
report("gradient", gradient * 1e3, "ms")
report("product, kept graph", best(function() op:product(v) end) / gradient, "gradients")
report("product from nothing", best(function() q.curvature.hvp(m, params, op.layout:views(v), {batches = {ids}}) end) / gradient, "gradients")
report("Gauss-Newton product, kept graph", best(function() ggn:product(v) end) / gradient, "gradients")
report("30 Lanczos steps", best(function()
  q.curvature.top(op, {k = 10, products = 30, tolerance = 1e-9, progress = false})
end) / gradient / 30, "gradients a step")

local points = {}
for i = 0, 239 do
  local N, D = 10 ^ (7 + 2 * (i % 15) / 14), 10 ^ (9 + 2 * math.floor(i / 15) / 15)
  points[i + 1] = {N = N, D = D, L = (480 / N ^ 0.35 + 2080 / D ^ 0.37 + 1.8) * (1 + 0.002 * math.sin(7 * i))}
end
report("Chinchilla fit, 240 points, 4500 starts", best(function() q.fit.chinchilla(points) end), "s")

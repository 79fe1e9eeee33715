-- Speed and memory of Hessian-vector products in gradients of the same loss (the aims: 2.2 of time at most and 2 of memory), of a
-- Lanczos step, and of a scaling-law fit.
local q = require "quench"

local bench = dofile("tests/bench/measure.lua")("curvature")

local m = q.models.new("gpt_neox", {vocab_size = bench.pick(512, 32), hidden_size = bench.pick(128, 32), num_hidden_layers = bench.pick(2, 1),
  num_attention_heads = 4, max_position_embeddings = 128})
local ids, params = (q.rand(bench.pick(8, 2), bench.pick(129, 9)) * bench.pick(512, 32)):floor():to("i32"), m:parameters()
local function operator(keep) return q.curvature.operator(m, {batches = {ids}, keep = keep}) end
local op, recorded = operator(true), operator("gradient")
local ggn = q.curvature.ggn(m, {batches = {ids}})
local v = op.layout:zeros():normal_(q.stream(1, "bench"))

local size = "tiny"
local function whole_gradient() q.grad(m:loss(ids), params) end
local gradient, bytes = bench.case("gradient", size, whole_gradient), bench.memory_of(whole_gradient)
local function case(name, fn, o)
  o.more = function(median) return {gradients = median / gradient / (o.products or 1)} end
  bench.case(name, size, fn, o)
end
case("product, kept graph", function() op:product(v) end, {})
case("product, gradient recorded", function() recorded:product(v) end, {})
case("product from nothing", function() q.curvature.hvp(m, params, op.layout:views(v), {batches = {ids}}) end, {})
for _, keep in ipairs{true, "gradient", false} do -- operator, direction, product and result
  local whole = bench.memory_of(function()
    local one = operator(keep)
    local direction = one.layout:zeros():normal_(q.stream(1, "bench"))
    for _ = 1, 2 do q.scope(function() one:product(direction) end) end
  end)
  bench.value("memory of a product, keep = " .. tostring(keep), size, whole / bytes, "gradients")
end
case("Gauss-Newton product, kept graph", function() ggn:product(v) end, {})
case("30 Lanczos steps", function() q.curvature.top(op, {k = 10, products = 30, tolerance = 1e-9, progress = false}) end, {products = 30})

local points = {}
for i = 0, 239 do
  local N, D = 10 ^ (7 + 2 * (i % 15) / 14), 10 ^ (9 + 2 * math.floor(i / 15) / 15)
  points[i + 1] = {N = N, D = D, L = (480 / N ^ 0.35 + 2080 / D ^ 0.37 + 1.8) * (1 + 0.002 * math.sin(7 * i))}
end
if bench.quick then for i = #points, 25, -1 do points[i] = nil end end
bench.case("Chinchilla fit, 4500 starts", #points .. " points", function() q.fit.chinchilla(points) end, {runs = 3})

--- quant_own.lua - a grid or a rounding rule of one's own works wherever a built-in format does, and every format trains with the
-- numbers that quantizing afterwards gives.

local q = require "quench"
local tap = dofile "tests/tap.lua"
local small_model = dofile "tests/small_model.lua"
local quant = q.quant

local function tiny(more)
  local config = {num_attention_heads = 2}
  for k, v in pairs(more or {}) do config[k] = v end
  return small_model.new(config)
end

local ids = small_model.ids(4, 16)

local function off(a, b) return q.no_grad(function() return (a:forward(ids) - b:forward(ids)):abs():max():item() end) end

-- the built-in, and the same twice over in Lua: as a list of levels, as a rule
local list = {}
for i = -7, 7 do list[#list + 1] = i end
local function same_formats(o)
  local with = function(more)
    local all = {}
    for key, value in pairs(o or {}) do all[key] = value end
    for key, value in pairs(more) do all[key] = value end
    return all
  end
  return quant.int(4, with{convention = "restricted"}), quant.levels(list, with{}),
    quant.rule(function(x) return math.max(-7, math.min(7, math.floor(x + 0.5))) end, with{reach = 7})
end

tap.test("of one's own = built-in", function(t)
  local m = tiny()
  for _, how in ipairs{{"rtn", {method = "rtn"}}, {"rtn, searched", {method = "rtn"}, {search = true}},
    {"rtn, f16 scales", {method = "rtn"}, {scale = "f16"}}, {"rtn, a tensor", {method = "rtn"}, {group = "tensor"}},
    {"gptq", {}, {group = 16}}, {"gptq, ordered", {act_order = true}, {group = 16}}, {"gptaq", {method = "gptaq"}},
    {"awq", {method = "awq"}, {group = 16}}, {"hadamard", {hadamard = 16}}, {"rounded inputs", {activations = true}},
    {"rounded cache", {kv = true, kv_hadamard = true}}} do
    local models = {}
    for k, f in ipairs{same_formats(how[3])} do
      local o = {calibration = ids, format = f}
      for key, value in pairs(how[2]) do o[key] = value end
      if o.activations then o.activations = f end
      if o.kv then o.kv = f end
      models[k] = quant.quantize(m, o)
    end
    t.ok(off(m, models[1]) > 0, how[1] .. ": something is rounded")
    t.equal(off(models[1], models[2]), 0, how[1] .. ": levels")
    t.equal(off(models[1], models[3]), 0, how[1] .. ": a rule")
  end
  local built, levels, rule = same_formats()
  local function losses(f)
    local out = {}
    for _, r in ipairs(quant.sensitivity(m, ids, {format = f})) do out[#out + 1] = r.loss end
    return out
  end
  t.near(losses(levels), losses(built), 0, "sensitivity") t.near(losses(rule), losses(built), 0, "sensitivity")
  local probe = quant.probe{formats = {built = {format = built}, levels = {format = levels}, rule = {format = rule}}, calibration = ids,
    held_out = ids}
  local r = probe.run{model = m}
  t.ok(r.built == r.levels and r.built == r.rule, "along a training run")
  local w = m:linears()[1].weight:detach()
  local y, report = quant.rtn(w, rule, {stream = q.stream(4, "rounding")})
  t.ok(((y - w):abs() - report.scale):max():item() < 1e-6 and (y - quant.rtn(w, rule)):abs():max():item() > 0, "at random: to either neighbour")
  local x = w:clone():requires_grad()
  local function gradient(f) return q.grad(quant.ste(x, f):square():sum(), {x})[1] end
  t.equal((gradient(levels) - gradient(built)):abs():max():item(), 0, "straight-through")
  t.equal((gradient(rule) - gradient(built)):abs():max():item(), 0, "straight-through")
end)

tap.test("every format trains with the numbers of afterwards", function(t)
  local formats = {quant.levels({-1, -0.3, 0.1, 0.8}, {name = "own levels"}),
    quant.rule(function(x) return math.max(-3, math.min(2, math.floor(x))) + 0.5 end, {reach = 3, name = "own rule"})}
  for _, f in ipairs(quant.formats()) do formats[#formats + 1] = quant[f.name]() end
  for bits = 1, 8 do
    for _, convention in ipairs{"asymmetric", "awq", "real", "gptq", "full", "restricted", "midrise"} do
      if bits > 1 or convention ~= "full" and convention ~= "restricted" then
        formats[#formats + 1] = quant.int(bits, {convention = convention, group = bits % 2 == 0 and 16 or "row"})
      end
    end
    formats[#formats + 1] = quant.gaussian(bits)
  end
  local plain = tiny{num_hidden_layers = 1}
  for _, f in ipairs(formats) do
    q.scope(function()
      local m = quant.qat(tiny{num_hidden_layers = 1}, {scheme = "ste", weight_format = f, act_format = f})
      local after = quant.quantize(plain, {method = "rtn", format = f, activations = f})
      t.equal(off(m, after), 0, tostring(f) .. ": training rounds as quantizing does")
      local small = quant.export(m)
      t.equal(off(m, small), 0, "and the exported model is what was trained")
      t.equal((small:linears()[2].weight - after:linears()[2].weight):abs():max():item(), 0, "to the bit")
      m:loss(ids):backward()
      t.ok(m:linears()[1].weight.grad:all_finite(), "with finite gradients")
    end)
  end
end)

tap.test("QuEST at 1 to 8 bits: weights as quantizing in a Hadamard basis", function(t)
  -- Layer by layer on the same inputs: behind a LayerNorm the first coefficient of a rotated input is the mean, 0 up to an ulp, which
  -- is the border of two of QuEST's levels, so that an ulp in what comes before can move it by a level.
  local plain = tiny{num_hidden_layers = 1, dtype = "f64"}
  for bits = 1, 8 do
    q.scope(q.no_grad, function()
      local m = quant.qat(plain:clone(), {scheme = "quest", weight_bits = bits, act_bits = math.max(4, bits), head = true})
      local small = quant.export(m):linears(true)
      for i, r in ipairs(m:linears(true)) do
        local block = require("quench.quant.fake").quest_block(r.weight:size(2))
        local y = quant.hadamard(quant.rtn(quant.hadamard(r.weight:detach(), block), quant.gaussian(bits)), block, true)
        t.equal((small[i].weight - y):abs():max():item(), 0, ("%s, %d bits"):format(r.name, bits))
        local x = q.randn(20, r.weight:size(2), "f64", q.stream(bits, r.name))
        t.near((r.forward(r, x) - small[i].forward(small[i], x)):abs():max():item(), 0, 1e-12, "exported: the same products")
      end
    end)
  end
end)

tap.done()

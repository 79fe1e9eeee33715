--- quant_formats.lua - round to nearest in every format against known answers (training-dynamics notes, appendix A2),
-- and what must hold for all of them.

local q = require "quench"
local tap = dofile "tests/tap.lua"
local quant = q.quant

local V = q.tensor({{.0325, .135, -.0991, -.1743, .1924, .0643, -.1306, -.067, .2192, .0284, -.11, .9223, .1797, -.0896, -.2267, .0681,
  .1038, -.1494, -.1112, .2445, .028, -.1473, .0002, .2236, -.0677, -.1018, .0735, .1492, -.158, -.163, .0946, .0588}}, "f64")

local function check(t, name, format, mse, scale, zero, first)
  local y, r = quant.rtn(V, format)
  t.near(r.mse / mse, 1, 2e-7, name .. ": mean squared error")
  t.near(((y - V) ^ 2):mean():item(), r.mse, 1e-15, name .. ": which is that of the values")
  if scale then t.near(r.scale:totable()[1], scale, 5e-8, name .. ": scale") end
  if zero then t.near(r.zero:totable()[1], zero, 0, name .. ": zero point") end
  if first then t.near(y:narrow(2, 1, #first):totable()[1], first, 6e-7, name .. ": first values") end
end

tap.test("integers", function(t)
  check(t, "4 asymmetric", quant.int(4), 3.7542875e-4, {.0766}, {3})
  check(t, "4 gptq", quant.int(4, {convention = "gptq"}), 1.3719559e-3, {.1229733})
  check(t, "4 full", quant.int(4, {convention = "full"}), 1.5117048e-3, {.1317571})
  check(t, "3 asymmetric", quant.int(3), 2.5615185e-3, {.1641429}, {1})
  check(t, "3 gptq", quant.int(3, {symmetric = true}), 7.4634808e-3, {.2635143})
  check(t, "3 full", quant.int(3, {convention = "full"}), 9.9708662e-3, {.3074333})
end)

tap.test("clip search", function(t)
  check(t, "3 bits", quant.int(3, {search = true}), 2.1290788e-3, {.1428043}, {1})
  check(t, "4 bits", quant.int(4, {search = true}), 3.7542875e-4)
  local y = quant.rtn(V, quant.int(3, {search = true}))
  t.near(((y - V):abs() ^ 2.4):sum():item(), .0217904, 1e-6, "sum |error|^2.4 at 3 bits")
  y = quant.rtn(V, quant.int(4, {search = true}))
  t.near(((y - V):abs() ^ 2.4):sum():item(), .0028065, 1e-6, "and at 4")
  t.near(select(2, quant.rtn(V, quant.int(3, {clip = 0.87}))).mse, 2.1290788e-3, 1e-9, "a given clip does the same")
end)

tap.test("small floats and tables", function(t)
  check(t, "nf4", quant.nf4{group = 32}, 4.2763487e-4, {.9223}, nil, {0, .148426, -.083975, -.170417})
  check(t, "e2m1", quant.fp4_e2m1{}, 3.7530349e-4)
  check(t, "bnb fp4", quant.fp4{group = 32}, 1.5117009e-3)
  check(t, "mxfp4", quant.mxfp4{}, 1.3089047e-3, {.125})
  check(t, "mxfp8", quant.mxfp8{}, 8.6300784e-5, {2 ^ -9})
  check(t, "nvfp4 one level", quant.nvfp4_one_level{}, 2.8192028e-4, {.15625, .0390625})
  check(t, "nvfp4", quant.nvfp4{}, 3.1757118e-4, {448 * 3.4311756e-4, 120 * 3.4311756e-4}, nil, {0, .153717, -.076858, -.153717})
  local y = quant.rtn(V, "mxfp4")
  t.equal(y[1][12], .75, "mxfp4: .9223 saturates")
end)

tap.test("HQQ", function(t)
  local _, r = quant.hqq(V, {bits = 4, group = 32})
  t.near(1 / r.scale:item(), 13.0548303, 1e-7, "4 bits: S") t.near(r.zero:item(), 3.0203982, 1e-7, "zero point")
  t.equal(r.iterations, 4, "4 iterations") t.near(r.mse / 3.7298734e-4, 1, 2e-7, "mean squared error")
  local y
  y, r = quant.hqq(V, {bits = 3, group = 32})
  t.near(1 / r.scale:item(), 6.0922541, 1e-7, "3 bits: S") t.near(r.zero:item(), 1.7116025, 1e-7, "zero point")
  t.equal(r.iterations, 6, "6 iterations") t.near(r.mse / 1.3744801e-3, 1, 2e-7, "mean squared error")
  t.near(((y - V) ^ 2):mean():item(), r.mse, 1e-15, "which is that of the values")
  local w = q.randn(16, 130, "f64", q.stream(9, "w"))
  local start, fitted = quant.rtn(w, quant.int(3, {convention = "real", group = 64})), quant.hqq(w, {bits = 3})
  t.ok(((fitted - w):abs() ^ 0.7):sum():item() < ((start - w):abs() ^ 0.7):sum():item(), "sum |error|^0.7 falls")
  t.equal((quant.hqq(w, {bits = 3, iterations = 0}) - start):abs():max():item(), 0, "no iterations: round to nearest")
  t.ok(quant.hqq(q.zeros(2, 64)):abs():max():item() == 0, "zeros stay zero")
  t.fails(function() quant.hqq(w / 0) end, "NaN", "infinite weights")
end)

-- A value in a format whose scale is held at 1 by a companion at the format's largest number.
local function alone(format, largest, x)
  return quant.rtn(q.tensor({{x, largest}}, "f64"), format)[1][1]
end

tap.test("8-bit floats", function(t)
  for x, y in pairs{[.001] = .001953125, [.1] = .1015625, [1.05] = 1, [17] = 16, [300] = 288, [-300] = -288, [0] = 0} do
    t.equal(alone("fp8_e4m3", 448, x), y, ("e4m3(%g)"):format(x))
  end
  t.equal(quant.rtn(q.tensor({{460, 3}}, "f64"), quant.mxfp8{})[1][1], 448, "e4m3(460) saturates")
  for x, y in pairs{[.1] = .09375, [1.1] = 1, [1e-5] = 1.52587890625e-5} do
    t.equal(alone("fp8_e5m2", 57344, x), y, ("e5m2(%g)"):format(x))
  end
  t.equal(quant.rtn(q.tensor({{60000, 3}}, "f64"), quant.mxfp8_e5m2{})[1][1], 57344, "e5m2(60000) saturates")
end)

tap.test("levels", function(t)
  local function list(f) return f:levels() end
  t.near(list(quant.fp4_e2m1{}), {-6, -4, -3, -2, -1.5, -1, -.5, 0, .5, 1, 1.5, 2, 3, 4, 6}, 0, "e2m1")
  local e3m2 = list(quant.fp6_e3m2{})
  t.equal(e3m2[#e3m2], 28, "e3m2 ends at 28") t.equal(e3m2[33], 0.0625, "and starts at 1/16")
  local e2m3 = list(quant.fp6_e2m3{})
  t.equal(e2m3[#e2m3], 7.5, "e2m3 ends at 7.5") t.equal(e2m3[33], 0.125, "and starts at 1/8")
  local e4m3, e5m2 = list(quant.fp8_e4m3{}), list(quant.fp8_e5m2{})
  t.equal(#e4m3, 253, "e4m3: 253 numbers") t.equal(e4m3[128], 2 ^ -9, "the smallest is 2^-9")
  t.equal(#e5m2, 247, "e5m2: 247 numbers") t.equal(e5m2[125], 2 ^ -16, "the smallest is 2^-16")
  t.equal(#list(quant.nf4{}), 16, "nf4: 16") t.equal(#list(quant.ternary{}), 3, "ternary: 3")
  t.near(list(quant.int(2, {convention = "midrise"})), {-1.5, -.5, .5, 1.5}, 0, "midrise")
  t.near(list(quant.int(2, {convention = "full"})), {-2, -1, 0, 1}, 0, "full")
  t.near(list(quant.int(2, {convention = "restricted"})), {-1, 0, 1}, 0, "restricted")
end)

tap.test("rounding of power-of-two scales", function(t)
  local function scale(power, m, name)
    return select(2, quant.rtn(q.tensor({{m, m / 3}}, "f64"), quant[name or "mxfp4"]{power = power})).scale:item()
  end
  -- e2m1: reach 6, exponent of the largest 2, one fraction bit
  t.equal(scale("floor", 7.9), 1, "floor(log2 7.9) - 2 = 0") t.equal(scale("floor", 8), 2, "8 gives 2")
  t.equal(scale("rceil", 6), 1, "rceil: 6 / 6 = 1") t.equal(scale("rceil", 6.1), 2, "6.1 needs 2")
  t.equal(scale("ceil", 4), 1, "ceil(log2 4) - 2 = 0") t.equal(scale("ceil", 4.1), 2, "4.1 needs 2")
  t.equal(scale("even", 6.9), 1, "even: 6.9 rounds to 6") t.equal(scale("even", 7), 2, "7 rounds to 8")
  t.equal(scale("even", 495, "mxfp8"), 1, "even, e4m3: 495 rounds to 480") t.equal(scale("even", 497, "mxfp8"), 2, "497 to 512")
end)

tap.test("bits a weight, with overhead", function(t)
  t.near(quant.int(4, {group = 128}):bits_per_weight(64, 1024), 4 + (32 + 4) / 128, 1e-12, "int4, groups of 128: scale and zero point")
  t.near(quant.int(4, {group = 128, scale = "f16"}):bits_per_weight(64, 1024), 4 + 20 / 128, 1e-12, "with f16 scales")
  t.near(quant.int(4, {convention = "full", group = 128}):bits_per_weight(64, 1024), 4 + 32 / 128, 1e-12, "symmetric: no zero point")
  t.near(quant.mxfp4{}:bits_per_weight(64, 1024), 4.25, 1e-12, "mxfp4")
  t.near(quant.nvfp4{}:bits_per_weight(64, 1024), 4.5 + 32 / 65536, 1e-12, "nvfp4")
  t.near(quant.nf4_double{}:bits_per_weight(64, 1024), 4 + (8 + 32 / 256) / 64 + 32 / 65536, 1e-12, "nf4 with double quantization: 4.127")
  t.near(quant.int(3, {group = 100}):bits_per_weight(10, 250), 3 + 3 * 35 / 250, 1e-12, "a short last group counts whole")
end)

-- What holds for every format.

local every = {}
for _, f in ipairs(quant.formats()) do every[#every + 1] = quant[f.name]() end
for bits = 1, 8 do
  every[#every + 1] = quant.int(bits, {group = 16})
  every[#every + 1] = quant.int(bits, {convention = "awq", group = 24})
  every[#every + 1] = quant.int(bits, {convention = "real", group = 24})
  every[#every + 1] = quant.int(bits, {convention = "gptq", group = 16})
  every[#every + 1] = quant.int(bits, {convention = "midrise"})
  every[#every + 1] = quant.gaussian(bits)
  if bits > 1 then
    every[#every + 1] = quant.int(bits, {convention = "full", group = "tensor"})
    every[#every + 1] = quant.int(bits, {convention = "restricted"})
  end
end

tap.test("every value goes to the nearest level of its group, for every format", function(t)
  local w = q.randn(3, 70, "f64", q.stream(1, "w"))
  local x = w:totable()
  for _, f in ipairs(every) do
    local y, r = quant.rtn(w, f)
    local d, levels = f:describe(), f:levels()
    local size = d.group > 0 and d.group or 70
    local v, s, z, off, excess = y:totable(), r.scale:totable(), r.zero:totable(), 0, 0
    local shifted = d.name:find("asymmetric") or d.name:find("awq") or d.name:find("real")
    for i = 1, 3 do
      for j = 1, 70 do
        local row, g = d.group == -1 and 1 or i, d.group == -1 and 1 or math.floor((j - 1) / size) + 1
        local scale, on_level, nearest = s[row][g], math.huge, math.huge
        for _, level in ipairs(levels) do
          local value = scale * (level - (shifted and z[row][g] or 0))
          on_level = math.min(on_level, math.abs(v[i][j] - value) / scale)
          nearest = math.min(nearest, math.abs(x[i][j] - value))
        end
        off, excess = math.max(off, on_level), math.max(excess, (math.abs(x[i][j] - v[i][j]) - nearest) / scale)
      end
    end
    t.near(off, 0, 1e-9, tostring(f) .. ": on a level")
    t.near(excess, 0, 1e-9, tostring(f) .. ": on the nearest")
  end
end)

tap.test("f32 agrees with f64", function(t)
  local w = q.randn(2, 64, "f64", q.stream(2, "w"))
  for _, f in ipairs(every) do
    local y, r = quant.rtn(w, f)
    local again = quant.rtn(w:to("f32"), f)
    local worst = (again:to("f64") - y):abs():max():item()
    -- a value on the border of two levels may fall to the other side: at most one level apart, and rarely
    local apart = ((again:to("f64") - y):abs():gt(1e-5)):to("f64"):mean():item()
    t.ok(worst < 1.1 * r.scale:max():item() * 64 and apart <= 0.02, tostring(f) .. ": f32")
  end
end)

tap.test("quantizing twice changes nothing", function(t)
  local w = q.randn(4, 64, "f64", q.stream(3, "w"))
  for _, f in ipairs(every) do
    local name = f:describe().name
    local moving = name:find("gptq") or name:find("gauss") or name == "ternary" or name == "binary" or name:find("nf4_double")
      or name:find("awq")
    if not moving then -- those take their scale from something else than the extremes, or clip them
      local y = quant.rtn(w, f)
      t.near((quant.rtn(y, f) - y):abs():max():item(), 0, 1e-12, tostring(f))
    end
  end
end)

tap.test("a factor of two on the weights is a factor of two on the result", function(t)
  local w = q.randn(4, 64, "f64", q.stream(4, "w"))
  for _, f in ipairs(every) do
    local name = f:describe().name
    if not name:find("awq") and not name:find("real") and not name:find("gauss")
      and name ~= "nvfp4_one_level" then -- these have absolute numbers in their rules
      t.near((quant.rtn(w * 8, f) - quant.rtn(w, f) * 8):abs():max():item(), 0, 1e-12, tostring(f))
    end
  end
end)

tap.test("the error is at most half a step", function(t)
  local w = q.rand(8, 96, "f64", q.stream(5, "w")) - 0.3
  for bits = 1, 8 do
    local y, r = quant.rtn(w, quant.int(bits))
    t.ok(((y - w):abs() / r.scale):max():item() <= 1 + 1e-9, bits .. " bits: a step at most (the zero point is rounded too)")
    y, r = quant.rtn(w, quant.int(bits, {convention = "midrise"}))
    t.ok(((y - w):abs() / r.scale):max():item() <= 0.5 + 1e-9, bits .. " bits, midrise: half a step")
    if bits > 1 then
      y, r = quant.rtn(w, quant.int(bits, {convention = "restricted"}))
      t.ok(((y - w):abs() / r.scale):max():item() <= 0.5 + 1e-9, bits .. " bits, restricted: half a step")
    end
  end
end)

tap.test("rows that are zero, constant, tiny", function(t)
  for _, f in ipairs(every) do
    local y = quant.rtn(q.zeros(2, 40), f)
    t.ok(y:abs():max():item() < 1e-7, tostring(f) .. ": zeros stay zero")
    y = quant.rtn(q.full(0.7, 2, 40), f)
    t.ok(y:isfinite():min():item() == 1 and (y - 0.7):abs():max():item() <= 0.7, tostring(f) .. ": a constant")
    y = quant.rtn(q.full(1e-42, 2, 40), f)
    t.ok(y:isfinite():min():item() == 1 and y:abs():max():item() < 1e-7, tostring(f) .. ": denormals")
  end
end)

tap.test("a row without negative values keeps its range (the reference halves it)", function(t)
  local w = q.tensor({{0.1, 0.5, 1.0, 0.2}}, "f64")
  local _, r = quant.rtn(w, quant.int(4, {convention = "gptq"}))
  t.near(r.scale:item(), 2 / 15, 1e-12, "s = 2 m / 15")
end)

tap.test("bad input", function(t)
  local w = q.randn(2, 8)
  t.fails(function() quant.rtn(w / 0, "nf4") end, "NaN or infinite", "infinite weights")
  t.fails(function() quant.rtn(w * (0 / 0), "int4") end, "16 values that are NaN", "NaN")
  t.fails(function() quant.rtn(w, "nf5") end, "no format 'nf5'; there are", "an unknown name lists the others")
  t.fails(function() quant.int(9) end, "at most 8", "too many bits")
  t.fails(function() quant.int(2.5) end, "integer", "half a bit")
  t.fails(function() quant.int(1, {convention = "full"}) end, "no positive level", "no positive level")
  t.fails(function() quant.int(4, {convention = "ful"}) end, "did you mean 'full'", "a misspelt convention")
  t.fails(function() quant.int(4, {group = 0}) end, "at least 1", "a group of no columns")
  t.fails(function() quant.int(4, {group = "rows"}) end, "'row' or 'tensor'", "a misspelt group")
  t.fails(function() quant.int(4, {clip = 0}) end, "above 0", "clip 0")
  t.fails(function() quant.levels{0, 1, 1} end, "ascend", "levels that repeat")
  t.fails(function() quant.levels{1} end, "2 to 256", "one level")
  t.fails(function() quant.levels{0, 0 / 0} end, "not finite", "NaN among the levels")
  t.fails(function() quant.rtn(q.zeros(2, 2, "i32"), "int4") end, "f32 or f64", "integers")
  t.fails(function() quant.int(4, {scale = "e8m0"}) end, "largest magnitude", "a power-of-two scale with a zero point")
  local empty = quant.rtn(q.zeros(0, 8), "int4")
  t.equal(empty:numel(), 0, "no rows: an empty result")
end)

tap.test("a rule of the user's own", function(t)
  local w = q.randn(5, 60, "f64", q.stream(6, "w"))
  local nearest = quant.rule(function(x) return math.max(-7, math.min(7, math.floor(x + 0.5))) end, {reach = 7, group = 20})
  local y, z = quant.rtn(w, nearest), quant.rtn(w, quant.int(4, {convention = "restricted", group = 20}))
  t.equal((y - z):abs():max():item(), 0, "rounding written in Lua = the built-in")
  local x = q.randn(100, 60, "f64", q.stream(7, "x"))
  t.equal((quant.gptq(w, x, {format = nearest}) - quant.gptq(w, x, {format = quant.int(4, {convention = "restricted",
    group = 20})})):abs():max():item(), 0,
    "in GPTQ too")
  local truncate = quant.rule(function(v) return v < 0 and math.ceil(v) or math.floor(v) end, {reach = 3})
  y = quant.rtn(w, truncate)
  t.ok((y:abs() - w:abs()):max():item() < 1e-9, "truncation never grows a weight")
  local log2 = quant.rule(function(v)
    local a = math.abs(v)
    return a < 2 ^ -3.5 and 0 or (v < 0 and -1 or 1) * 2 ^ math.min(0, math.floor(math.log(a) / math.log(2) + 0.5))
  end)
  t.equal(#log2:levels(), 9, "powers of two: 0 and 8 others")
  t.fails(function() quant.rule(function(v) return -v end) end, "staircase that goes up", "a falling function")
  t.fails(function() quant.rule(function(v) return v end) end, "256 levels", "no staircase")
  t.fails(function() quant.rule(function() return 1 end) end, "everywhere", "a constant")
  y = quant.rtn(w, quant.levels({-1, -0.25, 0, 0.25, 1}, {group = 10, name = "mine"}))
  t.equal(y:shape()[2], 60, "a list of levels")
end)

tap.test("packed: the same values, and as many bytes as said", function(t)
  local w = q.randn(24, 100, q.stream(11, "w"))
  for _, f in ipairs(every) do
    local y, r = quant.rtn(w, f)
    local parts = quant.pack(y, f, r)
    t.equal((quant.unpack(parts) - y):abs():max():item(), 0, tostring(f))
    local words = 4 * 5 * 8 -- each part ends in a word of its own, and a list of block maxima has one a block
    t.ok(math.abs(parts.bytes * 8 - r.bits * w:numel()) <= words, ("%g bits a weight, %g said"):format(parts.bytes * 8 / w:numel(), r.bits))
  end
  for _, scale in ipairs{"f16", "bf16"} do
    local f = quant.int(3, {group = 32, scale = scale})
    local y, r = quant.rtn(w, f)
    t.equal((quant.unpack(quant.pack(y, f, r)) - y):abs():max():item(), 0, scale .. " scales")
  end
  local x = q.randn(300, 100, q.stream(12, "x"))
  for _, o in ipairs{{act_order = true}, {act_group_aware = true}, {static_groups = true, act_order = true}, {}} do
    o.bits, o.group = 3, 32
    local y, r = quant.gptq(w, x, o)
    t.equal((quant.unpack(quant.pack(y, quant.int(3, {group = 32}), r)) - y):abs():max():item(), 0, "GPTQ's values too")
  end
  local y, r = quant.hqq(w, {bits = 3})
  t.equal((quant.unpack(quant.pack(y, quant.int(3, {convention = "real", group = 64}), r)) - y):abs():max():item(), 0, "and HQQ's")
  y, r = quant.rtn(w, "nf4")
  t.fails(function() quant.pack(y, "mxfp4", r) end, "scales and zero points", "another format")
  t.fails(function() quant.pack(y, "nf4") end, "report", "no report")
  t.fails(function() quant.pack(y:to("f64"), "nf4", r) end, "f32", "f64 values")
  local parts = quant.pack(y, "nf4", r)
  parts.codes = parts.codes:narrow(1, 1, 5)
  t.fails(function() quant.unpack(parts) end, "do not hold", "parts that were cut")
end)

tap.test("stochastic rounding", function(t)
  local w = q.full(0.3, 1, 20000, "f64")
  w[1][1], w[1][2] = 1, -1
  for _, f in ipairs{quant.int(3, {convention = "restricted"}), quant.fp4_e2m1{}, quant.nf4{group = "row"}, quant.fp8_e5m2{}} do
    local stream = q.stream(1, "rounding")
    local y = quant.rtn(w, f, {stream = stream})
    local inner = y:narrow(2, 3, 19998)
    t.near(inner:mean():item(), 0.3, 0.005, tostring(f) .. ": right on average")
    t.ok(inner:min():item() < 0.3 and inner:max():item() > 0.3, "up and down")
    t.equal(stream:counter(), 5000, "the stream has moved on")
    t.equal((quant.rtn(w, f, {stream = q.stream(1, "rounding")}) - y):abs():max():item(), 0, "the same stream, the same values")
    t.ok((quant.rtn(w, f, {stream = stream}) - y):abs():max():item() > 0, "and others after it")
  end
  local exact = q.tensor({{-3, -2, -1, 0, 1, 2, 3}}, "f64")
  t.equal((quant.rtn(exact, quant.int(3, {convention = "restricted"}), {stream = q.stream(2, "r")}) - exact):abs():max():item(), 0,
    "levels stay")
end)

tap.done()

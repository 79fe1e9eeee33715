--- gptq.lua - GPTQ against answers worked out by hand rules in double precision
-- (training-dynamics notes, appendix A1). The published implementation's own results are in tests/unit/quant_gptq.c.

local q = require "quench"
local tap = dofile "tests/tap.lua"

local X = q.tensor({
  {1.0, .2, -.3, .5, 0, .1, .4, -.2}, {.3, 1.5, .1, -.4, .6, 0, -.2, .3}, {-.5, .4, 2.0, .1, -.3, .7, .2, 0},
  {.2, -.6, .3, 1.2, .4, -.1, .5, .9}, {.8, 0, -.7, .2, 1.1, .3, -.6, .1}, {-.1, .5, .4, -.3, .2, 2.4, .1, -.5},
  {.6, -.2, 0, .7, -.5, .3, 1.3, .2}, {.1, .3, -.2, .4, .8, -.6, .2, 1.7}, {-.4, .9, .5, 0, .1, .2, -.7, .6},
  {.7, -.1, .6, -.8, .3, .5, .4, -.3}}, "f64")
local W = q.tensor({{.30, -.71, .12, .55, -.18, .90, -.44, .05}, {-.63, .21, .48, -.09, .77, -.35, .02, .26}}, "f64")

local function output_error(y) return (X:matmul((W - y):t()) ^ 2):sum():item() end

local cases = {
  {"asymmetric per row", {}, {{.23, -.69, 0, .46, -.23, .92, -.46, .23}, {-.6, .2, .4, -.2, .6, -.2, 0, .4}}, .02370778, .230593},
  {"act_order", {act_order = true}, {{.23, -.69, 0, .46, 0, .92, -.23, 0}, {-.6, .2, .4, -.2, .8, -.4, .2, .2}}, .02835262, .276550},
  {"groups of 4", {group = 4, block = 4},
    {{.36, -.72, .18, .54, -.19457, .972852, -.389141, 0}, {-.634286, .158571, .475714, -.158571, .780569, -.312228, 0, .312228}},
      .01540161, .152754},
  {"groups of 4, static", {group = 4, block = 4, static_groups = true},
    {{.36, -.72, .18, .54, -.191429, .957143, -.382857, 0}, {-.634286, .158571, .475714, -.158571, .8, -.32, 0, .32}}, .01368062, .135557},
  {"groups of 4, act_order, static", {group = 4, block = 4, act_order = true, static_groups = true},
    {{.36, -.72, .18, .54, -.191429, .957143, -.382857, .191429}, {-.634286, .158571, .475714, -.158571, .8, -.32, 0, .32}}, .01533423,
      .151358},
  {"groups of 4, act_order", {group = 4, block = 4, act_order = true},
    {{.128072, -.69, 0, .512286, 0, .92, -.256143, 0}, {-.614562, .237143, .474286, 0, .819415, -.355714, 0, .237143}}, .00962405, .090890},
  {"symmetric per row", {symmetric = true},
    {{.257143, -.771429, 0, .514286, -.257143, .771429, -.514286, 0}, {-.66, .22, .44, 0, .66, -.22, 0, .22}}, .05221808, .518254},
  {"symmetric, groups of 4", {symmetric = true, group = 4, block = 4},
    {{.202857, -.608571, 0, .608571, -.260309, .780927, -.260309, 0}, {-.72, .18, .54, 0, .790275, -.263425, 0, .263425}}, .0364889,
      .359765},
}

for _, case in ipairs(cases) do
  local name, options, expected, loss, outerr = unpack(case)
  tap.test(name, function(t)
    options.bits, options.damp = 3, 0.01
    local y, report = q.quant.gptq(W, X, options)
    t.near(y:totable(), expected, 1e-6, name .. ": values")
    t.near(report.loss, loss, 1e-8, name .. ": loss")
    t.near(output_error(y), outerr, 1e-6, name .. ": output error")
    local lambda = report.damp * ((X ^ 2):sum() * (2 / 10 / 8)):item()
    t.near(report.loss, output_error(y) / 10 + lambda / 2 * ((W - y) ^ 2):sum():item(), 1e-12, name
      .. ": loss = output error + damping's share")
  end)
end

local plain = {
  {"asymmetric per row", {}, {{.23, -.69, .23, .46, -.23, .92, -.46, 0}, {-.6, .2, .4, 0, .8, -.4, 0, .2}}, .375464},
  {"asymmetric, groups of 4", {group = 4},
    {{.36, -.72, .18, .54, -.191429, .957143, -.382857, 0}, {-.634286, .158571, .475714, -.158571, .8, -.32, 0, .32}}, .135557},
  {"symmetric per row", {symmetric = true},
    {{.257143, -.771429, 0, .514286, -.257143, .771429, -.514286, 0}, {-.66, .22, .44, 0, .66, -.44, 0, .22}}, .509542},
}

for _, case in ipairs(plain) do
  tap.test("round to nearest, " .. case[1], function(t)
    local y = q.quant.rtn(W, q.quant.int(3, case[2]))
    t.near(y:totable(), case[3], 1e-6, "values")
    t.near(output_error(y), case[4], 1e-6, "output error")
  end)
end

-- Properties.

local function layer(rows, cols, tokens, seed, dtype)
  local s = q.stream(seed, "test")
  local mix = q.randn(cols, cols, dtype or "f64", s)
  return q.randn(rows, cols, dtype or "f64", s), q.randn(tokens, cols, dtype or "f64", s):matmul(mix) * (1 / cols ^ 0.5)
end

local function error_of(w, y, x) return (x:matmul((w - y):t()) ^ 2):sum():item() end

tap.test("a diagonal Hessian leaves round to nearest", function(t)
  local w = layer(5, 24, 8, 1)
  local h = q.zeros(24, 24, "f64")
  for i = 1, 24 do h[i][i] = i * 0.3 end
  for _, format in ipairs{q.quant.int(3, {group = 7}), q.quant.nf4{group = 8}, q.quant.mxfp4{group = 8}, q.quant.nvfp4{},
    q.quant.int(2, {group = "tensor"})} do
    local y = q.quant.gptq(w, h, {format = format})
    local z = q.quant.rtn(w, format)
    t.equal((y - z):abs():max():item(), 0, tostring(format) .. ": the same values")
  end
end)

-- Inverse of a small symmetric matrix by elimination: an oracle that shares nothing with the core.
local function inverse(a)
  local n, m = #a, {}
  for i = 1, n do
    m[i] = {}
    for j = 1, n do m[i][j], m[i][n + j] = a[i][j], i == j and 1 or 0 end
  end
  for i = 1, n do
    local p = m[i][i]
    for j = 1, 2 * n do m[i][j] = m[i][j] / p end
    for k = 1, n do
      local f = m[k][i]
      if k ~= i then
        for j = 1, 2 * n do m[k][j] = m[k][j] - f * m[i][j] end
      end
    end
  end
  for i = 1, n do
    for j = 1, n do m[i][j] = m[i][n + j] end
  end
  return m
end

tap.test("each column's error moves the others to their least-squares answer", function(t)
  local w, x = layer(1, 12, 40, 2)
  local h = x:t():matmul(x) * (2 / 40)
  local _, report = q.quant.rtn(w, "int3")
  local s, z, v, hessian, expected = report.scale:item(), report.zero:item(), w:totable()[1], h:totable(), {}
  for i = 1, 12 do
    local code = math.min(math.max(math.floor(v[i] / s + 0.5) + z, 0), 7)
    expected[i] = (code - z) * s
    local rest = {}
    for a = i, 12 do
      rest[a - i + 1] = {}
      for b = i, 12 do rest[a - i + 1][b - i + 1] = hessian[a][b] end
    end
    local g = inverse(rest) -- with v_i fixed at its level, the best v_j is v_j - e g_1j / g_11
    for j = i + 1, 12 do v[j] = v[j] - (v[i] - expected[i]) * g[1][j - i + 1] / g[1][1] end
  end
  local y = q.quant.gptq(w, h, {bits = 3, damp = 0, block = 5})
  t.near(y:totable()[1], expected, 1e-9, "as by inverting the rest of the Hessian at each column")
end)

-- GPTAQ by the authors' rule, with explicit matrices (1-based tables): inv(H) = U^T U, P = alpha triu(D U^T, 1) U.
local function upper_factor(g) -- U of a symmetric g = U^T U
  local n, u = #g, {}
  for i = 1, n do
    u[i] = {}
    for j = 1, n do u[i][j] = 0 end
  end
  for i = 1, n do
    for j = i, n do
      local sum = g[i][j]
      for k = 1, i - 1 do sum = sum - u[k][i] * u[k][j] end
      u[i][j] = j == i and sum ^ 0.5 or sum / u[i][i]
    end
  end
  return u
end

local function gptaq(v, h, d, alpha, block, s, z, top)
  local n = #v
  local u, p, m, out = upper_factor(inverse(h)), {}, {}, {}
  for i = 1, n do
    m[i], p[i] = {}, {}
    for j = 1, n do
      m[i][j] = 0
      for k = 1, j > i and n or 0 do m[i][j] = m[i][j] + d[i][k] * u[j][k] end
    end
    for j = 1, n do
      p[i][j] = 0
      for k = 1, n do p[i][j] = p[i][j] + alpha * m[i][k] * u[k][j] end
    end
  end
  for first = 1, n, block do
    local last, errors = math.min(first + block - 1, n), {}
    for i = first, last do
      local c = v[i]
      out[i] = (math.min(math.max(math.floor(c / s + 0.5) + z, 0), top) - z) * s
      errors[i] = (c - out[i]) / u[i][i]
      for j = i, last do v[j] = v[j] - errors[i] * u[i][j] + c * p[i][j] end
    end
    for j = last + 1, n do
      for i = first, last do v[j] = v[j] - errors[i] * u[i][j] + v[i] * p[i][j] end
    end
  end
  return out
end

tap.test("GPTAQ: the drift of the inputs, as in the authors' rule", function(t)
  local w, x = layer(1, 14, 60, 8)
  local full = x + q.randn(60, 14, "f64", q.stream(9, "drift")) * 0.5
  local h, d = x:t():matmul(x) * (2 / 60), (full - x):t():matmul(x) * (2 / 60)
  local _, r = q.quant.rtn(w, "int4")
  for _, block in ipairs{5, 14} do
    local y = q.quant.gptq(w, h, {bits = 4, damp = 0, block = block, drift = d, alpha = 0.7})
    t.near(y:totable()[1], gptaq(w:totable()[1], h:totable(), d:totable(), 0.7, block, r.scale:item(), r.zero:item(), 15), 1e-9,
      "block " .. block)
  end
  t.near((q.quant.gptq(w, h, {drift = d * 0}) - q.quant.gptq(w, h)):abs():max():item(), 0, 0, "no drift: GPTQ")
  local ours, without = 0, 0
  for seed = 1, 6 do
    w, x = layer(8, 40, 400, 20 + seed)
    full = x + q.randn(400, 40, "f64", q.stream(seed, "drift")) * 0.1 + x:narrow(2, 1, 1) * 0.2
    local fit = {hessian = x:t():matmul(x) * (2 / 400), drift = (full - x):t():matmul(x) * (2 / 400)}
    local function error_to_full(y) return ((full:matmul(w:t()) - x:matmul(y:t())) ^ 2):sum():item() end
    ours = ours + error_to_full(q.quant.gptq(w, fit.hessian, {bits = 4, drift = fit.drift, alpha = 0.25}))
    without = without + error_to_full(q.quant.gptq(w, fit.hessian, {bits = 4}))
  end
  t.ok(ours < without, ("nearer to the full model's output than GPTQ: %.4g against %.4g"):format(ours, without))
end)

tap.test("any block size gives the same result without groups", function(t)
  local w, x = layer(9, 50, 200, 3)
  local y = q.quant.gptq(w, x, {bits = 3, block = 256})
  for _, block in ipairs{1, 7, 16, 49, 50, 128} do
    t.near((q.quant.gptq(w, x, {bits = 3, block = block}) - y):abs():max():item(), 0, 1e-12, "block " .. block)
  end
end)

tap.test("better than round to nearest on its own objective", function(t)
  for _, format in ipairs{q.quant.int(3, {group = 32}), q.quant.int(2), q.quant.nf4{}, q.quant.mxfp4{}, q.quant.nvfp4{},
    q.quant.gaussian(3), q.quant.ternary{}} do
    local ours, plain_error = 0, 0
    for seed = 1, 4 do
      local w, x = layer(16, 96, 400, 10 + seed, "f32")
      ours = ours + error_of(w, q.quant.gptq(w, x, {format = format}), x)
      plain_error = plain_error + error_of(w, q.quant.rtn(w, format), x)
    end
    t.ok(ours < 0.9 * plain_error, ("%s: output error %.3g against %.3g"):format(tostring(format), ours, plain_error))
  end
end)

tap.test("groups that do not divide, in every order", function(t)
  local w, x = layer(6, 50, 300, 5)
  for _, o in ipairs{{}, {act_order = true}, {act_group_aware = true}, {static_groups = true}, {act_order = true, static_groups = true},
    {act_group_aware = true, static_groups = true}} do
    o.bits, o.group, o.block = 3, 16, 20
    local y, report = q.quant.gptq(w, x, o)
    local names = {}
    for k, v in pairs(o) do names[#names + 1] = k .. "=" .. tostring(v) end
    t.ok(error_of(w, y, x) < error_of(w, q.quant.rtn(w, q.quant.int(3, {group = 16})), x), table.concat(names, " "))
    t.equal(report.scale:size(2), 4, "four groups: 16, 16, 16, 2")
    -- every value is on the grid of the group that the report names
    local index = report.group_index and report.group_index:totable()
    local s, z, v, off = report.scale:totable(), report.zero:totable(), y:totable(), 0
    for r = 1, 6 do
      for j = 1, 50 do
        local g = index and index[j] + 1 or math.floor((j - 1) / 16) + 1
        local code = v[r][j] / s[r][g] + z[r][g]
        off = math.max(off, math.abs(code - math.floor(code + 0.5)), -code, code - 7)
      end
    end
    t.near(off, 0, 1e-9, "all values are codes 0..7 of their group")
  end
end)

tap.test("dead inputs, dependent inputs, too few tokens", function(t)
  local w, x = layer(4, 20, 60, 6)
  x = x:contiguous()
  for i = 1, 60 do x[i][3] = 0 end
  local y, report = q.quant.gptq(w, x, {bits = 4})
  t.equal(report.dead, 1, "one dead column")
  t.equal(y:narrow(2, 3, 1):abs():max():item(), 0, "its weights are zero")
  t.ok(report.rank_deficient, "and it is reported")
  y, report = q.quant.gptq(w, x:narrow(1, 1, 5), {bits = 4, damp = 0})
  t.ok(report.damp > 0 and report.rank_deficient and report.tokens == 5, "5 tokens for 20 inputs: damped until it works, and said")
  t.ok(y:isfinite():min():item() == 1, "with finite values")
  t.fails(function() q.quant.gptq(w, x:narrow(1, 1, 5), {damp = 0, damp_increment = 0}) end, "depend on each other",
    "or one error, if asked for")
  y = q.quant.gptq(w, q.zeros(20, 20, "f64"), {bits = 4})
  t.equal(y:abs():max():item(), 0, "a zero Hessian: every column is dead")
end)

tap.test("one column, one row, one token", function(t)
  local y, report = q.quant.gptq(q.tensor({{0.3}, {-2}}, "f64"), q.tensor({{1}, {2}}, "f64"), {bits = 3})
  t.equal(report.scale:size(1), 2, "one column")
  t.near(y:totable(), q.quant.rtn(q.tensor({{0.3}, {-2}}, "f64"), "int3"):totable(), 0, "is round to nearest")
  y = q.quant.gptq(q.randn(1, 8), q.randn(1, 8), {bits = 4, damp = 0.1})
  t.ok(y:isfinite():min():item() == 1, "one row, one token")
end)

tap.test("bad input", function(t)
  local w, x = layer(4, 8, 20, 7, "f32")
  t.fails(function() q.quant.gptq(w, x:narrow(2, 1, 7)) end, "do not fit", "inputs of another width")
  t.fails(function() q.quant.gptq(w, q.zeros(0, 8)) end, "no calibration inputs", "no inputs")
  t.fails(function() q.quant.gptq(w, x, {bit = 4}) end, "did you mean 'bits'", "a misspelt option")
  t.fails(function() q.quant.gptq(w, x, {bits = 9}) end, "at most 8", "bits out of range")
  t.fails(function() q.quant.gptq(w, x, {act_order = true, act_group_aware = true}) end, "exclude", "two orders")
  t.fails(function() q.quant.gptq(w, x * (0 / 0)) end, "NaN", "NaN in the inputs")
  t.fails(function() q.quant.gptq(w / 0, x) end, "NaN or infinite", "infinite weights")
  t.fails(function() q.quant.gptq(w, x, {format = "nf4_double", group = 4}) end, "static_groups", "scales that need all groups first")
end)

tap.done()

--- abc.lua - where the error of a quantized model comes from, module by module.
--
-- Both models run on the same tokens while every module (norm, linear layer, attention as a whole, mixer,
-- residual sum) is traced. With h, h' the inputs of a module f in the plain and of f' in the quantized model,
-- Shapley's average over the two orders of swapping input and function splits the change of its output:
--   a = ((f'(h') - f'(h)) + (f(h') - f(h))) / 2    by the changed input
--   b = ((f'(h') - f(h')) + (f'(h) - f(h))) / 2    by the changed function,   a + b = f'(h') - f(h)
-- and, with norms of a row (a token), R = |a + b|^2/|f(h)|^2 = A + B + C, A = |a|^2, B = |b|^2, C = 2 a.b over |f(h)|^2
-- (Vlassis et al. 2025, Beyond Outliers, sections 4 and 5).

local q = require "quench"
local nn = require "quench.nn"
local options = require "quench.options"
local estimate = require "quench.curvature.estimate"

local abc = {}

abc.spec = options.spec("q.metrics.abc", {
  {"trunc", "number", default = 0.01, min = 0, below = 1, doc = "share of the tokens, those of largest R, that the truncated means leave out"},
})

-- ---- tracing -----------------------------------------------------------------------

--- The modules of a forward pass in order: {record, fn, inputs (tensors), rest (further arguments), y}. Modules inside
-- modules (the linears of an attention) are listed only where `nested`.
local function trace(model, ids, nested)
  local list, depth = {}, 0
  nn.tracing(function(record, fn, ...)
    depth = depth + 1
    local y = fn(record, ...)
    depth = depth - 1
    if depth == 0 or nested then
      local inputs, rest = {}, {}
      for i = 1, select("#", ...) do
        local v = select(i, ...)
        if type(v) == "userdata" then inputs[#inputs + 1] = v else rest[#rest + 1] = v end
      end
      list[#list + 1] = {record = record, fn = fn, inputs = inputs, rest = rest, y = y}
    end
    return y
  end, function() q.no_grad(model.forward, model, ids) end)
  return list
end

--- What the module gives for other inputs.
local function call(module, inputs)
  local arguments = {unpack(inputs)}
  for _, v in ipairs(module.rest) do arguments[#arguments + 1] = v end
  return q.no_grad(module.fn, module.record, unpack(arguments))
end

local function label(record) return record.name or record.kind or "module" end

--- The traces of both models, checked to run through the same modules.
local function traces(what, model, quantized, ids, nested)
  local plain, other = trace(model, ids, nested), trace(quantized, ids, nested)
  if #plain == 0 then options.fail("%s: the model has no modules to trace", what) end
  if #plain ~= #other then options.fail("%s: the models run through %d and %d modules", what, #plain, #other) end
  for i, p in ipairs(plain) do
    if p.record.name ~= other[i].record.name then
      options.fail("%s: module %d is %s in one model and %s in the other", what, i, label(p.record), label(other[i].record))
    end
  end
  return plain, other
end

local function as_list(what, ids)
  if type(ids) == "userdata" then return {ids:ndim() == 1 and ids:view(1, -1) or ids} end
  if type(ids) ~= "table" or #ids == 0 then options.fail("%s: ids must be a tensor (B, T) or a list of such", what) end
  return ids
end

local function rows64(x) return x:to("f64"):contiguous():view(-1, x:size(-1)) end

local function square(x) return x:square():sum(2) end

-- ---- A, B, C, R -----------------------------------------------------------------------

--- Lists of A, B, C, R, one number a token, of a pair of modules.
local function split(p, o)
  return q.scope(function()
    local y, y2 = rows64(p.y), rows64(o.y)
    local a, b
    if p.record.kind == "sum" then
      a, b = y2 - y, (y2 - y) * 0 -- a sum is not quantized: all comes from its inputs
    else
      local mixed, swapped = rows64(call(p, o.inputs)), rows64(call(o, p.inputs)) -- f(h'), f'(h)
      a = ((y2 - swapped) + (mixed - y)) * 0.5
      b = ((y2 - mixed) + (swapped - y)) * 0.5
    end
    local scale = square(y):reciprocal()
    return {A = (square(a) * scale):totable(), B = (square(b) * scale):totable(), C = ((a * b):sum(2) * scale * 2):totable(),
      R = (square(a + b) * scale):totable()}
  end)
end

--- Means over the tokens, and over those that are left when the share `trunc` with the largest R goes.
local function summary(values, trunc)
  local order, out = {}, {trunc = {}}
  for i = 1, #values.R do order[i] = i end
  table.sort(order, function(i, j)
    if values.R[i] ~= values.R[j] then return values.R[i] < values.R[j] end
    return i < j
  end)
  local kept = #order - math.floor(trunc * #order)
  for _, key in ipairs{"A", "B", "C", "R"} do
    out[key] = estimate.of(values[key], {name = key})
    out[key].values = nil
    local rest = {}
    for i = 1, kept do rest[i] = values[key][order[i]] end
    out.trunc[key] = estimate.of(rest, {name = key})
    out.trunc[key].values = nil
  end
  return out
end

local function append(to, from)
  for key, list in pairs(from) do
    to[key] = to[key] or {}
    for _, v in ipairs(list) do table.insert(to[key], v) end
  end
end

local function show(r)
  local lines = {("%-52s %10s %10s %10s %10s"):format("module", "A", "B", "C", "R")}
  for _, m in ipairs(r.modules) do
    lines[#lines + 1] = ("%-52s %10.3g %10.3g %10.3g %10.3g"):format(m.name, m.A.value, m.B.value, m.C.value, m.R.value)
  end
  lines[#lines + 1] = ("R_L %.4g over %d tokens"):format(r.R_L.value, r.tokens)
  return table.concat(lines, "\n")
end

--- q.metrics.abc
function abc.abc(model, quantized, ids, o)
  local what = abc.spec.name
  o = abc.spec(o)
  local values, records = {}, {}
  for _, batch in ipairs(as_list(what, ids)) do
    q.scope(function()
      local plain, other = traces(what, model, quantized, batch)
      for i, p in ipairs(plain) do
        records[i], values[i] = p.record, values[i] or {}
        append(values[i], split(p, other[i]))
      end
    end)
  end
  local modules, last, layer = {}, nil, nil
  for i, v in ipairs(values) do
    local m, r = summary(v, o.trunc), records[i]
    if r.kind ~= "sum" then layer = r.layer end -- a residual sum belongs to the layer it closes
    m.name, m.kind, m.layer, m.index = label(r) .. (r.kind == "sum" and layer and " of layer " .. layer or ""), r.kind or "linear", layer, i
    modules[i] = m
    if records[i].role ~= "output" then last = m end
  end
  return setmetatable({modules = modules, R_L = last.R, tokens = #values[1].R}, {__tostring = show})
end

-- ---- the gain of linear layers and attention ------------------------------------------------------------

--- The squared alignments of each token with a linear layer's matrix: those of the change dx and of x itself.
-- cos phi = |(W + eW/2) dh| / (|W + eW/2| |dh|), cos psi = |y| / (|W| |h|)
local function alignments(layer, dx, x, y)
  local phi = square(q.linear(dx, layer.between)) / square(dx) * (1 / layer.norms.between ^ 2)
  local psi = square(y) / square(x) * (1 / layer.norms.plain ^ 2)
  return phi:totable(), psi:totable()
end

--- G of each token as measured for a pair of modules, and the alignment ratio G2 of each if they are linear (layer.between);
-- tokens whose input has not changed have no gain.
local function token_gains(p, o, layer)
  return q.scope(function()
    local x, x2 = rows64(p.inputs[1]), rows64(o.inputs[1])
    local dx = x2 - x
    local parts, change, phi, psi = split(p, o), square(dx), nil, nil
    if layer.between then phi, psi = alignments(layer, dx, x, rows64(p.y)) end
    local moved, R_in = change:totable(), (change / square(x)):totable()
    local v = {G = {}, G2 = {}, A = {}, R = {}}
    for i = 1, #moved do
      if moved[i] > 0 then
        local k = #v.G + 1
        v.G[k], v.G2[k], v.A[k], v.R[k] = parts.A[i] / R_in[i], phi and phi[i] / psi[i], parts.A[i], R_in[i]
      end
    end
    return v
  end)
end

local function is_linear(record) return type(record.weight) == "userdata" and record.weight:ndim() == 2 end

--- A module whose gain is taken: a linear layer, with the mean of its two matrices and their spectral norms, or an attention as
-- one unit; nil for others.
local function gained(p, o)
  local layer = {name = label(p.record), layer = p.record.layer, kind = is_linear(p.record) and "linear" or p.record.kind}
  if layer.kind == "linear" then
    local w, w2 = p.record.weight:detach():to("f64"), o.record.weight:detach():to("f64")
    layer.between = q.keep((w + w2) * 0.5)
    layer.norms = {plain = q.linalg.spectral_norm(w), between = q.linalg.spectral_norm(layer.between)}
  end
  return (layer.between or layer.kind == "attention") and layer or nil
end

local function bare(e)
  e.values = nil
  return e
end

--- q.metrics.gain
function abc.gain(model, quantized, ids)
  local what = "q.metrics.gain"
  local values, layers, order = {}, {}, {}
  for _, batch in ipairs(as_list(what, ids)) do
    q.scope(function()
      local plain, other = traces(what, model, quantized, batch, true)
      for i, p in ipairs(plain) do
        if not values[i] then
          layers[i], values[i] = gained(p, other[i]), {}
          if layers[i] then order[#order + 1] = i end
        end
        if layers[i] then append(values[i], token_gains(p, other[i], layers[i])) end
      end
    end)
  end
  local out = {}
  for k, i in ipairs(order) do
    local layer, v = layers[i], values[i]
    local g = {name = layer.name, layer = layer.layer, kind = layer.kind, tokens = #v.G}
    if #v.G > 0 then g.G, g.G_of_means = bare(estimate.of(v.G, {name = "G"})), estimate.mean(v.A) / estimate.mean(v.R) end
    if layer.between then g.G1 = (layer.norms.between / layer.norms.plain) ^ 2 end
    if layer.between and #v.G > 0 then
      g.G2 = bare(estimate.of(v.G2, {name = "G2"}))
      g.frozen = g.G1 * g.G2.value
    end
    out[k] = g
  end
  return out
end

-- ---- outliers along the model -----------------------------------------------------------------

--- q.metrics.outliers: mmr and kurtosis of the last block's output, and of the inputs of the linear layers.
function abc.outliers(model, ids)
  local what = "q.metrics.outliers"
  local rows = require "quench.metrics.rows"
  local inputs, records, last = {}, {}, {}
  for _, batch in ipairs(as_list(what, ids)) do
    q.no_grad(function()
      local h = model:embed(batch)
      nn.watching(function(record, x)
        local list = inputs[record]
        if not list then
          list = {}
          inputs[record], records[#records + 1] = list, record
        end
        list[#list + 1] = x:detach():view(-1, x:size(-1))
      end, function()
        for i = 1, model:layers() do h = model:block(i, h) end
      end)
      last[#last + 1] = h:detach():view(-1, h:size(-1))
    end)
  end
  local function measure(list)
    local x = #list == 1 and list[1] or q.concat(list, 1)
    return {mmr = rows.mmr(x), kurtosis = rows.kurtosis(x), feature_kurtosis = rows.kurtosis(x, {over = "features"})}
  end
  return q.scope(function()
    local out = {last_block = measure(last), linears = {}}
    for k, record in ipairs(records) do
      out.linears[k] = measure(inputs[record])
      out.linears[k].name, out.linears[k].layer = label(record), record.layer
    end
    out.last_linear = out.linears[#out.linears]
    return out
  end)
end

return abc

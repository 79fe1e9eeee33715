--- rows.lua - outliers of activations: statistics of each row (a token's vector), then their mean.

local options = require "quench.options"
local estimate = require "quench.curvature.estimate"

local rows = {}

rows.kurtosis_spec = options.spec("q.metrics.kurtosis", {
  {"excess", "boolean", default = true, doc = "0 for a normal distribution; false: 3"},
  {"over", "string", default = "rows", choices = {"rows", "all", "features"},
    doc = "rows: of each row, then the mean; all: of all elements; features: of the features' root mean squares"},
})

rows.relative_spec = options.spec("q.metrics.relative_error", {
  {"over", "string", default = "all", choices = {"all", "rows"}, doc = "all: of the whole tensors; rows: of each row, then the mean"},
})

--- x (..., n) as (rows, n) in f64 without history.
function rows.matrix(what, x)
  if type(x) ~= "userdata" or not x.shape then options.fail("%s: a tensor expected, got a %s", what, type(x)) end
  if x:ndim() == 0 or x:numel() == 0 then options.fail("%s: rows expected, got shape (%s)", what, table.concat(x:shape(), ", ")) end
  return x:detach():to("f64"):contiguous():view(-1, x:size(-1))
end

--- q.metrics.mmr: mean over rows of max|x| / median|x|.
function rows.mmr(x)
  local a = rows.matrix("q.metrics.mmr", x):abs()
  local top, middle, values, left_out = a:max(2):totable(), a:median():totable(), {}, 0
  for i, m in ipairs(middle) do
    if m > 0 then values[#values + 1] = top[i] / m else left_out = left_out + 1 end
  end
  if #values == 0 then return estimate.new{name = "MMR", value = math.huge, samples = 0, left_out = left_out} end
  local e = estimate.of(values, {name = "MMR", left_out = left_out})
  e.values = nil
  return e
end

--- m4 / m2^2 of each row of a matrix: a list.
local function kurtoses(a)
  local d = a - a:mean(2, true)
  local square = d:square()
  return (square:square():mean(2) / square:mean(2):square()):totable()
end

--- q.metrics.kurtosis
function rows.kurtosis(x, o)
  o = rows.kurtosis_spec(o)
  local a = rows.matrix(rows.kurtosis_spec.name, x)
  if o.over == "all" then a = a:view(1, -1)
  elseif o.over == "features" then a = a:square():mean(1):sqrt():view(1, -1) end
  local values, left_out = {}, 0
  for _, k in ipairs(kurtoses(a)) do -- rows without any spread have none
    if k == k then values[#values + 1] = k - (o.excess and 3 or 0) else left_out = left_out + 1 end
  end
  if #values == 0 then return estimate.new{name = "kurtosis", value = 0 / 0, samples = 0, left_out = left_out} end
  local e = estimate.of(values, {name = o.excess and "excess kurtosis" or "kurtosis", left_out = left_out})
  e.values = nil
  return e
end

--- q.metrics.relative_error
function rows.relative_error(reference, measured, o)
  local what = rows.relative_spec.name
  o = rows.relative_spec(o)
  if type(reference) == "number" and type(measured) == "number" then return measured / reference - 1 end
  local a, b = rows.matrix(what, reference), rows.matrix(what, measured)
  if table.concat(a:shape(), ",") ~= table.concat(b:shape(), ",") then
    options.fail("%s: shapes (%s) and (%s) differ", what, table.concat(reference:shape(), ", "), table.concat(measured:shape(), ", "))
  end
  local d = b - a
  if o.over == "all" then return d:dot(d) / a:dot(a) end
  local e = estimate.of((d:square():sum(2) / a:square():sum(2)):totable(), {name = "relative error"})
  e.values = nil
  return e
end

return rows

--- probe.lua - the curvature of a model in one table of numbers, for logs and along training.

local q = require "quench"
local options = require "quench.options"
local operator = require "quench.curvature.operator"
local lanczos = require "quench.curvature.lanczos"
local quadratic = require "quench.curvature.quadratic"
local trace = require "quench.curvature.trace"

local M = {}

local entries = {
  {"batches", "list", required = true, doc = "token ids (B, T), one a batch; errors are over these"},
  {"k", "integer", default = 1, min = 0, doc = "eigenvalues from the top; 0: none"},
  {"tolerance", "number", default = 1e-2, above = 0, doc = "of the eigenvalues' residuals"},
  {"products", "integer", default = 60, min = 2, doc = "products for them, at most"},
  {"samples", "integer", default = 16, min = 0, doc = "products for the trace; 0: none"},
  {"quantize", "table", default = {}, doc = "name -> options of q.quant.quantize: the quadratic test of each"},
  {"optimizer", "table", doc = "adamw: the preconditioned sharpness as well"},
  {"seed", "integer", default = 0, doc = "of the random directions"},
}

M.spec = options.spec("q.curvature.measure", entries)

--- q.curvature.measure: sharpness, eigenvalues, trace, quadratic tests.
function M.measure(model, o)
  o = M.spec(o)
  local op = operator.hessian(M.spec.name, model, nil, {batches = o.batches, keep = "auto", memory = 2 ^ 30})
  local function loop(more)
    more.progress, more.partial, more.seed = false, false, o.seed -- logs want whole estimates
    return more
  end
  local out = {loss = op:loss().value, gradient_norm = q.scope(function() return op:flat_gradient():norm() end)}
  if o.k > 0 then
    local top = lanczos.top(op, loop{k = o.k, tolerance = o.tolerance, products = o.products})
    out.sharpness, out.sharpness_error, out.eigenvalues = top.values[1], top.errors[1], top.values
  end
  if o.optimizer then
    local top = lanczos.top(lanczos.preconditioned(op, o.optimizer), loop{tolerance = o.tolerance, products = o.products})
    out.preconditioned, out.preconditioned_error = top.values[1], top.errors[1]
  end
  if o.samples > 0 then
    local e = trace.trace(op, loop{samples = math.max(2, o.samples)})
    out.trace, out.trace_error = e.value, e.error
  end
  for name, format in pairs(o.quantize) do
    q.scope(function()
      local r = quadratic.quadratic(op, loop{to = q.quant.quantize(model, format)})
      out[name] = {predicted = r.predicted.value, measured = r.measured.value, curvature = r.curvature.value, gradient = r.gradient.value,
        ratio = r.ratio.value, ratio_error = r.ratio.error, step = r.norm, directional = 2 * r.curvature.value / r.norm ^ 2}
    end)
  end
  return out
end

local probe_entries = {{"name", "string", default = "curvature", doc = "prefix in the log"},
  {"every", "integer", default = 100, min = 1, doc = "steps between measurements"},
  {"preconditioned", "boolean", default = false, doc = "the sharpness that the run's AdamW sees"}}
for _, entry in ipairs(entries) do
  if entry[1] ~= "optimizer" then probe_entries[#probe_entries + 1] = entry end
end
M.probe_spec = options.spec("q.curvature.probe", probe_entries)

--- {a = {b = 1}} as {["a.b"] = 1}: what a log's record takes; lists are left out.
local function flat(prefix, t, out)
  for key, value in pairs(t) do
    if type(value) == "table" then
      if #value == 0 then flat(prefix .. key .. ".", value, out) end
    else
      out[prefix .. key] = value
    end
  end
  return out
end

--- q.curvature.probe: an entry for the probes of q.train.
function M.probe(o)
  o = M.probe_spec(o)
  return {name = o.name, every = o.every, run = function(context)
    local given = {}
    for _, entry in ipairs(entries) do given[entry[1]] = o[entry[1]] end
    if o.preconditioned then given.optimizer = context.optim end
    return flat("", M.measure(context.model, given), {})
  end}
end

return M

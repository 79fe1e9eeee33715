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
  {"optimizer", "table", doc = "adamw: the preconditioned sharpness as well; with update, any"},
  {"preconditioned", "boolean", doc = "the sharpness that the optimizer, an AdamW, sees (default: with an optimizer, unless update)"},
  {"update", "boolean", default = false, doc = "curvature and critical sharpness along the optimizer's next update, from the first batch "
    .. "(schedule_free is left at the point to evaluate)"},
  {"seed", "integer", default = 0, doc = "of the random directions"},
}

M.spec = options.spec("q.curvature.measure", entries)

local function copies(list)
  local out = {}
  for key, t in pairs(list) do out[key] = t:detach():clone() end
  return out
end

--- The step that the optimizer would take on a batch, as a list, and its rate. Weights, state and gradients are then as before (the
-- gradients: none), whatever the optimizer is: it is run for one step and put back.
local function next_update(model, optimizer, ids)
  local params = model:parameters()
  local function gradients()
    optimizer:zero_grad()
    q.with_grad(function() model:loss(ids):backward() end)
  end
  optimizer:train() -- schedule_free: at the point it trains at
  local before, state, update = copies(params), copies(optimizer:state()), {}
  gradients()
  local ok, message = pcall(optimizer.step, optimizer, 1, gradients)
  optimizer:zero_grad()
  for i, p in ipairs(params) do
    update[i] = p:detach() - before[i]
    q.no_grad(p.copy_, p, before[i])
  end
  optimizer:load(state)
  optimizer:eval()
  if not ok then error(message, 0) end
  return update, optimizer.groups[1].options.lr
end

--- Curvature along the update, and 2 / (the rate at which it stops lowering the loss), NaN where it never lowers it.
local function along_update(model, op, o, loop)
  local update, lr = next_update(model, o.optimizer, o.batches[1])
  op:refresh()
  local e = quadratic.directional(op, loop{direction = update})
  for i, d in ipairs(update) do update[i] = d * (-1 / lr) end
  local ok, critical = pcall(quadratic.critical_sharpness, model, {batches = o.batches, direction = update, rate = lr})
  if not ok and not tostring(critical):find("the loss rises", 1, true) and not tostring(critical):find("does not rise", 1, true) then
    error(critical, 0)
  end
  op:refresh()
  return {directional = e.value, directional_error = e.error, length = e.norm, critical = ok and critical.value or 0 / 0,
    critical_rate = ok and critical.rate or 0 / 0}
end

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
  if o.update and not o.optimizer then options.fail("%s: update needs an optimizer", M.spec.name) end
  if o.update then out.update = q.scope(function() return along_update(model, op, o, loop) end) end
  if o.preconditioned or o.preconditioned == nil and o.optimizer and not o.update then
    if not o.optimizer then options.fail("%s: preconditioned needs an optimizer", M.spec.name) end
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
  {"every", "integer", default = 100, min = 1, doc = "steps between measurements"}}
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
    if o.preconditioned or o.update then given.optimizer = context.optim end
    return flat("", M.measure(context.model, given), {})
  end}
end

return M

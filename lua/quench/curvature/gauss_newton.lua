--- gauss_newton.lua - the Gauss-Newton matrix and the Fisher matrices.
--
-- G = J^T H_z J with J the Jacobian of the outputs z and H_z the Hessian of the loss in z. A product
-- is a tangent to z, the tangent of the loss's gradient in z (for cross-entropy (diag p - p p^T) u / N
-- in closed form, nothing larger than the logits), and a gradient back. For cross-entropy G is the
-- Fisher matrix with labels drawn from the model, of which "true" below is the sampled version;
-- "empirical" uses the data's labels and is a different matrix (Kunstner, Balles and Hennig 2019).

local q = require "quench"
local options = require "quench.options"
local objective = require "quench.curvature.objective"
local operator = require "quench.curvature.operator"

local M = {}

local function with_operator_options(entries)
  for _, entry in ipairs(operator.options) do entries[#entries + 1] = entry end
  return entries
end

M.ggn_spec = options.spec("q.curvature.ggn", with_operator_options{
  {"loss", "string|function", default = "cross_entropy", choices = {"cross_entropy", "square"},
    doc = "of the outputs: a name, or function(outputs, targets) -> scalar, convex in the outputs"},
})

M.fisher_spec = options.spec("q.curvature.fisher", with_operator_options{
  {"kind", "string", required = true, choices = {"true", "empirical"}, doc = "labels drawn from the model, or those of the data"},
  {"per", "string", choices = {"token", "batch"}, doc = "what one example is (kind = empirical; default: batch)"},
  {"samples", "integer", default = 8, min = 1, doc = "draws of all labels of a batch (kind = true)"},
  {"seed", "integer", default = 0, doc = "of the draws"},
})

local losses = {
  cross_entropy = function(z, targets) return q.nn.cross_entropy(z, targets) end,
  square = function(z, targets) return (targets and z - targets or z):square():mean() * 0.5 end,
}

--- What a model's outputs are: logits of all positions but the last, and the tokens that follow.
local function outputs_of(source)
  if not objective.is_model(source) then return source end
  return function(batch)
    local ids, targets = batch, nil
    if type(batch) == "table" then ids, targets = batch[1], batch[2] end
    if not targets then
      local time = ids:size(2)
      ids, targets = ids:narrow(2, 1, time - 1), ids:narrow(2, 2, time - 1)
    end
    return source:forward(ids), targets
  end
end

--- The objective whose closures return outputs and targets.
local function outputs_goal(what, source, params, o)
  if objective.is_model(source) and not o.batches then options.fail("%s: a model needs batches = {ids, ...}", what) end
  return objective.new(what, outputs_of(source), params, o, source)
end

local function checked_outputs(what, z, targets, needs_targets)
  if type(z) ~= "userdata" or not z.shape then options.fail("%s: the function must return outputs (and targets), got a %s", what,
    type(z)) end
  if not z:needs_grad() then options.fail("%s: the outputs do not depend on any parameter", what) end
  if needs_targets and type(targets) ~= "userdata" then options.fail("%s: the function must return outputs and targets", what) end
  return z, targets
end

--- q.curvature.ggn: the operator G.
function M.ggn(...)
  local source, params, given = operator.arguments(...)
  local o = M.ggn_spec(given)
  local what = M.ggn_spec.name
  local goal = outputs_goal(what, source, params, o)
  local loss_of = type(o.loss) == "function" and o.loss or losses[o.loss]
  params = goal.params
  local op = operator.new("Gauss-Newton", goal, o, function(b)
    local function build()
      local z, targets = checked_outputs(what, goal.closures[b]())
      if o.loss == "cross_entropy" then checked_outputs(what, z, targets, true) end
      local leaf = z:detach():clone():requires_grad()
      local loss = loss_of(leaf, targets)
      return {outputs = z:view(z:shape()), leaf = leaf, loss = loss:item(), slope = q.grad(loss, {leaf}, {create_graph = true})}
    end
    return operator.term(build, function(graph, v, indices)
      local some = operator.pick(params, indices)
      local u = q.jvp({graph.outputs}, some, v)
      local back = q.jvp(graph.slope, {graph.leaf}, u)
      return q.grad(graph.outputs, some, {gradient = back[1]})
    end)
  end)
  return operator.measure(op, o.keep)
end

-- ---- Fisher ------------------------------------------------------------------------------------

--- Labels from softmax(z), one a position (Gumbel's trick: argmax of z + noise); counts only where targets >= 0.
local function draw(z, targets, stream)
  local noise = q.zeros(z:shape(), z:dtype()):uniform_(stream, 1e-12, 1)
  local labels = (z:detach() - (-noise:log()):log()):argmax(-1)
  if not targets then return labels, labels:numel() end
  local counted = targets:ge(0):to("f32")
  return (labels:to("f32") * counted - (1 - counted)):to("i32"), counted:sum():item()
end

--- F v = sum over the gradients g of g (g . v) / how many, scaled.
local function outer_products(gradients, scale, v, indices)
  local out = {}
  for _, g in ipairs(gradients) do
    local some, along = operator.pick(g, indices), 0
    for i, t in ipairs(some) do along = along + t:dot(v[i]) end
    for i, t in ipairs(some) do
      out[i] = out[i] or t * 0
      out[i]:axpby_(1, t, along * scale / #gradients)
    end
  end
  return out
end

--- The losses of all positions, 0 where targets < 0, and how many count. logits (..., V), targets (...).
local function token_losses(z, targets)
  local counted = targets:ge(0):to(z:dtype())
  local labels = (targets:to(z:dtype()) * counted):to "i32"
  return (z:logsumexp(-1) - z:pick(labels)) * counted, counted:sum():item()
end

--- The mean over tokens of g g^T with the data's labels, exactly and at the price of a product: with l the vector of the
-- tokens' losses and J its Jacobian it is J^T J / N, so no gradient of a single token is ever formed.
local function by_token(goal, b, what)
  local function build()
    local z, targets = checked_outputs(what, goal.closures[b]())
    checked_outputs(what, z, targets, true)
    local each, count = token_losses(z, targets)
    return {losses = each, count = count}
  end
  return operator.term(build, function(graph, v, indices)
    local some = operator.pick(goal.params, indices)
    local along = q.jvp({graph.losses}, some, v)[1]
    return q.grad(graph.losses, some, {gradient = along * (1 / graph.count)})
  end)
end

--- Gradients with drawn labels: N times their mean square (the cross terms of independent positions vanish).
local function by_draws(goal, b, what, o)
  return function()
    local z, targets = checked_outputs(what, goal.closures[b]())
    local stream, gradients, count = q.stream(o.seed, "curvature/fisher/" .. b), {}, nil
    for s = 1, o.samples do
      local labels
      labels, count = draw(z, targets, stream)
      gradients[s] = q.grad(losses.cross_entropy(z, labels), goal.params)
    end
    return {gradients = gradients, scale = count}
  end
end

--- Each batch's own gradient, a batch being one example.
local function by_batch(goal, b)
  return function() return {gradients = {q.grad(goal:loss(b), goal.params)}, scale = 1} end
end

--- q.curvature.fisher
function M.fisher(...)
  local source, params, given = operator.arguments(...)
  local o = M.fisher_spec(given)
  local what = M.fisher_spec.name
  local sampled = o.kind == "true"
  if sampled and o.per then options.fail("%s: per belongs to kind = \"empirical\"", what) end
  local tokens = o.per == "token"
  local goal = (sampled or tokens) and outputs_goal(what, source, params, o) or objective.new(what, source, params, o)
  local name = sampled and "Fisher" or tokens and "empirical Fisher by token" or "empirical Fisher"
  return operator.measure(operator.new(name, goal, o, function(b)
    if tokens then return by_token(goal, b, what) end
    return operator.term(sampled and by_draws(goal, b, what, o) or by_batch(goal, b), function(graph, v, indices)
      return outer_products(graph.gradients, graph.scale, v, indices)
    end)
  end), o.keep)
end

return M

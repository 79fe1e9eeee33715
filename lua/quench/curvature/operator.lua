--- operator.lua - symmetric linear operators on parameter space: H, G, F, and what is made of them.
--
-- An operator is a list of terms, one a batch, whose weighted mean it is. A term takes a direction
-- (a list of tensors) and returns the product with it. The Hessian's term is forward over reverse, exact (Pearlmutter 1994), in one
-- of three kinds with the same bits, which `keep` chooses:
--   true        the loss's graph stays, and of the gradient what is dear to make (q.hvp_cache): gradient and tangent go back together (q.hvp)
--   "gradient"  the gradient is recorded (create_graph) and stays: a product is a tangent sweep over it, a little faster, for most memory
--   false       nothing stays: q.hvp on a graph made anew
-- In other operators both of the first keep what build() makes.

local q = require "quench"
local options = require "quench.options"
local system = require "quench.c.system"
local fresh = require "quench.c.function".fresh
local objective = require "quench.curvature.objective"
local vectors = require "quench.curvature.vectors"
local estimate = require "quench.curvature.estimate"

local M = {}

local Operator = {}
Operator.__index = Operator

M.options = {
  {"keep", "boolean|string", default = "auto", choices = {"auto", "gradient"},
    doc = "keep the graph of each batch between products (without it a Hessian takes 1.3 times the time); gradient: its recorded gradient too"},
  {"memory", "number", default = 2 ^ 30, min = 0, unit = "bytes",
    doc = "the most that keep = auto may hold, and that a Lanczos basis may take"},
}
for i, entry in ipairs(objective.options) do table.insert(M.options, i, entry) end

--- An operator from terms, which make_term(batch) makes; see M.term.
function M.new(name, goal, o, make_term)
  local self = setmetatable({
    what = goal.what, name = name, goal = goal, params = goal.params, names = goal.names, records = goal.records, layout = goal.layout,
    dimension = goal.layout.dimension, dtype = goal.layout.dtype, weights = goal.weights, memory = o.memory,
    terms = {}, products = 0, cost = {batches = #goal.closures},
  }, Operator)
  for b = 1, #goal.closures do
    local term = make_term(b)
    self.terms[b] = term
    for _, kind in ipairs{"build", "fleeting"} do
      local build = term[kind]
      term[kind] = build and function() return M.finite(goal.what, b, build()) end
    end
  end
  return self
end

--- The graph, unless its loss is NaN or infinite: products would be NaN then, and estimates of them.
function M.finite(what, b, graph)
  local loss = graph.loss
  if loss and not (math.abs(loss) < math.huge) then
    options.fail("%s: the loss of batch %d is %s", what, b, loss ~= loss and "NaN" or "infinite")
  end
  return graph
end

--- A batch's part of an operator. build() makes the graph that product(graph, views, indices) uses; a product wants
-- and gives one tensor a parameter, or for `indices` one for each of those. fleeting(), if given, makes one that serves one product.
function M.term(build, product, fleeting) return {build = build, product = product, fleeting = fleeting} end

--- The entries at the indices, or all.
local function pick(list, indices)
  if not indices then return list end
  local out = {}
  for k, i in ipairs(indices) do out[k] = list[i] end
  return out
end
M.pick = pick

--- Builds the first graph, and from its time and bytes decides what to keep.
function M.measure(self, keep)
  local bytes, start, forward = system.memory().live, system.clock(), false
  local term = self.terms[1]
  term.graph = q.with_grad(q.scope, function()
    local graph = (keep == false and term.fleeting or term.build)()
    if term.fleeting and keep == false then local _ = graph.gradient end -- its time is what a product is foreseen from
    bytes = math.max(0, system.memory().live - bytes) + (graph.cache and graph.cache:bytes() or 0)
    forward = graph.cache ~= nil
    if keep == "auto" then keep = bytes * #self.terms <= self.memory end
    return keep and graph or nil
  end)
  self.keep = keep
  local cost = self.cost
  cost.gradient_seconds, cost.graph_bytes, cost.kept_bytes = system.clock() - start, bytes, keep and bytes * #self.terms or 0
  if forward then cost.gradient_seconds = 3 * cost.gradient_seconds end -- a gradient is three times the pass forward, all that was made
  cost.gradients = (forward and keep and 2.1 or keep and 2 or term.fleeting and 2.7 or 3) * #self.terms
  cost.seconds = cost.gradients * cost.gradient_seconds
  return self
end

-- The loss of a batch with its graph. The gradient is there for who asks: of a fleeting graph before its product.
local Rooted = {}
function Rooted.__index(graph, key)
  if key ~= "gradient" then return nil end
  local gradient = q.grad(graph.root, graph.params)
  for _, g in ipairs(graph.cache and gradient or {}) do q.keep(g) end -- a kept graph outlives the scope of this call
  graph.gradient = gradient
  return gradient
end

local function rooted_graph(goal, b, kept)
  local root, ours = fresh(q.scope, goal.loss, goal, b) -- the scope lets go of what the loss was made of: q.hvp frees it on its way
  return setmetatable({loss = root:item(), root = root, retain = not ours, params = goal.params, cache = kept and q.hvp_cache(root) or nil}, Rooted)
end

--- The Hessian of a loss. once: for one product.
function M.hessian(what, source, params, o, once)
  local goal = objective.new(what, source, params, o)
  params = goal.params
  for i, p in ipairs(params) do
    if not p:needs_grad() then options.fail("%s: params[%d] does not require a gradient; call :requires_grad() on it", what, i) end
  end
  local self = M.new("Hessian", goal, o, function(b)
    return M.term(function()
      if o.keep ~= "gradient" then return rooted_graph(goal, b, true) end
      local loss = goal:loss(b)
      return {loss = loss:item(), gradient = q.grad(loss, params, {create_graph = true})}
    end, function(graph, v, indices)
      if graph.root then return q.hvp(graph.root, pick(params, indices), v, {retain = graph.retain, cache = graph.cache}) end
      return q.jvp(pick(graph.gradient, indices), pick(params, indices), v)
    end, function() return rooted_graph(goal, b) end)
  end)
  if once and o.keep == "auto" then
    self.keep, self.cost.seconds = false, 0
    return self
  end
  return M.measure(self, o.keep)
end

-- ---- products -----------------------------------------------------------------

local function keep_tensors(graph)
  for _, v in pairs(graph) do
    if type(v) == "userdata" and v.dtype then q.keep(v) elseif type(v) == "table" then keep_tensors(v) end
  end
  return graph
end

local MOVED = "; the operator keeps graphs of the parameters as they were: call its :refresh(), after training and after "
  .. "line, cut, plane, connectivity and critical_sharpness, which move the parameters and put them back"

local function visit(self, b, fn)
  local term = self.terms[b]
  if self.keep and not term.graph then term.graph = keep_tensors(q.with_grad(q.scope, term.build)) end
  local build = not self.keep and term.fleeting or term.build
  if not term.graph then return q.scope(function() return fn(b, q.with_grad(build), term) end) end
  local ok, message = pcall(q.scope, fn, b, term.graph, term)
  if ok then return message end -- what fn returned
  if tostring(message):find("changed in place", 1, true) then message = message .. MOVED end
  error(message, 0)
end

--- Calls fn(b, graph, term) for each batch in a scope of its own.
function Operator:each(fn)
  for b = 1, #self.terms do visit(self, b, fn) end
end

--- The same as a loop that shows its progress and that Ctrl-C ends behind the second batch or later (o: estimate.options). Returns the
-- weights of the batches that were reached, summing to 1, and whether Ctrl-C ended it.
function Operator:survey(o, label, fn)
  local loop = {dimension = self.dimension, terms = self.terms, unit = "batch", cost = {seconds = self.cost.seconds / #self.terms}}
  local done, interrupted = estimate.loop(o, label, #self.terms, loop, function(b) visit(self, b, fn) end, 2)
  local weights, sum = {}, 0
  for b = 1, done do sum = sum + self.weights[b] end
  for b = 1, done do weights[b] = done == #self.terms and self.weights[b] or self.weights[b] / sum end
  return weights, interrupted
end

--- Corrects cost.seconds by the faster of two products on the first batch alone: the first gradient and the first product, in fresh
-- memory, take far longer than later ones.
function Operator:calibrate()
  local cost, views, best = {}, self.layout:views(self.layout:zeros()), math.huge
  for _ = 1, 2 do
    local start = system.clock()
    visit(self, 1, function(_, graph, term) term.product(graph, views) end)
    best = math.min(best, system.clock() - start)
  end
  for key, value in pairs(self.cost) do cost[key] = value end
  cost.calibrated, cost.seconds = true, best * #self.terms
  self.cost = cost -- a copy: operators made from one another share theirs, not their prices
end

--- Flat in, flat out: the mean product over the batches.
function Operator:product(x)
  local from, out = self.layout:views(x), nil
  for b = 1, #self.terms do
    out = q.scope(function()
      local list = visit(self, b, function(_, graph, term) return term.product(graph, from) end)
      out = out or self.layout:zeros() -- not before: memory is at its peak within the first product
      for i, view in ipairs(self.layout:views(out)) do view:axpby_(1, list[i], self.weights[b]) end
      return out
    end)
  end
  self.products = self.products + 1
  return out
end

--- op:apply(v): the product with a list of tensors, as a list.
function Operator:apply(v)
  local x = self.layout:flatten(v, "v")
  return self.layout:list(q.scope(self.product, self, x))
end

--- x . A x for a flat x, times a number: an estimate over the batches that o lets it reach.
function Operator:form(o, name, x, scale)
  local forms, views = {}, self.layout:views(x)
  local weights, interrupted = self:survey(o, name, function(b, graph, term)
    local sum = 0
    for i, t in ipairs(term.product(graph, views)) do sum = sum + t:dot(views[i]) end
    forms[b] = sum * scale
  end)
  self.products = self.products + 1
  for b = #forms, #weights + 1, -1 do forms[b] = nil end
  local value, error = estimate.mean(forms, weights)
  return estimate.new{name = name, value = value, error = error, values = forms, interrupted = interrupted,
    samples = interrupted and #forms or nil}
end

--- op:quadratic_form(d): d . A d, with its standard error over the batches; Ctrl-C gives the one over the batches so far.
function Operator:quadratic_form(d)
  return q.scope(function() return self:form({}, "d.Hd", self.layout:flatten(d, "d"), 1) end)
end

local function need(self, graph, what)
  if graph[what] == nil then options.fail("%s: this operator has no %s", self.what, what) end
  return graph[what]
end

--- op:loss(): the mean loss over the batches, with its standard error.
function Operator:loss()
  local losses = {}
  self:each(function(b, graph) losses[b] = need(self, graph, "loss") end)
  local value, error = estimate.mean(losses, self.weights)
  return estimate.new{name = "loss", value = value, error = error, values = losses}
end

--- The mean gradient, flat.
function Operator:flat_gradient()
  local out = self.layout:zeros()
  local to = self.layout:views(out)
  self:each(function(b, graph)
    local gradient = pick(need(self, graph, "gradient"), self.indices)
    for i, g in ipairs(gradient) do q.no_grad(to[i].axpby_, to[i], 1, g, self.weights[b]) end
  end)
  return out
end

--- op:gradient(): the mean gradient over the batches, as a list.
function Operator:gradient() return self.layout:list(q.scope(self.flat_gradient, self)) end

--- op:dense(): the whole matrix (n, n), one product a row. For small n: teaching and tests.
function Operator:dense()
  if self.dimension > 4096 then options.fail("dense: %d parameters; this is for up to 4096", self.dimension) end
  local rows = q.zeros(self.dimension, self.dimension, self.dtype)
  for i = 1, self.dimension do
    q.scope(function()
      local e = self.layout:zeros()
      e[i] = 1
      rows:narrow(1, i, 1):view(self.dimension):copy_(self:product(e))
    end)
  end
  return rows
end

--- op:refresh(): drops the kept graphs, so that the next product sees the parameters as they are then.
function Operator:refresh()
  for _, term in ipairs(self.terms) do term.graph = nil end
end

function Operator:__tostring()
  local text = ("%s of %d parameters (%s), mean of %d batch%s"):format(self.name, self.dimension, self.dtype, #self.terms,
    #self.terms == 1 and "" or "es")
  local cost = self.cost
  if not cost.gradients then return text end
  return text .. ("; a product costs about %.3g gradients, %.2g s; graphs %s (%.3g MB)"):format(cost.gradients, cost.seconds,
    self.keep and "kept" or "made anew", cost.graph_bytes / 1e6)
end

-- ---- operators from operators -----------------------------------------------

local inherited = {"params", "layout", "dimension", "dtype", "weights", "memory", "names", "records", "goal", "cost", "keep", "indices",
  "what", "name"}

--- An operator on the same graphs, with other products.
local function derived(self, fields, product)
  for _, key in ipairs(inherited) do
    if fields[key] == nil then fields[key] = self[key] end
  end
  fields.products, fields.terms = 0, {}
  for b, term in ipairs(self.terms) do
    fields.terms[b] = {build = term.build, fleeting = term.fleeting, graph = term.graph, product = product(term)}
  end
  return setmetatable(fields, Operator)
end

--- S A S for a diagonal S, given as a flat vector. Shares the graphs of A.
function Operator:scaled(s, name)
  return derived(self, {name = name or "scaled " .. self.name, scale = s}, function(term)
    return function(graph, v, indices)
      local by, scaled, out = pick(self.layout:views(s), indices), {}, {}
      for i, t in ipairs(v) do scaled[i] = t * by[i] end
      for i, t in ipairs(term.product(graph, scaled, indices)) do out[i] = t * by[i] end
      return out
    end
  end)
end

--- op:subset{indices}: the diagonal block of some of the parameters. Shares the graphs.
function Operator:subset(indices)
  if self.indices then options.fail("subset: this operator is a subset already; take subsets of the whole") end
  for _, i in ipairs(indices) do
    if not self.params[i] then options.fail("subset: there is no parameter %s; there are %d", tostring(i), #self.params) end
  end
  local params = pick(self.params, indices)
  local layout = vectors.layout("subset", params)
  return derived(self, {indices = indices, params = params, layout = layout, dimension = layout.dimension,
    names = pick(self.names, indices), records = self.records and pick(self.records, indices)}, function(term)
    return function(graph, v) return term.product(graph, v, indices) end
  end)
end

--- Groups of parameters by "tensor", "layer", "role" or a list of labels: the labels in order of appearance, and for
-- each parameter the number of its label.
function M.grouping(what, op, groups)
  local labels, number, of = {}, {}, {}
  for i, name in ipairs(op.names) do
    local label
    if type(groups) == "table" then label = groups[i]
    elseif groups == "tensor" then label = name
    elseif groups == "layer" or groups == "role" then
      if not op.records then options.fail("%s: groups = %q needs a model; give a list of labels", what, groups) end
      label = op.records[i][groups]
      if groups == "layer" then label = label and ("layer %s"):format(label) or op.records[i].role end
    else options.fail("%s: groups must be tensor, layer, role or a list of labels, got %s", what, tostring(groups)) end
    if label == nil then options.fail("%s: groups has no label for parameter %d (%s)", what, i, name) end
    if not number[label] then
      labels[#labels + 1] = label
      number[label] = #labels
    end
    of[i] = number[label]
  end
  return labels, of
end

--- op:blocks("layer"): the diagonal blocks of groups of parameters, as a list of {name=, operator=} on the same graphs.
function Operator:blocks(groups)
  local labels, of = M.grouping("blocks", self, groups)
  local list = {}
  for k, label in ipairs(labels) do
    local indices = {}
    for i, number in ipairs(of) do
      if number == k then indices[#indices + 1] = i end
    end
    list[k] = {name = label, operator = self:subset(indices)}
  end
  return list
end

--- The operator of a symmetric matrix (n, n): for known answers and teaching.
function M.matrix(a)
  local what = "q.curvature.matrix"
  if a:ndim() ~= 2 or a:size(1) ~= a:size(2) then
    options.fail("%s: a square matrix expected, got shape (%s)", what, table.concat(a:shape(), ", "))
  end
  local goal = objective.new(what, function() options.fail("%s: a matrix has no loss", what) end, {q.zeros(a:size(1), a:dtype())}, {})
  local self = M.new("matrix", goal, {memory = 2 ^ 30}, function()
    return M.term(function() return {} end, function(_, v) return {a:matmul(v[1])} end)
  end)
  self.keep, self.cost.seconds = true, 0
  return self
end

function M.is_operator(x) return getmetatable(x) == Operator end

--- (loss, params, options), or (model, options), sorted: the model's parameters are taken where none are given.
function M.arguments(a, b, given)
  if objective.is_model(a) and given == nil and type(b) == "table" and b[1] == nil then return a, nil, b end
  return a, b, given
end

--- The operator and the options from (operator, options) or (loss, params, options), as every estimator takes them.
function M.resolve(spec, ...)
  local a, b, given = M.arguments(...)
  if M.is_operator(a) then
    for _, entry in ipairs(M.options) do
      if b and b[entry[1]] ~= nil then options.fail("%s: %s belongs to the operator; give it to q.curvature.operator", spec.name,
        entry[1]) end
    end
    return a, spec(b)
  end
  local o = spec(given)
  return M.hessian(spec.name, a, b, o), o
end

--- A spec of an estimator: its own entries, then those of loops and operators.
function M.spec(name, entries)
  local all = {}
  for _, list in ipairs{entries, estimate.options, M.options} do
    for _, entry in ipairs(list) do all[#all + 1] = entry end
  end
  return options.spec(name, all)
end

return M

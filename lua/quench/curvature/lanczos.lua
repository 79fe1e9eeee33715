--- lanczos.lua - eigenvalues and eigenvectors at the ends of the spectrum.
--
-- Lanczos with full reorthogonalisation: the projection T = Q^T A Q of the operator on the span of
-- v, A v, A^2 v, ... is tridiagonal; its eigenvalues (Ritz values) near both ends converge first,
-- and the residual |A y - theta y| = beta |last component| bounds the distance of theta to an
-- eigenvalue. When the basis is full it restarts with the wanted Ritz vectors kept ("thick
-- restart", Wu and Simon 2000), so that memory is bounded.

local q = require "quench"
local options = require "quench.options"
local operator = require "quench.curvature.operator"
local estimate = require "quench.curvature.estimate"
local basis = require "quench.curvature.basis"

local M = {}

M.spec = operator.spec("q.curvature.top", {
  {"k", "integer", default = 1, min = 1, doc = "how many eigenpairs"},
  {"which", "string", default = "largest", choices = {"largest", "smallest", "both", "magnitude"},
    doc = "the end of the spectrum; both: k of each"},
  {"tolerance", "number", default = 1e-3, above = 0, doc = "stop when the residuals are below this part of the largest eigenvalue's size"},
  {"products", "integer", default = 300, min = 2, doc = "products, at most"},
  {"basis", "integer", min = 2, doc = "vectors kept at most (default: by memory)"},
  {"vectors", "boolean", default = false, doc = "return the eigenvectors as well"},
})

M.power_spec = operator.spec("q.curvature.power", {
  {"products", "integer", default = 100, min = 1, doc = "products, at most"},
  {"tolerance", "number", default = 1e-3, above = 0, doc = "stop when the residual is below this part of the eigenvalue"},
})

-- ---- one run ---------------------------------------------------------------------

local Run = {}
Run.__index = Run

--- A run from a random start. room: vectors that the basis may hold.
function M.run(op, stream, room)
  local self = setmetatable({op = op, stream = stream, room = room, basis = basis.new(op.layout), t = {}, beta = 0}, Run)
  q.scope(function() self.basis:push(op.layout:unit(stream)) end)
  return self
end

--- One product: a new row of T and a new basis vector. Where the space closes (beta = 0) a fresh random direction
-- goes on, so that multiple eigenvalues are found; `complete` says that the basis spans everything.
function Run:step()
  q.scope(function()
    local j = self.basis.count
    local w = self.op:product(self.basis:row(j))
    local c, norm = self.basis:project_out(w, 2) -- row j of T up to the diagonal; what stands left of the coupling is rounding
    local closed = norm <= self:scale(c, j) * (self.op.dtype == "f64" and 1e-13 or 1e-6)
    local last = j >= self.op.dimension or closed and not self:start_again()
    if not closed and not last then self.basis:push(w * (1 / norm)) end
    self.coupling = nil
    self.t[j], self.beta, self.complete = c, (closed or last) and 0 or norm, last -- at once: Ctrl-C finds whole steps
  end)
end

--- A fresh random direction behind a closed space; false if none is left.
function Run:start_again()
  for _ = 1, 5 do
    if select(2, self.basis:add(self.op.layout:unit(self.stream))) then return true end
  end
  return false
end

--- The largest entry of T with a new row of that number: the size of the operator as far as it is known.
function Run:scale(new, number)
  local largest = math.max(math.abs(new[number]), math.abs(new[number - 1] or 0))
  for j, row in ipairs(self.t) do largest = math.max(largest, math.abs(row[j]), math.abs(row[j - 1] or 0)) end
  return largest
end

--- Ritz values ascending, their residuals, and the coefficients of the Ritz vectors.
function Run:ritz()
  local m, full = #self.t, {}
  for j = 1, m do
    full[j] = {}
    for i = 1, m do full[j][i] = self.t[math.max(i, j)][math.min(i, j)] or 0 end
  end
  return q.scope(function()
    local w, v = q.linalg.eigh(q.tensor(full, "f64"))
    local values, rows, residuals = w:totable(), v:t():totable(), {}
    for i = 1, m do
      local left = self.beta * rows[i][m]
      if self.coupling then -- no step since the restart: every kept vector leaves its own residual along the newest direction
        left = 0
        for k = 1, m do left = left + rows[i][k] * self.coupling[k] end
      end
      residuals[i] = math.abs(left)
    end
    return values, residuals, rows
  end)
end

--- Keeps the Ritz vectors of the rows in `wanted` and the newest direction; T becomes diagonal with one coupled row.
function Run:restart(wanted, values, rows)
  local m, t, coupling, old = #self.t, {}, {}, self.basis
  local kept = basis.new(self.op.layout)
  q.scope(function()
    for _, i in ipairs(wanted) do kept:push(old:combine(rows[i])) end
    kept:push(old:row(m + 1))
  end)
  for k, i in ipairs(wanted) do
    t[k], coupling[k] = {}, self.beta * rows[i][m]
    for l = 1, k - 1 do t[k][l] = 0 end
    t[k][k] = values[i]
  end
  self.basis, self.t, self.coupling = kept, t, coupling -- at once: Ctrl-C finds the old basis or the new one
  old:free()
end

-- ---- eigenpairs ------------------------------------------------------------------

--- Numbers of the wanted values (ascending list of n), outermost first.
local function wanted_of(values, which, k)
  local n, order = #values, {}
  if which == "magnitude" then
    for i = 1, n do order[i] = i end
    table.sort(order, function(a, b) return math.abs(values[a]) > math.abs(values[b]) end)
    for i = n, k + 1, -1 do order[i] = nil end
  else
    if which ~= "smallest" then
      for i = 1, math.min(k, n) do order[#order + 1] = n + 1 - i end
    end
    if which ~= "largest" then
      for i = 1, math.min(k, n - #order) do order[#order + 1] = i end
    end
  end
  return order
end

-- A space that has just closed (beta = 0) shows no residual and says nothing of other copies of its eigenvalues.
local function converged(run, values, residuals, order, count, tolerance)
  if run.complete then return true end
  if #order < count or run.beta == 0 then return false end
  local size = math.max(math.abs(values[1]), math.abs(values[#values]))
  for _, i in ipairs(order) do
    if residuals[i] > tolerance * size then return false end
  end
  return true
end

--- Vectors that the basis may hold: what memory allows, at least what a restart needs.
local function room_for(op, o, count)
  local bytes = op.dimension * (op.dtype == "f64" and 8 or 4)
  local room = o.basis or math.min(o.products + 1, math.floor(op.memory / bytes))
  return math.max(room, 2 * count + 6)
end

--- When to look: the dense eigenproblem of T is small, but not nothing.
local function time_to_look(j, count) return j >= count and (j < 24 or j % math.ceil(j / 12) == 0) end

local function collect(run, o, values, residuals, rows)
  local order = wanted_of(values, o.which, o.k)
  local out = {values = {}, errors = {}, vectors = o.vectors and {} or nil}
  for k, i in ipairs(order) do
    out.values[k], out.errors[k] = values[i], residuals[i]
    if o.vectors then
      out.vectors[k] = q.scope(function()
        local y = run.basis:combine(rows[i])
        return run.op.layout:list(y * (1 / y:norm()))
      end)
    end
  end
  return out
end

--- The loop of q.curvature.top on an operator.
local function solve(op, o, label)
  local count = math.min(o.which == "both" and 2 * o.k or o.k, op.dimension)
  local room = room_for(op, o, count)
  local run = M.run(op, q.stream(o.seed, "curvature/lanczos"), room)
  local values, residuals, rows, done
  local products, interrupted = estimate.loop(o, label, o.products, op, function(i)
    run:step()
    local full = #run.t >= room - 1
    if not (full or run.complete or i == o.products or time_to_look(#run.t, count)) then return false end
    values, residuals, rows = run:ritz()
    local order = wanted_of(values, o.which, o.k)
    done = converged(run, values, residuals, order, count, o.tolerance)
    if full and not done and i < o.products then
      run:restart(wanted_of(values, o.which, o.k + math.min(o.k, 4)), values, rows)
    end
    return done, {top = values[order[1]]}
  end, 2)
  if interrupted then values, residuals, rows = run:ritz() end
  local out = collect(run, o, values, residuals, rows)
  run.basis:free()
  out.converged, out.products, out.interrupted, out.cost = done or false, products, interrupted, op.cost
  return out
end

local function show(r)
  local lines = {}
  for k, value in ipairs(r.values) do lines[k] = ("%3d  %.8g  +- %.2g"):format(k, value, r.errors[k]) end
  lines[#lines + 1] = ("%d products, %s"):format(r.products, r.interrupted and "interrupted" or r.converged
    and "converged" or "NOT converged")
  return table.concat(lines, "\n")
end

--- q.curvature.top
function M.top(...)
  local op, o = operator.resolve(M.spec, ...)
  return setmetatable(solve(op, o, "top of " .. op.name), {__tostring = show})
end

--- q.curvature.power: the plain method, with its history.
function M.power(...)
  local op, o = operator.resolve(M.power_spec, ...)
  local x = op.layout:unit(q.stream(o.seed, "curvature/power"))
  local history, residual = {}, nil
  local products, interrupted = estimate.loop(o, "power iteration", o.products, op, function()
    local value
    value, residual = q.scope(function()
      local y = op:product(x)
      local rayleigh = x:dot(y)
      local r = (y - x * rayleigh):norm()
      local norm = y:norm()
      if norm > 0 then x:copy_(y * (1 / norm)) end
      return rayleigh, r
    end)
    history[#history + 1] = value
    return residual <= o.tolerance * math.abs(value), {value = value}
  end)
  return {value = history[#history], error = residual, vector = op.layout:list(x), history = history, products = products,
    converged = residual <= o.tolerance * math.abs(history[#history]), interrupted = interrupted}
end

-- ---- other metrics ---------------------------------------------------------------

local function positive(op, list, what)
  local s = op.layout:flatten(list, what, true)
  local low = s:min():item()
  if not (low > 0) then options.fail("q.curvature: %s must be positive everywhere, its smallest entry is %g", what, low) end
  return s
end

local NOT_DIAGONAL = {shampoo = true, soap = true} -- their v is of a graft, or in another basis: no preconditioner of the weights

--- Adam's diagonal sqrt(v / (1 - beta2^t)) + eps for each of the operator's parameters, from the optimizer's state.
local function adam_diagonal(op, optimizer)
  local what, state, found = "q.curvature.preconditioned", optimizer:state(), {}
  local inner = optimizer
  while rawget(inner, "inner") do inner = inner.inner end
  if NOT_DIAGONAL[inner.name] then options.fail("%s: the preconditioner of %s is not diagonal", what, inner.name) end
  for _, group in ipairs(optimizer.groups) do
    for _, r in ipairs(group.records) do found[r.tensor] = {name = r.name, options = group.options} end
  end
  local list = {}
  for i, p in ipairs(op.params) do
    local r = found[p]
    local v, step = r and state[r.name .. ".v"], r and state[r.name .. ".step"]
    local betas, eps = r and r.options.betas, r and r.options.eps
    if not (v and step and betas and eps) then
      options.fail("%s: the optimizer has no second moment for %s; it must be an AdamW that moves it", what, op.names[i])
    end
    if step:item() < 1 then options.fail("%s: the optimizer has not taken a step", what) end
    list[i] = (v * (1 / (1 - betas[2] ^ step:item()))):sqrt() + eps
  end
  return list
end

--- P^-1/2 A P^-1/2, the operator that preconditioned descent sees; P diagonal, given as a list or by an AdamW.
function M.preconditioned(op, diagonal)
  if type(diagonal) == "table" and type(diagonal.state) == "function" then
    return q.scope(function() return M.preconditioned(op, adam_diagonal(op, diagonal)) end)
  end
  return q.scope(function() return op:scaled(positive(op, diagonal, "diagonal"):rsqrt(), "preconditioned " .. op.name) end)
end

--- T A T with T = |w| + eta: invariant under rescaling of weights (Kwon et al. 2021, ASAM).
function M.adaptive(op, eta)
  if eta and not (type(eta) == "number" and eta >= 0 and eta < math.huge) then
    options.fail("q.curvature.adaptive: eta must be a number of at least 0, got %s", tostring(eta))
  end
  return q.scope(function()
    local w = op.layout:flatten(op.params, "params")
    return op:scaled(w:abs() + (eta or 0.01), "adaptive " .. op.name)
  end)
end

return M

--- gradcheck.lua - derivatives of a function of f64 tensors against central differences:
-- gradient, tangent, Hessian-vector product forward over reverse, and reverse over reverse.
--
--   local check = dofile "tests/gradcheck.lua"
--   check(t, "tanh", function(x) return x:tanh() end, {q.randn(3, 4, "f64")})

local q = require "quench"

local function leaves(inputs, direction, step)
  local list = {}
  for i, x in ipairs(inputs) do
    list[i] = (direction and x:detach() + direction[i] * step or x:detach():clone()):detach():requires_grad()
  end
  return list
end

local function largest(list)
  local m = 0
  for _, x in ipairs(list) do m = math.max(m, x:numel() > 0 and x:abs():max():item() or 0) end
  return m
end

--- Largest difference of two lists of tensors over the size of the second.
local function gap(a, b)
  local worst = 0
  for i = 1, #b do
    if b[i]:numel() > 0 then worst = math.max(worst, (a[i] - b[i]):abs():max():item()) end
  end
  return worst / math.max(1, largest(b))
end

--- fn(x...) -> tensor; it is contracted with fixed weights to a number. once: no second derivatives.
return function(t, name, fn, inputs, options)
  options = options or {}
  local stream = q.stream(7, name)
  local weights
  local function value(list)
    local y = fn(unpack(list))
    if not weights then weights = q.zeros(y:shape(), "f64"):normal_(stream) end
    return (y * weights):sum()
  end
  local v = {}
  for i, x in ipairs(inputs) do v[i] = q.zeros(x:shape(), "f64"):normal_(stream) end

  local x = leaves(inputs)
  local y = value(x)
  local g = q.grad(y, x, {create_graph = not options.once})
  local h = 1e-5
  local up, down = value(leaves(inputs, v, h)), value(leaves(inputs, v, -h))
  local measured = (up:item() - down:item()) / (2 * h)
  local predicted = 0
  for i = 1, #g do predicted = predicted + g[i]:dot(v[i]) end
  local scale = math.max(1, math.abs(measured))
  t.ok(math.abs(predicted - measured) / scale < 1e-7, name .. ": gradient",
    ("g.v is %.12g, differences say %.12g"):format(predicted, measured))
  local tangent = q.jvp({y}, x, v)[1]:item()
  t.ok(math.abs(tangent - predicted) / scale < 1e-11, name .. ": tangent", ("%.15g against g.v %.15g"):format(tangent, predicted))
  if options.once then return end

  local function gradient(step)
    local z = leaves(inputs, v, step)
    return q.grad(value(z), z)
  end
  local a, b, differences = gradient(h), gradient(-h), {}
  for i = 1, #a do differences[i] = (a[i] - b[i]) * (0.5 / h) end
  local any = false
  for i = 1, #g do any = any or g[i]:needs_grad() end
  if not any then -- a linear function: its Hessian is 0
    t.ok(largest(differences) < 1e-6, name .. ": no second derivative", largest(differences))
    return
  end
  local hv = q.jvp(g, x, v)
  t.ok(gap(hv, differences) < 1e-6, name .. ": Hessian-vector product", gap(hv, differences))
  local inner
  for i = 1, #g do
    local part = (g[i] * v[i]):sum()
    inner = inner and inner + part or part
  end
  local rr = q.grad(inner, x)
  t.ok(gap(rr, hv) < 1e-10, name .. ": reverse over reverse agrees", gap(rr, hv))
end

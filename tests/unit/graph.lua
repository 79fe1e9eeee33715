-- The graph: accumulation, freeing, in-place guards, deep chains, scopes, collector pressure.
local q = require "quench"
local tap = dofile "tests/tap.lua"

tap.test("backward accumulates into leaves", function(t)
  local w = q.tensor{1, 2, 3}:requires_grad()
  for _ = 1, 2 do (w * w):sum():backward() end
  t.near(w.grad:totable(), {4, 8, 12}, 0, "two passes add up")
  w.grad = nil
  t.equal(w.grad, nil, "grad can be taken away")
  w.grad = q.tensor{5, 6, 7}
  t.near(w.grad:totable(), {5, 6, 7}, 0, "and given")
  t.fails(function() w.grad = q.zeros(2) end, "grad: f32 (2) does not fit", "of the right shape only", true)
end)

tap.test("options that do not exist", function(t)
  local w = q.tensor{1, 2, 3}:requires_grad()
  local function loss() return (w * w):sum() end
  t.fails(function() q.grad(loss(), {w}, {creat_graph = true}) end,
    "grad: unknown option 'creat_graph'; options: create_graph, gradient", "of grad", true)
  t.fails(function() q.grad(loss(), {w}, true) end, "grad: options are a table, got boolean", "something else", true)
  t.fails(function() loss():backward{retian = true} end, "backward: unknown option 'retian'; options: gradient, retain", "of backward", true)
  t.fails(function() loss():backward(q.ones(1)) end, "backward: options are a table", "a gradient alone", true)
  t.fails(function() q.hvp(loss(), {w}, {w}, {1}) end, "hvp: unknown option '1'; options: retain, cache", "of hvp", true)
  t.fails(function() q.hvp(loss(), {w}, {w}, {cache = w}) end, "hvp: cache must be a q.hvp_cache", "a cache that is none", true)
  t.fails(function() q.hvp_cache(loss(), {share = -1}) end, "hvp_cache: share must be 0 or more, got -1", "a share", true)
  t.fails(function() q.hvp_cache(q.ones(1)) end, "hvp_cache: output 1 does not depend on any tensor", "a loss without history", true)
  t.equal(w.grad, nil, "nothing was done")
end)

tap.test("a tensor used many times", function(t)
  local x = q.tensor{2}:requires_grad()
  local y = x
  for _ = 1, 5 do y = y * x end -- x^6
  t.near(q.grad(y:sum(), {x})[1]:item(), 6 * 2 ^ 5, 1e-6, "x^6")
end)

tap.test("inner targets", function(t)
  local x = q.tensor({1, 2}, "f64"):requires_grad()
  local h = x * x
  local y = (h * h):sum()
  local g = q.grad(y, {h, x})
  t.near(g[1]:totable(), {2, 8}, 1e-12, "with respect to a result")
  t.near(g[2]:totable(), {4, 32}, 1e-12, "and to the leaf below it")
  local z = q.tensor({1}, "f64"):requires_grad()
  t.equal(q.grad(y, {z})[1]:item(), 0, "a tensor that plays no part gets zeros")
end)

tap.test("third derivatives", function(t)
  local x = q.tensor({0.5}, "f64"):requires_grad()
  local y = x:sin():sum()
  local a = q.grad(y, {x}, {create_graph = true})[1]
  local b = q.grad(a:sum(), {x}, {create_graph = true})[1]
  local c = q.grad(b:sum(), {x})[1]
  t.near(c:item(), -math.cos(0.5), 1e-12, "sin''' = -cos")
end)

tap.test("errors of graphs", function(t)
  local w = q.ones(3):requires_grad()
  local y = (w * w):sum()
  y:backward()
  t.fails(function() y:backward() end, "already used by backward", "a freed graph", true)
  t.fails(function() (w * 2):backward() end, "not a single number", "no scalar", true)
  t.fails(function() q.ones(1):sum():backward() end, "does not depend on any tensor that requires a gradient", "no graph", true)
  t.fails(function() w:fill_(2) end, "requires a gradient", "in place on a leaf", true)
  local z = (w * w):sum()
  q.no_grad(w.fill_, w, 5)
  t.fails(function() q.grad(z, {w}) end, "was changed in place after it was used", "changed under the graph", true)
  t.equal(q.no_grad(function() return (w * w):needs_grad() end), false, "no_grad records nothing")
  t.fails(function() q.no_grad(error, "x") end, "x", "errors pass through no_grad")
  t.equal(q.is_recording(), true, "and recording is on again")
end)

tap.test("a chain of 100,000 nodes", function(t)
  local x = q.ones(1):requires_grad()
  local y = x
  for _ = 1, 100000 do y = y + 1 end
  t.equal(q.grad(y:sum(), {x})[1]:item(), 1, "does not overflow the stack")
end)

tap.test("scopes", function(t)
  local before = q.system.memory().live
  local kept = q.scope(function()
    local a = q.zeros(1000, 1000)
    local inner = q.scope(function() return {value = a + 1} end)
    t.equal(inner.value:is_freed(), false, "what an inner scope returns lives on")
    return {list = {inner.value:narrow(1, 1, 1)}}
  end)
  t.equal(kept.list[1]:sum():item(), 1000, "results inside tables are kept")
  t.ok(q.system.memory().live - before < 4.1e6, "the rest is freed at once", q.system.memory().live - before)
  local escaped
  pcall(q.scope, function()
    escaped = q.zeros(3)
    error "stop"
  end)
  t.fails(function() return escaped:sum() end, "was freed", "a freed tensor says so")
end)

tap.test("collector pressure", function(t)
  local most = 0
  for _ = 1, 400 do
    local _ = q.zeros(2 ^ 21) -- 8 MiB
    most = math.max(most, q.system.memory().live)
  end
  t.ok(most < 300e6, "400 throw-away tensors of 8 MiB stay below 300 MB", most)
end)

tap.test("failing allocations", function(t)
  local function work()
    local w = q.randn(8, 8):requires_grad()
    local y = (w:matmul(w):gelu()):softmax(2):log():mean()
    local g = q.grad(y, {w}, {create_graph = true})
    return q.jvp(g, {w}, {w:detach()})[1]:norm()
  end
  work()
  local failed = 0
  for n = 1, 2000 do
    q.system.fail_at(n)
    local ok, message = pcall(work)
    q.system.fail_at(0)
    if not ok then
      failed = failed + 1
      if not tostring(message):find("out of memory", 1, true) then t.ok(false, "allocation " .. n .. " fails clearly", message) break end
    end
    collectgarbage()
    if n > 20 and ok and failed < n - 20 then break end
  end
  t.ok(failed > 20, "each of " .. failed .. " failing allocations is one clear error")
end)

tap.done()

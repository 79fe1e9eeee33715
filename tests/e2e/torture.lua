-- Torture: the n-th allocation fails, for n = 1, 2, 3, ... until a script gets through. Each failure
-- must be one clear error that says so, nothing may leak, and the next run must work.
local tap = dofile "tests/tap.lua"

local function live()
  collectgarbage() collectgarbage()
  return q.system.memory().live
end

--- Runs body with every allocation failing in turn; at most `limit` of them, in steps of `stride`.
-- tidy() puts away what a body cut short may rightly leave behind.
local function torture(t, body, stride, limit, tidy)
  body() -- modules and caches that stay
  local before, n, failures, unclear, leaked = live(), 1, 0, nil, nil
  while n <= limit do
    q.system.fail_at(n)
    local good, message = pcall(body)
    q.system.fail_at(0)
    if good then break end
    failures = failures + 1
    message = tostring(message)
    if tidy then tidy() end
    if not message:find("out of memory", 1, true) then unclear = unclear or ("allocation %d: %s"):format(n, message) end
    if live() > before then leaked = leaked or ("allocation %d: %d bytes stay"):format(n, live() - before) end
    n = n + stride
  end
  t.ok(failures > 0, ("%d failures tried"):format(failures))
  t.ok(not unclear, "each error says that memory ran out", unclear)
  t.ok(not leaked, "nothing leaks", leaked)
  t.ok(pcall(body), "and it works afterwards")
end

tap.test("tensors", function(t)
  torture(t, function()
    local a, b = q.randn(4, 5), q.tensor{{1, 2, 3, 4, 5}}
    local c = (a + b * 2):exp():matmul(a:t()):softmax(2):sum(1)
    local d = q.concat({c, c}, 1):view(2, 4):contiguous():max(2)
    return tostring(d), d:totable(), a[2]:narrow(1, 2, 3):sum():item()
  end, 1, 2000)
end)

tap.test("gradients of both orders", function(t)
  torture(t, function()
    local w, x = q.randn(3, 3):requires_grad(), q.ones(3, 3)
    local loss = (x:matmul(w):tanh() ^ 2):sum()
    local g = q.grad(loss, {w}, {create_graph = true})[1]
    return q.grad((g * g):sum(), {w})[1]:totable()
  end, 1, 2000)
end)

tap.test("a training step", function(t)
  local model = q.models.new("gpt_neox", {
    vocab_size = 16, hidden_size = 16, intermediate_size = 32, num_hidden_layers = 1, num_attention_heads = 2, max_position_embeddings = 8,
  })
  local ids = q.tensor({{1, 2, 3, 4, 5, 6}}, "i32")
  local function clear()
    for _, p in ipairs(model:parameters()) do p.grad = nil end
  end
  torture(t, function()
    local optimizer = q.optim.adamw(model:parameters(), {lr = 1e-3})
    q.scope(function() model:loss(ids):backward() end)
    optimizer:step()
    clear()
  end, 7, 5000, clear)
end)

tap.test("files and text", function(t)
  local path = os.tmpname()
  torture(t, function()
    q.save(path, {w = q.ones(3, 4), b = q.zeros(4)}, {note = "x"})
    local read = q.load(path)
    assert(read.w:sum():item() == 12)
    assert(q.json.decode(q.json.encode{a = {1, 2, {b = "c"}}}).a[3].b == "c")
  end, 1, 2000)
  os.remove(path)
end)

tap.test("quantizing", function(t)
  local w, x = q.randn(8, 16), q.randn(32, 16)
  torture(t, function()
    q.quant.rtn(w, q.quant.int(4, {group = 8}))
    q.quant.gptq(w, x, {bits = 4, group = 8})
  end, 3, 3000)
end)

tap.test("a figure", function(t)
  local path = os.tmpname() .. ".png"
  torture(t, function() q.plot{title = "x^2", x = "a", y = "b", {"line", {1, 2, 3}, {3, 1, 2}}}:save(path) end, 3, 100000)
  os.remove(path)
end)

tap.done()

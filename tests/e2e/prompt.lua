-- The prompt in a terminal: odd windows, odd input, pasted text, and Ctrl-C that keeps everything.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local terminal = dofile "tests/terminal.lua"
local home = sh.folder()

local try = terminal.open("true")
if not try then
  tap.test("terminals", function(t) t.ok(true, "no pseudo-terminals here: not tried") end)
  sh.clean()
  return tap.done()
end
try:close()

--- A prompt in a terminal, ready for keys.
local function open(o)
  o = o or {}
  o.environment = o.environment or {}
  o.environment.HOME = o.environment.HOME or home
  local s = terminal.open("exec $Q", o)
  s:expect "> "
  return s
end

--- Leaves with Ctrl-D. Returns the output without escapes, and the exit status.
local function leave(s)
  s:send "\4"
  local out, status = s:close()
  return (out:gsub("\27%[[?%d;]*%a", ""):gsub("\r", "")), status
end

--- Types a line. The answer, which the line itself does not hold, must come at the end of a line.
local function check(t, s, line, answer, what)
  s:send(line .. "\r")
  t.ok(s:expect(answer .. "\r\n") and s:expect "> ", what, s:rest():sub(-1000))
end

tap.test("keys", function(t)
  local s = open()
  s:send "x = {1,\r2}\r"
  s:expect "> "
  check(t, s, "#x * 111", "222", "a block of two lines")
  s:send "1 +"
  s:expect "1 +"
  s:send "\3"
  s:expect "> "
  check(t, s, "300 + 33", "333", "Ctrl-C gives a line up")
  check(t, s, "q.progr\t{tot\t5}.total * 3", "15", "Tab completes")
  check(t, s, "\27[200~y = 1\ry = y + 554\ry\27[201~", "555", "a paste of several lines is one block")
  leave(s)
  s = open()
  check(t, s, "\27[A", "555", "which comes back in the next session")
  leave(s)
end)

tap.test("windows", function(t)
  for what, o in pairs{
    ["without a size"] = {columns = 0, rows = 0}, ["of one column"] = {columns = 1, rows = 1},
    ["with NO_COLOR"] = {environment = {NO_COLOR = "1"}}, ["of an unknown kind"] = {environment = {TERM = "nonsense"}},
    ["of no kind"] = {environment = {TERM = "dumb"}}, ["without a locale"] = {environment = {LANG = "C"}},
  } do
    local s = open(o)
    check(t, s, "1000 + 729", "1729", "a window " .. what)
    for _, line in ipairs{"q.randn(30, 30)", "?q.zeros", ":who"} do
      s:send(line .. "\r")
      s:expect "> "
    end
    check(t, s, "86 * 2", "172", "a window " .. what .. " goes on")
    local out, status = leave(s)
    t.equal(status, 0, "it ends well")
    if o.environment and o.environment.NO_COLOR then t.ok(not s.output:find("\27%[[%d;]*m"), "and writes no colours", out) end
  end
end)

tap.test("tensors in a narrow window", function(t)
  local s = open{columns = 44, rows = 50}
  for line, width in pairs{["q.arange(144):view(12, 12) / 7"] = 42, ["q.arange(9) * 1e-9"] = 40, ["q.randn(2, 5)"] = 44, ["q.arange(10)"] = 20} do
    s:send(line .. "\r")
    s:expect "f32 ("
    s:expect "> "
    local longest = 0
    for text in s.output:match(".*f32 (%b().*)> "):gmatch "\n([^\27\r]*)" do longest = math.max(longest, #text) end
    t.ok(longest > 0 and longest <= width, line .. " fits", longest .. "\n" .. s.output)
  end
  leave(s)
end)

tap.test("messages and help in a narrow window", function(t)
  local s = open{columns = 60, rows = 50}
  q.system.write_file(home .. "/claim.lua", [[return recipe{name = "claim", doc = "?", run = function() return {x = 1} end,
    claims = {{"C1", "a statement that is longer than the window is wide, so that it has to be folded", measure = function() return 1 end,
      above = 0}}}]])
  for _, line in ipairs{"q.train{stps = 1}", "?q.train", "??layer", ":who", ":help", (":run %s/claim.lua --out=%s/out"):format(home, home)} do
    local from = #s.output + 1
    s:send(line .. "\r")
    s:expect "\r\n"
    s:expect "\27[?2004h" -- the next prompt
    local longest, words = 0, 0
    for text in s.output:sub(from):gsub("\27%[[?%d;]*%a", ""):gmatch "([^\r\n]+)" do
      longest, words = math.max(longest, #text), words + select(2, text:gsub("%S+", ""))
    end
    t.ok(words > 15 and longest <= 60, line .. " fits", longest .. "\n" .. s.output:sub(from))
  end
  leave(s)
end)

tap.test("5,000 characters pasted", function(t)
  local long = ("x"):rep(4990)
  local s = open()
  s:send("\27[200~y = '" .. long .. "'\27[201~\r")
  s:expect "> "
  check(t, s, "#y", "4990", "one line, in brackets")
  s:send("z = '" .. long .. "'\r")
  s:expect "> "
  check(t, s, "#z + 1", "4991", "one line, as keys")
  local lines = {}
  for i = 1, 300 do lines[i] = ("n%d = %d -- a line"):format(i, i) end
  s:send("\27[200~" .. table.concat(lines, "\r") .. "\27[201~\r")
  s:expect "> "
  check(t, s, "n300 + n1 + 1000", "1301", "300 lines, in brackets: one block")
  s:send("n1, n300 = nil\r" .. table.concat(lines, "\r") .. "\r")
  check(t, s, "n300 + n1 + 2000", "2301", "300 lines, as keys: 300 blocks")
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
  s = open()
  s:send "\27[A\27[A\27[A" -- back over the last line, the 300 blocks before it
  s:send "\r"
  t.ok(s:expect "> ", "a long history is there in the next session")
  leave(s)
end)

tap.test("typed ahead", function(t)
  local s = open()
  s:send "print('it', 'runs') q.system.sleep(0.3)\r"
  s:expect "it\truns"
  s:send "1000 + 1\r2000 +\r2\rx = 'three"
  s:expect "2002\r\n"
  s:send " four'\r"
  check(t, s, "#x + 3000", "3010", "lines, a block, half a line")
  s:send "print('it', 'sleeps') q.system.sleep(0.3)\r"
  s:expect "it\tsleeps"
  s:send "print('then', 'this')\r\4"
  local out, status = s:close(5)
  t.ok(status == 0 and out:find("then\tthis", 1, true), "Ctrl-D comes after the lines before it", out)
  s = open()
  s:send "print('it', 'runs') q.system.sleep(0.2); q.plot{{'line', {1, 2}}}\r"
  s:expect "it\truns"
  s:send "x = 700\rx + 'cc"
  s:expect "\27[c"
  s:send "\27[?62;c"
  s:send "\b\b\b77\r"
  t.ok(s:expect "777\r\n" and s:expect "> ", "keys that come while the terminal is asked what it can show", s:rest())
  leave(s)
  s = open()
  s:send("\0\0" .. "700 + 77\r")
  t.ok(s:expect "777\r\n" and s:expect "> ", "Ctrl-Space is no Ctrl-D")
  leave(s)
  s = terminal.open("exec $Q", {environment = {HOME = home}})
  s:send "\4"
  status = select(2, s:close(5))
  t.equal(status, 0, "Ctrl-D before the first prompt")
end)

tap.test("bytes that are no UTF-8", function(t)
  local s = open()
  s:send "a = '\255\254\195'\r"
  check(t, s, "300 + 33", "333", "typed")
  s:send "\27[200~b = '\200\200'\27[201~\r"
  check(t, s, "400 + 44", "444", "pasted")
  check(t, s, "'\195\164\226\130\172'", '"\195\164\226\130\172"', "UTF-8 comes through")
  check(t, s, "'\\255\\254' == string.char(255, 254), 5", "true", "any byte can be written as an escape")
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
  q.system.write_file(home .. "/binary.lua", "return '\255'\n")
  s = open()
  s:send(":load " .. home .. "/binary.lua\r")
  check(t, s, "500 + 55", "555", "in a file")
  leave(s)
end)

tap.test("a history that cannot be written", function(t)
  q.system.write_file(home .. "/file", "")
  for what, place in pairs{["under a file"] = home .. "/file", ["in /proc"] = "/proc"} do
    local s = open{environment = {XDG_STATE_HOME = place}}
    check(t, s, "600 + 66", "666", what)
    check(t, s, "700 + 77", "777", what .. ", again")
    local out, status = leave(s)
    local _, times = out:gsub("the history is not kept", "")
    t.equal(("%d %s"):format(times, status), "1 0", "said once, and it ends well")
  end
  q.system.make_directories(home .. "/bad/quench")
  q.system.write_file(home .. "/bad/quench/history", "\255\254\0broken\n1 + 1\n\27[2J\n")
  local s = open{environment = {XDG_STATE_HOME = home .. "/bad"}}
  check(t, s, "800 + 88", "888", "a damaged one")
  leave(s)
end)

-- ---- Ctrl-C ---------------------------------------------------------------------------------

--- Types the lines of a block, each of which must be taken before the next.
local function type_block(s, text)
  s:send("\27[200~" .. text:gsub("\n", "\r") .. "\27[201~")
  s:send "\r"
end

tap.test("Ctrl-C in loops", function(t)
  local s = open()
  type_block(s, "kept = q.ones(3)\nn = 0")
  s:send "while true do n = n + 1 end\r"
  q.system.sleep(0.3)
  s:send "\3"
  t.ok(s:expect "interrupted", "a Lua loop")
  check(t, s, "kept:sum():item() + (n > 0 and 10 or 0)", "13", "everything is kept")
  s:send "big = q.randn(2500, 2500) big = big:matmul(big):matmul(big):matmul(big):matmul(big)\r"
  q.system.sleep(0.2)
  s:send "\3"
  t.ok(s:expect("> ", 60), "a chain of products stops at the next one")
  s:send "\3"
  check(t, s, "900 + 99", "999", "at an empty prompt it does nothing")
  s:send "1 + \3"
  check(t, s, "100 + 11", "111", "a line is given up")
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
end)

tap.test("Ctrl-C where errors are caught", function(t)
  local s = open()
  for what, line in pairs{
    ["error"] = "while true do pcall(error) end",
    ["a Lua loop"] = "while true do pcall(function() while true do end end) end",
    ["a handler"] = "while true do xpcall(error, function() for i = 1, 1e6 do end end) end",
    ["coroutines"] = "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    ["products"] = "b = q.ones(300, 300) while true do pcall(b.matmul, b, b) end",
    ["functions of ours"] = "while true do pcall(q.scope, function() while true do end end) end",
  } do
    s:send(line:gsub("while", "print('it', 'runs') while", 1) .. "\r")
    s:expect "it\truns"
    s:send "\3"
    t.ok(s:expect "interrupted" and s:expect "> ", what, s:rest())
  end
  check(t, s, "b:numel()", "90000", "the prompt goes on")
  s:send "for i = 1, 2 do pcall(function() print('it', 'runs') while true do end end) q.system.clear_interrupt() end print('all', 'done')\r"
  for _ = 1, 2 do
    s:expect "it\truns"
    s:send "\3"
  end
  t.ok(s:expect "all\tdone" and s:expect "> ", "clear_interrupt() says that it is met", s:rest())
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
end)

tap.test("Ctrl-C on the command line", function(t)
  local file = home .. "/caught.lua"
  q.system.write_file(file, [[return q.recipe{name = 'caught', doc = 'Catches all.',
    run = function() print 'ready' while true do pcall(error) end end}]])
  for what, line in pairs{["a file"] = "exec $Q " .. file, ["a recipe"] = ("cd '%s' && exec $Q run %s"):format(home, file),
    ["-e"] = [[exec $Q -e "print 'ready' while true do pcall(error) end"]]} do
    local s = terminal.open(line)
    t.ok(s:expect "ready", what .. " runs", s:rest())
    s:send "\3"
    local out, status = s:close()
    t.ok(status == 130 and out:find("quench: [^\n]*interrupted"), what .. " ends with status 130", out)
  end
  local s = terminal.open [[exec $Q --jit -e "for i = 1, 1000 do end print 'ready' while true do end"]]
  t.ok(s:expect "ready", "a compiled loop runs", s:rest())
  local presses, stop = 0, q.system.clock() + 10
  repeat
    s:send "\3"
    presses = presses + 1
    q.system.sleep(0.05)
  until not s:gather(0) or s:rest():find "quench: " or q.system.clock() > stop
  local out, status = s:close()
  t.ok(status == 130 and presses <= 4, "three presses end it, where one has not", out .. presses)
end)

tap.test("Ctrl-C while a value is printed", function(t)
  local s = open()
  s:send "setmetatable({}, {__tostring = function() print 'printing' while true do end end})\r"
  t.ok(s:expect "printing\r\n", "it is being printed")
  s:send "\3"
  t.ok(s:expect "interrupted", "it stops")
  check(t, s, "210 + 1", "211", "the prompt is there")
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
end)

local training = [[
m = q.models.new("gpt_neox", {vocab_size = 16, hidden_size = 16, num_hidden_layers = 1, num_attention_heads = 2, seed = 1})
before = m:parameters()[1]:sum():item()
tokens = (q.rand(2000) * 15):floor():to("i32")
data = {tokens = function() return tokens end, batch = function(_, _, B, T) return tokens:narrow(1, 1, B * T):view(B, T) end}
function train(steps) return q.train{model = m, data = data, steps = steps, batch = 2, context = 8, folder = folder,
  optim = function(p) return q.optim.adamw(p, {lr = 1e-3}) end} end
print("ready", m:layers())]]

tap.test("Ctrl-C in training", function(t)
  local s = open()
  s:send("folder = '" .. home .. "/run'\r")
  type_block(s, training)
  t.ok(s:expect "ready\t1", "a model", s:rest())
  s:send "run = train(1000000)\r"
  t.ok(s:expect("loss", 30), "it trains", s:rest())
  s:send "\3"
  t.ok(s:expect("training interrupted at step (%d+) of 1000000", 30, true), "it stops after its step", s:rest())
  t.ok(s:expect("> ", 20), "the prompt is back")
  s:send "while true do pcall(train, 1000000) end\r"
  t.ok(s:expect("loss", 30), "it trains again and again", s:rest())
  s:send "\3"
  t.ok(s:expect("error: ", 30) and s:expect "> ", "and stops, although its error is caught", s:rest())
  check(t, s, "m:parameters()[1]:sum():item() ~= before, 1", "true", "the model is kept as it was trained")
  check(t, s, "q.system.exists(folder .. '/log.jsonl'), 1", "true", "the log is there")
  local kept = 0
  for _, name in ipairs(q.system.list(home .. "/run")) do kept = kept + (name ~= "log.jsonl" and 1 or 0) end
  t.ok(kept > 0, "and a checkpoint", table.concat(q.system.list(home .. "/run"), " "))
  check(t, s, "m:loss(tokens:narrow(1, 1, 16):view(2, 8)):item() < 100, 1", "true", "and can be used")
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
end)

tap.test("Ctrl-C in Lanczos", function(t)
  local s = open()
  s:send("folder = '" .. home .. "/run'\r")
  type_block(s, training)
  t.ok(s:expect "ready\t1", "a model", s:rest())
  s:send "ids = tokens:narrow(1, 1, 512):view(16, 32)\r"
  s:send "top = q.curvature.top(function() return m:loss(ids) end, m:parameters(), {k = 60, tolerance = 1e-14, products = 100000})\r"
  t.ok(s:expect("/", 30), "it runs", s:rest())
  q.system.sleep(1)
  s:send "\3"
  t.ok(s:expect("interrupted", 30), "it stops", s:rest())
  check(t, s, "m:layers() + 40", "41", "the model is kept")
  check(t, s, "type(top) == 'table' and top.interrupted, 1", "true", "and so is the estimate so far")
  local _, status = leave(s)
  t.equal(status, 0, "it ends well")
end)

sh.clean()
tap.done()

-- The prompt: blocks through a pipe. prompt.lua has it in a terminal.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local home = sh.folder()

--- Feeds lines to quench -i. Returns stdout, stderr, status.
local function prompt(lines)
  q.system.write_file(home .. "/input", lines)
  return sh(("HOME=%s $Q -i < %s/input"):format(home, home))
end

tap.test("values show themselves", function(t)
  for input, expected in pairs{
    ["1 + 1"] = "2\n", ["x = 3\nx"] = "3\n", ["= 4"] = "4\n", ["5;"] = "", ["5;\nans"] = "5\n", ["nil"] = "nil\n",
    ["1, nil, 'a'"] = '1\nnil\n"a"\n',
    ["(function() end)()"] = "", ["{1, 2, a = 'b'}"] = '{1, 2, a = "b"}\n', ["{}"] = "{}\n",
    ["local y = 7\ny"] = "7\n",
    ["local function f()\nreturn 8\nend\nf()"] = "8\n", ["q.tensor{1, 2}"] = tostring(q.tensor{1, 2}) .. "\n",
    ["ones(2):sum():item()"] = "2\n",
    ["for i = 1, 2 do\nprint(i)\nend"] = "1\n2\n", ["x = [[a\nb]]\n#x"] = "3\n", ["3 +\n4"] = "7\n",
    ["x = 5; x * 2"] = "10\n", ["x = 5; y = 6; x, y;\nans"] = "5\n", ["local z = 4; z * 2\nz"] = "8\n4\n", ["s = 'a; b'; #s"] = "4\n",
    ["5 -- five"] = "5\n", ["x = 5; math.abs(-x)"] = "5\n", ["x = 5\nmath.abs(-x);"] = "",
    ["for i = 1, 2 do f = i end; print(f)"] = "2\n", ["for i = 1, 2 do x = i; end; x"] = "2\n",
    ["'a\\nb'"] = "a\nb\n", ["'a\\nb\\27'"] = '"a\\nb\\27"\n',
    ["-- a comment"] = "", ["quit\n1"] = "",
    ["exit()\n1"] = "",
  } do
    local out, err, status = prompt(input)
    t.ok(out == expected and err == "" and status == 0, input, ("got %q, %q, %d"):format(out, err, status))
  end
end)

tap.test("errors point at what is meant", function(t)
  for input, expected in pairs{
    ["tensr{1}"] = "(did you mean 'tensor'?)\n   1 | tensr{1}\n       ^~~~~\n",
    ["q.zeroes(2)"] = "(did you mean 'zeros'?)\n   1 | q.zeroes(2)\n         ^~~~~~\n",
    ["q.ones(2):sums()"] = "attempt to call method 'sums'",
    ["q.optm.adamw"] = "(did you mean 'optim'?)\n   1 | q.optm.adamw\n         ^~~~\n",
    ["optm.adamw"] = "(did you mean 'optim'?)\n   1 | optm.adamw\n       ^~~~\n",
    ["f('a')"] = "error: attempt to call global 'f' (a nil value)\n   1 | f('a')\n       ^\n",
    ["x = = 2"] = "unexpected symbol near '='\n   1 | x = = 2\n         ^\n",
    ["q.progress{totl = 3}"] = "(did you mean 'total'?)",
    ["for i = 1, 1 do\n  q.progress{totl = 3}\nend"] = "   2 |   q.progress{totl = 3}\n                    ^~~~\n",
    ["error{1}"] = "error: table: ", ["error()"] = "error: nil", [":nothing"] = "no command ':nothing'",
    ["?progess"] = "did you mean 'progress'",
    ["q.zeros(2):matmul(q.zeros(3))"] = "(2)",
  } do
    local out, err, status = prompt(input)
    t.ok(out == "" and err:find(expected, 1, true) and status == 1, input, out .. err)
  end
  local out, err = prompt "y = 1\nerror 'broken'\ny + 1"
  t.ok(out == "2\n" and err == "error: broken\n", "the prompt goes on with everything kept", out .. err)
end)

tap.test("names without a value", function(t)
  for input, expected in pairs{
    ["sofplus"] = "nil\n", ["undefind_"] = "nil\n", ["tensr"] = "nil (did you mean 'tensor'?)\n", ["q.optm"] = "nil (did you mean 'optim'?)\n",
    ["optim.muom"] = "nil (did you mean 'muon'?)\n", ["tensr;"] = "", ["x = nil\nx"] = "nil\n", ["local tensr\ntensr, 1"] = "nil\n1\n",
  } do
    t.equal((prompt(input)), expected, input)
  end
end)

tap.test("the stack of an error", function(t)
  local out = prompt "function f() error 'broken' end\nlocal x = f()\n:trace"
  t.ok(out:find("in function 'f'", 1, true) and not out:find("quench/", 1, true), ":trace shows the user's part", out)
end)

tap.test("errors in functions typed before", function(t)
  local _, err = prompt "function f(x)\n  local y = 1\n  return (x:matmul(q.ones(2, 2)))\nend\nfunction g() local y = f(q.ones(3)) return y end\ng()"
  t.equal(err, "error: matmul: (3) and (2, 2) do not multiply\n   3 |   return (x:matmul(q.ones(2, 2)))\n                   ^~~~~~\n"
    .. "called from\n   1 | function g() local y = f(q.ones(3)) return y end\n", "their own line, and who called")
  for input, expected in pairs{
    ["q.ones(2) + q.ones(3)"] = "\n   1 | q.ones(2) + q.ones(3)\n                 ^\n", -- the operation
    ["x = {a = 1}\nx.a.b.c"] = "(a number value)\n   1 | x.a.b.c\n         ^\n", -- no "did you mean" for what is there
    ["f(3)"] = "attempt to call global 'f' (a nil value)",
  } do
    local _, text = prompt(input)
    t.ok(text:find(expected, 1, true), input, text)
  end
end)

-- A function as Quench has them, which checks nothing; one that calls it; one that ends in a call of it.
local unchecked = [[
q.wider = loadstring("return function(width, o) return (width + 1) end", "=quench/made_up.lua")()
q.twice = loadstring("return function(width) return 2 * q.wider(width) end", "=quench/made_up.lua")()
q.tail = loadstring("local function inner(width) return (width + 1) end return function(a) return inner(a) end", "=quench/made_up.lua")()
help = require "quench.help"
for _, name in ipairs{"wider", "twice"} do help.add{"q." .. name, q[name], name .. "(width)", "Made up."} end
]]

tap.test("errors inside Quench", function(t)
  local inside = "attempt to perform arithmetic on local 'width' (a nil value)"
  for input, expected in pairs{
    ["q.wider(no)"] = ("error: q.wider: %s; called with width = nil [quench/made_up.lua:1]\n   1 | q.wider(no)\n         ^~~~~\n"):format(inside),
    ["width = q.twice(nosuch)"] = "called with width = nil [quench/made_up.lua:1]\n   1 | width = q.twice(nosuch)\n                 ^~~~~\n",
    ["(q.tail())"] = ("error: tail: %s [quench/made_up.lua:1]\n   1 | (q.tail())\n          ^~~~\n"):format(inside), -- whose argument is gone
    ["q.wider(q.ones(2, 3) == 3 and 1)"] = "on local 'width' (a boolean value); called with width = false [",
    ["q.wider({})"] = "called with width = a table [", ["q.wider('wide')"] = 'called with width = "wide" [',
    ["(q.no_grad(nosuch))"] = "error: q.no_grad: attempt to call a nil value\n   1 | (q.no_grad(nosuch))\n          ^~~~~~~\n", -- from C
    ["q.train{}"] = "error: q.train: model is required", -- what is checked needs no explanation
  } do
    local out, err = prompt(unchecked .. input)
    t.ok(err:find(expected, 1, true), input, out .. err)
  end
  local out = prompt(unchecked .. "q.wider()\n:trace")
  t.ok(out:find("^quench/made_up.lua:1: attempt"), ":trace has the place", out)
  q.system.write_file(home .. "/wider.lua", unchecked .. "q.wider()\n")
  local _, err = sh(("cd %s && $Q wider.lua"):format(home))
  t.equal(err, ("quench: wider.lua:6: q.wider: %s; called with width = nil [quench/made_up.lua:1]\n"):format(inside), "in a file")
end)

tap.test("earlier results", function(t)
  local out = prompt "1\n2;\n'three'\nans2, ans1\nans3"
  t.equal(out, '1\n"three"\n1\n2\n1\n', "ans1 is the one before ans")
  out = prompt "for i = 1, 1 do end\nans1\nans0"
  t.equal(out, "nil\nnil\n", "none yet")
  out = prompt "q.ones(1000)\n1\nans1:numel()\n2\n3\ncollectgarbage() collectgarbage()\nq.system.memory().live < 4000"
  t.equal(out:match("\n(1000\n.*)$"), "1000\n2\n3\ntrue\n", "a tensor is kept while nothing collects it")
end)

tap.test("programs, editor, figures", function(t)
  t.equal((prompt ":sh echo one\n!echo two"), "one\ntwo\n", "lines of the shell")
  local out, err, status = prompt "!exit 3\n5"
  t.equal(out .. err .. status, "5\nexit status 3\n1", "one that fails")
  q.system.write_file(home .. "/editor.sh", "sed -i s/20/21/ $1\n")
  q.system.write_file(home .. "/input", "x = 20\n:edit\nx * 2\n")
  out = sh(("EDITOR='sh %s/editor.sh' HOME=%s $Q -i < %s/input"):format(home, home, home))
  t.equal(out, "42\n", ":edit runs the changed block")
  out = prompt "q.plot{{'line', {1, 2}}}\n{q.plot{}}"
  t.ok(out:match("^/%S+%.png\n{figure, 5.6 x 3.5 inches, 1 panel}\n$"), "a figure shows itself", out)
end)

tap.test("long lines are folded", function(t)
  local show = require "quench.repl.show"
  t.equal(show.folded("one two three four five six seven eight", nil, 30), "one two three four five six\n  seven eight", "between words")
  t.equal(show.folded(("x"):rep(50), nil, 30), ("x"):rep(50), "a long word stays")
  t.equal(show.folded("  a " .. ("b "):rep(20), nil, 30), "  a " .. ("b "):rep(13):sub(1, 25) .. "\n    " .. ("b "):rep(7), "indented")
  t.equal(show.folded("one " .. ("x"):rep(40) .. " two three", nil, 30), "one\n  " .. ("x"):rep(40) .. "\n  two three", "around a long word")
  t.equal(show.folded("one two", nil, 5), "one two", "not in a window too narrow")
end)

tap.test("exploring", function(t)
  for input, expected in pairs{
    ["?progress"] = "seconds between plain lines", ["help(q.progress)"] = "seconds between plain lines",
    ["progress?"] = "seconds between plain lines",
    ["??tearing"] = "q.progress.message", ["?:bench"] = "median and quartiles", ["?q.progress"] = "seconds between plain lines",
    ["?optim"] = "q.optim.adamw  ",
    ["x = q.zeros(2, 3)\n:who"] = "x                tensor f32 (2, 3) 24 B", [":time 1 + 1"] = "more memory",
    [":bench 1 + 1"] = "quartiles", [":help"] = ":bench", ["error 'a'\n:trace"] = "stack traceback", ["?"] = "Tab completes",
  } do
    local out = prompt(input)
    t.ok(out:find(expected, 1, true), input, out)
  end
end)

tap.test("a pipe without -i is one script", function(t)
  local out, err, status = sh [[printf 'local x = 2\nprint(x * 21)' | $Q]]
  t.equal(out .. err .. status, "42\n0", "with its locals")
  t.equal((sh [[printf 'x = -5\nmath.abs(x)\n' | $Q]]), "", "the value of a call at its end is not shown")
  out = sh [[echo 6 '*' 7 | $Q]]
  t.equal(out, "42\n", "an expression prints")
  out, err, status = sh [[echo 'error("no", 0)' | $Q]]
  t.equal(out .. err .. status, "quench: no\n1", "an error is one")
end)

tap.test("completion", function(t)
  local complete = require "quench.repl.complete"
  local function at(text) return (complete.at(text, 80)) end
  t.equal(at "q.prog", "ress", "a field")
  t.equal(at "x = q.progress{tot", "al = ", "an option in braces")
  t.equal(at "q.progress({every = 3, lab", "el = ", "an option in a call")
  t.equal(at "q.progress{total = q.progr", "ess", "a value is no option")
  t.equal(at "repea", "t", "a keyword")
  t.equal(at "  ", "  ", "indentation")
  t.equal(at "('x'):up", "", "what cannot be known")
  rawset(_G, "some_tensor", q.zeros(2))
  t.equal(at "some_tensor:requires_g", "rad", "a method")
  t.equal(at "some_ten", "sor", "a global")
  rawset(_G, "some_tensor", nil)
  t.equal(at ":run dec", "ay", "a recipe")
  t.equal(at(":load " .. home .. "/inp"), "ut", "a file after :load")
  t.equal(at "?q.prog", "ress", "a name after ?")
  t.equal(at ":run decay --cool", "down=", "a parameter of a recipe")
  t.equal(at ":run decay --steps=3 --for", "ce", "a flag")
  t.equal(at ":run decay --scale=me", "dium", "a scale")
  t.equal(at ":run decay --emit=s", "lurm", "a value")
  t.equal(at ":run nothing --sc", "", "no recipe")
  t.equal(at(":run " .. home .. "/inp"), "ut", "a recipe's file")
  t.equal(select(2, complete.at(":run decay --scale=", 80)), "smoke   tiny    small   medium  paper", "scales by size")
  t.equal(at "q.quant.quantize(m, {method = 'gptq', met", "", "an option that is there already")
  t.equal(at "q.quant.gptq(w, x, {bits = (function() return {bits = 1} end)().bits, group = 64, act_o", "rder = ", "behind other values")
  t.equal(at "q.quant.quantize(m, {method = 'aw", "q", "a value of an option")
  t.equal(at "q.curvature.top(m, {which = \"bo", "th", "in either quotes")
  t.equal(at "q.models.new('gpt_", "neox", "a family")
  t.equal(at "q.plot{{'scat", "ter", "a kind of layer")
  t.equal(at "q.plot{x = 'step', {'histogram', x, bi", "ns = ", "an option of a layer")
  t.equal(at "q.plot{title = 'a', {'line', x, y}, them", "e = ", "an option behind layers")
  t.equal(at("q.load('" .. home .. "/inp"), "ut", "a file elsewhere")
  t.equal(at('f("' .. home .. "/inp"), "ut", "a file in a string")
  local insert, shown = complete.at("q.z", 80)
  t.ok(insert == "eros" or shown:find("zeros"), "several names show", insert .. shown)
  t.equal(at "12", "", "inside a number")
end)

tap.test("history", function(t)
  local history = require "quench.repl.history"
  local path = home .. "/deep/er/history"
  t.ok(history.append(path, "a = {\n  1\n}") and history.append(path, "b\\n"), "entries are written")
  t.ok(history.append(path, "a = {\n  1\n}"), "again")
  local entries = history.load(path)
  t.equal(table.concat(entries, "|"), "b\\n|a = {\n  1\n}", "whole blocks come back, repeats once")
  q.system.append_file(path, "bad \255\254 bytes\n\27[2J\n")
  t.equal(#history.load(path), 2, "what is not text is left out")
  t.ok(not history.append("/proc/no/where", "x"), "a place that cannot be written is no error")
  t.equal(#history.load "/nonexistent/history", 0, "a missing file is empty")
end)

sh.clean()
tap.done()

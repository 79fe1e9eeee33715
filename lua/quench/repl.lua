--- The prompt: reads a block, runs it, shows what it gives, and survives whatever it does.
--
-- Expressions print themselves, a trailing ";" hides, `ans` is the last value. Everything of q
-- is a global here (optim, plot, randn, ...); a `local` at the prompt is kept as a global, since
-- a block ends with its last line. ?name, ??word and :commands are for exploring.
-- Without a terminal the whole input is one script; with -i it is read block by block.

local q = require "quench"
local system = require "quench.c.system"
local machine = require "quench.c.machine"
local complete = require "quench.repl.complete"
local errors = require "quench.repl.errors"
local history = require "quench.repl.history"
local show = require "quench.repl.show"

local repl = {}

local session = {failed = false, traceback = nil, leave = false}
local builtin = {} -- names of globals that were there before the user's

local function say(...) io.write(...) io.write("\n") end

local function complain(text)
  io.stdout:flush()
  io.stderr:write(text, "\n")
  session.failed = true
end

--- ":bytes" for people.
local function bytes_text(n)
  for _, unit in ipairs{{2 ^ 30, "GiB"}, {2 ^ 20, "MiB"}, {2 ^ 10, "KiB"}} do
    if n >= unit[1] then return ("%.1f %s"):format(n / unit[1], unit[2]) end
  end
  return ("%d bytes"):format(n)
end

--- Keeps the locals of the block that calls it as globals.
local function keep_locals()
  for i = 1, 200 do
    local name, value = debug.getlocal(2, i)
    if not name then break end
    if not name:match("^%(") then rawset(_G, name, value) end
  end
end

--- The function of a block, or nil, the message, and whether more lines could complete it.
local function compile(text)
  local expression = text:gsub("^%s*=", ""):gsub(";%s*$", "")
  local chunk, as_expression = loadstring("return " .. expression, "=(prompt)")
  -- not "return f(x)": a tail call would leave no frame, and errors in f would not know the line
  if chunk then return loadstring("return __values(" .. expression .. "\n)", "=(prompt)") or chunk end
  local message
  chunk, message = loadstring(text, "=(prompt)")
  if not chunk then
    -- statements and, on the last line, an expression, as pasted blocks often end
    local head, tail = text:match("^(.*)\n([^\n]*)$")
    if head and loadstring("return " .. tail) then
      local both = loadstring(head .. "\nreturn __values(" .. tail:gsub(";%s*$", "") .. "\n)", "=(prompt)")
      if both then return both end
    end
    local unfinished = message:find("near '<eof>'$") or as_expression:find("near '<eof>'$")
    return nil, message, unfinished ~= nil
  end
  if text:find("local", 1, true) then
    chunk = loadstring(text .. "\n;__keep_locals()", "=(prompt)") or chunk
  end
  return chunk
end

--- Does the line open more brackets and blocks than it closes?
local function opens(line)
  local depth = 0
  for bracket in line:gmatch("[%[%](){}]") do depth = depth + (bracket:find("[%[({]") and 1 or -1) end
  for word in line:gmatch("[%a_][%w_]*") do
    if word == "do" or word == "then" or word == "repeat" or word == "function" then depth = depth + 1 end
    if word == "end" or word == "until" or word == "elseif" then depth = depth - 1 end
  end
  return depth > 0
end

--- nil if the block can run (or is wrong), else what Enter inserts: a newline and the indentation.
function repl.unfinished(text)
  if text:match("^%s*[:?]") or text:match("^%s*$") then return nil end
  local chunk, _, more = compile(text)
  if chunk or not more then return nil end
  local line = text:match("[^\n]*$")
  return "\n" .. line:match("^ *") .. (opens(line) and "  " or "")
end

local function on_error(message)
  session.traceback = debug.traceback(tostring(message), 2)
  return tostring(message)
end

--- Runs fn protected. Returns whether it went well and its results, counted.
local function guarded(fn, source)
  session.traceback = nil
  local function finish(good, ...)
    system.clear_interrupt()
    if good then return true, select("#", ...), ... end
    if package.loaded["quench.progress"] then q.progress.clear() end
    complain(errors.text((...), source))
    return false
  end
  return finish(xpcall(fn, on_error))
end

local function show_results(hide, ok, n, ...)
  if not ok or n == 0 then return end
  local first = ...
  if first ~= nil then rawset(_G, "ans", first) end
  if hide then return end
  for i = 1, n do
    local good, text = pcall(show.value, (select(i, ...)))
    say(good and text or "error while showing it: " .. tostring(text))
  end
end

local function lookup(word)
  local value = errors.resolve(word)
  local record = value ~= nil and require("quench.help").find(value)
  if record then return say(require("quench.help").text(record)) end
  local text, message = require("quench.reference").lookup(word)
  if not text and value ~= nil then return say(type(value), " without a help record: ", show.value(value)) end
  if text then say(text) else complain(message) end
end

local function search(word)
  require("quench.reference").load_all()
  local found = require("quench.help").search(word)
  for _, r in ipairs(found) do say(("%-28s %s"):format(r.name, r.doc)) end
  if #found == 0 then complain("nothing about '" .. word .. "'") end
end

--- help(f), help "name", help(): by value, by name, or how to use the prompt.
local function help(what)
  if what == nil then return complete.command_text() end
  if type(what) == "string" then return lookup(what) end
  local record = require("quench.help").find(what)
  if record then return say(require("quench.help").text(record)) end
  say(type(what), " without a help record")
end

-- --- commands -------------------------------------------------------------------------------

local commands = {}

commands.who = {"the variables made here, and memory", function()
  local names, total = {}, 0
  for name in pairs(_G) do
    if type(name) == "string" and not builtin[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local v = rawget(_G, name)
    local mt = getmetatable(v)
    if type(mt) == "table" and mt.__name == "tensor" then
      if v:is_freed() then say(("  %-16s tensor (freed)"):format(name))
      else
        total = total + v:nbytes()
        say(("  %-16s tensor %s (%s) %s"):format(name, v:dtype(), table.concat(v:shape(), ", "), bytes_text(v:nbytes())))
      end
    else
      say(("  %-16s %s %s"):format(name, type(v), (type(v) == "number" or type(v) == "boolean") and tostring(v) or ""))
    end
  end
  local m = system.memory()
  say(("%s in the tensors above; %s live in all, %s at most, %s kept for reuse; Lua %s"):format(bytes_text(total), bytes_text(m.live),
    bytes_text(m.peak), bytes_text(m.cached), bytes_text(collectgarbage("count") * 1024)))
end}

local function need_code(text, name)
  if text == "" then return complain(":" .. name .. " needs an expression or statement") end
  local chunk, message = compile(text)
  if not chunk then return complain(errors.text(message, text)) end
  return chunk
end

local function time_text(seconds)
  if seconds >= 1 then return ("%.3f s"):format(seconds) end
  if seconds >= 1e-3 then return ("%.3f ms"):format(seconds * 1e3) end
  return ("%.3f us"):format(seconds * 1e6)
end

commands.time = {"runs code and shows how long it took", function(text)
  local chunk = need_code(text, "time")
  if not chunk then return end
  system.reset_peak()
  local before, start = system.memory().live, system.clock()
  show_results(text:find(";%s*$"), guarded(chunk, text))
  say(("%s, at most %s more memory"):format(time_text(system.clock() - start), bytes_text(system.memory().peak - before)))
end}

commands.bench = {"runs code for a second, and shows median and quartiles", function(text)
  local chunk = need_code(text, "bench")
  if not chunk then return end
  local times, repeats = {}, 1
  local good = guarded(function()
    chunk()
    local stop = system.clock() + 1
    repeat
      local start = system.clock()
      for _ = 1, repeats do chunk() end
      local one = (system.clock() - start) / repeats
      if one * repeats < 1e-3 and #times == 0 then repeats = repeats * 4 -- too short to time one by one
      else times[#times + 1] = one end
    until system.clock() > stop or #times >= 10000
  end, text)
  if not good then return end
  table.sort(times)
  local function quantile(f) return times[math.max(1, math.ceil(f * #times))] or 0 end
  say(("%s (quartiles %s, %s; %d samples of %d)"):format(time_text(quantile(0.5)), time_text(quantile(0.25)), time_text(quantile(0.75)),
    #times, repeats))
end}

commands.run = {"runs a recipe: :run decay --scale=tiny", function(text)
  local list = {}
  for word in text:gmatch("%S+") do list[#list + 1] = word end
  guarded(function() require("quench.recipe.command").main(list) end, text)
end}

commands.load = {"runs a Lua file: :load FILE", function(path)
  guarded(function()
    local chunk, message = loadfile(path)
    if not chunk then error(message, 0) end
    chunk()
  end, path)
end}

commands.trace = {"the call stack of the last error", function()
  say(session.traceback or "no error yet")
end}

commands.doctor = {"what this machine offers", function() require("quench.doctor").main() end}

commands.help = {"this text", function() complete.command_text() end}

commands.quit = {"leaves, as Ctrl-D does", function() session.leave = true end}

for name in pairs(commands) do complete.commands[#complete.commands + 1] = name end
table.sort(complete.commands)

function complete.command_text()
  say "An expression prints its value; a ; at its end hides it; ans is the last one."
  say "?name or help(f)  help on a function        ??word  functions about a word"
  say "Tab completes names, methods, options inside {} and files in strings; Ctrl-R searches the history."
  for _, name in ipairs(complete.commands) do say((":%-8s %s"):format(name, commands[name][1])) end
end

local function run_command(text)
  local name, rest = text:match("^%s*:(%S*)%s*(.-)%s*$")
  if commands[name] then return commands[name][2](rest) end
  local options = require "quench.options"
  complain(("no command ':%s'%s; :help lists them"):format(name, options.suggest(name, complete.commands)))
end

-- --- the loop ---------------------------------------------------------------------------------

--- Runs one block as the prompt does.
function repl.evaluate(text)
  local word = text:match("^%s*(%a+)%s*%(?%s*%)?%s*$")
  if word == "quit" or word == "exit" then session.leave = true return end
  if text:match("^%s*$") then return end
  if text:match("^%s*:%a") then return run_command(text) end
  if text:match("^%s*%?%?") then return search(text:match("^%s*%?%?%s*(.-)%s*$")) end
  if text:match("^%s*%?") then
    word = text:match("^%s*%?%s*(.-)%s*$")
    return word == "" and complete.command_text() or word ~= "" and lookup(word)
  end
  if text:match("^%s*[%w_.:]+%s*%?%s*$") then return lookup(text:match("[%w_.:]+")) end
  local chunk, message = compile(text)
  if not chunk then return complain(errors.text(message, text)) end
  show_results(text:find(";%s*$"), guarded(chunk, text))
end

--- Makes everything of q a global, without loading it.
local function open_globals()
  _G.__keep_locals, _G.__values = keep_locals, function(...) return ... end
  for name in pairs(_G) do builtin[name] = true end
  for _, name in ipairs{"help", "ans", "arg"} do builtin[name] = true end
  _G.help = help
  setmetatable(_G, {modules = setmetatable({}, nil), __index = q})
end

--- Two lines: what this is, and how to go on. Short ones for narrow windows.
local function banner()
  local blas = machine.blas()
  local slow = blas.level ~= blas.processor_level and blas.core ~= "Zen"
  say(("Quench %s, %d threads, %s kernels%s"):format(system.version, q.threads(), blas.core, slow and " (slow: :doctor)" or ""))
  local narrow = (machine.terminal_size(1) or 80) < 64
  say(narrow and ":help lists what helps" or "?name explains, Tab completes, :help lists more, Ctrl-D leaves")
end

--- Reads blocks with the editor until the user leaves.
local function with_editor(editor)
  local path = history.path()
  for _, entry in ipairs(history.load(path)) do editor:remember(entry) end
  local callbacks = {
    finished = repl.unfinished,
    complete = function(text) return complete.at(text, machine.terminal_size(1) or 80) end,
  }
  local keeping = true
  banner()
  while not session.leave do
    local text, interrupted = editor:read("> ", callbacks)
    if not text and not interrupted then say "" break end
    if text and text:match("%S") then
      text = text:gsub("%s+$", "")
      editor:remember(text)
      local good, reason = true, nil
      if keeping then good, reason = history.append(path, text) end
      if not good then
        keeping = false
        io.stderr:write("the history is not kept: ", reason, "\n")
      end
      repl.evaluate(text)
    end
    io.stdout:flush()
  end
  editor:close()
end

--- Reads blocks from plain input.
local function without_editor(prompt)
  local block
  while not session.leave do
    if prompt then io.write(block and ">> " or "> ") io.flush() end
    local line = io.read("*l")
    if not line then break end
    block = block and block .. "\n" .. line or line
    if not repl.unfinished(block) then
      repl.evaluate(block)
      block = nil
    end
    io.stdout:flush()
  end
  if block and block:match("%S") then repl.evaluate(block) end
end

--- All of standard input as one script; a lone expression prints its value.
local function run_script()
  local text = io.read("*a") or ""
  local chunk = compile(text)
  if not chunk then chunk = assert(loadstring(text, "=stdin")) end
  show_results(false, true, (function(...) return select("#", ...), ... end)(chunk()))
end

--- The prompt, or a script from a pipe. interactive: blocks also without a terminal (quench -i).
-- Returns the exit status.
function repl.main(interactive)
  open_globals()
  local terminal = system.is_terminal(0) and system.is_terminal(1)
  if not terminal and not interactive and not system.is_terminal(0) then
    run_script()
    return 0
  end
  local editor = terminal and os.getenv("TERM") ~= "dumb" and require("quench.c.repl").open()
  if editor then with_editor(editor) else without_editor(system.is_terminal(0)) end
  return not system.is_terminal(0) and session.failed and 1 or 0
end

return repl

--- The prompt: reads a block, runs it, shows what it gives, and survives whatever it does.
--
-- Expressions print themselves, a trailing ";" hides, `ans` is the last value. Everything of q
-- is a global here (optim, plot, randn, ...); a `local` at the prompt is kept as a global, since
-- a block ends with its last line. ?name, ??word and :commands are for exploring.
-- Without a terminal the whole input is one script; with -i it is read block by block.

local q = require "quench"
local system = require "quench.c.system"
local machine = require "quench.c.machine"
local blocks = require "quench.repl.blocks"
local commands = require "quench.repl.commands"
local complete = require "quench.repl.complete"
local history = require "quench.repl.history"

local repl = {}

local say = blocks.say

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
  if text:match("^%s*[:?!]") or text:match("^%s*$") then return nil end
  local fn, _, more = blocks.compile(text)
  if fn or not more then return nil end
  local line = text:match("[^\n]*$")
  return "\n" .. line:match("^ *") .. (opens(line) and "  " or "")
end

--- Runs one block as the prompt does.
function repl.evaluate(text)
  local word = text:match("^%s*(%a+)%s*%(?%s*%)?%s*$")
  if word == "quit" or word == "exit" then commands.leave = true return end
  if text:match("^%s*$") then return end
  if text:match("^%s*:%a") then return commands.run(text) end
  if text:match("^%s*!") then return commands.shell(text:match("^%s*!%s*(.-)%s*$")) end
  if text:match("^%s*%?%?") then return commands.search(text:match("^%s*%?%?%s*(.-)%s*$")) end
  if text:match("^%s*%?") then
    word = text:match("^%s*%?%s*(.-)%s*$")
    return word == "" and commands.usage() or word ~= "" and commands.lookup(word)
  end
  if text:match("^%s*[%w_.:]+%s*%?%s*$") then return commands.lookup(text:match("[%w_.:]+")) end
  commands.last = text
  blocks.run(text)
end

--- Makes everything of q a global, without loading it.
local function open_globals()
  _G.__keep_locals, _G.__values = blocks.keep_locals, function(...) return ... end
  for name in pairs(_G) do commands.builtin[name] = true end
  for _, name in ipairs{"help", "ans", "arg"} do commands.builtin[name] = true end
  _G.help = commands.help
  setmetatable(_G, {modules = q, __index = function(_, name)
    local earlier = blocks.earlier(name)
    if earlier ~= nil then return earlier end
    return q[name]
  end})
end

--- Two lines: what this is, and how to go on. Short ones for narrow windows.
local function banner()
  local blas = machine.blas()
  local slow = blas.level ~= blas.processor_level and blas.core ~= "Zen"
  say(("Quench %s, %d threads, %s kernels%s"):format(system.version, q.threads(), blas.core, slow and " (slow: :doctor)" or ""))
  local narrow = (machine.terminal_size(1) or 80) < 64
  say(narrow and ":help lists what helps" or "?name explains, Tab completes, :help lists more, Ctrl-D leaves")
end

--- Repeats step() until it returns true or the user leaves. A Ctrl-C that comes while no block runs (while a value is
-- printed, a name completed, a block written to the history) ends that alone.
local function steadily(step)
  repeat
    local good, done = pcall(step)
    if not good then
      system.clear_interrupt()
      local message = tostring(done)
      if message:find("interrupted", 1, true) then say "" else blocks.complain("error: " .. message) end
      done = false
    end
    io.stdout:flush()
  until done or commands.leave
end

local kept = true -- is the history's file written?

--- Keeps a block in the history of this session and in its file; a file that cannot be written is said once.
local function remember(editor, path, text)
  editor:remember(text)
  if not kept then return end
  local good, reason = history.append(path, text)
  kept = good
  if not kept then io.stderr:write("the history is not kept: ", reason, "\n") end
end

--- Reads blocks with the editor until the user leaves.
local function with_editor(editor)
  local path = history.path()
  for _, entry in ipairs(history.load(path)) do editor:remember(entry) end
  local callbacks = {
    finished = repl.unfinished,
    complete = function(text) return complete.at(text, machine.terminal_size(1) or 80) end,
  }
  banner()
  steadily(function()
    local show = package.loaded["quench.plots.show"]
    local keys = show and show.take_typed() or ""
    if keys ~= "" then editor:type(keys) end
    local text, interrupted = editor:read("> ", callbacks)
    if not text and not interrupted then say "" return true end
    if not text or not text:match("%S") then return false end
    text = text:gsub("%s+$", "")
    remember(editor, path, text)
    repl.evaluate(text)
  end)
  editor:close()
end

--- Reads blocks from plain input.
local function without_editor(prompt)
  local block
  steadily(function()
    if prompt then io.write(block and ">> " or "> ") io.flush() end
    local line = io.read("*l")
    if not line then return true end
    block = block and block .. "\n" .. line or line
    if repl.unfinished(block) then return false end
    local whole = block
    block = nil
    repl.evaluate(whole)
  end)
  if block and block:match("%S") then repl.evaluate(block) end
end

--- All of standard input as one script; a lone expression prints its value.
local function run_script()
  local text = io.read("*a") or ""
  local fn = blocks.compile(text, nil, true)
  if not fn then fn = assert(loadstring(text, "=stdin")) end
  blocks.show_results("", true, (function(...) return select("#", ...), ... end)(fn()))
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
  return not system.is_terminal(0) and blocks.failed and 1 or 0
end

return repl

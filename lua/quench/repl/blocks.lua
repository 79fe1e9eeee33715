--- Blocks of the prompt: compiled, run under protection, their results shown and kept as ans, ans1 ... ans9.

local machine = require "quench.c.machine"
local system = require "quench.c.system"
local errors = require "quench.repl.errors"
local show = require "quench.repl.show"

local blocks = {failed = false, traceback = nil, count = 0, sources = {}}

local LONGEST = 2000 -- characters of an expression behind statements
local KEPT = 9 -- results before the last one: ans1 ... ans9

function blocks.say(...) io.write(...) io.write("\n") end

function blocks.complain(text)
  io.stdout:flush()
  io.stderr:write(text, "\n")
  blocks.failed = true
end

--- Complains of an error, folded where the window ends.
local function explain(message, frames)
  blocks.complain(errors.text(message, blocks.sources, frames, (machine.terminal_size(2))))
end

--- Keeps the locals of the block that calls it as globals.
function blocks.keep_locals()
  for i = 1, 200 do
    local name, value = debug.getlocal(2, i)
    if not name then break end
    if not name:match("^%(") then rawset(_G, name, value) end
  end
end

--- Code that hands on the values of an expression. Not "return f(x)": a tail call would leave no frame, and errors in f
-- would not know the line; the bracket on the expression's last line, since its own errors count there.
local function returning(expression)
  local comment = expression:match("[^\n]*$"):find("--", 1, true)
  return "return __values(" .. expression .. (comment and "\n)" or ")")
end

--- Statements and at their end an expression, on a line of its own or behind a semicolon: x = 5; x * 2. A function, or nil.
local function with_value(text, chunk)
  text = text:gsub("[;%s]*$", "")
  local cut = #text + 1
  repeat
    cut = text:sub(1, cut - 1):match(".*()[;\n]")
    local tail = cut and text:sub(cut + 1)
    if tail and loadstring("return " .. tail) then
      local both = loadstring(text:sub(1, cut) .. (text:find("local", 1, true) and "__keep_locals() " or "") .. returning(tail), chunk)
      if both then return both end
    end
  until not cut or #text - cut > LONGEST
end

--- The function of a block, or nil, the message, and whether more lines could complete it. chunk: its name in messages.
-- In a script the value of a call at the end is nothing to be shown.
function blocks.compile(text, chunk, script)
  chunk = "=" .. (chunk or "(prompt)")
  local expression = text:gsub("^%s*=", ""):gsub(";%s*$", "")
  local fn, as_expression = loadstring("return " .. expression, chunk)
  if fn then return loadstring(returning(expression), chunk) or fn end
  local message
  fn, message = loadstring(text, chunk)
  local both = not (fn and script) and with_value(text, chunk)
  if both then return both end
  if not fn then
    local unfinished = message:find("near '<eof>'$") or as_expression:find("near '<eof>'$")
    return nil, message, unfinished ~= nil
  end
  if text:find("local", 1, true) then
    fn = loadstring(text .. "\n;__keep_locals()", chunk) or fn
  end
  return fn
end

--- Compiles a block that will run: it gets a number, so that errors in it find its text later. Complains if it is wrong.
function blocks.load(text)
  blocks.count = blocks.count + 1
  local name = ("(prompt %d)"):format(blocks.count)
  blocks.sources[name] = text
  local fn, message = blocks.compile(text, name)
  if not fn then explain(message) end
  return fn, name
end

--- The places in code of the user's that led to an error, innermost first: {chunk, line}.
local function user_frames(level)
  local frames = {}
  while #frames < 12 do
    local info = debug.getinfo(level, "Sl")
    if not info then break end
    local where = info.source:match("^[=@](.*)$")
    local ours = not where or where:match("^quench/") or where:match("^%[") or info.currentline < 1
    if not ours then frames[#frames + 1] = {where, info.currentline} end
    level = level + 1
  end
  return frames
end

local frames
local function on_error(message)
  local told = require("quench.fault").explain(tostring(message))
  blocks.traceback = debug.traceback(tostring(message), 2):gsub("\n\t%[C%]: in function 'xpcall'\n\tquench/repl/blocks%.lua.*", "")
  frames = user_frames(3)
  return told
end

--- After Ctrl-C the terminal's line holds "^C".
local function new_line(message)
  if message:find("interrupted", 1, true) and system.is_terminal(2) then io.stderr:write("\n") end
end

--- Runs fn protected. Returns whether it went well and its results, counted.
function blocks.guarded(fn)
  blocks.traceback, frames = nil, nil
  local function finish(good, ...)
    system.clear_interrupt()
    if good then return true, select("#", ...), ... end
    if package.loaded["quench.progress"] then require("quench.progress").clear() end
    new_line((...))
    explain((...), frames)
    return false
  end
  return finish(xpcall(fn, on_error))
end

-- ---- results --------------------------------------------------------------------------------

local kept = {} -- results before the last, newest first, each in a box of its own
local weak = {__mode = "v"}

--- A new ans; the old ones move on. Tensors before the last are held weakly, so that ans1 ... pin no memory.
local function remember(value)
  local last = rawget(_G, "ans")
  if last ~= nil then
    table.insert(kept, 1, type(last) == "userdata" and setmetatable({last}, weak) or {last})
    kept[KEPT + 1] = nil
  end
  rawset(_G, "ans", value)
end

--- The value of ans1 ... ans9, nil for other names.
function blocks.earlier(name)
  local box = type(name) == "string" and kept[tonumber(name:match("^ans([1-9])$"))]
  return box and box[1]
end

local function show_one(value)
  if getmetatable(value) and type(value) == "table" and getmetatable(value).__name == "figure" then return value:show() end
  blocks.say(show.value(value))
end

--- Shows what blocks.guarded gave for a text, each value in its way.
function blocks.show_results(text, ok, n, ...)
  local hide = text:find(";%s*$")
  if not ok or n == 0 then return end
  if (...) ~= nil then remember((...)) end
  if hide then return end
  if n == 1 and (...) == nil then return blocks.say("nil", errors.near(text)) end
  for i = 1, n do
    local good, message = pcall(show_one, (select(i, ...)))
    if not good then
      new_line(tostring(message))
      blocks.say("error while showing it: " .. tostring(message))
    end
  end
end

--- Runs a block as typed.
function blocks.run(text)
  local fn = blocks.load(text)
  if fn then blocks.show_results(text, blocks.guarded(fn)) end
end

return blocks

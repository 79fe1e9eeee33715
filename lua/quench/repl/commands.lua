--- The commands of the prompt, ":name text", and the questions ?name and ??word. A command is {meaning, function of the text}.

local system = require "quench.c.system"
local machine = require "quench.c.machine"
local help = require "quench.help"
local blocks = require "quench.repl.blocks"
local complete = require "quench.repl.complete"
local errors = require "quench.repl.errors"
local options = require "quench.options"
local show = require "quench.repl.show"
local units = require "quench.units"

local say, complain = blocks.say, blocks.complain

local commands = {builtin = {}, leave = false, last = ""} -- names of globals that are not the user's; the last block
local list = {}

-- ---- questions ------------------------------------------------------------------------------

local function say_record(record) say(help.text(record, (machine.terminal_size(1)))) end

--- Help on a name, or what it is.
function commands.lookup(word)
  local command = word:match("^:(%a+)$")
  if list[command] then return say(show.folded((":%-8s %s"):format(command, list[command][1]), 10)) end
  local value = errors.resolve(word)
  local record = value ~= nil and help.find(value)
  if record then return say_record(record) end
  local text, message = require("quench.reference").lookup(word, (machine.terminal_size(1)))
  if text then return say(text) end
  if value == nil then return complain(message) end
  say(type(value), " without a help record: ", show.value(value))
end

--- The functions about a word, one a line.
function commands.search(word)
  require("quench.reference").load_all()
  local found = help.search(word)
  if #found == 0 then return complain("nothing about '" .. word .. "'") end
  say(help.list(found, (machine.terminal_size(1))))
end

--- help(f), help "name", help(): by value, by name, or how to use the prompt.
function commands.help(what)
  if what == nil then return commands.usage() end
  if type(what) == "string" then return commands.lookup(what) end
  local record = help.find(what)
  if record then return say_record(record) end
  say(type(what), " without a help record")
end

-- ---- looking around ---------------------------------------------------------------------------

--- The line of :who for a value, and the bytes it counts.
local function variable_line(name, v)
  local mt = getmetatable(v)
  if type(mt) ~= "table" or mt.__name ~= "tensor" then
    return ("  %-16s %s %s"):format(name, type(v), (type(v) == "number" or type(v) == "boolean") and tostring(v) or ""), 0
  end
  if v:is_freed() then return ("  %-16s tensor (freed)"):format(name), 0 end
  return ("  %-16s tensor %s (%s) %s%s"):format(name, v:dtype(), table.concat(v:shape(), ", "), units.bytes(v:nbytes()),
    v:needs_grad() and ", recorded for gradients" or ""), v:nbytes()
end

list.who = {"the variables made here, and memory", function()
  local names, total = {}, 0
  for name in pairs(_G) do
    if type(name) == "string" and not commands.builtin[name] then names[#names + 1] = name end
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local line, bytes = variable_line(name, rawget(_G, name))
    say(show.folded(line, 19))
    total = total + bytes
  end
  local m = system.memory()
  say(show.folded(("%s in the tensors above; %s live in all, %s at most, %s kept for reuse; Lua %s"):format(units.bytes(total),
    units.bytes(m.live), units.bytes(m.peak), units.bytes(m.cached), units.bytes(collectgarbage("count") * 1024))))
end}

--- The function of the code after a command's name, or nil after a complaint.
local function code_of(text, name)
  if text == "" then return complain(":" .. name .. " needs an expression or statement") end
  return (blocks.load(text))
end

list.time = {"runs code and shows how long it took", function(text)
  local fn = code_of(text, "time")
  if not fn then return end
  system.reset_peak()
  local before, start = system.memory().live, system.clock()
  blocks.show_results(text, blocks.guarded(fn))
  say(("%s, at most %s more memory"):format(units.seconds(system.clock() - start), units.bytes(system.memory().peak - before)))
end}

--- Seconds of many runs of fn within about a second, sorted, and how many runs a sample holds.
local function samples(fn)
  local times, repeats = {}, 1
  fn()
  local stop = system.clock() + 1
  repeat
    local start = system.clock()
    for _ = 1, repeats do fn() end
    local one = (system.clock() - start) / repeats
    if one * repeats < 1e-3 and #times == 0 then repeats = repeats * 4 -- too short to time one by one
    else times[#times + 1] = one end
  until system.clock() > stop or #times >= 10000
  table.sort(times)
  return times, repeats
end

list.bench = {"runs code for a second, and shows median and quartiles", function(text)
  local fn = code_of(text, "bench")
  if not fn then return end
  local good, _, times, repeats = blocks.guarded(function() return samples(fn) end)
  if not good then return end
  local function quantile(f) return times[math.max(1, math.ceil(f * #times))] or 0 end
  say(("%s (quartiles %s, %s; %d samples of %d)"):format(units.seconds(quantile(0.5)), units.seconds(quantile(0.25)), units.seconds(quantile(0.75)),
    #times, repeats))
end}

list.trace = {"the call stack of the last error", function() say(blocks.traceback or "no error yet") end}

list.doctor = {"what this machine offers", function() require("quench.doctor").main() end}

-- ---- files and programs -----------------------------------------------------------------------

list.run = {"runs a recipe: :run decay --scale=tiny", function(text)
  local words = {}
  for word in text:gmatch("%S+") do words[#words + 1] = word end
  blocks.guarded(function() require("quench.recipe.command").main(words) end)
end}

list.load = {"runs a Lua file: :load FILE", function(path)
  if path == "" then return complain ":load needs the name of a Lua file" end
  blocks.guarded(function()
    local chunk, message = loadfile(path)
    if not chunk then error(message, 0) end
    chunk()
  end)
end}

--- Runs a line of the shell; its output goes to ours.
local function shell(line)
  io.stdout:flush()
  local status = os.execute(line)
  system.clear_interrupt()
  if status ~= 0 then complain(("exit status %d"):format(status > 255 and math.floor(status / 256) or status)) end
  return status == 0
end

list.sh = {"runs a line of the shell; !line does too", function(line)
  if line == "" then return complain ":sh needs a line of the shell" end
  shell(line)
end}

list.edit = {"opens the last block in $EDITOR and runs what is saved; :edit FILE a file", function(path)
  local own = path == ""
  local place = own and os.tmpname() or path
  if own then system.write_file(place, commands.last .. "\n") end
  local editor = os.getenv("VISUAL") or os.getenv("EDITOR") or "vi"
  local good = shell(("%s '%s'"):format(editor, place:gsub("'", "'\\''")))
  local text = good and system.exists(place) and system.read_file(place):gsub("%s+$", "") or ""
  if own then os.remove(place) end
  if text == "" then return end
  commands.last = text
  blocks.run(text)
end}

list.help = {"this text", function() commands.usage() end}

list.quit = {"leaves, as Ctrl-D does", function() commands.leave = true end}

for name in pairs(list) do complete.commands[#complete.commands + 1] = name end
table.sort(complete.commands)

--- How to use the prompt.
function commands.usage()
  say(show.folded("An expression prints its value; a ; at its end hides it; ans is the last one, ans1 ... ans9 those before."))
  say(show.folded("?name or help(f)  help on a function        ??word  functions about a word"))
  say(show.folded("Tab completes names, methods, options inside {} and files in strings; Ctrl-R searches the history."))
  for _, name in ipairs(complete.commands) do say(show.folded((":%-8s %s"):format(name, list[name][1]), 10)) end
end

--- Runs ":name text".
function commands.run(line)
  local name, rest = line:match("^%s*:(%S*)%s*(.-)%s*$")
  if list[name] then return list[name][2](rest) end
  complain(("no command ':%s'%s; :help lists them"):format(name, options.suggest(name, complete.commands)))
end

--- Runs a line of the shell, as :sh.
function commands.shell(line) list.sh[2](line) end

return commands

--- The command line: one function a command, in the table `commands`.
--
-- Results go to stdout, progress and diagnostics to stderr; the exit status is 0 only on
-- success, 2 for a command, file or leading option that is not there, 130 after Ctrl-C, else 1.

local q = require "quench"
local options = require "quench.options"

local usage = [[
Quench - a laboratory for quantization dynamics.

  quench                        the prompt
  quench FILE.lua [args]        run a Lua file ("-" reads it from standard input)
  quench -e CODE [args]         run a line of Lua
  quench run NAME [--key=value] run a recipe (a name from `quench list`, or a file); --help shows its parameters
  quench run all [--scale=NAME] run every recipe; a failure does not stop the rest
  quench replication            a table of the claims of finished runs; --write=PAGE.md writes a page with figures
  quench list                   the recipes
  quench new NAME               write a recipe to start from
  quench show FIGURE.png        what a figure was made from
  quench replay FIGURE.png      make it again
  quench watch PATH             follow a running log: a log.jsonl, or a folder (out, out/NAME/HASH); --once draws once
  quench quantize MODEL OUT     quantize a Hugging Face folder; --help shows how
  quench eval MODEL ...         the loss of models on a text, multiple choice, minimal pairs
  quench trajectory FOLDER ...  loss and quantization error along the checkpoints of a run, with a figure
  quench inspect FILE           the tensors of a weight file: range, outliers, error at 2, 3, 4 and 8 bits
  quench help [WORD]            help on a function; all names without WORD
  quench doctor                 libraries, processor, speed, fonts, terminal

  --threads=N   threads for kernels and products      --jit      compile Lua loops (Ctrl-C cannot stop those)
  --trace       show the call stack of an error       --version  --help
]]

local trace = os.getenv("QUENCH_TRACE") ~= nil

local function complain(message)
  io.stderr:write("quench: ", tostring(message), "\n")
end

--- Runs fn(...); errors are printed as one line (with the stack under --trace).
local function guarded(fn, ...)
  local arguments, n = {...}, select("#", ...)
  local result
  local ok, message = xpcall(function() result = fn(unpack(arguments, 1, n)) end, function(e)
    local told = require("quench.fault").explain(tostring(e))
    return trace and debug.traceback(told, 2) or told
  end)
  if ok then return type(result) == "number" and result or 0, result end
  io.stdout:flush()
  if package.loaded["quench.progress"] then require("quench.progress").clear() end
  complain(message)
  return message:find("interrupted", 1, true) and 130 or 1
end

local function bad_usage(format, ...)
  complain(format:format(...))
  io.stderr:write("try: quench --help\n")
  return 2
end

--- The lines on a command in the text of --help.
local function usage_of(name)
  local lines = {}
  for line in usage:gmatch("  quench [^\n]+\n") do
    if line:match("^  quench (%a+)") == name then lines[#lines + 1] = line end
  end
  return table.concat(lines)
end

local commands = {}

function commands.run(...) return require("quench.recipe.command").main({...}) end

function commands.list() return require("quench.recipe.command").list() end

function commands.replication(...) return require("quench.recipe.replication").main({...}) end

function commands.new(name) return require("quench.recipe.command").new(name) end

function commands.show(path) return require("quench.recipe.replay").show(path) end

function commands.replay(path, ...) return require("quench.recipe.replay").replay(path, {...}) end

function commands.watch(...) return require("quench.watch").main({...}) end

function commands.quantize(...) return require("quench.quant.command").quantize({...}) end

function commands.eval(...) return require("quench.quant.command").eval({...}) end

function commands.inspect(...) return require("quench.quant.inspection").main({...}) end

function commands.trajectory(...) return require("quench.trajectory.command").main({...}) end

function commands.doctor(...) return require("quench.doctor").main({...}) end

local in_lua = {run = "q.recipe.run", quantize = "q.quant.quantize", eval = "q.eval.text", trajectory = "q.trajectory.measure"}

--- Of a command its lines of --help, of another word what the reference has.
function commands.help(word)
  if not (word and commands[word]) then return require("quench.reference").main(word) end
  io.write(usage_of(word), in_lua[word] and "In Lua: quench help " .. in_lua[word] .. "\n" or "")
end

local most = {list = 0, doctor = 0, new = 1, show = 1, help = 1} -- arguments of the commands that take no options

--- Runs a command. The others read their options themselves.
local function run_command(name, args)
  if (most[name] or name == "replay") and args[1] == "--help" then io.write(usage_of(name)) return 0 end
  if most[name] and #args > most[name] then
    return bad_usage("%s takes %s, got '%s'", name, most[name] == 0 and "no argument" or "one argument", args[most[name] + 1])
  end
  return guarded(commands[name], unpack(args))
end

--- Runs a chunk as a script: arguments in `...` and in `arg`. A file that returns a recipe runs it.
local function run_chunk(chunk, name, arguments)
  _G.arg = arguments
  arguments[0] = name
  local code, result = guarded(chunk, unpack(arguments))
  if code == 0 and type(result) == "table" and result.is_recipe then
    if q.system.kind(name) == "file" then result.source, result.path = q.system.read_file(name), name end
    return guarded(require("quench.recipe").run, result, arguments)
  end
  return code
end

local function run_file(path, arguments)
  local kind = path ~= "-" and q.system.kind(path)
  if kind == "folder" then return bad_usage("'%s' is a folder, not a Lua file", path) end
  if path ~= "-" and not kind then
    local names = {}
    for name in pairs(commands) do names[#names + 1] = name end
    return bad_usage("no file and no command '%s'%s", path, options.suggest(path, names))
  end
  local chunk, message = loadfile(path ~= "-" and path or nil)
  if not chunk then complain(message) return 1 end
  return run_chunk(chunk, path, arguments)
end

local function run_code(code, arguments)
  if not code then return bad_usage("-e needs a line of Lua") end
  local chunk, message = loadstring(code, "=(command line)")
  if not chunk then complain(message) return 1 end
  return run_chunk(chunk, "-e", arguments)
end

--- Takes the options that stand before the command off the list. Returns an exit status to stop at once.
local function leading_options(args)
  local known = {"--jit", "--trace", "--threads", "--version", "--help"}
  while args[1] and args[1]:match("^%-%-") do
    local key, value = args[1]:match("^%-%-([%w-]+)=?(.*)$")
    if key == "jit" then jit.on()
    elseif key == "trace" then trace = true
    elseif key == "threads" and tonumber(value) and tonumber(value) >= 1 then q.threads(tonumber(value))
    elseif key == "threads" then return bad_usage("--threads needs a number, as in --threads=2")
    elseif key == "version" then io.write("quench ", q.system.version, " (build ", q.system.build, ")\n") return 0
    elseif key == "help" then io.write(usage) return 0
    else return bad_usage("unknown option '%s'%s", args[1], options.suggest(args[1], known)) end
    table.remove(args, 1)
  end
end

return function(_, ...)
  local args = {...}
  _G.q = q
  setmetatable(_G, {__index = function(_, name) -- the runner loads when a file first says recipe{...}
    if name == "recipe" then return q.recipe end
  end})
  local status = leading_options(args)
  if status then return status end
  local first = table.remove(args, 1)
  if not first or first == "-i" then return guarded(require("quench.repl").main, first == "-i") end
  if first == "-e" then return run_code(table.remove(args, 1), args) end
  if commands[first] then return run_command(first, args) end
  if first:sub(1, 1) == "-" and first ~= "-" then return bad_usage("unknown option '%s'", first) end
  return run_file(first, args)
end

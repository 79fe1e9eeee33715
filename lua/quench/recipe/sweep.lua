--- Sweeps on many machines: the job script of a recipe's seeds, and all recipes one after another.
--
-- A job is `quench run NAME ... --index=k`. Jobs share nothing but the folder out/, where each run
-- is locked while it works and found again once finished, so a script can be submitted again
-- after a failure and does only what is missing.

local system = require "quench.c.system"
local progress = require "quench.progress"

local sweep = {}

local of_the_sweep = {emit = true, index = true, list = true} -- options that no job takes over

--- A word as sh reads it back.
local function quote(word)
  if word:match("^[%w_./=,:+-]+$") then return word end
  return "'" .. word:gsub("'", [['\'']]) .. "'"
end

--- The command of a job. The arguments are those typed, not the values they had: numbers written
-- anew could lose digits, and the run would get another folder.
local function command_of(r, list)
  local words = {'"${QUENCH:-quench}"', "run", quote(r.path or r.name)}
  for _, argument in ipairs(list) do
    local key = argument:match("^%-*([%w_-]+)")
    if not of_the_sweep[key] then words[#words + 1] = quote(argument) end
  end
  return table.concat(words, " ")
end

local scripts = {}

scripts.slurm = [[
#!/bin/bash
#SBATCH --job-name=quench-$name
#SBATCH --array=1-$seeds
# Afterwards, for intervals and figures over all seeds: $plain
cd $folder || exit 1
exec $command --index="$SLURM_ARRAY_TASK_ID"
]]

scripts.parallel = [[
#!/bin/sh
# JOBS=n runs n at a time; the last line makes intervals and figures over all seeds.
cd $folder || exit 1
seq $seeds | parallel -q --jobs "${JOBS:-1}" $command --index={} || exit 1
exec $command
]]

--- The job script of --emit. list: the arguments of the recipe, as typed.
function sweep.script(kind, r, list, seeds)
  if r.source == "" then error("--emit needs a recipe in a file: a job has to load it again", 0) end
  local command = command_of(r, list)
  local known = {name = r.name, seeds = tostring(seeds), folder = quote(system.directory()), command = command,
    plain = command:gsub('^".-"', "quench")}
  return (scripts[kind]:gsub("%$(%l+)", known))
end

--- Splits what follows `quench run all` into files and options.
local function split(list)
  local files, rest = {}, {}
  for _, argument in ipairs(list) do
    local into = argument:match("^%-") and rest or argument:find("=", 1, true) and rest or files
    into[#into + 1] = argument
  end
  return files, rest
end

--- Runs one recipe of all. Returns its state and why; raises only an interruption, which ends them all.
local function attempt(name, rest, scale)
  local recipe = require "quench.recipe"
  local good, message = pcall(function()
    local r = recipe.load(name)
    if scale and not require("quench.recipe.runner").scale_for(r, scale) then return "no scale " .. scale end
    return select(2, recipe.run(r, rest)) -- "busy" or nothing
  end)
  collectgarbage() -- the tensors of one recipe are not there while the next runs
  if good then return message == "busy" and "busy" or message and "skipped" or "ok", message ~= "busy" and message or nil end
  progress.clear()
  message = tostring(message)
  if message:find("another process is working in", 1, true) then return "busy", message:match("in (%S+);") end
  if message:find("interrupted", 1, true) then error(message, 0) end
  io.stderr:write("quench: ", name, ": ", message, "\n")
  return "failed", message:match("[^\n]*")
end

local function print_summary(rows)
  local widest, count = 4, {ok = 0, failed = 0, skipped = 0, busy = 0}
  for _, row in ipairs(rows) do widest, count[row.state] = math.max(widest, #row.name), count[row.state] + 1 end
  io.write "\nall recipes\n"
  for _, row in ipairs(rows) do
    io.write(("  %-" .. widest .. "s  %-7s %6.0f s%s\n"):format(row.name, row.state, row.seconds, row.reason and "  " .. row.reason or ""))
  end
  io.write(("%d ok, %d failed, %d skipped%s\n"):format(count.ok, count.failed, count.skipped,
    count.busy > 0 and (", %d in work elsewhere"):format(count.busy) or ""))
  return count
end

--- quench run all [FILE ...] [--scale=...]: each recipe of the program, or each file. One without
-- the scale is skipped, and so is one that another process has in work. Returns the exit status: 1 if any
-- failed or none ran.
function sweep.all(list)
  local runner, arguments = require "quench.recipe.runner", require "quench.recipe.arguments"
  local files, rest = split(list)
  local o = runner.flags(arguments.parse(rest, runner.flags))
  if o.help then return require("quench.recipe.command").help_all() end
  if o.emit then error("--emit prints the script of one recipe: quench run NAME --emit=" .. o.emit, 0) end
  local rows = {}
  for i, name in ipairs(#files > 0 and files or require("quench.recipe").names()) do
    local started = system.clock()
    local state, reason = attempt(name, rest, o.scale)
    rows[i] = {name = name, state = state, reason = reason, seconds = system.clock() - started}
  end
  local count = print_summary(rows)
  return (count.failed > 0 or count.ok + count.busy == 0) and 1 or 0
end

return sweep

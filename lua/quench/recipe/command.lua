--- The commands of recipes: quench run, list, new, and what --help prints.

local system = require "quench.c.system"
local help = require "quench.help"
local machine = require "quench.c.machine"
local report = require "quench.recipe.report"
local runner = require "quench.recipe.runner"

local command = {}

--- What quench run NAME --help shows.
function command.help(r)
  io.write(r.name, ": ", r.doc, "\n\nusage: quench run ", r.path or r.name, " [--parameter=value ...]\n\nparameters:\n")
  io.write(help.options(r.spec, (machine.terminal_size(1))), "\n")
  io.write "\noptions:\n"
  io.write(help.options(runner.flags, (machine.terminal_size(1))), "\n")
  if next(r.scales) then
    io.write "\nscales:\n"
    for _, scale in ipairs(runner.scales(r)) do
      io.write(("  %-16s %s\n"):format(scale, report.arguments(r, r.spec(r.scales[scale]))))
    end
  end
  for _, c in ipairs(r.claims) do io.write(("\nclaim %s: %s\n"):format(c.id, c.text)) end
end

--- What quench run all --help shows.
function command.help_all()
  io.write("all: every recipe of `quench list`, or every FILE, one after another; a failure does not stop the rest\n\n",
    "usage: quench run all [FILE ...] [--option=value ...]\n\noptions:\n")
  io.write(help.options(runner.flags, (machine.terminal_size(1))), "\n")
end

--- quench run NAME ..., quench run all ... Returns an exit status, or nothing.
function command.main(list)
  local name = table.remove(list, 1)
  if not name or name:sub(1, 2) == "--" then error("which recipe? quench run NAME [--key=value ...]; quench list shows them", 0) end
  if name == "all" then return require("quench.recipe.sweep").all(list) end
  local recipe = require "quench.recipe"
  recipe.run(recipe.load(name), list)
end

--- quench list
function command.list()
  local recipe = require "quench.recipe"
  for _, name in ipairs(recipe.names()) do
    local r = recipe.load(name)
    io.write(("%-16s %s\n"):format(name, r.doc:gsub("%s+", " ")))
    if next(r.scales) then io.write((" "):rep(17), "scales: ", table.concat(runner.scales(r), ", "), "\n") end
  end
end

local skeleton = [[
-- %s: which question does this recipe answer?
-- quench run %s.lua --help shows its parameters.
local q = require "quench"

return recipe{
  name = "%s",
  doc = "Which question does this recipe answer?",
  params = { -- {name, type, default=, min=, max=, choices=, doc=}
    {"steps", "integer", default = 100, min = 1, doc = "points to draw"},
    {"noise", "number", default = 0.1, min = 0, doc = "standard deviation"},
  },
  scales = {smoke = {steps = 10}, tiny = {steps = 100}},

  -- The work: plain numbers, texts and tables come out. ctx.seed is the seed, ctx:once(key, fn)
  -- keeps work that other recipes can use, ctx:log{...} writes log.jsonl, ctx.folder is ours.
  run = function(p, ctx)
    local noise = q.randn(p.steps, q.stream(ctx.seed, "noise")):totable()
    local x, y = {}, {}
    for i = 1, p.steps do x[i], y[i] = i, 1 / i + p.noise * noise[i] end
    return {x = x, y = y}
  end,

  -- Figures from the results; runs has one table a seed.
  figures = {
    decay = function(runs, p)
      return q.plot{title = "1/n and noise of " .. p.noise, x = "n", y = "y", {"points", runs[1].x, runs[1].y}}
    end,
  },

  -- Statements that the results support or not.
  claims = {
    {"C1", "the first value is the largest", above = 0, measure = function(result)
      return result.y[1] - math.max(unpack(result.y, 2))
    end},
  },
}
]]

--- quench new NAME
function command.new(name)
  if not name or not name:match("^[%w_-]+$") then error("quench new NAME: letters, digits, - and _", 0) end
  local path = name .. ".lua"
  if system.exists(path) then error(path .. " exists already", 0) end
  system.write_file(path, skeleton:format(name, name, name))
  io.write("wrote ", path, "; run it with: quench run ", path, "\n")
end

return command

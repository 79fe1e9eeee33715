--- Recipes: experiments as one file each, with typed parameters, cached results, figures and claims.
--
--   return recipe{
--     name = "decay", doc = "Does the quantization error jump when the learning rate decays?",
--     params = {{"steps", "integer", default = 1000, min = 1, doc = "training steps"}},
--     scales = {smoke = {steps = 20}, tiny = {steps = 300}},
--     run = function(p, ctx) return {error = 0.1} end,           -- plain data; ctx: recipe/context.lua
--     figures = {error = function(runs, p) return q.plot{...} end}, -- runs: the results, one a seed
--     claims = {{"C1", "the error is small", measure = function(r) return r.error end, below = 0.2}},
--   }
--
-- A run's folder is named by the hash of the recipe's text, its parameters and Quench's version,
-- so finished work is found again and a changed recipe never shows old results. results.json holds
-- no times: the same recipe gives the same bytes. What depends on the day goes to run.json.

local system = require "quench.c.system"
local options = require "quench.options"
local help = require "quench.help"
local json = require "quench.json"
local progress = require "quench.progress"
local arguments = require "quench.recipe.arguments"
local claims = require "quench.recipe.claims"
local context = require "quench.recipe.context"
local report = require "quench.recipe.report"
local store = require "quench.recipe.store"

local recipe = {}

local fields = options.spec("recipe", {
  {"name", "string", required = true, doc = "as in quench run NAME; letters, digits, - and _"},
  {"doc", "string", required = true, doc = "the question, in a sentence or two"},
  {"params", "list", default = {}, doc = "entries of options.spec: {name, type, default=, min=, max=, choices=, doc=}"},
  {"scales", "table", default = {}, doc = "scale -> {parameter = value}; smoke, tiny, small and paper are usual"},
  {"run", "function", required = true, doc = "function(p, ctx) -> results, plain data"},
  {"figures", "table", default = {}, doc = "name -> function(runs, p) -> plot; runs has the results, one a seed"},
  {"claims", "list", default = {}, doc = "{id, text, measure = function(result, p) -> number, above=, below=}"},
  {"report", "function", doc = "function(runs, p) -> further Markdown for report.md"},
  {"plan", "function", doc = "function(p) -> {flops=, bytes=, note=}: the cost, shown by --list"},
})

local flags = options.spec("quench run", {
  {"scale", "string", doc = "a named set of parameters"},
  {"seeds", "integer", default = 1, min = 1, max = 1000, doc = "runs with this many seeds, from --seed on"},
  {"out", "string", default = "out", doc = "where results go"},
  {"force", "boolean", default = false, doc = "run again even if finished, sub-runs included"},
  {"list", "boolean", default = false, doc = "show what would run, its state and cost"},
  {"profile", "boolean", default = false, doc = "show where the time goes"},
  {"quiet", "boolean", default = false, doc = "no progress"},
  {"help", "boolean", default = false, doc = "this text"},
})

local function declare(_, given)
  local r = fields(given)
  if not r.name:match("^[%w_-]+$") then options.fail("recipe: name must be letters, digits, - and _, got '%s'", r.name) end
  local entries = {}
  for i, entry in ipairs(r.params) do entries[i] = entry end
  entries[#entries + 1] = {"seed", "integer", default = 1, min = 0, doc = "of all random streams"}
  r.spec = options.spec("recipe " .. r.name, entries)
  for scale, values in pairs(r.scales) do
    local good, message = pcall(r.spec, values)
    if not good then options.fail("scale %s of %s", scale, (message:gsub("^.-:%d+: ", ""))) end
  end
  for i, claim in ipairs(r.claims) do r.claims[i] = claims.declare(claim) end
  r.is_recipe, r.source = true, "" -- the loader knows the text: debug information loses a `return recipe{}`, a tail call
  return r
end

local function sorted_keys(t)
  local keys = {}
  for key in pairs(t) do keys[#keys + 1] = key end
  table.sort(keys)
  return keys
end

--- Names of the embedded recipes.
local function embedded_names()
  local names = {}
  for _, path in ipairs(system.embedded()) do names[#names + 1] = path:match("^recipes/([%w_-]+)%.lua$") end
  table.sort(names)
  return names
end

--- The recipe declared by a text. path: what to call it, and how to find it again.
function recipe.from_text(text, path)
  local chunk, message = loadstring(text, "@" .. path)
  if not chunk then error(message, 0) end
  local r = chunk()
  if type(r) ~= "table" or not r.is_recipe then error(("%s does not return a recipe{...}"):format(path), 0) end
  r.source = text
  return r
end

--- q.recipe.load(name): a recipe by its name, or by the path of its file.
function recipe.load(name)
  local text = system.embedded("recipes/" .. name .. ".lua")
  if text then return recipe.from_text(text, "recipes/" .. name .. ".lua") end
  if system.kind(name) == "file" then
    local r = recipe.from_text(system.read_file(name), name)
    r.path = name
    return r
  end
  error(("no recipe '%s'%s; quench list shows them, or give the path of a file"):format(name, options.suggest(name, embedded_names())), 0)
end

--- Defaults, then the scale, then the command line.
local function parameters(r, given, scale)
  local values = {}
  if scale then
    if not r.scales[scale] then
      local names = sorted_keys(r.scales)
      error(("%s has no scale '%s'%s; scales: %s"):format(r.name, scale, options.suggest(scale, names),
        #names > 0 and table.concat(names, ", ") or "none"), 0)
    end
    for key, value in pairs(r.scales[scale]) do values[key] = value end
  end
  for key, value in pairs(given) do values[key] = value end
  return r.spec(values)
end

local function folder_of(r, p, seeds, o)
  local identity = json.encode{version = system.version, recipe = r.source, parameters = p, seeds = seeds}
  return ("%s/%s/%s"):format(o.out, r.name, store.hash(identity))
end

local function new_context(r, p, seeds, folder, o)
  return context.new{recipe = r, params = p, seed = p.seed, seeds = seeds, folder = folder, out = o.out, force = o.force, quiet = o.quiet}
end

local function with_seed(p, seed)
  local out = {}
  for key, value in pairs(p) do out[key] = value end
  out.seed = seed
  return out
end

--- Runs one seed unless its results are there. Returns the content of results.json, the context, and whether it ran.
local function run_seed(r, p, o)
  local folder = folder_of(r, p, 1, o)
  local ctx = new_context(r, p, 1, folder, o)
  local content, fresh = store.once(folder, "results.json", o.force, false, function()
    ctx:log{event = "start", parameters = p, stamp = require("quench.doctor").stamp()}
    local results
    if o.profile then results = require("quench.recipe.profile").call(function(text) io.stderr:write(text) end, r.run, p, ctx)
    else results = r.run(p, ctx) end
    if type(results) ~= "table" then error(("recipe %s: run must return a table of results, got %s"):format(r.name, type(results)), 0) end
    return {recipe = r.name, version = system.version, parameters = p, seeds = {p.seed}, runs = {results}}
  end)
  return content, ctx, fresh
end

--- The results of all seeds, with the context of the folder that holds them together.
local function run_seeds(r, p, o)
  if o.seeds == 1 then return run_seed(r, p, o) end
  local bar = progress{total = o.seeds, label = "seed", quiet = o.quiet}
  local all = {recipe = r.name, version = system.version, parameters = p, seeds = {}, runs = {}}
  for i = 1, o.seeds do
    local seed = p.seed + i - 1
    bar.label = "seed " .. seed
    bar:update(i)
    all.seeds[i], all.runs[i] = seed, run_seed(r, with_seed(p, seed), o).runs[1]
  end
  bar:finish()
  local folder = folder_of(r, p, o.seeds, o)
  local content, fresh = store.once(folder, "results.json", o.force, false, function() return all end)
  return content, new_context(r, p, o.seeds, folder, o), fresh
end

--- Figures, claims and report.md from the results; run.json, written last, says that all are there.
local function present(r, p, content, ctx, started)
  local judged = {}
  for i, claim in ipairs(r.claims) do judged[i] = claims.judge(claim, content.runs, p) end
  for _, name in ipairs(sorted_keys(r.figures)) do ctx:figure(name, r.figures[name](content.runs, p)) end
  local run = {
    recipe = r, params = p, seeds = ctx.seeds, folder = ctx.folder, judged = judged, figures = ctx.figures, notes = ctx.notes,
    seconds = system.clock() - started, stamp = require("quench.doctor").stamp(), extra = r.report and r.report(content.runs, p),
  }
  system.write_file(ctx:path "report.md", report.text(run))
  local record = {
    recipe = r.name, parameters = p, seeds = ctx.seeds, claims = judged, figures = ctx.figures, seconds = run.seconds, stamp = run.stamp,
    finished = os.date("!%Y-%m-%dT%H:%M:%SZ"), results_sha256 = system.sha256(system.read_file(ctx:path "results.json")),
  }
  store.write(ctx:path "run.json", record)
  return record
end

local function print_run(r, ctx, record, cached)
  io.write(("%s  %s%s\n"):format(r.name, ctx.folder, cached and "  (finished " .. record.finished .. "; --force runs it again)" or ""))
  for _, j in ipairs(record.claims) do
    io.write(("  %-4s %-15s %s: %s\n"):format(j.id, j.verdict, j.text, claims.measured(j)))
  end
  for _, figure in ipairs(record.figures) do io.write("  figure ", ctx:path(figure), "\n") end
  io.write("  report ", ctx:path "report.md", "\n")
end

local function state_of(folder)
  if system.exists(folder .. "/run.json") then return "finished" end
  if system.exists(folder .. "/results.json") then return "results, no figures" end
  if system.exists(folder .. "/log.jsonl") then return "begun" end
  return "new"
end

--- The cost as the recipe plans it, against the speed of this machine.
local function print_plan(r, p)
  local plan = r.plan and r.plan(p)
  if not plan then return end
  if plan.flops then
    local rate = require("quench.c.machine").probe_sgemm(1024, 2) * 1e9
    io.write(("  cost   %.3g floating-point operations, about %.3g h here at %.0f GFLOP/s\n"):format(plan.flops,
      plan.flops / rate / 3600, rate / 1e9))
  end
  if plan.bytes then io.write(("  memory %.3g GiB\n"):format(plan.bytes / 2 ^ 30)) end
  if plan.note then io.write("  ", plan.note, "\n") end
end

local function list_runs(r, p, o)
  for i = 1, o.seeds do
    local seeded = with_seed(p, p.seed + i - 1)
    local folder = folder_of(r, seeded, 1, o)
    io.write(("%s  %s  %s %s\n"):format(r.name, folder, report.arguments(r, seeded), "(" .. state_of(folder) .. ")"))
  end
  print_plan(r, p)
end

local function print_help(r)
  io.write(r.name, ": ", r.doc, "\n\nusage: quench run ", r.path or r.name, " [--parameter=value ...]\n\nparameters:\n")
  for _, entry in ipairs(r.spec) do io.write(help.option_line(entry), "\n") end
  io.write "\noptions:\n"
  for _, entry in ipairs(flags) do io.write(help.option_line(entry), "\n") end
  if next(r.scales) then
    io.write "\nscales:\n"
    for _, scale in ipairs(sorted_keys(r.scales)) do
      io.write(("  %-16s %s\n"):format(scale, report.arguments(r, r.spec(r.scales[scale]))))
    end
  end
  for _, c in ipairs(r.claims) do io.write(("\nclaim %s: %s\n"):format(c.id, c.text)) end
end

--- q.recipe.run(recipe, arguments): what `quench run` does, for a loaded recipe and a list of arguments.
-- Returns the record of run.json with the runs' results and the folder.
function recipe.run(r, list)
  if type(r) == "string" then r = recipe.load(r) end
  local given, chosen = arguments.parse(list or {}, r.spec, flags)
  local o = flags(chosen)
  if o.help then return print_help(r) end
  local p = parameters(r, given, o.scale)
  if o.list then return list_runs(r, p, o) end
  local started = system.clock()
  local content, ctx, fresh = run_seeds(r, p, o)
  local cached = not fresh and system.exists(ctx:path "run.json")
  local record = cached and store.read(ctx:path "run.json") or present(r, p, content, ctx, started)
  print_run(r, ctx, record, cached)
  record.folder, record.runs = ctx.folder, content.runs
  return record
end

--- quench run NAME ...
function recipe.main(list)
  local name = table.remove(list, 1)
  if not name or name:sub(1, 2) == "--" then error("which recipe? quench run NAME [--key=value ...]; quench list shows them", 0) end
  recipe.run(recipe.load(name), list)
end

--- quench list
function recipe.list()
  for _, name in ipairs(embedded_names()) do
    local r = recipe.load(name)
    io.write(("%-16s %s\n"):format(name, r.doc:gsub("%s+", " ")))
    if next(r.scales) then io.write((" "):rep(17), "scales: ", table.concat(sorted_keys(r.scales), ", "), "\n") end
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
    local noise = q.randn(p.steps, {seed = ctx.seed}):totable()
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
function recipe.new(name)
  if not name or not name:match("^[%w_-]+$") then error("quench new NAME: letters, digits, - and _", 0) end
  local path = name .. ".lua"
  if system.exists(path) then error(path .. " exists already", 0) end
  system.write_file(path, skeleton:format(name, name, name))
  io.write("wrote ", path, "; run it with: quench run ", path, "\n")
end

help.add{"q.recipe", recipe, "recipe{name=, doc=, run=, ...} -> recipe",
  "Declares an experiment: typed parameters, cached results, figures, claims.", options = fields,
  text = [[
A recipe file ends with `return recipe{...}`; `quench run FILE` or `quench FILE` runs it.
Every recipe has the parameter seed. Results, figures and report.md go to out/<name>/<hash>/.]],
  example = [[
return recipe{
  name = "dice", doc = "Is the mean of two dice seven?",
  params = {{"throws", "integer", default = 1000, min = 1, doc = "how often"}},
  run = function(p) return {mean = q.rand(p.throws, 2):mul(6):floor():add(1):sum(2):mean():item()} end,
  claims = {{"C1", "the mean is seven", measure = function(r) return r.mean end, above = 6.5, below = 7.5}},
}]], see = {"ctx:once", "ctx:figure", "q.progress"}}
help.add{"q.recipe.run", recipe.run, "q.recipe.run(recipe, arguments) -> record",
  "Runs a recipe (or one by name) with a list of arguments as on the command line.", options = flags,
  returns = "what run.json holds (claims, figures, parameters), with the results in .runs and the folder",
  example = [[local record = q.recipe.run("decay", {"--scale=tiny", "--seeds=3"})]]}
help.add{"q.recipe.load", recipe.load, "q.recipe.load(name) -> recipe", "A recipe by its name, or by the path of its file."}
help.add{"q.recipe.from_text", recipe.from_text, "q.recipe.from_text(text, path) -> recipe",
  "The recipe that a text declares; path names it."}
help.add{"q.recipe.main", recipe.main, "q.recipe.main(arguments)", "The command quench run."}
help.add{"q.recipe.list", recipe.list, "q.recipe.list()", "Prints the recipes inside the program."}
help.add{"q.recipe.new", recipe.new, "q.recipe.new(name)", "Writes a commented recipe to start from."}

return setmetatable(recipe, {__call = declare})

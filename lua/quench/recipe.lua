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
local arguments = require "quench.recipe.arguments"
local claims = require "quench.recipe.claims"
local runner = require "quench.recipe.runner"

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

--- q.recipe.names(): the recipes inside the program.
function recipe.names()
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
  error(("no recipe '%s'%s; quench list shows them, or give the path of a file"):format(name, options.suggest(name, recipe.names())), 0)
end

--- q.recipe.run(recipe, arguments): what `quench run` does, for a loaded recipe and a list of arguments.
function recipe.run(r, list)
  if type(r) == "string" then r = recipe.load(r) end
  local given, chosen = arguments.parse(list or {}, r.spec, runner.flags)
  local o = runner.flags(chosen)
  if o.help then return require("quench.recipe.command").help(r) end
  local p = runner.parameters(r, given, o.scale)
  if o.emit then return io.write(require("quench.recipe.sweep").script(o.emit, r, list, o.seeds)) end
  return runner.perform(r, p, o)
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
  "Runs a recipe (or one by name) with a list of arguments as on the command line.", options = runner.flags,
  returns = "what run.json holds (claims, figures, parameters), with the results in .runs and the folder",
  example = [[local record = q.recipe.run("decay", {"--scale=tiny", "--seeds=3"})]]}
help.add{"q.recipe.load", recipe.load, "q.recipe.load(name) -> recipe", "A recipe by its name, or by the path of its file."}
help.add{"q.recipe.from_text", recipe.from_text, "q.recipe.from_text(text, path) -> recipe",
  "The recipe that a text declares; path names it."}
help.add{"q.recipe.names", recipe.names, "q.recipe.names() -> list", "Names of the recipes inside the program."}

return setmetatable(recipe, {__call = declare})

--- The context: what a recipe's run(p, ctx) gets besides its parameters.
--
--   ctx.seed, ctx.folder      the seed; where checkpoints and other files of this run go
--   ctx:once(key, fn)         work shared between recipes: fn(folder) runs once for a key
--   ctx:log{...}              a line in log.jsonl
--   ctx:progress{...}         a progress line (q.progress)
--   ctx:note(text, ...)       a line on stderr and in report.md
--   ctx:figure(name, plot)    saves a plot with the recipe inside it

local system = require "quench.c.system"
local help = require "quench.help"
local json = require "quench.json"
local progress = require "quench.progress"
local store = require "quench.recipe.store"

local Context = {}
Context.__index = Context

--- The path of a file in the run's folder.
function Context:path(name) return self.folder .. "/" .. name end

--- One object a line, appended and flushed. Times are seconds since the run (or its resumption) began.
function Context:log(record)
  local out = {time = math.floor((system.clock() - self.started) * 1000) / 1000}
  for key, value in pairs(record) do out[key] = value end
  system.append_file(self:path "log.jsonl", json.encode(out) .. "\n")
end

function Context:progress(options)
  local o = {quiet = self.quiet}
  for key, value in pairs(options) do o[key] = value end
  return progress(o)
end

function Context:note(format, ...)
  local text = select("#", ...) > 0 and format:format(...) or format
  self.notes[#self.notes + 1] = text
  if not self.quiet then progress.message("%s", text) end
end

--- Runs fn(folder) once for a key (a table of plain values, or a text) and gives its result; the next
-- caller with this key, in this recipe or another, gets the stored one. Returns result, folder.
function Context:once(key, fn)
  local text = json.encode{version = system.version, key = key}
  local folder = ("%s/shared/%s"):format(self.out, store.hash(text))
  local result = store.once(folder, "result.json", self.force, true, function(path)
    system.write_file(path .. "/key.json", text .. "\n")
    self:log{event = "work", folder = "../../shared/" .. store.hash(text)} -- quench watch goes there
    return fn(path)
  end)
  return result, folder
end

--- What a figure carries in its text chunks: enough to make it again.
function Context:texts(title)
  return {
    Software = "Quench " .. system.version, Title = title,
    ["quench:recipe"] = self.recipe.name, ["quench:source"] = self.recipe.source,
    ["quench:parameters"] = json.encode(self.params), ["quench:seeds"] = tostring(self.seeds),
    ["quench:figure"] = title, ["quench:stamp"] = json.encode(require("quench.doctor").stamp()),
  }
end

--- Saves a plot as <name>.png in the run's folder. Returns the path.
function Context:figure(name, plot)
  local path = self:path(name .. ".png")
  plot:save(path, {text = self:texts(name)})
  self.figures[#self.figures + 1] = name .. ".png"
  return path
end

help.add{"ctx:once", Context.once, "ctx:once(key, fn) -> result, folder",
  "Runs fn(folder) once for a key and stores its result where all recipes find it.",
  text = [[
The key is a table of plain values that defines the work completely (model, data, steps, seed, ...);
the result must be plain data too (it is kept as JSON). Files such as checkpoints go into the folder.]],
  example = [[
local base, folder = ctx:once({model = p.width, steps = 1000, seed = ctx.seed}, function(folder)
  local run = q.train{model = model, data = data, steps = 1000, checkpoint = folder}
  return {loss = run.loss}
end)]], see = {"q.recipe"}}
help.add{"ctx:figure", Context.figure, "ctx:figure(name, plot) -> path",
  "Saves a plot in the run's folder, with the recipe, its parameters and the machine in its text chunks.", see = {"q.recipe", "q.plot"}}
help.add{"ctx:log", Context.log, "ctx:log(record)", "Appends one line to log.jsonl in the run's folder."}
help.add{"ctx:note", Context.note, "ctx:note(format, ...)", "A line on stderr and in report.md."}
help.add{"ctx:progress", Context.progress, "ctx:progress(options) -> bar", "A progress line, silent under --quiet.", see = {"q.progress"}}
help.add{"ctx:path", Context.path, "ctx:path(name) -> path", "The path of a file in the run's folder."}

local context = {}

--- A new context; fields: recipe, params, seed, seeds, folder, out, force, quiet.
function context.new(fields)
  fields.notes, fields.figures, fields.started = {}, {}, system.clock()
  return setmetatable(fields, Context)
end

return context

--- require "quench": the language of Quench, one table.
-- Modules load when first used, so that start-up stays short.

local q = {}

local modules = {
  -- one line each, in order of the alphabet
  average = "quench.average",
  curvature = "quench.curvature",
  convert = "quench.convert",
  data = "quench.data",
  disk = "quench.disk",
  eval = "quench.eval",
  fit = "quench.fit",
  help = "quench.help",
  json = "quench.json",
  lab = "quench.lab",
  linalg = "quench.linalg",
  metrics = "quench.metrics",
  models = "quench.models",
  nn = "quench.nn",
  optim = "quench.optim",
  options = "quench.options",
  plot = "quench.plots.plot",
  profile = "quench.profile",
  progress = "quench.progress",
  quant = "quench.quant",
  recipe = "quench.recipe",
  schedule = "quench.schedule",
  sweeps = "quench.sweeps",
  tokenizer = "quench.tokenizer",
  train = "quench.train",
  trajectory = "quench.trajectory",
}

q.system = require "quench.c.system"
q.system.embedded = __embedded
__embedded = nil

for name, value in pairs(require "quench.c.tensor") do q[name] = value end
for name, value in pairs(require "quench.tensors") do q[name] = value end
for name, value in pairs(require "quench.files") do q[name] = value end
q["function"] = q.custom -- q["function"] where the language wants it so; q.custom reads better

return setmetatable(q, {
  modules = modules, -- for help and completion
  __index = function(_, name)
    local path = modules[name]
    if not path then return nil end
    local value = require(path)
    rawset(q, name, value)
    return value
  end,
})

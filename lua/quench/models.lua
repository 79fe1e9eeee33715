--- models.lua - language models: q.models.new(family, config), load, and what all families share.
--
-- A family is one file in models/: it declares its configuration, creates its parameters under
-- the names of the Hugging Face checkpoint, and computes embed, block and head from ops:
--   config(given) -> c                checked and completed; spec, sizes, architectures, model_type beside it
--   layers(c)                         number of blocks
--   input(m, c), layer(m, c, i) -> block, output(m, c)    declare the parameters
--   embed(m, ids), block(m, i, h), norm(m, h), head(m, h) compute; m.blocks[i] is what layer made
-- The rest (loss, hidden states, cloning) is in models/model.lua and models/files.lua.

local q = require "quench"
local options = require "quench.options"
local Model = require "quench.models.model"
local help = require "quench.help"

local models = {}

--- The families that can be made, by name: a new one is one file and one line.
models.families = {
  ant = "quench.models.ant",
  apertus = "quench.models.apertus",
  gpt2 = "quench.models.gpt2",
  gpt_neox = "quench.models.gpt_neox",
  llama = "quench.models.llama",
  mamba = "quench.models.mamba",
  mamba2 = "quench.models.mamba2",
  mixtral = "quench.models.mixtral",
  olmo = "quench.models.olmo",
  olmo2 = "quench.models.olmo2",
  olmo3 = "quench.models.olmo3",
  olmoe = "quench.models.olmoe",
  opensci = "quench.models.opensci",
  plainlm = "quench.models.plainlm",
  qwen3 = "quench.models.qwen3",
  smollm3 = "quench.models.smollm3",
}

--- The names of the families, sorted.
function models.names()
  local names = {}
  for n in pairs(models.families) do names[#names + 1] = n end
  table.sort(names)
  return names
end

--- The names of a family's sizes, sorted.
local function sizes_of(family)
  local names = {}
  for n in pairs(family.sizes or {}) do names[#names + 1] = n end
  table.sort(names)
  return names
end

--- The help of a family, once it is loaded.
local function describe(name, family)
  local sizes = table.concat(sizes_of(family), ", ")
  help.add{"q.models." .. name, family, ("q.models.new(%q, {...}) -> model"):format(name), family.doc, options = family.spec,
    text = ("Classes in config.json: %s.%s"):format(table.concat(family.architectures, ", "),
      sizes ~= "" and " Sizes: " .. sizes .. "." or ""),
    source = family.source, see = {"q.models.new"}}
end

--- The family of a name: its spec, sizes and functions.
function models.family(name)
  local path = models.families[name]
  if not path then
    local names = models.names()
    options.fail("models: unknown family '%s'%s; families: %s", tostring(name), options.suggest(name, names), table.concat(names, ", "))
  end
  local family = require(path)
  if not help.find("q.models." .. name) then describe(name, family) end
  return family
end

-- ---- making ---------------------------------------------------------------

--- A model of a family. source(record, shape) -> tensor gives the parameters instead of chance; frozen: no gradients;
-- lazy: nothing is made but by open.
function models.build(name, config, how)
  local family = models.family(name)
  local given = {}
  for key, value in pairs(config or {}) do given[key] = value end
  local seed, dtype, size = given.seed or 0, given.dtype or "f32", given.size
  given.seed, given.dtype, given.size = nil, nil, nil
  if size ~= nil then
    local sizes, names = family.sizes or {}, sizes_of(family)
    if not sizes[size] then
      options.fail("models.%s: no size '%s'%s; sizes: %s", name, tostring(size), options.suggest(tostring(size), names),
        table.concat(names, ", "))
    end
    for key, value in pairs(sizes[size]) do
      if given[key] == nil then given[key] = value end
    end
  end
  local self = setmetatable({
    family = name, class = family, config = family.config(given), seed = seed, dtype = dtype,
    records = {}, linear_records = {}, constants = {}, blocks = {}, source = how and how.source, frozen = how and how.frozen,
    lazy = how and how.lazy or false, opened = {}, raw = how and how.raw,
  }, Model)
  if self.lazy then return self end
  self:make("input")
  for i = 1, self:layers() do self:make(i) end
  self:make("output")
  self.source = nil
  return self
end

--- The parameters that a configuration has, without making them: a list of {name=, shape=, numel=, layer=, role=}.
function models.shapes(name, config)
  local stand_in, list = q.zeros(0), {}
  local function source(record, shape)
    if record.constant then return record.constant end
    local numel = 1
    for _, n in ipairs(shape) do numel = numel * n end
    list[#list + 1] = {name = record.name, shape = shape, numel = numel, layer = record.layer, role = record.role}
    return stand_in
  end
  local m = models.build(name, config, {source = source, frozen = true})
  stand_in:free()
  return list, m.config
end

--- q.models.new(family, config): a freshly initialised model.
-- Besides the family's own keys: seed (0), dtype ("f32" or "f64") and size, the name of one of the family's sizes.
function models.new(name, config) return models.build(name, config) end

help.add{"q.models.new", models.new, "new(family, config) -> model", "A language model with fresh parameters.",
  text = [[
config: the family's own keys, named as in config.json (help "q.models.llama" lists them), and
  size    the name of one of the family's sizes; other keys win over it
  seed    of the initial values (0)
  dtype   "f32" or "f64" ("f32")
A model has forward(ids) -> logits, loss(ids, targets?), hidden(ids), embed, block, norm, head, parameters(), named_parameters(),
linears(), count(), clone(dtype?), assign(tensors), save(folder).]],
  shapes = "ids (B, T) i32 from 0; logits (B, T, vocab_size); targets (B, T), negative ones are not counted",
  errors = "an unknown family, size or key, with the nearest name; sizes that do not divide",
  example = [[
local m = q.models.new("gpt_neox", {size = "pythia-14m", vocab_size = 256})
print(m, m:loss(q.tensor({{1, 2, 3, 4}}, "i32")):item())]], see = {"q.models.load", "q.models.names"}}
help.add{"q.models.shapes", models.shapes, "shapes(family, config) -> list, config",
  "The parameters of a configuration, {name=, shape=, numel=, layer=, role=}, without the memory for them.",
  example = 'for _, p in ipairs(q.models.shapes("llama", {size = "amber-7b"})) do print(p.name, p.numel) end', see = {"q.models.new"}}
help.add{"q.models.names", models.names, "names() -> list", "The names of the families.",
  example = "print(table.concat(q.models.names(), ' '))", see = {"q.models.new"}}

local files = require("quench.models.files")(models)
models.load, models.config, models.files = files.load, files.config, files
Model.save = files.save
help.add{"q.models.build", models.build, "build(name, config, how?) -> model",
  "A model of a family whose parameters come from how.source(record, shape) instead of chance.", see = {"q.models.new"}}
help.add{"q.models.family", models.family, "family(name) -> table", "The family of a name: its spec, sizes and functions.",
  see = {"q.models.names"}}

return models

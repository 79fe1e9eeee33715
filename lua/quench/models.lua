--- models.lua - language models: q.models.new(family, config), load, and what all families share.
--
-- A family is one file in models/: it declares its configuration, creates its parameters under
-- the names of the Hugging Face checkpoint, and computes embed, block and head from ops. The
-- rest (loss, hidden states, cloning, files) is here.

local q = require "quench"
local options = require "quench.options"
local nn = require "quench.nn"

local models = {}

local Model = {}
Model.__index = Model
models.Model = Model

--- The families that can be made, by name: a new one is one file and one line.
models.families = {gpt_neox = "quench.models.gpt_neox"}

local function family_of(name)
  local path = models.families[name]
  if not path then
    local names = {}
    for n in pairs(models.families) do names[#names + 1] = n end
    table.sort(names)
    options.fail("models: unknown family '%s'%s; families: %s", tostring(name), options.suggest(name, names), table.concat(names, ", "))
  end
  return require(path)
end

-- ---- making ---------------------------------------------------------------

--- Declares a parameter. Drawn from a stream of its own ("init/<name>"), so that adding a
-- parameter does not change the others.
-- how: {std=} normal, or {value=} constant; role: input, hidden, vector or output; decay: boolean.
function Model:add(name, shape, how)
  local t = q.zeros(shape, self.dtype)
  if how.value then t:fill_(how.value) end
  if how.std then t:normal_(q.stream(self.seed, "init/" .. name), 0, how.std) end
  local record = {name = name, tensor = t:requires_grad(), role = how.role or "vector", decay = how.decay or false, layer = how.layer}
  self.records[#self.records + 1] = record
  self.by_name[name] = record
  return t
end

--- Declares a linear layer (out, in) with an optional bias; returns its record for nn.linear.
function Model:add_linear(name, layer, rows, columns, how)
  how = how or {}
  local record = {name = name, layer = layer, group = how.group or name, role = how.role or "hidden"}
  record.weight = self:add(name .. ".weight", {rows, columns}, {std = how.std or 0.02, role = record.role, decay = true, layer = layer})
  if how.bias then record.bias = self:add(name .. ".bias", {rows}, {value = 0, layer = layer}) end
  self.linear_records[#self.linear_records + 1] = record
  return record
end

--- q.models.new(family, config): a freshly initialised model.
-- Besides the family's own keys: seed (0) and dtype ("f32" or "f64").
function models.new(name, config)
  local family = family_of(name)
  local given = {}
  for key, value in pairs(config or {}) do given[key] = value end
  local seed, dtype = given.seed or 0, given.dtype or "f32"
  given.seed, given.dtype = nil, nil
  local self = setmetatable({
    family = name, class = family, config = family.config(given), seed = seed, dtype = dtype,
    records = {}, by_name = {}, linear_records = {}, tables = {},
  }, Model)
  family.build(self, self.config)
  return self
end

-- ---- running --------------------------------------------------------------

--- Number of blocks.
function Model:layers() return self.class.layers(self.config) end

--- Token ids (B, T) to the input of the first block (B, T, D).
function Model:embed(ids) return self.class.embed(self, ids) end

--- Block i (1-based) on h (B, T, D).
function Model:block(i, h) return self.class.block(self, i, h) end

--- The last hidden state after the final norm (B, T, D).
function Model:norm(h) return self.class.norm(self, h) end

--- The final norm and the output projection: h (B, T, D) to logits (B, T, V).
function Model:head(h) return self.class.head(self, self:norm(h)) end

--- Logits (B, T, V) of token ids (B, T).
function Model:forward(ids)
  local h = self:embed(ids)
  for i = 1, self:layers() do h = self:block(i, h) end
  return self:head(h)
end

--- Mean cross-entropy in nats. Without targets: of the next token, T - 1 predictions a row.
-- Targets (B, T) < 0 are not counted. Only the graph keeps the intermediates.
function Model:loss(ids, targets)
  return q.scope(function()
    if not targets then
      local time = ids:size(2)
      ids, targets = ids:narrow(2, 1, time - 1), ids:narrow(2, 2, time - 1)
    end
    return nn.cross_entropy(self:forward(ids), targets)
  end)
end

--- Hidden states: the input of each block, then the normed output, each (B, T, D).
function Model:hidden(ids)
  local states = {self:embed(ids)}
  for i = 1, self:layers() do states[i + 1] = self:block(i, states[i]) end
  states[#states] = self:norm(states[#states])
  return states
end

--- Cosines and sines for at least `time` positions, kept between calls.
function Model:rotary(key, time, rotated, theta, frequencies)
  local t = self.tables[key]
  if not t or t.cos:size(1) < time then
    local cos, sin = nn.rotary_table(math.max(time, 64), rotated, theta, self.dtype, frequencies)
    t = {cos = q.keep(cos), sin = q.keep(sin)}
    self.tables[key] = t
  end
  return t.cos, t.sin
end

--- Drops activations with probability p while training (q.train gives the stream), else x itself.
function Model:dropout(x, p)
  if not self.dropout_stream or p == 0 then return x end
  return nn.dropout(x, p, self.dropout_stream)
end

-- ---- parameters -----------------------------------------------------------

--- The parameters as an ordered list of tensors.
function Model:parameters()
  local list = {}
  for i, r in ipairs(self.records) do list[i] = r.tensor end
  return list
end

--- The parameters as an ordered list of {name, tensor, name=, tensor=, role=, decay=, layer=}; names as in the checkpoint.
function Model:named_parameters()
  local list = {}
  for i, r in ipairs(self.records) do
    list[i] = {r.name, r.tensor, name = r.name, tensor = r.tensor, role = r.role, decay = r.decay, layer = r.layer}
  end
  return list
end

--- The linear layers in order of execution: records {name=, weight=, bias=, layer=, group=, role=}. The head is not among
-- them unless with_head: it is not quantized by default.
function Model:linears(with_head)
  local list = {}
  for _, r in ipairs(self.linear_records) do
    if with_head or r.role ~= "output" then list[#list + 1] = r end
  end
  return list
end

--- Number of parameters, and of those outside the embeddings and the head.
function Model:count()
  local total, inner = 0, 0
  for _, r in ipairs(self.records) do
    total = total + r.tensor:numel()
    if r.role ~= "input" and r.role ~= "output" then inner = inner + r.tensor:numel() end
  end
  return total, inner
end

--- Copies the values of tensors by name into the parameters; missing or odd ones raise.
function Model:assign(tensors)
  for _, r in ipairs(self.records) do
    local t = tensors[r.name]
    if not t then options.fail("model: tensor '%s' is missing", r.name) end
    if table.concat(t:shape(), ",") ~= table.concat(r.tensor:shape(), ",") then
      options.fail("model: tensor '%s' has shape (%s), the configuration asks for (%s)", r.name, table.concat(t:shape(), ", "),
        table.concat(r.tensor:shape(), ", "))
    end
    q.no_grad(r.tensor.copy_, r.tensor, t)
  end
  return self
end

--- The parameters by name: name -> tensor (the live ones, not copies).
function Model:tensors()
  local out = {}
  for _, r in ipairs(self.records) do out[r.name] = r.tensor end
  return out
end

--- A model with the same configuration and copies of the parameters.
function Model:clone()
  local config = {seed = self.seed, dtype = self.dtype}
  for key, value in pairs(self.config) do config[key] = value end
  local twin = models.new(self.family, config)
  return twin:assign(self:tensors())
end

function Model:__tostring()
  local total, inner = self:count()
  return ("%s, %d blocks, %.3g M parameters (%.3g M without embeddings), %s"):format(self.family, self:layers(), total / 1e6, inner / 1e6, self.dtype)
end

return models

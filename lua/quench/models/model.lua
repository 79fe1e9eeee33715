--- model.lua - what a model can do, whatever its family: declare parameters, run, read parts of itself when needed.
--
-- A family (models/<name>.lua) gives the parts; this gives the rest. Made by quench.models, which builds models and
-- knows the families.

local q = require "quench"
local options = require "quench.options"
local nn = require "quench.nn"

local Model = {}
Model.__index = Model

-- ---- declaring, for families ----------------------------------------------

--- Fills a fresh parameter. how: {std=} normal, {value=} constant, or {fill = function(tensor, stream)}. Drawn from a
-- stream of its own ("init/<name>"), so that adding a parameter does not change the others.
local function initial(m, name, shape, how)
  local t = q.zeros(shape, m.dtype)
  local stream = q.stream(m.seed, "init/" .. name)
  if how.value then t:fill_(how.value)
  elseif how.std then t:normal_(stream, 0, how.std)
  elseif how.fill then how.fill(t, stream) end
  return t
end

--- Declares a parameter. It is fresh, or comes from the model's source (a file, another model).
-- how: as for initial; role: input, hidden, vector or output; decay: boolean; layer; transposed: the file has (in, out).
function Model:add(name, shape, how)
  local record = {name = name, role = how.role or "vector", decay = how.decay or false, layer = how.layer, transposed = how.transposed}
  record.part = self.part
  record.tensor = self.source and self.source(record, shape) or initial(self, name, shape, how)
  if self.lazy then q.keep(record.tensor) end -- close frees it, not the scope that happens to be open
  if not self.frozen then record.tensor:requires_grad() end
  self.records[#self.records + 1] = record
  return record.tensor
end

--- Declares a linear layer (out, in) with an optional bias; returns its record for nn.linear.
-- how: std, bias, bias_fill, group (linears with one input share it), role, transposed, quantize (false: left alone).
function Model:add_linear(name, layer, rows, columns, how)
  how = how or {}
  local record = {
    name = name, layer = layer, group = how.group or name, role = how.role or "hidden", quantize = how.quantize, part = self.part,
  }
  record.weight = self:add(name .. ".weight", {rows, columns},
    {std = how.std or 0.02, role = record.role, decay = true, layer = layer, transposed = how.transposed})
  if how.bias then
    record.bias = self:add(name .. ".bias", {rows}, {value = not how.bias_fill and 0 or nil, fill = how.bias_fill, layer = layer})
  end
  self.linear_records[#self.linear_records + 1] = record
  return record
end

--- A number that the checkpoint keeps as a tensor but that is not trained.
function Model:constant(name, value)
  if self.source then value = self.source({name = name, constant = value}) end
  self.constants[#self.constants + 1] = {name = name, value = value, part = self.part}
  return value
end

-- ---- running --------------------------------------------------------------

--- Number of blocks.
function Model:layers() return self.class.layers(self.config) end

--- Token ids (B, T) to the input of the first block (B, T, D).
function Model:embed(ids)
  self:open("input")
  return self.class.embed(self, ids)
end

--- Block i (1-based) on h (B, T, D). A lazy model's block is read for this call alone unless it is open.
function Model:block(i, h)
  if not self.lazy or self.opened[i] then return self.class.block(self, i, h) end
  self:open(i)
  local y = self.class.block(self, i, h)
  self:close(i)
  return y
end

--- The last hidden state after the final norm (B, T, D).
function Model:norm(h)
  self:open("output")
  return self.class.norm(self, h)
end

--- The final norm and the output projection: h (B, T, D) to logits (B, T, V).
function Model:head(h) return self.class.head(self, self:norm(h)) end

--- Logits (B, T, V) of token ids (B, T).
function Model:forward(ids)
  local h = self:embed(ids)
  local recomputed = self.recompute and not self.lazy and q.is_recording() and require("quench.models.recompute")
  for i = 1, self:layers() do h = recomputed and recomputed(self, i, h) or self:block(i, h) end
  return self:head(h)
end

local function cross_entropy(self, ids, targets)
  if not targets then
    local time = ids:size(2)
    ids, targets = ids:narrow(2, 1, time - 1), ids:narrow(2, 2, time - 1)
  end
  return nn.cross_entropy(self:forward(ids), targets)
end

--- Mean cross-entropy in nats. Without targets: of the next token, T - 1 predictions a row.
-- Targets (B, T) < 0 are not counted. Only the graph keeps the intermediates.
function Model:loss(ids, targets) return q.scope(cross_entropy, self, ids, targets) end

--- What training minimises: the loss, and what the family adds (models/moe.lua: the imbalance of the experts' load).
function Model:training_loss(ids, targets)
  return q.scope(self.class.training_loss or cross_entropy, self, ids, targets, cross_entropy)
end

--- Hidden states: the input of each block, then the normed output, each (B, T, D).
function Model:hidden(ids)
  local states = {self:embed(ids)}
  for i = 1, self:layers() do states[i + 1] = self:block(i, states[i]) end
  states[#states] = self:norm(states[#states])
  return states
end

--- Cosines and sines (time or more, rotated/2) of a rope (models/rope.lua), kept with it between calls.
function Model:rotary(rope, time)
  if not rope.cos or rope.cos:size(1) < time then
    local cos, sin = nn.rotary_table(math.max(time, 64), rope.rotated, nil, self.dtype, rope.frequencies)
    if rope.factor ~= 1 then cos, sin = cos * rope.factor, sin * rope.factor end
    rope.cos, rope.sin = q.keep(cos), q.keep(sin)
  end
  return rope.cos, rope.sin
end

--- Drops activations with probability p while training (q.train gives the stream), else x itself.
function Model:dropout(x, p)
  if not self.dropout_stream or p == 0 then return x end
  return nn.dropout(x, p, self.dropout_stream)
end

-- ---- parts of a lazy model ------------------------------------------------

--- Declares the parameters of a part: "input", "output" or the number of a block.
function Model:make(part)
  self.part = part
  if part == "input" then self.class.input(self, self.config)
  elseif part == "output" then self.class.output(self, self.config)
  else self.blocks[part] = self.class.layer(self, self.config, part) end
  self.part = nil
end

--- Reads a part of a lazy model, if it is not there. A tied head needs the embedding.
function Model:open(part)
  if not self.lazy or self.opened[part] then return end
  if part == "output" and self.config.tie_word_embeddings then self:open("input") end
  self:make(part)
  self.opened[part] = true
end

local function without(list, part)
  local rest = {}
  for _, r in ipairs(list) do
    if r.part ~= part then rest[#rest + 1] = r elseif r.tensor then r.tensor:free() end
  end
  return rest
end

--- Gives its memory back.
function Model:close(part)
  if not self.lazy or not self.opened[part] then return end
  self.opened[part], self.blocks[part] = nil, nil
  self.records, self.constants = without(self.records, part), without(self.constants, part)
  self.linear_records = without(self.linear_records, part)
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
    list[i] = {
      r.name, r.tensor, name = r.name, tensor = r.tensor, role = r.role, decay = r.decay, layer = r.layer, transposed = r.transposed,
    }
  end
  return list
end

--- The linear layers in order of execution: records {name=, weight=, bias=, layer=, group=, role=}. The head and the
-- routers of experts are not among them unless with_head: they are not quantized by default.
function Model:linears(with_head)
  local list = {}
  for _, r in ipairs(self.linear_records) do
    if with_head or r.role ~= "output" and r.quantize ~= false then list[#list + 1] = r end
  end
  return list
end

--- Number of parameters, and of those outside the embeddings and the head.
function Model:count()
  local total, inner = 0, 0
  for _, r in ipairs(self.lazy and q.models.shapes(self.family, self.config) or self.records) do
    local n = r.numel or r.tensor:numel()
    total = total + n
    if r.role ~= "input" and r.role ~= "output" then inner = inner + n end
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

--- A model with the same configuration and copies of the parameters, in another dtype if one is given.
function Model:clone(dtype)
  local config = {seed = self.seed, dtype = dtype or self.dtype}
  for key, value in pairs(self.config) do config[key] = value end
  local mine, constants = self:tensors(), {}
  for _, k in ipairs(self.constants) do constants[k.name] = k.value end
  local twin = q.models.build(self.family, config, {raw = self.raw, source = function(record)
    if record.constant then return constants[record.name] end
    local t = mine[record.name]:detach()
    return t:dtype() == config.dtype and t:clone() or t:to(config.dtype)
  end})
  return self.rotations and require("quench.quant.online").install(twin, self.rotations) or twin
end

function Model:__tostring()
  local total, inner = self:count()
  return ("%s, %d blocks, %.3g M parameters (%.3g M without embeddings), %s"):format(self.family, self:layers(), total / 1e6,
    inner / 1e6, self.dtype)
end

return Model

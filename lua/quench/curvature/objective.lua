--- objective.lua - a loss as a function of parameters: what users hand over, made uniform.
--
-- A loss is a closure that returns a scalar tensor, a list of such closures, a function of a batch
-- with batches = {...}, or a model with batches of ids. The objective is the weighted mean over
-- the batches; each batch is evaluated on its own, so that means carry a standard error.

local q = require "quench"
local options = require "quench.options"
local vectors = require "quench.curvature.vectors"

local objective = {}

local Objective = {}
Objective.__index = Objective

objective.options = {
  {"batches", "list", doc = "each is handed to the loss function in turn; the loss is their mean"},
  {"weights", "list", doc = "weights of the batches (default: equal)"},
  {"names", "list", doc = "names of the parameters (default: the model's, or parameter 1, 2, ...)"},
}

--- Whether x is a model, as far as losses go.
function objective.is_model(x) return type(x) == "table" and type(x.loss) == "function" and type(x.parameters) == "function" end

--- One function a batch, each returning what source returns for it.
local function closures(what, source, batches)
  if objective.is_model(source) then
    if not batches then options.fail("%s: a model needs batches = {ids, ...}", what) end
    local model = source
    source = function(batch)
      if type(batch) == "table" then return model:loss(batch[1], batch[2]) end
      return model:loss(batch)
    end
  end
  if batches and #batches == 0 then options.fail("%s: batches is empty", what) end
  if type(source) == "table" then
    if batches then options.fail("%s: give a list of closures or batches, not both", what) end
    if #source == 0 then options.fail("%s: the list of closures is empty", what) end
    return source
  end
  if type(source) ~= "function" then
    options.fail("%s: the loss must be a function, a list of functions or a model, got a %s", what, type(source))
  end
  if not batches then return {source} end
  local list = {}
  for i, batch in ipairs(batches) do list[i] = function() return source(batch) end end
  return list
end

local function normalised(what, weights, n)
  if weights and #weights ~= n then options.fail("%s: %d weights for %d batches", what, #weights, n) end
  local out, sum = {}, 0
  for i = 1, n do
    out[i] = weights and weights[i] or 1
    if type(out[i]) ~= "number" or not (out[i] >= 0) then options.fail("%s: weights[%d] must be a number of at least 0", what, i) end
    sum = sum + out[i]
  end
  if not (sum > 0) then options.fail("%s: the weights sum to 0", what) end
  for i = 1, n do out[i] = out[i] / sum end
  return out
end

--- The names of the parameters, and a model's records of them.
local function describe(self, source, names)
  local record_of, records = {}, {}
  if objective.is_model(source) then
    for _, r in ipairs(source:named_parameters()) do record_of[r.tensor] = r end
    self.records = records
  end
  self.names = {}
  for i, p in ipairs(self.params) do
    local r = record_of[p]
    self.names[i] = names and names[i] or r and r.name or ("parameter %d"):format(i)
    records[i] = r or {}
  end
end

--- A model's batches are token ids, or {inputs, targets}.
local function check_batches(what, batches)
  for i, batch in ipairs(batches) do
    local ids = type(batch) == "table" and batch[1] or batch
    if type(ids) ~= "userdata" or not ids.dtype or ids:dtype() ~= "i32" then
      options.fail("%s: batches[%d] must be token ids (i32) or {inputs, targets}, got %s", what, i,
        type(ids) == "userdata" and ids.dtype and ids:dtype() or "a " .. type(ids))
    end
  end
end

--- The objective of a loss and its parameters (a model's own if nil); `o` has the options above. Names come from the
-- model: the source, or `model` where the source is made from one.
function objective.new(what, source, params, o, model)
  model = model or source
  if objective.is_model(model) then
    params = params or model:parameters()
    check_batches(what, o.batches or {})
  end
  local self = setmetatable({what = what, params = params, layout = vectors.layout(what, params)}, Objective)
  self.closures = closures(what, source, o.batches)
  self.weights = normalised(what, o.weights, #self.closures)
  describe(self, model, o.names)
  return self
end

--- What batch b's closure returns, checked to be a loss.
function Objective:loss(b)
  local loss = self.closures[b]()
  if type(loss) ~= "userdata" or not loss.item then
    options.fail("%s: the loss function must return a tensor with one number, got a %s (batch %d)", self.what, type(loss), b)
  end
  if loss:numel() ~= 1 then
    options.fail("%s: the loss function must return one number, got shape (%s) (batch %d)", self.what, table.concat(loss:shape(), ", "), b)
  end
  return loss
end

--- The losses of the batches (the first n of them if given), numbers, at the parameters as they are.
function Objective:evaluate(n)
  local losses = {}
  for b = 1, n or #self.closures do
    losses[b] = q.scope(function() return q.no_grad(self.loss, self, b):item() end)
  end
  return losses
end

--- The weighted mean of numbers, one a batch.
function Objective:mean(values)
  local sum = 0
  for b, v in ipairs(values) do sum = sum + self.weights[b] * v end
  return sum
end

--- Calls fn(move) where move(x) sets the parameters to their values now plus the flat x. Whatever happens, the values
-- are put back to the bit. (Graphs recorded before cannot be used afterwards.)
function Objective:moving(fn)
  return q.scope(function()
    local home = self.layout:flatten(self.params, "params")
    local function set(x)
      for i, view in ipairs(self.layout:views(x)) do q.no_grad(self.params[i].copy_, self.params[i], view) end
    end
    local ok, result = pcall(fn, function(x) q.scope(function() set(home + x) end) end)
    set(home)
    if not ok then error(result, 0) end
    return result
  end)
end

--- The flat displacement from the parameters to `to`: a list of tensors, or a model with the same names.
function Objective:displacement(to, name)
  return q.scope(function()
    if objective.is_model(to) then
      local tensors, list = to:tensors(), {}
      for i, key in ipairs(self.names) do
        list[i] = tensors[key] or options.fail("%s: %s has no parameter '%s'", self.what, name, key)
      end
      to = list
    end
    return self.layout:flatten(to, name) - self.layout:flatten(self.params, "params")
  end)
end

return objective

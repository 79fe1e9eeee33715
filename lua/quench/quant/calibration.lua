--- calibration.lua - activations that move through a model block by block, and what the linear layers see of them.

local q = require "quench"
local nn = require "quench.nn"
local options = require "quench.options"
local help = require "quench.help"
local system = require "quench.c.system"
local inputs_of = require "quench.quant.inputs"

local M = {public = {"calibrate"}}

--- Batches of ids (b, T) from a tensor (N, T) or (T), or a list of such.
function M.batches(calibration, size)
  local list = {}
  local function add(ids)
    if type(ids) ~= "userdata" or not ids.ndim or ids:ndim() > 2 or ids:ndim() == 0 then
      options.fail("q.quant: calibration must be token ids (N, T), or a list of such")
    end
    if ids:ndim() == 1 then ids = ids:view(1, -1) end
    for i = 1, ids:size(1), size do list[#list + 1] = ids:narrow(1, i, math.min(size, ids:size(1) - i + 1)) end
  end
  if type(calibration) == "table" then
    for _, ids in ipairs(calibration) do add(ids) end
  else
    add(calibration)
  end
  if #list == 0 or list[1]:numel() == 0 then options.fail("q.quant: the calibration set is empty") end
  return list
end

--- A stream of activations: the input (B, T, D) of block 1 for each batch.
function M.start(model, batches)
  local h = {}
  for i, ids in ipairs(batches) do h[i] = model:embed(ids):detach() end
  return h
end

--- Moves a stream through a block.
function M.advance(model, layer, h)
  for i, x in ipairs(h) do
    h[i] = q.scope(function() return model:block(layer, x):detach() end)
    x:free()
    system.check_interrupt()
  end
end

--- Runs block `layer` (nil: the head) on x and gives {record -> input} of the wanted records. Leaves as soon as a
-- record is called whose place in `order` is after `last`.
function M.capture(model, layer, x, wanted, order, last)
  local seen, enough = {}, {}
  local function observe(record, input)
    if (order[record] or 0) > last then error(enough, 0) end
    if not wanted[record] then return end
    input = input:view(-1, input:size(-1))
    seen[record] = seen[record] and q.concat({seen[record], input}, 1) or input
  end
  local ok, message = pcall(nn.watching, observe, function()
    if layer then model:block(layer, x) else model:head(x) end
  end)
  if not ok and message ~= enough then error(message, 0) end
  return seen
end

local Seen = {}
Seen.__index = Seen

local function each_once(self, method)
  local done = {}
  for _, inputs in pairs(self.inputs) do
    if not done[inputs] then inputs[method](inputs) end
    done[inputs] = true
  end
  return self
end

--- Gives the memory of all statistics back; or keeps them beyond the scope they were made in.
function Seen:free() return each_once(self, "free") end
function Seen:keep() return each_once(self, "keep") end

local spec = options.spec("q.quant.calibrate", {
  {"batch", "integer", default = 8, min = 1, doc = "sequences at a time"},
  {"head", "boolean", default = false, doc = "the output head's input too"},
})

--- q.quant.calibrate(model, ids, options) -> statistics of every linear layer's inputs.
function M.calibrate(model, ids, o)
  options.need_model("q.quant.calibrate", model)
  o = spec(o)
  local batches = M.batches(ids, o.batch)
  local by_layer, order, result = {}, {}, setmetatable({inputs = {}}, Seen)
  for _, r in ipairs(model:linears(o.head)) do
    local layer = r.layer or 0
    by_layer[layer] = by_layer[layer] or {}
    table.insert(by_layer[layer], r)
    order[r] = 0
  end
  q.no_grad(function()
    local h = M.start(model, batches)
    for layer = 1, model:layers() + 1 do
      local records, wanted = by_layer[layer <= model:layers() and layer or 0] or {}, {}
      for i, r in ipairs(records) do
        local before = records[i - 1]
        if before and before.group == r.group then
          result.inputs[r.name] = result.inputs[before.name]
        else
          wanted[r] = true
          result.inputs[r.name] = inputs_of.new(r.weight:size(2), r.weight:dtype(), {hessian = true, channels = true})
        end
      end
      for _, x in ipairs(h) do
        q.scope(function()
          for record, input in pairs(M.capture(model, layer <= model:layers() and layer or nil, x, wanted, order, 1)) do
            result.inputs[record.name]:add(input)
          end
        end)
      end
      if layer <= model:layers() then M.advance(model, layer, h) end
    end
    for _, x in ipairs(h) do x:free() end
  end)
  return result
end

help.add{"q.quant.calibrate", M.calibrate, "calibrate(model, ids, options) -> statistics",
  "Second moments and magnitudes of the inputs of every linear layer of the unquantized model, in one pass.",
  options = spec, shapes = "ids (N, T) i32, or a list of such",
  text = "Hand them to q.quant.quantize{inputs = ...} to quantize in many formats, or again after some steps of training,\n"
    .. "without running the calibration text each time.",
  returns = "{inputs = {name = statistics}}, with :free(), and :keep() to take it out of a q.scope", errors = "no ids",
  example = "local seen = q.quant.calibrate(m, ids)\n"
    .. "for bits = 2, 4 do q.quant.quantize(m, {bits = bits, inputs = seen}) end", see = {"q.quant.quantize"}}

return M

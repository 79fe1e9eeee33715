--- packed.lua - quantized models as the bits that are stored.
--
-- In the file NAME.weight becomes NAME.weight.codes (i32 words, code after code, of the (out, in) matrix), .scale, .zero, and
-- where a method has them .extra, .group_index and .channel_scale. config.json's quantization_config (quant_method "quench") says
-- of each such weight its format, its shape, the size of its Hadamard blocks and what its inputs go through. Reading gives the
-- values that were written to the last bit; that is checked when they are written.

local q = require "quench"
local c = require "quench.c.quant"
local json = require "quench.json"
local options = require "quench.options"
local help = require "quench.help"
local activations = require "quench.quant.activations"
local format = require "quench.quant.format"
local online = require "quench.quant.online"

local M = {public = {"save"}}

local PARTS = {"codes", "scale", "zero", "extra", "group_index", "channel_scale"}

--- The weight that parts stand for: Q / channel_scale, out of the Hadamard basis.
local function value_of(parts, f, shape, block)
  local y = c.unpack(parts, f, shape)
  if parts.channel_scale then y = y / parts.channel_scale end
  return block and c.hadamard(y, block, true) or y
end

--- The parts of one weight, as its method reported it; raises where they do not give the weight back.
local function parts_of(w, r)
  if not r.format then options.fail("q.quant.save: the report of %s does not say its format", r.name) end
  local f, y = format.format(r.format), w
  if w:dtype() ~= "f32" then options.fail("q.quant.save: packed files hold weights of f32, %s is %s", r.name, w:dtype()) end
  if r.hadamard then y = c.hadamard(y, r.hadamard) end
  if r.channel_scale then y = y * r.channel_scale end
  local parts = c.pack(y:contiguous(), f, r)
  parts.channel_scale = r.channel_scale
  if (value_of(parts, f, w:shape(), r.hadamard) - w):abs():max():item() ~= 0 then
    options.fail("q.quant.save: the codes of %s do not give its weight back; is the report of this model?", r.name)
  end
  return parts
end

--- The name under which the file has the weight of a linear layer: a tied head has the embedding's.
local function tensor_name(model, record)
  for _, r in ipairs(model.records) do
    if rawequal(r.tensor, record.weight) then return r.name end
  end
end

--- What stands in the file for the weights of report's rows from `first` on: name -> list of {name, tensor}, and
-- name -> entry of the configuration; bytes and weights of all of them.
function M.replace(model, report, first)
  local records, lists, entries, bytes, weights = {}, {}, {}, 0, 0
  for _, r in ipairs(model:linears(true)) do records[r.name] = r end
  for i = first or 1, #report do
    local r = report[i]
    local record = records[r.name]
    if not record then options.fail("q.quant.save: the model has no layer '%s'; is the report of another?", tostring(r.name)) end
    local name, parts, list = tensor_name(model, record), parts_of(record.weight:detach(), r), {}
    for _, key in ipairs(PARTS) do
      if parts[key] then
        list[#list + 1] = {name .. "." .. key, parts[key]}
        bytes = bytes + parts[key]:nbytes()
      end
    end
    lists[name] = list
    entries[name] = {layer = r.name, format = r.format, shape = r.shape, hadamard = r.hadamard, inputs = r.inputs}
    weights = weights + record.weight:numel()
  end
  return lists, entries, bytes, weights
end

--- quantization_config: entries with each format once, in a list; what the model itself does to inputs.
function M.config(entries, report, bits, model)
  local list, number, weights, names = {}, {}, {}, {}
  for name in pairs(entries) do names[#names + 1] = name end
  table.sort(names)
  for _, name in ipairs(names) do
    local text, copy = json.encode(entries[name].format), {}
    if not number[text] then
      list[#list + 1] = entries[name].format
      number[text] = #list
    end
    for key, value in pairs(entries[name]) do copy[key] = value end
    copy.format = number[text]
    weights[name] = copy
  end
  return {quant_method = "quench", bits = bits, formats = list, weights = weights, kv = report.kv, kv_hadamard = report.kv_hadamard,
    rotations = model and model.rotations}
end

--- Our quantization_config of a config.json, or nil.
function M.of(raw)
  local config = raw and raw.quantization_config
  if type(config) == "table" and config.quant_method == "quench" then return config end
end

--- What is wrong with an entry of quantization_config.weights, or nil.
local function entry_complaint(entry, formats)
  if type(entry) ~= "table" then return "is no object" end
  if type(entry.format) ~= "number" or not formats[entry.format] then
    return ("has no format %s in the list of formats"):format(tostring(entry.format))
  end
  local shape = entry.shape
  if type(shape) ~= "table" or type(shape[1]) ~= "number" or type(shape[2]) ~= "number" or shape[3] then return "has no shape {rows, columns}" end
  if type(entry.layer) ~= "string" then return "does not name its layer" end
  if entry.inputs ~= nil and type(entry.inputs) ~= "table" then return "has inputs that are no object" end
end

--- Raises what is wrong with our quantization_config.
function M.check(config, path)
  local function complain(...) options.fail("'%s': config.json: quantization_config: %s", path, (...):format(select(2, ...))) end
  if type(config.weights) ~= "table" or type(config.formats) ~= "table" then complain("weights or formats are missing") end
  local rotations = config.rotations
  if rotations ~= nil and (type(rotations) ~= "table" or type(rotations.layers) ~= "table") then complain("rotations name no layers") end
  for name, entry in pairs(config.weights) do
    local wrong = entry_complaint(entry, config.formats)
    if wrong then complain("weight '%s' %s", tostring(name), wrong) end
  end
end

--- Reads a packed weight from an open file; marks what it used.
function M.read(file, name, config, used, path)
  local entry, parts = config.weights[name], {}
  for _, key in ipairs(PARTS) do
    local part = name .. "." .. key
    if file:has(part) then parts[key], used[part] = file:read(part), true end
  end
  if not parts.codes then options.fail("'%s' has no tensor '%s.codes'", path, name) end
  local ok, value = pcall(function() return value_of(parts, format.format(config.formats[entry.format]), entry.shape, entry.hadamard) end)
  if not ok then options.fail("'%s': weight '%s': %s", path, name, (tostring(value):gsub("^[^:\n]-:%d+: ", ""))) end
  return value, parts.channel_scale
end

--- Marks the parts of a packed weight as used.
function M.mark(file, name, used)
  for _, key in ipairs(PARTS) do
    if file:has(name .. "." .. key) then used[name .. "." .. key] = true end
  end
end

--- Does the model do more than multiply by its weights?
function M.needs_model(config)
  for _, entry in pairs(config.weights) do
    if entry.inputs then return true end
  end
  return config.kv ~= nil or config.rotations ~= nil
end

--- Puts in front of each layer what its inputs went through, and the cache's format, once the model is loaded.
function M.install(model, config, scales)
  local by_layer = {}
  online.install(model, config.rotations)
  for name, entry in pairs(config.weights) do by_layer[entry.layer] = {entry = entry, scale = scales[name]} end
  for _, r in ipairs(model:linears(true)) do
    local its = by_layer[r.name]
    if its and its.entry.inputs then
      local input = activations.input(its.entry.inputs, its.scale and (model.dtype == "f32" and its.scale or its.scale:to(model.dtype)))
      activations.install(r, activations.rotated(input, its.entry.hadamard))
    end
    by_layer[r.name] = nil
  end
  local unknown = next(by_layer)
  if unknown then options.fail("'%s': config.json: quantization_config: the model has no layer '%s'", model.path, unknown) end
  if config.kv then activations.quantize_cache(model, format.format(config.kv), config.kv_hadamard) end
end

local spec = options.spec("q.quant.save", {
  {"dtype", "string", choices = {"f32", "bf16"}, default = "f32", doc = "of the tensors that are not quantized"},
  {"shard", "number", default = 5e9, above = 0, doc = "most bytes a file", unit = "bytes"},
})

--- q.quant.save(model, report, folder, options) -> {bytes =, weights =, bits =}
function M.save(model, report, folder, given)
  options.need_model("q.quant.save", model)
  local o = spec(given)
  if type(report) ~= "table" or not report[1] then options.fail("q.quant.save: the report of q.quant.quantize is needed") end
  return q.no_grad(q.scope, function()
    local lists, entries, bytes, weights = M.replace(model, report)
    local bits = bytes * 8 / weights
    q.models.files.write_model(model, folder, o, {lists = lists, config = M.config(entries, report, bits, model)})
    return {bytes = bytes, weights = weights, bits = bits}
  end)
end

help.add{"q.quant.save", M.save, "save(model, report, folder, options) -> {bytes=, weights=, bits=}",
  "Writes a quantized model as the bits that are stored: codes, scales, zero points. q.models.load reads it.", options = spec,
  text = "Values come back to the last bit, and with them what inputs, keys and values are rounded to. bytes are those of the quantized\n"
    .. "weights in the file, with all that belongs to them; bits = 8 bytes / weights.",
  errors = "a report of another model; f64 weights",
  example = "local small, report = q.quant.quantize(m, {method = 'rtn', format = 'nf4'})\n"
    .. "print(q.quant.save(small, report, 'small').bits)\nlocal same = q.models.load('small')", see = {"q.quant.quantize", "q.quant.pack"}}

return M

--- resume.lua - finished layers of q.quant.quantize in a folder: one safetensors file a stage, with the report in its
-- metadata. A file counts only for the same model and the same options.

local q = require "quench"
local json = require "quench.json"
local options = require "quench.options"
local settings = require "quench.quant.settings"

local M = {}

local function path_of(folder, stage) return ("%s/stage-%04d.safetensors"):format(folder, stage.index) end

--- A text that tells one run from another: the options and the calibration (quant/settings.lua), a sum over the weights.
function M.signature(folder, model, given)
  if not folder then return nil end
  q.system.make_directories(folder)
  local total = 0
  for _, r in ipairs(model:linears(true)) do total = total + settings.checksum(r.weight) end
  return ("%s; weights %.17g"):format(settings.of(given, {resume = true}), total)
end

--- Are all stages first .. last of this run there?
function M.has(folder, stages, first, last, signature)
  if not folder then return false end
  for i = first, last do
    if not q.system.exists(path_of(folder, stages[i])) then return false end
  end
  return signature ~= nil
end

--- Values and reports of a stage, or nil.
function M.load(folder, stage, signature)
  local path = folder and path_of(folder, stage)
  if not path or not q.system.exists(path) then return nil end
  local tensors, metadata = q.load(path)
  if metadata.signature ~= signature then
    options.fail("q.quant.quantize: '%s' is of another run (%s); give another folder or remove it", path, tostring(metadata.signature))
  end
  local values, reports = {}, json.decode(metadata.reports)
  for i, r in ipairs(stage.records) do
    values[i] = tensors[r.name]
    for key, t in pairs(tensors) do
      local field = key:sub(1, #r.name + 1) == r.name .. "|" and key:sub(#r.name + 2)
      if field then reports[i][field] = t end
    end
  end
  return values, reports
end

--- Keeps a finished stage. Functions cannot be kept: methods that give an `input` are run again.
function M.save(folder, stage, signature, values, reports)
  if not folder then return end
  local tensors, plain = {}, {}
  for i, r in ipairs(stage.records) do
    tensors[r.name], plain[i] = values[i], {}
    for key, value in pairs(reports[i]) do
      if type(value) == "function" then return end
      if type(value) == "userdata" then tensors[r.name .. "|" .. key] = value else plain[i][key] = value end
    end
  end
  q.save(path_of(folder, stage), tensors, {signature = signature, reports = json.encode(plain)})
end

return M

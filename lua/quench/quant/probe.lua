--- probe.lua - quantization error as a curve: a probe for q.train that is cheap enough to run every few hundred steps.
--
-- What costs is running the calibration text through the model. The probe measures the inputs of all layers once
-- for all its formats, and again only every `refresh` measurements: second moments of inputs change slowly.
-- Layers therefore see the inputs of the unquantized model, not those behind quantized layers.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"
local calibration = require "quench.quant.calibration"
local methods = require "quench.quant.methods"
local model = require "quench.quant.model"

local M = {public = {"probe"}}

local spec = options.spec("q.quant.probe", {
  {"formats", "table", required = true, doc = "name -> options of q.quant.quantize, e.g. {gptq3 = {bits = 3, group = 128}}"},
  {"calibration", "tensor|list", doc = "token ids (N, T); methods without data need none"},
  {"held_out", "tensor|list", required = true, doc = "token ids (N, T) that the losses are taken on"},
  {"every", "integer", default = 200, min = 1, doc = "steps between measurements"},
  {"refresh", "integer", default = 1, min = 1, doc = "measurements between two runs of the calibration text"},
  {"batch", "integer", default = 8, min = 1, doc = "sequences at a time"},
  {"name", "string", default = "ptq", doc = "what stands before the names in the log"},
})

--- Mean loss over a list of batches, each weighed by its predictions.
local function loss_of(m, batches)
  local total, count = 0, 0
  for _, ids in ipairs(batches) do
    local n = ids:size(1) * (ids:size(2) - 1)
    total, count = total + m:loss(ids):item() * n, count + n
    q.system.check_interrupt()
  end
  return total / count
end

local function needs_inputs(o) return next(methods[o.method or "gptq"].needs) ~= nil end

--- q.quant.probe(options) -> a probe for q.train.
function M.probe(given)
  local o = spec(given)
  local wanted = false
  for name, f in pairs(o.formats) do
    if type(f) ~= "table" then options.fail("q.quant.probe: formats.%s must be a table of options of q.quant.quantize", tostring(name)) end
    model.options_of(f) -- an unknown method or option is an error now, not at step 200
    wanted = wanted or needs_inputs(f)
  end
  if not next(o.formats) then options.fail("q.quant.probe: formats is empty") end
  if wanted and not o.calibration then options.fail("q.quant.probe: these methods need calibration = token ids") end
  local held, seen, age = calibration.batches(o.held_out, o.batch), nil, 0

  local function run(at)
    local m = at.model
    return q.no_grad(q.scope, function()
      if wanted and (not seen or age >= o.refresh) then
        if seen then seen:free() end
        seen, age = calibration.calibrate(m, o.calibration, {batch = o.batch}):keep(), 0
      end
      age = age + 1
      local out = {loss = loss_of(m, held)}
      for name, f in pairs(o.formats) do
        local options_now = {errors = false}
        for key, value in pairs(f) do options_now[key] = value end
        if needs_inputs(f) then options_now.inputs = seen end
        local loss = q.scope(function() return loss_of(q.quant.quantize(m, options_now), held) end)
        out[name .. "_loss"], out[name] = loss, loss / out.loss - 1
      end
      return out
    end)
  end
  return {name = o.name, every = o.every, run = run}
end

help.add{"q.quant.probe", M.probe, "probe(options) -> probe for q.train",
  "Logs what quantization does to the loss along a training run: loss, and for each format its loss and CE(quantized)/CE - 1.",
  options = spec,
  text = "All formats share one pass over the calibration text; with refresh = n only every n-th measurement takes one\n"
    .. "(then a resumed run, which takes one at once, can log other values than an uninterrupted one).",
  errors = "an unknown method or option, at once", source = "C1 of Catalan-Tatjer et al. 2025: the curve that tools do not log",
  example = "q.train{model = m, data = data, steps = 1000, probes = {q.quant.probe{every = 100, refresh = 5,\n"
    .. "  formats = {gptq3 = {bits = 3, group = 128}, rtn4 = {method = 'rtn', bits = 4}},\n"
    .. "  calibration = data:batch('train', 16, 128, q.stream(0, 'calibration')),\n"
    .. "  held_out = data:batch('validation', 16, 128, q.stream(0, 'held out'))}}}",
  see = {"q.quant.calibrate", "q.quant.quantize"}}

return M

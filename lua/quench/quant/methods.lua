--- methods.lua - the methods that q.quant.quantize knows, by name. A new one is a row here.
--
-- {doc =, entries = options.spec entries besides those of the format, needs = what of the inputs, run = function}
-- run(weights, inputs, o, records, module) gets the weights (out, in) of all layers that share one input, the statistics of that
-- input (quant/inputs.lua; nil without calibration), checked options and the layers' records, and for methods that say
-- inspects = true the module around them (quant/inspected.lua; nil without calibration). own_formats: its entries say all there is
-- to say of the grid, and it changes the inputs too if inputs = true. It gives a list of the values that the
-- quantized weights stand for, and a list of reports, each with the format (format.plain) that its scales belong to. A report's
-- `input` is a function that the layer's input goes through from then on, `inputs` the plain values that describe it
-- (quant/activations.lua); `unseen` is true where no calibration token reached the layer.

local c = require "quench.c.quant"
local format = require "quench.quant.format"
local gptq = require "quench.quant.gptq"
local hqq = require "quench.quant.hqq"
local awq = require "quench.quant.awq"
local smoothquant = require "quench.quant.smoothquant"

local methods = {}

--- A method that looks at one weight at a time.
local function each(fn)
  return function(weights, inputs, o)
    local values, reports = {}, {}
    for i, w in ipairs(weights) do values[i], reports[i] = fn(w, inputs, o) end
    return values, reports
  end
end

--- Round to nearest, with the format in the report.
local function rtn(w, f)
  local y, report = c.rtn(w, f)
  report.format = format.plain(f)
  return y, report
end

methods.rtn = {
  doc = "round to nearest, each weight by itself", entries = {}, needs = {},
  run = each(function(w, _, o) return rtn(w, format.of_options(o)) end),
}

--- A layer that no calibration token reached (an expert, say): round to nearest, and the report says so.
local function unseen(w, o)
  local y, report = rtn(w, format.of_options(o))
  report.unseen = true
  return y, report
end

local function without(entries, names)
  local list = {}
  for _, e in ipairs(entries) do
    if not names[e[1]] then list[#list + 1] = e end
  end
  return list
end

methods.gptq = {
  doc = "GPTQ: column by column, each error spread over the columns to come",
  entries = without(gptq.entries, {drift = true, alpha = true}), needs = {hessian = true},
  run = each(function(w, inputs, o)
    if inputs.tokens == 0 then return unseen(w, o) end
    return gptq.run(w, inputs, o)
  end),
}

methods.gptaq = {
  doc = "GPTAQ: GPTQ that also corrects for the drift of the inputs", entries = without(gptq.entries, {drift = true}),
  needs = {hessian = true, drift = true},
  run = each(function(w, inputs, o)
    if inputs.tokens == 0 then return unseen(w, o) end
    o.drift = inputs:drift()
    return gptq.run(w, inputs, o)
  end),
}

methods.hqq = {
  doc = "HQQ: integers with fitted real zero points, without data", entries = hqq.entries, needs = {}, own_formats = true,
  run = each(function(w, _, o) return hqq.run(w, o) end),
}

methods.awq = {
  doc = "AWQ: channel scales and clips by output error", entries = awq.entries, needs = {hessian = true, channels = true}, inspects = true,
  run = function(weights, inputs, o, records, module)
    if inputs.tokens == 0 then return each(function(w) return unseen(w, o) end)(weights) end
    return awq.run(weights, inputs, o, records, o.objective ~= "layer" and module or nil)
  end,
}

methods.smoothquant = {
  doc = "SmoothQuant: 8-bit weights and inputs, outliers moved into the weights", entries = smoothquant.smooth_entries,
  needs = {channels = true}, own_formats = true, inputs = true, run = smoothquant.run_smooth,
}

methods.int8_outlier = {
  doc = "LLM.int8: 8-bit weights and inputs but for outlier channels", entries = smoothquant.outlier_entries, needs = {},
  own_formats = true, inputs = true, run = smoothquant.run_outlier,
}

return methods

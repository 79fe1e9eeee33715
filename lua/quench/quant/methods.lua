--- methods.lua - the methods that q.quant.quantize knows, by name. A new one is a row here.
--
-- {doc =, entries = options.spec entries besides those of the format, needs = what of the inputs, run = function}
-- run(weights, inputs, o) gets the weights (out, in) of all layers that share one input, the statistics of that
-- input (quant/inputs.lua; nil without calibration) and checked options. It gives a list of the values that the
-- quantized weights stand for, and a list of reports.

local c = require "quench.c.quant"
local format = require "quench.quant.format"
local gptq = require "quench.quant.gptq"
local hqq = require "quench.quant.hqq"

local methods = {}

--- A method that looks at one weight at a time.
local function each(fn)
  return function(weights, inputs, o)
    local values, reports = {}, {}
    for i, w in ipairs(weights) do values[i], reports[i] = fn(w, inputs, o) end
    return values, reports
  end
end

methods.rtn = {
  doc = "round to nearest", entries = {}, needs = {},
  run = each(function(w, _, o) return c.rtn(w, format.of_options(o)) end),
}

local function without(entries, names)
  local list = {}
  for _, e in ipairs(entries) do
    if not names[e[1]] then list[#list + 1] = e end
  end
  return list
end

methods.gptq = {
  doc = "GPTQ", entries = without(gptq.entries, {drift = true, alpha = true}), needs = {hessian = true},
  run = each(function(w, inputs, o)
    if inputs.tokens == 0 then return c.rtn(w, format.of_options(o)) end -- an expert that no token reached
    return gptq.run(w, inputs, o)
  end),
}

methods.gptaq = {
  doc = "GPTQ that also corrects for the drift of the inputs", entries = without(gptq.entries, {drift = true}),
  needs = {hessian = true, drift = true},
  run = each(function(w, inputs, o)
    if inputs.tokens == 0 then return c.rtn(w, format.of_options(o)) end
    o.drift = inputs:drift()
    return gptq.run(w, inputs, o)
  end),
}

methods.hqq = {
  doc = "HQQ: integers with fitted real zero points, without data", entries = hqq.entries, needs = {},
  run = each(function(w, _, o) return hqq.run(w, o) end),
}

return methods

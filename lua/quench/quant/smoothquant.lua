--- smoothquant.lua - 8-bit weights and inputs: SmoothQuant moves outliers from the inputs into the weights,
-- LLM.int8 leaves the outlier channels out.
--
-- Both give, besides the weight, a function that the layer's input goes through: input(x) is what the quantized
-- input stands for, so that an ordinary product with the returned weight computes what the method computes.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local activations = require "quench.quant.activations"
local format = require "quench.quant.format"
local inputs_of = require "quench.quant.inputs"

local M = {public = {"smoothquant", "int8_outlier"}}

-- ---- SmoothQuant ------------------------------------------------------------

M.smooth_entries = {
  {"weight_format", "any", doc = "of the scaled weights [int8, restricted, a scale a row]"},
  {"act_format", "any", doc = "of the scaled inputs [int8, restricted, a scale a token]"},
  {"alpha", "number", default = 0.5, min = 0, max = 1, doc = "how much of the difficulty goes to the weights"},
}

local function formats(o)
  return o.weight_format and format.format(o.weight_format) or format.int(8, {convention = "restricted"}),
    o.act_format and format.format(o.act_format) or format.int(8, {convention = "restricted"})
end

--- Values and reports for layers that share one input.
function M.run_smooth(weights, inputs, o)
  local wf, af = formats(o)
  local largest
  for _, w in ipairs(weights) do
    local m = w:abs():max(1)
    largest = largest and largest:maximum(m) or m
  end
  local seen = inputs.tokens > 0 -- an expert may have seen nothing: then nothing is moved
  local s = not seen and largest * 0 + 1 or (inputs:max_abs():clamp(1e-5) ^ o.alpha / largest:clamp(1e-5) ^ (1 - o.alpha)):clamp(1e-5)
  local how = {kind = "smooth", format = format.plain(af)}
  local input = activations.input(how, s)
  local values, reports = {}, {}
  for i, w in ipairs(weights) do
    local y, r = c.rtn(w * s, wf)
    values[i], reports[i] = y / s, r
    r.channel_scale, r.input, r.inputs, r.format, r.unseen, r.mse = s, input, how, format.plain(wf), not seen or nil, ((y / s - w) ^ 2):mean():item()
    r.bits = r.bits + 32 / w:size(1) -- the channels' scales; folded into the layer before, they cost nothing
  end
  return values, reports
end

local smooth = options.spec("q.quant.smoothquant", M.smooth_entries)

--- q.quant.smoothquant(w, inputs, options) -> w as quantized, report with input(x).
function M.smoothquant(w, x, o)
  o = smooth(o)
  local list = type(w) == "table" and w or {w}
  local stats = inputs_of.of("q.quant.smoothquant", list, x, {channels = true})
  local values, reports = M.run_smooth(list, stats, o)
  if type(w) == "table" then return values, reports end
  return values[1], reports[1]
end

help.add{"q.quant.smoothquant", M.smoothquant, "smoothquant(w, inputs, options) -> tensor, report",
  "Scales channels by max|x|^alpha / max|w|^(1 - alpha), so that weights and inputs both round well.", options = smooth,
  shapes = "w (out, in), or a list of weights that share their inputs; inputs (..., in)",
  returns = "Q(w s) / s; {channel_scale = s, input = function(x) -> Q(x / s) s, scale=, mse=, bits=}",
  source = "Xiao et al. 2022, arXiv 2211.10438", see = {"q.quant.int8_outlier"},
  example = "local w, x = q.randn(32, 64), q.randn(256, 64)\nlocal y, report = q.quant.smoothquant(w, x)\nprint(report.input(x):matmul(y:t()))"}

-- ---- LLM.int8 ---------------------------------------------------------------

M.outlier_entries = {
  {"threshold", "number", default = 6, above = 0, doc = "input channels with an |x| of at least this in the batch are not quantized"},
}

--- Values and reports; the inputs are looked at when the layer runs, not before.
function M.run_outlier(weights, _, o)
  local f = format.int(8, {convention = "restricted"})
  local how = {kind = "outlier", threshold = o.threshold, format = format.plain(f)}
  local input = activations.input(how)
  local values, reports = {}, {}
  for i, w in ipairs(weights) do
    values[i], reports[i] = c.rtn(w, f)
    reports[i].input, reports[i].inputs, reports[i].format = input, how, format.plain(f)
  end
  return values, reports
end

local outlier = options.spec("q.quant.int8_outlier", M.outlier_entries)

--- q.quant.int8_outlier(w, options) -> w as quantized, report with input(x).
function M.int8_outlier(w, o)
  local values, reports = M.run_outlier({w}, nil, outlier(o))
  return values[1], reports[1]
end

help.add{"q.quant.int8_outlier", M.int8_outlier, "int8_outlier(w, options) -> tensor, report",
  "LLM.int8: rows of weights and tokens of inputs in 8 bits, but for input channels with outliers, which stay as they are.",
  options = outlier, shapes = "w (out, in); report.input takes (..., in)",
    returns = "the dequantised weight; {input = function(x), scale=, mse=, bits=}",
  source = "Dettmers et al. 2022, arXiv 2208.07339", see = {"q.quant.smoothquant"},
  example = "local w, x = q.randn(32, 64), q.randn(256, 64)\nlocal y, report = q.quant.int8_outlier(w)\nprint(report.input(x):matmul(y:t()))"}

return M

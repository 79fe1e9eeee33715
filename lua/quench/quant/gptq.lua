--- gptq.lua - GPTQ: rounding errors of a column are made good in the columns after it.

local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"
local inputs = require "quench.quant.inputs"

local M = {}

M.entries = {
  {"act_order", "boolean", default = false, doc = "columns with the largest second moment first"},
  {"act_group_aware", "boolean", default = false,
    doc = "the same inside each group, and the groups by their largest: groups stay together"},
  {"static_groups", "boolean", default = false, doc = "scales of all groups from the weights as they were"},
  {"damp", "number", default = 0.01, min = 0, below = 1, doc = "of the mean diagonal, added to the diagonal"},
  {"damp_increment", "number", default = 0.01, min = 0, below = 1, doc = "added to damp while the factorisation fails; 0: fail at once"},
  {"block", "integer", default = 128, min = 1, max = 256, doc = "columns worked on before the others are brought up to date"},
  {"drift", "tensor", doc = "GPTAQ: (2 / tokens) sum (x_full - x) x^T, how far the inputs have moved"},
  {"alpha", "number", default = 0.25, min = 0, doc = "GPTAQ: weight of the drift correction"},
}
local spec = options.spec("q.quant.gptq", format.with_weight_entries(M.entries))

local function is_square(t, n) return t:ndim() == 2 and t:size(1) == n and t:size(2) == n end

--- The Hessian from what the user gave: an object with statistics, a square matrix, or inputs; number of tokens where it
-- is known; and statistics that were made here, to be given back.
local function hessian_of(x, w)
  if getmetatable(x) == inputs.Inputs then return x:hessian(), x.tokens end
  if is_square(x, w:size(-1)) then return x end
  local h = inputs.of("quant.gptq", {w}, x, {hessian = true})
  return h:hessian(), h.tokens, h
end

--- q.quant.gptq(w, inputs, options) -> w as quantized, report.
function M.gptq(w, x, o)
  o = spec(o)
  return M.run(w, x, o)
end

--- The same with checked options.
function M.run(w, x, o)
  if o.act_order and o.act_group_aware then options.fail("q.quant.gptq: act_order and act_group_aware exclude each other") end
  local h, tokens, own = hessian_of(x, w)
  local f = format.of_options(o)
  local y, report = c.gptq(w, h, o.drift, f, {
    order = o.act_order and "activation" or o.act_group_aware and "grouped" or "plain", static_groups = o.static_groups,
    damp = o.damp, damp_increment = o.damp_increment, block = o.block, drift = o.alpha})
  if own then own:free() end
  report.format, report.tokens = format.plain(f), tokens
  report.rank_deficient = report.damp > o.damp or report.dead > 0 or tokens ~= nil and tokens < w:size(-1)
  return y, report
end

help.add{"q.quant.gptq", M.gptq, "gptq(w, inputs, options) -> tensor, report",
  "Rounds column after column and spreads each error over the columns still to come, so that the layer's output changes least.",
  options = spec, shapes = "w (out, in); inputs (..., in), or their Hessian (in, in), or q.quant.hessian's object",
  text = "A square tensor (in, in) is taken as a Hessian. Factorised in double; inputs that depend on each other\n"
    .. "are damped until it works, and reported (damp, rank_deficient).",
  returns = "the dequantised tensor; {scale=, zero=, mse=, bits=, loss=, damp=, dead=, pivot=, tokens=, rank_deficient=, group_index=}",
  errors = "shapes that do not fit, NaN, no inputs; damp_increment = 0 and dependent inputs",
  source = "Frantar et al. 2022, arXiv 2210.17323; order by groups and automatic damping as GPTQModel; drift: Li et al. 2025 (GPTAQ)",
  example = "local w, x = q.randn(32, 64), q.randn(256, 64)\n"
    .. "local y, report = q.quant.gptq(w, x, {bits = 3, group = 32})\nprint(report.loss)",
  see = {"q.quant.rtn", "q.quant.quantize", "q.quant.hessian"}}

return M

--- awq.lua - activation-aware weight quantization: channels that matter are scaled up before rounding, then
-- each group's clip is searched. Layers that share an input (a fused qkv is one layer) share their scales.
--
-- Scales are chosen by the output of the attention or MLP that the layers are in, as in the authors' code, where a model and
-- calibration tokens are at hand (quant/inspected.lua); else, and for clips, by the layers' own output over all calibration tokens,
-- tr((W' - W) H (W' - W)^T) with H the inputs' second moments.

local q = require "quench"
local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"
local inputs_of = require "quench.quant.inputs"

local M = {public = {"awq"}}

M.entries = {
  {"grid", "integer", default = 20, min = 1, doc = "exponents tried: mean|x|^(k/grid), k < grid"},
  {"objective", "string", choices = {"module", "layer"},
    doc = "scales are chosen by the output of the attention or MLP, or of the layers alone [module, where there is calibration]"},
  {"clip_search", "boolean", default = true, doc = "search each group's clip: largest magnitude times 1 - k/20, k < 10"},
  {"clip_skip", "list", default = {"q_", "k_", "query", "key", "Wqkv"}, doc = "names that are not clipped"},
}

local function quadratic(d, h) return (d:matmul(h) * d):sum():item() end

--- mean|x|^r, kept off zero, with max times min = 1.
local function scales(mean, r)
  local s = (mean ^ r):clamp(1e-4)
  return s * (1 / (s:max():item() * s:min():item()) ^ 0.5)
end

--- The scales with the least output error over all layers.
local function search_layers(weights, mean, h, f, grid)
  local best, best_error = nil, math.huge
  for k = 0, grid - 1 do
    local s = scales(mean, k / grid)
    local total = 0
    for _, w in ipairs(weights) do total = total + q.scope(function() return quadratic(c.rtn(w * s, f) / s - w, h) end) end
    if total < best_error then best, best_error = s, total end
  end
  if not best then options.fail("q.quant.awq: the output error is beyond %s: weights or inputs are too large", weights[1]:dtype()) end
  return best
end

--- The scales that move the output of the module around the layers least; nil where it cannot be run.
local function search_module(weights, mean, module, f, grid)
  local best = module:search(grid, function(k)
    local s, values = scales(mean, (k - 1) / grid), {}
    for i, w in ipairs(weights) do values[i] = c.rtn(w * s, f) / s end
    return values
  end)
  return best and scales(mean, (best - 1) / grid)
end

--- Columns first .. first + n - 1 of w clipped row by row where that lowers the group's own output error.
local function clip_group(w, h, f)
  local largest = w:abs():max(2, true)
  local best, best_error
  for k = 0, 9 do
    local limit = largest * (1 - k / 20)
    local clipped = w:minimum(limit):maximum(-limit)
    local d = c.rtn(clipped, f) - w
    local e = (d:matmul(h) * d):sum(2, true)
    if not best then
      best, best_error = clipped, e
    else
      local better = e:lt(best_error):expand(unpack(w:shape()))
      best, best_error = q.where(better, clipped, best), best_error:minimum(e)
    end
  end
  return best
end

local function clip(w, h, f)
  local group, n = f:describe().group, w:size(2)
  local size = group > 0 and group or n
  local row = f:with{group = 0}
  local parts = {}
  for first = 1, n, size do
    local width = math.min(size, n - first + 1)
    parts[#parts + 1] = q.scope(clip_group, w:narrow(2, first, width):contiguous(),
      h:narrow(1, first, width):narrow(2, first, width):contiguous(), row)
  end
  return q.concat(parts, 2)
end

local function skips(name, patterns)
  for _, p in ipairs(patterns) do
    if name and name:find(p) then return true end
  end
end

--- Values and reports for layers that share one input; records give their names; module: see quant/inspected.lua, or nil.
function M.run(weights, inputs, o, records, module)
  local f, h, mean = format.of_options(o, "awq"), inputs:hessian(), inputs:mean_abs()
  if f:describe().group == -1 then options.fail("q.quant.awq: one scale for the whole tensor leaves nothing to choose; use rows or groups") end
  local s = module and search_module(weights, mean, module, f, o.grid)
  local objective = s and "module" or "layer"
  s = s or search_layers(weights, mean, h, f, o.grid)
  local scaled_h = h / (s * s:view(-1, 1))
  local values, reports = {}, {}
  for i, w in ipairs(weights) do
    local ws = w * s
    local y, r = c.rtn(ws, f)
    if o.clip_search and not skips(records and records[i].name, o.clip_skip) then
      local z, clipped = c.rtn(clip(ws, scaled_h, f), f)
      if quadratic(z - ws, scaled_h) < quadratic(y - ws, scaled_h) then y, r = z, clipped end
    end
    values[i], reports[i] = y / s, r
    r.channel_scale, r.objective, r.format, r.mse = s, objective, format.plain(f), ((values[i] - w) ^ 2):mean():item()
    r.bits = r.bits + 32 / w:size(1) -- the channels' scales; folded into the layer before, they cost nothing
  end
  return values, reports
end

local entries = {}
for _, e in ipairs(format.with_weight_entries(M.entries)) do
  if e[1] == "group" then e = {"group", e[2], doc = "columns that share a scale; 'row' (or -1) [128, or the format's own]", check = e.check} end
  if e[1] ~= "objective" then entries[#entries + 1] = e end -- there is no module around a single weight
end
local spec = options.spec("q.quant.awq", entries)

--- q.quant.awq(w, inputs, options) -> w as quantized, report; a list of weights gives lists.
function M.awq(w, x, o)
  o = spec(o)
  if not o.format then o.group = o.group or 128 end
  local list = type(w) == "table" and w or {w}
  local stats = inputs_of.of("q.quant.awq", list, x, {hessian = true, channels = true})
  local values, reports = M.run(list, stats, o)
  if type(w) == "table" then return values, reports end
  return values[1], reports[1]
end

help.add{"q.quant.awq", M.awq, "awq(w, inputs, options) -> tensor, report",
  "Scales input channels by a power of their mean magnitude before rounding, searches the power and each group's clip.", options = spec,
  shapes = "w (out, in), or a list of weights that share their inputs; inputs (..., in)",
  text = "The value is Q(w s) / s: what the layer computes when 1 / s is folded into the layer before it.",
  returns = "the dequantised tensor; {scale=, zero=, channel_scale=, mse=, bits=}", errors = "shapes that do not fit; NaN; no inputs",
  source = "Lin et al. 2023, arXiv 2306.00978", see = {"q.quant.gptq", "q.quant.quantize"},
  example = "local w, x = q.randn(32, 64), q.randn(256, 64)\nlocal y, report = q.quant.awq(w, x, {bits = 3, group = 32})"}

return M

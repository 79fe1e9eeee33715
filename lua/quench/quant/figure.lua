--- figure.lua - a report of q.quant.quantize as a figure: errors along the blocks, a curve for each kind of layer.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"

local M = {public = {"plot"}}

local spec = options.spec("q.quant.plot", {
  {"what", "list", default = {"output_error", "weight_error"}, doc = "fields of the report, a panel each"},
  {"title", "string", doc = "above the figure"},
})

--- The part of a name behind the block's number: what kind of layer it is.
local function kind_of(name) return name:match("%.%d+%.(.+)$") or name end

--- Kinds in order of appearance, each with its blocks and values.
local function curves(report, field)
  local order, by_kind = {}, {}
  for _, r in ipairs(report) do
    if type(r[field]) == "number" and r.layer then
      local kind = kind_of(r.name)
      local curve = by_kind[kind]
      if not curve then
        curve = {x = {}, y = {}, kind = kind}
        by_kind[kind], order[#order + 1] = curve, curve
      end
      curve.x[#curve.x + 1], curve.y[#curve.y + 1] = r.layer, r[field]
    end
  end
  return order
end

--- q.quant.plot(report, options) -> figure
function M.plot(report, o)
  o = spec(o)
  if type(report) ~= "table" or not report[1] or not report[1].name then
    options.fail("q.quant.plot: the report of q.quant.quantize is needed")
  end
  local panels = {columns = 1, share = "x", title = o.title or ("%.3f bits a weight"):format(report.bits or 0)}
  for _, field in ipairs(o.what) do
    local panel = {x = "block", y = (field:gsub("_", " ")), log = field:find("error") and "y" or nil}
    for _, curve in ipairs(curves(report, field)) do
      panel[#panel + 1] = {"line", x = curve.x, y = curve.y, label = curve.kind, marker = "circle"}
    end
    if #panel > 0 then panels[#panels + 1] = panel end
  end
  if #panels == 0 then options.fail("q.quant.plot: the report has none of %s (output errors need calibration)", table.concat(o.what, ", ")) end
  return q.plot.grid(panels)
end

help.add{"q.quant.plot", M.plot, "plot(report, options) -> figure", "Errors of a quantized model along its blocks, a curve for each kind of layer.",
  options = spec, errors = "a report without the fields asked for",
  example = "local small, report = q.quant.quantize(m, {bits = 3, calibration = ids})\nq.quant.plot(report):save('layers.png')",
  see = {"q.quant.quantize", "q.quant.sensitivity"}}

return M

--- sensitivity.lua - which layers suffer most: each quantized alone, the others as they are.

local q = require "quench"
local c = require "quench.c.quant"
local options = require "quench.options"
local help = require "quench.help"
local format = require "quench.quant.format"
local system = require "quench.c.system"

local M = {public = {"sensitivity"}}

local spec = options.spec("q.quant.sensitivity", format.with_weight_entries{
  {"head", "boolean", default = false, doc = "the output head too"},
  {"progress", "function", doc = "called as progress(done, total, row) after each layer"},
})

--- q.quant.sensitivity(model, ids, options) -> rows, worst first; rows.loss is that of the model as it is.
function M.sensitivity(model, ids, o)
  options.need_model("q.quant.sensitivity", model)
  o = spec(o)
  local f = format.of_options(o)
  return q.no_grad(function()
    local rows = {loss = model:loss(ids):item()}
    local records = model:linears(o.head)
    for i, r in ipairs(records) do
      q.scope(function()
        local w = r.weight:detach()
        local before = w:clone()
        local y, report = c.rtn(w, f)
        local square = (before * before):sum():item()
        w:copy_(y)
        local ok, loss = pcall(function() return model:loss(ids):item() end)
        w:copy_(before) -- also when the loss could not be taken
        if not ok then error(loss, 0) end
        rows[i] = {name = r.name, layer = r.layer, loss = loss, increase = loss - rows.loss, relative = loss / rows.loss - 1,
          weight_error = square > 0 and report.mse * w:numel() / square or 0, bits = report.bits}
      end)
      if o.progress then o.progress(i, #records, rows[i]) end
      system.check_interrupt()
    end
    table.sort(rows, function(a, b) return a.increase > b.increase or a.increase == b.increase and a.name < b.name end)
    return rows
  end)
end

help.add{"q.quant.sensitivity", M.sensitivity, "sensitivity(model, ids, options) -> rows",
  "The loss with each linear layer alone rounded to nearest, worst first.", options = spec, shapes = "ids (B, T) i32",
  returns = "a list of {name=, layer=, loss=, increase=, relative=, weight_error=, bits=}; rows.loss: the model's own loss",
  errors = "NaN in a weight", example = "for _, r in ipairs(q.quant.sensitivity(m, ids, {bits = 3})) do print(r.name, r.increase) end",
  see = {"q.quant.quantize"}}

return M

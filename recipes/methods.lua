--- methods.lua - does the error jump in the cooldown whatever the quantization method?
--
-- Figure 10 of "Training Dynamics Impact Post-Training Quantization Robustness" (2025) repeats Figure 4 with AWQ and
-- LLM.int8. Here also round-to-nearest, HQQ and NVFP4, which use no calibration data: is the jump one of GPTQ's Hessian?
-- All measure the same checkpoints of one cooldown, the last one of decay.

local q = require "quench"
local lab = q.lab

local function plan(p) return lab.plan(p, p.steps + p.cooldown) end

--- name -> {bits it is drawn with, colour, label, options of q.quant.quantize}
local function methods(p)
  local list = {}
  for i, name in ipairs{"gptq", "awq", "rtn", "hqq"} do
    for _, bits in ipairs{4, 3} do
      list[name .. bits] = {bits, i, name:upper(), {method = name, bits = bits, group = p.group}}
    end
  end
  list.nvfp4 = {4, 5, "NVFP4", {method = "rtn", format = "nvfp4"}}
  list.int8 = {8, 6, "LLM.int8", {method = "int8_outlier"}}
  return list
end

local function run(p, ctx)
  lab.afford(p, plan(p))
  local data, results, formats = lab.data(p), {points = {}}, {}
  local _, trunk = lab.trunk(ctx, p, data)
  local _, cooled = lab.cooled(ctx, p, data, trunk, p.steps, ("cooldown %d of %d"):format(p.budgets, p.budgets))
  for name, m in pairs(methods(p)) do formats[name] = m[4] end
  local function add(folder, step)
    results.points[#results.points + 1] = lab.measure(p, data, q.train.checkpoint.path(folder, step), formats, step)
  end
  add(trunk, p.steps)
  for _, step in ipairs(lab.inside(p.steps, p.cooldown)) do add(cooled, step) end
  return results
end

--- The error at the end of the cooldown against that at its start: difference over sum.
local function jump(name)
  return function(result) return lab.contrast(lab.last(result.points)[name], result.points[1][name]) end
end

local function panel(runs, p, bits, label)
  local layers, names = {x = "tokens (millions)", y = label}, {}
  for name, m in pairs(methods(p)) do
    if m[1] == bits then names[#names + 1] = name end
  end
  table.sort(names, function(a, b) return methods(p)[a][2] < methods(p)[b][2] end)
  for _, name in ipairs(names) do
    local m = methods(p)[name]
    lab.add_line(layers, runs, function(r) return r.points end, function(point) return lab.millions(p, point.step) end,
      function(point) return 100 * point[name] end, {label = m[3], colour = m[2], marker = "circle"})
  end
  return layers
end

local function figure(runs, p)
  return q.plot.grid{columns = 1, share = "x", panel(runs, p, 4, "4-bit error (%)"), panel(runs, p, 3, "3-bit error (%)"),
    panel(runs, p, 8, "8-bit error (%)")}
end

-- A ratio of 1.6, the bar of decay, is .23 as difference over sum; the paper's GPTQ ratio of 1.74 is .27.
local claims = {}
for _, c in ipairs{{"AWQ, 4 bits", "awq4"}, {"LLM.int8", "int8"}, {"RTN, 4 bits", "rtn4"}, {"HQQ, 4 bits", "hqq4"}, {"NVFP4", "nvfp4"},
  {"AWQ, 3 bits", "awq3"}, {"RTN, 3 bits", "rtn3"}, {"HQQ, 3 bits", "hqq3"}} do
  local printed = c[2] == "awq4" or c[2] == "int8"
  claims[#claims + 1] = {"C1, " .. c[1], "the error jumps in the cooldown: end against start, difference over sum", measure = jump(c[2]),
    above = 0.23, source = printed and "Training Dynamics, Fig. 10: the shape of Fig. 4" or "this project: is it one of GPTQ's Hessian?"}
end

return q.recipe{
  name = "methods",
  doc = "Does the error jump in the cooldown whatever the quantization method?",
  params = lab.trunk_params(),
  scales = lab.trunk_scales(),
  run = run, plan = plan, figures = {methods = figure}, claims = claims,
}

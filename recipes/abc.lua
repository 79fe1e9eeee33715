--- abc.lua - through which modules does the error of a quantized model travel: inherited, added, or both together?
--
-- Figure 3 of "Beyond Outliers" (2025): R = A + B + C along the modules of each optimizer's best model after W4A4
-- round-to-nearest; A is inherited, B the module's own, C their interaction. Avg: means over tokens; Trunc: without the 1 % of
-- tokens with the largest R. Residual sums are modules whose B is 0.

local q = require "quench"
local sweeps = q.sweeps

local function run(p, ctx)
  return sweeps.each(p, ctx, function(_, _, _, load, data)
    local model, list = load(), {}
    local found = q.metrics.abc(model, sweeps.w4a4(model), sweeps.ids(p, data))
    for _, m in ipairs(found.modules) do
      if not m.name:find("^head") then -- the head is not quantized and lies behind R_L
        local entry = {name = m.name, kind = m.kind, trunc = {}}
        for _, key in ipairs{"A", "B", "C", "R"} do entry[key], entry.trunc[key] = m[key].value, m.trunc[key].value end
        list[#list + 1] = entry
      end
    end
    return {modules = list}
  end)
end

--- fn(module, the one before, name of the optimizer) -> boolean or nil (does not count): the share that is true.
local function share(result, fn)
  local yes, all = 0, 0
  for _, name in ipairs(sweeps.optimizers) do
    for i, m in ipairs(result[name].modules) do
      local v = fn(m, result[name].modules[i - 1], name)
      if v ~= nil then all = all + 1 end
      if v then yes = yes + 1 end
    end
  end
  return yes / all
end

--- Of modules that are quantized and whose input has changed: is A larger than B and than |C|?
local function inherited(result)
  return share(result, function(m)
    if m.B > 0 and m.A > 0 then return m.A > m.B and m.A > math.abs(m.C) end
  end)
end

--- Does a norm hand on less relative error than it gets?
local function norms(result)
  return share(result, function(m, before)
    if (m.kind == "rms" or m.kind == "layer") and before then return m.R < before.R end
  end)
end

--- Where do Avg and Trunc differ by a tenth and more?
local function spikes(result)
  return share(result, function(m) return m.R > 1.1 * m.trunc.R end)
end

--- The last R over the median of all.
local function peak(r)
  local values = {}
  for i, m in ipairs(r.modules) do values[i] = m.R end
  local last = values[#values]
  table.sort(values)
  return last / values[math.ceil(#values / 2)]
end

local function sharper(result)
  return math.log(peak(result.adamw) * peak(result.scion) / (peak(result.psgd) * peak(result.muon))) / 2
end

local function panel(runs, key, trunc, legend)
  local layers = {title = (trunc and "Trunc(%s)" or "Avg(%s)"):format(key), x = "module", y = key, legend = legend and "right" or false,
    log = key ~= "C" and "y" or nil}
  return sweeps.add_lines(layers, runs, function(r)
    local x, y = {}, {}
    for i, m in ipairs(r.modules) do
      local v = trunc and m.trunc[key] or m[key]
      if key == "C" or key == "R" or v > 0 then x[#x + 1], y[#y + 1] = i, v end -- no logarithm of the zeros of A and B
    end
    return x, y
  end, {dash = "solid", marker = false})
end

local function figure(trunc)
  return function(runs)
    return q.plot.grid{columns = 2, share = "x", panel(runs, "R", trunc), panel(runs, "A", trunc, true), panel(runs, "B", trunc),
      panel(runs, "C", trunc)}
  end
end

--- What the numbers on the x axis stand for.
local function report(runs)
  local lines = {}
  for i, m in ipairs(runs[1].adamw.modules) do lines[i] = ("%d. %s (%s)"):format(i, m.name, m.kind) end
  return "## Modules\n\n" .. table.concat(lines, "\n")
end

return q.recipe{
  name = "abc",
  doc = "Through which modules does the error of a quantized model travel: inherited, added, or both together?",
  params = sweeps.params(), scales = sweeps.scales(), run = run, plan = sweeps.plan_sweep, report = report,
  figures = {trunc = figure(true), avg = figure(false)},
  claims = {
    {"ABC1", "share of quantized modules with changed inputs whose A is larger than B and than |C|", measure = inherited, above = 0.75,
      source = "Beyond Outliers, Fig. 3: A far larger than B and C almost everywhere"},
    {"ABC2", "share of norms behind which R is smaller than before", measure = norms, above = 0.75,
      source = "Beyond Outliers, Fig. 3: dips at the RMSNorms"},
    {"ABC3", "last R over the median R, AdamW and Scion against PSGD and Muon (log of the ratio of geometric means)", measure = sharper,
      above = 0, source = "Beyond Outliers, Fig. 3: sharp peak at the end for the former, flat for the latter"},
    {"ABC4", "share of modules where Avg(R) is 10 % or more above Trunc(R)", measure = spikes, below = 0.05,
      source = "Beyond Outliers, Fig. 3: at one module of Shampoo only"},
  },
}

--- gain.lua - which optimizer's layers amplify the error that comes in, and is it their spectrum or its direction?
--
-- Figure 4 of "Beyond Outliers" (2025): the gain G = A_l / R_(l-1) of attention, as one unit, and of the MLPs' linear layers, and the
-- factors of the latter, G1 (spectral ratio) and G2 (alignment ratio); attention has none, because it is no matrix. Two definitions:
-- measured by four evaluations of each module, and G1 G2, which takes the activations' rounding noise as frozen. Claims are about
-- the MLPs' layers, but for G1: there the matrices inside attention count, too. The first attention has no gain: its input is exact.

local q = require "quench"
local sweeps = q.sweeps

local function run(p, ctx)
  return sweeps.each(p, ctx, function(_, _, _, load, data)
    local model, list = load(), {}
    for _, m in ipairs(q.metrics.gain(model, sweeps.w4a4(model), sweeps.ids(p, data))) do
      if m.G and not m.name:find("^head") then
        list[#list + 1] = {name = m.name, kind = m.kind, G = m.G_of_means, G_of_tokens = m.G.value, G1 = m.G1, G2 = m.G2 and m.G2.value,
          frozen = m.frozen}
      end
    end
    return {layers = list}
  end)
end

local function of_mlp(m) return m.name:find("mlp", 1, true) end

--- Geometric mean over the linear layers of the MLPs.
local function typical(key)
  return function(r)
    local sum, n = 0, 0
    for _, m in ipairs(r.layers) do
      if of_mlp(m) then sum, n = sum + math.log(m[key]), n + 1 end
    end
    return math.exp(sum / n)
  end
end

--- G1 furthest from 1, over all optimizers and layers.
local function spectral(result)
  local most = 0
  for _, name in ipairs(sweeps.optimizers) do
    for _, m in ipairs(result[name].layers) do
      if m.G1 then most = math.max(most, math.abs(m.G1 - 1)) end
    end
  end
  return most
end

--- Log of an optimizer's gain over the smallest (or largest) of others.
local function log_lead(result, name, others, most)
  return sweeps.lead(result, name, function(r) return math.log(typical "G"(r)) end, others, most)
end

--- The larger of AdamW's and Shampoo's against the smallest of the other four.
local function lowest(result)
  local rest = {"muon", "psgd", "scion", "soap"}
  return math.max(log_lead(result, "adamw", rest), log_lead(result, "shampoo", rest))
end

--- Correlation over optimizers of the logs of G1 G2 and of G2.
local function alignment(result)
  local x, y = {}, {}
  for i, name in ipairs(sweeps.optimizers) do x[i], y[i] = math.log(typical "frozen"(result[name])), math.log(typical "G2"(result[name])) end
  return q.metrics.correlation(x, y).value
end

--- What is drawn, in the order of execution: attention as one and the layers of the MLPs.
local function units(r)
  local list = {}
  for _, m in ipairs(r.layers) do
    if m.kind == "attention" or of_mlp(m) then list[#list + 1] = m end
  end
  return list
end

local function panel(runs, key, title, legend)
  local layers = {title = title, x = "module", y = key == "frozen" and "G1 G2" or key, log = "y", legend = legend and "right" or false}
  return sweeps.add_lines(layers, runs, function(r)
    local x, y = {}, {}
    for i, m in ipairs(units(r)) do
      if m[key] then x[#x + 1], y[#y + 1] = i, m[key] end
    end
    return x, y
  end, {dash = "solid"})
end

--- What the numbers on the x axis stand for.
local function report(runs)
  local lines = {}
  for i, m in ipairs(units(runs[1].adamw)) do lines[i] = ("%d. %s"):format(i, m.name) end
  return "## Modules\n\n" .. table.concat(lines, "\n")
end

local function figure(runs)
  return q.plot.grid{columns = 2, panel(runs, "G", "G, measured"), panel(runs, "frozen", "G, frozen noise", true),
    panel(runs, "G1", "spectral ratio"), panel(runs, "G2", "alignment ratio")}
end

return q.recipe{
  name = "gain",
  doc = "Which optimizer's layers amplify the error that comes in, and is it their spectrum or its direction?",
  params = sweeps.params(), scales = sweeps.scales(), run = run, plan = sweeps.plan_sweep, report = report,
  figures = {gain = figure},
  claims = {
    {"G1", "the spectral ratio is about 1: largest distance from 1", measure = spectral, below = 0.1,
      source = "Beyond Outliers, Fig. 4: about 1 for all optimizers"},
    {"G2", "Muon's gain against the largest of the other five (log of the ratio; geometric means over the MLPs' layers)",
      measure = function(r) return log_lead(r, "muon", nil, math.max) end, above = 0, source = "Beyond Outliers, Fig. 4: Muon highest"},
    {"G3", "the larger gain of AdamW and Shampoo against the smallest of the other four (log of the ratio)", measure = lowest, below = 0,
      source = "Beyond Outliers, Fig. 4: these two lowest"},
    {"G4", "the differences sit in the alignment: correlation over optimizers of log G1 G2 with log G2", measure = alignment, above = 0.9,
      source = "Beyond Outliers, Fig. 4"},
  },
}

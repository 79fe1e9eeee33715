--- formats.lua - which numbers can a weight become, and where does the error lie? One figure for each number format.
--
-- Weights are drawn from a normal or a Laplace distribution of deviation 1 and rounded to nearest in every format. A format's
-- figure shows the staircase of one group above, and below it how much of the mean squared error comes from weights of each size, with
-- the group's levels as grey lines. The overview sets each format's error against the bits that are really stored, scales
-- included, beside what no code of that many bits can go below for these weights (normal: D = 4^-R, Shannon 1959).

local q = require "quench"

local BINS, REACH, SHOWN = 120, 4, 70 -- bins from -REACH to REACH deviations; level lines up to SHOWN of them

--- Every format with the name of its figure: {name, format}.
local function formats(group)
  local list = {}
  local function add(name, f) list[#list + 1] = {name, f} end
  for _, bits in ipairs{2, 3, 4, 8} do add("int" .. bits, q.quant.int(bits, {group = group})) end
  for _, convention in ipairs{"gptq", "full", "restricted", "midrise", "real"} do
    add("int4_" .. convention, q.quant.int(4, {convention = convention, group = group}))
  end
  for _, bits in ipairs{2, 4} do add("gaussian" .. bits, q.quant.gaussian(bits)) end
  for _, f in ipairs(q.quant.formats()) do add(f.name, q.quant[f.name]()) end
  add("rule", q.quant.rule(function(x) -- a user's own: zero and powers of two
    local a = math.abs(x)
    return a < 2 ^ -5.5 and 0 or (x < 0 and -1 or 1) * 2 ^ math.min(0, math.floor(math.log(a) / math.log(2) + 0.5))
  end, {group = group, name = "powers of two"}))
  return list
end

local function weights(p)
  local stream = q.stream(p.seed, "formats")
  if p.weights == "normal" then return q.randn(p.rows, p.columns, stream) end
  local u = q.rand(p.rows, p.columns, stream) - 0.5 -- Laplace of variance 1: quantile function of a uniform number
  return u:sign() * (1 - u:abs() * 2):clamp(1e-7):log() * -(0.5 ^ 0.5)
end

--- Which share of the squared error lies in each bin of the weights, over the bins' width: the area is 1.
local function error_density(w, y)
  local square, bin = (y - w):square(), ((w + REACH) * (BINS / (2 * REACH))):floor()
  local density, total = {}, square:sum():item()
  for i = 1, BINS do density[i] = (square * bin:eq(i - 1)):sum():item() / total * BINS / (2 * REACH) end
  return density
end

--- The numbers that the first group's weights can become, ascending.
local function levels_of(f, report)
  local list, s, z = f:levels(), report.scale[1][1], report.zero[1][1]
  local shifted = f:describe().name:find("asymmetric") or f:describe().name:find("awq") or f:describe().name:find("real")
  for i, level in ipairs(list) do list[i] = s * (level - (shifted and z or 0)) end
  return list
end

local function run(p)
  local w, rows = weights(p), {}
  local variance = w:square():mean():item()
  for i, entry in ipairs(formats(p.group)) do
    q.scope(function()
      local name, f = unpack(entry)
      local y, report = q.quant.rtn(w, f)
      local steps = f:describe().steps
      for k, step in ipairs(steps or {}) do steps[k] = step * report.scale[1][1] end
      rows[i] = {name = name, title = tostring(f), levels = levels_of(f, report), steps = steps, density = error_density(w, y),
        bits = report.bits, error = report.mse / variance}
    end)
  end
  return {rows = rows}
end

-- ---- what is drawn ------------------------------------------------------------

--- The staircase of one group: corners of x -> level.
local function staircase(row)
  local x, y = {-REACH}, {}
  for i, level in ipairs(row.levels) do
    y[i] = level
    local next_level = row.levels[i + 1]
    x[i + 1] = next_level and (row.steps and row.steps[i] or (level + next_level) / 2) or REACH
  end
  local px, py = {}, {}
  for i, level in ipairs(y) do -- only what lies within reach
    local from, to = math.max(x[i], -REACH), math.min(x[i + 1], REACH)
    if from < to then
      px[#px + 1], py[#py + 1] = from, level
      px[#px + 1], py[#py + 1] = to, level
    end
  end
  return px, py
end

--- The figure of one format: of the first seed.
local function figure_of(index)
  return function(runs)
    local row, x = runs[1].rows[index], {}
    for i = 1, BINS do x[i] = -REACH + (i - 0.5) * 2 * REACH / BINS end
    local sx, sy = staircase(row)
    local above = {title = row.title, y = "becomes", xlim = {-REACH, REACH},
      ylim = {-REACH, REACH}, {"line", x = {-REACH, REACH}, y = {-REACH, REACH}, marker = false, colour = "grey", dash = "dashed", width = 0.6},
      {"line", x = sx, y = sy, marker = false, colour = 1}}
    local below = {x = "weight / deviation", y = "share of the error", xlim = {-REACH, REACH},
      title = ("%d levels, %.4g bits, error %.3g"):format(#row.levels, row.bits, row.error)}
    local shown = 0
    for _, v in ipairs(row.levels) do shown = shown + (math.abs(v) <= REACH and 1 or 0) end
    for _, v in ipairs(shown <= SHOWN and row.levels or {}) do
      if math.abs(v) <= REACH then below[#below + 1] = {"vline", x = v, colour = "grey", dash = "solid", width = 0.4} end
    end
    below[#below + 1] = {"line", x = x, y = row.density, marker = false, colour = 1}
    return q.plot.grid{columns = 1, share = "x", width = 4, height = 3.6, above, below}
  end
end

local KINDS = {{"^int", "integers"}, {"^gauss", "gaussian"}, {"^nf", "nf4"}, {"^fp", "small floats"}, {"^mx", "microscaling"}, {"^nv", "nvfp4"},
  {"^rule", "powers of two"}} -- a pattern of names and what the legend says

--- Bits against error, all formats by kind, with the bound of rate-distortion theory for normal weights.
local function overview(runs, p)
  local kinds, order = {}, {}
  for _, row in ipairs(runs[1].rows) do
    local kind = "ternary, binary"
    for _, pair in ipairs(KINDS) do
      if row.name:find(pair[1]) then kind = pair[2] end
    end
    if not kinds[kind] then kinds[kind], order[#order + 1] = {x = {}, y = {}}, kind end
    table.insert(kinds[kind].x, row.bits)
    table.insert(kinds[kind].y, row.error)
  end
  local panel = {x = "bits a weight, scales included", y = "squared error / variance", log = "y", width = 6.5, height = 4.5,
    title = ("round to nearest, %s weights"):format(p.weights)}
  if p.weights == "normal" then
    local x, y = {}, {}
    for i = 1, 33 do x[i], y[i] = 1 + (i - 1) / 4, 4 ^ -(1 + (i - 1) / 4) end
    panel[1] = {"line", x = x, y = y, marker = false, colour = "grey", dash = "dashed", label = "Shannon's bound"}
  end
  for _, kind in ipairs(order) do panel[#panel + 1] = {"points", x = kinds[kind].x, y = kinds[kind].y, label = kind} end
  return q.plot(panel)
end

local figures = {overview = overview}
for i, entry in ipairs(formats(128)) do figures[entry[1]] = figure_of(i) end

local function report(runs)
  local lines = {"| format | levels | bits a weight | squared error / variance | dB |", "| --- | --- | --- | --- | --- |"}
  for _, row in ipairs(runs[1].rows) do
    lines[#lines + 1] = ("| %s | %d | %.3f | %.4g | %.2f |"):format(row.name, #row.levels, row.bits, row.error, -10 * math.log10(row.error))
  end
  return table.concat(lines, "\n")
end

-- ---- what is claimed ------------------------------------------------------------

local function error_of(result, name)
  for _, row in ipairs(result.rows) do
    if row.name == name then return row.error end
  end
end

return q.recipe{
  name = "formats",
  doc = "Which numbers can a weight become, and where does the error lie? One figure for each number format.",
  params = {
    {"rows", "integer", default = 512, min = 1, doc = "rows of the weight"},
    {"columns", "integer", default = 1024, min = 1, doc = "columns of the weight"},
    {"group", "integer", default = 128, min = 1, doc = "columns that share a scale, in formats without a group of their own"},
    {"weights", "string", default = "normal", choices = {"normal", "laplace"}, doc = "distribution of the weights"},
  },
  scales = {smoke = {rows = 32, columns = 256}, tiny = {rows = 512}, small = {rows = 4096}},
  run = run, figures = figures, report = report,
  claims = {
    {"F1", "4-bit half-integer levels at the best clip: error on normal weights over Max's 0.01154", source = "Max 1960, table II",
      measure = function(r) return error_of(r, "gaussian4") / 0.01154 end, below = 1.03},
    {"F2", "nf4 against 4-bit integers with groups of 128, on normal weights: difference over sum of the errors",
      source = "Dettmers et al. 2023, section 3", below = 0,
      measure = function(r) return (error_of(r, "nf4") - error_of(r, "int4")) / (error_of(r, "nf4") + error_of(r, "int4")) end},
  },
}

--- quantizers.lua - how much loss does each bit buy? Every method and format on one small trained model.
--
-- A model is trained at a constant rate and cooled down, then quantized in every way that q.quant knows.
-- The figure sets the loss that is left against the bits a weight really takes, scales and zero points
-- included, so that a format with small groups pays for them.

local q = require "quench"
local lab = q.lab

--- Methods at the integer widths, and formats by round to nearest and GPTQ: {name, method, options}.
local function trials(p)
  local list = {}
  for bits = 2, 8 do
    local function add(name, more)
      local o = {bits = bits, group = p.group}
      for key, value in pairs(more) do o[key] = value end
      list[#list + 1] = {name = name, bits = bits, options = o}
    end
    add("rtn", {method = "rtn"})
    if bits <= 4 then
      add("rtn, clip searched", {method = "rtn", mse = true})
      add("gptq", {})
      add("gptq, act_order", {act_order = true, static_groups = true})
      add("gptaq", {method = "gptaq"})
      add("awq", {method = "awq"})
      add("hqq", {method = "hqq"})
      add("gptq, hadamard", {hadamard = p.width % 64 == 0 and 64 or p.width})
    end
  end
  for _, f in ipairs(q.quant.formats()) do
    list[#list + 1] = {name = f.name, format = true, options = {method = "rtn", format = f.name}}
    list[#list + 1] = {name = f.name .. ", gptq", format = true,
      options = {method = "gptq", format = f.name, static_groups = true}}
  end
  return list
end

--- The trained model: a stable run and its cooldown.
local function trained(p, ctx, data)
  local _, folder = lab.stable(ctx, p, data, {steps = p.steps, forks = {p.steps}, points = {}, formats = {}})
  local _, last = lab.cooldown(ctx, p, data, {folder = folder, from = p.steps, decay = p.cooldown, points = {}, formats = {}})
  return q.train.checkpoint.model(last .. "/latest.safetensors")
end

local function run(p, ctx)
  lab.afford(p, lab.plan(p, p.steps + p.cooldown))
  local data = lab.data(p)
  local model = trained(p, ctx, data)
  local how = {tokens = p.eval_tokens, batch = p.batch, context = p.context}
  local loss = q.train.evaluate(model, data, how).loss
  local list, rows = trials(p), {}
  local bar = ctx:progress{total = #list, label = "quantizing"}
  for i, trial in ipairs(list) do
    local o = {calibration = lab.calibration(data, p, p.seed)}
    for key, value in pairs(trial.options) do o[key] = value end
    local small, report = q.quant.quantize(model, o)
    local output = 0
    for _, r in ipairs(report) do output = output + r.output_error / #report end
    rows[i] = {name = trial.name, integer = trial.bits, format = trial.format, bits = report.bits, output_error = output,
      error = q.eval.relative_ce(loss, q.train.evaluate(small, data, how).loss)}
    bar:update(i, {error = rows[i].error})
  end
  bar:finish()
  return {loss = loss, rows = rows}
end

-- ---- what is drawn ------------------------------------------------------------

--- Rows of one name over the seeds, in order of bits: lists of bits and of mean errors in per cent.
local function curve(runs, name)
  local x, y = {}, {}
  for k, row in ipairs(runs[1].rows) do
    if row.name == name then
      local sum = 0
      for _, r in ipairs(runs) do sum = sum + r.rows[k].error / #runs end
      x[#x + 1], y[#y + 1] = row.bits, 100 * math.max(sum, 1e-6)
    end
  end
  return x, y
end

--- Formats by bits, each with its mean output error of a layer: round to nearest and GPTQ.
local function format_panel(runs)
  local names, plain, gptq = {}, {}, {}
  local rows = q.quant.formats()
  table.sort(rows, function(a, b) return a.bits_per_weight > b.bits_per_weight or a.bits_per_weight == b.bits_per_weight and a.name > b.name end)
  local function error_of(name)
    local sum, bits = 0, nil
    for _, r in ipairs(runs) do
      for _, row in ipairs(r.rows) do
        if row.name == name then sum, bits = sum + row.output_error / #runs, row.bits end
      end
    end
    return 100 * sum, bits
  end
  for i, f in ipairs(rows) do
    local error, bits = error_of(f.name)
    names[i], plain[i], gptq[i] = ("%s (%.2f)"):format(f.name, bits), error, (error_of(f.name .. ", gptq"))
  end
  return {title = "formats", x = "format (bits a weight)", y = "output error of a layer (%)", log = "y",
    {"points", x = names, y = plain, label = "round to nearest"}, {"points", x = names, y = gptq, label = "gptq"}}
end

local function figure(runs)
  local methods = {x = "bits a weight, scales included", y = "loss left (%)", log = "y", title = "methods"}
  for _, name in ipairs{"rtn", "rtn, clip searched", "gptq", "gptq, act_order", "gptaq", "awq", "hqq", "gptq, hadamard"} do
    local x, y = curve(runs, name)
    methods[#methods + 1] = {"line", x = x, y = y, label = name, marker = "circle"}
  end
  return q.plot.grid{columns = 1, methods, format_panel(runs), heights = {1, 1.3}, width = 7, height = 10}
end

-- ---- the formats themselves -----------------------------------------------------

local BINS, REACH = 120, 4 -- bins from -REACH to REACH deviations

--- Where a format's error comes from: of normal weights, the share of the squared error in each bin of their values.
local function error_density(format)
  local w = q.randn(256, 1024, q.stream(1, "formats"))
  local y, report = q.quant.rtn(w, format)
  local square = (y - w):square()
  local bin = ((w + REACH) * (BINS / (2 * REACH))):floor()
  local x, density = {}, {}
  for i = 1, BINS do
    x[i] = -REACH + (i - 0.5) * 2 * REACH / BINS
    density[i] = (square * bin:eq(i - 1)):sum():item() / w:numel() * BINS / (2 * REACH)
  end
  return x, density, report, w, y
end

--- The levels that one group of weights can take.
local function levels_of(format, report)
  local list, s, z = format:levels(), report.scale[1][1], report.zero[1][1]
  local whole = tostring(format):find("asymmetric")
  for i, level in ipairs(list) do list[i] = s * (level - (whole and z or 0)) end
  return list
end

local function format_panels()
  local panels = {columns = 3, width = 10, height = 12, share = "x",
    title = "levels of one group, and where the squared error of normal weights lies"}
  local shown = {q.quant.int(2, {group = 128}), q.quant.int(3, {group = 128}), q.quant.int(4, {group = 128}),
    q.quant.int(4, {group = 128, symmetric = true}), q.quant.gaussian(4), q.quant.ternary{}}
  for _, name in ipairs{"nf4", "fp4", "fp4_e2m1", "mxfp4", "nvfp4", "fp6_e2m3", "fp8_e4m3", "fp8_e5m2",
    "mxint8"} do shown[#shown + 1] = q.quant[name]() end
  for _, format in ipairs(shown) do
    q.scope(function()
      local x, density, report = error_density(format)
      local panel = {title = ("%s, mse %.2g"):format(format:describe().name, report.mse), x = "weight / deviation",
        y = "error density", xlim = {-REACH, REACH}}
      local levels = levels_of(format, report)
      for _, v in ipairs(#levels <= 64 and levels or {}) do
        if math.abs(v) <= REACH then panel[#panel + 1] = {"vline", x = v, colour = "grey", dash = "solid", width = 0.4} end
      end
      panel[#panel + 1] = {"line", x = x, y = density, marker = false, colour = 1}
      panels[#panels + 1] = panel
    end)
  end
  return q.plot.grid(panels)
end

--- A table of everything, for report.md.
local function report(runs)
  local lines = {"| method or format | bits a weight | loss left (%) | output error of a layer |", "| --- | --- | --- | --- |"}
  for k, row in ipairs(runs[1].rows) do
    local error, output = 0, 0
    for _, r in ipairs(runs) do
      error, output = error + r.rows[k].error / #runs, output + r.rows[k].output_error / #runs
    end
    lines[#lines + 1] = ("| %s | %.3f | %.3f | %.3g |"):format(row.integer and ("%s, %d bit"):format(row.name, row.integer) or row.name,
      row.bits, 100 * error, output)
  end
  return table.concat(lines, "\n")
end

-- ---- what is claimed ------------------------------------------------------------

local function error_of(result, name, bits)
  for _, row in ipairs(result.rows) do
    if row.name == name and (not bits or row.integer == bits) then return row.error end
  end
end

local function ratio(a, b, bits) return function(result) return error_of(result, a, bits) / error_of(result, b, bits) end end

return q.recipe{
  name = "quantizers",
  doc = "How much loss does each bit buy? Every method and number format on one small trained model.",
  params = lab.params{{"cooldown", "integer", default = 200, min = 4, doc = "steps of the cooldown"}},
  scales = {
    smoke = {layers = 1, width = 32, heads = 2, vocab = 256, batch = 2, context = 32, steps = 20, cooldown = 8, group = 16, calibration = 2,
      eval_tokens = 256},
    tiny = {steps = 1200, cooldown = 300},
    small = {layers = 4, width = 256, heads = 8, vocab = 1024, context = 256, steps = 4000, cooldown = 600, eval_tokens = 65536, calibration = 64},
  },
  run = run,
  plan = function(p) return lab.plan(p, p.steps + p.cooldown) end,
  figures = {quantizers = figure, formats = format_panels},
  report = report,
  claims = {
    {"Q1", "GPTQ leaves less error than round to nearest at 3 bits: ratio", measure = ratio("gptq", "rtn", 3), below = 0.8,
      source = "Frantar et al. 2022, tables 2 and 3"},
    {"Q2", "the same at 2 bits", measure = ratio("gptq", "rtn", 2), below = 0.8, source = "Frantar et al. 2022"},
    {"Q3", "AWQ leaves less error than round to nearest at 3 bits: ratio", measure = ratio("awq", "rtn", 3), below = 1,
      source = "Lin et al. 2023, table 4"},
  },
}

--- quantizers.lua - how much loss does each bit buy? Every method and format on one small trained model.
--
-- A model is trained at a constant rate and cooled down, then quantized in every way that q.quant knows.
-- The figure sets the loss that is left against the bits a weight really takes, scales and zero points
-- included, so that a format with small groups pays for them.

local q = require "quench"
local lab = q.lab

--- Methods at the integer widths, formats by round to nearest and GPTQ, and models whose inputs are rounded too:
-- {name, bits or format, options of q.quant.quantize, rotate = options of q.quant.rotate}.
local function trials(p)
  local list = {}
  local function add(name, o, more)
    local trial = {name = name, options = o}
    for key, value in pairs(more or {}) do trial[key] = value end
    list[#list + 1] = trial
  end
  for bits = 2, 8 do
    local function integers(name, more, rotate)
      local o = {bits = bits, group = p.group}
      for key, value in pairs(more) do o[key] = value end
      add(name, o, {bits = bits, rotate = rotate})
    end
    integers("rtn", {method = "rtn"})
    if bits <= 4 then
      integers("rtn, clip searched", {method = "rtn", mse = true})
      integers("gptq", {})
      integers("gptq, act_order", {act_order = true, static_groups = true})
      integers("gptaq", {method = "gptaq"})
      integers("awq", {method = "awq"})
      integers("hqq", {method = "hqq"})
      integers("gptq, hadamard", {hadamard = p.width % 64 == 0 and 64 or p.width})
      integers("gptq, quarot", {}, {})
    end
  end
  for _, f in ipairs(q.quant.formats()) do
    add(f.name, {method = "rtn", format = f.name}, {format = true})
    add(f.name .. ", gptq", {method = "gptq", format = f.name, static_groups = true}, {format = true})
  end
  local four, eight = q.quant.int(4, {convention = "restricted"}), q.quant.int(8, {convention = "restricted"})
  add("W8A8 rtn", {method = "rtn", format = eight, activations = eight}, {inputs = 8})
  add("W8A8 smoothquant", {method = "smoothquant"}, {inputs = 8})
  add("W8A8 LLM.int8", {method = "int8_outlier"}, {inputs = 8})
  for _, how in ipairs{{"", nil}, {" quarot", {}}, {" quarot, online", {online = true}}} do
    add("W4A4 rtn" .. how[1], {method = "rtn", format = four, activations = four}, {inputs = 4, rotate = how[2]})
    add("W4A4 gptq" .. how[1], {format = four, activations = four}, {inputs = 4, rotate = how[2]})
  end
  add("W4A4KV4 gptq quarot, online", {format = four, activations = four, kv = four, kv_hadamard = true}, {inputs = 4, rotate = {online = true}})
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
    q.scope(function()
      local o = {calibration = lab.calibration(data, p, p.seed)}
      for key, value in pairs(trial.options) do o[key] = value end
      local start = q.system.clock()
      local small, report = q.quant.quantize(trial.rotate and q.quant.rotate(model, trial.rotate) or model, o)
      ctx:log{trial = trial.name, bits = trial.bits, seconds = q.system.clock() - start, solving = report.seconds}
      local output = 0
      for _, r in ipairs(report) do output = output + r.output_error / #report end
      rows[i] = {name = trial.name, integer = trial.bits, format = trial.format, inputs = trial.inputs, bits = report.bits,
        output_error = output, error = q.eval.relative_ce(loss, q.train.evaluate(small, data, how).loss)}
    end)
    bar:update(i, {error = rows[i].error})
  end
  bar:finish()
  ctx:note("log.jsonl has the seconds of each quantization, calibration and rotation included (%d threads)", q.threads())
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
  for _, name in ipairs{"rtn", "rtn, clip searched", "gptq", "gptq, act_order", "gptaq", "awq", "hqq", "gptq, quarot"} do
    local x, y = curve(runs, name)
    methods[#methods + 1] = {"line", x = x, y = y, label = name, marker = "circle"}
  end
  return q.plot.grid{columns = 1, methods, format_panel(runs), heights = {1, 1.3}, width = 7, height = 10}
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

--- (a - b) / (|a| + |b|) of the losses left: -1/9 where a is 0.8 of b, and defined where noise makes one negative.
local function against(a, b, bits)
  return function(result)
    local x, y = error_of(result, a, bits), error_of(result, b, bits)
    return (x - y) / (math.abs(x) + math.abs(y))
  end
end

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
  figures = {quantizers = figure},
  report = report,
  claims = {
    {"Q1", "GPTQ leaves less of a loss than round to nearest at 3 bits: difference over sum", measure = against("gptq", "rtn", 3), below = -1 / 9,
      source = "Frantar et al. 2022, tables 2 and 3"},
    {"Q2", "the same at 2 bits", measure = against("gptq", "rtn", 2), below = -1 / 9, source = "Frantar et al. 2022"},
    {"Q3", "AWQ leaves less of a loss than round to nearest at 3 bits: difference over sum", measure = against("awq", "rtn", 3), below = 0,
      source = "Lin et al. 2023, table 4"},
    {"Q4", "online QuaRot leaves less of a loss than none at W4A4, GPTQ: difference over sum",
      measure = against("W4A4 gptq quarot, online", "W4A4 gptq"), below = 0, source = "Ashkboos et al. 2024, table 1"},
  },
}

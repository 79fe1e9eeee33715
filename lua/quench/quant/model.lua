--- model.lua - quantizing a whole model, layer by layer.
--
-- Layers that share one input form a stage. Stages run in order of execution; before each, the calibration
-- activations are moved through the current block with everything before it already quantized ("true
-- sequential"), and the block is left as soon as the stage has seen its inputs. Activations wait between
-- blocks, so the model never runs from the start again.

local q = require "quench"
local nn = require "quench.nn"
local options = require "quench.options"
local help = require "quench.help"
local system = require "quench.c.system"
local format = require "quench.quant.format"
local inputs_of = require "quench.quant.inputs"
local methods = require "quench.quant.methods"

local M = {}

local own = {
  {"method", "string", default = "gptq", doc = "how weights are quantized"},
  {"calibration", "tensor|list", doc = "token ids (N, T), or a list of such; most methods need some"},
  {"batch", "integer", default = 8, min = 1, doc = "calibration sequences at a time"},
  {"head", "boolean", default = false, doc = "quantize the output head too"},
  {"true_sequential", "boolean", default = true, doc = "inputs of each stage after the stages before it; false: once a block"},
  {"skip", "list", default = {}, doc = "Lua patterns of names that stay as they are"},
  {"override", "table", default = {}, doc = "pattern of names -> options for them, e.g. {dense = {bits = 8}}; in no order"},
  {"errors", "boolean", default = true, doc = "measure each layer's output error on the calibration data, if there is any"},
  {"progress", "function", doc = "called as progress(done, total, report) after each layer"},
}

local specs = {}
local function spec_of(name)
  local method = methods[name]
  if not method then
    local names = {}
    for n in pairs(methods) do names[#names + 1] = n end
    table.sort(names)
    options.fail("q.quant.quantize: no method %s%s; methods: %s", tostring(name), options.suggest(tostring(name), names),
      table.concat(names, ", "))
  end
  if not specs[name] then
    local entries = format.with_weight_entries(method.entries)
    for i, e in ipairs(own) do table.insert(entries, i, e) end
    specs[name] = options.spec("q.quant.quantize", entries)
  end
  return specs[name], method
end

-- ---- what is to be done ---------------------------------------------------

local function matches(name, patterns)
  for _, p in ipairs(patterns) do
    if name:find(p) then return true end
  end
  return false
end

--- The options for one record: those of the call, with the overrides whose pattern fits its name.
local function options_for(record, given, o, spec)
  local changed
  for pattern, more in pairs(o.override) do
    if record.name:find(pattern) then
      changed = changed or {}
      for key, value in pairs(more) do changed[key] = value end
    end
  end
  if not changed then return o end
  local merged = {}
  for key, value in pairs(given) do merged[key] = value end
  for key, value in pairs(changed) do merged[key] = value end
  return spec(merged)
end

--- Stages {layer =, records = {...}, options =} in order of execution: neighbours of one block that share an input.
local function stages_of(records, given, o, spec)
  local stages = {}
  for _, r in ipairs(records) do
    if not matches(r.name, o.skip) then
      local last, its = stages[#stages], options_for(r, given, o, spec)
      if not last or last.layer ~= r.layer or last.group ~= r.group or last.options ~= its then
        last = {layer = r.layer, group = r.group, records = {}, options = its, index = #stages + 1}
        stages[#stages + 1] = last
      end
      table.insert(last.records, r)
    end
  end
  return stages
end

--- Every layer that cannot be quantized, with its reason; raises once with all of them.
local function check_all(stages, method, o)
  local wrong = {}
  local function complain(r, text) wrong[#wrong + 1] = ("  %s %s: %s"):format(r.name, "(" .. table.concat(r.weight:shape(), ", ")
    .. ")", text) end
  for _, stage in ipairs(stages) do
    local ok, f = pcall(format.of_options, stage.options)
    for _, r in ipairs(stage.records) do
      if not ok then complain(r, (tostring(f):gsub("^.-:%d+: ", ""))) end
      if r.weight:ndim() ~= 2 then complain(r, "the weight must have two axes") end
      if not r.weight:all_finite() then complain(r, "the weight holds NaN or infinity") end
      if r.forward then complain(r, "it already has a forward of its own") end
      local reason = ok and method.check and method.check(r.weight, stage.options)
      if reason then complain(r, reason) end
    end
  end
  if #stages == 0 then options.fail("q.quant.quantize: no layer to quantize") end
  if #wrong > 0 then options.fail("q.quant.quantize: %d layers cannot be quantized:\n%s", #wrong, table.concat(wrong, "\n")) end
  if not o.calibration and next(method.needs) then options.fail("q.quant.quantize: method '%s' needs calibration = token ids", o.method) end
end

-- ---- calibration ----------------------------------------------------------

--- Batches of ids (b, T) from a tensor (N, T) or (T), or a list of such.
local function batches_of(calibration, size)
  local list = {}
  local function add(ids)
    if ids:ndim() == 1 then ids = ids:view(1, -1) end
    for i = 1, ids:size(1), size do list[#list + 1] = ids:narrow(1, i, math.min(size, ids:size(1) - i + 1)) end
  end
  if type(calibration) == "table" then
    for _, ids in ipairs(calibration) do add(ids) end
  else
    add(calibration)
  end
  if #list == 0 then options.fail("q.quant.quantize: the calibration set is empty") end
  return list
end

--- The inputs of the stages' records while run() goes: {record -> x}. Leaves run as soon as a later record is called.
local function capture(run, wanted, order, last)
  local seen, enough = {}, {}
  local ok, message = pcall(nn.watching, function(record, x)
    if (order[record] or 0) > last then error(enough, 0) end
    if wanted[record] then seen[record] = seen[record] and q.concat({seen[record], x:view(-1, x:size(-1))}, 1) or x:view(-1, x:size(-1)) end
  end, run)
  if not ok and message ~= enough then error(message, 0) end
  return seen
end

-- A stream of activations: one (B, T, D) a batch.
local function start_stream(model, batches)
  local h = {}
  for i, ids in ipairs(batches) do h[i] = model:embed(ids):detach() end
  return h
end

local function advance(model, layer, h)
  for i, x in ipairs(h) do
    h[i] = q.scope(function() return model:block(layer, x):detach() end)
    x:free()
  end
end

local Work = {}
Work.__index = Work

--- What runs the given layer on activations x: a block, or the head where layer is nil.
local function runner(model, layer, x)
  return layer and function() model:block(layer, x) end or function() model:head(x) end
end

--- Statistics of the inputs of stages first .. last (of one block), a list beside the stages.
function Work:measure(first, last)
  local wanted, order, stats = {}, {}, {}
  for i, stage in ipairs(self.stages) do
    for _, r in ipairs(stage.records) do order[r] = i end
  end
  for i = first, last do
    local r = self.stages[i].records[1]
    wanted[r] = i
    stats[i] = inputs_of.new(r.weight:size(2), r.weight:dtype(), self.needs)
  end
  for b in ipairs(self.h) do
    q.scope(function()
      local layer = self.stages[first].layer
      local seen = capture(runner(self.model, layer, self.h[b]), wanted, order, last)
      local full = self.full and capture(runner(self.original, layer, self.full[b]), self.twins(wanted), self.twins(order), last)
      for record, i in pairs(wanted) do
        if seen[record] then stats[i]:add(seen[record], full and full[self.original_of[record]]) end
      end
    end)
    system.check_interrupt()
  end
  return stats
end

-- ---- one stage ------------------------------------------------------------

local function quadratic(d, h) return (d:matmul(h) * d):sum():item() end

--- Relative errors of weight and output, outliers, bits.
local function describe(record, before, after, inputs, report)
  local n = before:numel()
  local gap = after - before
  local square = (before * before):sum():item()
  report.name, report.layer, report.shape = record.name, record.layer, before:shape()
  report.weight_error = square > 0 and (gap * gap):sum():item() / square or 0
  report.weight_outliers = square > 0 and before:abs():max():item() / (square / n) ^ 0.5 or 0
  if inputs and inputs.sum and inputs.tokens > 0 then
    local h = inputs:hessian()
    local size = quadratic(before, h)
    report.output_error = size > 0 and math.max(0, quadratic(gap, h)) / size or 0
    local diagonal = inputs:diagonal()
    local mean = diagonal:mean():item()
    report.input_outliers = mean > 0 and (diagonal:max():item() / mean) ^ 0.5 or 0
    report.tokens = inputs.tokens
  end
  return report
end

function Work:quantize(stage, inputs)
  local start = system.clock()
  local weights = {}
  for i, r in ipairs(stage.records) do weights[i] = r.weight:detach() end
  local values, reports = self.method.run(weights, inputs, stage.options)
  local seconds = (system.clock() - start) / #weights
  for i, r in ipairs(stage.records) do
    local report = describe(r, weights[i], values[i], inputs, reports[i])
    report.seconds = seconds
    r.weight:copy_(values[i])
    self.report[#self.report + 1] = report
    if self.o.progress then self.o.progress(#self.report, self.total, report) end
  end
end

--- Stages first .. last are those of one block.
function Work:block(first, last)
  if not self.h then
    for i = first, last do q.scope(self.quantize, self, self.stages[i]) end
  elseif self.o.true_sequential then
    for i = first, last do q.scope(function() self:quantize(self.stages[i], self:measure(i, i)[i]) end) end
  else
    q.scope(function()
      local stats = self:measure(first, last)
      for i = first, last do self:quantize(self.stages[i], stats[i]) end
    end)
  end
end

function Work:run()
  local done, at = 0, 1 -- blocks whose outputs the streams hold; the next stage
  while at <= #self.stages do
    local layer, last = self.stages[at].layer, at
    while self.stages[last + 1] and self.stages[last + 1].layer == layer do last = last + 1 end
    for i = done + 1, self.h and (layer or self.model:layers() + 1) - 1 or 0 do
      advance(self.model, i, self.h)
      if self.full then advance(self.original, i, self.full) end
      done = i
    end
    self:block(at, last)
    at = last + 1
  end
end

--- Mean over all quantized weights, by their number.
local function summary(report)
  local weights, bits, seconds = 0, 0, 0
  for _, r in ipairs(report) do
    local n = r.shape[1] * r.shape[2]
    weights, bits, seconds = weights + n, bits + n * r.bits, seconds + r.seconds
  end
  report.weights, report.bits, report.seconds = weights, bits / weights, seconds
  return report
end

--- q.quant.quantize(model, options) -> a new model, report.
function M.quantize(model, given)
  given = given or {}
  local spec, method = spec_of(given.method or "gptq")
  local o = spec(given)
  check_all(stages_of(model:linears(o.head), given, o, spec), method, o)
  return q.no_grad(function()
    local twin = model:clone()
    local work = setmetatable({model = twin, original = model, o = o, method = method, report = {}, total = 0}, Work)
    work.stages = stages_of(twin:linears(o.head), given, o, spec)
    for _, stage in ipairs(work.stages) do work.total = work.total + #stage.records end
    work.needs = {}
    for key, value in pairs(method.needs) do work.needs[key] = value end
    if o.errors then work.needs.hessian = true end
    if o.calibration then
      local batches = batches_of(o.calibration, o.batch)
      work.h = start_stream(twin, batches)
      if method.needs.drift then work:follow_original(batches) end
    end
    work:run()
    return twin, summary(work.report)
  end)
end

--- Keeps a second stream through the unquantized model, for methods that look at the drift.
function Work:follow_original(batches)
  self.full = start_stream(self.original, batches)
  self.original_of = {}
  local theirs = self.original:linears(true)
  for i, r in ipairs(self.model:linears(true)) do self.original_of[r] = theirs[i] end
  function self.twins(by_record)
    local out = {}
    for r, v in pairs(by_record) do out[self.original_of[r]] = v end
    return out
  end
end

help.add{"q.quant.quantize", M.quantize, "quantize(model, options) -> model, report",
  "Quantizes the linear layers of a model, block by block, and gives a new model with the values they stand for.",
  options = specs.gptq or spec_of("gptq"),
  text = "Each method adds its own options: those shown are GPTQ's.",
  returns = "a new model; a list of {name=, layer=, shape=, weight_error=, output_error=, weight_outliers=, input_outliers=, bits=, "
    .. "mse=, scale=, zero=, seconds=, ...}, with the totals weights, bits (a weight) and seconds",
  errors = "all layers are checked before the first is touched, and every one that cannot be quantized is listed",
  example = "local small, report = q.quant.quantize(m, {method = 'gptq', bits = 3, group = 128, calibration = ids})\n"
    .. "for _, r in ipairs(report) do print(r.name, r.bits, r.output_error) end",
  see = {"q.quant.gptq", "q.quant.rtn"}}

M.public = {"quantize"}

return M

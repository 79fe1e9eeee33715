--- model.lua - quantizing a whole model, layer by layer.
--
-- Layers that share one input form a stage. Stages run in order of execution; before each, the calibration
-- activations are moved through the current block with everything before it already quantized ("true
-- sequential"), and the block is left as soon as the stage has seen its inputs. Activations wait between
-- blocks, so the model never runs from the start again.

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"
local system = require "quench.c.system"
local activations = require "quench.quant.activations"
local c = require "quench.c.quant"
local calibration = require "quench.quant.calibration"
local format = require "quench.quant.format"
local inputs_of = require "quench.quant.inputs"
local inspected = require "quench.quant.inspected"
local methods = require "quench.quant.methods"
local resume = require "quench.quant.resume"

local M = {}

--- Names of the methods, sorted.
local function method_names()
  local names = {}
  for n in pairs(methods) do names[#names + 1] = n end
  table.sort(names)
  return names
end

local patterns_of = options.pattern_check "override"

local function override_check(v)
  for pattern, o in pairs(v) do
    if type(o) ~= "table" then return ("override: '%s' needs a table of options"):format(tostring(pattern)) end
    local wrong = patterns_of(pattern)
    if wrong then return wrong end
  end
end

local own = {
  {"method", "string", default = "gptq", choices = method_names(), doc = "how weights are quantized"},
  {"calibration", "tensor|list", doc = "token ids (N, T), or a list of such; most methods need some"},
  {"inputs", "table", doc = "what q.quant.calibrate measured, instead of calibration: nothing is run",
    check = function(v) return type(v.inputs) ~= "table" and "inputs must be what q.quant.calibrate gives" or nil end},
  {"batch", "integer", default = 8, min = 1, doc = "calibration sequences at a time"},
  {"head", "boolean", default = false, doc = "quantize the output head too"},
  {"true_sequential", "boolean", default = true, doc = "inputs of each stage after the stages before it; false: once a block"},
  {"skip", "list", default = {}, doc = "Lua patterns of names that stay as they are", check = options.pattern_check "skip"},
  {"override", "table", default = {}, check = override_check,
    doc = "pattern of names -> options for them, e.g. {dense = {bits = 8}}; several apply in alphabetical order"},
  {"activations", "any", doc = "a format for the inputs of each quantized layer when the model runs, one scale a token, e.g. q.quant.int(4)"},
  {"kv", "any", doc = "a format for keys and values, one scale a token and head"},
  {"kv_hadamard", "boolean", default = false, doc = "keys and values in a Hadamard basis of the head"},
  {"hadamard", "boolean|integer", default = false,
    doc = "weights and inputs of each layer in a Hadamard basis: the block size, or true for all of it"},
  {"resume", "string", doc = "a folder that keeps finished layers, so that an interrupted run goes on where it was"},
  {"errors", "boolean", default = true, doc = "measure each layer's output error on the calibration data, if there is any"},
  {"progress", "function", doc = "called as progress(done, total, report) after each layer"},
}

--- A line a method: its name and what it does.
function M.method_lines()
  local lines = {}
  for i, name in ipairs(method_names()) do lines[i] = ("  %-14s %s"):format(name, methods[name].doc) end
  return lines
end

local specs = {}
local function spec_of(name)
  local method = methods[name]
  if not method then
    local names = method_names()
    options.fail("q.quant.quantize: no method %s%s; methods: %s", tostring(name), options.suggest(tostring(name), names),
      table.concat(names, ", "))
  end
  if not specs[name] then
    local entries = {}
    for i, e in ipairs(method.own_formats and method.entries or format.with_weight_entries(method.entries)) do entries[i] = e end
    for i, e in ipairs(own) do table.insert(entries, i, e) end
    specs[name] = options.spec("q.quant.quantize", entries)
  end
  return specs[name], method
end

--- The checked options of q.quant.quantize, its method, and its spec. Formats that do not exist are errors here, once.
function M.options_of(given)
  local spec, method = spec_of(given.method or "gptq")
  local o = spec(given)
  if not method.own_formats then format.of_options(o) end
  if o.activations then format.format(o.activations) end
  if o.kv then format.format(o.kv) end
  return o, method, spec
end

-- ---- what is to be done ---------------------------------------------------

local function matches(name, patterns)
  for _, p in ipairs(patterns) do
    if name:find(p) then return true end
  end
  return false
end

--- A function record -> its options: those of the call, with the overrides whose patterns fit its name, in alphabetical
-- order of the patterns. Records with the same overrides share one table.
local function chooser(given, o, spec)
  local patterns, made = {}, {}
  for pattern in pairs(o.override) do patterns[#patterns + 1] = pattern end
  table.sort(patterns)
  return function(record)
    local merged, key = {}, ""
    for k, value in pairs(given) do merged[k] = value end
    for i, pattern in ipairs(patterns) do
      if record.name:find(pattern) then
        key = key .. i .. " "
        format.merge_options(merged, o.override[pattern])
      end
    end
    if key == "" then return o end
    made[key] = made[key] or spec(merged)
    return made[key]
  end
end

--- Stages {layer =, records = {...}, options =} in order of execution: neighbours of one block that share an input.
local function stages_of(records, given, o, spec)
  local stages, options_of = {}, chooser(given, o, spec)
  for _, r in ipairs(records) do
    if not matches(r.name, o.skip) then
      local last, its = stages[#stages], options_of(r)
      if not last or last.layer ~= r.layer or last.group ~= r.group or last.options ~= its then
        last = {layer = r.layer, group = r.group, records = {}, options = its, index = #stages + 1}
        stages[#stages + 1] = last
      end
      table.insert(last.records, r)
    end
  end
  return stages
end

--- The Hadamard block of a record: nil for none.
function M.block_of(o, record)
  if o.hadamard == true then return record.weight:size(2) end
  return o.hadamard or nil
end

--- Every layer that cannot be quantized, with its reason; raises once with all of them.
local function check_all(stages, method, o)
  local wrong = {}
  local function complain(r, text)
    wrong[#wrong + 1] = ("  %s (%s): %s"):format(r.name, table.concat(r.weight:shape(), ", "), text)
  end
  for _, stage in ipairs(stages) do
    local ok, f = true, nil
    if not method.own_formats then ok, f = pcall(format.of_options, stage.options) end
    for _, r in ipairs(stage.records) do
      if not ok then complain(r, (tostring(f):gsub("^.-:%d+: ", ""))) end
      if r.weight:ndim() ~= 2 then complain(r, "the weight must have two axes") end
      if not r.weight:all_finite() then complain(r, "the weight holds NaN or infinity") end
      if r.forward then complain(r, "it already has a forward of its own (quantized inputs, or training)") end
      if o.inputs and not o.inputs.inputs[r.name] then complain(r, "the given inputs do not have it") end
      local block = M.block_of(o, r)
      if block and not pcall(c.hadamard, q.zeros(1, r.weight:size(2)), block) then
        complain(r, ("there is no Hadamard matrix for blocks of %d among %d inputs"):format(block, r.weight:size(2)))
      end
      local reason = ok and method.check and method.check(r.weight, stage.options)
      if reason then complain(r, reason) end
    end
  end
  if #stages == 0 then options.fail("q.quant.quantize: no layer to quantize") end
  if #wrong > 0 then options.fail("q.quant.quantize: %d layers cannot be quantized:\n%s", #wrong, table.concat(wrong, "\n")) end
  if not o.calibration and not o.inputs and next(method.needs) then
    options.fail("q.quant.quantize: method '%s' needs calibration = token ids", o.method)
  end
  if o.calibration and o.inputs then options.fail("q.quant.quantize: give calibration or inputs, not both") end
  if o.inputs and o.objective == "module" then options.fail("q.quant.quantize: objective = 'module' needs calibration = token ids, not inputs") end
  if o.inputs and (o.hadamard or method.needs.drift) then
    options.fail("q.quant.quantize: %s needs calibration = token ids, not inputs", o.hadamard and "hadamard" or "method '" .. o.method .. "'")
  end
end

-- ---- the work ---------------------------------------------------------------

local Work = {}
Work.__index = Work

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
  local layer = self.stages[first].layer
  for b, x in ipairs(self.h) do
    q.scope(function()
      local seen = calibration.capture(self.model, layer, x, wanted, order, last)
      local full = self.full and calibration.capture(self.original, layer, self.full[b], self.twins(wanted), self.twins(order), last)
      for record, i in pairs(wanted) do
        if seen[record] then
          local block, theirs = M.block_of(self.o, record), full and full[self.original_of[record]]
          stats[i]:add(block and c.hadamard(seen[record], block) or seen[record], block and theirs and c.hadamard(theirs, block) or theirs)
        end
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
  end
  report.tokens = inputs and inputs.tokens
  return report
end

--- The module around a stage's layers, for methods that look at it; it takes weights in the basis that was asked for.
function Work:module(stage)
  if not self.method.inspects or not self.h or not stage.layer then return nil end
  local module = inspected.new(self.model, stage.layer, self.h, stage.records)
  return {search = function(_, count, candidate)
    return module:search(count, function(k)
      local values = candidate(k)
      for i, r in ipairs(stage.records) do
        local block = M.block_of(self.o, r)
        if block then values[i] = c.hadamard(values[i], block, true) end
      end
      return values
    end)
  end}
end

--- Values and reports of one stage, in the basis that was asked for.
function Work:values(stage, inputs)
  local weights = {}
  for i, r in ipairs(stage.records) do
    local block = M.block_of(self.o, r)
    weights[i] = block and c.hadamard(r.weight:detach(), block) or r.weight:detach()
  end
  local values, reports = self.method.run(weights, inputs, stage.options, stage.records, self:module(stage))
  for i, r in ipairs(stage.records) do
    describe(r, weights[i], values[i], inputs, reports[i])
    local block = M.block_of(self.o, r)
    if block then values[i], reports[i].hadamard = c.hadamard(values[i], block, true), block end
  end
  return values, reports
end

function Work:quantize(stage, inputs)
  local start = system.clock()
  local values, reports = resume.load(self.o.resume, stage, self.signature)
  if not values then
    values, reports = self:values(stage, inputs or self.o.inputs and self.o.inputs.inputs[stage.records[1].name])
    for _, report in ipairs(reports) do report.seconds = (system.clock() - start) / #reports end
    resume.save(self.o.resume, stage, self.signature, values, reports)
  end
  for i, r in ipairs(stage.records) do
    r.weight:copy_(values[i])
    for _, field in pairs(reports[i]) do
      if type(field) == "userdata" then q.keep(field) end
    end
    self.report[#self.report + 1] = reports[i]
    self.input[r] = reports[i].input
    reports[i].input = nil
    if self.o.progress then self.o.progress(#self.report, self.total, reports[i]) end
  end
end

--- Stages first .. last are those of one block.
function Work:block(first, last)
  if not self.h or resume.has(self.o.resume, self.stages, first, last, self.signature) then
    for i = first, last do q.scope(self.quantize, self, self.stages[i]) end
  elseif self.o.true_sequential then
    for i = first, last do
      q.scope(function()
        local stats = self:measure(i, i)[i]
        self:quantize(self.stages[i], stats)
        stats:free()
      end)
    end
  else
    q.scope(function()
      local stats = self:measure(first, last)
      for i = first, last do
        self:quantize(self.stages[i], stats[i])
        stats[i]:free()
      end
    end)
  end
end

function Work:run()
  local done, at = 0, 1 -- blocks whose outputs the streams hold; the next stage
  while at <= #self.stages do
    local layer, last = self.stages[at].layer, at
    while self.stages[last + 1] and self.stages[last + 1].layer == layer do last = last + 1 end
    for i = done + 1, self.h and (layer or self.model:layers() + 1) - 1 or 0 do
      calibration.advance(self.model, i, self.h)
      if self.full then calibration.advance(self.original, i, self.full) end
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

local function new_work(model, original, o, method)
  local work = {model = model, original = original, o = o, method = method, report = {}, total = 0, input = {}, needs = {}}
  for key, value in pairs(method.needs) do work.needs[key] = value end
  if o.errors then work.needs.hessian = true end
  return setmetatable(work, Work)
end

--- For a model whose blocks come one at a time and are changed in place (quench.disk): work:layer(i) for each.
function M.begin(model, given)
  local o, method, spec = M.options_of(given)
  for _, key in ipairs{"activations", "kv", "resume", "inputs"} do
    if o[key] then options.fail("q.disk.quantize: %s is not for models on disk", key) end
  end
  if o.head then options.fail("q.disk.quantize: head is not for models on disk") end
  if method.inputs then options.fail("q.disk.quantize: method '%s' changes inputs too, which weights cannot hold", o.method) end
  if method.needs.drift then options.fail("q.disk.quantize: method '%s' needs the whole model in memory", o.method) end
  if not o.calibration and next(method.needs) then
    options.fail("q.disk.quantize: method '%s' needs calibration = token ids", o.method)
  end
  local work = new_work(model, model, o, method)
  work.given, work.spec = given, spec
  if o.calibration then work.h = calibration.start(model, calibration.batches(o.calibration, o.batch)) end
  return work
end

--- Quantizes the linears of block i, which is open, and moves the activations past it. done: the block is quantized already.
function Work:layer(i, done)
  self.stages = done and {} or stages_of(self.model:linears(), self.given, self.o, self.spec)
  if #self.stages > 0 then
    check_all(self.stages, self.method, self.o)
    if self.total == 0 then
      for _, stage in ipairs(self.stages) do self.total = self.total + #stage.records * self.model:layers() end
    end
    self:block(1, #self.stages)
  end
  if self.h then calibration.advance(self.model, i, self.h) end
end

function Work:summary() return summary(self.report) end

--- q.quant.quantize(model, options) -> a new model, report.
function M.quantize(model, given)
  options.need_model("q.quant.quantize", model)
  given = given or {}
  local o, method, spec = M.options_of(given)
  check_all(stages_of(model:linears(o.head), given, o, spec), method, o)
  return q.no_grad(function()
    local twin = model:clone()
    local work = new_work(twin, model, o, method)
    work.signature = resume.signature(o.resume, model, given)
    work.stages = stages_of(twin:linears(o.head), given, o, spec)
    for _, stage in ipairs(work.stages) do work.total = work.total + #stage.records end
    if o.calibration then
      local batches = calibration.batches(o.calibration, o.batch)
      work.h = calibration.start(twin, batches)
      if method.needs.drift then work:follow_original(batches) end
    end
    work:run()
    work:quantize_inputs()
    return twin, summary(work.report)
  end)
end

--- Once all weights are done: what the layers' inputs, keys and values go through when the model runs.
function Work:quantize_inputs()
  local how = self.o.activations and {kind = "format", format = format.plain(format.format(self.o.activations))}
  local row = 0
  for _, stage in ipairs(self.stages) do
    for _, r in ipairs(stage.records) do
      row = row + 1
      local input = self.input[r] or how and activations.input(how)
      self.report[row].inputs = self.report[row].inputs or how or nil
      if input then activations.install(r, activations.rotated(input, M.block_of(self.o, r))) end
    end
  end
  if self.o.kv then
    local f = format.format(self.o.kv)
    activations.quantize_cache(self.model, f, self.o.kv_hadamard)
    self.report.kv, self.report.kv_hadamard = format.plain(f), self.o.kv_hadamard
  end
end

--- Keeps a second stream through the unquantized model, for methods that look at the drift.
function Work:follow_original(batches)
  self.full = calibration.start(self.original, batches)
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
  text = "Methods:\n" .. table.concat(M.method_lines(), "\n") .. "\nEach adds its own options: those shown are GPTQ's.",
  returns = "a new model; a list of {name=, layer=, shape=, weight_error=, output_error=, weight_outliers=, input_outliers=, bits=, "
    .. "mse=, scale=, zero=, seconds=, ...}, with the totals weights, bits (a weight) and seconds",
  errors = "all layers are checked before the first is touched, and every one that cannot be quantized is listed",
  example = "local small, report = q.quant.quantize(m, {method = 'gptq', bits = 3, group = 128, calibration = ids})\n"
    .. "for _, r in ipairs(report) do print(r.name, r.bits, r.output_error) end",
  see = {"q.quant.gptq", "q.quant.rtn"}}

M.public = {"quantize"} -- and begin, for quench.disk; spec_of, for quench.quant.command
M.spec_of = spec_of

return M

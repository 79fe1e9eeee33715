--- disk.lua - models larger than memory: q.disk.plan, q.disk.quantize.
--
-- Weights are mapped, not loaded; one block at a time is read, quantized and written as a shard of the result,
-- while the calibration activations wait between blocks. So memory holds one block, its statistics and the
-- activations. A finished shard is found again: an interrupted run goes on behind the last one.

local q = require "quench"
local help = require "quench.help"
local json = require "quench.json"
local options = require "quench.options"
local files = require("quench.models").files
local packing = require "quench.quant.packed"
local settings_of = require "quench.quant.settings"
local cholesky_scratch = require "quench.c.linalg".cholesky_scratch

local M = {}

local COPIED = {"tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "vocab.json", "merges.txt",
  "generation_config.json"}

-- ---- the plan -------------------------------------------------------------

local plan_options = options.spec("q.disk.plan", {
  {"sequences", "integer", default = 128, min = 0, doc = "calibration sequences; 0: a method without data"},
  {"context", "integer", default = 2048, min = 1, doc = "tokens a sequence"},
  {"batch", "integer", default = 1, min = 1, doc = "sequences at a time"},
  {"logits", "boolean", default = false, doc = "an evaluation: the head is needed too"},
})

--- Numbers of the parts of a configuration: input, output, the largest block, the longest rows of a block's linears.
local function parts_of(name, config)
  local shapes, c = q.models.shapes(name, config)
  local blocks, input, output, total, widest, tallest, largest, width = {}, 0, 0, 0, 0, 0, 0, 1
  for _, p in ipairs(shapes) do
    total = total + p.numel
    if p.layer then
      blocks[p.layer] = (blocks[p.layer] or 0) + p.numel
      if p.role == "hidden" and #p.shape == 2 then
        widest, tallest, largest = math.max(widest, p.shape[2]), math.max(tallest, p.shape[1]), math.max(largest, p.numel)
      end
    elseif p.role == "input" then
      input, width = input + p.numel, math.max(width, p.shape[2])
    else
      output = output + p.numel
    end
  end
  local block = 0
  for _, n in ipairs(blocks) do block = math.max(block, n) end
  if c.tie_word_embeddings then output = output + input end
  return {
    total = total, blocks = #blocks, block = block, input = input, output = output, widest = widest, tallest = tallest,
    largest = largest, width = width,
  }
end

--- What q.disk.quantize (or an evaluation of a lazy model) needs, in bytes, without reading a weight.
function M.plan(dir, given)
  local o = plan_options(given)
  local name, config = q.models.config(dir)
  local p = parts_of(name, config)
  local tokens = o.sequences * o.context
  local active = math.min(o.batch, o.sequences) * o.context
  local f32, f64 = 4, 8
  local plan = {
    family = name, parameters = p.total, layers = p.blocks, tokens = tokens,
    model = p.total * f32, block = p.block * f32, outer = math.max(p.input, p.output) * f32,
    activations = tokens * p.width * f32,
    -- what one batch makes inside a block: a handful of tensors as wide as the widest and as tall as the tallest linear
    work = active * (3 * p.widest + 3 * p.tallest + 4 * p.width) * f32,
    -- the second moments of the widest input: the sum, its mean, the factor and its inverse, with what factoring it in f64
    -- needs besides, and copies of the weight
    statistics = o.logits and 0 or (o.sequences > 0 and 5 * p.widest ^ 2 * f32 + f64 * cholesky_scratch(p.widest) or 0)
      + 4 * p.largest * f32,
  }
  local head = o.logits and 3 * 2 ^ 23 * f32 or 0 -- slices of logits, as quench.eval.score takes them
  plan.peak = plan.activations + math.max(plan.block + plan.statistics + plan.work, plan.outer + head)
  return plan
end

-- ---- quantizing -----------------------------------------------------------

--- What must agree for a shard to belong to this run: the folder and what is in it, and the options.
local function signature_of(dir, given) return ("%s; %s; %s"):format(dir, settings_of.folder(dir), settings_of.of(given)) end

local Run = {}
Run.__index = Run

function Run:path(i) return self.out .. "/" .. files.shard(i, self.shards) end

--- Is shard i there, and of this run?
function Run:finished(i)
  local path = self:path(i)
  if not q.system.exists(path) then return false end
  local file = q.open(path)
  local about = file:metadata()
  file:close()
  if about.signature ~= self.signature then
    options.fail("'%s' is of another run (%s); give another folder or remove it", path, tostring(about.signature))
  end
  return about
end

--- Writes the open part as shard i; packed: rows `first` and on of the report as the bits that are stored.
function Run:write(i, part, report, first)
  q.scope(function()
    local lists, about = nil, nil
    if self.packed and first then
      local entries, bytes, weights
      lists, entries, bytes, weights = packing.replace(self.model, self.work.report, first)
      about = {entries = entries, bytes = bytes, weights = weights}
      self:count(about)
    end
    local list = files.file_tensors(self.model, self.dtype, part, lists)
    files.write(self:path(i), list, {signature = self.signature, report = json.encode(report or {}), packed = about and json.encode(about)})
  end)
end

--- Adds what a shard says of its packed weights to that of the model.
function Run:count(about)
  for name, entry in pairs(about.entries) do self.packed.entries[name] = entry end
  self.packed.bytes, self.packed.weights = self.packed.bytes + about.bytes, self.packed.weights + about.weights
end

-- The plain values of reports, for the shard's metadata; no times, so that the same run gives the same bytes.
local function plain(reports, first)
  local out = {}
  for i = first, #reports do
    local r = {}
    for key, value in pairs(reports[i]) do
      local kind = type(value)
      if key ~= "seconds" and (kind == "number" or kind == "string" or key == "shape") then r[key] = value end
    end
    out[#out + 1] = r
  end
  return out
end

--- Block i: quantized and written, or taken from the shard of an earlier run.
function Run:block(i)
  local m, about = self.model, self:finished(i + 1)
  if about then
    for _, r in ipairs(json.decode(about.report)) do
      r.seconds = 0 -- of this run
      table.insert(self.work.report, r)
    end
    if self.packed then self:count(json.decode(about.packed)) end
    if not self.work.h then return end
  end
  local original, file = m.source, about and q.open(self:path(i + 1))
  if file then
    m.source = files.source(file, m.dtype, self:path(i + 1), self.packed and packing.config(self.packed.entries, {}))
  end
  m:open(i)
  m.source = original
  local before = #self.work.report
  self.work:layer(i, about and true)
  if not about then self:write(i + 1, i, plain(self.work.report, before + 1), before + 1) end
  m:close(i)
  if file then file:close() end
end

--- The parts around the blocks, as they are, in the first and the last shard.
function Run:outer(i, part)
  if self:finished(i) then return end
  self.model:open(part)
  self:write(i, part)
end

--- model.safetensors.index.json from what the shards hold.
function Run:index()
  local map, total = {}, 0
  for i = 1, self.shards do
    local file = q.open(self:path(i))
    for _, name in ipairs(file:names()) do
      map[name], total = files.shard(i, self.shards), total + file:info(name).bytes
    end
    file:close()
  end
  files.write_index(self.out, map, total)
end

local function copy_beside(dir, out)
  for _, name in ipairs(COPIED) do
    if q.system.exists(dir .. "/" .. name) then q.system.write_file(out .. "/" .. name, q.system.read_file(dir .. "/" .. name)) end
  end
end

--- q.disk.quantize(folder, out, options) -> report. options: those of q.quant.quantize, dtype and config.
function M.quantize(dir, out, given)
  local settings = {}
  for key, value in pairs(given or {}) do settings[key] = value end
  local dtype = settings.dtype or "f32"
  if dtype ~= "f32" and dtype ~= "bf16" then options.fail("q.disk.quantize: dtype must be f32 or bf16, got %s", tostring(dtype)) end
  if q.system.same(dir, out) then options.fail("q.disk.quantize: '%s' would be overwritten; give another folder", dir) end
  local signature = signature_of(dir, settings)
  local m = q.models.load(dir, {lazy = true, config = settings.config})
  settings.dtype, settings.config, settings.batch, settings.packed = nil, nil, settings.batch or 1, nil
  if q.system.exists(out .. "/model.safetensors") then
    options.fail("q.disk.quantize: '%s' already holds a model.safetensors; give another folder", out)
  end
  q.system.make_directories(out)
  local run = setmetatable({model = m, out = out, dtype = dtype, shards = m:layers() + 2, signature = signature,
    packed = given and given.packed and {entries = {}, bytes = 0, weights = 0}}, Run)
  return q.no_grad(function()
    run.work = require("quench.quant.model").begin(m, settings)
    run:outer(1, "input")
    m:close("input")
    for i = 1, m:layers() do
      run:block(i)
      q.system.check_interrupt()
    end
    for _, x in ipairs(run.work.h or {}) do x:free() end
    run:outer(m:layers() + 2, "output")
    m:close("output")
    m:close("input")
    run:index()
    local raw = files.to_file(m, dtype)
    local report = run.work:summary()
    if run.packed then
      local p = run.packed
      report.file = {bytes = p.bytes, weights = p.weights, bits = 8 * p.bytes / p.weights}
      raw.quantization_config = packing.config(p.entries, {}, report.file.bits)
    end
    raw.quench = {method = settings.method or "gptq", bits = report.bits, weights = report.weights, signature = signature}
    q.system.write_file(out .. "/config.json", json.encode(raw) .. "\n")
    q.system.write_file(out .. "/quantization.json", json.encode(plain(report, 1)) .. "\n")
    copy_beside(dir, out)
    m.file:close()
    return report
  end)
end

-- ---- averages -------------------------------------------------------------

--- q.disk.average(folders, out, shares?): the mean of models, part by part, so that two parts are in memory at a time.
function M.average(folders, out, shares)
  if #folders == 0 then options.fail("q.disk.average: no folders") end
  local models = {}
  for k, dir in ipairs(folders) do
    if q.system.same(dir, out) then options.fail("q.disk.average: '%s' would be overwritten; give another folder", dir) end
    models[k] = q.models.load(dir, {lazy = true})
    if models[k].family ~= models[1].family or json.encode(models[k].config) ~= json.encode(models[1].config) then
      options.fail("q.disk.average: '%s' and '%s' have different configurations", folders[1], dir)
    end
  end
  q.system.make_directories(out)
  local first, parts = models[1], {"input"}
  for i = 1, first:layers() do parts[i + 1] = i end
  parts[#parts + 1] = "output"
  local run = setmetatable({model = first, out = out, dtype = "f32", shards = #parts, signature = "average"}, Run)
  q.no_grad(function()
    for i, part in ipairs(parts) do
      first:open(part)
      for k, m in ipairs(models) do
        local share = shares and shares[k] or 1 / #models
        if k > 1 then m:open(part) end
        local theirs = m:tensors()
        for _, r in ipairs(first.records) do
          if r.part == part then r.tensor:axpby_(k == 1 and share or 1, theirs[r.name], k == 1 and 0 or share) end
        end
        if k > 1 then
          m:close(part)
          m:close("input")
        end
      end
      run:write(i, part)
      first:close(part)
      if part ~= "input" then first:close("input") end
      q.system.check_interrupt()
    end
    run:index()
    q.system.write_file(out .. "/config.json", json.encode(files.to_file(first, "f32")) .. "\n")
    copy_beside(folders[1], out)
    for _, m in ipairs(models) do m.file:close() end
  end)
end

help.add{"q.disk.average", M.average, "average(folders, out, shares?)",
  "The mean of models in folders (a soup, a LAWA window, a merge), part by part.",
  text = "shares: a number for each folder, where they are not equal, e.g. {0.9, 0.1}.", errors = "folders whose configurations differ",
  example = 'q.disk.average({"step7000", "step11931"}, "soup")', see = {"q.average.soup", "q.trajectory.measure"}}
help.add{"q.disk.plan", M.plan, "plan(folder, options?) -> {peak=, block=, outer=, activations=, statistics=, work=, model=, ...}",
  "The memory, in bytes, that quantizing a model on disk takes; nothing is read but config.json.", options = plan_options,
  example = 'print(q.disk.plan("olmo2-7b").peak / 1e9)', see = {"q.disk.quantize"}}
help.add{"q.disk.quantize", M.quantize, "quantize(folder, out, options?) -> report",
  "Quantizes a model on disk block by block into another folder; peak memory is one block and the activations.",
  text = [[
options are those of q.quant.quantize (method, bits, group, calibration = ids, ...), with batch = 1, and
  dtype    of the written weights, which are the values that the codes stand for: "f32" (exact), or "bf16" (half the size)
  config   values that win over config.json
  packed   true: the bits that are stored, as q.quant.save writes them, instead of the values
The result loads with q.models.load, and unless packed in transformers. quantization.json holds the report. Run again after an interruption, it
goes on behind the last finished block.]],
  errors = "options that need the whole model (head, activations, kv, inputs, drift); shards of another run in the folder",
  example = 'q.disk.quantize("olmo2-7b", "olmo2-7b-3bit", {bits = 3, group = 128, calibration = ids})',
  see = {"q.disk.plan", "q.quant.quantize", "q.models.load"}}

return M

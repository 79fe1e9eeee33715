--- command.lua - quench quantize, quench eval, quench inspect: models and weight files from the command line.

local q = require "quench"
local arguments = require "quench.recipe.arguments"
local json = require "quench.json"
local model = require "quench.quant.model"
local options = require "quench.options"

local M = {}

--- Words and options of a command line: --key value and --key=value, flags by the specs' booleans.
local function split(args, ...)
  local words, list, specs = {}, {}, {...}
  local function is_flag(key)
    for _, spec in ipairs(specs) do
      local entry = spec.by_name[key] or spec.by_name[key:match("^no_(.+)$") or key]
      if entry then return entry[2] == "boolean" end
    end
  end
  local i = 1
  while args[i] do
    local key = args[i]:match("^%-%-([%w_-]+)$")
    if not args[i]:match("^%-%-") then words[#words + 1] = args[i]
    elseif key and not is_flag((key:gsub("%-", "_"))) and args[i + 1] then
      list[#list + 1] = args[i] .. "=" .. args[i + 1]
      i = i + 1
    else list[#list + 1] = args[i] end
    i = i + 1
  end
  return words, list
end

local function usage(text, spec, more)
  io.write("usage: ", text, "\n")
  for _, s in ipairs{spec, more} do
    for _, e in ipairs(s) do
      local default = e.default
      if type(default) == "table" then default = #default > 0 and table.concat(default, ",") or nil end
      io.write(("  --%-18s %s%s\n"):format(e[1], e.doc or "", default ~= nil and (" [%s]"):format(tostring(default)) or ""))
    end
  end
  return 0
end

--- The options of a spec that a command line can give: formats by name, no functions or tensors.
local function typed(name, spec)
  local entries = {}
  for _, e in ipairs(spec) do
    local kind = e[2] == "any" and "string" or e[2]
    if not kind:find("function") and not kind:find("table") and not kind:find("tensor") then
      local copy = {}
      for key, value in pairs(e) do copy[key] = value end
      copy[2] = kind
      entries[#entries + 1] = copy
    end
  end
  return options.spec(name, entries)
end

local function wants_help(args)
  for _, a in ipairs(args) do
    if a == "--help" or a == "-h" then return true end
  end
  return #args == 0
end

-- ---- text ---------------------------------------------------------------------

local function text_entries(own)
  local entries = {
    {"text", "string", default = "austen", doc = "a text file, or a corpus by name"},
    {"context", "integer", default = 512, min = 2, doc = "tokens a sequence", unit = "tokens"},
    {"tokens", "integer", default = 16384, min = 2, doc = "tokens of held-out text that the loss is taken on", unit = "tokens"},
  }
  for _, e in ipairs(own) do entries[#entries + 1] = e end
  return entries
end

local function tokenizer_of(folder, vocab_size)
  if q.system.exists(folder .. "/tokenizer.json") then return q.tokenizer.load(folder) end
  if vocab_size == 256 then return q.tokenizer.bytes() end
  options.fail("'%s' has no tokenizer.json", folder)
end

local function data_of(o, tokenizer)
  local is_file = q.system.exists(o.text)
  return q.data.text{name = not is_file and o.text or nil, path = is_file and o.text or nil, tokenizer = tokenizer}
end

local function context_of(m, o) return math.min(o.context, m.config.max_position_embeddings or m.config.n_positions or o.context) end

local function loss_of(m, data, o)
  local context = context_of(m, o)
  return q.eval.text(m, data:tokens "validation", {block = context, batch = math.max(1, math.floor(2048 / context)),
    limit = math.max(1, math.floor(o.tokens / context)), bytes = nil})
end

-- ---- quench quantize ------------------------------------------------------------

local quantize_spec = options.spec("quench quantize", text_entries{
  {"samples", "integer", default = 128, min = 1, doc = "calibration sequences"},
  {"dtype", "string", choices = {"f32", "bf16"}, default = "f32", doc = "of the weights that are written"},
  {"seed", "integer", default = 0, doc = "of the calibration sequences' places"},
  {"loss", "boolean", default = true, doc = "take the loss before and after"},
})

--- Windows of the train split at random places.
local function calibration_of(data, m, o)
  return data:batch("train", o.samples, context_of(m, o), q.stream(o.seed, "calibration"))
end

--- What of a report goes into a file: numbers and names.
local function plain(report)
  local out = {}
  for i, r in ipairs(report) do
    out[i] = {}
    for key, value in pairs(r) do
      if type(value) == "number" or type(value) == "string" or type(value) == "boolean" or key == "shape" then out[i][key] = value end
    end
  end
  return out
end

local function print_report(report)
  io.write(("%-52s %6s %12s %12s\n"):format("layer", "bits", "weight err", "output err"))
  for _, r in ipairs(report) do
    io.write(("%-52s %6.3f %12.4g %12s\n"):format(r.name, r.bits, r.weight_error, r.output_error and ("%.4g"):format(r.output_error) or "-"))
  end
end

function M.quantize(args)
  local method = "gptq"
  for i, a in ipairs(args) do
    method = a:match("^%-%-method=(.+)$") or a == "--method" and args[i + 1] or method
  end
  local theirs = typed("quench quantize", model.spec_of(method))
  if wants_help(args) then return usage("quench quantize MODEL OUT [--method=gptq] [--bits=4] ...", quantize_spec, theirs) end
  local words, list = split(args, quantize_spec, theirs)
  if #words ~= 2 then options.fail("quench quantize MODEL OUT: two folders are needed, got %d", #words) end
  local own, given = arguments.parse(list, quantize_spec, theirs)
  local o = quantize_spec(own)
  local m = q.models.load(words[1], {frozen = true})
  local data = data_of(o, tokenizer_of(words[1], m.config.vocab_size))
  local before = o.loss and loss_of(m, data, o)
  given.calibration = calibration_of(data, m, o)
  local bar
  given.progress = function(done, total, r)
    bar = bar or q.progress{total = total, label = "quantizing"}
    bar:update(done, {output_error = r.output_error})
  end
  local small, report = q.quant.quantize(m, given)
  if bar then bar:finish() end
  small:save(words[2], {dtype = o.dtype})
  if q.system.exists(words[1] .. "/tokenizer.json") then
    q.system.write_file(words[2] .. "/tokenizer.json", q.system.read_file(words[1] .. "/tokenizer.json"))
  end
  print_report(report)
  local after = o.loss and loss_of(small, data, o)
  q.system.write_file(words[2] .. "/quantize.json", json.encode{method = given.method or "gptq", bits_per_weight = report.bits,
    loss = before and {before = before.loss, after = after.loss} or nil, layers = plain(report)} .. "\n")
  io.write(("%.3f bits a weight, %.1f s\n"):format(report.bits, report.seconds))
  if before then
    io.write(("loss %.4f -> %.4f nats a token (%+.3f %%)\n"):format(before.loss, after.loss, 100 * q.eval.relative_ce(before.loss, after.loss)))
  end
  io.write(words[2], "\n")
  return 0
end

-- ---- quench eval ----------------------------------------------------------------

local eval_spec = options.spec("quench eval", text_entries{})

function M.eval(args)
  if wants_help(args) then return usage("quench eval MODEL [OTHER ...] [--text=FILE]", eval_spec) end
  local words, list = split(args, eval_spec)
  if #words < 1 then options.fail("quench eval MODEL: a model's folder is needed") end
  local o = eval_spec((arguments.parse(list, eval_spec)))
  local first
  io.write(("%-40s %10s %12s %14s %10s\n"):format("model", "loss", "perplexity", "bits a byte", "change"))
  for _, folder in ipairs(words) do
    local m = q.models.load(folder, {frozen = true})
    local data = data_of(o, tokenizer_of(folder, m.config.vocab_size))
    local r = loss_of(m, data, o)
    first = first or r
    io.write(("%-40s %10.4f %12.4f %14.4f %9.3f%%\n"):format(folder, r.loss, r.perplexity,
      r.loss / math.log(2) / data:bytes_per_token "validation", 100 * q.eval.relative_ce(first.loss, r.loss)))
  end
  return 0
end

-- ---- quench inspect ---------------------------------------------------------------

local inspect_spec = options.spec("quench inspect", {
  {"group", "integer", default = 128, min = 1, doc = "columns that share a scale in the error columns"},
  {"only", "string", doc = "a Lua pattern of names"},
})

local ROWS = 64 -- rows whose median is taken: evenly spaced

--- Mean over rows of the largest over the (lower) median magnitude.
local function max_over_median(size)
  local rows, sum, count = size:size(1), 0, 0
  for i = 1, rows, math.max(1, math.floor(rows / ROWS)) do
    local row = size[i]:totable()
    table.sort(row)
    local median = row[math.floor((#row + 1) / 2)]
    if median > 0 then sum, count = sum + row[#row] / median, count + 1 end
  end
  return count > 0 and sum / count or math.huge
end

--- Extremes, excess kurtosis of all values, mean over rows of largest over median magnitude.
local function shape_of_values(t)
  local x = t:view(-1, t:size(-1))
  local d = x - x:mean():item()
  local variance = d:square():mean():item()
  return {low = x:min():item(), high = x:max():item(), mmr = max_over_median(x:abs()),
    kurtosis = variance > 0 and d:square():square():mean():item() / variance ^ 2 - 3 or 0}
end

local function inspect_tensor(file, name, o)
  local t = file:read(name)
  if t:dtype() == "bf16" then t = t:to("f32") end
  local line = ("%-56s %-16s"):format(name, table.concat(t:shape(), "x"))
  if t:dtype() ~= "f32" and t:dtype() ~= "f64" or t:numel() == 0 or t:ndim() == 0 then return line .. " " .. t:dtype() end
  if not t:all_finite() then return line .. " holds NaN or infinity" end
  local s = shape_of_values(t)
  line = line .. (" %10.4g %10.4g %9.3g %9.3g"):format(s.low, s.high, s.kurtosis, s.mmr)
  if t:ndim() < 2 then return line end
  local total = t:square():sum():item()
  for _, bits in ipairs{2, 3, 4, 8} do
    local _, r = q.quant.rtn(t, q.quant.int(bits, {group = o.group}))
    line = line .. (" %9.3g"):format(total > 0 and r.mse * t:numel() / total or 0)
  end
  return line
end

function M.inspect(args)
  if wants_help(args) then return usage("quench inspect FILE.safetensors [--only=PATTERN]", inspect_spec) end
  local words, list = split(args, inspect_spec)
  if #words ~= 1 then options.fail("quench inspect FILE: one file or folder is needed, got %d", #words) end
  local o = inspect_spec((arguments.parse(list, inspect_spec)))
  local file = q.open(words[1])
  io.write(("%-56s %-16s %10s %10s %9s %9s %9s %9s %9s %9s\n"):format("tensor", "shape", "min", "max", "kurtosis", "max/med",
    "err 2 bit", "3 bit", "4 bit", "8 bit"))
  for _, name in ipairs(file:names()) do
    if not o.only or name:find(o.only) then
      q.scope(q.no_grad, function() io.write(inspect_tensor(file, name, o), "\n") end)
      q.system.check_interrupt()
    end
  end
  file:close()
  return 0
end

return M

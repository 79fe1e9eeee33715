--- command.lua - quench quantize, quench eval: models from the command line.
--
-- A model beyond BIG bytes in f32 is quantized and evaluated block by block (quench.disk), as is any with --disk: with
-- the same --batch the result has the same bits.

local q = require "quench"
local arguments = require "quench.recipe.arguments"
local json = require "quench.json"
local model = require "quench.quant.model"
local options = require "quench.options"

local M = {}

local BIG = 4e9

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
    elseif key and not is_flag((key:gsub("%-", "_"))) and args[i + 1] and not args[i + 1]:match("^%-%-") then
      list[#list + 1] = args[i] .. "=" .. args[i + 1]
      i = i + 1
    else list[#list + 1] = args[i] end
    i = i + 1
  end
  return words, list
end

local function print_option(e)
  local default = e.default
  if type(default) == "table" then default = #default > 0 and table.concat(default, ",") or nil end
  io.write(("  --%-18s %s%s\n"):format(e[1], e.doc or "", default ~= nil and (" [%s]"):format(tostring(default)) or ""))
end

--- The options of spec, then those of `more` that have other names; of quantization: the methods too.
local function usage(text, spec, more)
  io.write("usage: ", text, "\n")
  for _, e in ipairs(spec) do print_option(e) end
  for _, e in ipairs(more or {}) do
    if not spec.by_name[e[1]] then print_option(e) end
  end
  if more then io.write("methods (--method=NAME --help shows the options of one):\n", table.concat(model.method_lines(), "\n"), "\n") end
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

local function text_entries(context, own)
  local entries = {
    {"text", "string", default = "austen", doc = "a text file, or a corpus by name"},
    {"context", "integer", default = context, min = 2, doc = "tokens a sequence, at most the model's", unit = "tokens"},
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

--- What losses are taken on: a corpus's validation split; all of a file, unless its start is what calibrates (then
-- data is given, and it is split like a corpus). Token ids, and bytes a token.
local function held_out(o, tokenizer, data)
  if not data and not q.system.exists(o.text) then data = data_of(o, tokenizer) end
  if data then return data:tokens "validation", data:bytes_per_token "validation" end
  local text = q.system.read_file(o.text)
  local ids = tokenizer:encode(text, {special = false, tensor = true})
  return ids, #text / ids:numel()
end

local function loss_of(m, ids, o)
  local context = context_of(m, o)
  return q.eval.text(m, ids, {block = context, stride = o.stride, batch = math.max(1, math.floor(2048 / context)),
    limit = math.max(1, math.floor(o.tokens / (o.stride or context)))})
end

--- Is the model to be read block by block? Without --disk: where it is big.
local function streamed(folder, o)
  if o.disk ~= nil then return o.disk end
  return q.disk.plan(folder, {sequences = 0}).model > BIG
end

--- Samples of a file to calibrate on, a list of ids (1, T): the "text" of each record of a .jsonl, cut at the context,
-- else windows of any text at even distances.
function M.samples(path, tokenizer, count, context)
  local list = {}
  if path:find("%.jsonl$") then
    for _, record in ipairs(q.eval.read(path)) do
      local text = record.text or record.content
      if type(text) ~= "string" then options.fail("'%s': a record has no text", path) end
      local ids = tokenizer:encode(text, {tensor = true})
      if ids:numel() > 1 then list[#list + 1] = ids:narrow(1, 1, math.min(context, ids:numel())):view(1, -1) end
      if #list == count then break end
    end
  else
    local ids = tokenizer:encode(q.system.read_file(path), {special = false, tensor = true})
    local n = math.min(count, math.floor(ids:numel() / context))
    local step = n > 1 and math.floor((ids:numel() - context) / (n - 1)) or 0
    for i = 1, n do list[i] = ids:narrow(1, 1 + (i - 1) * step, context):view(1, -1) end
  end
  if #list == 0 then options.fail("'%s' is too short to calibrate on %d tokens", path, context) end
  return list
end

-- ---- quench quantize ------------------------------------------------------------

local quantize_spec = options.spec("quench quantize", text_entries(512, {
  {"samples", "integer", default = 128, min = 1, doc = "calibration sequences"},
  {"dtype", "string", choices = {"f32", "bf16"}, default = "f32", doc = "of the weights that are written"},
  {"rotate", "string", choices = {"hadamard", "random", "online"},
    doc = "turn the residual stream first (QuaRot); online: and the blocks, when the model runs"},
  {"packed", "boolean", default = false, doc = "write the bits that are stored: codes, scales, zero points (quench reads them)"},
  {"seed", "integer", default = 0, doc = "of the calibration sequences' places"},
  {"loss", "boolean", default = true, doc = "take the loss before and after"},
  {"calibration", "string", doc = "a text or .jsonl to calibrate on, in place of the text's train split; losses are then of all of the text"},
  {"disk", "boolean", doc = "block by block through files [for models of more than 1 G parameters]"},
  {"plan", "boolean", default = false, doc = "only say how much memory it takes, block by block"},
}))

--- Windows of the train split at random places, or samples of another file.
local function calibration_of(data, m, o, tokenizer)
  if o.calibration then return M.samples(o.calibration, tokenizer, o.samples, context_of(m, o)) end
  return data:batch("train", o.samples, context_of(m, o), q.stream(o.seed, "calibration"))
end

local function print_plan(folder, o, batch)
  local plan = q.disk.plan(folder, {sequences = o.samples, context = o.context, batch = batch or 1})
  local function gb(n) return ("%.2f GB"):format(n / 1e9) end
  io.write(("%s, %d blocks, %.4g M parameters, %s in f32\n"):format(plan.family, plan.layers, plan.parameters / 1e6, gb(plan.model)))
  io.write(("block by block: a block %s, activations %s, statistics %s, in all about %s\n"):format(gb(plan.block),
    gb(plan.activations), gb(plan.statistics), gb(plan.peak)))
  return 0
end

--- The model in another basis, as --rotate says.
local function rotated(m, o)
  if not o.rotate then return m end
  return (q.quant.rotate(m, {kind = o.rotate == "random" and "random" or "hadamard", online = o.rotate == "online", seed = o.seed}))
end

--- A packed model's report gets the bytes that its quantized weights take. What runs afterwards is the file, read back.
local function save_packed(small, report, to, o)
  report.file = q.quant.save(small, report, to, {dtype = o.dtype})
  return q.models.load(to, {frozen = true})
end

--- In memory, or through files: the report, and the quantized model.
local function quantize_to(from, to, m, given, o)
  if m.lazy then
    if o.rotate then options.fail("quench quantize: --rotate needs the whole model in memory; leave out --disk") end
    given.dtype, given.packed = o.dtype, o.packed
    return q.disk.quantize(from, to, given), q.models.load(to, {lazy = true})
  end
  local small, report = q.quant.quantize(rotated(m, o), given)
  if o.packed then small = save_packed(small, report, to, o) else small:save(to, {dtype = o.dtype}) end
  if q.system.exists(from .. "/tokenizer.json") then
    q.system.write_file(to .. "/tokenizer.json", q.system.read_file(from .. "/tokenizer.json"))
  end
  return report, small
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
  if o.plan then return print_plan(words[1], o, given.batch) end
  model.options_of(given) -- wrong ones are errors before anything is read
  if q.system.same(words[1], words[2]) then options.fail("quench quantize: '%s' would be overwritten; OUT must be another folder", words[1]) end
  local m = q.models.load(words[1], {frozen = true, lazy = streamed(words[1], o)})
  local tokenizer = tokenizer_of(words[1], m.config.vocab_size)
  q.system.make_directories(words[2]) -- a place that cannot be written is better known now than at the end
  local data = not o.calibration and data_of(o, tokenizer)
  local text = o.loss and held_out(o, tokenizer, data)
  local before = o.loss and loss_of(m, text, o)
  given.calibration = calibration_of(data, m, o, tokenizer)
  local bar
  given.progress = function(done, total, r)
    bar = bar or q.progress{total = total, label = "quantizing"}
    bar:update(done, {output_error = r.output_error})
  end
  local report, small = quantize_to(words[1], words[2], m, given, o)
  if bar then bar:finish() end
  print_report(report)
  local after = o.loss and loss_of(small, text, o)
  q.system.write_file(words[2] .. "/quantize.json", json.encode{method = given.method or "gptq", bits_per_weight = report.bits,
    file = report.file, loss = before and {before = before.loss, after = after.loss} or nil, layers = plain(report)} .. "\n")
  io.write(("%.3f bits a weight, %.1f s\n"):format(report.bits, report.seconds))
  if report.file then
    io.write(("in the file: %d bytes for %d weights, %.3f bits a weight\n"):format(report.file.bytes, report.file.weights, report.file.bits))
  elseif report[1].inputs or report.kv then
    io.write("inputs or cache are rounded when the model runs, which the weights in the folder do not say; --packed keeps that too\n")
  end
  if before then
    io.write(("loss %.4f -> %.4f nats a token (%+.3f %%)\n"):format(before.loss, after.loss, 100 * q.eval.relative_ce(before.loss, after.loss)))
  end
  io.write(words[2], "\n")
  return 0
end

-- ---- quench eval ----------------------------------------------------------------

local eval_spec = options.spec("quench eval", text_entries(2048, {
  {"stride", "integer", min = 1, doc = "tokens between the starts of sequences [context]", unit = "tokens"},
  {"loss", "boolean", default = true, doc = "measure the loss on the text"},
  {"choice", "string", doc = "multiple choice, .jsonl as the LM Evaluation Harness has it: acc and acc_norm"},
  {"pairs", "string", doc = "minimal pairs, .jsonl as BLiMP has them: acc"},
  {"shots", "integer", default = 0, min = 0, doc = "solved examples before each question"},
  {"limit", "integer", min = 1, doc = "questions or pairs, at most"},
  {"disk", "boolean", doc = "read block by block [models of more than 1 G parameters]"},
  {"json", "boolean", default = false, doc = "print JSON, one object a model"},
}))

--- What is measured of one model.
local function measure(folder, o)
  local m = q.models.load(folder, {frozen = true, lazy = streamed(folder, o)})
  local tokenizer = tokenizer_of(folder, m.config.vocab_size)
  local out = {model = folder}
  if o.loss then
    local ids, bytes = held_out(o, tokenizer)
    local r = loss_of(m, ids, o)
    out.loss, out.perplexity, out.tokens = r.loss, r.perplexity, r.tokens
    out.bits_per_byte = r.loss / math.log(2) / bytes
  end
  if o.choice then
    local r = q.eval.choice(m, o.choice, {tokenizer = tokenizer, shots = o.shots, limit = o.limit})
    out.acc, out.acc_norm, out.acc_stderr, out.questions = r.acc, r.acc_norm, r.acc_stderr, r.n
  end
  if o.pairs then
    local r = q.eval.pairs(m, o.pairs, {tokenizer = tokenizer, limit = o.limit})
    out.pairs_acc, out.pairs_stderr, out.pairs = r.acc, r.acc_stderr, r.n
  end
  return out
end

--- The damage against the first model.
local function compare(first, r)
  local function drop(a, b) return a and a < 1 and q.eval.accuracy_drop(a, b) or nil end
  r.relative_ce = first.loss and q.eval.relative_ce(first.loss, r.loss)
  r.accuracy_drop, r.pairs_drop = drop(first.acc, r.acc), drop(first.pairs_acc, r.pairs_acc)
end

local columns = {
  {"loss", "%10.4f", 10}, {"perplexity", "%12.4f", 12}, {"bits_per_byte", "%14.4f", 14, "bits a byte"}, {"acc", "%8.4f", 8},
  {"acc_norm", "%9.4f", 9}, {"pairs_acc", "%8.4f", 8, "pairs"}, {"accuracy_drop", "%9.4f", 9, "acc drop"}, {"relative_ce", "%9.3f%%", 10, "change"},
}

local function print_row(r, first)
  local cells = {("%-40s"):format(r and r.model or "model")}
  for _, c in ipairs(columns) do
    local value = r and r[c[1]]
    if c[1] == "relative_ce" and value then value = 100 * value end
    if first[c[1]] then cells[#cells + 1] = value and c[2]:format(value) or ("%" .. c[3] .. "s"):format(r and "" or c[4] or c[1]) end
  end
  io.write(table.concat(cells, " "), "\n")
end

function M.eval(args)
  if wants_help(args) then return usage("quench eval MODEL [OTHER ...] [--text=FILE]", eval_spec) end
  local words, list = split(args, eval_spec)
  if #words < 1 then options.fail("quench eval MODEL: a model's folder is needed") end
  local o = eval_spec((arguments.parse(list, eval_spec)))
  if not (o.loss or o.choice or o.pairs) then options.fail("quench eval: --no-loss leaves nothing to measure; give --choice or --pairs") end
  for _, folder in ipairs(words) do q.models.config(folder) end -- one that is no model is known before the first is measured
  local first
  for _, folder in ipairs(words) do
    local r = q.scope(measure, folder, o)
    if not first then first = r end
    compare(first, r)
    if o.json then io.write(json.encode(r), "\n")
    else
      if first == r then print_row(nil, first) end
      print_row(r, first)
    end
  end
  return 0
end

-- ---- for other commands ------------------------------------------------------------

M.split, M.usage, M.typed, M.wants_help, M.tokenizer_of = split, usage, typed, wants_help, tokenizer_of

return M

--- command.lua - quench trajectory: q.trajectory from the command line.

local q = require "quench"
local arguments = require "quench.recipe.arguments"
local command = require "quench.quant.command"
local json = require "quench.json"
local model = require "quench.quant.model"
local options = require "quench.options"
local trajectory = require "quench.trajectory"

local M = {}

local spec = options.spec("quench trajectory", {
  {"text", "string", required = true, doc = "text to measure the loss on"},
  {"bits", "list", doc = "bits a weight, one curve each [3,4; none beside --format]"},
  {"run", "string", doc = "a known run: " .. table.concat(trajectory.names(), ", ")},
  {"table", "string", doc = "a file with name, step, tokens, rate a line"},
  {"lawa", "integer", min = 2, doc = "also the mean of each this many checkpoints in a row"},
  {"soup", "string", doc = "also the mean of all checkpoints whose name matches this Lua pattern", check = options.pattern_check "soup"},
  {"block", "integer", default = 2048, min = 2, doc = "tokens the model sees at a time", unit = "tokens"},
  {"limit", "integer", min = 1, doc = "blocks of the text, at most"},
  {"calibration", "string", doc = "text or .jsonl to calibrate on"},
  {"samples", "integer", default = 128, min = 1, doc = "calibration sequences"},
  {"context", "integer", default = 2048, min = 2, doc = "tokens a calibration sequence", unit = "tokens"},
  {"disk", "boolean", default = false, doc = "block by block through files, for models larger than memory"},
  {"out", "string", default = "trajectory", doc = "folder of the results"},
})

local function known(format, value) return value and format:format(value) or "-" end

local function show(p, bits)
  local parts = {("%-40s %10s %10s  loss %.4f"):format(p.name, known("%g", p.step), known("%.3g", p.rate), p.loss)}
  for _, b in ipairs(bits) do parts[#parts + 1] = ("%s %+.3f %%"):format(trajectory.label(b), 100 * p.bits[tostring(b)].error) end
  io.write(table.concat(parts, "  "), "\n")
  io.flush()
end

--- The folders that the words name, in order and once each.
local function folders_of(words)
  local list, seen = {}, {}
  for _, pattern in ipairs(words) do
    for _, path in ipairs(trajectory.glob(pattern)) do
      if not seen[path] then seen[path], list[#list + 1] = true, path end
    end
  end
  if #list == 0 then options.fail("quench trajectory: no model's folder matches %s", table.concat(words, " ")) end
  return list
end

function M.main(args)
  local method = "gptq"
  for i, a in ipairs(args) do
    method = a:match("^%-%-method=(.+)$") or a == "--method" and args[i + 1] or method
  end
  local theirs = command.typed("quench trajectory", model.spec_of(method))
  if command.wants_help(args) then
    return command.usage("quench trajectory FOLDER... --text=FILE [--method=gptq] [--bits=3,4] ...", spec, theirs)
  end
  local words, list = command.split(args, spec, theirs)
  local own, settings = arguments.parse(list, spec, theirs)
  local o, folders = spec(own), folders_of(words)
  local curves = trajectory.curves(o.bits, settings)
  local _, config = q.models.config(folders[1])
  local tokenizer = command.tokenizer_of(folders[1], config.vocab_size)
  if o.calibration then settings.calibration = command.samples(o.calibration, tokenizer, o.samples, o.context) end
  local result = trajectory.measure(folders, {
    text = q.system.read_file(o.text), tokenizer = tokenizer, block = o.block, limit = o.limit, bits = o.bits, quantize = settings,
    run = o.run, table = o.table, lawa = o.lawa, soup = o.soup, out = o.out, disk = o.disk,
    progress = function(p) show(p, curves) end,
  })
  q.system.write_file(o.out .. "/results.json", json.encode(result) .. "\n")
  trajectory.figure(result):save(o.out .. "/trajectory.png")
  io.write(o.out, "/trajectory.png\n")
  return 0
end

return M

--- Weight files: q.load, q.save and q.open for safetensors.

local c = require "quench.c.io"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

--- True if the name is in the list, or there is no list; a pattern is a list of one.
local function wanted(name, only)
  if only == nil then return true end
  if type(only) == "string" then return name:find(only) ~= nil end
  for _, o in ipairs(only) do
    if o == name then return true end
  end
  return false
end

local load_options = options.spec("q.load", {
  {"dtype", "string", choices = {"f32", "f64", "i32", "bf16"}, doc = "of every tensor; without it each gets what fits its own"},
  {"only", "string|list", doc = "names to read, or one Lua pattern that they match"},
  {"finite", "boolean", default = false, doc = "NaN or infinity in a tensor is an error"},
})

function M.load(path, o)
  o = load_options(o)
  local file, tensors = c.open(path), {}
  for _, name in ipairs(file:names()) do
    if wanted(name, o.only) then
      local bad = o.finite and file:nonfinite(name) or 0
      if bad > 0 then options.fail("'%s': tensor '%s' has %d values that are NaN or infinite", path, name, bad) end
      tensors[name] = file:read(name, o.dtype)
    end
  end
  if type(o.only) == "table" then
    for _, name in ipairs(o.only) do
      if not file:has(name) then options.fail("'%s': no tensor '%s'%s", path, name, options.suggest(name, file:names())) end
    end
  end
  local metadata = file:metadata()
  file:close()
  return tensors, metadata
end

function M.open(path) return c.open(path) end

function M.save(path, tensors, metadata) return c.save(path, tensors, metadata) end

help.add{"q.load", M.load, "load(path, options?) -> {name = tensor}, metadata",
  "Reads a safetensors file, a sharded one, or a folder with one.",
  text = [[
F32, F16, BF16 and the 8-bit floats become f32, F64 f64, integers i32 where they fit and f64 (exact to 2^53) where not.
path: a .safetensors file, a model.safetensors.index.json, or a folder that holds either. NaN is data, see finite.]],
  options = load_options, returns = "a table of tensors by name, and the file's metadata (strings)",
  errors = "a file that is cut off or whose header does not fit its data: with the tensor and the reason",
  source = "safetensors format, github.com/huggingface/safetensors", example = [[local weights, about = q.load "model.safetensors"]],
  see = {"q.open", "q.save"}}

help.add{"q.open", M.open, "open(path) -> file", "Opens a safetensors file without reading it: for models larger than memory.",
  text = [[
The file is mapped; f:read(name, dtype?) makes one tensor. Further: f:names() (sorted), f:info(name) ({dtype=, shape=,
numel=, bytes=, file=}), f:has(name), f:nonfinite(name) (values that are NaN or infinite), f:metadata(), f:close().]],
  returns = "the file", errors = "as q.load", example = [[
local f = q.open "model"
for _, name in ipairs(f:names()) do print(name, f:info(name).dtype, f:read(name):norm()) end]], see = {"q.load"}}

help.add{"q.save", M.save, "save(path, {name = tensor}, metadata?)", "Writes a safetensors file that other tools can read, atomically.",
  text = "metadata: a table of strings. The same tensors give the same bytes.",
  errors = "a value that is no tensor, metadata that is no string, a disk that is full",
  example = [[q.save("w.safetensors", {w = q.randn(4, 4)}, {note = "random"})]], see = {"q.load"}}

return M

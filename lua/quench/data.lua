--- Data for language models: texts by name or path, cut into splits, as token ids.
-- What a data object answers is in dataset.lua.

local q = require "quench"
local system = require "quench.c.system"
local corpus = require "quench.corpus"
local Data = require "quench.dataset"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

-- ---- texts ----------------------------------------------------------------

local function read_all(paths)
  local parts = {}
  for i, path in ipairs(type(paths) == "table" and paths or {paths}) do parts[i] = system.read_file(path) end
  return table.concat(parts)
end

--- The last share of a text, from the beginning of a line on, goes to validation.
local function cut(text, share)
  local at = math.floor(#text * (1 - share))
  local feed = text:find("\n", at, true)
  at = feed and feed < #text and feed or at
  return text:sub(1, at), text:sub(at + 1)
end

local text_options = options.spec("q.data.text", {
  {"name", "string", doc = "a corpus by name (austen, austen6); fetched once"},
  {"path", "string|list", doc = "a file, or files that are read as one text"},
  {"text", "string", doc = "the text itself"},
  {"validation", "string|list", doc = "files of the validation split, in place of the end of the text"},
  {"split", "number", default = 0.1, above = 0, below = 1, doc = "share of the end of the text for validation (not for corpora by name)"},
  {"tokenizer", "table", doc = "from q.tokenizer; without one, bytes or vocab_size"},
  {"vocab_size", "integer", min = 256, unit = "tokens", doc = "learn a byte-level BPE of this size from the train split (256: bytes)"},
})

local function texts_of(o)
  local given = 0
  for _, key in ipairs{"name", "path", "text"} do given = given + (o[key] and 1 or 0) end
  if given ~= 1 then options.fail("q.data.text: give one of name, path and text") end
  if o.name then
    local paths = corpus.fetch(o.name)
    return read_all(paths.train), read_all(paths.validation)
  end
  local text = o.text or read_all(o.path)
  if o.validation then return text, read_all(o.validation) end
  return cut(text, o.split)
end

local function tokenizer_of(o, text)
  if o.tokenizer and o.vocab_size then options.fail("q.data.text: give tokenizer or vocab_size, not both") end
  if o.tokenizer and not q.tokenizer.is(o.tokenizer) then options.fail("q.data.text: tokenizer must come from q.tokenizer") end
  if o.tokenizer then return o.tokenizer end
  if o.vocab_size and o.vocab_size > 256 then return q.tokenizer.train(text, {vocab_size = o.vocab_size}) end
  return q.tokenizer.bytes()
end

function M.text(o)
  o = text_options(o)
  local train, validation = texts_of(o)
  local tokenizer = tokenizer_of(o, train)
  local parts = {}
  for name, text in pairs{train = train, validation = validation} do
    if #text == 0 then options.fail("q.data.text: the %s split is empty", name) end
    parts[name] = {text = text, tokens = tokenizer:encode(text, {special = false, tensor = true})}
  end
  local name = o.name or type(o.path) == "string" and o.path or "text"
  return setmetatable({name = name, tokenizer = tokenizer, parts = parts}, Data)
end

function M.fetch(name) return corpus.fetch(name) end

M.language = require "quench.language"

local ngram_options = options.spec("q.data.ngram", {
  {"order", "integer", default = 5, min = 0, max = 7, unit = "bytes", doc = "bytes of context"},
  {"split", "string", default = "validation", doc = "what is measured; counts come from train"},
  {"bytes", "integer", min = 1, doc = "only the first so many bytes of the split"},
})

function M.ngram(data, o)
  o = ngram_options(o)
  if getmetatable(data) ~= Data then options.fail("q.data.ngram: a text from q.data.text expected") end
  local text = data:text(o.split)
  return require("quench.c.text").ngram(data:text "train", text:sub(1, o.bytes or #text), o.order)
end

help.add{"q.data.text", M.text, "text(options) -> data", "A text as token ids, in a train and a validation split.",
  text = [[
data:batch(split, B, T, stream) gives an i32 tensor (B, T) of windows at random places; the stream's counter is the whole
state. data:tokens(split) gives all ids, data:bytes_per_token(split) what bits per byte need; further data:text(split),
data:bytes(split), data:splits(), data:vocab_size() and the field tokenizer.
austen: Pride and Prejudice and Emma to train, Northanger Abbey to validate. Texts by name are kept in $QUENCH_DATA or
~/.cache/quench, each checked by its SHA-256.]],
  options = text_options, errors = "a file that is missing, a corpus that cannot be fetched (with what to do), an empty split",
  example = [[
local data = q.data.text{name = "austen", vocab_size = 1024}
local ids = data:batch("train", 8, 129, q.stream(1, "data"))]], see = {"q.data.language", "q.tokenizer.train", "q.train"}}

help.add{"q.data.fetch", M.fetch, "fetch(name) -> {train = paths, validation = paths}", "Makes sure that a corpus is on this machine.",
  errors = "no way to get it: every source with its reason, and how to go on without",
  example = [[q.data.fetch "austen"]], see = {"q.data.text"}}

help.add{"q.data.ngram", M.ngram, "ngram(data, options?) -> bits per byte",
  "What a byte n-gram with Witten-Bell smoothing reaches: a yardstick.",
  options = ngram_options, source = "Witten and Bell, 1991 (method C)",
  example = [[q.data.ngram(q.data.text{name = "austen"}, {order = 5, bytes = 200000})   --> 2.109]], see = {"q.data.text"}}

return M

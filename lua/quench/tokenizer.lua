--- Tokenizers: text to token ids and back.
--
-- Ids count from 0 as in every tokenizer file; they are data, not indices of a Lua list.

local c = require "quench.c.tokenizer"
local options = require "quench.options"
local help = require "quench.help"

local M = {}

local Tokenizer = {}
Tokenizer.__index = Tokenizer
Tokenizer.__name = "tokenizer"

local function wrap(handle, kind) return setmetatable({handle = handle, kind = kind}, Tokenizer) end

--- True if v is a tokenizer.
function M.is(v) return getmetatable(v) == Tokenizer end

local encode_options = options.spec("tokenizer:encode", {
  {"special", "boolean", default = true, doc = "add what the tokenizer adds around a text (beginning of text, ...)"},
  {"tensor", "boolean", default = false, doc = "an i32 tensor of shape (n) in place of a list"},
})

function Tokenizer:encode(text, o)
  if type(text) ~= "string" then options.fail("encode: a string expected, got %s", type(text)) end
  o = encode_options(o)
  return self.handle:encode(text, o.special, o.tensor)
end

local decode_options = options.spec("tokenizer:decode", {
  {"skip_special", "boolean", default = false, doc = "leave special tokens out"},
})

function Tokenizer:decode(ids, o) return self.handle:decode(ids, decode_options(o).skip_special) end

--- Rows that an embedding needs: the largest id + 1.
function Tokenizer:vocab_size() return self.handle:vocab_size() end

--- The bytes of a token and whether it is special; nil if no token has the id.
function Tokenizer:token(id) return self.handle:token(id) end

--- The id of a token given by its bytes, or nil.
function Tokenizer:id(bytes) return self.handle:id(bytes) end

function Tokenizer:save(path) return self.handle:save(path) end

function Tokenizer:__tostring() return ("tokenizer (%s, %d tokens)"):format(self.kind, self:vocab_size()) end

--- Reads a tokenizer.json, or the one in a folder.
function M.load(path)
  local system = require "quench.c.system"
  if system.kind(path) == "folder" then path = path .. "/tokenizer.json" end
  return wrap(c.load(path), path:match("[^/]+/?$"))
end

function M.bytes() return wrap(c.bytes(), "bytes") end

local train_options = options.spec("q.tokenizer.train", {
  {"vocab_size", "integer", required = true, min = 256, max = 2 ^ 22, unit = "tokens", doc = "256 bytes + merges + special tokens"},
  {"pattern", "string", default = "gpt2", doc = "how text is cut into words: gpt2, llama3, or a regular expression"},
  {"min_count", "integer", default = 1, min = 1, doc = "pairs seen less often are not merged"},
  {"special", "list", default = {}, doc = "special tokens, as strings; they get the last ids"},
})

function M.train(text, o)
  if type(text) ~= "string" then options.fail("q.tokenizer.train: the text must be a string, got %s", type(text)) end
  o = train_options(o)
  return wrap(c.train(text, o.vocab_size, o.min_count, o.pattern, o.special), "trained byte-level BPE")
end

help.add{"q.tokenizer.load", M.load, "load(path) -> tokenizer", "Reads a tokenizer.json (Hugging Face), or the one in a folder.",
  text = [[
Byte-level BPE (GPT-2, GPT-NeoX, OLMo, Llama 3, Qwen, SmolLM, ...) and SentencePiece-style BPE with byte fallback
(Llama 2). Added tokens, normalizers (NFC, Replace, Prepend), splitting patterns and post-processors are followed; a
part that is not known is an error, since nearly right ids are worse than none.
Any bytes can be encoded, UTF-8 or not: bytes that are no UTF-8 are words of their own, and decode gives them back.]],
  errors = "what in the file is missing, damaged or not supported", source = "Sennrich et al., 2016; Radford et al., 2019",
  example = [[
local t = q.tokenizer.load "model/tokenizer.json"
print(t:decode(t:encode "Hello, world!"))]], see = {"q.tokenizer.train", "q.tokenizer.bytes"}}

help.add{"q.tokenizer.bytes", M.bytes, "bytes() -> tokenizer", "256 tokens, one a byte: the simplest vocabulary; ids are the bytes' values.",
  example = [[q.tokenizer.bytes():encode "AB"   --> {65, 66}]], see = {"q.tokenizer.train"}}

help.add{"q.tokenizer.train", M.train, "train(text, options) -> tokenizer", "Learns a byte-level BPE from text.",
  text = [[
The adjacent pair that occurs most often is merged, again and again; of pairs that occur equally often the one greater
in byte order (first token, then second). The same text gives the same tokenizer. Ids 0 to 255 are the bytes.]],
  options = train_options, source = "Sennrich et al., 2016, algorithm 1", example = [[
local t = q.tokenizer.train(q.system.read_file "book.txt", {vocab_size = 1024, special = {"<|endoftext|>"}})
t:save "tokenizer.json"]], see = {"q.tokenizer.load"}}

help.add{"tokenizer:encode", Tokenizer.encode, "t:encode(text, options?) -> ids", "Text to token ids (from 0), as a list or an i32 tensor.",
  options = encode_options, example = [[t:encode("two words", {tensor = true})]], see = {"tokenizer:decode"}}

help.add{"tokenizer:decode", Tokenizer.decode, "t:decode(ids, options?) -> text", "Token ids (a list or an i32 tensor) to text.",
  text = "Gives bytes: an id list cut inside a character gives a string that is not UTF-8.", options = decode_options,
  errors = "an id that no token has, with its position", see = {"tokenizer:encode"}}

help.add{"tokenizer:save", Tokenizer.save, "t:save(path)", "Writes a tokenizer.json that Hugging Face's tokenizers read.",
  example = [[t:save "model/tokenizer.json"]]}

help.add{"tokenizer:vocab_size", Tokenizer.vocab_size, "t:vocab_size() -> n", "The largest id + 1: rows that an embedding needs."}
help.add{"q.tokenizer.is", M.is, "is(value) -> boolean", "Whether a value is a tokenizer."}

return M

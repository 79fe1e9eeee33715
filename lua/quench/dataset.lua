--- Data objects: tokens in splits, served in batches. Made by q.data.text and q.data.language.
--
-- A data object answers
--   d:batch(split, B, T, stream)  an i32 tensor (B, T): B windows of T tokens, at places drawn from the stream.
--                                 The stream's (seed, name, counter) is all the state there is: put the counter
--                                 back and the same batches come again.
--   d:tokens(split)               all tokens of a split, an i32 tensor (n)
--   d:bytes_per_token(split)      for bits per byte = nats per token / ln 2 / bytes per token
--   d:vocab_size(), d:splits(), d:text(split)
-- A model that predicts T tokens from a window needs T + 1 of them: batch(split, B, T + 1, stream).

local q = require "quench"
local options = require "quench.options"
local help = require "quench.help"

local Data = {}
Data.__index = Data

function Data:splits()
  local names = {}
  for name in pairs(self.parts) do names[#names + 1] = name end
  table.sort(names)
  return names
end

local function part_of(self, split)
  local part = self.parts[split]
  if not part then
    options.fail("data: no split '%s'%s; there are: %s", tostring(split), options.suggest(tostring(split), self:splits()),
      table.concat(self:splits(), ", "))
  end
  return part
end

function Data:tokens(split) return part_of(self, split).tokens end

function Data:batch(split, rows, length, stream)
  local tokens = part_of(self, split).tokens
  if type(rows) ~= "number" or type(length) ~= "number" or rows < 1 or length < 1 then
    options.fail("data:batch(split, B, T, stream): B and T must be at least 1, got %s and %s", tostring(rows), tostring(length))
  end
  if type(stream) ~= "userdata" then
    options.fail("data:batch(split, B, T, stream): the stream must come from q.stream(seed, name), got %s", tostring(stream))
  end
  local places = tokens:numel() - length + 1
  if places < 1 then options.fail("data:batch: windows of %d tokens, but the %s split has only %d", length, split, tokens:numel()) end
  local ids = q.zeros(rows, length, "i32")
  for row = 1, rows do ids[row] = tokens:narrow(1, 1 + stream:below(places), length) end
  return ids
end

function Data:bytes(split) return #part_of(self, split).text end
function Data:text(split) return part_of(self, split).text end
function Data:bytes_per_token(split) return self:bytes(split) / self:tokens(split):numel() end
function Data:vocab_size() return self.tokenizer:vocab_size() end

function Data:__tostring()
  local sizes = {}
  for i, name in ipairs(self:splits()) do sizes[i] = ("%s %d tokens"):format(name, self:tokens(name):numel()) end
  return ("data (%s: %s)"):format(self.name, table.concat(sizes, ", "))
end

help.add{"data:batch", Data.batch, "d:batch(split, B, T, stream) -> i32 tensor (B, T)", "Windows of T tokens at random places of a split.",
  text = [[
T + 1 tokens give a model T predictions. The stream's counter is the whole state: stream:counter(n) goes back to it.]],
  errors = "a split that is not there, a window longer than the split", example = [[data:batch("train", 8, 129, q.stream(1, "data"))]],
  see = {"q.data.text", "q.train"}}

help.add{"data:tokens", Data.tokens, "d:tokens(split) -> i32 tensor (n)", "All tokens of a split, in order.", see = {"data:batch"}}

help.add{"data:bytes_per_token", Data.bytes_per_token, "d:bytes_per_token(split) -> number", "Mean bytes of text behind a token.",
  text = "Bits per byte = nats per token / ln 2 / bytes per token.", see = {"q.train.evaluate"}}

return Data

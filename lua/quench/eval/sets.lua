--- sets.lua - evaluation sets: reading JSON lines, and making sets from a text of one's own.
--
-- Small models score near chance on the usual benchmarks. Sets made from an unseen book by the same rules move
-- long before: the true sentence against the same with two neighbouring words swapped, and the true last
-- word against words that are as frequent.

local q = require "quench"
local json = require "quench.json"
local help = require "quench.help"
local options = require "quench.options"

local M = {}

--- The records of a JSON lines file; blank lines are skipped.
function M.read(path)
  local list, line = {}, 0
  for text in (q.system.read_file(path) .. "\n"):gmatch("(.-)\r?\n") do
    line = line + 1
    if text:find("%S") then
      local record = json.decode(text, {name = ("%s:%d"):format(path, line)})
      if type(record) ~= "table" then options.fail("%s:%d: a record is an object, {...}", path, line) end
      list[#list + 1] = record
    end
  end
  if #list == 0 then options.fail("'%s' holds no records", path) end
  return list
end

--- Writes records as JSON lines.
function M.write(path, list)
  local lines = {}
  for i, record in ipairs(list) do lines[i] = json.encode(record) .. "\n" end
  q.system.write_file(path, table.concat(lines))
end

-- ---- sentences of a text --------------------------------------------------

--- The words of plain sentences: letters, apostrophes and commas, 6 to 30 words, ended by a full stop.
local function sentences(text)
  local list = {}
  text = text:gsub("%s+", " ")
  for body in text:gmatch("%f[%u](%u[^%.!%?]*)%.%f[^%.]") do
    if not body:find("[^%a ',;%-]") then
      local words = {}
      for w in body:gmatch("%S+") do words[#words + 1] = w end
      if #words >= 6 and #words <= 30 then list[#list + 1] = words end
    end
  end
  return list
end

local function plain(word) return word:match("^%a+$") and word:lower() end

--- n of the list, in random order.
local function sample(list, n, stream)
  for i = 1, math.min(n, #list) do
    local j = i + stream:below(#list - i + 1)
    list[i], list[j] = list[j], list[i]
  end
  local out = {}
  for i = 1, math.min(n, #list) do out[i] = list[i] end
  return out
end

local function text_of(source, split)
  if type(source) == "string" then return source end
  return source:text(split)
end

local set_options = options.spec("q.eval.swaps", {
  {"n", "integer", default = 500, min = 1, doc = "records, at most"},
  {"seed", "integer", default = 0, doc = "of the choice"},
  {"split", "string", default = "validation", doc = "of a data object"},
})

--- Minimal pairs: a sentence, and the same with two neighbouring words swapped.
function M.swaps(source, given)
  local o = set_options(given)
  local stream, pool = q.stream(o.seed, "swaps"), {}
  for _, words in ipairs(sentences(text_of(source, o.split))) do
    local places = {}
    for i = 2, #words - 2 do -- not the first, which has a capital, and not the last
      local a, b = plain(words[i]), plain(words[i + 1])
      if a and b and a ~= b then places[#places + 1] = i end
    end
    if #places > 0 then pool[#pool + 1] = {words = words, places = places} end
  end
  local list = {}
  for i, entry in ipairs(sample(pool, o.n, stream)) do
    local at = entry.places[1 + stream:below(#entry.places)]
    local good = table.concat(entry.words, " ") .. "."
    entry.words[at], entry.words[at + 1] = entry.words[at + 1], entry.words[at]
    list[i] = {sentence_good = good, sentence_bad = table.concat(entry.words, " ") .. ".", UID = "word_swap"}
  end
  if #list == 0 then options.fail("q.eval.swaps: the text has no plain sentence of 6 to 30 words") end
  return list
end

--- Words by frequency: word -> count, and band (whole logarithm to base 2 of the count) -> words, sorted.
local function bands_of(text)
  local counts, bands = {}, {}
  for w in text:gmatch("%f[%a]%l+%f[%A]") do counts[w] = (counts[w] or 0) + 1 end
  for w, n in pairs(counts) do
    local band = math.floor(math.log(n) / math.log(2))
    bands[band] = bands[band] or {}
    table.insert(bands[band], w)
  end
  for _, words in pairs(bands) do table.sort(words) end
  return counts, bands
end

local cloze_options = options.spec("q.eval.cloze", {
  {"n", "integer", default = 500, min = 1, doc = "records, at most"},
  {"choices", "integer", default = 4, min = 2, doc = "words to choose from"},
  {"seed", "integer", default = 0, doc = "of the choice"},
  {"split", "string", default = "validation", doc = "of a data object"},
  {"counts", "string", default = "train", doc = "split whose words are counted"},
})

--- Multiple choice: a sentence without its last word, that word, and others of the same frequency.
function M.cloze(source, given)
  local o = cloze_options(given)
  local stream, pool = q.stream(o.seed, "cloze"), {}
  local counts, bands = bands_of(text_of(source, o.counts))
  for _, words in ipairs(sentences(text_of(source, o.split))) do
    local last = words[#words]
    local band = last:match("^%l+$") and counts[last] and bands[math.floor(math.log(counts[last]) / math.log(2))]
    if band and #band >= 2 * o.choices then pool[#pool + 1] = {words = words, band = band} end
  end
  local list = {}
  for i, entry in ipairs(sample(pool, o.n, stream)) do
    local right, choices, used = table.remove(entry.words), {}, {}
    used[right] = true
    local gold = stream:below(o.choices)
    for k = 1, o.choices do
      local word = right
      while k - 1 ~= gold and used[word] do word = entry.band[1 + stream:below(#entry.band)] end
      used[word], choices[k] = true, word
    end
    list[i] = {query = table.concat(entry.words, " "), choices = choices, gold = gold}
  end
  if #list == 0 then options.fail("q.eval.cloze: no plain sentence ends in a word with %d others of its frequency", o.choices) end
  return list
end

help.add{"q.eval.read", M.read, "read(path) -> list", "The records of a JSON lines file.",
  example = 'local items = q.eval.read "piqa.jsonl"'}
help.add{"q.eval.write", M.write, "write(path, list)", "Writes records as JSON lines.",
  example = 'q.eval.write("swaps.jsonl", q.eval.swaps(data))'}
help.add{"q.eval.swaps", M.swaps, "swaps(text or data, options?) -> pairs",
  "Minimal pairs from a text: a sentence, and the same with two neighbouring words swapped.", options = set_options,
  returns = "a list of {sentence_good=, sentence_bad=, UID=}, as BLiMP has them",
  example = "q.eval.pairs(m, q.eval.swaps(data), {tokenizer = tok})",
  see = {"q.eval.pairs", "q.eval.cloze"}}
help.add{"q.eval.cloze", M.cloze, "cloze(text or data, options?) -> items",
  "Multiple choice from a text: the last word of a sentence against words of the same frequency.", options = cloze_options,
  returns = "a list of {query=, choices=, gold=}, gold from 0", example = "q.eval.choice(m, q.eval.cloze(data), {tokenizer = tok})",
  see = {"q.eval.choice", "q.eval.swaps"}}

return M

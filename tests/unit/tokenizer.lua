-- Training against the definition, any bytes there and back, special tokens, errors.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local function merges_of(tokenizer)
  local path = os.tmpname()
  tokenizer:save(path)
  local list = {}
  for i, m in ipairs(q.json.read(path).model.merges) do list[i] = (m[1] .. " " .. m[2]):gsub("\196\160", "_") end -- U+0120 is the space
  os.remove(path)
  return list
end

-- Sennrich et al., section 3.2, with the tie rule "greater pair": worked through by hand.
tap.test("the textbook example", function(t)
  local text = ("low "):rep(5) .. ("lower "):rep(2) .. ("widest "):rep(3) .. ("newest "):rep(6)
  local tokenizer = q.tokenizer.train(text, {vocab_size = 256 + 6, pattern = "[a-z]+"})
  t.equal(table.concat(merges_of(tokenizer), ", "), "s t, e st, o w, l ow, w est, n e", "merges")
  t.equal(#tokenizer:encode "newest", 2, "newest is ne + west")
end)

--- The definition: count all pairs anew for each merge.
local function naive(words, merges)
  local list = {}
  for _ = 1, merges do
    local counts, best = {}, nil
    for word, n in pairs(words) do
      local parts = {}
      for part in word:gmatch "[^|]+" do parts[#parts + 1] = part end
      for i = 1, #parts - 1 do
        local pair = parts[i] .. "|" .. parts[i + 1]
        counts[pair] = (counts[pair] or 0) + n
      end
    end
    for pair, n in pairs(counts) do
      local a, b = pair:match "^(.-)|(.*)$"
      if not best or n > best.n or n == best.n and (a > best.a or a == best.a and b > best.b) then best = {n = n, a = a, b = b} end
    end
    if not best then break end
    list[#list + 1] = best.a .. " " .. best.b
    local new = {}
    for word, n in pairs(words) do
      local parts, out, i = {}, {}, 1
      for part in word:gmatch "[^|]+" do parts[#parts + 1] = part end
      while i <= #parts do
        if parts[i] == best.a and parts[i + 1] == best.b then
          out[#out + 1], i = best.a .. best.b, i + 2
        else
          out[#out + 1], i = parts[i], i + 1
        end
      end
      word = table.concat(out, "|")
      new[word] = (new[word] or 0) + n
    end
    words = new
  end
  return list
end

tap.test("training is the definition", function(t)
  for seed = 1, 5 do
    local stream, text, words = q.stream(seed, "words"), {}, {}
    for i = 1, 300 do
      local word = {}
      for k = 1, 1 + stream:below(9) do word[k] = string.char(97 + stream:below(3)) end
      text[i] = table.concat(word)
      local key = table.concat(word, "|")
      words[key] = (words[key] or 0) + 1
    end
    local expected = naive(words, 60)
    -- where two merges make the same token, ours needs one more merge for the same number of tokens
    local got = merges_of(q.tokenizer.train(table.concat(text, " "), {vocab_size = 256 + 60, pattern = "[a-c]+"}))
    t.equal(table.concat(got, ",", 1, 55), table.concat(expected, ",", 1, 55), "seed " .. seed)
  end
end)

tap.test("any bytes there and back", function(t)
  local stream = q.stream(1, "bytes")
  local tokenizers = {
    q.tokenizer.bytes(), q.tokenizer.train(("some text to learn from. "):rep(20), {vocab_size = 300}),
    q.tokenizer.load "tests/parity/tok/llama3_style.tokenizer.json",
  }
  local all = {}
  for b = 0, 255 do all[b + 1] = string.char(b) end
  for i, tokenizer in ipairs(tokenizers) do
    local wrong = 0
    for _ = 1, 500 do
      local text = {}
      for k = 1, stream:below(40) do text[k] = all[1 + stream:below(256)] end
      text = table.concat(text)
      if tokenizer:decode(tokenizer:encode(text)) ~= text then wrong = wrong + 1 end
    end
    t.equal(wrong, 0, "tokenizer " .. i)
    t.equal(tokenizer:decode(tokenizer:encode(table.concat(all))), table.concat(all), "all 256 bytes")
  end
  local llama = q.tokenizer.load "tests/parity/tok/llama2_style.tokenizer.json" -- <s> is 1, <0x00> is 3
  t.equal(q.json.encode(llama:encode "\255\194"), q.json.encode{1, llama:id "\226\150\129", 3 + 255, 3 + 194},
    "bytes that are no UTF-8 by byte fallback")
end)

tap.test("lists, tensors, tokens", function(t)
  local b = q.tokenizer.bytes()
  t.equal(b:vocab_size(), 256, "256 bytes")
  t.equal(q.json.encode(b:encode "AB\0"), "[65,66,0]", "ids are bytes")
  local ids = b:encode("hello", {tensor = true})
  t.equal(ids:dtype() .. ids:size(1), "i325", "an i32 tensor")
  t.equal(b:decode(ids), "hello", "and back")
  t.equal(b:decode(q.stack{ids, ids}:t()), "hheelllloo", "also from a strided view")
  t.equal(b:encode("", {tensor = true}):numel(), 0, "an empty text")
  local s = q.tokenizer.train("ab ab ab<|end|>ab", {vocab_size = 259, special = {"<|end|>"}})
  t.equal(q.json.encode(s:encode "ab<|end|>ab"), "[256,258,256]", "special tokens get the last ids and are not cut")
  t.equal(s:decode({256, 258, 256}, {skip_special = true}), "abab", "and can be left out")
  local bytes, special = s:token(258)
  t.ok(bytes == "<|end|>" and special and s:id "<|end|>" == 258 and s:id "ab" == 256 and s:token(259) == nil, "token and id")
  local first, second = os.tmpname(), os.tmpname()
  s:save(first)
  q.tokenizer.train("ab ab ab<|end|>ab", {vocab_size = 259, special = {"<|end|>"}}):save(second)
  t.ok(q.system.read_file(first) == q.system.read_file(second), "training twice gives the same file")
  os.remove(first)
  os.remove(second)
end)

local function broken(change)
  local path = os.tmpname()
  local j = q.json.read("tests/parity/tok/llama3_style.tokenizer.json", {nulls = true})
  change(j)
  q.system.write_file(path, q.json.encode(j))
  local ok, message = pcall(q.tokenizer.load, path)
  os.remove(path)
  return not ok and message or "no error"
end

tap.test("errors", function(t)
  local function says(change, what)
    local message = broken(change)
    t.ok(message:find(what, 1, true), what, message)
  end
  says(function(j) j.model = nil end, "no model")
  says(function(j) j.model.type = "WordPiece" end, "the model 'WordPiece' is not supported")
  says(function(j) j.model.merges[3] = "a b c" end, "merge 3: it is no pair")
  says(function(j) j.model.merges[1] = {"a", "zzzz"} end, "merge 1: 'zzzz' is no token")
  says(function(j) j.model.vocab["!"] = 2 end, "two tokens have the id 2")
  says(function(j) j.model.vocab["!"] = -1 end, "the id of '!'")
  says(function(j) j.model.vocab["!"] = 1e6 end, "but ids up to 1000000")
  says(function(j) j.model.dropout = 0.1 end, "dropout")
  says(function(j) j.normalizer = {type = "Lowercase"} end, "the normalizer 'Lowercase' is not supported")
  says(function(j) j.pre_tokenizer = {type = "Split", pattern = {Regex = "(a"}, behavior = "Isolated"} end, "does not compile")
  says(function(j) j.decoder = {type = "WordPiece"} end, "the decoder 'WordPiece'")
  says(function(j) j.post_processor = {type = "TemplateProcessing", single = {{SpecialToken = {id = "<x>"}}}} end, "no ids for '<x>'")
  t.fails(function() q.tokenizer.load "/no/such/tokenizer.json" end, "/no/such/tokenizer.json", "a missing file")
  t.fails(function() q.tokenizer.bytes():decode{1, 256} end, "no token has the id 256 (position 2)", "an unknown id", true)
  t.fails(function() q.tokenizer.bytes():decode{1.5} end, "entry 1 is no token id", "a fraction")
  t.fails(function() q.tokenizer.bytes():decode(q.zeros(2)) end, "i32", "a float tensor")
  t.fails(function() q.tokenizer.train("x", {vocab_size = 256, special = {"<s>"}}) end, "vocab_size 256 is below", "too small a vocabulary")
  t.fails(function() q.tokenizer.train("x", {vocab_size = 300, pattern = "("}) end, "does not compile", "a bad pattern")
  t.fails(function() q.tokenizer.train("x", {}) end, "vocab_size is required", "no size")
end)

-- Every allocation fails once: an error, and nothing leaks (tap checks).
tap.test("no memory", function(t)
  local failed, path = 0, os.tmpname()
  q.tokenizer.train("a few words, a few words", {vocab_size = 262}):save(path)
  for n = 1, 200 do
    q.system.fail_at(n)
    local ok = pcall(function() q.tokenizer.load(path):encode "a few words \204\129" end)
    if not ok then failed = failed + 1 end
    q.system.fail_at(n)
    ok = pcall(q.tokenizer.train, "a few words", {vocab_size = 260})
    if not ok then failed = failed + 1 end
    q.system.fail_at(0)
    if n % 20 == 0 then collectgarbage() end
  end
  os.remove(path)
  t.ok(failed > 20, failed .. " failing allocations were reported")
end)

tap.done()

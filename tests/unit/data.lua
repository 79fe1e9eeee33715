-- Texts as data, corpora without a network, the synthetic language against closed forms and counts.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local corpus = require "quench.corpus"

local function lines(n)
  local out = {}
  for i = 1, n do out[i] = ("line %d of the text\n"):format(i) end
  return table.concat(out)
end

tap.test("a text", function(t)
  local text = lines(200)
  local d = q.data.text{text = text, split = 0.25}
  t.equal(d:text "train" .. d:text "validation", text, "the splits make up the text")
  t.equal(d:text("validation"):sub(1, 5), "line ", "cut at a line")
  t.ok(math.abs(#d:text "validation" / #text - 0.25) < 0.01, "a quarter of it")
  t.equal(d:vocab_size(), 256, "bytes unless told otherwise")
  t.equal(d:bytes_per_token "train", 1, "one byte a token")
  t.equal(d.tokenizer:decode(d:tokens "train"), d:text "train", "tokens decode to the text")
  local stream = q.stream(3, "data")
  d:batch("train", 4, 16, stream)
  local at = stream:counter()
  local x = d:batch("train", 4, 16, stream)
  t.equal(table.concat(x:shape(), "x") .. x:dtype(), "4x16i32", "a batch")
  local again = q.stream(3, "data")
  again:counter(at)
  t.equal(q.json.encode(d:batch("train", 4, 16, again):totable()), q.json.encode(x:totable()), "the counter is the whole state")
  for row = 1, 4 do
    t.ok(d:text("train"):find(d.tokenizer:decode(x[row]), 1, true), "row " .. row .. " is a piece of the text")
  end
  t.equal(d:batch("validation", 1, d:tokens("validation"):numel(), stream):numel(), d:tokens("validation"):numel(), "the longest window")
  t.equal(d:batch("train", 100, 2, stream):size(1), 100, "many rows")
  local b = q.data.text{text = text, vocab_size = 300}
  t.ok(b:vocab_size() == 300 and b:bytes_per_token "train" > 2, "a tokenizer learned from the train split")
  t.equal(q.data.text({text = text, tokenizer = b.tokenizer}):vocab_size(), 300, "a tokenizer that is handed in")
  local path = os.tmpname()
  q.system.write_file(path, text)
  local two = q.data.text{path = {path, path}, validation = path}
  t.equal(two:bytes "train", 2 * #text, "files as one text")
  t.equal(two:text "validation", text, "a file to validate on")
  os.remove(path)
end)

tap.test("errors", function(t)
  local d = q.data.text{text = lines(10)}
  local stream = q.stream(1, "data")
  t.fails(function() q.data.text{} end, "one of name, path and text", "nothing given")
  t.fails(function() q.data.text{name = "austen", text = "x"} end, "one of name, path and text", "too much given")
  t.fails(function() q.data.text{name = "ausen"} end, "did you mean 'austen'", "a misspelt corpus")
  t.fails(function() q.data.text{path = "/no/such.txt"} end, "/no/such.txt", "a missing file", true)
  t.fails(function() q.data.text{text = ""} end, "split is empty", "an empty text")
  t.fails(function() q.data.text{text = "abc", tokenizer = {}} end, "must come from q.tokenizer", "no tokenizer")
  t.fails(function() d:batch("valid", 1, 2, stream) end, "no split 'valid'.*validation", "a misspelt split")
  t.fails(function() d:batch("train", 1, 1000, stream) end, "windows of 1000 tokens", "a window longer than the text")
  t.fails(function() d:batch("train", 2, 2) end, "must come from q.stream", "no stream")
  t.fails(function() d:batch("train", 0, 2, stream) end, "at least 1", "no rows")
end)

-- A corpus of its own, served from a folder here: nothing in these tests asks the network.
tap.test("corpora", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  local files = folder .. "/files"
  q.system.make_directories(files)
  local rda = "RDX3\nX\n\0\0\0\3\0\4\2\1\0\3\5\0\0\0\0\5UTF-8" .. "\0\0\4\2\0\0\0\1\0\4\0\9\0\0\0\5novel" ..
    "\0\0\0\16\0\0\0\1\0\4\0\9\0\0\0\13It is a truth\0\0\0\254"
  q.system.write_file(files .. "/novel.rda.plain", rda)
  local packed = os.execute(("bzip2 -c %s/novel.rda.plain >%s/novel.rda 2>/dev/null"):format(files, files)) == 0 and
    os.execute "command -v curl >/dev/null 2>&1" == 0
  local source = {url = "file://" .. files .. "/%s.rda",
    texts = {novel = q.system.sha256 "It is a truth\n"}}
  corpus.corpora.test = {source = source, doc = "a test", train = {"novel"}, validation = {"novel"}}
  local real = corpus.folder
  corpus.folder = function() return folder .. "/cache" end
  local stderr = q.progress.message
  q.progress.message = function() end

  if packed then
    local paths = q.data.fetch "test"
    t.equal(q.system.read_file(paths.train[1]), "It is a truth\n", "fetched, unpacked and checked")
    source.url = "file:///no/such/folder/%s.rda"
    t.equal(q.data.text({name = "test"}):text "validation", "It is a truth\n", "from the cache the second time")
    q.system.write_file(paths.train[1], "It is a lie\n")
    t.fails(function() q.data.fetch "test" end, "could not be fetched", "a damaged text is not used")
  end
  source.url = "file://" .. files .. "/%s.rda"
  source.texts.novel = ("0"):rep(64)
  os.remove(folder .. "/cache/janeaustenr/novel.txt")
  local _, message = pcall(q.data.fetch, "test")
  t.ok(message:find("--text FILE", 1, true) and message:find(folder, 1, true), "the error says what to do and where", message)
  if packed then t.ok(message:find("'novel' is not the expected one", 1, true), "and that the text differs", message) end
  t.equal(#q.system.list(folder .. "/cache/janeaustenr"), 0, "nothing is left of a failed attempt")
  corpus.corpora.test, corpus.folder, q.progress.message = nil, real, stderr
  require("quench.recipe.store").remove(folder)
end)

--- Entropy of the next token given the n before it, from counts.
local function counted(ids, n)
  local pairs_, contexts, total, h = {}, {}, 0, 0
  local list = ids:totable()
  for i = n + 1, #list do
    local key = table.concat(list, " ", i - n, i - 1)
    contexts[key] = (contexts[key] or 0) + 1
    pairs_[key .. ">" .. list[i]] = (pairs_[key .. ">" .. list[i]] or 0) + 1
    total = total + 1
  end
  for key, count in pairs(pairs_) do h = h - count / total * math.log(count / contexts[key:match "^(.-)>"]) end
  return h
end

tap.test("the language", function(t)
  local d = q.data.language{vocab = 2, order = 1, branching = 2, seed = 5, train = 10, validation = 10}
  local p = {[0] = {[d.follow[0]] = d.p[0], [d.follow[1]] = d.p[1]}, [1] = {[d.follow[2]] = d.p[2], [d.follow[3]] = d.p[3]}}
  local pi0 = p[1][0] / (p[0][1] + p[1][0]) -- two states: closed form
  local function h(x) return -x * math.log(x) - (1 - x) * math.log(1 - x) end
  t.near(d:entropy(), pi0 * h(p[0][0]) + (1 - pi0) * h(p[1][0]), 1e-12, "two states: entropy rate")
  t.near(d:floor(0), h(pi0), 1e-12, "two states: entropy of a single token")
  local even = q.data.language{vocab = 16, order = 2, branching = 4, strength = 0}
  t.near(even:entropy(), math.log(4), 1e-12, "without preferences: ln branching")
  even = q.data.language{vocab = 8, branching = 8, order = 1, strength = 0, zipf = 0}
  t.near(even:floor(0), math.log(8), 1e-9, "all tokens alike: ln vocab")

  d = q.data.language{vocab = 12, order = 3, branching = 3, seed = 2, train = 100000, validation = 100}
  for n = 0, 3 do -- the plug-in estimate: bias about contexts * (branching - 1) / 2N, deviation about 1/sqrt N
    t.near(counted(d:tokens "train", n), d:floor(n), 0.01, ("counts with %d tokens of context agree"):format(n))
  end
  t.ok(d:floor(0) > d:floor(1) and d:floor(1) > d:floor(2) and d:floor(2) > d:floor(3), "each token of context helps")
  t.equal(d:floor(9), d:entropy(), "none beyond the order does")
  local same = q.data.language{vocab = 12, order = 3, branching = 3, seed = 2, train = 1000, validation = 100}
  t.equal(q.json.encode(same:tokens("train"):totable()), q.json.encode(d:tokens("train"):narrow(1, 1, 1000):totable()),
    "the same seed gives the same text, however long")
  t.equal(d:batch("train", 2, 5, q.stream(1, "data")):size(2), 5, "batches as from a text")
  t.fails(function() q.data.language{vocab = 4, branching = 5} end, "branching 5 is more", "too many branches")
  t.fails(function() q.data.language{vocab = 1000, branching = 100, order = 4} end, "at most", "too many states")
  t.fails(function() q.data.language{entropy = 1} end, "unknown option 'entropy'", "an unknown option")
end)

tap.test("the yardstick", function(t) -- Witten-Bell by hand: train "aab", test "ab", order 1
  local d = q.data.text{text = "x", validation = "tests/tap.lua"}
  d.parts.train.text, d.parts.validation.text = "aab", "ab"
  local p0a = (2 + 2 / 256) / 5           -- c(a) = 2, n = 3, t = 2
  local p0b = (1 + 2 / 256) / 5
  local p1b = (1 + 2 * p0b) / 4           -- after a: a once, b once; t = 2
  t.near(q.data.ngram(d, {order = 1}), -(math.log(p0a) + math.log(p1b)) / math.log(2) / 2, 1e-12, "order 1")
  t.near(q.data.ngram(d, {order = 0, bytes = 1}), -math.log(p0a) / math.log(2), 1e-12, "order 0, one byte")
  t.fails(function() q.data.ngram(d, {order = 8}) end, "at most 7", "too long a context")
end)

tap.done()

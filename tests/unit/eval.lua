-- q.eval against doing it by hand on a tiny model over bytes: blocks and strides, choices, pairs, sets from a text.
local q = require "quench"
local score = require "quench.eval.score"
local tap = dofile "tests/tap.lua"

local bytes = q.tokenizer.bytes()
for _, n in ipairs{1, 400} do bytes:encode(("What an encoder keeps for later is no leak. "):rep(n)) end
bytes:encode "a"
local function tiny(extra)
  local c = {
    vocab_size = 256, hidden_size = 16, num_hidden_layers = 2, num_attention_heads = 2, initializer_range = 0.3,
    max_position_embeddings = 64,
  }
  for key, value in pairs(extra or {}) do c[key] = value end
  return q.models.new("gpt_neox", c)
end

local text = ("It was a truth that nobody in the village would deny, and the rain fell on all of them alike. "):rep(3)

-- log p of each token but the first of a list of ids
local function logps(m, ids)
  return q.no_grad(function()
    local rows = m:forward(q.tensor({ids}, "i32")):log_softmax(3):totable()[1]
    local out = {}
    for t = 2, #ids do out[t] = rows[t - 1][ids[t] + 1] end
    return out
  end)
end

tap.test("loss in blocks", function(t)
  local m = tiny()
  local ids = bytes:encode(text)
  local function by_hand(block, stride)
    local total, n, start, done = 0, 0, 1, 1 -- tokens up to `done` need no prediction any more
    while start < #ids do
      local piece = {}
      for k = start, math.min(start + block - 1, #ids) do piece[#piece + 1] = ids[k] end
      local p = logps(m, piece)
      local first = stride == block and start + 1 or done + 1
      for k = first, start + #piece - 1 do
        if k > start then total, n = total - p[k - start + 1], n + 1 end
      end
      done = start + #piece - 1
      if done >= #ids then break end
      start = start + stride
    end
    return total / n, n
  end
  for _, case in ipairs{{32, 32}, {50, 50}, {32, 8}, {20, 19}, {1000, 1000}} do
    local r = q.eval.text(m, text, {tokenizer = bytes, block = case[1], stride = case[2], batch = 3})
    local loss, n = by_hand(case[1], case[2])
    t.near(r.loss, loss, 1e-6, ("blocks of %d at %d"):format(case[1], case[2]))
    t.equal(r.tokens, n, "and the number of predictions")
  end
  local r = q.eval.text(m, text, {tokenizer = bytes, block = 32})
  t.near(r.bits_per_byte, r.loss / math.log(2), 1e-12, "a byte a token: bits per byte are bits per token")
  t.near(r.perplexity, math.exp(r.loss), 1e-12, "perplexity")
  local s = q.eval.text(m, bytes:encode(text, {tensor = true}), {block = 32, batch = 4})
  t.near(s.loss, r.loss, 1e-7, "ids in place of a text, other batches")
  t.equal(s.bits_per_byte, nil, "whose bytes nobody knows")
  t.equal(q.eval.text(m, text, {tokenizer = bytes, block = 32, limit = 2}).tokens, 62, "the first blocks only")
  t.fails(function() q.eval.text(m, text) end, "tokenizer is required", "no tokenizer", true)
  t.fails(function() q.eval.text(m, "a", {tokenizer = bytes}) end, "has 1 tokens; a prediction needs two", "one token", true)
  t.fails(function() q.eval.text(m, text, {tokenizer = bytes, block = 8, stride = 9}) end, "stride 9 is more than block 8", "gaps", true)
end)

tap.test("layer by layer", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  local m = tiny()
  m:save(folder)
  local lazy = q.models.load(folder, {lazy = true})
  local a = q.eval.text(m, text, {tokenizer = bytes, block = 50, batch = 2})
  local b = q.eval.text(lazy, text, {tokenizer = bytes, block = 50, batch = 2})
  t.equal(a.loss, b.loss, "the same loss")
  local items = {{sentence_good = "the cat sat", sentence_bad = "the sat cat"}, {sentence_good = "a", sentence_bad = "bb"}}
  t.near(q.eval.pairs(m, items, {tokenizer = bytes, prefix = 0}).records[1].margin,
    q.eval.pairs(lazy, items, {tokenizer = bytes, prefix = 0}).records[1].margin, 1e-6, "the same margins")
  os.execute("rm -r " .. folder)
end)

tap.test("log-probabilities of sequences", function(t)
  local m = tiny()
  local items = {}
  for i, s in ipairs{"hello there", "no", "a longer sequence than the others are", "hello"} do
    items[i] = {ids = bytes:encode(s), from = i == 1 and 6 or 2}
  end
  for _, room in ipairs{1, 40, 4096} do
    local got = q.no_grad(score.sequences, m, items, room)
    for i, item in ipairs(items) do
      local p, sum = logps(m, item.ids), 0
      for k = item.from, #item.ids do sum = sum + p[k] end
      t.near(got[i].logp, sum, 1e-5, ("sequence %d, %d tokens at a time"):format(i, room))
      t.equal(got[i].tokens, #item.ids - item.from + 1, "its tokens")
    end
  end
  local best = q.no_grad(function() return m:forward(q.tensor({bytes:encode "he"}, "i32")):argmax(3):totable()[1][2] end)
  local greedy = q.no_grad(score.sequences, m, {{ids = {104, 101, best}, from = 3}, {ids = {104, 101, (best + 1) % 256}, from = 3}})
  t.ok(greedy[1].greedy and not greedy[2].greedy, "knows the most likely continuation")
end)

tap.test("multiple choice", function(t)
  local m = tiny()
  local items = {
    {query = "The sky is", choices = {"blue", "a very long wrong answer"}, gold = 0},
    {query = "Snow is", choices = {"white", "é"}, gold = 1},
    {query = "", choices = {"yes", "no", "maybe"}, gold = 2},
  }
  local r = q.eval.choice(m, items, {tokenizer = bytes, prefix = 10})
  local right, right_norm = 0, 0
  for i, item in ipairs(items) do
    local sums, best, best_norm = {}, 1, 1
    for k, choice in ipairs(item.choices) do
      local context = bytes:encode(item.query)
      local ids = bytes:encode(item.query .. (item.query == "" and "" or " ") .. choice)
      if #context == 0 then table.insert(ids, 1, 10) context = {10} end
      local p, sum = logps(m, ids), 0
      for n = #context + 1, #ids do sum = sum + p[n] end
      sums[k] = sum
    end
    t.near(r.records[i].logp, sums, 1e-5, "log-probabilities of question " .. i)
    local lengths = {{4, 24}, {5, 1}, {3, 2, 5}} -- in characters: é is one
    for k in ipairs(sums) do
      if sums[k] > sums[best] then best = k end
      if sums[k] / lengths[i][k] > sums[best_norm] / lengths[i][best_norm] then best_norm = k end
    end
    right = right + (best == item.gold + 1 and 1 or 0)
    right_norm = right_norm + (best_norm == item.gold + 1 and 1 or 0)
  end
  t.near(r.acc, right / 3, 1e-12, "acc")
  t.near(r.acc_norm, right_norm / 3, 1e-12, "acc_norm")
  t.near(r.acc_stderr, math.sqrt(r.acc * (1 - r.acc) / 2), 1e-12, "its standard error")

  local logged = {
    {arguments = {{"The sky is", " blue"}, {"The sky is", " a very long wrong answer"}}, target = "0", doc = {}},
    {arguments = {gen_args_0 = {arg_0 = "Snow is", arg_1 = " white"},
      gen_args_1 = {arg_0 = "Snow is", arg_1 = " é"}}, target = 1},
  }
  local l = q.eval.choice(m, logged, {tokenizer = bytes, prefix = 10})
  t.near({l.records[1].logp, l.records[2].logp}, {r.records[1].logp, r.records[2].logp}, 1e-6, "lines that the harness logged")
  t.equal(l.records[2].acc_norm, r.records[2].acc_norm, "the blank before a choice is not counted")
  local path = os.tmpname()
  q.eval.write(path, items)
  t.near(q.eval.choice(m, path, {tokenizer = bytes, prefix = 10}).acc, r.acc, 0, "the same from a file")
  t.equal(q.eval.choice(m, path, {tokenizer = bytes, limit = 2}).n, 2, "the first two")
  q.system.write_file(path, '{"query": "x"\n')
  t.fails(function() q.eval.choice(m, path, {tokenizer = bytes}) end, ":1", "a broken line says where")
  os.remove(path)
  t.fails(function() q.eval.choice(m, {{query = "x", choices = {"a", "b"}, gold = 2}}, {tokenizer = bytes}) end,
    "record 1 needs query, choices", "no such choice", true)

  local shots = q.eval.choice(m, items, {tokenizer = bytes, shots = 2, longest = 200, prefix = 10})
  local first = "Snow is é\n\nyes"
  t.ok(shots.records[1].logp[1] ~= r.records[1].logp[1] and first ~= nil, "examples change what the model sees")
  t.fails(function() q.eval.choice(m, items, {tokenizer = bytes, shots = 3}) end, "3 shots, but only 3 examples", "too many", true)
  local far = ("far away "):rep(20):sub(1, -2)
  local cut = q.eval.choice(m, {{query = far, choices = {"ab", "cd"}, gold = 0}}, {tokenizer = bytes})
  local short = bytes:encode((far .. " ab"):sub(-64))
  local p = logps(m, short)
  t.near(cut.records[1].logp[1], p[62] + p[63] + p[64], 1e-5, "a context that is too long loses its start")
end)

tap.test("records that are none", function(t)
  local m, path = tiny(), os.tmpname()
  local function fails(content, pattern, what)
    q.system.write_file(path, content)
    t.fails(function() q.eval.choice(m, path, {tokenizer = bytes}) end, pattern, what, true)
  end
  fails('{"query": "a", "choices": ["b", "c"], "gold": 0}\nnull\n', ":2: a record is an object", "null")
  fails("5\n", ":1: a record is an object", "a number")
  fails('{"query": "a", "choices": ["", "c"], "gold": 0}\n', "choice 0 is no text, or empty", "an empty choice would always win")
  fails('{"query": "a", "choices": ["b", 7], "gold": 0}\n', "choice 1 is no text, or empty", "a choice that is no text")
  os.remove(path)
end)

tap.test("minimal pairs", function(t)
  local m = tiny()
  local items = {
    {sentence_good = "cats sleep", sentence_bad = "sleep cats", UID = "order"},
    {sentence_good = "same", sentence_bad = "same", UID = "tie"},
  }
  local r = q.eval.pairs(m, items, {tokenizer = bytes, prefix = 0})
  local function whole(s)
    local sum = 0
    for _, p in pairs(logps(m, bytes:encode("\0" .. s))) do sum = sum + p end
    return sum
  end
  local margin = whole "cats sleep" - whole "sleep cats"
  t.near(r.records[1].margin, margin, 1e-5, "the difference of the sentences' log-probabilities")
  t.near(r.acc, ((margin > 0 and 1 or 0) + 0.5) / 2, 1e-12, "a tie counts half")
  t.equal(r.by.tie, 0.5, "by kind")
  t.fails(function() q.eval.pairs(m, {{good = 1}}, {tokenizer = bytes}) end, "record 1 needs sentence_good", "not a pair", true)
end)

local story = {}
local nouns, verbs = {"river", "house", "garden", "letter", "window", "dinner"}, {"saw", "left", "found", "kept", "lost", "drew"}
for i = 1, 120 do
  local s = q.stream(i, "story")
  local function pick(list) return list[1 + s:below(#list)] end
  story[i] = ("The %s that she %s near the old\n%s was %s by the other %s."):format(pick(nouns), pick(verbs), pick(nouns), pick(verbs),
    pick(nouns))
end
story = table.concat(story, " ") .. ' "Indeed?" said he. No.'

tap.test("sets from a text", function(t)
  local list = q.eval.swaps(story, {n = 50, seed = 1})
  t.equal(#list, 50, "as many pairs as asked for")
  local plain = story:gsub("%s+", " ")
  for _, pair in ipairs(list) do
    local a, b = {}, {}
    for w in pair.sentence_good:gmatch("%S+") do a[#a + 1] = w end
    for w in pair.sentence_bad:gmatch("%S+") do b[#b + 1] = w end
    local differ = {}
    for i = 1, #a do
      if a[i] ~= b[i] then differ[#differ + 1] = i end
    end
    if not (#differ == 2 and differ[2] == differ[1] + 1 and a[differ[1]] == b[differ[2]] and a[differ[2]] == b[differ[1]]
      and differ[1] > 1 and differ[2] < #a and plain:find(pair.sentence_good, 1, true)) then
      t.ok(false, "one swap of neighbours, not at the ends", pair.sentence_bad)
    end
  end
  t.equal(q.json.encode(q.eval.swaps(story, {n = 50, seed = 1})), q.json.encode(list), "the same again")
  t.ok(q.json.encode(q.eval.swaps(story, {n = 50, seed = 2})) ~= q.json.encode(list), "another seed, another set")
  local data = {text = function(_, split) return split == "train" and story or story end}
  local cloze = q.eval.cloze(data, {n = 60, choices = 3})
  local counts, golds = {}, {0, 0, 0}
  for w in story:gmatch("%f[%a]%l+%f[%A]") do counts[w] = (counts[w] or 0) + 1 end
  local function band(w) return math.floor(math.log(counts[w]) / math.log(2)) end
  for _, item in ipairs(cloze) do
    local right = item.choices[item.gold + 1]
    golds[item.gold + 1] = golds[item.gold + 1] + 1
    local distinct = item.choices[1] ~= item.choices[2] and item.choices[2] ~= item.choices[3] and item.choices[1] ~= item.choices[3]
    if not (plain:find(item.query .. " " .. right .. ".", 1, true) and distinct and band(item.choices[1]) == band(item.choices[2])
      and band(item.choices[2]) == band(item.choices[3])) then
      t.ok(false, "the true word and others as frequent", item.query)
    end
  end
  t.ok(golds[1] > 8 and golds[2] > 8 and golds[3] > 8, "the true one is at any place", table.concat(golds, " "))
  t.fails(function() q.eval.swaps("No. Yes.") end, "no plain sentence", "too little text", true)
end)

tap.test("a model that has learned", function(t)
  local ids = bytes:encode(story, {tensor = true})
  local m = tiny{initializer_range = 0.05, hidden_size = 32}
  local optim = q.optim.adamw(m:named_parameters(), {lr = 1e-2})
  local stream = q.stream(1, "windows")
  for _ = 1, 100 do
    local rows = {}
    for r = 1, 8 do rows[r] = ids:narrow(1, 1 + stream:below(ids:numel() - 64), 64) end
    optim:zero_grad()
    m:loss(q.stack(rows)):backward()
    optim:step()
  end
  local r = q.eval.pairs(m, q.eval.swaps(story, {n = 100}), {tokenizer = bytes})
  t.ok(r.acc > 0.75, "prefers the sentences to their swaps", r.acc)
end)

tap.test("damage", function(t)
  t.near(q.eval.relative_ce(3.405, 3.455), 0.05 / 3.405, 1e-12, "relative CE")
  t.near(q.eval.accuracy_drop(0.6, 0.58), 0.05, 1e-12, "accuracy drop")
  t.fails(function() q.eval.accuracy_drop(1, 0.5) end, "undefined", "nothing to lose")
end)

tap.done()

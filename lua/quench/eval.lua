--- eval.lua - q.eval: how good a model is, and how much of it quantization took.
--
-- Loss on a text in blocks as the paper measures it, multiple choice and minimal pairs as the LM Evaluation
-- Harness does, and the two measures of damage of "Training Dynamics Impact Post-Training Quantization
-- Robustness" (Catalan-Tatjer, Ajroldi and Geiping, 2025), section 3: relative CE and accuracy drop.

local q = require "quench"
local help = require "quench.help"
local options = require "quench.options"
local score = require "quench.eval.score"
local sets = require "quench.eval.sets"

local M = {read = sets.read, write = sets.write, swaps = sets.swaps, cloze = sets.cloze}

-- ---- damage ---------------------------------------------------------------

--- Quantization error: CE(quantized) / CE(model) - 1.
function M.relative_ce(loss, quantized) return quantized / loss - 1 end

--- (accuracy - accuracy of the quantized model) / (1 - accuracy).
function M.accuracy_drop(accuracy, quantized)
  if accuracy >= 1 then options.fail("q.eval.accuracy_drop: undefined for a model that is always right") end
  return (accuracy - quantized) / (1 - accuracy)
end

-- ---- loss on a text -------------------------------------------------------

local function tokenizer_of(o, where)
  if not o.tokenizer then options.fail("%s: tokenizer is required (q.tokenizer.load, or q.tokenizer.bytes())", where) end
  return o.tokenizer
end

local text_options = options.spec("q.eval.text", {
  {"tokenizer", "table", doc = "for a text that is not token ids yet"},
  {"block", "integer", default = 2048, min = 2, doc = "tokens the model sees at a time", unit = "tokens"},
  {"stride", "integer", min = 1, doc = "tokens between the starts of blocks [block]; less: each prediction has more context"},
  {"batch", "integer", default = 1, min = 1, doc = "blocks at a time"},
  {"limit", "integer", min = 1, doc = "blocks, at most"},
  {"bytes", "number", above = 0, doc = "bytes of the text, where ids are given"},
})

--- Inputs and targets (1, n) of one block. Targets before `fresh` were predicted in the block before.
local function block_of(ids, start, length, fresh)
  local input, target = ids:narrow(1, start, length - 1), ids:narrow(1, start + 1, length - 1):clone()
  if fresh > 2 then target:narrow(1, 1, fresh - 2):fill_(-1) end
  return input:view(1, -1), target:view(1, -1)
end

--- Batches {inputs, targets} of blocks; the last block may be shorter, and then goes alone.
local function blocks_of(ids, o)
  local n, stride, list, last = ids:numel(), o.stride or o.block, {}, nil
  local start, count = 1, 0
  while start < n and not (o.limit and count >= o.limit) do
    local length = math.min(o.block, n - start + 1)
    local overlap = start > 1 and math.max(0, o.block - stride) or 0
    if length - overlap < (overlap > 0 and 1 or 2) then break end
    local input, target = block_of(ids, start, length, overlap + 1)
    if last and #last < o.batch and last.length == length then last[#last + 1] = {input, target}
    else
      last = {{input, target}, length = length}
      list[#list + 1] = last
    end
    count = count + 1
    if start + length > n then break end
    start = start + stride
  end
  for k, group in ipairs(list) do
    local inputs, targets = {}, {}
    for i, pair in ipairs(group) do inputs[i], targets[i] = pair[1], pair[2] end
    list[k] = {q.concat(inputs, 1), q.concat(targets, 1)}
  end
  return list, count
end

function M.text(model, text, given)
  options.need_model("q.eval.text", model)
  local o = text_options(given)
  if o.stride and o.stride > o.block then options.fail("q.eval.text: stride %d is more than block %d", o.stride, o.block) end
  return q.scope(q.no_grad, function()
    local ids, bytes = text, o.bytes
    if type(text) == "string" then
      ids, bytes = tokenizer_of(o, "q.eval.text"):encode(text, {special = false, tensor = true}), bytes or #text
    end
    if ids:numel() < 2 then options.fail("q.eval.text: the text has %d tokens; a prediction needs two", ids:numel()) end
    local batches, blocks = blocks_of(ids, o)
    local total, counted = score.total(model, batches)
    local loss = total / counted
    return {
      loss = loss, perplexity = math.exp(loss), tokens = counted, ids = ids:numel(), blocks = blocks,
      bits_per_byte = bytes and loss / math.log(2) * ids:numel() / bytes or nil,
    }
  end)
end

-- ---- sequences ------------------------------------------------------------

--- Token ids of a context and its continuation, cut where the context's own tokens end. Blanks at the end of the
-- context belong to the continuation. Returns {ids, from}; without context the first token needs a prefix to be scored.
local function encode_pair(tokenizer, context, continuation, o)
  local blanks = context:match("%s+$")
  if blanks then context, continuation = context:sub(1, -#blanks - 1), blanks .. continuation end
  local before, ids = tokenizer:encode(context), tokenizer:encode(context .. continuation)
  if #before == 0 and o.prefix then table.insert(ids, 1, o.prefix) before = {o.prefix} end
  local from = math.max(#before + 1, 2)
  local extra = #ids - (o.longest or #ids)
  for _ = 1, extra do table.remove(ids, 1) end -- the context's start is what is given up
  return {ids = ids, from = math.max(from - math.max(extra, 0), 2)}
end

--- The token before a text that has none: the model's own beginning or end of text.
local function with_prefix(model, o)
  local raw = model.raw or {}
  local function token(key) return type(raw[key]) == "number" and raw[key] or nil end
  o.prefix = o.prefix or token "bos_token_id" or token "eos_token_id"
  o.longest = o.longest or model.config.max_position_embeddings or model.config.n_positions
  return o
end

local function records_of(items, limit)
  if type(items) == "string" then items = sets.read(items) end
  if not limit or #items <= limit then return items end
  local out = {}
  for i = 1, limit do out[i] = items[i] end
  return out
end

--- Standard error of a share p of n, as the harness gives it.
local function stderr_of(p, n) return n > 1 and math.sqrt(p * (1 - p) / (n - 1)) or 0 end

local function characters(s) return select(2, s:gsub("[^\128-\191]", "")) end

local shared_options = {
  {"tokenizer", "table", required = true, doc = "of the model"},
  {"prefix", "integer", min = 0, doc = "token before a text without context [the model's begin- or end-of-text]"},
  {"longest", "integer", min = 2, doc = "tokens a sequence, at most; the start is cut [the model's context]"},
  {"tokens", "integer", default = 4096, min = 1, doc = "tokens at a time"},
  {"limit", "integer", min = 1, doc = "records, at most"},
}
local function spec_with(name, ...)
  local entries = {...}
  for i, e in ipairs(shared_options) do table.insert(entries, i, e) end
  return options.spec(name, entries)
end

local choice_options = spec_with("q.eval.choice",
  {"shots", "integer", default = 0, min = 0, doc = "solved examples before each question, drawn from `examples`"},
  {"examples", "table|string", doc = "records to draw them from [the others of the set]"},
  {"seed", "integer", default = 0, doc = "of the examples"})

--- query, choices and gold (from 1) of a record: {query, choices, gold}, with common other names, or a line that the
-- harness logged: {arguments = {{context, continuation}, ...}, target =}.
local function read_choice(record, number)
  local query = record.query or record.context or record.question or record.goal or ""
  local choices, gold = record.choices, record.gold or record.label or record.answer or record.target
  local delimiter = " "
  if record.arguments then
    choices, delimiter = {}, ""
    local list = record.arguments
    for i = 1, 64 do
      local pair = list[i] or list["gen_args_" .. i - 1]
      if not pair then break end
      query, choices[i] = pair[1] or pair.arg_0, pair[2] or pair.arg_1
    end
  elseif record.sol1 then choices = {record.sol1, record.sol2} end
  gold = tonumber(gold)
  if type(choices) ~= "table" or #choices < 2 or not gold or not choices[gold + 1] then
    options.fail("q.eval.choice: record %d needs query, choices (two or more texts) and gold (from 0), or arguments and target", number)
  end
  for k, choice in ipairs(choices) do -- nothing is always more probable than something
    if type(choice) ~= "string" or choice == "" then options.fail("q.eval.choice: record %d: choice %d is no text, or empty", number, k - 1) end
  end
  return {query = query, choices = choices, gold = gold + 1, delimiter = query == "" and "" or delimiter}
end

--- Solved examples in front of a question, none of them the question itself.
local function few_shot(pool, own, shots, stream)
  local parts, taken = {}, {}
  while #parts < shots do
    local i = 1 + stream:below(#pool)
    if not taken[i] and pool[i] ~= own then
      taken[i] = true
      local e = pool[i]
      parts[#parts + 1] = e.query .. e.delimiter .. e.choices[e.gold] .. "\n\n"
    end
  end
  return table.concat(parts)
end

local function argmax(list)
  local best = 1
  for i = 2, #list do
    if list[i] > list[best] then best = i end
  end
  return best
end

function M.choice(model, items, given)
  options.need_model("q.eval.choice", model)
  local o = with_prefix(model, choice_options(given))
  local questions = {}
  for i, record in ipairs(records_of(items, o.limit)) do questions[i] = read_choice(record, i) end
  local pool = questions
  if o.examples then
    pool = {}
    for i, record in ipairs(records_of(o.examples)) do pool[i] = read_choice(record, i) end
  end
  if o.shots > #pool - (o.examples and 0 or 1) then options.fail("q.eval.choice: %d shots, but only %d examples", o.shots, #pool) end
  local sequences, stream = {}, q.stream(o.seed, "shots")
  for _, question in ipairs(questions) do
    local context = few_shot(pool, question, o.shots, stream) .. question.query
    for _, choice in ipairs(question.choices) do
      sequences[#sequences + 1] = encode_pair(o.tokenizer, context, question.delimiter .. choice, o)
    end
  end
  local results, at = q.no_grad(score.sequences, model, sequences, o.tokens), 0
  local right, right_norm, records = 0, 0, {}
  for i, question in ipairs(questions) do
    local sums, each = {}, {}
    for k, choice in ipairs(question.choices) do
      sums[k] = results[at + k].logp
      each[k] = sums[k] / math.max(1, characters((choice:gsub("^ ", ""))))
    end
    at = at + #question.choices
    local best, best_norm = argmax(sums), argmax(each)
    if best == question.gold then right = right + 1 end
    if best_norm == question.gold then right_norm = right_norm + 1 end
    records[i] = {logp = sums, acc = best == question.gold and 1 or 0, acc_norm = best_norm == question.gold and 1 or 0}
  end
  local n = #questions
  return {
    acc = right / n, acc_norm = right_norm / n, acc_stderr = stderr_of(right / n, n), acc_norm_stderr = stderr_of(right_norm / n, n),
    n = n, records = records,
  }
end

local pairs_options = spec_with("q.eval.pairs")

function M.pairs(model, items, given)
  options.need_model("q.eval.pairs", model)
  local o = with_prefix(model, pairs_options(given))
  local list, sequences = records_of(items, o.limit), {}
  for i, record in ipairs(list) do
    local good, bad = record.sentence_good or record.good, record.sentence_bad or record.bad
    if type(good) ~= "string" or type(bad) ~= "string" then
      options.fail("q.eval.pairs: record %d needs sentence_good and sentence_bad", i)
    end
    sequences[2 * i - 1] = encode_pair(o.tokenizer, "", good, o)
    sequences[2 * i] = encode_pair(o.tokenizer, "", bad, o)
  end
  local results = q.no_grad(score.sequences, model, sequences, o.tokens)
  local total, by, records = 0, {}, {}
  for i, record in ipairs(list) do
    local gap = results[2 * i - 1].logp - results[2 * i].logp
    local right = gap > 0 and 1 or gap == 0 and 0.5 or 0 -- a tie is a coin
    local kind = record.UID or record.task or "all"
    by[kind] = by[kind] or {right = 0, n = 0}
    by[kind].right, by[kind].n = by[kind].right + right, by[kind].n + 1
    total, records[i] = total + right, {acc = right, margin = gap}
  end
  for kind, sums in pairs(by) do by[kind] = sums.right / sums.n end
  local n = #list
  return {acc = total / n, acc_stderr = stderr_of(total / n, n), n = n, by = by, records = records}
end

help.add{"q.eval.text", M.text, "text(model, text or ids, options?) -> {loss=, perplexity=, bits_per_byte=, tokens=, ids=, blocks=}",
  "Mean loss (nats a token) on a text, in blocks; within a block each token but the first is predicted.", options = text_options,
  text = [[
The text is encoded without special tokens and cut in blocks of 2048 at stride 2048, so a block has 2047 predictions. With a
smaller stride every block but the first predicts only its new tokens. bits_per_byte = loss / ln 2 * ids / bytes.
A lazy model (q.models.load with lazy = true) is read layer by layer.]],
  source = "Catalan-Tatjer, Ajroldi and Geiping, 2025, section 3",
  example = 'print(q.eval.text(m, q.system.read_file "book.txt", {tokenizer = tok}).loss)',
  see = {"q.eval.relative_ce", "q.eval.choice"}}
help.add{"q.eval.choice", M.choice, "choice(model, items or path, options) -> {acc=, acc_norm=, acc_stderr=, n=, ...}",
  "Multiple choice: the continuation of highest log-probability (acc), or of highest a character (acc_norm).", options = choice_options,
  text = [[
A record is {query=, choices=, gold=} (gold from 0), or a line that the LM Evaluation Harness logged: {arguments=, target=}.
A choice follows its query after a blank; its length is counted in characters.]],
  source = "LM Evaluation Harness", example = 'q.eval.choice(m, "piqa.jsonl", {tokenizer = tok}).acc_norm',
  see = {"q.eval.cloze", "q.eval.accuracy_drop"}}
help.add{"q.eval.pairs", M.pairs, "pairs(model, items or path, options) -> {acc=, acc_stderr=, n=, by=}",
  "Minimal pairs: how often the good sentence is the more probable.", options = pairs_options,
  text = "A record is {sentence_good=, sentence_bad=, UID=}; by is the share for each UID. A tie counts one half.",
  source = "Warstadt et al., 2020 (BLiMP)",
  example = 'q.eval.pairs(m, "adjunct_island.jsonl", {tokenizer = tok}).acc', see = {"q.eval.swaps"}}
help.add{"q.eval.relative_ce", M.relative_ce, "relative_ce(loss, quantized) -> number", "Quantization error: quantized / loss - 1.",
  source = "Catalan-Tatjer, Ajroldi and Geiping, 2025, section 3",
  example = "q.eval.relative_ce(3.42, 3.45)", see = {"q.eval.accuracy_drop"}}
help.add{"q.eval.accuracy_drop", M.accuracy_drop, "accuracy_drop(accuracy, quantized) -> number",
  "(accuracy - quantized) / (1 - accuracy).",
  source = "Catalan-Tatjer, Ajroldi and Geiping, 2025, section 3",
  example = "q.eval.accuracy_drop(0.6, 0.58)", see = {"q.eval.relative_ce"}}

return M

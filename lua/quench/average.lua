--- average.lua - q.average: means of weights, along a run or over checkpoints.
--
-- Weights are a model, a table {name = tensor}, or the path of a safetensors file; results are tables
-- {name = tensor} that q.save takes.

local help = require "quench.help"
local live = require "quench.average.live"
local options = require "quench.options"
local source = require "quench.average.sources"

local M = {lawa = live.lawa, ema = live.ema, swa = live.swa}

local PREFIX = {"prefix", "string", default = "", doc = "take only names that begin so, without it ('model.' in checkpoints of q.train)"}
local soup = options.spec("q.average.soup", {PREFIX})

function M.soup(list, given)
  local sources = source.list("q.average.soup", list, soup(given).prefix)
  return source.combine("q.average.soup", sources, source.equal_shares(#sources))
end

local merge = options.spec("q.average.merge", {PREFIX})

function M.merge(list, given)
  local o, weights, coefficients = merge(given), {}, {}
  for k, pair in ipairs(type(list) == "table" and list or {}) do
    weights[k], coefficients[k] = pair[1], pair[2]
    if type(coefficients[k]) ~= "number" or coefficients[k] ~= coefficients[k] then
      options.fail("q.average.merge: entry %d must be {weights, number}", k)
    end
  end
  return source.combine("q.average.merge", source.list("q.average.merge", weights, o.prefix), coefficients)
end

local greedy = options.spec("q.average.greedy_soup", {PREFIX,
  {"better", "string", default = "lower", choices = {"lower", "higher"}, doc = "scores: a loss (lower) or an accuracy (higher)"}})

--- The list's indices, best score first; ties keep their order.
local function ranked(scores, sign)
  local order = {}
  for k = 1, #scores do order[k] = k end
  table.sort(order, function(a, b)
    if scores[a] ~= scores[b] then return sign * scores[a] > sign * scores[b] end
    return a < b
  end)
  return order
end

function M.greedy_soup(list, score, given)
  local where, o = "q.average.greedy_soup", greedy(given)
  if type(score) ~= "function" then options.fail("%s: score must be a function(weights) -> number", where) end
  local sources, sign = source.list(where, list, o.prefix), o.better == "higher" and 1 or -1
  local function scored(members)
    local mixed = source.combine(where, members, source.equal_shares(#members))
    local s = score(mixed)
    if type(s) ~= "number" or s ~= s then options.fail("%s: score must return a number, got %s", where, tostring(s)) end
    return s, mixed
  end
  local single = {}
  for k, one in ipairs(sources) do single[k] = scored{one} end
  local order = ranked(single, sign)
  local members, taken, best, weights = {sources[order[1]]}, {order[1]}
  best, weights = scored(members)
  for i = 2, #order do
    members[#members + 1] = sources[order[i]]
    local s, mixed = scored(members)
    if sign * s >= sign * best then
      best, weights, taken[#taken + 1] = s, mixed, order[i]
    else
      members[#members] = nil
    end
  end
  return weights, {score = best, members = taken, scores = single}
end

local LIVE = [[
a:update(model, step) after each step; a:weights() gives the mean as a table (nil before anything was taken);
a:apply(model, fn) runs fn with the mean in the model and puts the weights back; a:state(), a:load(state) for resuming.]]

help.add{"q.average.lawa", M.lawa, "q.average.lawa{every=, window=} -> average", "The mean of the latest weights along a run.",
  options = live.options.lawa, text = LIVE, see = {"q.average.soup"},
  source = "Kaddour, 2022 (arXiv 2209.14981); every 500, window 5 in Catalan-Tatjer et al., 2025 (arXiv 2510.06213)",
  example = [[
local a = q.average.lawa{every = 50, window = 5}
a:update(model, step)
local loss = a:apply(model, function(m) return m:loss(ids):item() end)]]}
help.add{"q.average.ema", M.ema, "q.average.ema{decay=} -> average", "An exponential moving average of the weights.",
  options = live.options.ema, text = LIVE, source = "Polyak and Juditsky, 1992; bias correction as in Adam"}
help.add{"q.average.swa", M.swa, "q.average.swa{start=, every=} -> average", "The running mean of all weights from a step on.",
  options = live.options.swa, text = LIVE, source = "Izmailov et al., UAI 2018 (arXiv 1803.05407)"}
help.add{"q.average.soup", M.soup, "q.average.soup(list, {prefix=}) -> weights", "The mean of models, tables of tensors or files.",
  options = soup, errors = "sets whose names or shapes differ", source = "Wortsman et al., ICML 2022 (arXiv 2203.05482)",
  example = 'q.save("soup.safetensors", q.average.soup{"a.safetensors", "b.safetensors"})'}
help.add{"q.average.greedy_soup", M.greedy_soup, "q.average.greedy_soup(list, score, {better=}) -> weights, report",
  "Adds weights, best first, as long as the mean's score gets no worse.", options = greedy,
  returns = "the weights; {score=, members=, scores=} with members and scores by place in the list",
  errors = "sets that differ; a score that is no number", source = "Wortsman et al., ICML 2022, recipe 1"}
help.add{"q.average.merge", M.merge, "q.average.merge{{weights, c}, ...} -> weights", "The sum of weights times their coefficients.",
  options = merge, errors = "sets whose names or shapes differ",
  example = "q.average.merge{{apo, 0.9}, {mid, 0.1}}   -- SmolLM3's last step"}

return M

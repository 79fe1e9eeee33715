--- small_model.lua - a language model of some thousand weights and token numbers for it, for the tests of quantizers.

local q = require "quench"
local small_model = {vocabulary = 50}

--- A two-layer gpt_neox with weights large enough for rounding to matter; config: what differs from the usual.
function small_model.new(config)
  local all = {vocab_size = small_model.vocabulary, hidden_size = 32, num_hidden_layers = 2, num_attention_heads = 4, max_position_embeddings = 64,
    initializer_range = 0.15, seed = 3}
  for k, v in pairs(config or {}) do all[k] = v end
  return q.models.new("gpt_neox", all)
end

--- Random token numbers, i32, n sequences of time tokens, the same each time.
function small_model.ids(n, time)
  local s, rows = q.stream(1, "ids"), {}
  for i = 1, n do
    rows[i] = {}
    for j = 1, time do rows[i][j] = s:below(small_model.vocabulary) end
  end
  return q.tensor(rows, "i32")
end

--- Mean squared difference of two models' logits.
function small_model.distance(a, b, ids)
  return q.no_grad(function() return ((a:forward(ids) - b:forward(ids)) ^ 2):mean():item() end)
end

return small_model

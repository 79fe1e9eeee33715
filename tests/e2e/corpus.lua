-- The corpus austen and its yardstick (research: Witten-Bell on the first 200,000 bytes of Northanger Abbey).
-- Needs the corpus in the cache or a network; without either it is skipped.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local there, reason = pcall(q.data.fetch, "austen")
tap.test("austen", function(t)
  if not there then t.ok(true, "skipped, no corpus here: " .. reason:match "[^\n]*") return end
  local d = q.data.text{name = "austen"}
  t.equal(d:bytes "train", 1567796, "bytes to train on")
  t.equal(d:bytes "validation", 433411, "bytes to validate on")
  local distinct = {}
  for ch in (d:text "train" .. d:text "validation"):gmatch "." do distinct[ch] = true end
  local n = 0
  for ch in pairs(distinct) do n = n + (ch:byte() < 128 and 1 or 1000) end
  t.ok(n < 128, "plain ASCII")
  local expected = {[0] = 4.464, 3.531, 2.836, 2.345, 2.129, 2.109, 2.175}
  for order = 0, 6 do
    t.near(q.data.ngram(d, {order = order, bytes = 200000}), expected[order], 0.0005 / expected[order], "order " .. order)
  end
end)

tap.done()

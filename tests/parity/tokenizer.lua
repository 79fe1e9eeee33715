-- Tokenizers against Hugging Face's: ids and decoded text, for four kinds of tokenizer.json.
local tap = dofile "tests/tap.lua"
local q = require "quench"

local function texts_of(name) return q.json.read("tests/parity/tok/" .. name .. ".expect.json") end

for _, name in ipairs{"gpt2_style", "llama3_style", "llama2_style", "neox_style"} do
  tap.test(name, function(t)
    local tokenizer = q.tokenizer.load("tests/parity/tok/" .. name .. ".tokenizer.json")
    local copy = os.tmpname()
    tokenizer:save(copy)
    local again = q.tokenizer.load(copy)
    os.remove(copy)
    for _, case in ipairs(texts_of(name)) do
      local what = ("%s: %q"):format(name, case.text:sub(1, 40))
      local ids = tokenizer:encode(case.text)
      t.equal(table.concat(ids, " "), table.concat(case.ids, " "), what)
      t.ok(tokenizer:decode(ids) == case.decoded, what .. " decoded")
      t.equal(table.concat(again:encode(case.text), " "), table.concat(ids, " "), what .. " after save and load")
    end
  end)
end

tap.done()

-- A changed recipe is another recipe: its text is part of what names a run's folder, also when it
-- ends in `return q.recipe{...}` (a tail call, which debug information cannot see).
local q = require "quench"
local tap = dofile "tests/tap.lua"

local function text(n)
  return ('local q = require "quench"\nreturn q.recipe{name = "r", doc = "d", run = function() return {n = %d} end}'):format(n)
end

tap.test("the text of a recipe", function(t)
  local path = os.tmpname()
  for n = 1, 2 do
    q.system.write_file(path, text(n))
    t.equal(q.recipe.load(path).source, text(n), "a file's text, version " .. n)
  end
  os.remove(path)
  t.equal(q.recipe.from_text(text(3), "x").source, text(3), "a given text")
  t.ok(#q.recipe.load("decay").source > 1000, "an embedded one")
end)

tap.done()

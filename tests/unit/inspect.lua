-- Looking at tensors: one line of statistics, blocks of shade, numbers of very different size.
local tap = dofile "tests/tap.lua"

tap.test("stats", function(t)
  local s = q.tensor{1, 2, 3, 6}:stats()
  t.near({s.count, s.min, s.mean, s.max, s.deviation}, {4, 1, 3, 6, math.sqrt(3.5)}, 1e-12, "of 1 2 3 6")
  t.equal(table.concat(s.histogram, " "), "1 0 0 1 0 0 1 0 0 0 0 0 0 0 0 1", "sixteen bins from 1 to 6")
  t.ok(tostring(s):match("^4 values: min 1, mean 3, max 6, deviation 1%.871  |.*|$"), "as one line", tostring(s))
  s = q.tensor{0, 1 / 0, 0 / 0, -2, 0}:stats()
  t.near({s.count, s.min, s.mean, s.max, s.zeros, s.not_finite}, {5, -2, -2 / 3, 0, 2, 2}, 1e-12, "infinities and NaN are counted, not used")
  t.equal(table.concat(s.histogram, " "), "1 0 0 0 0 0 0 0 0 0 0 0 0 0 0 2", "the others make the histogram")
  t.equal(tostring(q.tensor{0 / 0}:stats()), "1 values, none finite", "nothing finite")
  t.equal(q.zeros(0, 3):stats().count, 0, "empty")
  t.equal(q.tensor({7, 7}, "i32"):stats().mean, 7, "whole numbers, all the same")
  t.equal(q.randn(3, 4):requires_grad():t():stats().count, 12, "a view of a leaf")
end)

tap.test("blocks", function(t)
  t.equal(q.tensor{{0, 1}, {2, 4}}:blocks(), "| ░|\n|▒█|\n' ' = 0, █ = 4, (2, 2)", "a shade a cell")
  t.equal(q.arange(4):blocks{columns = 2}, "| █|\n' ' = 0.5, █ = 2.5, (1, 4)", "large ones are averaged")
  t.equal(q.tensor{{0, 0 / 0}}:blocks{low = -1, high = 1}, "|▒?|\n' ' = -1, █ = 1, (1, 2)", "a given range; NaN shows")
  t.fails(function() q.zeros(2, 2, 2):blocks() end, "a matrix is needed, got shape %(2, 2, 2%)")
  t.fails(function() q.zeros(2):blocks{column = 3} end, "did you mean 'columns'")
end)

tap.test("numbers of very different size", function(t)
  t.equal(tostring(q.tensor{1e-5, 1000, -2}), "f32 (3) 12 B\n  1.000e-05  1.000e+03 -2.000e+00", "small ones are not hidden")
  t.equal(tostring(q.tensor{0, 0.5, 2}), "f32 (3) 12 B\n 0.0000 0.5000 2.0000", "zero is no small number")
end)

tap.done()

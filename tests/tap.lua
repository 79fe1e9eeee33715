--- tap.lua - Lua tests that print TAP, run by the shipped binary: build/quench tests/unit/x.lua
--
--   local tap = dofile "tests/tap.lua"
--   tap.test("sum of a row", function(t)
--     t.equal(q.tensor{1, 2}:sum():item(), 3, "sum")
--     t.near(math.sqrt(2), 1.41421356, 1e-8, "root")
--     t.fails(function() q.zeros(2):matmul(q.zeros(3)) end, "matmul", "a clear error")
--   end)
--   tap.done()
--
-- After each test the live bytes of the core must be back where they were before it.

local q = require "quench"
local tap = {}
local count, failed = 0, 0

local function report(good, what, detail)
  count = count + 1
  if not good then failed = failed + 1 end
  io.write(good and "ok " or "not ok ", count, " - ", (tostring(what):gsub("[\n#]", " ")), "\n")
  if not good and detail then io.write("#   ", (tostring(detail):gsub("\n", "\n#   ")), "\n") end
  io.flush()
  return good
end

local t = {}

function t.ok(condition, what, detail) return report(condition and true or false, what, detail) end

function t.equal(got, expected, what)
  return report(got == expected, what or "equal", ("got %s, expected %s"):format(tostring(got), tostring(expected)))
end

--- |got - expected| <= tolerance * max(1, |expected|), on numbers or (nested) lists of numbers; NaN never passes.
function t.near(got, expected, tolerance, what)
  local worst, where = 0, ""
  local function walk(g, e, path)
    if type(e) == "table" then
      if type(g) ~= "table" or #g ~= #e then worst, where = math.huge, path .. " (lengths differ)" return end
      for i = 1, #e do walk(g[i], e[i], path .. "[" .. i .. "]") end
    else
      local d = type(g) == "number" and math.abs(g - e) / math.max(1, math.abs(e)) or math.huge
      if not (d <= tolerance) and not (d <= worst) then -- luacheck: ignore 581 (NaN must not pass)
        worst, where = d, ("%s: got %s, expected %.17g"):format(path, tostring(g), e)
      end
    end
  end
  walk(got, expected, "")
  return report(worst == 0, what or "near", ("%s (off by %g, allowed %g)"):format(where, worst, tolerance))
end

--- fn must raise an error whose text matches the pattern (plain text when plain is true).
function t.fails(fn, pattern, what, plain)
  local good, message = pcall(fn)
  message = tostring(message)
  return report(not good and message:find(pattern, 1, plain) ~= nil, what or ("fails with " .. pattern),
    good and "no error was raised" or "the error was: " .. message)
end

local function live()
  collectgarbage() collectgarbage()
  return q.system.memory().live
end

--- Runs fn(t); an error inside is a failure, and so is memory that stays live.
function tap.test(name, fn)
  local before = live()
  local good, message = xpcall(function() fn(t) end, debug.traceback)
  if not good then report(false, name .. " ran to its end", message) end
  fn = nil -- luacheck: ignore
  local after = live()
  report(after <= before, name .. ": no bytes leaked", ("%d bytes more than before"):format(after - before))
end

function tap.done()
  io.write("1..", count, "\n")
  io.flush()
  os.exit(failed == 0 and 0 or 1, true)
end

return tap

--- profile.lua - q.profile(fn): where the time goes, kernel by kernel, measured in the core.

local machine = require "quench.c.machine"
local system = require "quench.c.system"
local help = require "quench.help"

local profile = {}

--- Kernels by time: calls, share, flops and bytes a second, for a run of so many seconds.
function profile.text(rows, seconds)
  table.sort(rows, function(a, b) return a.seconds > b.seconds end)
  local lines = {("%-32s %9s %9s %6s %10s %8s"):format("kernel", "calls", "ms", "share", "GFLOP/s", "GB/s")}
  local inside = 0
  for _, r in ipairs(rows) do
    inside = inside + r.seconds
    local rate = r.flops > 0 and ("%10.1f"):format(r.flops / r.seconds * 1e-9) or (" "):rep(10)
    lines[#lines + 1] = ("%-32s %9d %9.1f %5.1f%% %s %8.1f"):format(r.name, r.calls, r.seconds * 1e3, 100 * r.seconds / seconds, rate,
      r.bytes / r.seconds * 1e-9)
  end
  lines[#lines + 1] = ("%-32s %9s %9.1f %5.1f%%"):format("outside kernels", "", (seconds - inside) * 1e3, 100 * (1 - inside / seconds))
  return table.concat(lines, "\n") .. "\n"
end

--- Calls fn(...) with kernels measuring themselves. Returns the rows {name=, calls=, seconds=, flops=, bytes=}, the seconds in
-- all, and what fn returned.
function profile.kernels(fn, ...)
  local before, start = machine.profile(true), system.clock()
  local results = {pcall(fn, ...)}
  machine.profile(before)
  local seconds = system.clock() - start
  if not results[1] then error(results[2], 0) end
  return machine.profile_entries(), seconds, unpack(results, 2)
end

--- Runs fn(...) and returns the text and the rows.
local function call(_, fn, ...)
  local rows, seconds = profile.kernels(fn, ...)
  return profile.text(rows, seconds), rows
end

help.add{"q.profile", profile, "q.profile(fn, ...) -> text, rows", "Runs fn(...) and tells where its time went, kernel by kernel.",
  text = [[
rows: {name=, calls=, seconds=, flops=, bytes=}. GFLOP/s and GB/s count what the definition needs, each operand read and each
result written once: a matrix product near the processor's rate of multiply-adds, and an elementwise kernel near the rate
of memory, are as fast as they get. `quench run NAME --profile` shows the same for a recipe, with the Lua lines beside it.]],
  example = "print(q.profile(function() return q.randn(500, 500):matmul(q.randn(500, 500)) end))"}

help.add{"q.profile.kernels", profile.kernels, "q.profile.kernels(fn, ...) -> rows, seconds, results of fn",
  "Calls fn(...) while every kernel measures itself.", returns = "{name=, calls=, seconds=, flops=, bytes=} a kernel", see = {"q.profile"},
  example = "local rows, seconds = q.profile.kernels(function() return q.randn(100, 100):exp() end)"}
help.add{"q.profile.text", profile.text, "q.profile.text(rows, seconds) -> text", "The rows of q.profile.kernels as a table, longest first.",
  see = {"q.profile.kernels"}, example = "print(q.profile.text(q.profile.kernels(function() return q.randn(9, 9):exp() end)))"}

return setmetatable(profile, {__call = call})

--- Where a run spends its time: LuaJIT's sampling profiler, folded by Lua line.
-- Time inside a C function counts for the Lua line that called it.

local profile = {}

--- Calls fn(...) under the profiler. Returns its results and then prints the lines that took most.
function profile.call(write, fn, ...)
  local sampler = require "jit.profile"
  local counts, total = {}, 0
  sampler.start("li10", function(thread, samples)
    local where = sampler.dumpstack(thread, "pl", 1)
    counts[where] = (counts[where] or 0) + samples
    total = total + samples
  end)
  local results = {pcall(fn, ...)}
  sampler.stop()
  local lines = {}
  for where, n in pairs(counts) do lines[#lines + 1] = {where = where, n = n} end
  table.sort(lines, function(a, b) return a.n > b.n or a.n == b.n and a.where < b.where end)
  write(("profile: %d samples of 10 ms\n"):format(total))
  for i = 1, math.min(20, #lines) do write(("  %5.1f %%  %s\n"):format(100 * lines[i].n / total, lines[i].where)) end
  if not results[1] then error(results[2], 0) end
  return unpack(results, 2)
end

return profile

--- Where a run spends its time: by kernel (q.profile) and by Lua line (LuaJIT's sampling
-- profiler; time inside a C function counts for the line that called it).

local kernels = require "quench.profile"

local profile = {}

--- Calls fn(...) under both profilers. Returns its results, and before that writes the kernels and the lines that took most.
function profile.call(write, fn, ...)
  local sampler = require "jit.profile"
  local counts, total = {}, 0
  sampler.start("li10", function(thread, samples)
    local where = sampler.dumpstack(thread, "pl", 1)
    counts[where] = (counts[where] or 0) + samples
    total = total + samples
  end)
  local results = {pcall(kernels.kernels, fn, ...)}
  sampler.stop()
  local lines = {}
  for where, n in pairs(counts) do lines[#lines + 1] = {where = where, n = n} end
  table.sort(lines, function(a, b) return a.n > b.n or a.n == b.n and a.where < b.where end)
  if results[1] then write(kernels.text(results[2], results[3])) end
  write(("profile: %d samples of 10 ms\n"):format(total))
  for i = 1, math.min(20, #lines) do write(("  %5.1f %%  %s\n"):format(100 * lines[i].n / total, lines[i].where)) end
  if not results[1] then error(results[2], 0) end
  return unpack(results, 4)
end

return profile

--- measure.lua - what the benches share: a case is run some times and told in one JSON line with its name, size, threads,
-- median and spread, and the share of what this machine can do at best, probed beside it.
--
--   local bench = dofile("tests/bench/measure.lua")("linalg")
--   bench.case("qr", "512 x 512", function() q.linalg.qr(a) end, {flops = 4 / 3 * 512 ^ 3})
--
-- QUICK=1 runs each case once, in a small size where it has one: the test that all benches work (tests/e2e/bench.lua).
local q = require "quench"
local machine = require "quench.c.machine"

local quick = os.getenv("QUICK") ~= nil
local bench = {quick = quick}

--- The first in a real run, the second in a quick one.
function bench.pick(full, small) return quick and small or full end

--- Bytes a second that all threads copy, both directions counted, out of the caches.
local function copy_rate()
  local n = bench.pick(2 ^ 24, 2 ^ 16)
  local x, y, best = q.zeros(n), q.zeros(n), math.huge
  for _ = 1, 4 do
    local start = q.system.clock()
    x:copy_(y)
    best = math.min(best, q.system.clock() - start)
  end
  return 8 * n / best
end
local copied

--- Sorted seconds of fn. A sample lasts 2 ms at least, several calls if need be; as many samples as fit o.seconds, 3 to 25.
local function times(fn, o)
  local function sample(calls)
    local start = q.system.clock()
    for _ = 1, calls do q.scope(fn) end
    return (q.system.clock() - start) / calls
  end
  local first = sample(1)
  if quick then return {first} end
  local second = first > 1 and first or sample(1) -- the first call met cold memory
  local calls = math.max(1, math.ceil(0.002 / second))
  local runs = o.runs or math.min(25, math.max(3, math.floor((o.seconds or 0.4) / (second * calls))))
  local list = {}
  for i = 1, runs do
    collectgarbage("step")
    list[i] = sample(calls)
  end
  table.sort(list)
  return list
end

local function quantile(list, p) return list[math.max(1, math.ceil(p * #list))] end

--- Peak GFLOP/s: multiply-adds in registers, or the processor's bf16 instruction where the case is in bf16 and there is one.
function bench.peak(precision)
  local seconds = bench.pick(0.02, 0.001)
  local rate = precision == "bf16" and machine.probe_bf16(seconds) or 0
  return (rate > 0 and rate or machine.probe_fma(seconds)) * q.threads(), rate > 0 and "bf16" or "f32"
end

--- Adds rates and the share of the limit: time that the arithmetic would take at peak, or the traffic at the rate of a copy,
-- whichever is longer, over the time it took. Above 1 in what the caches hold.
local function against_peak(line, seconds, o)
  local least = 0
  if o.flops and o.flops > 0 then
    local peak, unit = bench.peak(o.precision)
    line.gflops, line.peak_gflops, line.peak_of = o.flops / seconds * 1e-9, peak, unit
    least = o.flops / peak * 1e-9
    line.limit = "arithmetic"
  end
  if o.bytes and o.bytes > 0 then
    copied = copied or copy_rate()
    line.gb_per_s, line.copy_gb_per_s = o.bytes / seconds * 1e-9, copied * 1e-9
    if o.bytes / copied > least then least, line.limit = o.bytes / copied, "memory" end
  end
  if least > 0 then line.fraction_of_peak = least / seconds end
end

--- Runs and reports one case. o: flops, bytes (of one call), precision, seconds to spend, runs, more = columns or a function
-- of the median seconds that gives some. Returns the median seconds.
function bench.case(group, name, size, fn, o)
  o = o or {}
  local list = times(fn, o)
  local median = quantile(list, 0.5)
  local line = {bench = group, case = name, size = size, threads = q.threads(), runs = #list, median_ms = median * 1e3, least_ms = list[1] * 1e3,
    spread = (quantile(list, 0.75) - quantile(list, 0.25)) / median}
  against_peak(line, median, o)
  for key, value in pairs(type(o.more) == "function" and o.more(median) or o.more or {}) do line[key] = value end
  print(q.json.encode(line))
  collectgarbage()
  return median
end

--- Peak of counted memory while fn runs, beyond what lives before.
function bench.memory_of(fn)
  collectgarbage()
  collectgarbage()
  q.system.reset_peak()
  local before = q.system.memory().live
  q.scope(fn)
  return q.system.memory().peak - before
end

--- A number that is not a time.
function bench.value(group, name, size, value, unit)
  print(q.json.encode{bench = group, case = name, size = size, threads = q.threads(), value = value, unit = unit})
end

return function(group)
  return setmetatable({case = function(...) return bench.case(group, ...) end, value = function(...) return bench.value(group, ...) end},
    {__index = bench})
end

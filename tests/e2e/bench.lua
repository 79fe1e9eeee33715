-- The benches: each runs (QUICK=1: small, once), and each line says what make bench promises. No times are asserted.
local q = require "quench"
local tap = dofile "tests/tap.lua"

local program = os.getenv("QUENCH_BINARY") or "build/quench"

local function output(command)
  local pipe = assert(io.popen(command .. " 2>&1; echo status=$?"))
  local text = pipe:read("*a")
  pipe:close()
  return text:match("^(.-)status=(%d+)\n$")
end

--- What is wrong with a line, or nil.
local function fault(line)
  local good, row = pcall(q.json.decode, line)
  if not good or type(row) ~= "table" then return "no JSON: " .. line end
  for _, key in ipairs{"bench", "case", "threads"} do
    if row[key] == nil then return "no " .. key .. " in " .. line end
  end
  local ms = row.median_ms or row.least_ms
  if ms and not (ms > 0 and row.spread and row.spread >= 0 and row.size) then return "no size, time or spread in " .. line end
  if row.gflops and not (row.fraction_of_peak and row.fraction_of_peak > 0) then return "no share of the peak in " .. line end
  if not ms and not row.value and not row.layers then return "no result in " .. line end
end

local benches = {}
for name in pairs{curvature = 1, io = 1, linalg = 1, ops = 1, optimizers = 1, plots = 1, precision = 1,
  quantizers = 1, scaling = 1, startup = 1, train = 1} do
  benches[#benches + 1] = name
end
table.sort(benches)

tap.test("every bench is known here", function(t)
  local known = {measure = true, peer = true, peers = true}
  for _, name in ipairs(benches) do known[name] = true end
  for _, file in ipairs(q.system.list("tests/bench")) do
    local name = file:match("^(%w+)%.lua$")
    if name then t.ok(known[name], "tests/bench/" .. file) end
  end
end)

for _, name in ipairs(benches) do
  tap.test(name, function(t)
    local text, status = output(("QUICK=1 QUENCH_BINARY=%s %s tests/bench/%s.lua"):format(program, program, name))
    local lines, wrong = 0, nil
    for line in (text or ""):gmatch("[^\n]+") do lines, wrong = lines + 1, wrong or fault(line) end
    t.ok(status == "0" and lines > 0 and not wrong, ("%s: %d lines, each with its case, size, threads and result"):format(name, lines),
      wrong or text)
  end)
end

tap.test("training in bf16", function(t)
  local text = output(("QUICK=1 %s tests/bench/precision.lua"):format(program))
  local r = q.json.decode(text)
  local same = 0
  for _, gap in ipairs(r.gaps) do same = same + (gap == 0 and 1 or 0) end
  t.ok(same == 0 and r.farthest_training_losses > 0, "the products are other ones than in f32")
  t.ok(math.abs(r.value) < r.noise_between_seeds, "the held-out loss differs from that in f32 by less than two seeds do",
    ("%g against %g"):format(r.value, r.noise_between_seeds))
end)

tap.test("the peer", function(t)
  local text, status = output("PYTHON=/nonexistent/python " .. program .. " tests/bench/peer.lua")
  t.ok(status == "0" and text:find('"skipped"', 1, true), "without PyTorch it says so", text)
end)

tap.done()

-- make bench-peer: training steps and Hessian-vector products here and in PyTorch, run in turn on the same machine, and the
-- ratio. Settings that make Debian's PyTorch fast are on. PYTHON names the interpreter, CASES what to run, ROUNDS how often.
local q = require "quench"

local python = os.getenv("PYTHON") or "/usr/bin/python3"
local threads = q.threads()
local here = "tests/bench/peer/"

local function output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read("*a")
  pipe:close()
  return text
end

--- The last JSON line a command prints, or nil.
local function last_line(command)
  local line = output(command):match("(%b{})%s*$")
  return line and q.json.decode(line)
end

-- the OpenMP build of OpenBLAS with AVX-512 kernels, vector code in torch, memory kept by malloc
local blas = output("ls -d /usr/lib/*/openblas-openmp 2>/dev/null"):match("%S+") or ""
local tuned = ("ATEN_CPU_CAPABILITY=avx512 LD_LIBRARY_PATH=%s OMP_NUM_THREADS=%d OPENBLAS_CORETYPE=%s MALLOC_MMAP_MAX_=0 " ..
  "MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456"):format(blas, threads, os.getenv("PEER_CORETYPE") or "SkylakeX")

local function peer(case)
  local size, kind = case:match("^(%S+) ?(%S*)$")
  local script = kind == "hvp" and "torch_hvp.py" or "torch_train.py"
  local amp = kind == "bf16" and "--amp" or ""
  local r = last_line(("%s %s %s%s --threads %d %s %s 2>/dev/null"):format(tuned, python, here, script, threads, amp, size))
  return r and (r.ms_hvp or r.ms_step), r and r.peak_rss_mb
end

local function ours(case)
  local r = last_line(('OMP_NUM_THREADS=%d %s tests/bench/train.lua "%s"'):format(threads, os.getenv("QUENCH_BINARY") or "build/quench", case))
  return r and r.median_ms, r and r.peak_rss_mb
end

local function median(list)
  table.sort(list)
  return list[math.ceil(#list / 2)]
end

if output(python .. ' -c "import torch; print(torch.__version__)" 2>/dev/null') == "" then
  print(q.json.encode{bench = "peer", skipped = python .. " has no torch (Debian: python3-torch; or set PYTHON)"})
  return
end

local cases, rounds = {}, tonumber(os.getenv("ROUNDS") or 3)
for case in (os.getenv("CASES") or "tiny,tiny bf16,tiny hvp,small,small bf16,base"):gmatch("[^,]+") do cases[#cases + 1] = case end
for _, case in ipairs(cases) do
  local mine, theirs, my_rss, their_rss = {}, {}, 0, 0
  for i = 1, rounds do
    local a, b
    mine[i], a = ours(case)
    theirs[i], b = peer(case)
    if not mine[i] or not theirs[i] then error("case '" .. case .. "' failed on one side") end
    my_rss, their_rss = math.max(my_rss, a), math.max(their_rss, b)
  end
  local m, t = median(mine), median(theirs)
  print(q.json.encode{bench = "peer", case = case, threads = threads, ms = m, ms_torch = t, times_as_fast = t / m,
    rss_mb = my_rss, rss_mb_torch = their_rss})
end

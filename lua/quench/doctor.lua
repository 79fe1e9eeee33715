--- quench doctor: what this machine offers and whether it works as it should.
--
-- Every line states a fact; lines that start with "!" need attention, and make the exit
-- status 1 where something is broken rather than merely slow. `doctor.stamp()` is the short
-- form that goes into run.json and into figures.

local machine = require "quench.c.machine"
local threads_of = require("quench.c.tensor").threads

local doctor = {}

local function read(path)
  local file = io.open(path, "r")
  if not file then return "" end
  local text = file:read("*a") or ""
  file:close()
  return text
end

local function processor_name(cpuinfo)
  return cpuinfo:match("model name%s*:%s*([^\n]+)") or cpuinfo:match("Hardware%s*:%s*([^\n]+)") or jit.arch
end

--- The flags that decide speed here, of those the processor has.
local function processor_flags(cpuinfo)
  local all, found = " " .. (cpuinfo:match("flags%s*:%s*([^\n]+)") or "") .. " ", {}
  for flag in ("avx avx2 fma f16c avx512f avx512bw avx512vl avx512_bf16 avx512_fp16 amx_bf16 amx_int8"):gmatch("%S+") do
    if all:find(" " .. flag .. " ", 1, true) then found[#found + 1] = flag end
  end
  return table.concat(found, " ")
end

--- What decides the bits of a result on this machine: goes into run.json and into figures.
function doctor.stamp()
  local versions, blas = machine.versions(), machine.blas()
  return {
    quench = versions.quench, build = require("quench.c.system").build, luajit = versions.luajit,
    compiler = versions.compiler, glibc = versions.glibc,
    openblas = blas.config:match("OpenBLAS ([%d.]+)") or blas.config, blas_core = blas.core,
    processor = processor_name(read("/proc/cpuinfo")), threads = threads_of(), system = jit.os, architecture = jit.arch,
  }
end

local function gib(bytes) return ("%.1f GiB"):format(bytes / 2 ^ 30) end

local Report = {}
Report.__index = Report

function Report.section(_, title) io.write(title, "\n") end
function Report.line(_, label, format, ...) io.write(("  %-12s "):format(label), format:format(...), "\n") end
function Report.warn(_, format, ...) io.write("! ", format:format(...), "\n") end
function Report:broken(format, ...)
  self.bad = true
  self:warn(format, ...)
end

local function libraries(r)
  local v = machine.versions()
  r:section("Quench " .. v.quench)
  r:line("Lua", "%s, compiler %s (--jit switches it on; Ctrl-C stops loops only while it is off)", v.luajit, jit.status() and "on" or "off")
  r:line("libraries", "FreeType %s, libpng %s, zlib %s, jansson %s, PCRE2 %s, libedit %s", v.freetype or "?", v.libpng, v.zlib, v.jansson,
    (v.pcre2 or "?"):match("%S+"), v.libedit)
  r:line("built with", "gcc %s, glibc %s", v.compiler, v.glibc)
end

local function processor(r)
  local info = read("/proc/cpuinfo")
  local count, memory = machine.processors()
  local free = read("/proc/meminfo"):match("MemAvailable:%s*(%d+)")
  r:section("Processor")
  r:line("name", "%s, %d CPUs", processor_name(info), count)
  r:line("flags", "%s", processor_flags(info))
  r:line("threads", "%d (OMP_NUM_THREADS or --threads changes it)", threads_of())
  r:line("memory", "%s%s", gib(memory), free and ", " .. gib(free * 1024) .. " available" or "")
end

--- GFLOP/s of our own f32 product of 1024 x 1024, the best of five.
local function product_rate()
  local q, best = require "quench", math.huge
  local a = q.zeros(1024, 1024) + 1
  for _ = 1, 5 do
    local start = q.system.clock()
    q.scope(function() a:matmul(a) end)
    best = math.min(best, q.system.clock() - start)
  end
  return 2 * 1024 ^ 3 / best * 1e-9
end

local function products(r)
  local blas = machine.blas()
  r:section("Matrix products")
  r:line("library", "%s", blas.config)
  r:line("kernels", "%s (%s): %s", blas.core, blas.level, blas.why)
  local good, message = pcall(machine.blas_check)
  if good then r:line("self-check", "sgemm and dgemm agree with plain loops")
  else r:broken("%s; set OPENBLAS_CORETYPE=Haswell or Prescott", message) end
  local threads, peak = threads_of(), machine.probe_fma(0.05)
  local many = machine.probe_sgemm(1024, 3)
  threads_of(1)
  local one = machine.probe_sgemm(1024, 2)
  threads_of(threads)
  r:line("sgemm 1024", "%.0f GFLOP/s on %d threads, %.0f on one", many, threads, one)
  r:line("peak probe", "%.0f GFLOP/s a thread (multiply-adds in registers); sgemm reaches %.0f %% of it on one", peak, 100 * one / peak)
  local tiles = machine.tiles()
  r:line("tiles", "%s", tiles and "f32 products run on them; compare quench doctor with QUENCH_TILES=0, which leaves them out"
    or os.getenv("QUENCH_TILES") == "0" and "left out of f32 products (QUENCH_TILES=0)" or "none")
  r:line("product 1024", "%.0f GFLOP/s on %d threads, ours", product_rate(), threads)
  if blas.level ~= blas.processor_level and blas.core ~= "Zen" then
    r:warn("the kernels use %s, the processor has %s: unset OPENBLAS_CORETYPE to let Quench choose", blas.level, blas.processor_level)
  end
end

local function pictures(r)
  r:section("Text and pictures")
  local good, font = pcall(require("quench.c.plot").font_file)
  if good then r:line("font", "%s", font) else r:broken("%s", font) end
  local columns, rows = machine.terminal_size(1)
  r:line("terminal", "%s%s%s", os.getenv("TERM") or "none", columns and (", %d x %d"):format(columns, rows) or ", size unknown",
    os.getenv("NO_COLOR") and ", NO_COLOR is set" or "")
  local ways = {kitty = "pictures by kitty's protocol", iterm = "pictures by iTerm2's protocol", sixel = "pictures by sixel", text = "characters"}
  r:line("figures", "%s", ways[require("quench.plots.show").method()] or "not shown here (stdout is no terminal); saved as files")
end

local function folders(r)
  r:section("Folders")
  local home = os.getenv("HOME") or "."
  r:line("history", "%s/quench/history", os.getenv("XDG_STATE_HOME") or home .. "/.local/state")
  local corpus = require "quench.corpus"
  local kept = require("quench.c.system").list(corpus.folder() .. "/janeaustenr") or {}
  r:line("corpora", "%s (%s)", corpus.folder(), #kept > 0 and #kept .. " texts" or "nothing fetched yet")
end

--- Prints the report; the exit status is 1 if something is broken.
function doctor.main()
  local r = setmetatable({bad = false}, Report)
  for _, part in ipairs{libraries, processor, products, pictures, folders} do part(r) end
  return r.bad and 1 or 0
end

return doctor

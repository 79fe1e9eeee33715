-- Sweeps: --list, --index, --emit, and quench run all.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local folder = sh.folder()

--- A recipe that counts its runs in a file, and fails where it is told to.
local function write(name, body)
  q.system.write_file(folder .. "/" .. name .. ".lua", ([[
return recipe{
  name = "%s", doc = "Which seed is it?",
  params = {{"word", "string", default = "a", doc = "any"}},
  scales = {smoke = {word = "small"}},
  run = function(p, ctx) q.system.append_file("count", "run\n") %s return {seed = ctx.seed} end,
  claims = {{"C1", "seeds are positive", measure = function(r) return r.seed end, above = 0}},
}
]]):format(name, body or ""))
end
write "seeds"
write("broken", "error('a failure in the middle')")

local function run(arguments) return sh(("cd %s && $Q run %s"):format(folder, arguments)) end

local function count()
  local path = folder .. "/count"
  local text = q.system.exists(path) and q.system.read_file(path) or ""
  os.remove(path)
  return select(2, text:gsub("\n", ""))
end

tap.test("--list and --index", function(t)
  local sweep = "seeds.lua --scale=smoke --seed=4 --seeds=3 "
  local out, err, status = run(sweep .. "--list")
  t.ok(status == 0 and out:find("^1  seed 4  out/seeds/%x+  [^\n]*%(new%)\n2  seed 5  [^\n]*%(new%)\n3  seed 6  [^\n]*%(new%)\n$"),
    "a line a run", out .. err)
  t.equal(count(), 0, "--list does not work")
  local path = out:match("2  seed 5  (%S+)")
  out, err, status = run(sweep .. "--index=2")
  t.ok(status == 0 and out:find(path, 1, true), "--index=2 runs in the folder of the list", out .. err)
  t.equal(count(), 1, "and only that")
  out = run(sweep .. "--list")
  t.ok(out:find("4  [^\n]*%(new%)\n2  seed 5  [^\n]*%(finished%)\n3  [^\n]*%(new%)\n$"), "the list says which is done", out)
  out = run(sweep .. "--index=2")
  t.ok(count() == 0 and out:find("(finished ", 1, true), "a finished one is not run again", out)
  local lock = q.system.lock(folder .. "/" .. path .. "/.lock")
  out, err, status = run(sweep .. "--index=2")
  t.ok(status == 0 and out:find(path .. "  (another process is working in it", 1, true) and count() == 0,
    "a folder in use is left alone, and that is no failure", out .. err)
  lock:release()
  out = run(sweep)
  t.ok(count() == 2 and out:find("3 seeds", 1, true), "the sweep does the rest and gathers all", out)
  out, err, status = run(sweep .. "--index=4")
  t.ok(out == "" and status == 1 and err:find("--index=4: there are 3 runs", 1, true), "no fourth run", err)
end)

tap.test("--emit", function(t)
  local arguments = [[seeds.lua --seeds=2 "--word=it's \$HOME" --out=o ]]
  local out, err, status = run(arguments .. "--emit=slurm >slurm.sh && cat slurm.sh")
  t.ok(status == 0 and out:find("#SBATCH --array=1-2\n", 1, true) and not out:find("emit", 1, true), "a Slurm array", out .. err)
  out, err, status = sh(("cd / && QUENCH=$Q SLURM_ARRAY_TASK_ID=2 bash %s/slurm.sh"):format(folder))
  t.ok(status == 0 and count() == 1, "its job runs from anywhere", out .. err)
  out = run(arguments .. "--list")
  t.ok(out:find("1  seed 1  [^\n]*%(new%)\n2  seed 2  [^\n]*it's $HOME [^\n]*%(finished%)"), "as the second of the sweep, quotes and all", out)
  out, err, status = run(arguments .. "--emit=parallel >jobs.sh && cat jobs.sh && sh -n jobs.sh")
  t.ok(status == 0 and out:find("seq 2 | parallel", 1, true) and out:find("--index={}", 1, true), "GNU parallel", out .. err)
  -- a stand-in for GNU parallel: -q --jobs N COMMAND, numbers on stdin
  q.system.make_directories(folder .. "/bin")
  q.system.write_file(folder .. "/bin/parallel", [[
#!/bin/bash
shift 3
while read -r i; do "${@//\{\}/$i}" || exit 1; done
]])
  out, err, status = sh(("cd %s && chmod +x bin/parallel && PATH=$PWD/bin:$PATH QUENCH=$Q sh jobs.sh"):format(folder))
  t.ok(status == 0 and count() == 1 and out:find("2 seeds", 1, true), "runs what is missing and gathers all", out .. err)
  out, err, status = run "seeds.lua --emit=slrum"
  t.ok(out == "" and status == 1 and err:find("did you mean 'slurm'", 1, true), "an unknown kind", err)
end)

tap.test("all", function(t)
  local out, err, status = run "all broken.lua seeds.lua --scale=smoke --out=all"
  t.ok(status == 1 and err:find("broken.lua: .*a failure in the middle"), "a failure is told", err)
  t.ok(out:find("broken.lua  failed [^\n]*a failure in the middle\n  seeds.lua   ok ") and out:find("1 ok, 1 failed, 0 skipped\n$"),
    "the rest runs, and a summary ends it", out)
  t.equal(count(), 2, "both were begun")
  out, err, status = run "all seeds.lua --scale=smoke --out=all"
  t.ok(status == 0 and count() == 0 and out:find("1 ok, 0 failed", 1, true), "no failure, status 0; finished is not run again", out .. err)
  out, err, status = run "all seeds.lua --scale=huge"
  t.ok(status == 1 and out:find("skipped [^\n]*no scale huge") and count() == 0, "a scale that none has", out .. err)
  out, err, status = run "all --list --scale=smoke"
  t.ok(out:find("decay +ok") and out:find("out/decay/%x+") and status == 0, "all recipes inside the program", out .. err)
  out, err, status = run "all --scal=smoke"
  t.ok(out == "" and status == 1 and err:find("did you mean 'scale'", 1, true), "an unknown option", err)
  out, err, status = run "all --help"
  t.ok(status == 0 and out:find("usage: quench run all", 1, true), "--help", out .. err)
end)

tap.test("all with seeds", function(t)
  local out, err, status = run "all seeds.lua broken.lua --scale=smoke --out=jobs --seeds=2 --index=2"
  t.ok(status == 1 and out:find("1 ok, 1 failed, 0 skipped\n$") and count() == 2, "--index=2 runs the second seed of each", out .. err)
  out = run "all seeds.lua --scale=smoke --out=jobs --seeds=2 --list"
  t.ok(out:find("1  seed 1  [^\n]*%(new%)\n2  seed 2  [^\n]*%(finished%)"), "and --list says so", out)
  out, err, status = run "all seeds.lua --scale=smoke --out=jobs --seeds=2"
  t.ok(status == 0 and count() == 1 and out:find("2 seeds", 1, true), "--seeds=2 does the other one and gathers", out .. err)
  local path = run("seeds.lua --out=locked --list"):match("1  seed 1  (%S+)")
  q.system.make_directories(folder .. "/" .. path)
  local lock = q.system.lock(folder .. "/" .. path .. "/.lock")
  out, err, status = run "all seeds.lua --out=locked"
  t.ok(status == 0 and count() == 0 and out:find("seeds.lua +busy[^\n]*" .. path .. "\n0 ok, 0 failed, 0 skipped, 1 in work elsewhere"),
    "what another process works on is left to it", out .. err)
  out, err, status = run "all seeds.lua --out=locked --index=1"
  t.ok(status == 0 and out:find("seeds.lua +busy"), "with --index as well", out .. err)
  lock:release()
end)

tap.test("two processes share a sweep", function(t)
  write("slow", "q.system.append_file('who' .. ctx.seed, 'x') q.system.sleep(0.3)")
  local job = "$Q run slow.lua --seeds=4 --out=shared --quiet"
  local out, err, status = sh(("cd %s && (%s >one 2>&1 & %s; s=$?; wait; cat one who*; exit $s)"):format(folder, job, job))
  t.equal(count(), 4, "no seed runs twice")
  t.ok(status == 0 and select(2, out:gsub("4 seeds", "")) == 2 and out:find("xxxx", 1, true), "both end with all seeds", out .. err)
end)

local HEAD = "^| recipe | claim | the paper | found here | true where | verdict | scale | seeds | figure | command | minutes |\n|"

tap.test("replication", function(t)
  run "seeds.lua --out=table --seeds=2"
  run "seeds.lua --out=table"
  local function replication(arguments) return sh(("cd %s && $Q replication %s"):format(folder, arguments)) end
  local out, err, status = replication "--out=table"
  t.ok(status == 0 and out:find(HEAD) and select(2, out:gsub("\n", "")) == 3, "one row for equal parameters", out .. err)
  t.ok(out:find("| seeds | C1: seeds are positive | - | 1.5 [-4.853, 7.853], 2 seeds | above 0 | not decidable here | - | 2 | - | " ..
    "`quench run seeds.lua  --seeds=2` | 0.0 |", 1, true), "of the most seeds: 1.5 -+ 12.7062 / 2", out)
  run "seeds.lua --out=table --scale=smoke"
  out = replication "--out=table --scale=smoke"
  t.ok(select(2, out:gsub("\n", "")) == 3 and out:find("`quench run seeds.lua --scale=smoke`", 1, true), "--scale picks", out)
  write("seeds", "local _ = 'another text'")
  out, err, status = replication "--out=table"
  t.ok(status == 0 and select(2, out:gsub("\n", "")) == 2 and err:find("left out 3 results of an older recipe text", 1, true),
    "results of an older text are left out", out .. err)
  t.ok(err:find("no claims of finished runs below table", 1, true), "and an empty table is explained", err)
  write "seeds"
  count()
  out, err, status = replication "--out=table --write=page"
  t.ok(status == 1 and err:find("the page's name ends in .md", 1, true), "a page is a .md", out .. err)
  out, err, status = replication "--otu=table"
  t.ok(status == 1 and out == "" and err:find("did you mean 'out'", 1, true), "an unknown option", err)
end)

tap.test("the page", function(t)
  local inside = folder .. "/inside"
  local out, err, status = sh(("$Q run decay --scale=smoke --quiet --out=%s && $Q replication --out=%s --write=%s/page.md"):format(
    inside, inside, folder))
  t.ok(status == 0 and out:find("page.md: 4 claims\n$"), "is written", out .. err)
  local page = q.system.read_file(folder .. "/page.md")
  t.ok(page:find("| smoke | 1 | [decay](page/decay-smoke-decay.png) | `quench run decay --scale=smoke` | 0.", 1, true),
    "with scale, figure and command of a recipe in the program", page)
  t.ok(page:find("| does not hold, one seed |", 1, true), "verdicts on one seed say so", page)
  local counts = {page:match("Training Dynamics %(arXiv 2510.06213%) | (%d+) | (%d+) | (%d+) | (%d+) | (%d+) |")}
  t.equal(#counts == 5 and counts[1] + counts[2] + counts[3] + counts[4] + counts[5], 4, "a summary by paper and verdict")
  t.ok(page:find("| decay | Does the quantization error jump when .- | smoke | %-%-layers=1 .- | [%d.e+]+ tokens, .- | %d+%-%d%d%-%d%d |"),
    "what was run: question, settings, cost, day", page)
  t.ok(page:find("Machines:\n%- [^\n]*threads, Quench"), "and the machine", page)
  local png = inside .. "/decay/" .. q.system.list(inside .. "/decay")[1] .. "/decay.png"
  local linked = folder .. "/" .. page:match("%]%((page/[^)]+)%)")
  t.ok(q.system.read_file(png) == q.system.read_file(linked), "its figures are copied beside it")
end)

sh.clean()
tap.done()

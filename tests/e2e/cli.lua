-- The command line as a user meets it: exit statuses, streams, and one-line errors.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"

tap.test("running code", function(t)
  local out, err, status = sh [[$Q -e 'print(1 + 1, ...)' a b]]
  t.equal(out, "2\ta\tb\n", "results on stdout, arguments in ...")
  t.equal(err .. status, "0", "nothing on stderr, status 0")
  out, err, status = sh [[$Q -e 'error("broken", 0)']]
  t.equal(out .. err .. status, "quench: broken\n1", "an error is one line on stderr, status 1")
  out, err, status = sh [[$Q -e 'x = = 1']]
  t.ok(out == "" and status == 1 and err:find("unexpected symbol", 1, true), "a syntax error too", err)
  out, err, status = sh [[$Q --trace -e 'local function f() error("deep") end f()']]
  t.ok(out == "" and status == 1 and err:find("stack traceback", 1, true), "--trace shows the stack", err)
  out = sh [[echo 'print("from stdin", ...)' | $Q - x]]
  t.equal(out, "from stdin\tx\n", "a script on standard input")
  out, err, status = sh [[$Q -e 'io.write(tostring(jit.status()))']]
  t.equal(out .. err .. status, "false0", "the JIT compiler is off")
  out = sh [[$Q --jit -e 'io.write(tostring((jit.status())))']]
  t.equal(out, "true", "--jit switches it on")
  out = sh [[$Q --threads=3 -e 'io.write(q.threads())']]
  t.equal(out, "3", "--threads")
  out, err, status = sh [[$Q -e 'print(1)' > /dev/full]]
  t.ok(out == "" and status == 1 and err:find("cannot write", 1, true), "a full disk on stdout is an error", err)
end)

tap.test("settings of libraries", function(t)
  local ask = [[$Q -e 'io.write(os.getenv("GOMP_SPINCOUNT") or "", "|", os.getenv("QUENCH_STARTED") or "")']]
  t.equal(sh("unset OMP_WAIT_POLICY GOMP_SPINCOUNT; " .. ask), "|", "what we set for ourselves is not left to others")
  t.equal(sh("GOMP_SPINCOUNT=77 " .. ask), "77|", "what the user set stays")
  local function spins(set) -- what libgomp says it took, at each start of the program
    local _, said = sh("unset OMP_WAIT_POLICY GOMP_SPINCOUNT; " .. set .. " OMP_DISPLAY_ENV=verbose $Q -e ''")
    local last
    for n in said:gmatch("GOMP_SPINCOUNT = '(%w+)'") do last = n end
    return last
  end
  t.equal(spins(""), "2000", "threads without work spin for 20 us")
  t.equal(spins("GOMP_SPINCOUNT=77"), "77", "or as long as the user says")
  t.ok(spins("OMP_WAIT_POLICY=active") ~= "2000", "or as the wait policy says")
end)

tap.test("a file, from anywhere", function(t)
  local dir = os.tmpname()
  os.remove(dir)
  q.system.make_directories(dir .. "/a b")
  q.system.write_file(dir .. "/a b/x.lua", "print(arg[0]:match('[^/]+$'), arg[1], ..., q.system.version)")
  local out, err, status = sh(("cd '%s/a b' && $Q x.lua one"):format(dir))
  t.equal(out .. err .. status, ("x.lua\tone\tone\t%s\n0"):format(q.system.version), "a file in another folder, with its arguments")
  out, err, status = sh [[cd / && PATH=$(dirname "$Q"):$PATH quench --version]]
  t.equal(out .. err .. status, ("quench %s (build %s)\n0"):format(q.system.version, q.system.build), "found through PATH")
  os.remove(dir .. "/a b/x.lua") os.remove(dir .. "/a b") os.remove(dir)
end)

tap.test("odd files", function(t)
  local path = os.tmpname()
  q.system.write_file(path, "#!/usr/bin/env quench\nprint(1)\nerror 'line 3'\n")
  local out, err, status = sh("$Q " .. path)
  t.ok(out == "1\n" and status == 1 and err:find(":3: line 3", 1, true), "a first line with #!", out .. err)
  q.system.write_file(path, "\27LJ not bytecode")
  out, err, status = sh("$Q " .. path)
  t.ok(out == "" and status == 1 and err:find("quench: ", 1, true), "bytecode that is none", err)
  os.remove(path)
end)

tap.test("bad command lines", function(t)
  for line, expected in pairs{
    ["$Q nothere.lua"] = "no file and no command 'nothere.lua'",
    ["$Q doctr"] = "did you mean 'doctor'",
    ["$Q --thread=2"] = "did you mean '--threads'",
    ["$Q --threads=many"] = "--threads needs a number",
    ["$Q -e"] = "-e needs a line of Lua",
    ["$Q /"] = "is a folder",
    ["$Q -x"] = "unknown option '-x'",
    ["$Q list decay"] = "list takes no argument, got 'decay'",
    ["$Q doctor --quiet"] = "doctor takes no argument, got '--quiet'",
    ["$Q show a.png b.png"] = "show takes one argument, got 'b.png'",
  } do
    local out, err, status = sh(line)
    t.ok(out == "" and status == 2 and err:find(expected, 1, true), line, out .. err .. status)
  end
  local out, err, status = sh "$Q --help"
  t.ok(status == 0 and err == "" and out:find("quench run NAME", 1, true), "--help goes to stdout")
  t.equal((sh "$Q help watch"), (sh "$Q --help"):match("  quench watch[^\n]*\n"), "help on a command")
  t.ok((sh "$Q help run"):find("quench run all.*\nIn Lua: quench help q%.recipe%.run\n$"), "and its name in Lua")
  out, err, status = sh "$Q doctor --help"
  t.equal(out .. err .. status, "  quench doctor                 libraries, processor, speed, fonts, terminal\n0", "--help of a command")
end)

tap.test("the choice of OpenBLAS's kernels", function(t)
  local ask = [[$Q -e 'local b = require("quench.c.machine").blas()]]
    .. [[ io.write(b.level, "|", b.processor_level, "|", b.why, "|", os.getenv("OPENBLAS_CORETYPE") or "")']]
  local out = sh("OPENBLAS_CORETYPE=Prescott " .. ask)
  t.ok(out:match("^SSE|") and out:match("|Prescott$"), "a value the user has set is kept", out)
  out = sh("OPENBLAS_CORETYPE=Prescott QUENCH_BLAS=Prescott " .. ask)
  t.ok(out:match("^SSE|") and out:match("products checked|$"), "after our restart: checked, and the variable is gone again", out)
  local level, can = sh("unset OPENBLAS_CORETYPE; " .. ask):match("^([^|]+)|([^|]+)|")
  t.ok(level == can or can == "SSE" or can == "AVX", "left alone, the kernels use what the processor has",
    tostring(level) .. " of " .. tostring(can))
end)

tap.done()

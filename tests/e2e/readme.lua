-- The README keeps its word: its recipe runs, its test command is what CI runs, its links lead somewhere.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local readme = q.system.read_file "README.md"

tap.test("the recipe of the README", function(t)
  local folder = sh.folder()
  q.system.write_file(folder .. "/rounding.lua", readme:match("```lua\n(.-)```"))
  local out, err, status = sh(("cd %s && $Q run rounding.lua --seeds=2"):format(folder))
  t.ok(status == 0 and out:find("C1   holds", 1, true), "runs, and its claim holds", out .. err)
  t.ok(out:find("figure out/rounding/", 1, true), "and draws", out)
  sh.clean()
end)

tap.test("the figure of the README", function(t)
  local path = readme:match("!%[[^%]]*%]%(([^)]+)%)")
  local out, err, status = sh("$Q show " .. path)
  t.ok(status == 0 and out:find("^figure decay of recipe decay, (%d+) seeds\n"), "can be made again from the PNG alone", out .. err)
  local seeds = out:match("^[^\n]-(%d+) seeds")
  t.ok(readme:find("quench run decay --scale=tiny --seeds=" .. seeds .. "`", 1, true), "by the command beside it", seeds)
end)

tap.test("commands and links", function(t)
  local ci = q.system.read_file ".ci/run"
  t.ok(readme:find("\nmake test\n", 1, true) and ci:find("make test", 1, true), "CI runs the README's test command")
  local make = q.system.read_file "Makefile" .. q.system.read_file "tests/targets.mk"
  for target in readme:gmatch("make (%l+)") do t.ok(make:find("\n" .. target .. ":", 1, true), "make " .. target) end
  for link in readme:gmatch("%]%(([^)]+)%)") do t.ok(q.system.exists(link), link) end
end)

tap.done()

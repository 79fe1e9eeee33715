-- Killed in the middle and started again, a recipe ends with the bytes of an uninterrupted run.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local folder = sh.folder()

--- A text of its own, so that no corpus is fetched: sentences from a small grammar.
local function write_text(path)
  local random = q.stream(1, "text")
  local words = {{"the cat", "a dog", "one bird", "the old man"}, {"saw", "heard", "liked", "followed"}, {"the moon", "a river", "his song", "nothing"}}
  local lines = {}
  for i = 1, 3000 do
    local parts = {}
    for k, list in ipairs(words) do parts[k] = list[random:below(#list) + 1] end
    lines[i] = table.concat(parts, " ") .. "."
  end
  q.system.write_file(path, table.concat(lines, "\n"))
end

write_text(folder .. "/text.txt")

--- The command line of a run; before: what stands in front of the program.
local function line(out, before)
  return ("cd %s; %s $Q run decay --scale=smoke --text=text.txt --steps=60 --quiet --out=%s"):format(folder, before or "", out)
end

local function bytes(out)
  return sh(("cd %s/%s/decay/* && cat results.json decay.png | sha256sum"):format(folder, out))
end

tap.test("killed and resumed", function(t)
  local _, err, status = sh(line "whole")
  t.equal(status, 0, "an uninterrupted run", err)
  local whole = bytes "whole"
  local killed = 0
  for k = 1, 6 do
    _, err, status = sh(line("broken", "timeout -s KILL " .. 0.15 * k))
    killed = killed + (status == 137 and 1 or 0)
  end
  t.ok(killed >= 1, killed .. " times killed")
  _, err, status = sh(line "broken")
  t.ok(status == 0, "then it runs to its end", err)
  t.equal(bytes "broken", whole, "with the same results and the same figure")
  local left = sh(("find %s/broken -name '*.tmp.*' | wc -l"):format(folder))
  t.ok(tonumber(left) <= killed, "a kill leaves at most one temporary file", left)
end)

tap.test("Ctrl-C in training", function(t)
  local out, err, status = sh(line("stopped", "timeout -s INT 0.5"):gsub("timeout", "timeout --preserve-status"))
  t.ok(status == 130 and err:find("interrupted", 1, true), "stops with its exit status", out .. err .. status)
  out, err, status = sh(line "stopped")
  t.ok(status == 0, "and goes on with the same command", err)
  t.equal(bytes "stopped", bytes "whole", "to the same bytes")
end)

sh.clean()
tap.done()

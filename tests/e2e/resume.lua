-- Killed in the middle and started again, a recipe ends with the bytes of an uninterrupted run.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local folder = sh.folder()

--- A text of its own, so that no corpus is fetched: sentences from a small grammar.
local function write_text(path)
  local random = q.stream(1, "text")
  local words = {
    {"the cat", "a dog", "one bird", "the old man"}, {"saw", "heard", "liked", "followed"}, {"the moon", "a river", "his song", "nothing"},
  }
  local lines = {}
  for i = 1, 3000 do
    local parts = {}
    for k, list in ipairs(words) do parts[k] = list[random:below(#list) + 1] end
    lines[i] = table.concat(parts, " ") .. "."
  end
  q.system.write_file(path, table.concat(lines, "\n"))
end

write_text(folder .. "/text.txt")

local function run(out)
  return sh(("cd %s && $Q run decay --scale=smoke --text=text.txt --steps=80 --quiet --out=%s"):format(folder, out))
end

--- Starts a run and sends it a signal once its logs have so many lines. Returns stdout and stderr, and the exit status.
local function run_until(out, lines, signal)
  return sh(([[
    cd %s
    $Q run decay --scale=smoke --text=text.txt --steps=80 --quiet --out=%s &
    pid=$!
    for i in $(seq 3000); do
      [ "$(cat %s/shared/*/log.jsonl 2>/dev/null | wc -l)" -ge %d ] && break
      sleep 0.01
    done
    kill -%s $pid
    wait $pid]]):format(folder, out, out, lines, signal))
end

local function bytes(out)
  return (sh(("cd %s/%s/decay/* && cat results.json decay.png | sha256sum"):format(folder, out)))
end

tap.test("killed and resumed", function(t)
  local _, err, status = run "whole"
  t.equal(status, 0, "an uninterrupted run", err)
  local whole = bytes "whole"
  for _, lines in ipairs{60} do
    t.equal(select(3, run_until("broken", lines, "KILL")), 137, "killed after " .. lines .. " lines of the log")
  end
  _, err, status = run "broken"
  t.ok(status == 0, "then it runs to its end", err)
  t.equal(bytes "broken", whole, "with the same results and the same figure")
end)

tap.test("Ctrl-C in training", function(t)
  local out, err, status = run_until("stopped", 40, "INT")
  t.ok(status == 130 and err:find("interrupted at step", 1, true), "stops with its exit status", out .. err .. status)
  t.ok(err:find("the state is saved", 1, true), "and saves", err)
  out, err, status = run "stopped"
  t.ok(status == 0 and out:find("C1", 1, true), "and goes on with the same command", err)
  t.equal(bytes "stopped", bytes "whole", "to the same bytes")
end)

sh.clean()
tap.done()

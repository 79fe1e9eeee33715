-- quench watch: a log drawn once, followed as lines, and what may be wrong with it.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local dir = sh.folder()
local base = ("cd '%s' && "):format(dir)

local function write(text) q.system.write_file(dir .. "/log.jsonl", text) end

local lines = {}
for i = 1, 60 do lines[i] = ('{"step":%d,"loss":%.4f,"lr":0.001,"tokens":%d,"time":%d}\n'):format(i, 2 + 3 / i, i * 500, i) end
local whole = table.concat(lines)

tap.test("drawn once", function(t)
  write(whole)
  local out, err, status = sh(base .. "LC_ALL=C.UTF-8 $Q watch . --once")
  t.equal(err .. status, "0", "nothing on stderr, status 0")
  t.ok(out:find("step 60 | loss 2.0500 | lr 0.001 | 500 tokens/s\n", 1, true), "the latest numbers", out)
  t.ok(out:find("\226[\160-\163][\128-\191]"), "the curve, in braille", out)
  t.ok(not out:find("\27", 1, true), "no escapes outside a terminal", out)
  t.equal((sh(base .. "LC_ALL=C.UTF-8 $Q watch --once ./log.jsonl")), out, "the file is as good as its folder")
end)

tap.test("damaged logs", function(t)
  write(whole .. '{"step":61,"lo')
  local out, err, status = sh(base .. "$Q watch log.jsonl --once")
  t.equal(err .. status, "quench: log.jsonl line 61: half-written (left out)\n0", "a half-written line is said")
  t.ok(out:find("step 60 |", 1, true), "and left out", out)
  write(lines[1] .. "{bad}\n[1]\n" .. lines[2])
  out, err, status = sh(base .. "$Q watch log.jsonl --once")
  local _, said = err:gsub("\n", "")
  t.ok(status == 0 and said == 2 and err:find("log.jsonl line 2", 1, true) and err:find("log.jsonl line 3: not an object", 1, true),
    "one line for each bad line", err)
  t.ok(out:find("step 2 |", 1, true), "the others are read", out)
  write ""
  out, err, status = sh(base .. "$Q watch log.jsonl --once")
  t.equal(out .. err .. status, "log.jsonl\nno records yet\n0", "an empty log")
end)

tap.test("nothing to watch", function(t)
  local out, err, status = sh(base .. "$Q watch absent")
  t.equal(out .. err .. status, "quench: no file or folder 'absent'\n1", "a missing path")
  out, err, status = sh(base .. "mkdir -p empty && $Q watch empty")
  t.equal(out .. err .. status, "quench: no log.jsonl in or below 'empty'\n1", "a folder without a log")
end)

tap.test("followed without a terminal", function(t)
  write(lines[1] .. lines[2]:sub(1, 9))
  q.system.write_file(dir .. "/rest", lines[2]:sub(10))
  local out, err = sh(("cd '%s'"):format(dir) .. [[;
    timeout -s INT 4 $Q watch . > lines &
    pid=$!
    sleep 1; cat rest >> log.jsonl
    wait $pid
    cat lines]])
  t.equal(out, "step 1 | loss 5.0000 | lr 0.001\nstep 2 | loss 3.5000 | lr 0.001 | 500 tokens/s\n", "a line a record, once it is whole", err)
end)

--- Follows the log without a terminal while a line of sh changes it. Returns what it wrote, and its complaints.
local function followed(change)
  return sh(("cd '%s'"):format(dir) .. [[;
    timeout 60 $Q watch . > lines 2> said & pid=$!
    wait_for() { for i in $(seq 200); do grep -q "$1" lines said && return; sleep 0.05; done; }
    ]] .. change .. [[;
    kill $pid; wait $pid 2>/dev/null
    cat lines; cat said >&2]])
end

tap.test("a log that is replaced while it is followed", function(t)
  write(lines[1] .. lines[2] .. lines[3])
  q.system.write_file(dir .. "/dropped", lines[1] .. lines[2] .. '{"step":3,"loss":9}\n')
  local out, err = followed "wait_for 'step 3'; mv dropped log.jsonl; wait_for 'loss 9'"
  t.ok(out:match "step 3 | loss 3.0000[^\n]*\nstep 3 | loss 9.0000\n$" and select(2, out:gsub("step 2", "")) == 1,
    "a resumed run: the records that differ", out)
  t.equal(err, "quench: ./log.jsonl was written anew, to go on behind step 2\n", "which is said")
  write(lines[1])
  q.system.write_file(dir .. "/anew", '{"step":1,"loss":7}\n' .. ('{"step":2,"loss":8}\n'):rep(3))
  out, err = followed "wait_for 'step 1'; mv anew log.jsonl; wait_for 'loss 8'"
  t.ok(out:match "loss 5.0000[^\n]*\nstep 1 | loss 7.0000\nstep 2 | loss 8.0000\nstep 2", "a longer one, run anew", out)
  t.equal(err, "quench: ./log.jsonl was written anew\n", "said, too")
  out = followed "wait_for 'loss 8'; rm log.jsonl; wait_for anew; printf '{\"step\":1,\"loss\":6}\\n' > log.jsonl; wait_for 'loss 6'"
  t.ok(out:match "loss 8.0000[^\n]*\nstep 1 | loss 6.0000\n$", "one that is gone for a while", out)
end)

--- Folders as a recipe leaves them: its own log with events, and two trainings that it shares.
local function recipe_folders(events)
  sh(base .. "rm -rf out && mkdir -p out/decay/aa out/shared/one out/shared/two")
  q.system.write_file(dir .. "/out/shared/one/log.jsonl", lines[1] .. lines[2])
  q.system.write_file(dir .. "/out/shared/two/log.jsonl", lines[1] .. lines[2] .. lines[3])
  q.system.write_file(dir .. "/out/decay/aa/log.jsonl", table.concat(events, "\n") .. "\n")
  for minutes, folder in ipairs{"shared/two", "decay/aa", "shared/one"} do
    sh(base .. ("touch -d '-%d minutes' out/%s/log.jsonl"):format(minutes, folder))
  end
end

local begin, work, over = '{"event":"start","time":0}', '{"event":"work","folder":"../../shared/%s","time":1}', '{"event":"end","time":3.5}'

tap.test("a folder of folders", function(t)
  local function drawn(path) return (sh(base .. "$Q watch --once " .. path)) end
  recipe_folders{begin, work:format("two"), work:format("one")}
  t.ok(drawn("out"):find("^out/shared/two/log.jsonl\n.*step 3 |"), "the log that was written last", drawn "out")
  t.ok(drawn("out/decay/aa"):find("^out/shared/one/log.jsonl\n.*step 2 |"), "a recipe's folder: what it trains last", drawn "out/decay/aa")
  t.equal(drawn "out/decay/", drawn "out/decay/aa", "or the folder of its runs")
  local here = sh(base .. "cd out/decay/aa && $Q watch --once .")
  t.ok(here:find("^./../../shared/one/log.jsonl\n.*step 2 |"), "or where one is", here)
  recipe_folders{begin, work:format("two"), over}
  t.ok(drawn("out/decay"):find("step 3 |", 1, true), "also when it has ended", drawn "out/decay")
  recipe_folders{begin, work:format("two"), '{"error":0.25,"width":8}'}
  t.ok(drawn("out/decay"):find("step 1 | error 0.25 | width 8\n$"), "unless it has logged something itself", drawn "out/decay")
  recipe_folders{begin, work:format("gone"), over}
  t.ok(drawn("out/decay"):find("no records yet; end after 3.5 s\n$"), "events are no records", drawn "out/decay")
  sh(base .. "touch out/shared/one/log.jsonl")
  t.ok(drawn("out"):find("^out/shared/one/"), "a log that goes on", drawn "out")
end)

tap.test("a recipe followed from training to training", function(t)
  recipe_folders{begin, work:format("one")}
  write ""
  local out, err = sh(("cd '%s'"):format(dir) .. [[;
    timeout 60 $Q watch out/decay > lines 2> said & pid=$!
    wait_for() { for i in $(seq 200); do grep -q "$1" lines said && return; sleep 0.05; done; }
    wait_for 'step 2'; echo ']] .. work:format("two") .. [[' >> out/decay/aa/log.jsonl; wait_for 'step 3'
    kill $pid; wait $pid 2>/dev/null
    cat lines; cat said >&2]])
  t.ok(out:find "^step 1 [^\n]*\nstep 2 [^\n]*\nstep 1 [^\n]*\nstep 2 [^\n]*\nstep 3 [^\n]*\n$", "the records of both", out)
  t.ok(err:find("shared/one/log.jsonl\n.*following .*shared/two/log.jsonl\n$"), "each is said", err)
end)

sh.clean()
tap.done()

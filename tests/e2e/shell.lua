-- What docs/shell says of the command line: the man page and the completions know every command.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"

--- The commands that `quench --help` lists.
local function commands()
  local list, seen = {}, {}
  for name in sh("$Q --help"):gmatch("\n  quench (%l+)[^\n]*") do
    if not seen[name] then list[#list + 1] = name end
    seen[name] = true
  end
  return list
end

--- What bash offers for the last of the words of a command line.
local function offered(words)
  return sh(([[bash -c 'shopt -s expand_aliases; compopt() { :; }; source docs/shell/quench.bash; cd /
    COMP_WORDS=("$Q" %s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _quench; printf "%%s\n" "${COMPREPLY[@]}"']]):format(words))
end

local function has(text, word) return ("\n" .. text .. "\n"):find("\n" .. word .. "\n", 1, true) ~= nil end

tap.test("every command", function(t)
  local list = commands()
  t.ok(#list >= 12, "the help text lists commands", table.concat(list, " "))
  local page, zsh, bash = q.system.read_file "docs/shell/quench.1", q.system.read_file "docs/shell/_quench", offered '""'
  for _, name in ipairs(list) do
    t.ok(page:find("\n%.B[IR]? \"?" .. name .. "[ \"\n]"), name .. " is in the man page")
    t.ok(has(bash, name), name .. " completes in bash", bash)
    t.ok(zsh:match("compadd %-%- ([^\n]*)"):find("%f[%w]" .. name .. "%f[%W]"), name .. " completes in zsh")
  end
end)

tap.test("options", function(t)
  local run = offered 'run decay "--"'
  for _, option in ipairs{"--steps=", "--seed=", "--scale=", "--index=", "--emit=", "--force", "--list"} do
    t.ok(has(run, option), "run decay " .. option, run)
  end
  t.ok(not has(run, "--smoke="), "a scale is no option", run)
  t.equal(offered 'run decay "--scale" "=" "t"', "tiny\n", "the scales of a recipe")
  t.equal(offered 'run decay "--emit" "="', "slurm\nparallel\n", "the choices of an option")
  t.equal(offered 'run decay "--out" "=" "/et"', "/etc\n", "else files")
  local all = offered 'run all "--"'
  t.ok(has(all, "--index=") and has(all, "--quiet") and not has(all, "--steps="), "run all", all)
  t.ok(has(offered 'run "a"', "all"), "all stands among the recipes")
  local replication = offered 'replication "--"'
  t.equal(replication, "--out=\n--write=\n--scale=\n--help\n", "replication")
  t.ok(has(offered 'quantize "--b"', "--bits=") and has(offered 'eval "--t"', "--text="), "quantize and eval")
  local page = q.system.read_file "docs/shell/quench.1"
  for _, option in ipairs{"list", "index", "emit", "seeds", "scale", "out", "force", "write"} do
    t.ok(page:find("\\-\\-" .. option, 1, true), "--" .. option .. " is in the man page")
  end
end)

tap.test("keys in bash", function(t)
  local terminal = dofile "tests/terminal.lua"
  local folder = sh.folder()
  local begin = "cd %s && mkdir -p bin 'a folder' && ln -sf \"$Q\" bin/quench && PATH=$PWD/bin:$PATH exec bash --norc --noprofile -i"
  local s = terminal.open(begin:format(folder), {columns = 120, environment = {HOME = folder, PS1 = "ready> "}})
  if not s then return t.ok(true, "no pseudo-terminals here: not tried") end
  s:expect "ready> "
  s:send("source '" .. q.system.directory() .. "/docs/shell/quench.bash'\r")
  s:expect "ready> "
  for _, step in ipairs{{"quench run dec\t", "ay "}, {"--sc\t", "ale="}, {"t\t", "iny "}, {"--st\t", "eps="}, {"5 --emi\t", "t="}, {"s\t", "lurm "},
  } do
    s:send(step[1])
    t.ok(s:expect(step[2], 10), step[1]:gsub("\t", "<Tab>"), s.output)
  end
  t.ok(not s.output:find("\\=", 1, true), "no sign is quoted", s.output)
  s:send "\21quench watch a\t" -- Ctrl-U: another line
  t.ok(s:expect("\\ folder/", 10), "a folder's name is quoted and goes on", s.output)
  s:close()
end)

sh.clean()
tap.done()

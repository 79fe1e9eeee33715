--- shell.lua - runs shell lines for the end-to-end tests, with $Q as the binary under test.
--
--   local sh = dofile "tests/shell.lua"
--   local stdout, stderr, status = sh [[$Q -e 'print(1)']]
--   local folder = sh.folder()       -- a fresh folder, removed by sh.clean()

local binary = os.getenv("QUENCH_BINARY") or "build/quench"
if binary:sub(1, 1) ~= "/" then binary = q.system.directory() .. "/" .. binary end

local shell = {folders = {}}

--- A fresh folder under TMPDIR.
function shell.folder()
  local path = os.tmpname()
  os.remove(path)
  q.system.make_directories(path)
  shell.folders[#shell.folders + 1] = path
  return path
end

function shell.clean()
  for _, path in ipairs(shell.folders) do os.execute("rm -rf '" .. path .. "'") end
  shell.folders = {}
end

--- Runs a line of sh. Returns stdout, stderr and the exit status.
function shell.run(line)
  local errors = os.tmpname()
  local pipe = io.popen(("export Q='%s'; { %s\n} 2>%s; s=$?; echo; echo $s"):format(binary, line, errors))
  local out = pipe:read("*a")
  pipe:close()
  local file = io.open(errors)
  local stderr = file:read("*a")
  file:close()
  os.remove(errors)
  local text, status = out:match("^(.*)\n(%d+)\n$")
  return text, stderr, tonumber(status)
end

return setmetatable(shell, {__call = function(_, line) return shell.run(line) end})

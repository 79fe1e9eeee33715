-- Figures in the terminal: what p:show() writes to terminals that answer in different ways.
local tap = dofile "tests/tap.lua"
local sh = dofile "tests/shell.lua"
local terminal = dofile "tests/terminal.lua"
local c = require "quench.c.plot"
local dir = sh.folder()

local KITTY_QUESTION, ATTRIBUTES = "\27_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\27\\", "\27[c"

q.system.write_file(dir .. "/show.lua", [[
local x, y = {}, {}
for i = 1, 50 do x[i], y[i] = i, math.sin(i / 5) end
q.plot{title = "A sine", x = "step", y = "loss", {"line", x, y, label = "sine"}}:show{path = arg[1]}
]])

--- Shows a figure in a terminal that gives those answers. Returns its output without line ends of a terminal, and the path of the PNG.
local function shown(o)
  local path = dir .. "/figure.png"
  os.remove(path)
  local s = terminal.open(("$Q %s/show.lua %s"):format(dir, path), o)
  local out, status = s:close()
  return out:gsub("\r\n", "\n"), path, status
end

local digits = {}
for i = 0, 63 do digits[("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"):byte(i + 1)] = i end

local function unbase64(text)
  local out = {}
  for a, b, e, f in text:gmatch("(.)(.)(.)(.)") do
    local v = digits[a:byte()] * 2 ^ 18 + digits[b:byte()] * 2 ^ 12 + (digits[e:byte()] or 0) * 64 + (digits[f:byte()] or 0)
    local three = string.char(math.floor(v / 65536), math.floor(v / 256) % 256, v % 256)
    out[#out + 1] = three:sub(1, e == "=" and 1 or f == "=" and 2 or 3)
  end
  return table.concat(out)
end

--- Width and height of a PNG in memory; an error if it is none.
local function size_of(png)
  local path = dir .. "/decoded.png"
  q.system.write_file(path, png)
  local width, height = c.decode(path)
  return width, height
end

--- The parts of kitty's messages but for the question: keys and payloads.
local function kitty_parts(out)
  local keys, payloads = {}, {}
  for k, p in out:gmatch("\27_G([^;\27]*);([^\27]*)\27\\") do
    if not k:find("a=q", 1, true) then keys[#keys + 1], payloads[#payloads + 1] = k, p end
  end
  return keys, payloads
end

local function check_kitty(t, out, path)
  local keys, payloads = kitty_parts(out)
  if not t.ok(#keys > 1, "kitty: several messages", out:sub(1, 300)) then return end
  local good = keys[1]:find("a=T", 1, true) and keys[1]:find("f=100", 1, true)
  for i, k in ipairs(keys) do
    good = good and k:match("m=(%d)") == (i < #keys and "1" or "0") and #payloads[i] <= 4096 and (i == #keys or #payloads[i] % 4 == 0)
    good = good and (i == 1 or k:match("^m=%d$"))
  end
  t.ok(good, "kitty: transmit and display a PNG; pieces of at most 4096, a multiple of four; more to come but for the last",
    table.concat(keys, " | "))
  local width, height = size_of(unbase64(table.concat(payloads)))
  t.ok(width > 100 and height > 100, "kitty: the pieces are a PNG")
  t.ok(out:find(path .. "\n", 1, true) and size_of(q.system.read_file(path)), "kitty: the file is there too, and its path is printed")
  return width
end

if not terminal.open("true") then
  tap.test("terminals", function(t) t.ok(true, "no pseudo-terminals here: not tried") end)
  sh.clean()
  return tap.done()
end

tap.test("a terminal that answers kitty's question", function(t)
  local out, path, status = shown{answers = {[KITTY_QUESTION] = "\27_Gi=31;OK\27\\", [ATTRIBUTES] = "\27[?62;22c"}}
  t.equal(status, 0, "status")
  check_kitty(t, out, path)
  t.ok(not out:find("[\226][\160-\163]"), "no braille beside it")
  out, path = shown{columns = 60, rows = 30, pixels = {600, 600}, answers = {[KITTY_QUESTION] = "\27_Gi=31;OK\27\\", [ATTRIBUTES] = "\27[?62;22c"}}
  t.near(check_kitty(t, out, path), 590, 0.01, "as wide as 59 cells of 10 pixels where the terminal says how large they are")
  out = shown{answers = {[KITTY_QUESTION] = "\27_Gi=31;ENOTSUPPORTED\27\\", [ATTRIBUTES] = "\27[?62;22c"}}
  t.ok(#kitty_parts(out) == 0 and out:find("\226[\160-\163]"), "an answer that is no OK is none")
end)

--- Reads sixels. Returns width, height, how many pixels are painted, and how many twice.
local function sixels(text)
  local width, height, body = text:match('\27P[%d;]*q"1;1;(%d+);(%d+)(.-)\27\\')
  if not width then return end
  width, height = tonumber(width), tonumber(height)
  local painted, twice, x, top, at, seen = 0, 0, 0, 0, 1, {}
  body = body:gsub("#%d+;2;%d+;%d+;%d+", "")
  while at <= #body do
    local count, char, after = body:match("^!(%d+)(.)()", at)
    if not count then count, char, after = 1, body:sub(at, at), at + 1 end
    if char == "$" then x = 0
    elseif char == "-" then x, top = 0, top + 6
    elseif char == "#" then after = body:match("^#%d+()", at)
    else
      for _ = 1, count do
        for bit = 0, 5 do
          if math.floor((char:byte() - 63) / 2 ^ bit) % 2 == 1 then
            local place = (top + bit) * width + x
            if seen[place] then twice = twice + 1 else seen[place], painted = true, painted + 1 end
          end
        end
        x = x + 1
      end
    end
    at = after
  end
  return width, height, painted, twice
end

tap.test("a terminal with sixels", function(t)
  local out, path, status = shown{answers = {[ATTRIBUTES] = "\27[?62;4;22c"}}
  t.equal(status, 0, "status")
  local width, height, painted, twice = sixels(out)
  t.ok(width and width > 100 and painted == width * height and twice == 0, "every pixel has one colour",
    ("%s x %s, %s painted, %s twice"):format(width, height, painted, twice))
  t.ok(out:find(path, 1, true), "the path is printed")
  t.ok(not shown{answers = {[ATTRIBUTES] = "\27[?62;14;42c"}}:find("\27P", 1, true), "14 and 42 are no 4")
end)

tap.test("iTerm2", function(t)
  for _, where in ipairs{{TERM_PROGRAM = "iTerm.app"}, {LC_TERMINAL = "iTerm2"}} do
    local out, path, status = shown{environment = where}
    local keys, text = out:match("\27%]1337;File=([^:]*):([^\7]*)\7")
    if not t.ok(status == 0 and keys, "its message", out:sub(1, 300)) then return end
    local png = unbase64(text)
    t.ok(keys:find("inline=1", 1, true) and tonumber(keys:match("size=(%d+)")) == #png and size_of(png) > 100, "a PNG of the size it says", keys)
    t.ok(not out:find(ATTRIBUTES, 1, true), "known without a question")
    t.ok(out:find(path, 1, true), "the path is printed")
  end
end)

tap.test("inside tmux", function(t)
  local out = shown{environment = {TMUX = "/tmp/tmux,1,0", LC_TERMINAL = "iTerm2"}}
  t.ok(out:match("\27Ptmux;\27\27%]1337;File=inline=1;size=%d+:[%w+/=]+\7\27\\"), "iTerm2's message is wrapped", out:sub(1, 100))
  out = shown{environment = {TMUX = "/tmp/tmux,1,0", QUENCH_GRAPHICS = "kitty"}}
  local unwrapped = out:gsub("\27Ptmux;(.-)\27\\\27\\", function(inner) return (inner .. "\27\\"):gsub("\27\27", "\27") end)
  local keys, payloads = kitty_parts(unwrapped)
  t.ok(#keys > 1 and size_of(unbase64(table.concat(payloads))) > 100, "each of kitty's messages is wrapped", out:sub(1, 200))
end)

tap.test("characters", function(t)
  local braille = "\226[\160-\163]"
  local out, path, status = shown{answers = {[ATTRIBUTES] = "\27[?62;22c"}}
  t.ok(status == 0 and out:find(braille) and out:find("A sine", 1, true) and out:find("step", 1, true), "braille with labels", out)
  t.ok(out:find("\27[38;5;", 1, true), "in colours")
  t.ok(out:find(path, 1, true) and q.system.exists(path), "the PNG is saved and its path printed")
  t.ok(shown{answers = {[ATTRIBUTES] = "\27[?1c"}, environment = {COLORTERM = "truecolor"}}:find("\27[38;2;", 1, true), "true colours")
  out = shown{answers = {[ATTRIBUTES] = "\27[?62;22c"}, environment = {NO_COLOR = "1"}}
  t.ok(out:find(braille) and not out:find("\27[[]%d*;?%d*;?%d*;?%d*m"), "NO_COLOR: no colours", out)
  local start = q.system.clock()
  out, path, status = shown{}
  t.ok(status == 0 and out:find(braille) and q.system.clock() - start < 5, "a terminal that does not answer is not waited for", out .. path)
  out, path, status = shown{columns = 0, rows = 0, environment = {QUENCH_GRAPHICS = "text"}}
  t.ok(status == 0 and out:find(braille), "a terminal without a size", out .. path)
  out, path, status = shown{columns = 9, rows = 3, environment = {QUENCH_GRAPHICS = "text"}}
  t.ok(status == 0 and out:find(path, 1, true), "a tiny one", out)
  out, path, status = shown{environment = {TERM = "dumb"}}
  t.equal(out .. status, path .. "\n0", "a dumb one: the path alone")
  out, path, status = shown{environment = {LANG = "C", QUENCH_GRAPHICS = "text"}}
  t.equal(out .. status, path .. "\n0", "one that does not read UTF-8: the path alone")
end)

sh.clean()
tap.done()

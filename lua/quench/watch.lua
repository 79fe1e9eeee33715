--- quench watch PATH: follows the log.jsonl of a run in the terminal, as a curve of the loss and its latest numbers.
--
-- In a terminal the picture is redrawn about once a second; elsewhere every new record is a plain line.
-- `--once` draws once. A line without its end of line is still being written, and is left for later.

local find = require "quench.watch.find"
local json = require "quench.json"
local machine = require "quench.c.machine"
local options = require "quench.options"
local system = require "quench.c.system"

local watch = {}

local PAUSE = 1    -- seconds between looks at the file
local POINTS = 400 -- of the curve; more are averaged
local BACK = 20    -- records over which tokens a second are counted
local TAIL = 512   -- bytes compared, to see that the file is still the same

local usage = [[
quench watch PATH [--once]

  PATH     a log.jsonl, or a folder: the log in it that is written now; out is what any recipe trains
  --once   draw once and end
]]

local Log = {}
Log.__index = Log

local function fail(format, ...) error(format:format(...), 0) end

--- The log that a path means now, with nothing read; `old`: the one watched so far, which stays where it is the same.
local function log_of(path, old)
  local place = find.log(path, old and old.path)
  if old and (not place or place == old.path) then return old end
  if not place then fail("no log.jsonl in or below '%s'", path) end
  local log = setmetatable({path = place}, Log)
  log:restart()
  return log
end

--- Forgets what was read. `tail` is what was read last: a file that has other bytes there is another one.
function Log:restart()
  self.records, self.at, self.line, self.rest, self.bad, self.tail, self.event = {}, 0, 0, "", {}, "", nil
end

--- Is the file another one than was read so far? A resumed run drops records, a run forced anew all of them.
function Log:changed(size)
  if size < self.at then return true end
  local file = self.at > 0 and io.open(self.path, "rb")
  if not file then return false end
  file:seek("set", self.at - #self.tail)
  local same = file:read(#self.tail) == self.tail
  file:close()
  return not same
end

--- Reads one whole line. What is wrong with it is kept, and returned.
function Log:take(text)
  self.line = self.line + 1
  if text:match("^%s*$") then return end
  local good, record = pcall(json.decode, text, {name = ("%s line %d"):format(self.path, self.line)})
  if good and (type(record) ~= "table" or #record > 0) then
    good, record = false, ("%s line %d: not an object"):format(self.path, self.line)
  end
  if good and record.event then self.event = record return end -- a recipe's begin and end, and work it waits for
  if good then self.records[#self.records + 1] = record return end
  self.bad[#self.bad + 1] = tostring(record):match("[^\n]*") .. " (left out)"
end

--- The number of the first record that differs from those before a restart.
local function first_difference(new, old)
  local i = 1
  while old[i] and new[i] and json.encode(old[i]) == json.encode(new[i]) do i = i + 1 end
  return i
end

--- Reads what is new. Returns the number of the first new record and of the first new complaint, and whether the file was
-- replaced; then records that are as they were are not new.
function Log:read()
  local size = system.exists(self.path) and system.size(self.path) or 0
  if not self:changed(size) then return self:read_on(size) end
  local old = self.records
  self:restart()
  local _, wrong = self:read_on(size)
  return first_difference(self.records, old), wrong, true
end

--- Reads from where it was to the end of the file.
function Log:read_on(size)
  local first, wrong = #self.records + 1, #self.bad + 1
  local file = size > self.at and io.open(self.path, "rb")
  if not file then return first, wrong end
  file:seek("set", self.at)
  local new = file:read("*a") or ""
  file:close()
  self.at = self.at + #new
  self.tail = (self.tail .. new):sub(-TAIL)
  local text, from = self.rest .. new, 1
  for line, after in text:gmatch("([^\n]*)\n()") do
    self:take(line)
    from = after
  end
  self.rest = text:sub(from)
  return first, wrong
end

local function finite(v)
  v = tonumber(v)
  return v and v - v == 0 and v or nil
end

local function tokens_rate(records)
  local last = records[#records]
  if finite(last.tokens_per_second) then return finite(last.tokens_per_second) end
  local before = records[math.max(1, #records - BACK)]
  local tokens, seconds = finite(last.tokens), finite(last.time)
  if not (tokens and seconds and finite(before.tokens) and finite(before.time)) then return end
  tokens, seconds = tokens - before.tokens, seconds - before.time
  if tokens > 0 and seconds > 0 then return tokens / seconds end
end

local known = {step = true, loss = true, eval_loss = true, lr = true, scale = true, grad_norm = true, tokens = true, time = true}

--- What a record has besides, by name: at most four numbers.
local function others(r)
  local names = {}
  for name, v in pairs(r) do
    if not known[name] and tonumber(v) then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do names[i] = ("%s %.4g"):format(name, tonumber(r[name])) end
  return table.concat(names, " | ", 1, math.min(#names, 4))
end

--- The numbers of record i as one line.
function Log:numbers(i)
  local r, parts = self.records[i], {}
  local function add(format, v) if v then parts[#parts + 1] = format:format(v) end end
  add("step %.0f", finite(r.step) or i)
  add("loss %.4f", tonumber(r.loss))
  add("eval %.4f", tonumber(r.eval_loss))
  if r.lr then add("lr %.3g", tonumber(r.lr)) else add("rate x %.3g", tonumber(r.scale)) end
  add("|g| %.3g", tonumber(r.grad_norm))
  if i == #self.records then add("%.0f tokens/s", tokens_rate(self.records)) end
  if not r.loss then add("%s", others(r):match(".+")) end
  return table.concat(parts, " | ")
end

--- Steps and losses of the curve, neighbours averaged where there are many.
function Log:curve()
  local steps, losses = {}, {}
  for i, r in ipairs(self.records) do
    local loss = finite(r.loss)
    if loss then steps[#steps + 1], losses[#losses + 1] = finite(r.step) or i, loss end
  end
  local each = math.ceil(#steps / POINTS)
  if each <= 1 then return steps, losses end
  local x, y = {}, {}
  for from = 1, #steps, each do
    local sum, n = 0, math.min(each, #steps - from + 1)
    for i = from, from + n - 1 do sum = sum + losses[i] end
    x[#x + 1], y[#y + 1] = steps[from + n - 1], sum / n
  end
  return x, y
end

--- What there is to say: the latest numbers, else how far a recipe is.
function Log:state()
  if #self.records > 0 then return self:numbers(#self.records) end
  local e = self.event
  return e and ("no records yet; %s%s"):format(e.event, finite(e.time) and (" after %.3g s"):format(e.time) or "") or "no records yet"
end

--- The picture: a title, the curve, the latest numbers, the latest complaint.
function Log:picture(columns, rows)
  local show = require "quench.plots.show"
  local lines = {self.path}
  local x, y = self:curve()
  if #x > 1 and show.unicode() and columns >= 20 and rows >= 9 then
    local figure = require("quench.plots.plot"){x = "step", y = "loss", {"line", x = x, y = y}}
    lines[#lines + 1] = show.text(figure, columns, rows - 4, system.is_terminal(1) and show.colours() or 0):gsub("\n+$", "")
  end
  lines[#lines + 1] = self:state()
  if #self.bad > 0 then lines[#lines + 1] = self.bad[#self.bad] end
  return lines
end

local function complain(message) io.stderr:write("quench: ", message, "\n") end

local function once(log)
  log:read()
  for _, message in ipairs(log.bad) do complain(message) end
  log.bad = {}
  if log.rest ~= "" then complain(("%s line %d: half-written (left out)"):format(log.path, log.line + 1)) end
  local columns, rows = machine.terminal_size(1)
  io.write(table.concat(log:picture(math.min(100, (columns or 80) - 1), math.min(30, rows or 24)), "\n"), "\n")
end

local function follow_lines(path)
  local log
  while true do
    local old = log
    log = log_of(path, log)
    if log ~= old and log.path ~= path and log.path ~= path .. "/log.jsonl" then complain("following " .. log.path) end
    local first, wrong, anew = log:read()
    if anew then complain(("%s was written anew%s"):format(log.path, log.records[first - 1]
      and (", to go on behind step %.0f"):format(finite(log.records[first - 1].step) or first - 1) or "")) end
    for i = wrong, #log.bad do complain(log.bad[i]) end
    for i = first, #log.records do io.write(log:numbers(i), "\n") end
    io.flush()
    system.sleep(PAUSE)
  end
end

--- Draws on the terminal's second screen; the first one comes back however it ends.
local function follow_screen(path)
  local log = log_of(path)
  io.write("\27[?1049h\27[?25l")
  local _, message = pcall(function()
    while true do
      log = log_of(path, log)
      log:read()
      local columns, rows = machine.terminal_size(1)
      columns, rows = columns or 80, rows or 24
      local lines = log:picture(columns - 1, rows)
      for i, line in ipairs(lines) do
        if not line:find("[\n\27]") then lines[i] = line:sub(1, columns - 1) end
      end
      io.write("\27[H", (table.concat(lines, "\n"):gsub("\n", "\27[K\n")), "\27[K\27[J")
      io.flush()
      system.sleep(PAUSE)
    end
  end)
  io.write("\27[?25h\27[?1049l")
  if #log.records > 0 then io.write(log:numbers(#log.records), "\n") end
  io.flush()
  error(message, 0)
end

function watch.main(arguments)
  local path, single
  for _, word in ipairs(arguments) do
    if word == "--help" then io.write(usage) return 0 end
    if word == "--once" then single = true
    elseif word:sub(1, 1) == "-" then fail("watch: unknown option '%s'%s", word, options.suggest(word, {"--once", "--help"}))
    elseif path then fail("watch: one PATH expected, got '%s' too", word)
    else path = word end
  end
  if not path then fail("watch needs a log.jsonl or a folder with one, as in: quench watch out") end
  if not system.kind(path) then fail("no file or folder '%s'", path) end
  if single then return once(log_of(path)) end
  if system.is_terminal(1) and os.getenv("TERM") ~= "dumb" then return follow_screen(path) end
  return follow_lines(path)
end

return watch

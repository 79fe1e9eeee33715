--- terminal.lua - a simulated terminal for the end-to-end tests: a pseudo-terminal that knows its size,
-- answers questions, types and reads.
--
--   local terminal = dofile "tests/terminal.lua"
--   local s = terminal.open("$Q", {columns = 80, rows = 24, environment = {NO_COLOR = "1"}, answers = {["\27[c"] = "\27[?62;4c"}})
--   s:send "1 + 1\r"                  -- as keys
--   s:expect "2\r\n"                  -- waits for output after what was expected before; true if it came
--   local output, status = s:close()  -- hangs up (SIGHUP) where the program still runs
-- open gives nil where there are no pseudo-terminals.

local ffi = require "ffi"

ffi.cdef [[
int posix_openpt(int flags); int grantpt(int fd); int unlockpt(int fd); char *ptsname(int fd);
int fork(void); int setsid(void); int open(const char *path, int flags, ...); int dup2(int from, int to); int close(int fd);
int ioctl(int fd, unsigned long request, ...); int execve(const char *path, const char *const *arguments, const char *const *environment);
long read(int fd, void *to, size_t bytes); long write(int fd, const void *from, size_t bytes);
struct window_size { unsigned short rows, columns, width, height; };
struct poll_entry { int fd; short events, found; };
int poll(struct poll_entry *list, unsigned long count, int milliseconds);
int waitpid(int process, int *status, int options); int kill(int process, int signal); void _exit(int status);
]]

local C = ffi.C
local O_RDWR, O_NOCTTY, O_NONBLOCK, TIOCSWINSZ, TIOCSCTTY, POLLIN, WNOHANG = 2, 256, 2048, 0x5414, 0x540E, 1, 1
local SIGKILL, SIGHUP = 9, 1

local terminal = {}
local Session = {}
Session.__index = Session

local binary = os.getenv("QUENCH_BINARY") or "build/quench"
if binary:sub(1, 1) ~= "/" then binary = q.system.directory() .. "/" .. binary end

--- "NAME=value" texts for execve, from what a test sets over a small, known environment.
local function environment(given, wait)
  local all = {PATH = os.getenv("PATH"), HOME = "/nonexistent", TERM = "xterm-256color", LANG = "C.UTF-8", Q = binary,
    TMPDIR = os.getenv("TMPDIR"), OMP_NUM_THREADS = os.getenv("OMP_NUM_THREADS"), ASAN_OPTIONS = os.getenv("ASAN_OPTIONS"),
    LSAN_OPTIONS = os.getenv("LSAN_OPTIONS"), UBSAN_OPTIONS = os.getenv("UBSAN_OPTIONS"), QUENCH_FONT = os.getenv("QUENCH_FONT"),
    QUENCH_TERMINAL_WAIT = wait}
  for name, value in pairs(given or {}) do all[name] = value end
  local list = {}
  for name, value in pairs(all) do
    if value then list[#list + 1] = name .. "=" .. value end
  end
  return list
end

local function strings(list)
  local array = ffi.new("const char *[?]", #list + 1)
  for i, text in ipairs(list) do array[i - 1] = text end
  return array
end

--- Starts a line of sh in a new terminal. o: columns, rows (0: unknown), pixels = {width, height}, environment, answers.
-- A program whose questions are answered waits for that, however busy the machine is.
function terminal.open(line, o)
  o = o or {}
  local master = C.posix_openpt(O_RDWR + O_NOCTTY + O_NONBLOCK)
  if master < 0 or C.grantpt(master) ~= 0 or C.unlockpt(master) ~= 0 then return nil end
  local slave_path = ffi.string(C.ptsname(master))
  local pixels = o.pixels or {0, 0}
  local size = ffi.new("struct window_size", o.rows or 24, o.columns or 80, pixels[1], pixels[2])
  local words, settings = {"sh", "-c", line}, environment(o.environment, o.answers and "20000")
  local arguments, variables = strings(words), strings(settings)
  local held = C.open(slave_path, O_RDWR + O_NOCTTY) -- until the program has opened its end, ours would read as hung up
  local process = C.fork()
  if process == 0 then
    C.setsid()
    local slave = C.open(slave_path, O_RDWR)
    C.ioctl(slave, TIOCSCTTY, 0)
    C.ioctl(slave, TIOCSWINSZ, size)
    for fd = 0, 2 do C.dup2(slave, fd) end
    C.close(master)
    C.close(held)
    C.execve("/bin/sh", arguments, variables)
    C._exit(127)
  end
  if process < 0 then C.close(master) C.close(held) return nil end
  return setmetatable({fd = master, held = held, process = process, output = "", at = 1, answers = o.answers or {}, answered = 1}, Session)
end

--- Sends keys. A terminal holds about 4,000 that nobody has read, and a program that writes while nobody reads stops:
-- so both go in turns. Returns whether all were taken within the time.
function Session:send(text, seconds)
  local stop = q.system.clock() + (seconds or 20)
  while #text > 0 and q.system.clock() < stop do
    local n = tonumber(C.write(self.fd, text, math.min(#text, 1024)))
    text = text:sub(math.max(n, 0) + 1)
    if #text > 0 then self:gather(n > 0 and 0 or 10) end
  end
  return text == ""
end

--- The question asked first since the last answer, and where it ends.
function Session:asked()
  local first, place
  for question in pairs(self.answers) do
    local _, last = self.output:find(question, self.answered, true)
    if last and (not place or last < place) then first, place = question, last end
  end
  return first, place
end

--- Answers each question that has come since the last look, once each time it is asked, in the order of asking.
function Session:answer()
  local question, last = self:asked()
  while question do
    self.answered = last + 1
    self:send(self.answers[question])
    question, last = self:asked()
  end
end

--- Lets go of the program's end, once it has written something or must have started.
function Session:let_go()
  if self.held then C.close(self.held) end
  self.held = nil
end

local bytes = ffi.new("char[4096]")

--- Reads what comes within the time. false at the end of output.
function Session:gather(milliseconds)
  local p = ffi.new("struct poll_entry", self.fd, POLLIN, 0)
  if C.poll(p, 1, milliseconds) <= 0 then return true end
  local n = tonumber(C.read(self.fd, bytes, 4096))
  if n <= 0 then return false end
  self:let_go()
  self.output = self.output .. ffi.string(bytes, n)
  self:answer()
  return true
end

--- Waits until the text (plain, or a pattern) comes, after what was expected before. Returns whether it did.
function Session:expect(text, seconds, pattern)
  local stop = q.system.clock() + (seconds or 20)
  repeat
    local _, last = self.output:find(text, self.at, not pattern)
    if last then
      self.at = last + 1
      return true
    end
  until not self:gather(50) or q.system.clock() > stop
  return false
end

--- What came since the last expected text.
function Session:rest() return self.output:sub(self.at) end

--- Waits for the end of the program (it is hung up after `seconds`). Returns all output and the exit status, nil if it was killed.
function Session:close(seconds)
  local stop, status, done = q.system.clock() + (seconds or 20), ffi.new("int[1]"), false
  local function ended() done = done or C.waitpid(self.process, status, WNOHANG) == self.process return done end
  while self.held and not ended() and q.system.clock() < stop do self:gather(20) end -- nothing written yet
  self:let_go()
  while self:gather(20) and q.system.clock() < stop do end
  while not ended() and q.system.clock() < stop do q.system.sleep(0.01) end
  local killed = not ended()
  if killed then
    C.kill(self.process, SIGHUP)
    q.system.sleep(0.3)
    if not ended() then C.kill(self.process, SIGKILL) end
    while not ended() do q.system.sleep(0.01) end
  end
  C.close(self.fd)
  if not killed and status[0] % 128 == 0 then return self.output, math.floor(status[0] / 256) end
  return self.output, nil
end

return terminal

--- Progress: one line on stderr that says how far a run is, how fast it goes and how it does.
--
--   local bar = q.progress{total = 1000, label = "training"}
--   for step = 1, 1000 do
--     ...
--     bar:update(step, {loss = loss, lr = lr, grad_norm = norm, tokens = step * 4096})
--   end
--   bar:finish()
--
-- On a terminal the line is redrawn at most ten times a second; elsewhere a plain line is
-- printed every ten seconds. Bars nest: the outer one (seeds of a sweep, budgets of a study)
-- shows as a prefix of the inner one's line.

local system = require "quench.c.system"
local machine = require "quench.c.machine"
local help = require "quench.help"
local options = require "quench.options"

local progress = {}

local REDRAW, BUCKET, BUCKETS = 0.1, 0.5, 60 -- seconds, seconds, how many buckets the rate looks back

local stack = {}    -- bars not yet finished, outermost first
local shown = false -- whether the terminal's last line is ours

local spec = options.spec("q.progress", {
  {"total", "integer", min = 0, doc = "steps to come; without it there is no ETA"},
  {"label", "string", default = "", doc = "what is being done"},
  {"unit", "string", default = "", doc = "what a step is, where there is room"},
  {"start", "integer", default = 0, min = 0, doc = "steps done before (a resumed run)"},
  {"every", "number", default = 10, above = 0, unit = "s", doc = "seconds between plain lines when stderr is not a terminal"},
  {"quiet", "boolean", default = false, doc = "print nothing"},
  {"write", "function", doc = "where the text goes (default: stderr)"},
  {"clock", "function", doc = "seconds (default: the monotonic clock)"},
  {"terminal", "boolean", doc = "redraw one line (default: whether stderr is a terminal)"},
  {"columns", "integer", min = 1, doc = "width of the line (default: the terminal's)"},
})

local function stderr(text)
  io.stderr:write(text)
  io.stderr:flush()
end

--- 3.2k, 45M: three significant digits.
local function short(x)
  for _, unit in ipairs{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} do
    if math.abs(x) >= unit[1] then return ("%.3g%s"):format(x / unit[1], unit[2]) end
  end
  return ("%.3g"):format(x)
end

--- 1:05, 2:03:20, 3d 4h.
local function duration(seconds)
  local s = math.floor(seconds + 0.5)
  if s >= 86400 then return ("%dd %dh"):format(math.floor(s / 86400), math.floor(s % 86400 / 3600)) end
  if s >= 3600 then return ("%d:%02d:%02d"):format(math.floor(s / 3600), math.floor(s % 3600 / 60), s % 60) end
  return ("%d:%02d"):format(math.floor(s / 60), s % 60)
end

local Bar = {}
Bar.__index = Bar

--- Notes how far we are, in buckets of half a second, for the rate.
local function sample(bar, now)
  local last = bar.buckets[#bar.buckets]
  if now - last.time < BUCKET then return end
  bar.buckets[#bar.buckets + 1] = {time = now, step = bar.step, tokens = bar.values.tokens}
  if #bar.buckets > BUCKETS then table.remove(bar.buckets, 1) end
end

--- Steps and tokens a second over the buckets, without those in which next to nothing happened
-- while the others moved (the laptop slept, another program had the machine).
local function rate(bar, now)
  local spans = {}
  local points = bar.buckets
  for i = 2, #points + 1 do
    local from = points[i - 1]
    local to = points[i] or {time = now, step = bar.step, tokens = bar.values.tokens}
    if to.time > from.time then
      local tokens = (to.tokens or 0) - (from.tokens or 0)
      spans[#spans + 1] = {seconds = to.time - from.time, steps = to.step - from.step, tokens = tokens}
    end
  end
  table.sort(spans, function(a, b) return a.steps * b.seconds < b.steps * a.seconds end)
  local middle = spans[math.floor(#spans / 2) + 1]
  local seconds, steps, tokens = 0, 0, 0
  for _, s in ipairs(spans) do
    if s.steps * middle.seconds * 20 >= middle.steps * s.seconds then
      seconds, steps, tokens = seconds + s.seconds, steps + s.steps, tokens + s.tokens
    end
  end
  if seconds == 0 then return 0, 0 end
  return steps / seconds, tokens / seconds
end

--- Seconds to the end, or nil before the rate is known.
function Bar:eta()
  local steps = rate(self, self.clock())
  if self.total and steps > 0 and self.step > self.start then return (self.total - self.step) / steps end
end

local function own_text(bar, now)
  local parts = {}
  local function add(format, ...) parts[#parts + 1] = format:format(...) end
  if bar.total then add("%d/%d %3.0f%%", bar.step, bar.total, bar.total > 0 and 100 * bar.step / bar.total or 100)
  else add("%d", bar.step) end
  local eta = bar:eta()
  if eta then add("ETA %s", duration(eta)) end
  local v = bar.values
  if v.loss then add("loss %.4f", v.loss) end
  if v.lr then add("lr %.3g", v.lr) end
  if v.grad_norm then add("|g| %.3g", v.grad_norm) end
  local steps, tokens = rate(bar, now)
  if tokens > 0 then add("%s tok/s", short(tokens)) elseif steps > 0 and bar.unit ~= "" then add("%s %s/s", short(steps), bar.unit) end
  for _, key in ipairs(bar.extra) do
    add("%s %s", key, type(v[key]) == "number" and ("%.4g"):format(v[key]) or tostring(v[key]))
  end
  if v.loss then add("%sB", short(system.memory().live)) end
  return (bar.label ~= "" and bar.label .. " " or "") .. table.concat(parts, " | ")
end

local function line(bar, now)
  local prefix = ""
  for _, outer in ipairs(stack) do
    if outer == bar then break end
    prefix = ("%s[%d%s%s] "):format(prefix, outer.step, outer.total and "/" .. outer.total or "",
      outer.label ~= "" and " " .. outer.label or "")
  end
  return prefix .. own_text(bar, now)
end

local function erase(bar)
  if shown then bar.write("\r\27[K") end
  shown = false
end

local function draw(bar, now)
  if bar.quiet then return end
  if bar.terminal then
    local columns = bar.columns or machine.terminal_size(2) or 80
    local text = line(bar, now)
    if #text >= columns then text = text:sub(1, math.max(1, columns - 1)) end
    bar.write("\r" .. text .. "\27[K")
    shown = true
  else
    bar.write(line(bar, now) .. "\n")
  end
  bar.drawn = now
end

local known = {loss = true, lr = true, grad_norm = true, tokens = true}

--- bar:update(step, values): values are loss, lr, grad_norm, tokens (since the start) and any others by name.
function Bar:update(step, values)
  local now = self.clock()
  self.step = step
  for key, value in pairs(values or {}) do
    if not known[key] and self.values[key] == nil then
      self.extra[#self.extra + 1] = key
      table.sort(self.extra)
    end
    self.values[key] = value
  end
  sample(self, now)
  if now - self.drawn >= (self.terminal and REDRAW or self.every) then draw(self, now) end
end

--- bar:finish(text): takes the line away, and prints text if given. Bars opened inside end too.
function Bar:finish(text)
  for i = #stack, 1, -1 do
    if stack[i] == self then
      for j = #stack, i, -1 do stack[j] = nil end
    end
  end
  if self.quiet then return end
  erase(self)
  if text then self.write(text .. "\n") end
end

--- Opens a bar; see the head of this file.
local function open(_, o)
  o = spec(o)
  if o.terminal == nil then o.terminal = system.is_terminal(2) and os.getenv("TERM") ~= "dumb" end
  local outer = stack[#stack]
  if outer and outer.quiet then o.quiet = true end
  o.clock, o.write = o.clock or system.clock, o.write or stderr
  o.step, o.values, o.extra = o.start, {}, {}
  local now = o.clock()
  o.buckets, o.drawn = {{time = now, step = o.start}}, o.terminal and now - REDRAW or now
  local bar = setmetatable(o, Bar)
  stack[#stack + 1] = bar
  return bar
end

--- Prints a line to stderr without tearing a bar that is on screen.
function progress.message(format, ...)
  local bar = stack[#stack]
  local text = select("#", ...) > 0 and format:format(...) or format
  if not bar then return stderr(text .. "\n") end
  erase(bar)
  bar.write(text .. "\n")
  if bar.terminal and bar.step > bar.start then draw(bar, bar.clock()) end
end

--- Forgets all bars and frees the line; after an error.
function progress.clear()
  if stack[#stack] then erase(stack[#stack]) end
  stack = {}
end

help.add{"q.progress", progress, "progress(options) -> bar",
  "One line on stderr: steps, percent, ETA, loss, learning rate, gradient norm, tokens a second, memory.", options = spec,
  text = [[
bar:update(step, {loss=, lr=, grad_norm=, tokens=, ...}) shows the state; other keys are shown by name.
bar:eta() gives the seconds to go, bar:finish(text) ends the line. Bars nest; q.progress.message(text)
prints a line without tearing a bar.]],
  example = [[
local bar = q.progress{total = 100, label = "counting"}
for i = 1, 100 do bar:update(i) end
bar:finish("done")]], see = {"q.train", "q.recipe"}}
help.add{"q.progress.message", progress.message, "message(format, ...)", "Prints a line to stderr without tearing a progress line.",
  example = [[q.progress.message("step %d: checkpoint written", 100)]]}
help.add{"q.progress.clear", progress.clear, "clear()", "Ends all progress lines at once, as after an error."}

return setmetatable(progress, {__call = open})

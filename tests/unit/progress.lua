-- The progress line on a made-up terminal with a made-up clock.
local tap = dofile "tests/tap.lua"
local progress = require "quench.progress"

--- A bar on a made-up terminal with a made-up clock.
local function bar_on(options)
  local screen = {text = {}, time = 0}
  options.write = function(s) screen.text[#screen.text + 1] = s end
  options.clock = function() return screen.time end
  return progress(options), screen
end

tap.test("one line", function(t)
  local bar, screen = bar_on{total = 1000, label = "training", terminal = true, columns = 200}
  for step = 1, 100 do
    screen.time = screen.time + 0.02
    bar:update(step, {loss = 2.5, lr = 1e-3, grad_norm = 0.5, tokens = step * 100})
  end
  t.ok(#screen.text <= 21 and #screen.text >= 15, "at most ten redraws a second", #screen.text)
  local last = screen.text[#screen.text]
  for _, part in ipairs{"training", "/1000", "loss 2.5", "lr 0.001", "|g| 0.5", "5k tok/s", "ETA 0:18", "B"} do
    t.ok(last:find(part, 1, true), "shows " .. part, last)
  end
  t.ok(last:match("^\r[^\n]*\27%[K$"), "redraws in place")
  t.near(bar:eta(), 18, 1e-6, "900 steps at 50 a second")
  bar:finish("done")
  t.equal(screen.text[#screen.text], "done\n", "a closing line")
  t.equal(screen.text[#screen.text - 1], "\r\27[K", "the bar is taken away")
end)

tap.test("the rate forgets a sleep and slow start", function(t)
  local bar, screen = bar_on{total = 1000, terminal = true, columns = 80}
  for step = 1, 200 do
    screen.time = screen.time + 0.1 + (step == 100 and 3600 or 0)
    bar:update(step)
  end
  t.near(bar:eta(), 80, 0.02, "an hour of sleep does not count")
  for step = 201, 900 do
    screen.time = screen.time + 0.2
    bar:update(step)
  end
  t.near(bar:eta(), 20, 1e-6, "the speed of the last half minute counts")
  bar:finish()
end)

tap.test("not a terminal", function(t)
  local bar, screen = bar_on{total = 100, label = "x", terminal = false, every = 10}
  for step = 1, 100 do
    screen.time = screen.time + 1
    bar:update(step)
  end
  bar:finish()
  t.equal(#screen.text, 10, "a line every ten seconds")
  t.ok(not table.concat(screen.text):find("[\r\27]"), "without control characters")
  t.ok(screen.text[5]:match("^x 50/100%s+50%% | ETA 0:50\n$"), "plain text", screen.text[5])
end)

tap.test("two levels, messages, narrow windows", function(t)
  local outer = bar_on{total = 3, label = "seed 2", terminal = true, columns = 80}
  outer:update(1)
  local bar, screen = bar_on{total = 10, label = "training", terminal = true, columns = 30}
  screen.time = 1
  bar:update(5, {loss = 1})
  local last = screen.text[#screen.text]
  t.ok(last:find("[1/3 seed 2] training 5/10", 1, true), "the outer level is a prefix", last)
  t.ok(#last <= 29 + 4, "cut to the window", #last)
  progress.message("note %d", 7)
  t.ok(table.concat(screen.text):find("\r\27%[Knote 7\n\r"), "a message takes the line away, and it comes back")
  outer:finish()
  progress.message("%s", "alone")
end)

tap.test("bad options", function(t)
  t.fails(function() progress{totl = 3} end, "did you mean 'total'")
  t.fails(function() progress{total = -1} end, "total must be at least 0")
end)

tap.done()

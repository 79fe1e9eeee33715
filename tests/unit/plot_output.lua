-- plot_output.lua - one scene, many forms: SVG, characters, sixel, base64; what show() does without a terminal.
local tap = dofile "tests/tap.lua"
local q = require "quench"
local c = require "quench.c.plot"
local sh = dofile "tests/shell.lua"
local show = require "quench.plots.show"

local function figure()
  return q.plot{title = "A & B <c>", x = "$alpha$", y = "loss", {"line", {1, 2, 3}, {3, 1, 2}, label = "a"},
    {"band", {1, 2, 3}, low = {1, 0.5, 1}, high = {2, 1.5, 3}}, {"points", {1, 2}, {2, 2}, marker = "plus"},
    {"heatmap", z = {{1, 2}, {3, 4}}, x = {1, 2}, y = {1, 2}, bar = false}}
end

--- Are all tags closed in order? Returns the names of the elements, or an error text.
local function elements(xml)
  local stack, names = {}, {}
  for closing, name, rest in xml:gmatch("<(/?)([%w]+)([^>]*)>") do
    if closing == "/" then
      if table.remove(stack) ~= name then return nil, "</" .. name .. "> closes nothing" end
    else
      names[name] = (names[name] or 0) + 1
      if rest:sub(-1) ~= "/" then stack[#stack + 1] = name end
    end
  end
  if #stack > 0 then return nil, "<" .. stack[#stack] .. "> stays open" end
  return names
end

tap.test("SVG", function(t)
  local svg = figure():svg()
  local names, wrong = elements(svg)
  t.ok(names, "well formed", wrong)
  t.equal(names.svg, 1, "one svg element")
  t.ok(names.path > 10 and names.use >= 2 and names.image == 1 and names.clipPath == 1, "paths, markers, image, clip")
  t.ok(svg:find('aria-label="A &amp; B &lt;c&gt;"', 1, true), "texts keep their words, escaped")
  t.ok(svg:find('viewBox="0 0 403.2 252"', 1, true), "in points")
  t.ok(not svg:find("nan", 1, true) and not svg:find("inf", 1, true), "no number is missing")
  t.equal(svg, figure():svg(), "the same text each time")
  local path = os.tmpname() .. ".svg"
  figure():save(path)
  t.equal(q.system.read_file(path), svg, "and saved")
  os.remove(path)
  local nan = c.scene(10, 10)
  nan:polyline({1, 0 / 0, 3}, {1, 2, 3}):stroke(0xff, 1)
  t.ok(elements(nan:svg("t")), "broken lines are fine")
  nan:clip(0, 0, 5, 5)
  t.ok(elements(nan:svg()), "a clip left open is closed")
end)

local expected = "tests/golden/images/terminal.txt"

tap.test("characters", function(t)
  local text = show.text(q.plot{title = "Loss", x = "step", y = "nats", {"line", {0, 5, 10}, {3, 1, 2}, label = "run"}}, 40, 12)
  if os.getenv("QUENCH_GOLDEN") == "write" then q.system.write_file(expected, text) end
  t.equal(text, q.system.read_file(expected), "the figure as it was")
  local lines, widest = 0, 0
  for line in text:gmatch("(.-)\n") do
    lines = lines + 1
    widest = math.max(widest, select(2, line:gsub("[^\128-\191]", "")))
  end
  t.ok(lines == 12 and widest <= 40, "12 lines of 40 characters at most", lines .. " x " .. widest)
  t.ok(not text:find("\27", 1, true), "without colours there is no escape")
  local colours = show.text(figure(), 60, 16, 2)
  t.ok(colours:find("\27[38;2;", 1, true) and colours:find("▀", 1, true), "with colours: half blocks for images")
  t.ok(show.text(figure(), 60, 16, 1):find("\27[38;5;", 1, true), "256 colours")
  t.ok(#show.text(figure(), 10, 5) > 0, "a tiny window")
  t.ok(#show.text(q.plot.grid{columns = 2, {{"line", {1, 2}}}, {{"bars", {1, 2}}}}, 60, 12) > 0, "a grid")
end)

--- Reads sixel graphics back: width, height, and rows of {r, g, b} in per cent.
local function read_sixel(data)
  local width, height, body = data:match('^\27P0;1q"1;1;(%d+);(%d+)(.*)\27\\\n$')
  local palette, pixels, colour, x, top = {}, {}, 0, 0, 0
  local at = 1
  while at <= #body do
    local n, r, g, b = body:match("^#(%d+);2;(%d+);(%d+);(%d+)", at)
    if n then
      palette[tonumber(n)] = {tonumber(r), tonumber(g), tonumber(b)}
      at = at + #body:match("^#%d+;2;%d+;%d+;%d+", at)
    elseif body:sub(at, at) == "#" then
      n = body:match("^#(%d+)", at)
      colour, at = tonumber(n), at + 1 + #n
    elseif body:sub(at, at) == "$" then x, at = 0, at + 1
    elseif body:sub(at, at) == "-" then x, top, at = 0, top + 6, at + 1
    else
      local times, char = body:match("^!(%d+)(.)", at)
      at = at + (times and #times + 2 or 1)
      char = char or body:sub(at - 1, at - 1)
      for _ = 1, tonumber(times or 1) do
        local bits = char:byte() - 63
        for k = 0, 5 do
          if math.floor(bits / 2 ^ k) % 2 == 1 then pixels[(top + k) * width + x] = palette[colour] end
        end
        x = x + 1
      end
    end
  end
  return tonumber(width), tonumber(height), pixels
end

tap.test("sixel", function(t)
  local scene = c.scene(72, 36, 0xffffffff)
  scene:rectangle(10, 5, 30, 20):fill(0xd55e00ff):circle(50, 20, 9):fill(0x0072b2ff)
  local path = os.tmpname()
  scene:save_png(path, 72)
  local w, h, rgba = c.decode(path)
  os.remove(path)
  local width, height, pixels = read_sixel(scene:sixel(72))
  t.ok(width == w and height == h, "size")
  local worst = 0
  for i = 0, w * h - 1 do
    local p = pixels[i] or {-100, -100, -100}
    for k = 1, 3 do worst = math.max(worst, math.abs(p[k] - rgba:byte(4 * i + k) / 2.55)) end
  end
  t.ok(worst < 4.5, "every pixel within the 5 bits of the palette", worst)
end)

tap.test("base64", function(t) -- RFC 4648, 10
  for plain, coded in pairs{[""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v", foob = "Zm9vYg==", foobar = "Zm9vYmFy"} do
    t.equal(c.base64(plain), coded, plain)
  end
  t.equal(c.base64("\0\255\128"), "AP+A", "any byte")
end)

tap.test("show without a terminal", function(t)
  local folder = sh.folder()
  local out, err, status = sh(([[$Q -e 'q.plot{{"line", {1, 2}}}:show{path = "%s/a.png"}' | cat]]):format(folder))
  t.equal(out, folder .. "/a.png\n", "prints the path and nothing else")
  t.ok(status == 0 and err == "", "quietly", err)
  t.ok(q.system.exists(folder .. "/a.png"), "the PNG is there")
  out = sh(([[QUENCH_GRAPHICS=kitty $Q -e 'q.plot{{"line", {1, 2}}}:show{path = "%s/b.png"}' | cat]]):format(folder))
  local chunks, longest, data = 0, 0, {}
  for head, payload in out:gmatch("\27_G([^;]*);([^\27]*)\27\\") do
    chunks, longest = chunks + 1, math.max(longest, #payload)
    data[chunks] = payload
    if chunks == 1 then t.ok(head:find("a=T,f=100", 1, true), "kitty: transmit and show a PNG") end
  end
  t.ok(chunks > 1 and longest <= 4096, "in pieces of at most 4096 characters")
  t.equal(table.concat(data):sub(1, 11), "iVBORw0KGgo", "the payload is a PNG")
  t.fails(function() q.plot{}:show{pth = "x"} end, "did you mean 'path'", nil, true)
  sh.clean()
end)

tap.test("weights", function(t)
  local w = q.tensor{{1, -2, 3}, {0, 0.5, -4}}
  t.ok(#q.plot.weights(w):png() > 1000, "a matrix")
  t.ok(#q.plot.weights(q.ones(5)):png() > 1000, "a vector of equal numbers")
  t.ok(#q.plot.weights(q.randn(3, 4, 5)):png() > 1000, "three axes")
  t.ok(#q.plot.weights(w, {quantized = w * 0.9}):png() > 1000, "with its quantized twin")
  local large = q.zeros(400, 500)
  large:narrow(1, 7, 1):narrow(2, 9, 1):fill_(-5)
  local z = q.plot.weights(large).rows[1][1].layers[1].z
  t.equal(z[3][3], -5, "a block shows its entry of largest size")
  t.fails(function() q.plot.weights(3) end, "needs a tensor", nil, true)
  t.fails(function() q.plot.weights(w, {quantized = q.zeros(2, 2)}) end, "quantized is 2 x 2", nil, true)
end)

tap.done()

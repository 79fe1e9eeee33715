--- p:show(): a figure in the terminal, as a picture where the terminal can, else in characters.
-- A terminal is asked once (kitty's graphics query and the device attributes, answered within 300 ms, or
-- QUENCH_TERMINAL_WAIT ms over a slow line). QUENCH_GRAPHICS = kitty, iterm, sixel, text or none decides instead. A PNG is always saved and its
-- path printed; when stdout is not a terminal that is all.

local c = require "quench.c.plot"
local machine = require "quench.c.machine"
local options = require "quench.options"
local system = require "quench.c.system"
local theme = require "quench.plots.theme"

local show = {}

show.options = options.spec("q.plot show", {
  {"path", "string", doc = "where the PNG goes; default: a file in the folder for temporary files"},
  {"columns", "integer", min = 10, max = 1000, doc = "width in characters; default: the terminal's, up to 100"},
  {"rows", "integer", min = 5, max = 500, doc = "height in characters; default: two thirds of the terminal's, up to 30"},
})

local known = {kitty = true, iterm = true, sixel = true, text = true, none = true}

local function environment(name) return os.getenv(name) or "" end

local typed = "" -- keys that came with the answer

--- Keys typed ahead that the question has taken from the terminal, once; the prompt gives them to its editor.
function show.take_typed()
  local keys = typed
  typed = ""
  return keys
end

--- Asks the terminal: kitty's query is answered by those that know it, the attributes by all.
local function ask()
  local query = "\27_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\27\\\27[c"
  local wait = tonumber(environment "QUENCH_TERMINAL_WAIT") or 300
  local answer = c.terminal_ask(query, "c", math.max(0, math.min(wait, 60000)))
  typed = typed .. answer:gsub("\27_G.-\27\\", ""):gsub("\27%[%?[%d;]*c", "")
  if answer:find("\27_Gi=31;OK", 1, true) then return "kitty" end
  local attributes = answer:match("\27%[%?([%d;]+)c")
  if attributes and (";" .. attributes .. ";"):find(";4;", 1, true) then return "sixel" end
  return "text"
end

local chosen

--- How figures are shown here: "kitty", "iterm", "sixel", "text" or "none".
function show.method()
  local wish = environment "QUENCH_GRAPHICS"
  if known[wish] then return wish end
  if not system.is_terminal(1) or environment "TERM" == "dumb" then return "none" end
  if chosen then return chosen end
  if environment "TERM_PROGRAM" == "iTerm.app" or environment "LC_TERMINAL" == "iTerm2" then chosen = "iterm"
  else chosen = ask() end
  return chosen
end

--- 0 none, 1 the 256 colours, 2 all.
function show.colours()
  if environment "NO_COLOR" ~= "" then return 0 end
  local depth = environment "COLORTERM"
  return (depth == "truecolor" or depth == "24bit") and 2 or 1
end

--- Does the terminal read UTF-8? Without any setting we trust it to.
function show.unicode()
  for _, name in ipairs{"LC_ALL", "LC_CTYPE", "LANG"} do
    local v = environment(name)
    if v ~= "" then return v:lower():gsub("-", ""):find("utf8", 1, true) ~= nil end
  end
  return true
end

--- The figure as lines of characters.
function show.text(figure, columns, rows, depth)
  local f = figure:again(theme.terminal, columns * theme.cell_width, rows * theme.cell_height)
  return f:scene():terminal(depth or 0)
end

--- Terminal multiplexers hand a message on when it is wrapped.
local function wrapped(message)
  if environment "TMUX" == "" then return message end
  return "\27Ptmux;" .. message:gsub("\27", "\27\27") .. "\27\\"
end

local function kitty(png)
  local data, out = c.base64(png), {}
  for at = 1, #data, 4096 do
    local more = at + 4096 <= #data and 1 or 0
    local head = at == 1 and ("a=T,f=100,m=%d"):format(more) or ("m=%d"):format(more)
    out[#out + 1] = wrapped(("\27_G%s;%s\27\\"):format(head, data:sub(at, at + 4095)))
  end
  return table.concat(out) .. "\n"
end

local function iterm(png) return wrapped(("\27]1337;File=inline=1;size=%d:%s\7"):format(#png, c.base64(png))) .. "\n" end

--- The dpi at which the figure fills `columns`, where the terminal says how wide a column is.
local function fitting_dpi(figure, columns)
  local cells, _, pixels = machine.terminal_size()
  if not cells or not pixels or pixels == 0 then return math.min(figure.o.dpi, 110) end
  return math.max(40, math.min(figure.o.dpi, 72 * columns * pixels / cells / figure.width))
end

local function default_path()
  local folder = environment "TMPDIR"
  folder = (folder ~= "" and folder or "/tmp") .. "/quench-" .. (environment "USER" ~= "" and environment "USER" or "figures")
  system.make_directories(folder)
  show.count = (show.count or 0) + 1
  return ("%s/figure-%d-%d.png"):format(folder, system.process(), show.count)
end

function show.show(figure, given)
  local o = show.options(given)
  local path = o.path or default_path()
  figure:save(path)
  local method = show.method()
  local width, height = machine.terminal_size()
  local columns = o.columns or math.min(100, (width or 80) - 1)
  local rows = o.rows or math.max(10, math.min(30, math.floor((height or 36) * 2 / 3)))
  if method == "kitty" then io.write(kitty(figure:png{dpi = fitting_dpi(figure, columns)}))
  elseif method == "iterm" then io.write(iterm(figure:png{dpi = fitting_dpi(figure, columns)}))
  elseif method == "sixel" then io.write(figure:scene():sixel(fitting_dpi(figure, columns)))
  elseif method == "text" and show.unicode() then io.write(show.text(figure, math.max(10, columns), rows, show.colours())) end
  io.write(path, "\n")
  io.flush()
  return path
end

return show

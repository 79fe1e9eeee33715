--- The history file: one entry a line, newlines inside an entry written as \n, backslashes doubled.
-- Every entry is appended at once, so several sessions and a killed one lose nothing.

local system = require "quench.c.system"

local history = {}

local KEEP = 2000 -- entries; the file is rewritten when it holds twice as many

local function escape(text) return (text:gsub("\\", "\\\\"):gsub("\n", "\\n")) end

local function unescape(line)
  return (line:gsub("\\(.)", function(c) return c == "n" and "\n" or c end))
end

--- Is the text UTF-8 without control characters? Others would confuse the editor.
local function editable(text)
  local rest = text:gsub("[%w%p \n\t]+", "")
  rest = rest:gsub("[\194-\223][\128-\191]", ""):gsub("[\224-\239][\128-\191][\128-\191]", "")
  return rest:gsub("[\240-\244][\128-\191][\128-\191][\128-\191]", "") == ""
end

--- The default file, in the state folder of the XDG base directories.
function history.path()
  local state = os.getenv("XDG_STATE_HOME")
  if not state or state == "" then state = (os.getenv("HOME") or ".") .. "/.local/state" end
  return state .. "/quench/history"
end

--- The entries of a file, oldest first, without repeats (the last one stays). A missing file has none.
function history.load(path)
  local file = io.open(path, "rb")
  if not file then return {} end
  local lines, seen, entries = {}, {}, {}
  for line in file:lines() do lines[#lines + 1] = unescape(line) end
  file:close()
  for i = #lines, 1, -1 do
    if not seen[lines[i]] and lines[i] ~= "" and editable(lines[i]) and #entries < KEEP then
      seen[lines[i]] = true
      table.insert(entries, 1, lines[i])
    end
  end
  if #lines > 2 * KEEP then
    local text = {}
    for i, entry in ipairs(entries) do text[i] = escape(entry) .. "\n" end
    pcall(system.write_file, path, table.concat(text))
  end
  return entries
end

--- Appends an entry. Returns true, or nil and the reason.
function history.append(path, entry)
  local good, message = pcall(function()
    system.make_directories(path:match("^(.*)/[^/]*$") or ".")
    system.append_file(path, escape(entry) .. "\n")
  end)
  if good then return true end
  return nil, message
end

return history

--- Faults: errors that show only inside Quench, told as the call that led there.
--
-- Functions check what is likely to be wrong. What slips through, above all a variable that is nil because it is
-- misspelled, ends in "quench/quant/inputs.lua:33: attempt to index local 'x' (a nil value)". fault.explain, called
-- by an error handler while the stack is there, makes of it
--   file.lua:3: q.quant.awq: attempt to index local 'x' (a nil value); called with w = f32 (4, 4), x = nil [quench/...]

local help = require "quench.help"

local fault = {}

--- The record of a function, or of the table that it makes callable.
local function record_of(fn)
  local found = help.find(fn)
  if found then return found end
  for _, r in ipairs(help.records()) do
    local mt = type(r.value) == "table" and getmetatable(r.value)
    if mt and mt.__call == fn then return r end
  end
end

local function brief(v)
  local mt = getmetatable(v)
  if type(mt) == "table" and mt.__name == "tensor" and not v:is_freed() then
    return ("%s (%s)"):format(v:dtype(), table.concat(v:shape(), ", "))
  end
  if type(v) == "string" then return ("%q"):format(#v > 20 and v:sub(1, 20) .. "..." or v) end
  return (type(v) == "table" or type(v) == "function" or type(v) == "userdata") and "a " .. type(v) or tostring(v)
end

local settings = {o = true, options = true, given = true} -- what these parameters hold has been checked

--- The parameters of the function at a level of the stack, with their values now.
local function parameters(level)
  local list = {}
  for i = 1, debug.getinfo(level + 1, "u").nparams do
    local name, value = debug.getlocal(level + 1, i)
    if name and not name:match("^[_(]") and not settings[name] then list[#list + 1] = name .. " = " .. brief(value) end
  end
  return table.concat(list, ", ")
end

--- What to say of an error; called in its handler. Messages that point at the user's own code stay as they are.
function fault.explain(message)
  local place, rest = message:match("^(quench/[^:\n]+:%d+): (.*)$")
  rest = rest or message:match("^attempt to call a %a+ value$") -- in C, for a function that was to be given
  if not rest then return message end
  local ours, level = nil, 2
  local info = debug.getinfo(level, "Sl")
  while info and (info.what == "C" or info.source:match("^=quench/")) do
    if info.what ~= "C" or not place then ours = level end
    level = level + 1
    info = debug.getinfo(level, "Sl")
  end
  if not info or not ours or info.currentline < 1 then return message end
  local inner = debug.getinfo(ours, "fnS")
  local r = record_of(inner.func) -- none behind a tail call: then the parameters are another function's
  local name = r and r.name or inner.name
  local text = ("%s:%d: %s%s"):format(info.short_src, info.currentline, name and name .. ": " or "", rest)
  if not (rest:match("^attempt to ") or rest:match("^bad argument ")) then return text end
  local with = r and inner.what ~= "C" and parameters(ours) or ""
  return text .. (with ~= "" and "; called with " .. with or "") .. (place and " [" .. place .. "]" or "")
end

return fault

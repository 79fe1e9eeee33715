--- settings.lua - what a quantization was told, as a text: interrupted work goes on, and measured points are used
-- again, only under the same one.

local q = require "quench"
local format = require "quench.quant.format"
local inputs_of = require "quench.quant.inputs"
local json = require "quench.json"

local M = {}

local PIECES, PIECE = 64, 4096 -- that a file is known by, and bytes each

--- A number that changes with any entry of a tensor and with their order.
local function checksum(t)
  local n = t:numel()
  return q.scope(function() return (t:detach():to("f64"):view(-1) * q.arange(1, n + 1, "f64")):sum():item() end)
end
M.checksum = checksum

local function tensor_text(t) return ("%s (%s) %.17g"):format(t:dtype(), table.concat(t:shape(), ", "), checksum(t)) end

--- Statistics of q.quant.calibrate by what they hold.
local function inputs_text(s)
  local parts = {("%d tokens"):format(s.tokens)}
  for _, key in ipairs{"sum", "total", "largest"} do
    if s[key] then parts[#parts + 1] = tensor_text(s[key]) end
  end
  return table.concat(parts, ", ")
end

--- A value as a text: keys sorted, formats by all that they are, tensors by their entries; functions say nothing.
function M.text(value)
  local kind = type(value)
  if kind == "function" then return "" end
  if format.is_format(value) then return json.encode(format.plain(value)) end
  if kind == "userdata" then return tensor_text(value) end
  if kind == "table" and getmetatable(value) == inputs_of.Inputs then return inputs_text(value) end
  if kind ~= "table" then return tostring(value) end
  local parts = {}
  for key, v in pairs(value) do
    if type(v) ~= "function" then parts[#parts + 1] = tostring(key) .. "=" .. M.text(v) end
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ", ") .. "}"
end

--- The options of q.quant.quantize but for the names in `without`.
function M.of(given, without)
  local rest = {}
  for key, value in pairs(given) do
    if not (without and without[key]) then rest[key] = value end
  end
  return M.text(rest)
end

--- A text that tells the content of a model's folder from another's: sizes, and a hash of pieces at even distances of each file.
function M.folder(dir)
  local names, parts = {}, {}
  for _, name in ipairs(q.system.list(dir) or {}) do
    if name:find("%.safetensors$") or name == "config.json" then names[#names + 1] = name end
  end
  table.sort(names)
  for i, name in ipairs(names) do
    local file = assert(io.open(dir .. "/" .. name, "rb"))
    local size, pieces = file:seek "end", {}
    for k = 0, PIECES - 1 do
      file:seek("set", math.floor(k * math.max(0, size - PIECE) / (PIECES - 1)))
      pieces[k + 1] = file:read(PIECE) or ""
    end
    file:close()
    parts[i] = ("%s %d %s"):format(name, size, q.system.sha256(table.concat(pieces)):sub(1, 16))
  end
  return table.concat(parts, ", ")
end

return M

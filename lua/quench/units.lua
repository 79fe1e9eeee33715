--- Sizes and times for people.

local units = {}

local SIZES = {{1e12, "TB"}, {1e9, "GB"}, {1e6, "MB"}, {1e3, "kB"}} -- as tensors print theirs, core/tensor/print.c

--- "24 B", "1.0 MB".
function units.bytes(n)
  for _, unit in ipairs(SIZES) do
    if n >= unit[1] then return (n < 100 * unit[1] and "%.1f %s" or "%.0f %s"):format(n / unit[1], unit[2]) end
  end
  return ("%.0f B"):format(n)
end

-- seconds in a unit, its name, and how many of it there must be: 90 s and not 1.5 minutes
local TIMES = {{365.25 * 86400, "years", 2}, {86400, "days", 2}, {3600, "hours", 2}, {60, "minutes", 2},
  {1, "s", 1}, {1e-3, "ms", 1}, {1e-6, "us", 0}}

--- "45.27 ms", "12 minutes", "76 years": with this many digits (4), or all of a whole number.
function units.seconds(s, digits)
  digits = digits or 4
  for _, unit in ipairs(TIMES) do
    local n = s / unit[1]
    if n >= unit[3] then return (n >= 10 ^ digits and "%.0f %s" or "%." .. digits .. "g %s"):format(n, unit[2]) end
  end
end

return units

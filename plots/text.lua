--- Numbers as texts of axes: one style for all ticks of an axis, a true minus sign, powers raised.

local text = {}

local units = {{1e12, "T"}, {1e9, "B"}, {1e6, "M"}, {1e3, "k"}} -- of steps, tokens and parameters

local function minus(s) return (s:gsub("-", "−")) end

--- One number, short: 0.001, 12, 2.5k, 3 x 10^-7.
function text.number(v)
  if v == 0 then return "0" end
  if v ~= v then return "NaN" end
  if v == math.huge or v == -math.huge then return v > 0 and "∞" or "−∞" end
  local size = math.abs(v)
  if size >= 1e4 and size < 1e15 then
    for _, u in ipairs(units) do
      if size >= u[1] then return minus(("%.4g"):format(v / u[1])) .. u[2] end
    end
  end
  if size >= 1e-3 and size < 1e4 then return minus(("%.4g"):format(v)) end
  local power = math.floor(math.log10(size) + 1e-9)
  local mantissa = ("%.3g"):format(v / 10 ^ power)
  if mantissa == "1" then return ("10^{%d}"):format(power) end
  return minus(mantissa) .. ("×10^{%d}"):format(power)
end

--- base^k with the exponent raised; 1 and base stay plain.
function text.power(base, k)
  if k == 0 then return "1" end
  if k == 1 then return tostring(base) end
  return ("%d^{%d}"):format(base, k)
end

local function decimals_of(step)
  for d = 0, 12 do
    local scaled = step * 10 ^ d
    if math.abs(scaled - math.floor(scaled + 0.5)) < 1e-6 * scaled then return d end
  end
  return 12
end

--- Texts of evenly spaced ticks, with the same number of decimals; a second result is a common factor ("×10^{-4}").
function text.fixed(values, step)
  local largest = 0
  for _, v in ipairs(values) do largest = math.max(largest, math.abs(v)) end
  local divisor, suffix, factor = 1, "", nil
  if largest >= 1e15 or (largest > 0 and decimals_of(step) > 3 and largest < 1) then
    local power = math.floor(math.log10(largest) + 1e-9)
    divisor, factor = 10 ^ power, ("×10^{%d}"):format(power)
  elseif largest >= 1e4 then
    for _, u in ipairs(units) do
      if largest >= u[1] and decimals_of(step / u[1]) <= 2 then
        divisor, suffix = u[1], u[2]
        break
      end
    end
  end
  local format = ("%%.%df"):format(math.min(10, decimals_of(step / divisor)))
  local out = {}
  for i, v in ipairs(values) do out[i] = v == 0 and suffix ~= "" and "0" or minus(format:format(v / divisor)) .. suffix end
  return out, factor
end

--- Texts of a few ticks of a logarithmic axis: all plain, or all with powers.
function text.few(values)
  local plain = true
  for _, v in ipairs(values) do plain = plain and v >= 1e-3 and v < 1e4 end
  local out = {}
  for i, v in ipairs(values) do
    if plain or v >= 1e4 then out[i] = text.number(v)
    else
      local power = math.floor(math.log10(v) + 1e-9)
      local mantissa = ("%.3g"):format(v / 10 ^ power)
      out[i] = (mantissa == "1" and "" or mantissa .. "×") .. ("10^{%d}"):format(power)
    end
  end
  return out
end

--- A number by a format like "%.2f", with a true minus sign.
function text.format(format, v) return minus(format:format(v)) end

--- The lines of a text, broken at "\n".
function text.lines(s)
  local out = {}
  for line in (tostring(s) .. "\n"):gmatch("(.-)\n") do out[#out + 1] = line end
  return out
end

return text

--- Colours: names, cycles that survive colour blindness and grey print, and maps that are even to the eye.
-- A colour is a number 0xRRGGBBAA, as quench.c.plot takes it. Mixing and maps work in OKLab
-- (Ottosson, 2020), where equal steps of L look equally far apart.

local options = require "quench.options"

local colour = {}

--- Red, green, blue (0..255) and alpha (0..1) to one number.
function colour.pack(r, g, b, a)
  local function byte(v) return math.max(0, math.min(255, math.floor(v + 0.5))) end
  return byte(r) * 2 ^ 24 + byte(g) * 2 ^ 16 + byte(b) * 2 ^ 8 + byte((a or 1) * 255)
end

function colour.unpack(c)
  local a = c % 256
  local rest = (c - a) / 256
  local b = rest % 256
  rest = (rest - b) / 256
  local g = rest % 256
  return (rest - g) / 256, g, b, a / 255
end

-- Okabe and Ito (2008), ordered so that neighbours differ in lightness too.
local names = {
  blue = 0x0072b2ff, orange = 0xe69f00ff, green = 0x009e73ff, red = 0xd55e00ff, purple = 0xcc79a7ff,
  sky = 0x56b4e9ff, yellow = 0xf0e442ff, black = 0x000000ff, white = 0xffffffff, grey = 0x7f7f7fff, gray = 0x7f7f7fff,
  brown = 0x8c564bff, none = 0x00000000,
}
names.vermilion, names.vermillion, names.pink = names.red, names.red, names.purple

colour.cycle = {names.blue, names.red, names.green, names.purple, names.orange, names.sky, names.brown, names.grey}

--- A colour from a name, "#rgb", "#rrggbb", "#rrggbbaa" or a number 1..8 of the cycle.
function colour.parse(v, where, cycle)
  cycle = cycle or colour.cycle
  if type(v) == "number" then
    if v >= 1 and v <= 64 and v == math.floor(v) then return cycle[(v - 1) % #cycle + 1] end
    options.fail("%s: a colour is a name, '#rrggbb' or a whole number from 1 (place in the cycle), got %g", where, v)
  end
  local hex = type(v) == "string" and v:match("^#(%x+)$")
  if hex and #hex == 3 then hex = hex:gsub(".", "%0%0") end
  if hex and #hex == 6 then hex = hex .. "ff" end
  if hex and #hex == 8 then return tonumber(hex:sub(1, 4), 16) * 65536 + tonumber(hex:sub(5), 16) end
  if names[v] then return names[v] end
  local known = {}
  for name in pairs(names) do known[#known + 1] = name end
  table.sort(known)
  options.fail("%s: no colour '%s'%s; colours: %s, or '#rrggbb'", where, tostring(v), options.suggest(tostring(v), known),
    table.concat(known, ", "))
end

function colour.alpha(c, a)
  local _, _, _, old = colour.unpack(c)
  return c - c % 256 + math.floor(a * old * 255 + 0.5)
end

-- --- OKLab ---

local function to_linear(v)
  v = v / 255
  return v <= 0.04045 and v / 12.92 or ((v + 0.055) / 1.055) ^ 2.4
end

local function to_encoded(v)
  v = math.max(0, v)
  return 255 * (v <= 0.0031308 and v * 12.92 or 1.055 * v ^ (1 / 2.4) - 0.055)
end

--- L (0..1), a, b of a colour.
function colour.to_oklab(c)
  local r, g, b = colour.unpack(c)
  r, g, b = to_linear(r), to_linear(g), to_linear(b)
  local l = (0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b) ^ (1 / 3)
  local m = (0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b) ^ (1 / 3)
  local s = (0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b) ^ (1 / 3)
  return 0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s
end

local function linear_rgb(L, a, b)
  local l = (L + 0.3963377774 * a + 0.2158037573 * b) ^ 3
  local m = (L - 0.1055613458 * a - 0.0638541728 * b) ^ 3
  local s = (L - 0.0894841775 * a - 1.2914855480 * b) ^ 3
  return 4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s
end

local function in_gamut(L, a, b)
  local r, g, bl = linear_rgb(L, a, b)
  local low, high = -1e-4, 1 + 1e-4
  return r >= low and r <= high and g >= low and g <= high and bl >= low and bl <= high
end

--- The colour of OKLab coordinates; one outside sRGB loses chroma, not lightness.
function colour.from_oklab(L, a, b, alpha)
  local low, high = 0, 1
  if not in_gamut(L, a, b) then
    for _ = 1, 20 do
      local middle = (low + high) / 2
      if in_gamut(L, a * middle, b * middle) then low = middle else high = middle end
    end
    a, b = a * low, b * low
  end
  local r, g, bl = linear_rgb(L, a, b)
  return colour.pack(to_encoded(r), to_encoded(g), to_encoded(bl), alpha)
end

--- From c to d in OKLab, t = 0..1.
function colour.mix(c, d, t)
  local L0, a0, b0 = colour.to_oklab(c)
  local L1, a1, b1 = colour.to_oklab(d)
  local _, _, _, alpha = colour.unpack(c)
  local _, _, _, other = colour.unpack(d)
  return colour.from_oklab(L0 + (L1 - L0) * t, a0 + (a1 - a0) * t, b0 + (b1 - b0) * t, alpha + (other - alpha) * t)
end

-- --- maps: functions of t = 0..1 ---

local function polar(L, chroma, degrees)
  local h = math.rad(degrees)
  return colour.from_oklab(L, chroma * math.cos(h), chroma * math.sin(h))
end

local maps = {}

--- Dark violet through blue and green to pale yellow; lightness rises evenly.
function maps.sequential(t)
  -- chroma stays inside sRGB all the way: cyan allows little, violet and yellow-green more
  local chroma = 0.095 + 0.055 * math.exp(-((t - 0.82) / 0.17) ^ 2) + 0.02 * math.exp(-((t - 0.12) / 0.13) ^ 2)
  return polar(0.26 + 0.68 * t, chroma, 305 - 205 * t)
end

--- One hue from white to dark blue.
function maps.blues(t) return polar(0.97 - 0.62 * t, 0.14 * math.sin(math.pi / 2 * math.min(1, 1.4 * t)), 245 + 15 * t) end

--- Blue, near white in the middle, red; both halves lose lightness evenly.
function maps.diverging(t)
  local d = 2 * t - 1
  local far = math.abs(d)
  return polar(0.97 - 0.55 * far, 0.16 * math.sin(0.72 * math.pi * far), d < 0 and 252 or 38)
end

--- Once around at even lightness, for angles.
function maps.cyclic(t) return polar(0.68, 0.12, 360 * t + 20) end

function maps.grey(t) return polar(0.98 - 0.78 * t, 0, 0) end

local map_names = {"sequential", "blues", "diverging", "cyclic", "grey"}
colour.map_names = map_names

--- A map by name, or a function of t as it is; "-name" turns it round.
function colour.map(name, where)
  if type(name) == "function" then return name end
  local plain = name:gsub("^%-", "")
  local map = maps[plain]
  if not map then
    options.fail("%s: no colour map '%s'%s; maps: %s", where, name, options.suggest(plain, map_names), table.concat(map_names, ", "))
  end
  if plain == name then return map end
  return function(t) return map(1 - t) end
end

--- Relative lightness 0..1 for choosing black or white text on a colour.
function colour.lightness(c) return (colour.to_oklab(c)) end

return colour

--- Lines of equal height through a grid of numbers (marching squares with linear interpolation).

local scale = require "quench.plots.scale"

local contours = {}

--- Round levels between low and high, about n.
function contours.levels(low, high, n, log)
  local out = {}
  if log then
    local step = math.max(1, math.floor((math.log10(high / low)) / n + 0.5))
    for k = math.ceil(math.log10(low)), math.floor(math.log10(high)), step do out[#out + 1] = 10 ^ k end
    if #out >= 3 then return out end
    out = {}
    for i = 1, n do out[i] = low * (high / low) ^ (i / (n + 1)) end
    return out
  end
  local step = scale.nice_step((high - low) / n)
  for k = math.ceil(low / step), math.floor(high / step) do
    if k * step > low and k * step < high then out[#out + 1] = k * step end
  end
  return out
end

--- Where the level cuts each side of a cell, by the four bits "corner above the level":
-- corners 1 left low, 2 right low, 4 right high, 8 left high; sides 1 low, 2 right, 3 high, 4 left.
local cuts = {
  [0] = {}, {4, 1}, {1, 2}, {4, 2}, {2, 3}, false, {1, 3}, {4, 3}, {3, 4}, {3, 1}, false, {3, 2}, {2, 4}, {2, 1}, {1, 4}, {},
}

--- Joins segments {from key, to key} to chains of keys.
local function chain(segments)
  local at = {} -- key -> the segments that end there
  for i, s in ipairs(segments) do
    for k = 1, 2 do
      at[s[k]] = at[s[k]] or {}
      table.insert(at[s[k]], i)
    end
  end
  local used, out = {}, {}
  local function follow(from, first)
    local keys, key, i = {from}, from, first
    while i do
      used[i] = true
      key = segments[i][1] == key and segments[i][2] or segments[i][1]
      keys[#keys + 1] = key
      i = nil
      for _, other in ipairs(at[key]) do
        if not used[other] then i = other break end
      end
    end
    return keys
  end
  for i, s in ipairs(segments) do -- open lines first: those with a loose end
    if not used[i] then
      if #at[s[1]] == 1 then out[#out + 1] = follow(s[1], i)
      elseif #at[s[2]] == 1 then out[#out + 1] = follow(s[2], i) end
    end
  end
  for i, s in ipairs(segments) do
    if not used[i] then out[#out + 1] = follow(s[1], i) end
  end
  return out
end

--- The lines of one level as lists {x =, y =} of points on the page.
function contours.lines(xs, ys, z, level, view)
  local segments, points = {}, {}
  local px, py = {}, {}
  for i, x in ipairs(xs) do px[i] = view.x(x) end
  for j, y in ipairs(ys) do py[j] = view.y(y) end
  local cols = #xs
  --- The point where the level cuts the side between two corners; its key names the side once for both its cells.
  local function cut(i, j, k, l)
    local key = ((j - 1) * cols + i) * 2 + (k > i and 0 or 1)
    if not points[key] then
      local a, b = z[j][i], z[l][k]
      local t = (level - a) / (b - a)
      points[key] = {px[i] + t * (px[k] - px[i]), py[j] + t * (py[l] - py[j])}
    end
    return key
  end
  local function side(n, i, j)
    if n == 1 then return cut(i, j, i + 1, j) end
    if n == 2 then return cut(i + 1, j, i + 1, j + 1) end
    if n == 3 then return cut(i, j + 1, i + 1, j + 1) end
    return cut(i, j, i, j + 1)
  end
  local function add(i, j, a, b) segments[#segments + 1] = {side(a, i, j), side(b, i, j)} end
  for j = 1, #ys - 1 do
    for i = 1, cols - 1 do
      local a, b, c, d = z[j][i], z[j][i + 1], z[j + 1][i + 1], z[j + 1][i]
      if a == a and b == b and c == c and d == d then
        local case = (a > level and 1 or 0) + (b > level and 2 or 0) + (c > level and 4 or 0) + (d > level and 8 or 0)
        if case == 5 or case == 10 then -- a saddle: the cell's mean decides which corners hang together
          local joined = ((a + b + c + d) / 4 > level) == (case == 5)
          if joined then add(i, j, 1, 2) add(i, j, 3, 4) else add(i, j, 4, 1) add(i, j, 2, 3) end
        elseif cuts[case][1] then add(i, j, cuts[case][1], cuts[case][2]) end
      end
    end
  end
  local out = {}
  for n, keys in ipairs(chain(segments)) do
    out[n] = {x = {}, y = {}}
    for k, key in ipairs(keys) do out[n].x[k], out[n].y[k] = points[key][1], points[key][2] end
  end
  return out
end

--- A function (x, y on the page) -> z, bilinear between grid points, NaN outside.
function contours.sampler(xs, ys, z, view)
  local px, py = {}, {}
  for i, x in ipairs(xs) do px[i] = view.x(x) end
  for j, y in ipairs(ys) do py[j] = view.y(y) end
  --- Index of the interval that holds v, and how far into it; looks near the last answer first.
  local function finder(list)
    local up, last = list[#list] > list[1], 1
    return function(v)
      local function holds(i)
        local a, b = list[i], list[i + 1]
        if not up then a, b = b, a end
        return v >= a and v <= b
      end
      if not holds(last) then
        local found
        for i = 1, #list - 1 do
          if holds(i) then found = i break end
        end
        if not found then return nil end
        last = found
      end
      return last, (v - list[last]) / (list[last + 1] - list[last])
    end
  end
  local find_x, find_y = finder(px), finder(py)
  return function(x, y)
    local i, s = find_x(x)
    local j, t = find_y(y)
    if not i or not j then return 0 / 0 end
    local a = z[j][i] + s * (z[j][i + 1] - z[j][i])
    local b = z[j + 1][i] + s * (z[j + 1][i + 1] - z[j + 1][i])
    return a + t * (b - a)
  end
end

return contours

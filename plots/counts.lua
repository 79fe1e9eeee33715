--- How often: bins and kernel densities.

local data = require "quench.plots.data"

local counts = {}

--- 1, 2, ... n.
function counts.upto(n)
  local out = {}
  for i = 1, n do out[i] = i end
  return out
end

--- Number of bins by Freedman and Diaconis (1981): width 2 IQR / n^(1/3); 5 to 80 of them.
function counts.bin_number(sorted)
  local n = #sorted
  local spread = data.quantile(sorted, 0.75) - data.quantile(sorted, 0.25)
  local range = sorted[n] - sorted[1]
  if spread <= 0 or range <= 0 then return math.max(5, math.min(30, math.ceil(math.sqrt(n)))) end
  return math.max(5, math.min(80, math.ceil(range / (2 * spread / n ^ (1 / 3)))))
end

--- Edges of bins: n equal ones (in the scale's own measure) from low to high.
function counts.edges(low, high, n, scale)
  local a, b = scale.forward(low), scale.forward(high)
  if a == b then a, b = a - 0.5, b + 0.5 end
  local out = {}
  for i = 0, n do out[i + 1] = scale.inverse(a + (b - a) * i / n) end
  return out
end

--- How many values fall into each bin; the last bin holds its upper edge.
function counts.fill(values, edges)
  local out, n = {}, #edges - 1
  for i = 1, n do out[i] = 0 end
  local inside = 0
  for _, v in ipairs(values) do
    if v >= edges[1] and v <= edges[n + 1] then
      local low, high = 1, n -- the last bin whose lower edge is not above v
      while low < high do
        local middle = math.ceil((low + high) / 2)
        if edges[middle] <= v then low = middle else high = middle - 1 end
      end
      out[low] = out[low] + 1
      inside = inside + 1
    end
  end
  return out, inside
end

--- Silverman's rule: 0.9 min(s, IQR / 1.34) n^(-1/5) (Silverman, 1986, eq. 3.31).
function counts.bandwidth(sorted)
  local _, deviation, n = data.moments(sorted)
  local spread = (data.quantile(sorted, 0.75) - data.quantile(sorted, 0.25)) / 1.34
  if spread <= 0 then spread = deviation end
  local width = 0.9 * math.min(deviation, spread) * n ^ -0.2
  return width > 0 and width or math.max(math.abs(sorted[1]) * 1e-3, 1e-9)
end

--- Gaussian kernel density at `points` places, from `reach` bandwidths below the smallest value to as many above the largest.
-- Values are first counted in 1024 cells, so that the cost does not grow with their number.
function counts.density(sorted, bandwidth, points, reach)
  local h = bandwidth or counts.bandwidth(sorted)
  local n = #sorted
  local low, high = sorted[1] - reach * h, sorted[n] + reach * h
  if high <= low then low, high = low - 3 * h, high + 3 * h end
  local cells, cell = {}, (high - low) / 1024
  for _, v in ipairs(sorted) do
    local i = math.max(0, math.min(1023, math.floor((v - low) / cell)))
    cells[i] = cells[i] or {0, 0}
    cells[i][1], cells[i][2] = cells[i][1] + 1, cells[i][2] + v
  end
  local xs, ys = {}, {}
  for k = 1, points do
    local x = low + (high - low) * (k - 1) / (points - 1)
    local sum = 0
    local first = math.max(0, math.floor((x - 5 * h - low) / cell))
    for i = first, math.min(1023, math.ceil((x + 5 * h - low) / cell)) do
      local c = cells[i]
      if c then
        local z = (x - c[2] / c[1]) / h -- the cell's own mean
        sum = sum + c[1] * math.exp(-0.5 * z * z)
      end
    end
    xs[k], ys[k] = x, sum / (n * h * math.sqrt(2 * math.pi))
  end
  return xs, ys
end

return counts
